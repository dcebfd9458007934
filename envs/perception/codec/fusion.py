"""The network that makes pictures of features, at three sizes (M-LVC, arXiv:2004.10290, sections 3.5 and 3.7).

    conv -> residual blocks -> conv ---------------------- residual blocks + -> residual blocks -> conv
                                 +-> halved ------ residual block + -> block, doubled -+
                                       +-> halved -> block, doubled -+

Motion compensation and the refinement of residuals have one each, of other widths and numbers of blocks.

Shapes: B batch, C channels, H and W sides, multiples of 4.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from envs.perception.warp import resized

SLOPE = 0.1


class Block(nn.Module):
    """x + conv(relu(conv(x))).

    Args:
        width: channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (B, width, H, W) to the same shape."""
        return inputs + self.second(functional.relu(self.first(inputs)))


class Fusion(nn.Module):
    """Features to a picture of three channels.

    Args:
        inputs: C.
        width: of everything inside.
        entry: blocks before the sides are halved.
        skip: blocks on the way across, at full size.
        exit: blocks at the end.
    """

    def __init__(self, inputs: int, width: int, entry: int, skip: int, exit: int) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.Conv2d(inputs, width, 3, padding=1), *(Block(width) for _ in range(entry)))
        self.at_full, self.at_half, self.at_quarter = (_convolution(width, stride) for stride in (1, 2, 2))
        self.from_quarter, self.across_half, self.from_half = Block(width), Block(width), Block(width)
        self.across = nn.Sequential(*(Block(width) for _ in range(skip)))
        self.leave = nn.Sequential(*(Block(width) for _ in range(exit)))
        self.head = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, 3, H, W)."""
        full = self.at_full(self.enter(features))
        half = self.at_half(full)
        deep = self.across_half(half) + resized(self.from_quarter(self.at_quarter(half)), 2.0)
        deep = self.across(full) + resized(self.from_half(deep), 2.0)
        return self.head(self.leave(deep))


def features(inputs: int, width: int) -> nn.Sequential:
    """Return a 3x3 convolution that is followed by a leaky ReLU, as all of M-LVC's feature extractors."""
    return nn.Sequential(nn.Conv2d(inputs, width, 3, padding=1), nn.LeakyReLU(SLOPE))


def _convolution(width: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(width, width, 3, stride, 1), nn.LeakyReLU(SLOPE))
