"""Light on surfaces: by hand, and which side of a sphere a light from above brightens."""

import math

import pytest
import torch

from envs.perception.stereo.shading import blinn_phong, cone, flash_lights, ring, shade


def test_radiance_by_hand():
    normal = torch.tensor([0.0, 0.0, 1.0])
    light = torch.tensor([math.sin(0.8), 0.0, math.cos(0.8)])
    color = torch.tensor([0.2, 0.4, 0.6])
    seen = blinn_phong(normal, light, normal, color, torch.tensor([0.5]), torch.tensor([20.0]))
    half = 0.5 * math.cos(0.4) ** 20
    assert seen.tolist() == pytest.approx([share * math.cos(0.8) + half for share in (0.2, 0.4, 0.6)], rel=1e-5)
    assert blinn_phong(normal, -light, normal, color, torch.tensor([0.5]), torch.tensor([20.0])).tolist() == [0, 0, 0]


def test_a_light_from_above_brightens_a_spheres_upper_rows():
    at = (torch.arange(9) - 4) / 5
    x, y = at.view(1, -1).expand(9, 9), -at.view(-1, 1).expand(9, 9)
    depth = (1 - x**2 - y**2).clamp_min(0)
    normals = (torch.stack([x, y, depth.sqrt()]) * (depth > 0)).unsqueeze(0)
    lights = torch.tensor([[[0.0, 0.6, 0.8], [0.6, 0.0, 0.8]]])
    color = torch.ones(1, 3, 1, 1)
    above, right = shade(normals, lights, color, torch.zeros(1), torch.ones(1))[0, :, 0]
    assert float(above[:4].sum()) > 1.5 * float(above[5:].sum())
    assert torch.allclose(right, above.T.flip(1), atol=1e-6)
    assert float(above[0, 0]) == 0.0  # outside


def test_rings_and_cones():
    lights = ring(4, 30.0, first=90.0)
    assert lights[0].tolist() == pytest.approx([0.0, 0.5, math.cos(math.pi / 6)], abs=1e-6)
    assert lights.sum(dim=0).tolist() == pytest.approx([0.0, 0.0, 4 * math.cos(math.pi / 6)], abs=1e-6)
    draws = torch.rand(4000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    within = cone(draws, 60.0)
    assert within.norm(dim=1).tolist() == pytest.approx([1.0] * 4000, abs=1e-6)
    assert float(within[:, 2].min()) >= 0.5
    assert float(within[:, 2].mean()) == pytest.approx(0.75, abs=0.01)  # heights of a uniform cap are uniform
    assert float(within[:, :2].mean().abs()) < 0.02
    assert flash_lights().shape == (16, 3)
