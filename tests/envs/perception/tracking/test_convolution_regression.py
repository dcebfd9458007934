"""The first stage: its scores against a convolution, its solver against exact solutions."""

import torch
from torch.nn import functional

from envs.perception.tracking.convolution_regression import (
    bent,
    conjugate_gradients,
    gauss_newton,
    gaussian_labels,
    learn_both,
    learn_filter,
    projected,
    score_maps,
)


def test_scores_are_those_of_a_convolution(generator):
    features = torch.randn(2, 3, 5, 6, 6, generator=generator)
    filters = torch.randn(2, 5, 4, 4, generator=generator)
    found = score_maps(features, filters)
    for row in range(2):
        plain = functional.conv2d(features[row], filters[row : row + 1].flip((2, 3)), padding=2).squeeze(1)
        torch.testing.assert_close(found[row], bent(plain))
    assert found.shape == (2, 3, 7, 7)


def test_negative_scores_end_at_the_floor():
    assert torch.allclose(bent(torch.tensor([2.0, 0.0, -100.0])), torch.tensor([2.0, 0.0, -0.05]))
    here = torch.tensor(-1e-5, requires_grad=True)
    bent(here).backward()
    assert abs(float(here.grad) - 1.0) < 1e-3  # type: ignore[arg-type]


def test_labels_are_highest_where_the_target_is():
    labels = gaussian_labels(torch.tensor([[[8.0, 20.0]]]), 8, 4.0, torch.tensor([[1.0, 2.0]]))
    assert labels.shape == (1, 1, 9, 9)
    assert float(labels[0, 0, 5, 2]) == 1.0
    torch.testing.assert_close(labels[0, 0, 5, 3], torch.exp(torch.tensor(-0.5)))
    torch.testing.assert_close(labels[0, 0, 6, 2], torch.exp(torch.tensor(-0.125)))


def test_conjugate_gradients_solve_each_row_in_as_many_steps_as_unknowns(generator):
    root = torch.randn(4, 5, 5, generator=generator, dtype=torch.float64)
    matrix, wanted = root @ root.mT + torch.eye(5), torch.randn(4, 5, generator=generator, dtype=torch.float64)
    wanted[2] = 0.0  # solved already
    (found,) = conjugate_gradients(lambda x: ((matrix @ x[0].unsqueeze(-1)).squeeze(-1),), (wanted,), 8)
    assert torch.allclose(found, torch.linalg.solve(matrix, wanted), atol=1e-8)


def test_one_newton_step_solves_a_linear_problem_of_several_tensors(generator):
    first = torch.randn(3, 9, 4, generator=generator, dtype=torch.float64)
    second = torch.randn(3, 9, 2, generator=generator, dtype=torch.float64)
    wanted = torch.randn(3, 9, generator=generator, dtype=torch.float64)

    def residuals(found):
        both = first @ found[0].unsqueeze(-1) + second @ found[1].unsqueeze(-1)
        return both.squeeze(-1) - wanted

    start = (torch.ones(3, 4, dtype=torch.float64), torch.ones(3, 2, dtype=torch.float64))
    with torch.no_grad():
        found = torch.cat(gauss_newton(residuals, start, 1, 12), dim=1)
    exact = torch.linalg.lstsq(torch.cat([first, second], dim=2), wanted.unsqueeze(-1)).solution.squeeze(-1)
    assert torch.allclose(found, exact, atol=1e-6)


def test_learning_lowers_its_objective_and_rows_know_nothing_of_each_other(generator):
    features = torch.randn(2, 4, 6, 6, 6, generator=generator)
    labels = gaussian_labels(torch.full((2, 4, 2), 12.0), 6, 4.0, torch.ones(2, 2))
    weights = torch.full((2, 4), 0.25)
    start = (
        0.1 * torch.randn(2, 3, 4, 4, generator=generator),
        0.4 * torch.randn(2, 3, 6, generator=generator),
    )

    def objective(filters, projection):
        errors = score_maps(projected(features, projection), filters) - labels
        fit = (weights[..., None, None] * errors**2).flatten(1).sum(1)
        return fit + 0.1 * filters.square().flatten(1).sum(1) + 1e-4 * projection.square().flatten(1).sum(1)

    filters, projection = learn_both(features, labels, weights, start, 4, 10)
    assert (objective(filters, projection) < 0.7 * objective(*start)).all()
    alone = learn_both(features[1:], labels[1:], weights[1:], (start[0][1:], start[1][1:]), 4, 10)
    torch.testing.assert_close(filters[1:], alone[0], atol=1e-3, rtol=1e-3)
    again = learn_filter(projected(features, projection), labels, weights, filters, 5)
    assert (objective(again, projection) <= objective(filters, projection) + 1e-4).all()
