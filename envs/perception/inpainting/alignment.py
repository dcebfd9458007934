"""Features of neighbouring frames, brought to where they belong: TSAM's shift (arXiv:2104.03507, section 3).

    x_t  = [ a_t | b_t | c_t ]      a and b: C / div channels each
    out  = [ a_{t+1} at p + F(t -> t+1) | b_{t-1} at p + F(t -> t-1) | c_t ]

Where the flow is not to be trusted, or leads out of the picture, a frame keeps its own feature. Without flow it is the
plain temporal shift (Lin et al. 2019, arXiv:1811.08383).

Two departures from the official code: its mask for the previous frame is made of the next frame's features, here each
side has its own; and it takes a place to be outside of the picture where the features' sum is zero, here coordinates
decide.

Shapes: B clips, L frames, C channels, H and W sides; flow (B, L - 1, 2, H, W) in pixels, right and down.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from envs.perception.warp import flow_at, inside, warp


class Flows(NamedTuple):
    """The flow of a clip, entry t being about frames t and t + 1.

    Attributes:
        forward: (B, L - 1, 2, H, W), from frame t to frame t + 1.
        backward: from frame t + 1 to frame t.
        forward_invalid: (B, L - 1, 1, H, W) bool, where `forward` is not to be trusted.
        backward_invalid: likewise.
    """

    forward: Tensor
    backward: Tensor
    forward_invalid: Tensor
    backward_invalid: Tensor


def checked(forward: Tensor, backward: Tensor, threshold: float = 1.0) -> Flows:
    """Return flows (B, L - 1, 2, H, W) with where forth and back do not lead home: by over `threshold` pixels.

    Section 3.3 has the check; its threshold is in neither paper nor code, which reads masks from files.
    """
    one, other = forward.flatten(0, 1), backward.flatten(0, 1)
    lead = forward.shape[:2]
    return Flows(
        forward,
        backward,
        inconsistent(one, other, threshold).unflatten(0, lead),
        inconsistent(other, one, threshold).unflatten(0, lead),
    )


def inconsistent(flow: Tensor, back: Tensor, threshold: float) -> Tensor:
    """Return where |flow(p) + back(p + flow(p))| is above a threshold, (B, 1, H, W) bool, of flow (B, 2, H, W)."""
    return (flow + warp(back, flow)).square().sum(dim=1, keepdim=True) > threshold**2


def reversed_flow(flow: Tensor) -> Tensor:
    """Return the flow there and back again: what leads from where flow (B, 2, H, W) leads to home, in pixels.

    Each pixel puts its own flow, negated, at the pixel nearest to where it leads; several are averaged, so that of two
    surfaces that lead to one place neither is consistent. Where nothing leads, flow is that of the same pixel, negated.
    """
    batch, _, height, width = flow.shape
    across = (torch.arange(width, device=flow.device) + flow[:, 0]).round().long()
    down = (torch.arange(height, device=flow.device).unsqueeze(1) + flow[:, 1]).round().long()
    within = (across >= 0) & (across < width) & (down >= 0) & (down < height)
    place = torch.where(within, down * width + across, height * width).flatten(1)  # the last one takes what leaves
    sums = flow.new_zeros(batch, 3, height * width + 1)
    given = torch.cat([-flow, torch.ones_like(flow[:, :1])], dim=1).flatten(2)
    sums.scatter_add_(2, place.unsqueeze(1).expand(-1, 3, -1), given)
    found, count = sums[:, :2, :-1].view_as(flow), sums[:, 2:, :-1].view(batch, 1, height, width)
    return torch.where(count > 0, found / count.clamp_min(1.0), -flow)


class Alignment:
    """A clip's flows at the sizes of its features, each made once.

    Args:
        flows: of the clip; sizes that are asked for have the same shape as its pictures.
    """

    def __init__(self, flows: Flows) -> None:
        self.flows = flows
        self._made: dict[tuple[str, tuple[int, int]], tuple[Tensor, Tensor]] = {}

    def at(self, side: str, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return a flow (B (L - 1), 2, *size) in those pixels, and where it is to be followed, (B (L - 1), 1, *size).

        Args:
            side: "forward" or "backward".
            size: (H, W) of the features. Flow is resized bilinearly, masks take the nearest pixel, as in the code.
        """
        key = side, size
        if key not in self._made:
            flow = flow_at(getattr(self.flows, side).flatten(0, 1).float(), size)
            invalid = getattr(self.flows, f"{side}_invalid").flatten(0, 1)
            invalid = functional.interpolate(invalid.float(), size=size, mode="nearest") > 0
            self._made[key] = flow, inside(flow) & ~invalid
        return self._made[key]


def shifted(
    features: Tensor, alignment: Alignment | None, div: int, *, causal: bool = False, own_at_ends: bool = False
) -> Tensor:
    """Return features (B, L, C, H, W) with C / div channels of the next frame and as many of the previous one.

    Args:
        features: of all frames.
        alignment: by which flow they are moved; None for the plain shift.
        div: a neighbour's share is one in `div` of the channels.
        causal: only previous frames are known: the next one's channels stay a frame's own.
        own_at_ends: the first and the last frame, which lack a neighbour, keep their own features; otherwise they have
            zeros there, as in the official code.
    """
    fold = features.shape[2] // div
    after, before, rest = features[:, :, :fold], features[:, :, fold : 2 * fold], features[:, :, 2 * fold :]
    if not causal:
        end = after[:, -1:] if own_at_ends else torch.zeros_like(after[:, -1:])
        after = torch.cat([_moved(after[:, 1:], after[:, :-1], alignment, "forward"), end], dim=1)
    end = before[:, :1] if own_at_ends else torch.zeros_like(before[:, :1])
    before = torch.cat([end, _moved(before[:, :-1], before[:, 1:], alignment, "backward")], dim=1)
    return torch.cat([after, before, rest], dim=2)


def _moved(neighbour: Tensor, own: Tensor, alignment: Alignment | None, side: str) -> Tensor:
    """Return the neighbours' features (B, L - 1, c, H, W) where the frames' own ones are, or these."""
    if alignment is None or not neighbour.numel():
        return neighbour
    flow, followed = alignment.at(side, tuple(own.shape[-2:]))  # type: ignore[arg-type]
    moved = warp(neighbour.flatten(0, 1), flow)
    return torch.where(followed, moved, own.flatten(0, 1)).view_as(own)
