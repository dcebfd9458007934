"""What blending two warped frames leaves wrong, put right: RIFE's context and fusion networks (arXiv:2011.06294).

Features of both frames, warped by the flow at 1/2 to 1/16 of the sides, enter a U-Net that adds a correction.

Shapes: B batch, H and W sides, multiples of 16 (of the large variant: 8).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from envs.perception.interpolation.ifnet import FLOW, FRAMES, MASK, WARPED, Stage, conv
from envs.perception.warp import resized_flow, warp


def two(inputs: int, outputs: int, stride: int = 2) -> nn.Sequential:
    """Return two convolutions, the first with a stride."""
    return nn.Sequential(conv(inputs, outputs, stride), conv(outputs, outputs))


def doubled(inputs: int, outputs: int) -> nn.Sequential:
    """Return what doubles the sides."""
    return nn.Sequential(nn.ConvTranspose2d(inputs, outputs, 4, 2, 1), nn.PReLU(outputs))


class ContextNet(nn.Module):
    """One frame's features at four sizes, warped.

    Args:
        width: of the first size; each further one has twice as many channels. The paper's has 16.
        large: sizes are 1/1 to 1/8 instead of 1/2 to 1/16.
    """

    def __init__(self, width: int, large: bool = False) -> None:
        super().__init__()
        self.large = large
        sizes = [3, *(width * 2**level for level in range(4))]
        self.levels = nn.ModuleList(
            two(inputs, outputs, 1 if large and not place else 2)
            for place, (inputs, outputs) in enumerate(zip(sizes[:-1], sizes[1:], strict=True))
        )

    def forward(self, frame: Tensor, flow: Tensor) -> list[Tensor]:
        """Return four maps of features of a frame (B, 3, H, W), moved by flow (B, 2, H, W)."""
        maps, hidden = [], frame
        for place, level in enumerate(self.levels):
            hidden = level(hidden)
            if place or not self.large:
                flow = resized_flow(flow, 0.5)
            maps.append(warp(hidden, flow))
        return maps


class FusionNet(nn.Module):
    """A U-Net from frames, warped frames, mask logit, flow and context to a correction in [-1, 1].

    Args:
        width: of the context network.
        large: at twice the sides, as ContextNet.
    """

    def __init__(self, width: int, large: bool = False) -> None:
        super().__init__()
        wide = [width * 2**level for level in range(1, 5)]  # 2, 4, 8, 16 times
        self.down = nn.ModuleList(
            [two(FRAMES + WARPED + MASK + FLOW, wide[0], 1 if large else 2)]
            + [two(2 * inputs, outputs) for inputs, outputs in zip(wide[:-1], wide[1:], strict=True)]
        )
        narrow = [width * 2**level for level in (3, 2, 1, 0)]
        self.up = nn.ModuleList(doubled(4 * outputs, outputs) for outputs in narrow)
        self.head = nn.Conv2d(width, 3, 3, 2 if large else 1, 1)

    def forward(
        self, first: Tensor, second: Tensor, stage: Stage, first_maps: list[Tensor], second_maps: list[Tensor]
    ) -> Tensor:
        """Return the correction (B, 3, H, W) of a stage's blend."""
        hidden = torch.cat([first, second, stage.first, stage.second, stage.mask, stage.flow], dim=1)
        kept = []
        for level, *maps in zip(self.down, first_maps, second_maps, strict=True):
            kept.append(level(hidden))
            hidden = torch.cat([kept[-1], *maps], dim=1)
        kept.pop()
        for place, level in enumerate(self.up):
            hidden = level(torch.cat([hidden, kept.pop()], dim=1) if place else hidden)
        return 2.0 * torch.sigmoid(self.head(hidden)) - 1.0
