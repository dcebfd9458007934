"""Clips of look-alikes: always the same, boxes where things are, and what differs is what is said to."""

import torch

from envs.perception.tracking.moving_objects import LookAlikes, LookAlikesConfig


def test_a_clip_is_the_same_in_any_company_and_its_frames_at_any_time():
    source = LookAlikes(LookAlikesConfig(size=32), seed=3)
    together, alone = source.clips(torch.tensor([4, 7]), 3), source.clips(torch.tensor([7]), 2)
    assert torch.equal(together["frames"][1:, :2], alone["frames"])
    assert torch.allclose(together["boxes"][1:, :2], alone["boxes"], atol=1e-4)
    other = LookAlikes(LookAlikesConfig(size=32), seed=4).clips(torch.tensor([7]), 2)
    assert not torch.equal(other["frames"], alone["frames"])
    assert source.examples(torch.tensor([7]))["frames"].shape == (1, 2, 3, 32, 32)


def test_boxes_hold_what_can_be_seen_and_the_target_is_seen_first():
    found = LookAlikes(LookAlikesConfig(), seed=0).clips(torch.arange(8), 1)
    assert (found["visible"][:, 0, 0] > 0.9).all()
    for clip, box in zip(found["frames"][:, 0].float(), found["boxes"][:, 0, 0], strict=True):
        x1, y1, x2, y2 = (int(side) for side in box.round())
        inside = clip[:, (y1 + y2) // 2 - 1 : (y1 + y2) // 2 + 1, (x1 + x2) // 2 - 1 : (x1 + x2) // 2 + 1]
        assert inside.flatten(1).std(dim=1).max() < 12.0  # one colour, but for its light
    sides = (found["boxes"][..., 2:] - found["boxes"][..., :2]).squeeze(1)
    share = (sides[:, 1:, 0] / sides[:, :1, 0] - 1.0).abs()
    assert (share > 0.01).all()  # 15 %, but that each breathes by 10 % of its own
    assert (share < 0.4).all()


def test_without_differences_all_have_one_colour_and_the_bar_hides():
    plain = LookAlikesConfig(size=32, hue=0.0, growth=0.0)
    source = LookAlikes(plain, seed=1)
    draws = torch.rand(2, 12), torch.rand(2, 4, 10)
    colours = source._colours(*draws)
    assert torch.equal(colours, colours[:, :1].expand_as(colours))
    hidden = source.clips(torch.arange(4), 40)["visible"][..., 0]
    assert (hidden < 0.25).any()
    assert float((hidden > 0.5).float().mean()) > 0.6
