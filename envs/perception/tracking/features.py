"""What a tracker sees a crop as: two maps of features, and a row of numbers for any box in it.

Cascaded Regression Tracking (arXiv:2006.10336) takes a ResNet trained on ImageNet and, for its discrete samples,
features of boxes through a fully connected layer that was trained offline. Here a small residual network learns both on
clips of our own; there is no ImageNet here. crop=288 widths=[64,128,256,512] features=512 has the paper's strides and
sizes.

Shapes: B crops, S side of a crop, C channels, n boxes, d features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from rlsuite.errors import require
from rlsuite.nn.vision.blocks import draw_weights, stages
from rlsuite.nn.vision.doors import FromBytes
from rlsuite.nn.vision.roi_align import roi_align_each


@dataclass(frozen=True, kw_only=True)
class TrackingNetConfig:
    """The network's sizes.

    Attributes:
        crop: S.
        widths: channels of the stages, each of half the side; boxes are seen on the last two's maps.
        bins: of a box, a side.
        features: d.
    """

    crop: int = 72
    widths: tuple[int, ...] = (16, 32)
    bins: int = 5
    features: int = 128

    def __post_init__(self) -> None:
        require(len(self.widths) >= 2, f"widths={list(self.widths)}: use two or more stages")
        require(min(self.widths) >= 1, f"widths={list(self.widths)}: use 1 or more channels")
        for name in ("bins", "features"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        stride = 2 ** len(self.widths)
        require(
            self.crop % stride == 0 and self.crop >= 8 * stride,
            f"crop={self.crop}: use a multiple of {stride}, {8 * stride} or more",
        )


class Maps:
    """A crop's features: `fine` (B, C', h, h) of half the stride, and `coarse` (B, C, h / 2, h / 2)."""

    def __init__(self, fine: Tensor, coarse: Tensor) -> None:
        self.fine, self.coarse = fine, coarse

    def __getitem__(self, rows: Tensor) -> Maps:
        """Return some crops' maps."""
        return Maps(self.fine[rows], self.coarse[rows])


class TrackingNet(nn.Module):
    """Features of crops and of boxes.

    Args:
        config: its sizes.
        seed: of the first weights.

    Attributes:
        log_regularization: logarithm of the ridge regression's lambda, learned offline.
    """

    def __init__(self, config: TrackingNetConfig, seed: int = 0) -> None:
        super().__init__()
        self.config, widths = config, config.widths
        self.stride = 2 ** len(widths)
        self.cells = config.crop // self.stride
        self.door = FromBytes()
        self.trunk = stages(3, widths, (2,) * len(widths), batch_norm=True, depth=1)
        self.project = nn.Linear((widths[-2] + widths[-1]) * config.bins**2, config.features)
        draw_weights(self, seed)
        self.log_regularization = nn.Parameter(torch.zeros(()))

    def forward(self, crops: Tensor) -> Maps:
        """Return features of crops (B, 3, S, S), bytes or in [0, 1], each map of a crop of unit average power."""
        seen = 2.0 * self.door(crops) - 1.0
        for stage in list(self.trunk)[:-1]:
            seen = stage(seen)
        return Maps(_unit_power(seen), _unit_power(self.trunk[-1](seen)))

    def boxes(self, maps: Maps, boxes: Tensor) -> Tensor:
        """Return z (B, n, d) of length 1, of boxes (B, n, 4) in pixels of the crops (RoIAlign, one layer, ReLU)."""
        bins, stride = self.config.bins, float(self.stride)
        fine = roi_align_each(maps.fine, boxes, bins, stride / 2.0)
        coarse = roi_align_each(maps.coarse, boxes, bins, stride)
        found = self.project(torch.cat([fine, coarse], dim=2).flatten(2)).relu()
        return functional.normalize(found, dim=-1, eps=1e-6)

    @property
    def regularization(self) -> Tensor:
        """Lambda, 1e-3 at least."""
        return self.log_regularization.exp().clamp_min(1e-3)


def _unit_power(maps: Tensor) -> Tensor:
    return maps * torch.rsqrt(maps.square().mean(dim=(1, 2, 3), keepdim=True) + 1e-6)
