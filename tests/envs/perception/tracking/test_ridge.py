"""The closed form: both ways to solve it, its gradient, its weights."""

import pytest
import torch

from envs.perception.tracking.ridge import ridge, sample_weights, targets_of


def problem(generator, count, size, batch=3):
    samples = torch.randn(batch, count, size, generator=generator, dtype=torch.float64)
    return samples, torch.rand(batch, count, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("count", "size"), [(5, 9), (9, 5), (6, 6)])
def test_both_ways_solve_the_normal_equations(generator, count, size):
    samples, targets = problem(generator, count, size)
    weights = torch.rand(3, count, generator=generator, dtype=torch.float64)
    found = ridge(samples, targets, weights, 0.3)
    heavy = samples.mT @ torch.diag_embed(weights)
    primal = torch.linalg.solve(heavy @ samples + 0.3 * torch.eye(size), heavy @ targets.unsqueeze(-1)).squeeze(-1)
    inner = samples @ samples.mT + 0.3 * torch.diag_embed(1.0 / weights)
    dual = (samples.mT @ torch.linalg.solve(inner, targets.unsqueeze(-1))).squeeze(-1)
    assert torch.allclose(found, primal, atol=1e-8)
    assert torch.allclose(found, dual, atol=1e-8)


@pytest.mark.parametrize(("count", "size"), [(3, 5), (5, 3)])
def test_gradients_are_those_of_finite_differences(generator, count, size):
    samples, targets = problem(generator, count, size, batch=1)
    weights = 0.5 + torch.rand(1, count, generator=generator, dtype=torch.float64)
    regularization = torch.tensor(0.7, dtype=torch.float64)
    inputs = tuple(one.requires_grad_() for one in (samples, targets, weights, regularization))
    assert torch.autograd.gradcheck(ridge, inputs)


@pytest.mark.parametrize("size", [2, 8])
def test_a_sample_of_weight_zero_is_not_there(generator, size):
    samples, targets = problem(generator, 5, size)
    weights = torch.tensor([1.0, 0.0, 2.0, 1.0, 0.0]).expand(3, -1)
    kept = torch.tensor([0, 2, 3])
    assert torch.allclose(
        ridge(samples, targets, weights, 0.1), ridge(samples[:, kept], targets[:, kept], weights[:, kept], 0.1)
    )


def test_targets_by_overlap():
    found = targets_of(torch.tensor([0.0, 0.3, 0.5, 0.7, 1.0]))
    assert found.tolist() == pytest.approx([0.0, 0.0, 0.0439369, 1.0, 1.0])


def test_classes_weigh_the_same_and_the_first_frame_a_quarter_at_least():
    positives = torch.ones(1, 6, 2, dtype=torch.bool)
    positives[:, 5] = False  # five frames: the first one's even share would be a fifth
    negatives = torch.tensor([[True, False, True]])
    good, bad = sample_weights(positives, negatives)
    assert float(good.sum()) == pytest.approx(6.0)  # half of 12 samples
    assert float(bad.sum()) == pytest.approx(6.0)
    assert float(good[0, 0].sum()) == pytest.approx(1.5)
    assert good[0, 5].tolist() == [0.0, 0.0]
    assert bad.tolist() == [[3.0, 0.0, 3.0]]
    alone, _ = sample_weights(positives, torch.zeros(1, 3, dtype=torch.bool))
    assert float(alone.sum()) == pytest.approx(10.0)
