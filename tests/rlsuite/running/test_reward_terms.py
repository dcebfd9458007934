"""Terms of the reward that infos tell: means over steps, resumed as they were, and nothing that is not told."""

import math

import pytest
import torch

import envs
from rlsuite.running.rollout import RolloutWorker


class Still:
    """Acts 0, and takes note of nothing."""

    def act(self, observation, explore):
        return torch.zeros(len(observation), self.size)

    def observe(self, transition):
        pass


def made(task, num_envs=2):
    env = envs.make_vector(task, num_envs)
    agent = Still()
    agent.size = env.single_action_space.shape[0]
    return RolloutWorker(env, agent, seed=0)  # type: ignore[arg-type]


def test_they_add_up_to_the_reward():
    worker = made("Hopper")
    rewards = [worker.step(random=True).reward.mean().item() for _ in range(7)]
    found = worker.drain()
    assert {"reward_forward", "reward_ctrl", "reward_survive"} <= found.keys()
    terms = sum(value for name, value in found.items() if name.startswith("reward_"))
    assert terms == pytest.approx(sum(rewards) / 7, abs=1e-5)
    assert not [name for name in worker.drain() if name.startswith("reward_")]  # nothing since


def test_a_resumed_run_goes_on_with_them():
    whole, first = made("Hopper"), made("Hopper")
    for worker in (whole, first):
        for _ in range(5):
            worker.step(random=True)
    second = made("Hopper")
    second.env.load_state(first.env.state())
    second.load_state({name: tensor.clone() for name, tensor in first.state().items()})
    for worker in (whole, second):
        for _ in range(3):
            worker.step(random=True)
    assert whole.drain() == second.drain()
    older = {name: tensor for name, tensor in first.state().items() if name != "term_sums"}
    second.load_state(older)  # a checkpoint of before they were counted
    second.step()
    assert second.drain()["reward_survive"] > 0


def test_what_infos_leave_out_or_do_not_know_is_no_number_that_spoils_the_mean():
    worker = made("Hopper")
    worker._count_terms({"reward_a": torch.tensor([1.0, math.nan]), "failed": torch.zeros(2), "reward_text": "x"})
    worker._count_terms({})
    worker._count_terms({"reward_a": torch.tensor([3.0, math.inf])})
    assert worker._drain_terms() == {"reward_a": 1.0}


@pytest.mark.parametrize("num_envs", [1, 7, 8, 100])
def test_adding_many_steps_at_once_gives_the_bits_of_adding_each(num_envs):
    worker, generator = made("Hopper", num_envs), torch.Generator().manual_seed(num_envs)
    sums = torch.zeros(2, dtype=torch.float64)
    for step in range(150):
        terms = torch.randn(2, num_envs, generator=generator)
        worker._count_terms({"reward_a": terms[0], "reward_b": terms[1]})
        sums += terms.mean(dim=1)
        terms.zero_()  # an environment may use its memory again
        if step in (3, 99, 149):  # a checkpoint; the last one after some that were added together
            assert worker.state()["term_sums"].tolist() == [step + 1, *sums.tolist()]
