"""Frames made of still pictures: each example is always the same, and its flow is the true one."""

import pytest
import torch

from envs.perception.interpolation.moving import MovingPictures
from envs.perception.interpolation.sequences import Sequences
from envs.perception.interpolation.variety import Views, varied
from envs.perception.warp import warp
from rlsuite.data.arrays import kept
from rlsuite.errors import UserError


@pytest.fixture
def textures(generator):
    coarse = torch.rand(6, 3, 12, 12, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(96, 96), mode="bicubic").clamp(0, 1)
    return (255 * smooth).round().to(torch.uint8)


def test_an_example_is_the_same_in_any_company(textures):
    source = MovingPictures(textures, 48, seed=3)
    together = source.examples(torch.tensor([5, 1 << 35, 7]))
    for place, number in enumerate((5, 1 << 35, 7)):
        alone = source.examples(torch.tensor([number]))
        assert all(torch.equal(alone[name][0], together[name][place]) for name in together)
    other = MovingPictures(textures, 48, seed=4).examples(torch.tensor([5]))
    assert not torch.equal(other["first"][0], together["first"][0])


def test_a_draw_that_would_round_up_to_one_is_the_last_texture(textures):
    found = MovingPictures(textures, 16, timed=False).examples(torch.tensor([1605920]))  # number 55 of its draws
    assert found["first"].shape == (1, 3, 16, 16)


def test_the_flow_leads_to_what_is_seen_in_both_frames(textures):
    found = MovingPictures(textures, 48, seed=1).examples(torch.arange(40))
    middle = found["middle"] / 255.0
    warps = [
        warp(found[name] / 255.0, found["flow"][:, 2 * k : 2 * k + 2]) for k, name in enumerate(("first", "second"))
    ]
    apart = torch.stack([(one - middle).abs().mean(dim=1) for one in warps])
    # What one frame hides the other one mostly shows; edges are mixed colours, and outside there is the border.
    inside = apart.min(dim=0).values[:, 14:-14, 14:-14]
    assert float((inside < 0.03).float().mean()) > 0.93
    unmoved = torch.stack([(found[name] / 255.0 - middle).abs().mean(dim=1) for name in ("first", "second")])
    assert float(inside.mean()) < 0.35 * float(unmoved.min(dim=0).values[:, 14:-14, 14:-14].mean())


def test_times_and_motion_keep_their_bounds(textures):
    found = MovingPictures(textures, 48, reach=6.0).examples(torch.arange(64))
    assert 0.1 <= float(found["time"].min()) < 0.25
    assert 0.75 < float(found["time"].max()) <= 0.9
    middle = MovingPictures(textures, 48, timed=False).examples(torch.arange(8))
    assert middle["time"].tolist() == [0.5] * 8
    rested = MovingPictures(textures, 48, reach=0.0, still=1.0).examples(torch.arange(8))
    background = rested["flow"].abs().amax(dim=1).flatten(1).median(dim=1).values
    assert float(background.median()) == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize("bits", range(32))
def test_an_example_seen_from_another_side_keeps_its_flow(bits, textures):
    source = MovingPictures(textures, 48, seed=2)
    whole = source.examples(torch.tensor([9]))
    draws = torch.tensor([[0.0 if bits >> bit & 1 else 0.9 for bit in range(5)]])
    found = varied(whole, draws)
    for frame, other in (("first", 0), ("second", 2)):
        error = (warp(found[frame] / 255.0, found["flow"][:, other : other + 2]) - found["middle"] / 255.0).abs()
        before = "first" if (frame == "first") != bool(bits >> 4 & 1) else "second"
        place = 0 if before == "first" else 2
        expected = (warp(whole[before] / 255.0, whole["flow"][:, place : place + 2]) - whole["middle"] / 255.0).abs()
        assert float(error.mean()) == pytest.approx(float(expected.mean()), abs=1e-5)
    backwards = bits >> 4 & 1
    assert float(found["time"]) == pytest.approx(float(1 - whole["time"] if backwards else whole["time"]))


def test_views_of_examples_that_are_kept(textures):
    few = kept(MovingPictures(textures, 48, seed=2), 5, at_once=2)
    views = Views(few, seed=0)
    assert len(few) == 5
    assert len(views) >= 100
    found = views.examples(torch.arange(3, 203, 5))  # example 3, seen from 40 sides
    alike = {tuple(frame.flatten().tolist()) for frame in found["middle"]}
    assert 8 < len(alike) <= 16  # mirrored, flipped, turned, recoloured
    brightness = found["middle"].float().mean(dim=(1, 2, 3))
    torch.testing.assert_close(brightness, few.tensors["middle"][3].float().mean().expand(40))
    alone = views.examples(torch.tensor([8]))
    assert torch.equal(alone["first"][0], found["first"][1])


def test_sequences_cut_three_frames_of_one_place():
    frames = torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1).expand(10, 3, 20, 30).contiguous()
    found = Sequences([frames], 16, seed=0).examples(torch.arange(200))
    first, middle, second = (found[name][:, 0, 0, 0].long() for name in ("first", "middle", "second"))
    assert bool(((first - middle) * (middle - second) > 0).all())  # in between, forwards or backwards
    assert int((first - second).abs().max()) <= 6
    torch.testing.assert_close(found["time"], (middle - first) / (second - first))
    assert len(set(found["time"].tolist())) > 5
    many = Sequences([frames[:7]], 16, seed=1).examples(torch.arange(7000))
    places = torch.stack([many[name][:, 0, 0, 0].long() for name in ("first", "middle", "second")], dim=1)
    counts = torch.bincount((places.sort(dim=1).values * torch.tensor([49, 7, 1])).sum(dim=1))
    counts = counts[counts > 0]
    assert len(counts) == 35  # each 200 times, give or take 14
    assert 140 < int(counts.min()) <= int(counts.max()) < 260
    halves = Sequences([frames], 16, seed=0, timed=False).examples(torch.arange(50))
    assert set(halves["time"].tolist()) == {0.5}
    apart = [halves[name][:, 0, 0, 0].long() for name in ("first", "middle", "second")]
    assert torch.equal(2 * apart[1], apart[0] + apart[2])


@pytest.mark.parametrize(("frames", "size"), [(2, 16), (5, 40)])
def test_clips_that_are_too_small(frames, size):
    with pytest.raises(UserError, match=r"use|needs"):
        Sequences([torch.zeros(frames, 3, 20, 30, dtype=torch.uint8)], size)
