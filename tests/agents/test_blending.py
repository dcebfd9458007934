"""Policy blending: whose action counts, the loss by hand, who leads when, learning a teacher, and refusals."""

import copy
import dataclasses

import gymnasium
import pytest
import torch
from toy_environments import PointEnv

from agents.blending import BlendConfig, blend, blending_loss, check_teachers, taught_actions
from agents.ppo import PPO
from agents.ppo_config import PPOConfig
from rlsuite.errors import UserError
from rlsuite.symmetry import Mirror
from rlsuite.vector_env import EnvironmentFacts

SMALL = BlendConfig(rounds=4, round_length=20, num_envs=6, passes=3, minibatch_size=64)


class Constant(torch.nn.Module):
    """A teacher that always does the same."""

    def __init__(self, facts, value):
        super().__init__()
        self.facts, self.value = facts, value

    def act(self, observation, explore):
        assert not explore
        return torch.full((len(observation), 1), self.value)


def student_of(seed=0, **keys):
    facts = EnvironmentFacts.of(PointEnv(2))
    return PPO(facts, PPOConfig(hidden_sizes=(16, 16), **keys), seed=seed)


def test_environments_follow_their_teachers():
    facts = student_of().facts
    teachers = [Constant(facts, 0.1), Constant(facts, 0.2), Constant(facts, 0.3)]
    found = taught_actions(teachers, torch.zeros(5, 2))
    torch.testing.assert_close(found[:, 0], torch.tensor([0.1, 0.2, 0.3, 0.1, 0.2]))


def test_losses_by_hand():
    student = student_of()
    with torch.no_grad():
        for weight in student.actor.parameters():
            weight.zero_()
    # Half ranges of [-1, 2] about 0.5: labels 2 and 0.5 are 1 and 0, and the student's outputs are 0.
    loss = blending_loss(student, torch.zeros(2, 2), torch.tensor([[2.0], [0.5]]))
    assert loss.item() == pytest.approx(0.5)
    facts = EnvironmentFacts(
        observation_space=gymnasium.spaces.Box(-1.0, 1.0, (2,)), action_space=gymnasium.spaces.MultiBinary(3)
    )
    switches = PPO(facts, PPOConfig(hidden_sizes=(4,)), seed=0)
    with torch.no_grad():
        for weight in switches.actor.parameters():
            weight.zero_()
    label = torch.tensor([[1, 0, 1]], dtype=torch.int8)
    assert blending_loss(switches, torch.zeros(1, 2), label).item() == pytest.approx(3.0 * 0.693147, rel=1e-5)


def test_teachers_lead_at_first_and_the_student_at_last():
    class Watched(PointEnv):
        def step(self, actions):
            acted.append(actions.clone())
            return super().step(actions)

    acted, student = [], student_of()
    blend(student, [Constant(student.facts, 1.25)], Watched(6), SMALL)
    rounds = torch.stack(acted).view(4, 20, 6)
    led_by_teacher = (rounds == 1.25).all(1)
    assert led_by_teacher[0].all()
    assert not led_by_teacher[3].any()
    assert SMALL.share(0) == 0.0
    assert SMALL.share(3) == 1.0


def test_a_larger_student_learns_what_a_smaller_teacher_does_the_same_each_time():
    teacher = student_of(seed=3, last_layer_gain=1.0)
    teacher.normalizer.update(
        torch.randn(500, 2, generator=torch.Generator().manual_seed(0)) + torch.tensor([0, 100.0])
    )
    before = copy.deepcopy(teacher.state_dict())
    config = BlendConfig(rounds=6, round_length=20, num_envs=16, passes=10, minibatch_size=64)
    found = []
    for _ in range(2):
        student = student_of(seed=1, normalize_observations=True)
        found.append((blend(student, [teacher], PointEnv(16), config), student.state_dict()))
    (differences, state), (again, same) = found
    assert differences == again
    assert all(torch.equal(state[name], same[name]) for name in state)
    assert differences[-1] < 0.25 * differences[0]
    assert all(torch.equal(before[name], tensor) for name, tensor in teacher.state_dict().items())


def test_left_and_right_are_standardized_and_taught_alike():
    facts = dataclasses.replace(EnvironmentFacts.of(PointEnv(2)), mirror=lambda: Mirror((1, 0), (0,)))
    student = PPO(facts, PPOConfig(hidden_sizes=(16, 16), mirrored=True, normalize_observations=True), seed=0)
    assert student.images is not None
    rows, actions = student.images.of_rows(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0]]))
    assert (rows.tolist(), actions.tolist()) == ([[1.0, 2.0], [2.0, 1.0]], [[3.0], [3.0]])
    blend(student, [student_of(seed=3, last_layer_gain=1.0)], PointEnv(6), SMALL)
    for statistic in (student.normalizer.mean, student.normalizer.variance):
        torch.testing.assert_close(statistic[..., 0], statistic[..., 1])


def test_refusals():
    student = student_of()
    other = EnvironmentFacts.of_vectors(3, [-1.0], [1.0])
    with pytest.raises(UserError, match="a teacher's observation_space is"):
        check_teachers([Constant(other, 0.0)], student)
    with pytest.raises(UserError, match="use teachers whose agent is ppo or trpo"):
        check_teachers([student], Constant(student.facts, 0.0))
    with pytest.raises(UserError, match="run= is missing"):
        check_teachers([], student)
    with pytest.raises(UserError, match="use 2 or more"):
        BlendConfig(rounds=1)
