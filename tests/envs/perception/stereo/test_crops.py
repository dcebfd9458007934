"""Variations of examples: which lights, which piece, and what stays together."""

import pytest
import torch

from envs.perception.stereo.blobs import BlobConfig, Blobs
from envs.perception.stereo.crops import VIEWS, CropConfig, Crops
from rlsuite.data.arrays import Arrays
from rlsuite.errors import UserError

BLOBS = Blobs(3, 16, BlobConfig(lights=6), seed=0)
PLAIN = CropConfig(lights=4, side=8, rescaled=False, brightness=1.0, noise=0.0)


def test_a_piece_is_cut_out_of_images_of_their_own_lights():
    source = Crops(BLOBS, PLAIN, seed=1)
    assert len(source) == 3 * VIEWS
    index = torch.tensor([1, 4, 7])  # the second blob, three times
    found, whole = source.examples(index), BLOBS.examples(torch.tensor([1]))
    places = set()
    for row in range(3):
        for light, image in zip(found["lights"][row], found["images"][row], strict=True):
            number = int((whole["lights"][0] == light).all(dim=1).nonzero())
            fits = [
                (top, left)
                for top in range(9)
                for left in range(9)
                if torch.allclose(whole["images"][0, number, :, top : top + 8, left : left + 8], image, atol=1e-5)
            ]
            assert fits
            if len(fits) == 1:
                places.add((row, *fits[0]))
        assert len(set(found["lights"][row, :, 0].tolist())) == 4
    assert len(places) == 3  # one a row
    assert all(torch.equal(value, source.examples(index)[name]) for name, value in found.items())


def test_strengths_multiply_images_and_noise_stays_inside_its_width():
    whole = CropConfig(lights=6, side=0, brightness=1.0, noise=0.0)
    varied = CropConfig(lights=6, side=0, brightness=1.0, noise=0.1, strengths=True)
    one, other = (Crops(BLOBS, config, seed=5).examples(torch.arange(3)) for config in (whole, varied))
    assert float(other["strengths"].min()) >= 0.2
    assert float(other["strengths"].max()) <= 2.0
    away = (other["images"] - one["images"] * other["strengths"][..., None, None, None]).abs()
    assert 0.04 < float(away.max()) <= 0.05
    assert float((other["images"] * (1 - other["mask"].unsqueeze(1))).abs().max()) == 0.0
    assert bool((one["strengths"] == 1).all())


def test_rescaling_squeezes_a_picture_into_a_piece():
    ramp = torch.arange(64.0).view(1, 1, 1, 1, 64).expand(1, 2, 3, 64, 64)
    flat = {"images": ramp, "lights": torch.zeros(1, 2, 3), "mask": torch.ones(1, 1, 64, 64)}
    normals = torch.tensor([0.0, 0.6, 0.8]).view(1, 3, 1, 1).expand(1, 3, 64, 64)
    config = CropConfig(lights=2, side=16, brightness=1.0, noise=0.0)
    found = Crops(Arrays({**flat, "normals": normals}), config, seed=0).examples(torch.arange(50))
    steps = found["images"][:, 0, 0, 8, 9] - found["images"][:, 0, 0, 8, 8]
    assert float(steps.min()) >= 1.0 - 1e-4  # as it was
    assert 3.0 < float(steps.max()) <= 4.0 + 1e-4  # the whole picture in 16 pixels
    torch.testing.assert_close(found["normals"], normals[:, :, :16, :16].expand(50, -1, -1, -1))


def test_brightness_is_one_factor_a_picture_cut_off_at_two():
    bright = CropConfig(lights=6, side=0, brightness=3.0, noise=0.0)
    one, other = (
        Crops(BLOBS, config, seed=5).examples(torch.arange(3))
        for config in (CropConfig(lights=6, side=0, brightness=1.0, noise=0.0), bright)
    )
    for row in range(3):
        seen = (one["images"][row] > 0.05) & (other["images"][row] < 2.0)
        factors = other["images"][row][seen] / one["images"][row][seen]
        assert float(factors.max() - factors.min()) < 1e-4
        assert 1.0 <= float(factors[0]) <= 3.0
    assert float(other["images"].max()) <= 2.0


def test_what_does_not_fit_is_refused():
    with pytest.raises(UserError, match="side=11"):
        CropConfig(side=11)
    with pytest.raises(UserError, match="use 16 at most"):
        Crops(BLOBS, CropConfig(side=32), seed=0).examples(torch.arange(1))
