"""A small dense detector: a backbone, levels of features, and one head that says at each cell what is there, how large.

    picture -> [Conv3x3 / 2, GroupNorm, ReLU] x len(widths) -> levels, the coarser ones added into the finer ones
        -> head, with feedback if asked for (`iff.py`) -> (B, K + 4, h, w) of each level

The head is FoveaBox's (Kong et al. 2019, arXiv:1904.03797), two towers of convolutions; its norm is over groups, since
with feedback it sees two distributions at each step. Its variant whose features are aligned by deformable convolutions
is left out: torch has none of its own.

Shapes: B pictures, C channels, K classes, L levels, P cells of all levels, N detections kept at most.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from envs.perception.detection.iff import IFF, IFFConfig
from envs.perception.detection.losses import LARGEST, LEAST, Cells
from rlsuite.errors import require, require_finite
from rlsuite.metrics.detection import Found
from rlsuite.nn.vision.blocks import draw_weights
from rlsuite.nn.vision.doors import FromBytes
from rlsuite.nn.vision.suppression import suppress
from rlsuite.running.seeding import derive_seed

PRIOR = 0.01  # of an object at a cell, before anything is learned
GROUPS = 4


@dataclass(frozen=True, kw_only=True)
class DetectorConfig:
    """The network's sizes.

    Attributes:
        classes: K.
        widths: channels behind each halving of the sides.
        strides: pixels of a cell of each level, finest first; powers of 2, up to 2 ** len(widths).
        channels: C, of levels and towers; a multiple of 4, as widths are.
        tower: convolutions of each of the head's two towers.
        feedback: of predictions into features; feedback.iterations=0 for none.
    """

    classes: int = 3
    widths: tuple[int, ...] = (16, 32, 32, 48)
    strides: tuple[int, ...] = (8,)
    channels: int = 32
    tower: int = 2
    feedback: IFFConfig = field(default_factory=IFFConfig)

    def __post_init__(self) -> None:
        require(self.classes >= 1 and self.tower >= 1, f"classes={self.classes}, tower={self.tower}: use 1 or more")
        sizes = (*self.widths, self.channels)
        good = bool(self.widths) and all(size >= GROUPS and size % GROUPS == 0 for size in sizes)
        require(good, f"widths={list(self.widths)}, channels={self.channels}: use multiples of {GROUPS}")
        known = [2 ** (number + 1) for number in range(len(self.widths))]
        good = bool(self.strides) and list(self.strides) == [one for one in known if one in self.strides]
        require(good, f"strides={list(self.strides)}: use some of {known}, rising")


@dataclass(frozen=True, kw_only=True)
class KeepConfig:
    """Which detections are kept.

    Attributes:
        score: least.
        before: of each picture, the best so many are looked at.
        iou: of two of a class that overlap more, the better one is kept.
        most: N.
    """

    score: float = 0.05
    before: int = 300
    iou: float = 0.5
    most: int = 100

    def __post_init__(self) -> None:
        require_finite("score", self.score, low=0.0)
        require_finite("iou", self.iou, low=0.0)
        require(1 <= self.most <= self.before, f"most={self.most}, before={self.before}: use 1 or more, and no more")


class Detections(NamedTuple):
    """What was detected, best first: boxes (B, N, 4), scores (B, N), classes (B, N); where nothing is, 0, 0 and -1."""

    boxes: Tensor
    scores: Tensor
    classes: Tensor

    def found(self) -> list[Found]:
        """Return them picture by picture, for rlsuite.metrics.detection."""
        rows = zip(*self, strict=True)
        return [Found(boxes[name >= 0], score[name >= 0], name[name >= 0]) for boxes, score, name in rows]


class DenseHead(nn.Module):
    """Two towers over features (B, C, h, w): class logits (B, K, h, w), and log distances to sides (B, 4, h, w)."""

    def __init__(self, channels: int, classes: int, tower: int) -> None:
        super().__init__()
        self.towers = nn.ModuleList(nn.Sequential(*(_layer(channels, channels) for _ in range(tower))) for _ in "cb")
        self.last = nn.ModuleList(nn.Conv2d(channels, size, 3, padding=1) for size in (classes, 4))

    def features(self, features: Tensor) -> list[Tensor]:
        """Return what lies before the last layers, (B, C, h, w) each."""
        return [tower(features) for tower in self.towers]

    def forward(self, features: Tensor) -> list[Tensor]:
        """Return both maps."""
        return [last(one) for last, one in zip(self.last, self.features(features), strict=True)]


class DenseDetector(nn.Module):
    """Pictures to maps.

    Args:
        config: see DetectorConfig.
        seed: of the first weights.
    """

    def __init__(self, config: DetectorConfig, seed: int) -> None:
        super().__init__()
        self.config = config
        self.door = FromBytes()
        widths, channels = config.widths, config.channels
        self.stages = nn.ModuleList(_layer(one, other, 2) for one, other in zip((3, *widths[:-1]), widths, strict=True))
        self.first = int(math.log2(config.strides[0])) - 1  # the stage of the finest level
        self.lateral = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in widths[self.first :])
        self.smooth = _layer(channels, channels)
        head = DenseHead(channels, config.classes, config.tower)
        draw_weights(self, derive_seed(seed, "backbone"))
        draw_weights(head, derive_seed(seed, "head"))
        generator = torch.Generator().manual_seed(derive_seed(seed, "last layers"))
        for layer in head.last:
            nn.init.normal_(cast(nn.Conv2d, layer).weight, std=0.01, generator=generator)
        nn.init.constant_(cast(Tensor, cast(nn.Conv2d, head.last[0]).bias), -math.log(1.0 / PRIOR - 1.0))
        sizes = (config.classes, 4)
        self.head = IFF(head, channels, sizes, config.feedback, len(config.strides), derive_seed(seed, "feedback"))

    def levels(self, pictures: Tensor) -> list[Tensor]:
        """Return features (B, C, h, w) of each level of pictures (B, 3, H, W), uint8 or in [0, 1]."""
        maps, found = self.door(pictures), []
        for stage in self.stages:
            maps = stage(maps)
            found.append(maps)
        wanted = [int(math.log2(stride)) - 1 for stride in self.config.strides]
        above, levels = None, []
        for number in range(len(self.stages) - 1, self.first - 1, -1):
            here = self.lateral[number - self.first](found[number])
            above = here if above is None else here + functional.interpolate(above, size=here.shape[2:])
            if number in wanted:
                levels.append(self.smooth(above))
        return levels[::-1]

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Return each level's (B, K + 4, h, w): class logits, and logarithms of distances in base edges."""
        return self.passes(pictures)[-1]

    def passes(self, pictures: Tensor) -> list[list[Tensor]]:
        """Return what each pass of the head says, level by level, the last pass last."""
        passes = [self.head.passes(maps, level) for level, maps in enumerate(self.levels(pictures))]
        return [[torch.cat(maps, dim=1) for maps in said] for said in zip(*passes, strict=True)]

    def cells(self, size: tuple[int, int], device: torch.device | str = "cpu") -> Cells:
        """Return the cells of pictures of size (H, W)."""
        strides, parts = self.config.strides, []
        for number, stride in enumerate(strides):
            down, across = (torch.arange(-(-side // stride), device=device) + 0.5 for side in size)
            middles = stride * torch.stack(torch.meshgrid(across, down, indexing="xy"), dim=-1).flatten(0, 1)
            low = 0.0 if number == 0 else float(stride)
            high = math.inf if number == len(strides) - 1 else 4.0 * stride
            facts = torch.tensor([stride, 2.0 * stride, low, high], device=device).expand(len(middles), 4)
            parts.append(torch.cat([middles, facts], dim=1))
        every = torch.cat(parts)
        return Cells(every[:, :2], every[:, 2], every[:, 3], every[:, 4:])

    def detect(self, pictures: Tensor, keep: KeepConfig) -> Detections:
        """Return what is detected in pictures (B, 3, H, W)."""
        size = (pictures.shape[2], pictures.shape[3])
        return decode(self(pictures), self.cells(size, pictures.device), size, keep)


def decode(maps: Sequence[Tensor], cells: Cells, size: tuple[int, int], keep: KeepConfig) -> Detections:
    """Return detections from a detector's maps.

    Args:
        maps: of each level, (B, K + 4, h, w).
        cells: theirs.
        size: (H, W), which boxes are cut to.
        keep: which are kept.
    """
    said = torch.cat([one.flatten(2).transpose(1, 2) for one in maps], dim=1)  # (B, P, K + 4)
    classes = said.shape[-1] - 4
    scores = said[..., :-4].sigmoid().flatten(1)
    scores, places = scores.topk(min(keep.before, scores.shape[1]), dim=1)
    cell, name = places // classes, places % classes
    logs = said[..., -4:].gather(1, cell.unsqueeze(-1).expand(-1, -1, 4))
    sides = logs.clamp(math.log(LEAST), math.log(LARGEST)).exp() * cells.edges[cell].unsqueeze(-1)
    middles = cells.middles[cell]
    limits = torch.tensor([size[1], size[0]], device=said.device)
    corners = (middles - sides[..., :2], middles + sides[..., 2:])
    boxes = torch.cat([torch.minimum(corner.clamp_min(0.0), limits) for corner in corners], dim=-1)
    good = (scores >= keep.score) & suppress(boxes, scores, name, keep.iou)
    order = (scores * good).sort(dim=1, descending=True, stable=True).indices[:, : keep.most]
    good = good.gather(1, order)
    return Detections(
        boxes.gather(1, order.unsqueeze(-1).expand(-1, -1, 4)) * good.unsqueeze(-1),
        scores.gather(1, order) * good,
        torch.where(good, name.gather(1, order), -1),
    )


def _layer(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.GroupNorm(GROUPS, outputs), nn.ReLU())
