"""The bound on the variance of returns: by hand, in tables, and along imagined roll-outs of a point."""

import pytest
import torch

from agents.pombu.uncertainty import local_uncertainty, tabular_bound, tabular_values
from scripts.experiments.pombu_bound import point_check, tabular_check


def test_local_uncertainty_by_hand():
    """x = 1 + 0.5 * (2, 4) = (2, 3): mean 2.5, variance 0.25, divided by K."""
    assert local_uncertainty(torch.tensor([1.0]), torch.tensor([[2.0], [4.0]]), 0.5).item() == pytest.approx(0.25)
    # Reward and value together: what one adds the other takes away.
    reward = torch.tensor([[1.0], [0.0]])
    assert local_uncertainty(reward, torch.tensor([[2.0], [4.0]]), 0.5).item() == pytest.approx(0.0)


def test_recursion_by_hand():
    """Two steps, one state, one action: U_0 = w_0 + gamma^2 w_1, gamma squared and not gamma."""
    reward = torch.tensor([1.0, 3.0]).reshape(2, 1, 1, 1).repeat(1, 2, 1, 1)  # variance 1 at both steps
    transition, policy = torch.ones(2, 2, 1, 1, 1), torch.ones(2, 1, 1)
    bound = tabular_bound(reward, transition, policy, 0.5)
    assert bound.flatten().tolist() == pytest.approx([1.0 + 0.25, 1.0])
    values = tabular_values(reward, transition, policy, 0.5)
    assert values.action_value[:, 0].flatten().tolist() == pytest.approx([1.5, 4.5])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_tabular_check_of_the_card(seed):
    """5 layers, 6 states, 2 actions, Dirichlet rows, 4000 models: U bounds the variance, far tighter than UBE."""
    found = tabular_check(seed)
    assert found["smallest_ratio"] >= 0.97
    assert 1.0 <= found["mean_ratio"] < 5.0
    assert found["ratio_of_older"] > 50.0


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_calibration_along_roll_outs_of_a_drifting_point(seed):
    """five members that err by fresh noise; the error of a sampled return in units of sqrt(U)."""
    found = point_check(seed)
    assert 1.0 <= found["std"] <= 1.25
    assert found["share_within_2"] >= 0.9
    assert found["rank_correlation"] >= 0.15
    assert abs(found["mean"]) < 0.1


def test_blind_spot_of_a_variance():
    """Noise around a goal that the policy has settled on lowers all imagined returns alike."""
    found = point_check(0, settling=True)
    assert found["mean"] < -2.0
    assert found["share_within_2"] < 0.5
