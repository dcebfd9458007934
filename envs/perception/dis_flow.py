"""Optical flow between pictures by OpenCV's dense inverse search (Kroeger et al. 2016, arXiv:1603.03590).

Shapes: B batch, H and W sides of a picture.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rlsuite.extras import import_extra

PRESETS = {"ultrafast": 0, "fast": 1, "medium": 2}  # as OpenCV numbers them


def dis_flow(first: Tensor, second: Tensor, preset: str = "medium") -> Tensor:
    """Return the flow (B, 2, H, W) from first to second pictures (B, 3, H, W) in [0, 1], in pixels, right and down.

    OpenCV finds it on the CPU, pair by pair.

    Raises:
        UserError: if OpenCV is not installed.
    """
    cv2: Any = import_extra("cv2", "dis")
    greys = [(255.0 * frames.mean(dim=1)).round().to(torch.uint8).cpu().numpy() for frames in (first, second)]
    found = []
    for one, other in zip(*greys, strict=True):
        searcher = cv2.DISOpticalFlow_create(PRESETS[preset])  # a new one: it remembers the last pair
        found.append(torch.from_numpy(searcher.calc(one, other, None)).permute(2, 0, 1))
    return torch.stack(found).to(first.device)
