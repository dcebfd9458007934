"""The conservative policy step by hand: targets, scales, objectives."""

import pytest
import torch

from agents.pombu.policies import Policies
from agents.pombu.policy_step import improvement, objective, scaled_advantage_and_sigma, targets

BOUNDS = {"largest_advantage": 5.0, "largest_uncertainty": 1e3}


def column(*values):
    return torch.tensor(values).view(-1, 1, 1)


def test_targets_by_hand():
    """gamma 0.5, lambda 1, two steps: U discounts with 0.25, V with 0.5, and nothing follows the last step."""
    found = targets(
        column(1.0, 3.0),
        column(0.4, 0.8),
        column(2.0, 4.0),
        column(0.1, 0.2),
        discount=0.5,
        trace_decay=1.0,
    )
    # V: the returns are 1 + 0.5 * 3 = 2.5 and 3; U: 0.4 + 0.25 * 0.8 = 0.6 and 0.8.
    assert found.value.flatten().tolist() == pytest.approx([2.5, 3.0])
    assert found.advantage.flatten().tolist() == pytest.approx([0.5, -1.0])
    assert found.uncertainty.flatten().tolist() == pytest.approx([0.6, 0.8])


def test_lambda_bootstraps_from_the_networks():
    """lambda 0: one step and the network's value of what follows; U with gamma squared."""
    found = targets(
        column(1.0, 3.0),
        column(0.4, 0.8),
        column(2.0, 4.0),
        column(0.1, 0.2),
        discount=0.5,
        trace_decay=0.0,
    )
    assert found.value.flatten().tolist() == pytest.approx([1.0 + 0.5 * 4.0, 3.0])
    assert found.uncertainty.flatten().tolist() == pytest.approx([0.4 + 0.25 * 0.2, 0.8])


def test_scales_of_sigma():
    advantage = torch.tensor([[[4.0, 0.0]], [[0.0, -100.0]]])  # (H, P, B); -100 counts as -5
    uncertainty = torch.full((2, 1, 2), 4.0)
    scaled, sigma = scaled_advantage_and_sigma(advantage, uncertainty, **BOUNDS, u_scale="official")
    clipped = torch.tensor([4.0, 0.0, 0.0, -5.0])
    deviation = clipped.std(correction=0)
    torch.testing.assert_close(scaled.flatten(), (clipped - clipped.mean()) / deviation)
    assert sigma.flatten().tolist() == [2.0] * 4
    _, sigma = scaled_advantage_and_sigma(advantage, uncertainty, **BOUNDS, u_scale="advantage")
    torch.testing.assert_close(sigma.flatten(), torch.full((4,), 2.0 / float(deviation)))


def test_u_is_clipped_after_it_is_scaled():
    advantage, uncertainty = torch.tensor([[[1.0, -1.0]]]) * 0.1, torch.tensor([[[0.04, 0.0]]])
    keys = {"largest_advantage": 5.0, "largest_uncertainty": 3.0}
    _, sigma = scaled_advantage_and_sigma(advantage, uncertainty, u_scale="advantage", **keys)
    assert sigma.flatten().tolist() == pytest.approx([3.0**0.5, 1e-4])  # 0.04 / 0.1^2 = 4, clipped to 3
    _, sigma = scaled_advantage_and_sigma(advantage, uncertainty, u_scale="official", **keys)
    assert sigma.flatten().tolist() == pytest.approx([0.2, 1e-4])


def test_each_policys_advantages_are_standardized_alone():
    advantage = torch.randn(5, 2, 7)
    advantage[:, 1] = advantage[:, 1] * 0.01 + 3.0
    scaled, _ = scaled_advantage_and_sigma(advantage, torch.ones(5, 2, 7), **BOUNDS, u_scale="official")
    assert scaled.mean(dim=(0, 2)).abs().max() < 1e-3
    assert (scaled.std(dim=(0, 2), correction=0) - 1.0).abs().max() < 1e-3


