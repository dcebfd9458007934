"""Policies attacked where they act: units, objectives, resuming, and flags by hand."""

import functools

import pytest
import torch
from pixel_environment import PixelEnv
from torch import nn

import envs
from envs.evaluation.attacks.flags import is_random, masking_flags
from envs.evaluation.attacks.gradient import FGSM, PGD
from envs.evaluation.attacks.noise import Noise
from envs.evaluation.attacks.observation import (
    AttackedObservation,
    action_change,
    feature_units,
    lost_value,
    on_pictures,
    on_states,
)
from envs.evaluation.policy_task import PolicyTask
from rlsuite.nn.normalizer import RunningNormalizer
from rlsuite.nn.plain import PlainPolicyConfig, build_plain_policy
from rlsuite.scoring import evaluate


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Balance(nn.Module):
    """A hand-made policy of InvertedPendulum that keeps the pole up."""

    def forward(self, observation):
        gains = torch.tensor([[1.0, 20.0, 2.0, 4.0]]).to(observation)
        return (observation * gains).sum(1, keepdim=True).clamp(-3.0, 3.0)


class Smooth(Balance):
    """The same with slopes everywhere."""

    def forward(self, observation):
        gains = torch.tensor([[1.0, 20.0, 2.0, 4.0]]).to(observation)
        return 3.0 * torch.tanh((observation * gains).sum(1, keepdim=True) / 3.0)


make_env = functools.partial(envs.make_vector, "InvertedPendulum", num_threads=1, max_episode_steps=60)


@pytest.fixture(scope="module")
def task():
    return PolicyTask(make_env, Smooth(), episodes=4, states=400, num_envs=4)


def attacked(task, attack, eps, seed=0):
    policy = Smooth()
    unit = feature_units(policy, task.source("test").tensors["input"])
    perturb = on_states(attack, action_change(policy, task.half_range), eps, unit)
    return task.score(policy, seed, seen=lambda env: AttackedObservation(env, perturb))


@pytest.mark.parametrize("attack", [Noise(), FGSM(), PGD()], ids=lambda attack: type(attack).__name__)
def test_eps_zero_is_no_attack_bit_for_bit(task, attack):
    assert (attacked(task, attack, 0.0) == task.score(Smooth(), 0)).all()


def test_the_same_seed_attacks_alike_and_gradients_do_more(task):
    clean = task.score(Smooth(), 0)
    assert clean.mean() == 60.0
    noise, again, pgd = (attacked(task, attack, 3.0) for attack in (Noise(), Noise(), PGD()))
    assert (noise == again).all()
    assert pgd.mean() < noise.mean()
    assert pgd.mean() < 30.0


def test_on_a_linear_policy_the_change_is_known():
    """The action moves by eps * |gains * units| at most; both signs are as good, and FGSM finds one of them."""
    policy, unit = nn.Linear(3, 1), torch.tensor([1.0, 10.0, 0.0])
    observation = torch.randn(5, 3, generator=seeded())
    for attack in (FGSM(), PGD()):
        changed = on_states(attack, action_change(policy, torch.tensor([2.0])), 0.1, unit)(observation, seeded())
        moved = (policy(changed) - policy(observation)).abs()
        assert torch.allclose(moved, torch.full((5, 1), (policy.weight.abs() * unit * 0.1).sum().item()), atol=1e-4)
        assert torch.equal(changed[:, 2], observation[:, 2])
    objective = action_change(policy, torch.tensor([2.0]))(observation)
    assert torch.allclose(objective(changed), (moved[:, 0] / 2.0).square(), atol=1e-5)


def test_lost_value_goes_where_the_critic_thinks_less():
    """Q(x, a) = a * x_0 with the true x: the attack must lower the action where x_0 > 0, and raise it elsewhere."""
    policy = nn.Linear(2, 1)
    observation = torch.tensor([[1.0, 0.5], [-2.0, 0.3]])
    at = lost_value(policy, lambda x, action: action[:, 0] * x[:, 0])
    changed = on_states(FGSM(), at, 0.1, torch.ones(2))(observation, seeded())
    change = (policy(changed) - policy(observation))[:, 0]
    assert torch.equal(change.sign(), torch.tensor([-1.0, 1.0]))
    assert torch.allclose(change.abs(), 0.1 * policy.weight.abs().sum().expand(2), atol=1e-5)


