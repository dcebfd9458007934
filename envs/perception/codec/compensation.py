"""MMC-Net: the next frame, predicted from up to four decoded ones (M-LVC, arXiv:2004.10290, section 3.5).

Shapes: B batch, F channels of features, R references, H and W sides, multiples of 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from envs.perception.codec.fusion import Fusion, features
from envs.perception.codec.motion_fields import accumulated, moved


class Compensated(NamedTuple):
    """What is predicted.

    Attributes:
        frame: (B, 3, H, W), its range free.
        warped: (B, R F, H, W), the references' features where they are now, which the last refinement sees again.
    """

    frame: Tensor
    warped: Tensor


class MotionCompensation(nn.Module):
    """References and fields to a frame.

    Args:
        references: R; with 1 it is compensation by the last frame alone, as in DVC (arXiv:1812.00101).
        width: F; the paper's is 32.
        fusion: width of the network that joins them; the paper's is 64.
    """

    def __init__(self, references: int, width: int, fusion: int) -> None:
        super().__init__()
        self.references = references
        self.features = features(3, width)
        self.fusion = Fusion(3 + references * width, fusion, entry=3, skip=2, exit=3)

    def forward(self, frames: Sequence[Tensor], field: Tensor, earlier: Sequence[Tensor]) -> Compensated:
        """Return the next frame.

        Args:
            frames: decoded ones (B, 3, H, W), the newest first.
            field: from now to the newest frame.
            earlier: decoded fields, the newest first.
        """
        back = accumulated(field, earlier[: self.references - 1])
        used = frames[: self.references]
        warped = torch.cat([moved(self.features(one), to) for one, to in zip(used, back, strict=True)], dim=1)
        near = moved(frames[0], field)
        return Compensated(near + self.fusion(torch.cat([near, warped], dim=1)), warped)
