"""Frames in between without learning: what RIFE has to beat.

Shapes: B batch, H and W sides of a picture; pictures (B, 3, H, W) in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from envs.perception.dis_flow import PRESETS, dis_flow
from envs.perception.interpolation.interpolator import Interpolator, InterpolatorConfig
from envs.perception.warp import warp
from rlsuite.errors import require_choice
from rlsuite.extras import import_extra


class Repeat(Interpolator):
    """The nearer of both frames."""

    def between(self, first: Tensor, second: Tensor, time: Tensor) -> Tensor:
        """Return the first frame before the middle, then the second."""
        return torch.where(time.view(-1, 1, 1, 1) < 0.5, first, second)


class Average(Interpolator):
    """Both frames over one another, the nearer one stronger."""

    def between(self, first: Tensor, second: Tensor, time: Tensor) -> Tensor:
        """Return the frames' mean, weighted by time."""
        return torch.lerp(first, second, time.view(-1, 1, 1, 1).to(first.dtype))


@dataclass(frozen=True, kw_only=True)
class DISConfig(InterpolatorConfig):
    """DIS's numbers.

    Attributes:
        preset: OpenCV's: "ultrafast", "fast" or "medium".
    """

    preset: str = "medium"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("preset", self.preset, PRESETS)


class DIS(Interpolator):
    """Both frames warped by OpenCV's dense inverse search (Kroeger et al. 2016, arXiv:1603.03590).

    Flow is found from each frame to the other, and put together to flow from the frame in between as in Super SloMo
    (Jiang et al. 2018, arXiv:1712.00080, equation 4); both warps are mixed by time.

    Raises:
        UserError: if OpenCV is not installed.
    """

    Config = DISConfig

    def __init__(self, *, config: DISConfig) -> None:
        super().__init__(config=config)
        import_extra("cv2", "interpolation/dis")

    def between(self, first: Tensor, second: Tensor, time: Tensor) -> Tensor:
        """Return the mean of both warped frames; OpenCV finds flow on the CPU, pair by pair."""
        share = time.view(-1, 1, 1, 1).to(first.dtype)
        flow = self.flow(first, second, time)
        return torch.lerp(warp(first, flow[:, :2]), warp(second, flow[:, 2:]), share)

    def flow(self, first: Tensor, second: Tensor, time: Tensor) -> Tensor:
        """Return the flow (B, 4, H, W) from the frame in between to both, in pixels."""
        share = time.view(-1, 1, 1, 1).float()
        there, back = (dis_flow(*pair, self.config.preset) for pair in ((first, second), (second, first)))
        to_first = share * (share * back - (1.0 - share) * there)
        return torch.cat([to_first, (1.0 - share) * ((1.0 - share) * there - share * back)], dim=1)