def test_units_are_the_normalizers_or_the_states_own():
    rows = torch.randn(500, 3, generator=seeded()) * torch.tensor([1.0, 5.0, 0.01])
    assert torch.allclose(feature_units(nn.Linear(3, 1), rows), rows.std(0))
    policy = build_plain_policy(
        PlainPolicyConfig(observation_size=3, action_size=1, hidden_sizes=(4,), normalizer=RunningNormalizer(3).config)
    )
    policy.normalizer.update(10.0 * rows)
    assert torch.allclose(feature_units(policy, rows)[:2], 10.0 * rows.std(0)[:2], rtol=1e-2)


def test_pictures_stay_bytes():
    policy = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
    at = action_change(policy, torch.ones(1))
    env = AttackedObservation(PixelEnv(2), on_pictures(FGSM(), at, 0.1))
    seen, _ = env.reset(seed=0)
    assert seen.dtype == torch.uint8
    assert float((seen.float() - 128).abs().max()) in (25.0, 26.0)
    still = AttackedObservation(PixelEnv(2), on_pictures(FGSM(), at, 0.0))
    assert torch.equal(still.reset(seed=0)[0], PixelEnv(2).observation())


def test_an_attack_resumes_bit_for_bit(task):
    perturb = on_states(PGD(), action_change(Smooth(), task.half_range), 0.5, torch.ones(4))
    env, other = (AttackedObservation(make_env(2), perturb) for _ in range(2))
    seen, _ = env.reset(seed=1)
    for _ in range(3):
        seen, *_ = env.step(Balance()(seen))
    other.reset(seed=2)
    other.load_state(env.state())
    assert torch.equal(other.observation(), seen)
    for _ in range(5):
        one, two = env.step(Balance()(seen)), other.step(Balance()(seen))
        assert torch.equal(one[0], two[0])
        assert torch.equal(one[4]["final_obs"], two[4]["final_obs"])
        seen = one[0]
    env.close()
    other.close()


def test_attacks_take_gradients_inside_an_evaluation(task):
    """evaluate() runs without gradients; attacks take theirs all the same."""
    env = AttackedObservation(
        make_env(2), on_states(FGSM(), action_change(Smooth(), task.half_range), 1.0, torch.ones(4))
    )
    with torch.no_grad():
        result = evaluate(Smooth(), env, seed=0)
    assert result.mean < 60.0
    env.close()


EPS = (0.1, 0.2)
SOUND = {"noise": (0.0, 0.1), "pgd": (0.3, 0.9)}


def raised(success=None, **others):
    flags = masking_flags(EPS, {**SOUND, **(success or {})}, black_box=["noise"], white_box=["pgd"], **others)
    return [flag.name for flag in flags if flag.raised]


def test_flags_by_hand():
    assert raised(more_steps=(0.9, 0.91), unbounded=1.0, random=True, averaged_draws=8) == []
    assert raised({"noise": (0.0, 0.95)}) == ["black-box attacks never do more than white-box ones"]
    assert raised({"noise": (0.0, 0.91)}) == []  # within chance
    assert raised({"pgd": (0.3, 0.2)}) == ["a larger eps does no less"]
    assert raised(more_steps=(0.9, 0.8)) == ["more steps do no less"]
    assert raised(unbounded=0.9) == ["without bounds it always succeeds"]
    assert raised(random=True) == ["a random network is attacked by the average over its draws"]
    assert raised(random=True, averaged_draws=1) == ["a random network is attacked by the average over its draws"]
    said = masking_flags(EPS, SOUND | {"noise": (0.5, 0.1)}, black_box=["noise"], white_box=["pgd"])[0].says
    assert said == "at eps 0.1: without gradients 0.500, with them 0.300"


def test_random_networks_are_noticed():
    inputs = torch.ones(4, 3)
    assert not is_random(nn.Linear(3, 2), inputs)
    assert is_random(nn.Dropout(0.5).train(), inputs)


class Masked(nn.Module):
    """A defence that only hides its gradient: inputs are rounded to tenths before a linear classifier."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 2)

    def forward(self, x):
        return self.linear((x * 10).round() / 10)


def test_a_masked_gradient_raises_a_flag():
    module, x = Masked(), torch.rand(200, 4, generator=seeded())
    label = module(x).argmax(1)
    objective = lambda x: nn.functional.cross_entropy(module(x), label, reduction="none")  # noqa: E731

    def broken(attack, eps):
        changed = attack.perturb(objective, x, (0.0, 1.0), eps, seeded())
        return float((module(changed).argmax(1) != label).double().mean())

    eps = (0.2, 0.5)
    success = {"noise": [broken(Noise(), size) for size in eps], "fgsm": [broken(FGSM(), size) for size in eps]}
    flags = masking_flags(eps, success, black_box=["noise"], white_box=["fgsm"], unbounded=broken(PGD(), 1.0))
    assert "without bounds it always succeeds" in [flag.name for flag in flags if flag.raised]
