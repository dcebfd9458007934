"""Optical flow without learning: OpenCV's dense inverse search (Kroeger et al. 2016, arXiv:1603.03590).

Shapes: B pairs of pictures, H and W sides.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rlsuite.extras import import_extra

PRESETS = {"ultrafast": 0, "fast": 1, "medium": 2}  # as OpenCV numbers them


def dense_search(pictures: Tensor, others: Tensor, preset: str, wanted_by: str) -> Tensor:
    """Return the flow (B, 2, H, W) from pictures to others (B, 3, H, W), in pixels; on the CPU, pair by pair.

    Args:
        pictures: in [0, 1].
        others: likewise.
        preset: one of PRESETS.
        wanted_by: what cannot do without OpenCV, as the beginning of a sentence.

    Raises:
        UserError: if OpenCV is not installed.
    """
    cv2: Any = import_extra("cv2", wanted_by)
    found = []
    greys = [(255.0 * frames.mean(dim=1)).round().to(torch.uint8).cpu().numpy() for frames in (pictures, others)]
    for one, other in zip(*greys, strict=True):
        searcher = cv2.DISOpticalFlow_create(PRESETS[preset])  # a new one: it remembers the last pair
        found.append(torch.from_numpy(searcher.calc(one, other, None)).permute(2, 0, 1))
    return torch.stack(found).to(pictures.device)
