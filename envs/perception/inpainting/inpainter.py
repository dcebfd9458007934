"""What all inpainters share: holes that are filled, everything else as it was, and how good that is.

Shapes: B batch, H and W sides of a picture.
"""

from __future__ import annotations

import torch
from torch import Tensor

from envs.perception.perceiver import Perceiver, Seen
from rlsuite.metrics.masks import mean_where
from rlsuite.metrics.pictures import FLOOR, psnr


class Inpainter(Perceiver):
    """Fills what "hole" says is lost of "rgb"; needs a perceiver before it that says so, such as inpainting/patch."""

    inputs = ("rgb", "hole")

    def metrics(self, predicted: Seen, truth: Seen) -> dict[str, Tensor]:
        """Return "psnr" in dB and, of truths with a "hole", "hole_psnr", that of its pixels alone (NaN where none)."""
        found = {"psnr": psnr(predicted["rgb"], truth["rgb"])}
        if "hole" in truth:
            found["hole_psnr"] = hole_psnr(predicted["rgb"], truth["rgb"], is_hole(truth["hole"]))
        return found


def is_hole(hole: Tensor) -> Tensor:
    """Return where a field "hole" (B, 1, H, W) says that pixels are lost, bool."""
    return hole > 0.5


def hole_psnr(predicted: Tensor, truth: Tensor, hole: Tensor) -> Tensor:
    """Return the PSNR (B,) in dB over holes (B, ..., 1, H, W) of pictures (B, ..., 3, H, W) in [0, 1]."""
    error = (predicted - truth).square().mean(dim=-3, keepdim=True)
    return -10.0 * torch.log10(mean_where(error, hole).clamp_min(FLOOR))
