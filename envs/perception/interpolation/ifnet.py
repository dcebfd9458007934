"""IFNet: the flow from a frame in between to the two around it, coarse to fine (RIFE, arXiv:2011.06294, section 3.2).

    block at 1/4 -> flow, mask -> frames warped -> block at 1/2 corrects both -> warped -> block at 1/1 corrects both

A teacher, used while learning alone, is a further block that sees the true frame in between (section 3.3).

Shapes: B batch, H and W sides, multiples of 32; flow (B, 4, H, W): right and down from the frame in between to the
first frame, then to the second, in pixels of the whole picture.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from envs.perception.warp import resized, resized_flow, warp

FRAMES, WARPED, MASK, FLOW, TIME = 6, 6, 1, 4, 1  # channels of what a block sees


class Stage(NamedTuple):
    """What a block has found.

    Attributes:
        flow: (B, 4, H, W).
        mask: (B, 1, H, W), logit of the first frame's share.
        first: (B, 3, H, W), the first frame, warped.
        second: likewise.
    """

    flow: Tensor
    mask: Tensor
    first: Tensor
    second: Tensor

    @property
    def blend(self) -> Tensor:
        """Return both warped frames mixed by the mask, as section 3.1 has it."""
        share = torch.sigmoid(self.mask)
        return self.first * share + self.second * (1.0 - share)


def conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """Return a 3x3 convolution with a PReLU for each channel; nothing in RIFE is normalized."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.PReLU(outputs))


class IFBlock(nn.Module):
    """Eight convolutions at a quarter of the sides that come in, with one shortcut over all of them.

    Args:
        inputs: channels.
        width: of the convolutions.
        large: at half of the sides instead, as in the paper's large model ("2R").
    """

    def __init__(self, inputs: int, width: int, large: bool = False) -> None:
        super().__init__()
        self.enlarge = 1 if large else 2
        self.reduce = nn.Sequential(conv(inputs, width // 2, 1 if large else 2), conv(width // 2, width, 2))
        self.body = nn.Sequential(*(conv(width, width) for _ in range(8)))
        self.head = nn.ConvTranspose2d(width, FLOW + MASK, 4, 2, 1)

    def forward(self, seen: Tensor, flow: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
        """Return flow (B, 4, H, W) and mask logit (B, 1, H, W) at 1/scale of the sides of seen (B, C, H, W)."""
        seen = resized(seen, 1.0 / scale)
        if flow is not None:
            seen = torch.cat([seen, resized_flow(flow, 1.0 / scale)], dim=1)
        hidden = self.reduce(seen)
        found = resized(self.head(self.body(hidden) + hidden), scale * self.enlarge)
        return found[:, :FLOW] * (scale * self.enlarge), found[:, FLOW:]


class IFNet(nn.Module):
    """Three blocks, each of which corrects what the one before has found.

    Args:
        widths: of the blocks.
        scales: at which part of the sides each works: 4 for a quarter.
        timed: blocks are told where in between the frame lies; without, it is in the middle.
        large: see IFBlock.
    """

    def __init__(self, widths: tuple[int, ...], scales: tuple[float, ...], timed: bool, large: bool = False) -> None:
        super().__init__()
        self.scales, self.timed = scales, timed
        more = WARPED + MASK + FLOW
        self.blocks = nn.ModuleList(
            IFBlock(FRAMES + TIME * timed + (more if place else 0), width, large) for place, width in enumerate(widths)
        )

    def forward(
        self, first: Tensor, second: Tensor, time: Tensor, fineness: float = 1.0, blocks: int | None = None
    ) -> list[Stage]:
        """Return what each block has found.

        Args:
            first: (B, 3, H, W) in [0, 1].
            second: likewise.
            time: (B,), 0 for the first frame and 1 for the second.
            fineness: of the scales: 0.5 works on pictures half as large (for 4K), 2 finds small moving things.
            blocks: how many of the blocks, the coarsest first; None for all.
        """
        known, stages = frames_and_time(first, second, time if self.timed else None), []
        for block, scale in list(zip(self.blocks, self.scales, strict=True))[:blocks]:
            stages.append(corrected(block, known, stages[-1] if stages else None, first, second, scale / fineness))
        return stages


class Teacher(nn.Module):
    """A block that sees the true frame, and so finds a better flow than those who have to guess it (section 3.3).

    Args:
        width: of its convolutions.
        timed: as IFNet.
        large: as IFNet.
    """

    def __init__(self, width: int, timed: bool, large: bool = False) -> None:
        super().__init__()
        self.timed = timed
        self.block = IFBlock(FRAMES + TIME * timed + WARPED + MASK + 3 + FLOW, width, large)

    def forward(self, first: Tensor, second: Tensor, time: Tensor, last: Stage, truth: Tensor) -> Stage:
        """Return the last stage corrected by who knows the truth (B, 3, H, W); gradients reach the stage, too."""
        known = frames_and_time(first, second, time if self.timed else None)
        return corrected(self.block, known, last, first, second, 1.0, truth)


def frames_and_time(first: Tensor, second: Tensor, time: Tensor | None) -> Tensor:
    """Return both frames, and a channel of the time where it is told: (B, 6 or 7, H, W)."""
    told = [] if time is None else [time.to(first.dtype).view(-1, 1, 1, 1).expand(-1, 1, *first.shape[2:])]
    return torch.cat([first, second, *told], dim=1)


def corrected(
    block: nn.Module,
    known: Tensor,
    last: Stage | None,
    first: Tensor,
    second: Tensor,
    scale: float,
    truth: Tensor | None = None,
) -> Stage:
    """Return what a block makes of what it knows and of what the last one has found."""
    if last is None:
        flow, mask = block(known, None, scale)
    else:
        seen = [known, last.first, last.second, last.mask, *([] if truth is None else [truth])]
        flow, mask = block(torch.cat(seen, dim=1), last.flow, scale)
        flow, mask = last.flow + flow, last.mask + mask
    return Stage(flow, mask, warp(first, flow[:, :2]), warp(second, flow[:, 2:]))
