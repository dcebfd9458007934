"""Blobs: their normals beside autograd's of the same height, and what examples hold."""

import math

import torch

from envs.perception.stereo.blobs import BlobConfig, Blobs, surface
from envs.perception.stereo.least_squares import least_squares
from rlsuite.metrics.normals import angular_error


def height(x, y, cap, bumps):
    """The height field written plainly, of one blob."""
    wide, long = 0.65 + 0.3 * cap[0], 0.65 + 0.3 * cap[1]
    turn = math.pi * cap[3]
    along, across = x * math.cos(turn) + y * math.sin(turn), y * math.cos(turn) - x * math.sin(turn)
    found = (0.4 + 0.6 * cap[2]) * (1 - (along / wide) ** 2 - (across / long) ** 2).sqrt()
    for far, azimuth, high, spread in bumps.tolist():
        at = 0.7 * math.sqrt(far)
        away = (x - at * math.cos(2 * math.pi * azimuth)) ** 2 + (y - at * math.sin(2 * math.pi * azimuth)) ** 2
        found = found + (-0.12 + 0.37 * high) * torch.exp(-away / (2 * (0.12 + 0.18 * spread) ** 2))
    return found


def test_normals_are_those_of_the_height(generator):
    cap = torch.rand(1, 4, generator=generator, dtype=torch.float64)
    bumps = torch.rand(1, 3, 4, generator=generator, dtype=torch.float64)
    normals, mask = surface(cap, bumps, 16)
    at = (torch.arange(16, dtype=torch.float64) + 0.5) / 8 - 1
    rows, columns = mask[0, 0].nonzero(as_tuple=True)
    assert len(rows) > 60
    x, y = at[columns].requires_grad_(), (-at[rows]).requires_grad_()
    slope_x, slope_y = torch.autograd.grad(height(x, y, cap[0].tolist(), bumps[0]).sum(), (x, y))
    truth = torch.stack([-slope_x, -slope_y, torch.ones_like(slope_x)])
    truth = (truth / truth.norm(dim=0)).float()
    torch.testing.assert_close(normals[0][:, rows, columns], truth, atol=1e-5, rtol=1e-5)


def test_an_example_is_always_the_same_and_least_squares_fits_what_has_no_highlight():
    blobs = Blobs(10, 16, BlobConfig(lights=8, cone=20.0, specular_high=0.0), seed=3)
    two, all_of_them = blobs.examples(torch.tensor([7, 2])), blobs.examples(torch.arange(10))
    for name, value in two.items():
        assert torch.equal(value, all_of_them[name][[7, 2]])
    assert two["images"].shape == (2, 8, 3, 16, 16)
    assert torch.equal((two["normals"].norm(dim=1) > 0.5).float(), two["mask"][:, 0])
    lit = (two["images"].amin(dim=(1, 2)) > 0) & (two["mask"][:, 0] > 0)  # in no light's shadow
    assert int(lit.sum()) > 100
    normals, albedo = least_squares(two["images"], two["lights"])
    assert float(angular_error(normals, two["normals"], lit).max()) < 0.1
    assert float(albedo.amax()) <= 1.01


def test_checkers_darken_every_other_square():
    plain, checked = (Blobs(1, 16, BlobConfig(lights=4, checkers=size, specular_high=0.0), seed=0) for size in (0, 8))
    one, other = (source.examples(torch.tensor([0]))["images"][0] for source in (plain, checked))
    torch.testing.assert_close(other[..., :8, :8], one[..., :8, :8])
    torch.testing.assert_close(other[..., :8, 8:], 0.2 * one[..., :8, 8:])
