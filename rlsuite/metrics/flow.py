"""How good optical flow is.

Shapes: B batch, H and W sides; flow (B, 2, H, W) in pixels, right and down.
"""

from __future__ import annotations

from torch import Tensor

from rlsuite.metrics.masks import mean_where


def end_point_error(predicted: Tensor, truth: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return the mean distance (B,) between flows (B, 2, H, W), in pixels.

    Args:
        predicted: the flow judged.
        truth: the true flow; what lies where it is unknown does not count, nor need it be finite.
        valid: (B, H, W) bool, where it is known; None for everywhere.

    Returns:
        The mean over valid pixels; NaN for a picture that has none.
    """
    return mean_where((predicted - truth).norm(dim=1), valid)
