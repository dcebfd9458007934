"""Holes, flow in holes, losses, windows, clips: by hand and against plain twins."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from envs.perception.inpainting.clips import FoundClips, MovingClips, Panning, mirrored
from envs.perception.inpainting.discriminator import Discriminator
from envs.perception.inpainting.flow_completion import completed
from envs.perception.inpainting.losses import (
    adversarial,
    difference,
    discriminator_loss,
    hole_difference,
    perceptual,
    style,
)
from envs.perception.inpainting.masks import DRAWS, holes, moving_curve, moving_object, static_patch
from envs.perception.inpainting.network import TSAMNet, TSAMNetConfig
from envs.perception.inpainting.vgg import VGGFeatures, load_vgg
from envs.perception.inpainting.windows import inpaint_clip, windows
from envs.perception.interpolation.moving import MovingPictures
from envs.perception.warp import inside, warp
from rlsuite.errors import UserError


def test_holes_hide_as_much_as_they_should_and_move():
    draws = torch.rand(40, DRAWS, generator=torch.Generator().manual_seed(0))
    for make, low, high in ((moving_object, 0.05, 0.4), (moving_curve, 0.05, 0.2)):
        hidden = make(draws, 4, (24, 32))
        assert hidden.shape == (40, 4, 1, 24, 32)
        area = hidden[:, 0].float().mean(dim=(1, 2, 3))
        assert float(area.min()) >= low - 1e-3
        assert float(area.max()) <= high + 0.03  # distances may be equal
        assert bool((hidden[:, 0] != hidden[:, 3]).flatten(1).any(1).float().mean() > 0.9)
    patch = static_patch(draws, 4, (24, 32))
    rests = (patch[:, 0] == patch[:, 3]).flatten(1).all(1)
    assert 0.3 < float(rests.float().mean()) < 0.75
    wide = static_patch(draws.index_fill(1, torch.tensor([0, 1]), 0.5), 1, (24, 32))[:, 0, 0]  # in the middle
    for axis, side in ((1, 32), (2, 24)):
        assert int(wide.any(dim=axis).sum(dim=1).min()) >= side // 3 - 1


def test_holes_are_the_same_for_the_same_example():
    index = torch.arange(6)
    found = holes(3, index, 3, (16, 16))
    assert torch.equal(found[2:3], holes(3, index[2:3], 3, (16, 16)))
    assert not torch.equal(found, holes(4, index, 3, (16, 16)))
    with pytest.raises(UserError, match="kinds="):
        holes(3, index, 3, (16, 16), ("round",))


def laplace(values, hole):
    """One plane (H, W) by a linear system; beyond the border it repeats."""
    height, width = values.shape
    number = {place: row for row, place in enumerate(zip(*np.nonzero(hole), strict=True))}
    matrix, right = np.zeros((len(number), len(number))), np.zeros(len(number))
    for (down, across), row in number.items():
        for y, x in ((down - 1, across), (down + 1, across), (down, across - 1), (down, across + 1)):
            place = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
            matrix[row, row] += 0.25
            if place in number:
                matrix[row, number[place]] -= 0.25
            else:
                right[row] += 0.25 * values[place]
    found = values.copy()
    found[tuple(np.nonzero(hole))] = np.linalg.solve(matrix, right)
    return found


@pytest.mark.parametrize("size", [(11, 13), (12, 8)])
def test_completion_solves_the_laplace_equation(size, generator):
    values = torch.rand(2, 2, *size, generator=generator)
    hole = torch.zeros(2, 1, *size, dtype=torch.bool)
    hole[0, 0, 2:8, 1:7] = True
    hole[1, 0, :5, 4:] = True  # at the border
    found = completed(values, hole, sweeps=300)
    for row in range(2):
        for channel in range(2):
            expected = laplace(values[row, channel].double().numpy(), hole[row, 0].numpy())
            np.testing.assert_allclose(found[row, channel].numpy(), expected, atol=2e-3)
    assert torch.equal(found[~hole.expand_as(found)], values[~hole.expand_as(found)])
    assert not completed(values, torch.ones_like(hole)).any()  # nothing is known
    even = torch.full((1, 2, *size), 3.0)
    torch.testing.assert_close(completed(torch.where(hole[:1], 9.0, even), hole[:1], sweeps=1), even)


def test_losses_by_hand(generator):
    predicted, truth = torch.zeros(1, 1, 3, 2, 2), torch.ones(1, 1, 3, 2, 2)
    known = torch.tensor([True, True, True, False]).view(1, 1, 1, 2, 2)
    assert float(difference(predicted, truth)) == 1.0
    assert float(hole_difference(predicted, truth, known)) == 0.25  # the mean over all, as in the code
    one, other = (torch.rand(4, 3, 2, 2, generator=generator) for _ in range(2))  # two clips of two frames
    assert float(perceptual([one, one], [other, one])) == pytest.approx(float((one - other).abs().mean()))
    expected = 0.0
    for frame in range(2):
        grams = []
        for features in (one, other):
            rows = features[frame::2].reshape(6, 4)
            grams.append(rows @ rows.T / features[frame::2].numel())
        expected += float((grams[0] - grams[1]).abs().mean()) / 2
    found = style([one, one, one], [other, one, one], length=2)
    assert float(found) == pytest.approx(expected / 2.0, rel=1e-5)
    third = style([one, one, one], [one, one, other], length=2)
    assert float(third) == pytest.approx(float(found) / 4.0, rel=1e-5)


def test_filler_and_discriminator_move_apart(generator):
    judge = Discriminator(4)
    truth = torch.rand(1, 2, 3, 32, 32, generator=generator)
    filled = torch.rand(1, 2, 3, 32, 32, generator=generator).requires_grad_()
    known = torch.ones(1, 2, 1, 32, 32, dtype=torch.bool)
    adversarial(judge, filled, known).backward()
    assert filled.grad is not None
    assert all(weight.grad is None for weight in judge.parameters())
    filled.grad = None
    discriminator_loss(judge, filled, truth, known).backward()
    assert filled.grad is None
    assert all(weight.grad is not None for weight in judge.parameters())

    class Certain(torch.nn.Module):
        def forward(self, frames, known):
            return frames.mean(dim=(2, 3, 4))

    certain = Certain()
    ones, zeros = torch.ones_like(truth), torch.zeros_like(truth)
    assert float(discriminator_loss(certain, zeros, ones, known)) == 0.0
    assert float(discriminator_loss(certain, ones, zeros, known)) == 1.0


def test_features_come_from_a_users_file(tmp_path):
    vgg = VGGFeatures()
    path = tmp_path / "vgg.safetensors"
    save_file({**vgg.state_dict(), "classifier.0.weight": torch.zeros(1)}, str(path))
    pictures = torch.rand(1, 3, 16, 16)
    found = load_vgg(str(path))(pictures)
    assert [tuple(value.shape[1:]) for value in found] == [(128, 8, 8), (256, 4, 4), (512, 2, 2)]
    assert all(torch.equal(one, other) for one, other in zip(found, vgg(pictures), strict=True))
    save_file({"features.0.weight": torch.zeros(64, 3, 3, 3)}, str(path))
    with pytest.raises(UserError, match=r"lacks 'features.0.bias'"):
        load_vgg(str(path))
    path.write_bytes(b"no weights")
    with pytest.raises(UserError, match=r"tsam.vgg="):
        load_vgg(str(path))


def test_windows_slide_by_what_they_keep():
    assert list(windows(15)) == [(0, 0, 15)]
    assert list(windows(16)) == [(0, 0, 12), (9, 12, 16)]
    assert list(windows(40)) == [(0, 0, 12), (9, 12, 21), (18, 21, 30), (27, 30, 40)]
    for frames in (1, 4, 9, 23):
        parts = list(windows(frames, 5, (1, 3)))
        assert [place for _, first, end in parts for place in range(first, end)] == list(range(frames))
        assert all(start <= first and end <= start + 5 for start, first, end in parts)
    with pytest.raises(UserError, match="kept="):
        list(windows(9, 5, (3, 3)))


def test_a_long_clip_is_filled(generator):
    net = TSAMNet(TSAMNetConfig(width=8, shift="plain", causal=False)).eval()
    frames = torch.rand(9, 3, 12, 12, generator=generator)
    known = torch.rand(9, 1, 12, 12, generator=generator) > 0.2
    found = inpaint_clip(net, frames, known, None, length=5, kept=(1, 3))
    with torch.no_grad():
        second = net(frames[None, 2:7], known[None, 2:7])[0]
    torch.testing.assert_close(found[3:5], second[1:3])
    assert torch.equal(found[known.expand_as(frames)], frames[known.expand_as(frames)])


def test_panning_textures_move_by_their_flow():
    found = Panning(16, 3, hole=4, reach=3, seed=1).examples(torch.arange(8))
    frames = found["frames"].float()
    for one, other, flow in ((0, 1, found["forward"][:, 0]), (2, 1, found["backward"][:, 1])):
        seen = inside(flow).expand(-1, 3, -1, -1)
        torch.testing.assert_close(warp(frames[:, other], flow)[seen], frames[:, one][seen], atol=0.01, rtol=0.0)
    assert ((~found["known"]).sum(dim=(2, 3, 4)) == 16).all()
    assert len(found["forward"][:, 0, :, 0, 0].unique(dim=0)) > 4
    again = Panning(16, 3, hole=4, reach=3, seed=1).examples(torch.tensor([5]))
    assert torch.equal(again["frames"][0], found["frames"][5])


def test_moving_clips_know_their_flow(generator):
    coarse = torch.rand(4, 3, 6, 6, generator=generator)
    pool = (255 * torch.nn.functional.interpolate(coarse, size=48, mode="bicubic").clamp(0, 1)).to(torch.uint8)
    found = MovingClips(MovingPictures(pool, 24, seed=2, reach=16.0, still=0.0), 3).examples(torch.arange(6))
    assert found["frames"].shape == (6, 3, 3, 24, 24)
    assert found["known"].shape == (6, 3, 1, 24, 24)
    frames = found["frames"].float() / 255
    moved = warp(frames[:, 1], found["forward"][:, 0])
    followed = inside(found["forward"][:, 0])
    error = ((moved - frames[:, 0]).abs() * followed).mean()
    assert float(error) < 0.5 * float(((frames[:, 1] - frames[:, 0]).abs() * followed).mean())


def test_real_clips_and_mirrors():
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    coarse = torch.rand(1, 3, 10, 14, generator=torch.Generator().manual_seed(0))
    wide = torch.nn.functional.interpolate(coarse, size=(80, 112), mode="bicubic").clamp(0, 1)[0]
    clip = torch.stack([(255 * wide[:, 8:72, 20 - 2 * t : 84 - 2 * t]).to(torch.uint8) for t in range(5)])
    source = FoundClips([clip], 40, 3, seed=1)
    found = source.examples(torch.arange(8))
    assert found["frames"].shape == (8, 3, 3, 40, 40)
    pace = found["forward"][:, 0, 0].flatten(1).median(dim=1).values
    assert sorted({round(float(value)) for value in pace}) == [-2, 2]  # 2.4 pixels of the enlarged clip, or mirrored
    frames, flow = torch.rand(2, 3, 4, 4), torch.rand(1, 2, 4, 4)
    turned, there, back = mirrored(frames, flow, -flow)
    assert torch.equal(turned[..., 0], frames[..., 3])
    assert torch.equal(there[0, 0, :, 0], -flow[0, 0, :, 3])
    assert torch.equal(back[0, 1, :, 0], -flow[0, 1, :, 3])
    with pytest.raises(UserError, match="a clip has 2 frames"):
        FoundClips([clip[:2]], 40, 3)
    with pytest.raises(UserError, match="size=100"):
        FoundClips([clip], 100, 3)
