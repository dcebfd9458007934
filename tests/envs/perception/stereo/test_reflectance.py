"""Reflectance: bins, projections and gradients by hand, and two known materials found again."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.perception.stereo.reflectance import (
    DIFFERENCE,
    HALF,
    Reflectance,
    _roughness,
    bins,
    fit_reflectance,
    half_angles,
    onto_simplex,
)


def test_angles_and_bins_by_hand():
    up = torch.tensor([[0.0, 0.0, 1.0]])
    light = torch.tensor([[math.sin(1.0), 0.0, math.cos(1.0)]])
    half, difference = half_angles(up, light, up)
    assert float(half) == pytest.approx(0.5, abs=1e-4)
    assert float(difference) == pytest.approx(0.5, abs=1e-4)
    row, column = bins(torch.tensor([0.0, math.pi / 2, math.pi / 8]), torch.tensor([0.0, math.pi / 2, math.pi / 4]))
    assert row.tolist() == pytest.approx([0.0, HALF - 1.0, HALF / 2 - 0.5])
    assert column.tolist() == pytest.approx([0.0, DIFFERENCE - 1.0, DIFFERENCE / 2 - 0.5])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-3, 3), min_size=3, max_size=3))
def test_the_simplex_nearest_point_is_no_farther_than_any_other(values):
    row = torch.tensor([values], dtype=torch.float64)
    found = onto_simplex(row)
    assert float(found.min()) >= 0.0
    assert float(found.sum()) == pytest.approx(1.0)
    others = torch.distributions.Dirichlet(torch.ones(3, dtype=torch.float64)).sample((200,))
    assert float((row - found).norm()) <= float((row - others).norm(dim=1).min()) + 1e-9


def test_roughness_is_a_gradient(generator):
    table = torch.rand(2, HALF, DIFFERENCE, 3, generator=generator, dtype=torch.float64).requires_grad_()
    cost = 0.5 * (table.diff(dim=1).square().sum() + table.diff(dim=2).square().sum())
    (slope,) = torch.autograd.grad(cost, table)
    torch.testing.assert_close(_roughness(table.detach().float()), slope.float(), atol=1e-5, rtol=1e-4)


def test_two_materials_are_found_again(generator):
    theta = torch.linspace(0, math.pi / 2, 500)
    materials = [
        lambda half: torch.tensor([0.7, 0.5, 0.3]).expand(len(half), 3),
        lambda half: torch.tensor([0.2, 0.3, 0.6]) + 0.6 * (half.cos() ** 50).unsqueeze(1),
    ]
    count, each = 60, 150
    vertex = torch.arange(count).repeat_interleave(each)
    half = theta[torch.randint(0, 350, (count * each,), generator=generator)]
    difference = 1.2 * torch.rand(count * each, generator=generator)
    shiny = (vertex % 2 == 0).unsqueeze(1)
    observed = torch.where(shiny, materials[1](half), materials[0](half))
    observed = observed + 0.01 * torch.randn(observed.shape, generator=generator)
    found = fit_reflectance(vertex, half, difference, observed, torch.ones(len(vertex)), count, 2, seed=0)
    torch.testing.assert_close(found.weights.sum(dim=1), torch.ones(count))
    assert float(found.tables.min()) >= 0.0
    assert float(found.tables.diff(dim=1).max()) <= 1e-6
    sides = found.weights[:, int(found.weights[0].argmax())]
    assert float(sides[::2].min()) > 0.9
    assert float(sides[1::2].max()) < 0.1
    angle = torch.tensor([0.1, 0.4, 0.9])
    for number, material in enumerate(reversed(materials)):
        said = found(torch.full((3,), number), angle, torch.full((3,), 0.6))
        torch.testing.assert_close(said, material(angle), atol=0.06, rtol=0.1)


@pytest.mark.parametrize("basis", [1, 2])
def test_one_plain_material_is_exact_under_a_narrow_rig(basis, generator):
    """Lights near the camera: most differences lie in one bin, few in the next ones, and none beyond."""
    color, count, each = torch.tensor([0.7, 0.5, 0.3]), 40, 60
    vertex = torch.arange(count).repeat_interleave(each)
    half = 0.9 * torch.rand(count * each, generator=generator)
    difference = 0.15 + 0.12 * torch.rand(count * each, generator=generator).square()
    difference[::50] += 0.25
    found = fit_reflectance(
        vertex, half, difference, color.expand(len(half), 3), torch.ones(len(half)), count, basis, 0
    )
    torch.testing.assert_close(found(vertex, half, difference), color.expand(len(half), 3), atol=1e-4, rtol=1e-4)


def test_reflectance_between_bins():
    tables = torch.arange(float(HALF)).view(1, HALF, 1, 1).expand(1, HALF, DIFFERENCE, 3)
    known = Reflectance(torch.ones(1, 1), tables)
    half = 0.5 * math.pi * ((10.25 + 0.5) / HALF) ** 2
    assert known(torch.tensor([0]), torch.tensor([half]), torch.tensor([0.3]))[0].tolist() == pytest.approx(
        [10.25] * 3, abs=1e-3
    )
