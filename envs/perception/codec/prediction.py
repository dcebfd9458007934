"""MAMVP-Net: the next motion field, predicted from three past ones (M-LVC, arXiv:2004.10290, section 3.2).

Features of the past fields on four levels are aligned with the newest by the fields themselves, and a field is
estimated on each level, coarse to fine, as PWC-Net does.

Shapes: B batch, H and W sides, multiples of 8; fields (B, 2, H, W) in units.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from envs.perception.codec.motion_fields import accumulated, moved
from envs.perception.warp import resized, resized_flow

LEVELS, FIELDS = 4, 3
SLOPE = 0.1


class MotionPrediction(nn.Module):
    """Three fields to the next.

    Args:
        features: channels on each level, the finest first; the paper's are 16, 24, 24, 24.
        width: of the estimators' five convolutions; the paper's is 32.
    """

    def __init__(self, features: Sequence[int], width: int) -> None:
        super().__init__()
        inputs = [2, *features[:-1]]
        self.pyramid = nn.ModuleList(
            nn.Sequential(*_convolution(before, here, 2 if level else 1), *_convolution(here, here))
            for level, (before, here) in enumerate(zip(inputs, features, strict=True))
        )
        self.estimators, self.heads = nn.ModuleList(), nn.ModuleList()
        for level, here in enumerate(features):
            seen = FIELDS * here + (2 + width if level < LEVELS - 1 else 0)
            self.estimators.append(
                nn.Sequential(*(layer for place in range(5) for layer in _convolution(width if place else seen, width)))
            )
            self.heads.append(nn.Conv2d(width, 2, 3, padding=1))

    def forward(self, fields: Sequence[Tensor]) -> Tensor:
        """Return the next field; `fields` are the last three, the newest first."""
        pyramids = [self._features(field) for field in fields]
        flow = hidden = None
        for level in reversed(range(LEVELS)):
            factor = 2**level
            small = [field[:, :, ::factor, ::factor] / factor for field in fields]  # nearest; units of this level
            back = accumulated(small[0], small[1:-1])
            seen = [pyramids[0][level], *(moved(one[level], to) for one, to in zip(pyramids[1:], back, strict=True))]
            if flow is not None and hidden is not None:
                flow, hidden = resized_flow(flow, 2.0), resized(hidden, 2.0)
                seen += [flow, hidden]
            hidden = self.estimators[level](torch.cat(seen, dim=1))
            found = self.heads[level](hidden)
            flow = found if flow is None else found + flow
        assert flow is not None
        return flow

    def _features(self, field: Tensor) -> list[Tensor]:
        found = []
        for block in self.pyramid:
            field = block(field)
            found.append(field)
        return found


def _convolution(inputs: int, outputs: int, stride: int = 1) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(inputs, outputs, 3, stride, 1), nn.LeakyReLU(SLOPE)
