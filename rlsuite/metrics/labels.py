"""How good classifications are.

Shapes: B batch, K classes.
"""

from __future__ import annotations

from torch import Tensor


def correct(scores: Tensor, labels: Tensor, top: int = 1) -> Tensor:
    """Return (B,) 1 where the label (B,) is among the `top` best of the scores (B, K), else 0; the mean is accuracy."""
    best = scores.topk(min(top, scores.shape[1]), dim=1).indices
    return (best == labels.unsqueeze(1)).any(dim=1).float()