def test_objectives_by_hand():
    change = torch.tensor([[0.3, -0.1, 0.2]])
    advantage = torch.tensor([[1.0, 1.0, -1.0]])
    sigma = torch.tensor([[0.5, 1.0, 2.0]])
    # min(D A, clip(D) A) with eps 0.15: 0.15, -0.1, -0.2; E|D| sigma = (0.15 + 0.1 + 0.4) / 3.
    gain, deviation = -0.15 / 3, 0.65 / 3
    assert improvement(change, advantage, 0.15).item() == pytest.approx(gain)
    find = lambda **keys: [found.item() for found in objective(change, advantage, sigma, clip=0.15, **keys)]  # noqa: E731
    ratio = gain / (deviation + 1e-5)
    assert find(alpha=0.5, kind="penalty") == pytest.approx([gain - 0.5 * deviation, 0.5])
    assert find(alpha=0.5, kind="ratio") == pytest.approx([ratio, ratio])
    found = find(alpha=0.5, kind="ratio_as_alpha", alpha_range=(0.2, 0.9))
    assert found == pytest.approx([gain - 0.2 * deviation, 0.2])


def test_the_ratio_has_the_slope_of_the_penalty_with_the_alpha_it_names():
    generator = torch.Generator().manual_seed(3)
    advantage, sigma = torch.randn(1, 20, generator=generator), torch.rand(1, 20, generator=generator)
    change = (0.1 * torch.randn(1, 20, generator=generator)).requires_grad_()
    ratio, alpha = objective(change, advantage, sigma, clip=0.15, alpha=0.0, kind="ratio")
    penalized, _ = objective(change, advantage, sigma, clip=0.15, alpha=float(alpha), kind="penalty")
    slopes = [torch.autograd.grad(gain, change, retain_graph=True)[0] for gain in (ratio, penalized)]
    torch.testing.assert_close(*(slope / slope.norm() for slope in slopes), rtol=1e-3, atol=1e-4)


def test_the_surrogate_is_ppos_up_to_a_constant():
    from agents.ppo import surrogate

    change, advantage = torch.rand(1, 50) - 0.5, torch.randn(1, 50)
    ours = improvement(change, advantage, 0.2)
    ppo = surrogate(1.0 + change, advantage, 0.2).mean() - advantage.mean()
    torch.testing.assert_close(ours[0], ppo)


def test_uncertain_transitions_are_left_alone():
    """Ascending from D = 0: where |A| < alpha sigma the penalty wins, elsewhere the gain does."""
    advantage, sigma = torch.tensor([[1.0, -1.0, 0.3]]), torch.tensor([[1.0, 1.0, 1.0]])
    for sign in (1.0, -1.0):
        change = torch.full((1, 3), sign * 1e-4, requires_grad=True)
        gain, _ = objective(change, advantage, sigma, clip=0.15, alpha=0.5, kind="penalty")
        (slope,) = torch.autograd.grad(gain, change)
        outward = (slope * sign)[0] > 0  # whether moving on in this direction gains
        assert outward.tolist() == [sign > 0, sign < 0, False]


def test_stacked_policies_are_policies(generator):
    policies = Policies(3, 4, 2, (8, 8), generator)
    with torch.no_grad():
        policies.log_std.normal_(generator=generator)
    observation, action = torch.randn(3, 6, 4, generator=generator), torch.randn(3, 6, 2, generator=generator)
    law = torch.distributions.Normal(policies(observation), policies.log_std.exp())
    torch.testing.assert_close(policies.log_prob(observation, action), law.log_prob(action).sum(-1))
    assert policies(observation).abs().max() < 0.05  # first actions hardly depend on the observation
    single = Policies(1, 4, 2, (8, 8), generator)
    policies.copy_of(single)
    shown = observation[:1].expand(3, -1, -1)
    torch.testing.assert_close(policies(shown), single(observation[:1]).expand(3, -1, -1))
