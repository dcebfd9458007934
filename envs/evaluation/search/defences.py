"""Operations that defend: a bank of Gabor filters, and denoising by dot products (ABanditNAS, arXiv:2008.00698).

Both add to their input what a filter makes of it, behind a normalization whose scale and shift begin at 0, so that they
begin as identities. With stride 2 the sum is interpolated to half its sides. That normalization always has scale and
shift, and neither filter has weights that could be binary.

Shapes: B batch, C channels, H x W pixels, N = H W.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from envs.evaluation.search.cost import Cost, numbers_cost
from envs.evaluation.search.operations import Convolution, Size, halved

_GABOR_NUMBERS = 5  # theta, gamma, sigma, lambda and psi of each channel


class GaborFilter(nn.Module):
    """A 3 x 3 convolution whose kernels are Gabor functions, the same for all input channels.

    kernel = exp(-(x'^2 / sigma^2 + y'^2 / (sigma / gamma)^2) / 2) cos(2 pi x' / lambda + psi) on x, y in {-1, 0, 1},
    with x' = x cos(theta) + y sin(theta), y' = -x sin(theta) + y cos(theta).

    Args:
        channels: C, of inputs and outputs.

    Attributes:
        angle, ratio, width, wavelength, phase: (C,) learned; theta = 2 pi sigmoid(angle), gamma = 1 + 0.5 ratio,
            sigma = 0.1 + 0.4 sigmoid(width), lambda = 0.001 + 0.999 sigmoid(wavelength), psi = phase.
    """

    offsets: Tensor
    angle: nn.Parameter
    ratio: nn.Parameter
    width: nn.Parameter
    wavelength: nn.Parameter
    phase: nn.Parameter

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name in ("angle", "ratio", "width", "wavelength", "phase"):
            self.register_parameter(name, nn.Parameter(torch.zeros(channels)))
        self.register_buffer("offsets", torch.tensor([-1.0, 0.0, 1.0]), persistent=False)
        self.draw(torch.Generator().manual_seed(0))

    @torch.no_grad()
    def draw(self, generator: torch.Generator) -> None:
        """Draw the numbers anew: wavelengths' uniform in [0, 1], others normal, phases 0.02 of that, ratios 0."""
        self.wavelength.uniform_(generator=generator)
        self.angle.normal_(generator=generator)
        self.phase.normal_(std=0.02, generator=generator)
        self.width.normal_(generator=generator)
        self.ratio.zero_()

    def kernels(self) -> Tensor:
        """Return the kernels (C, 3, 3), rows y, columns x."""
        theta, psi = (2.0 * math.pi * self.angle.sigmoid())[:, None, None], self.phase[:, None, None]
        gamma, sigma = 1.0 + 0.5 * self.ratio, 0.1 + 0.4 * self.width.sigmoid()
        wavelength = (0.001 + 0.999 * self.wavelength.sigmoid())[:, None, None]
        x, y = self.offsets[None, None, :], self.offsets[None, :, None]
        along = x * theta.cos() + y * theta.sin()
        across = -x * theta.sin() + y * theta.cos()
        sigma, gamma = sigma[:, None, None], gamma[:, None, None]
        fall = (-0.5 * ((along / sigma) ** 2 + (across * gamma / sigma) ** 2)).exp()
        return fall * (2.0 * math.pi * along / wavelength + psi).cos()

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W). Equal kernels for all channels: the sum of channels is filtered."""
        return functional.conv2d(inputs.sum(1, keepdim=True), self.kernels().unsqueeze(1), padding=1)


class DotDenoise(nn.Module):
    """Each place becomes y_i = (1 / (C N)) sum_j (x_i . x_j) x_j: non-local means with dot products, no embedding."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W), in the cheaper order of the two products."""
        batch, channels, height, width = inputs.shape
        flat = inputs.flatten(2)
        few = channels <= height * width
        found = (flat @ flat.mT) @ flat if few else flat @ (flat.mT @ flat)
        return (found / (channels * height * width)).view(batch, channels, height, width)


class Defence(nn.Module):
    """x + BN(filter(x)), the normalization's scale and shift 0 at first; then half the sides where stride is 2."""

    def __init__(self, inner: nn.Module, channels: int, stride: int) -> None:
        super().__init__()
        self.inner, self.normalization, self.stride = inner, nn.BatchNorm2d(channels), stride
        nn.init.zeros_(self.normalization.weight)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H / stride, W / stride)."""
        found = inputs + self.normalization(self.inner(inputs))
        if self.stride == 1:
            return found
        size = halved((inputs.shape[2], inputs.shape[3]), self.stride)
        return functional.interpolate(found, size=size, mode="bilinear", align_corners=True)


def _gabor_cost(channels: int, size: Size) -> Cost:
    return Cost(macs=9 * channels * size[0] * size[1]) + numbers_cost(_GABOR_NUMBERS * channels)


def _denoise_cost(channels: int, size: Size) -> Cost:
    pixels = size[0] * size[1]
    return Cost(macs=2 * channels * pixels * min(channels, pixels))


@dataclass(frozen=True)
class DefenceOperation:
    """A defence as `search.operations.Operation`.

    Attributes:
        inner: from channels to the filter.
        inner_cost: (channels, sides) to what the filter costs.
    """

    inner: Callable[[int], nn.Module]
    inner_cost: Callable[[int, Size], Cost]
    weightless: bool = False

    def make(self, channels: int, stride: int, convolution: Convolution, affine: bool) -> nn.Module:
        """Return the module."""
        return Defence(self.inner(channels), channels, stride)

    def cost(self, channels: int, size: Size, stride: int, convolution: Convolution, affine: bool) -> Cost:
        """Return the filter's cost and the normalization's."""
        return self.inner_cost(channels, size) + numbers_cost(2 * channels)


GABOR = DefenceOperation(GaborFilter, _gabor_cost)
DENOISE = DefenceOperation(lambda channels: DotDenoise(), _denoise_cost)
