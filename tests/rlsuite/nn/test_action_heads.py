"""Distributions over actions against torch.distributions, and their draws counted."""

import math

import pytest
import torch
from gymnasium import spaces
from torch import distributions

from rlsuite.action_space import ActionLimits, choice_counts
from rlsuite.nn.action_heads import Bernoulli, Categorical, Gaussian, choice_law, num_outputs

SPACES = {
    "one": spaces.Discrete(4, start=7),
    "several": spaces.MultiDiscrete([2, 5, 3]),
    "several alike": spaces.MultiDiscrete([[3, 3], [3, 3]]),
    "switches": spaces.MultiBinary(3),
    "switches of a shape": spaces.MultiBinary([2, 2]),
}
COUNTS = {"one": (4,), "several": (2, 5, 3), "several alike": (3,) * 4, "switches": (2,) * 3}
COUNTS["switches of a shape"] = (2,) * 4


def reference(name, logits):
    """Return torch's own distribution of each entry."""
    counts = COUNTS[name]
    if name.startswith("switches"):
        return [distributions.Bernoulli(logits=logits[:, place]) for place in range(len(counts))]
    return [distributions.Categorical(logits=part) for part in logits.split(counts, dim=-1)]


@pytest.mark.parametrize("name", SPACES)
def test_log_prob_entropy_and_mode_are_torchs(name):
    space, counts = SPACES[name], COUNTS[name]
    assert choice_counts(space) == counts
    logits = torch.randn(6, num_outputs(space), generator=torch.Generator().manual_seed(0), requires_grad=True)
    law, theirs = choice_law(space, logits), reference(name, logits)
    action = law.sample(torch.Generator().manual_seed(1))
    assert action.shape == (6, len(counts))
    assert action.dtype == torch.int64
    expected = sum(one.log_prob(action[:, place].float()) for place, one in enumerate(theirs))
    torch.testing.assert_close(law.log_prob(action), expected)
    torch.testing.assert_close(law.entropy(), sum(one.entropy() for one in theirs))
    likeliest = torch.stack([one.probs.argmax(-1) if one.probs.dim() > 1 else one.probs > 0.5 for one in theirs], -1)
    assert torch.equal(law.mode(), likeliest.long())
    (gradient,) = torch.autograd.grad(law.entropy().sum() + law.log_prob(action).sum(), logits)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("name", SPACES)
def test_draws_come_as_often_as_they_should_and_from_the_generator_alone(name):
    space = SPACES[name]
    logits = torch.randn(1, num_outputs(space), generator=torch.Generator().manual_seed(2)).expand(20_000, -1)
    law = choice_law(space, logits)
    draws = law.sample(torch.Generator().manual_seed(3))
    torch.manual_seed(9)
    assert torch.equal(draws, law.sample(torch.Generator().manual_seed(3)))
    for place, one in enumerate(reference(name, logits[:1])):
        share = torch.bincount(draws[:, place], minlength=COUNTS[name][place]) / 20_000
        wanted = one.probs[0] if one.probs.dim() > 1 else torch.stack([1.0 - one.probs[0], one.probs[0]])
        torch.testing.assert_close(share, wanted, rtol=0, atol=0.015)


def test_a_padded_choice_is_never_drawn():
    law = choice_law(spaces.MultiDiscrete([1, 3]), torch.zeros(5_000, 4))
    draws = law.sample(torch.Generator().manual_seed(0))
    assert draws.amax(dim=0).tolist() == [0, 2]
    assert law.entropy()[0].item() == pytest.approx(math.log(3.0))


def test_gaussian_is_torchs():
    mean, log_std = torch.randn(4, 2), torch.tensor([0.3, -0.5])
    law, theirs = Gaussian(mean, log_std), distributions.Normal(mean, log_std.exp())
    action = law.sample(torch.Generator().manual_seed(0))
    torch.testing.assert_close(law.log_prob(action), theirs.log_prob(action).sum(-1))
    torch.testing.assert_close(law.entropy().expand(4), theirs.entropy().sum(-1))
    assert law.mode() is mean


def test_laws_by_hand():
    half = Categorical(torch.zeros(1, 1, 2))
    assert half.log_prob(torch.tensor([[1]])).item() == pytest.approx(-math.log(2.0))
    switch = Bernoulli(torch.tensor([[math.log(3.0)]]))  # 1 with probability 3/4
    assert switch.log_prob(torch.tensor([[0]])).item() == pytest.approx(math.log(0.25))


@pytest.mark.parametrize("name", SPACES)
def test_uniform_draws_reach_every_choice_alike(name):
    limits = ActionLimits(SPACES[name])
    draws = limits.uniform(9_000, torch.Generator().manual_seed(0))
    assert draws.dtype == limits.example(2).dtype == torch.int64
    for place, count in enumerate(COUNTS[name]):
        share = torch.bincount(draws[:, place], minlength=count) / 9_000
        torch.testing.assert_close(share, torch.full((count,), 1.0 / count), rtol=0, atol=0.02)
    assert torch.equal(limits.clip(draws + 100), limits.high.expand_as(draws))
