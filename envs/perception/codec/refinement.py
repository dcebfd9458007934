"""What repairs what coding has lost: MV Refine-Net and Residual Refine-Net (M-LVC, arXiv:2004.10290, 3.4 and 3.7).

Both see only what a decoder has, too.

Shapes: B batch, H and W sides, multiples of 4; fields (B, 2, H, W) in units.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from envs.perception.codec.compensation import Compensated
from envs.perception.codec.fusion import SLOPE, Fusion, features
from envs.perception.codec.motion_fields import accumulated, moved

DILATIONS = (1, 2, 4, 8, 16, 1)


class MotionRefinement(nn.Module):
    """A decoded field, three earlier ones and the last frame to a better field.

    Args:
        width: channels of features; the paper's is 32.
        widths: of six dilated convolutions; the paper's are 64, 64, 64, 48, 32, 32.
    """

    def __init__(self, width: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.earlier, self.now, self.frame = features(2, width), features(2, width), features(3, width)
        layers: list[nn.Module] = []
        inputs = 5 * width
        for outputs, dilation in zip(widths, DILATIONS, strict=True):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation), nn.LeakyReLU(SLOPE)]
            inputs = outputs
        self.context = nn.Sequential(*layers)
        self.head = nn.Conv2d(inputs, 2, 3, padding=1)

    def forward(self, field: Tensor, earlier: Sequence[Tensor], frame: Tensor) -> Tensor:
        """Return the field, corrected.

        Args:
            field: decoded, from now to the last frame.
            earlier: three, the newest first.
            frame: the last decoded one, (B, 3, H, W); as in the official code it is not warped.
        """
        back = accumulated(field, earlier[:-1])
        seen = [moved(self.earlier(one), to) for one, to in zip(earlier, back, strict=True)]
        return field + self.head(self.context(torch.cat([*seen, self.now(field), self.frame(frame)], dim=1)))


class ResidualRefinement(nn.Module):
    """A decoded residual, the predicted frame and the references' features to a better residual.

    Args:
        decoded: channels that the residual's synthesis gives; the paper's are 32.
        warped: channels of the references' features.
        width: of the predicted frame's features; the paper's is 32.
        fusion: width of the network that joins them; the paper's is 48.
    """

    def __init__(self, decoded: int, warped: int, width: int, fusion: int) -> None:
        super().__init__()
        self.features = features(3, width)
        self.fusion = Fusion(decoded + warped + width, fusion, entry=1, skip=1, exit=2)

    def forward(self, decoded: Tensor, predicted: Compensated) -> Tensor:
        """Return the residual (B, 3, H, W) for what the synthesis gave (B, decoded, H, W)."""
        seen = [decoded, predicted.warped, self.features(predicted.frame)]
        return self.fusion(torch.cat(seen, dim=1))
