"""From the encoder's features back to pictures: gated TSAM convolutions with spectral norm (arXiv:2104.03507).

    stage 4 -> x2, 1x1 -> + stage 3 -> 3x3 -> x2, 1x1 -> + stage 2 -> 3x3 -> x2, 1x1 -> + stage 1 -> 3x3 -> colors
                          (gated 1x1)                    (gated 1x1)

Enlarging repeats pixels; its 1x1 convolutions ("deconv" in the code) are neither shifted nor gated. The official code
wraps its convolutions so that spectral norm never reaches the weight that is used; here it does.

Shapes: N = B L frames, w width (the paper's 64), features of 4w channels (the paper's 256).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from envs.perception.inpainting.convolution import Clip, Shift, TSAMConv

SLOPE = 0.2  # of LeakyReLU


def gated(inputs: int, outputs: int, kernel: int, shift: Shift, *, last: bool = False) -> TSAMConv:
    """Return a gated convolution of the decoder that keeps the sides; the last one has no activation."""
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
    return TSAMConv(conv, shift, activation=None if last else nn.LeakyReLU(SLOPE), gate_shifted=False)


class Enlarge(nn.Module):
    """Sides doubled by repeating pixels, a 1x1 convolution, LeakyReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, 2H, 2W)."""
        return functional.leaky_relu(self.conv(_repeated(features, 2)), SLOPE)


class Decoder(nn.Module):
    """Features of four stages to colors.

    Args:
        width: w of the encoder.
        shift: of the gated convolutions; the paper's div is 4.
    """

    def __init__(self, width: int, shift: Shift) -> None:
        super().__init__()
        wide = 4 * width
        self.second, self.third = gated(8 * width, wide, 1, shift), gated(16 * width, wide, 1, shift)
        self.enlarge = nn.ModuleList(Enlarge(inputs, wide) for inputs in (32 * width, wide, wide))
        self.convs = nn.ModuleList([gated(wide, wide, 3, shift), gated(wide, wide, 3, shift)])
        self.last = gated(wide, 3, 3, shift, last=True)

    def forward(self, stages: list[Tensor], clip: Clip) -> Tensor:
        """Map stages as ResNetEncoder returns them to colors (N, 3, H, W)."""
        first, second, third, fourth = stages
        hidden = self.enlarge[0](fourth) + _repeated(self.third(third, clip), 2)
        hidden = self.convs[0](hidden, clip)
        hidden = self.enlarge[1](hidden) + _repeated(self.second(second, clip), 4)
        hidden = self.convs[1](hidden, clip)
        hidden = self.enlarge[2](hidden) + _repeated(first, 4)
        return self.last(hidden, clip)


def _repeated(features: Tensor, times: int) -> Tensor:
    return functional.interpolate(features, scale_factor=float(times), mode="nearest")
