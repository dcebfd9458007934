"""RIFE's network: the frame in between two frames (arXiv:2011.06294), for pictures of any size.

    IFNet -> flow, mask -> both frames warped and blended -> context and fusion networks add a correction

Shapes: B batch, H and W sides of a picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from envs.perception.interpolation.ifnet import IFBlock, IFNet, Stage
from envs.perception.interpolation.refinement import ContextNet, FusionNet
from rlsuite.errors import require
from rlsuite.nn.vision.blocks import draw_weights
from rlsuite.nn.vision.doors import FromBytes

MULTIPLE = 32  # of the sides, at fineness 1
QUIET = 0.01  # of He's deviation, for heads


@dataclass(frozen=True, kw_only=True)
class RIFENetConfig:
    """The network's sizes.

    Attributes:
        widths: of the blocks; the paper's are 240, 150, 90.
        scales: at which part of the sides each block works: 4 for a quarter.
        context: channels of the context network's first level; the paper has 16.
        timed: learns any time in between; without, the middle, and further times by halving.
        large: works at twice the sides, at four times the cost (the paper's "2R").
    """

    widths: tuple[int, ...] = (64, 48, 32)
    scales: tuple[float, ...] = (4.0, 2.0, 1.0)
    context: int = 8
    timed: bool = True
    large: bool = False

    def __post_init__(self) -> None:
        require(
            bool(self.widths) and all(width >= 2 and width % 2 == 0 for width in self.widths),
            f"widths={list(self.widths)}: use even numbers of 2 or more, such as [240,150,90]",
        )
        require(
            len(self.scales) == len(self.widths) and all(scale in (1, 2, 4, 8) for scale in self.scales),
            f"scales={list(self.scales)}: use 8, 4, 2 or 1 for each of the {len(self.widths)} widths",
        )
        require(self.context >= 1, f"context={self.context}: use 1 or more")


class Found(NamedTuple):
    """What the network says of two frames.

    Attributes:
        frame: (B, 3, H, W) in [0, 1], the frame in between.
        stages: what the blocks found, one after another; the last one's flow (B, 4, H, W) is the network's.
    """

    frame: Tensor
    stages: list[Stage]


class RIFENet(nn.Module):
    """Two frames and a time to the frame there.

    Args:
        config: see RIFENetConfig.
        seed: of the first weights.
    """

    Config = RIFENetConfig

    def __init__(self, config: RIFENetConfig, seed: int = 0) -> None:
        super().__init__()
        self.config, self.door = config, FromBytes()
        self.flow_net = IFNet(config.widths, config.scales, config.timed, config.large)
        self.context = ContextNet(config.context, config.large)
        self.fusion = FusionNet(config.context, config.large)
        draw(self, seed)

    def forward(self, first: Tensor, second: Tensor, time: Tensor, fineness: float = 1.0) -> Tensor:
        """Return the frame (B, 3, H, W) in [0, 1] in between frames, uint8 or in [0, 1], at time (B,).

        Sides may be any: pictures are padded to the multiples that the network needs by repeating the border, and the
        frame is cut back.
        """
        height, width = first.shape[2:]
        multiple = max(MULTIPLE, round(MULTIPLE / fineness))
        pads = (0, -width % multiple, 0, -height % multiple)
        first, second = (functional.pad(self.door(frame), pads, mode="replicate") for frame in (first, second))
        return self.find(first, second, time, fineness).frame[:, :, :height, :width]

    def find(self, first: Tensor, second: Tensor, time: Tensor, fineness: float = 1.0) -> Found:
        """Return all that is found of frames (B, 3, H, W) in [0, 1] whose sides are multiples of 32."""
        stages = self.flow_net(first, second, time, fineness)
        last = stages[-1]
        maps = self.context(first, last.flow[:, :2]), self.context(second, last.flow[:, 2:])
        correction = self.fusion(first, second, last, *maps)
        return Found((last.blend + correction).clamp(0.0, 1.0), stages)


@torch.no_grad()
def draw(module: nn.Module, seed: int) -> None:
    """Draw first weights by He's rule, and those of the heads a hundredth as large.

    The official code draws as torch does: of a sixth of He's variance, so that at first hardly anything comes through
    a block's eight convolutions, and heads that make flow and correction noise of some pixels. Days of learning make
    up for both; minutes on a CPU do not. Here the first frame in between is nearly the average of both.
    """
    draw_weights(module, seed)
    for part in module.modules():
        if isinstance(part, IFBlock | FusionNet):
            part.head.weight.mul_(QUIET)
