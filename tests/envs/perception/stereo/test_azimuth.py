"""Azimuths by symmetry: known normals, any material, lights that are missing, and where there is nothing to tell."""

import math

import pytest
import torch
from torch.nn import functional

from envs.perception.stereo.azimuth import mirror_search, plane_axes, trusted_samples
from envs.perception.stereo.shading import blinn_phong, ring
from rlsuite.metrics.normals import angles

EYE = torch.tensor([0.0, 0.0, 1.0])


def lit(normals, lights, specular, exponent):
    """Return brightness (P, K) of points whose eye is the z axis."""
    ones = torch.ones(len(normals), 1, 1)
    color = torch.tensor([0.4, 0.4, 0.4])
    return blinn_phong(normals.unsqueeze(1), lights, EYE, color, specular * ones, exponent * ones)[..., 0]


def normals_at(turns, tilt=0.6):
    return torch.stack(
        [turns.cos() * math.sin(tilt), turns.sin() * math.sin(tilt), torch.full_like(turns, math.cos(tilt))], 1
    )


@pytest.mark.parametrize(("specular", "exponent"), [(0.0, 1.0), (0.6, 50.0), (0.8, 20.0)])
@pytest.mark.parametrize("gone", [0, 8])
def test_the_azimuth_is_found_whatever_the_material(specular, exponent, gone):
    turns = torch.arange(0.0, 2 * math.pi, 0.37)
    lights = torch.cat([ring(24, 42.0)[gone:], ring(12, 22.0)[gone // 2 :]])
    normals = normals_at(turns)
    grey = lit(normals, lights, specular, exponent)
    found, sure = mirror_search(grey, trusted_samples(grey.unsqueeze(2), grey, 10.0), lights, EYE)
    flat = functional.normalize(normals * torch.tensor([1.0, 1.0, 0.0]), dim=1)
    wrong = angles(found, flat)
    assert float(wrong.median()) < (0.5 if not gone else 2.0)
    assert float((wrong < 10.0).float().mean()) > (0.99 if not gone else 0.8)
    assert float(sure.median()) > 0.8
    torch.testing.assert_close(found @ EYE, torch.zeros(len(found)), atol=1e-5, rtol=0)


def test_a_normal_that_faces_the_camera_tells_nothing():
    noise = 0.01 * torch.randn(20, 24, generator=torch.Generator().manual_seed(0))
    lights = ring(24, 42.0)
    grey = lit(EYE.expand(20, 3), lights, 0.0, 1.0) + noise
    _, sure = mirror_search(grey, torch.ones_like(grey, dtype=torch.bool), lights, EYE)
    tilted = lit(normals_at(torch.linspace(0, 6, 20)), lights, 0.0, 1.0) + noise
    _, sure_of_tilted = mirror_search(tilted, torch.ones_like(grey, dtype=torch.bool), lights, EYE)
    assert float(sure_of_tilted.min()) > float(sure.max())
    nothing, none = mirror_search(grey, torch.zeros_like(grey, dtype=torch.bool), lights, EYE)
    assert bool(nothing.isfinite().all())
    assert float(none.max()) == 0.0


def test_shadows_and_what_is_saturated_do_not_count():
    grey = torch.tensor([[1.0, 0.8, 0.02, 0.0, 0.9]])
    raw = torch.stack([grey, grey, torch.tensor([[2.0, 0.8, 0.02, 0.0, 0.9]])], dim=2)
    assert trusted_samples(raw, grey, 2.0).tolist() == [[False, True, False, False, True]]


def test_axes_of_a_plane(generator):
    eye = functional.normalize(torch.randn(3, generator=generator), dim=0)
    first, second = plane_axes(eye)
    turn = torch.stack([first, second, eye])
    torch.testing.assert_close(turn @ turn.T, torch.eye(3), atol=1e-5, rtol=0)
