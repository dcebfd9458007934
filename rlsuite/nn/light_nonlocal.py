"""Non-local blocks that small networks can afford (AutoNL, Li et al. 2020, arXiv:2004.01961, section 3).

    y = x_c x_sc^T x_s / (H W),   output = x + BatchNorm(depthwise 3 x 3 (y))                         (equations 3 to 5)

Every pixel of the output sees every pixel of the input. There are no query, key and value convolutions and no softmax;
affinities are of the first channels alone (x_c, a share r of them) and with every s-th pixel of every s-th row (x_s,
x_sc). Without a softmax the product may be taken in either order; the one with fewer MACs is. The normalization's
scale is 0 at first, so the block begins as the identity.

`NonLocal` is the standard block (Wang et al. 2018, arXiv:1711.07971), for comparison.

Shapes: B batch, C channels, H x W pixels, N = H W, R = round(r C), M = ceil(H / s) ceil(W / s).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlsuite.errors import require, require_choice


def sampled(inputs: Tensor, stride: int) -> Tensor:
    """Return every stride-th pixel of every stride-th row: (B, C, ceil(H / s), ceil(W / s))."""
    return inputs[:, :, ::stride, ::stride]


def product_macs(channels: int, compared: int, height: int, width: int, stride: int) -> tuple[int, int]:
    """Return the MACs of the product in the order "pairwise" ((x_c x_sc^T) x_s) and "channel" (x_c (x_sc^T x_s)).

    Args:
        channels: C.
        compared: R.
        height: H.
        width: W.
        stride: s.
    """
    pixels, others = height * width, -(-height // stride) * -(-width // stride)
    return pixels * others * (channels + compared), (pixels + others) * channels * compared


def light_macs(channels: int, compared: int, height: int, width: int, stride: int) -> int:
    """Return the MACs of a light block: the cheaper order of the product, and the depthwise convolution."""
    return min(product_macs(channels, compared, height, width, stride)) + 9 * channels * height * width


def compare(inputs: Tensor, compared: int, stride: int, order: str = "") -> Tensor:
    """Return y (B, C, H, W).

    Args:
        inputs: x (B, C, H, W).
        compared: R.
        stride: s.
        order: "pairwise" or "channel"; "" takes the cheaper.
    """
    batch, channels, height, width = inputs.shape
    small = sampled(inputs, stride).flatten(2)  # (B, C, M)
    pairwise, by_channel = product_macs(channels, compared, height, width, stride)
    order = order or ("pairwise" if pairwise < by_channel else "channel")
    query, key = inputs.flatten(2)[:, :compared], small[:, :compared]
    turned = key.transpose(1, 2)
    found = small @ (turned @ query) if order == "pairwise" else (small @ turned) @ query
    return (found / (height * width)).view(batch, channels, height, width)


class LightNonLocal(nn.Module):
    """The light block: (B, C, H, W) to the same shape.

    Args:
        channels: C.
        ratio: r, share of the channels that affinities are of; one at least.
        stride: s.
        normalization: "batch", or "group" (one group, each picture by itself) where batches are small or drift.

    Raises:
        UserError: for a ratio outside (0, 1], a stride below 1 or another normalization.
    """

    def __init__(self, channels: int, ratio: float = 0.25, stride: int = 1, normalization: str = "batch") -> None:
        super().__init__()
        require(0.0 < ratio <= 1.0, f"ratio={ratio}: use more than 0, and 1 or less")
        require(stride >= 1, f"stride={stride}: use 1 or more")
        require_choice("normalization", normalization, ("batch", "group"))
        self.channels, self.stride = channels, stride
        self.compared = compared_channels(channels, ratio)
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        batch = normalization == "batch"
        self.normalization = nn.BatchNorm2d(channels) if batch else nn.GroupNorm(1, channels)
        nn.init.zeros_(self.normalization.weight)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return x + BatchNorm(depthwise(y))."""
        return inputs + self.normalization(self.depthwise(compare(inputs, self.compared, self.stride)))

    def macs(self, height: int, width: int) -> int:
        """Return the MACs for pictures of H x W."""
        return light_macs(self.channels, self.compared, height, width, self.stride)


def compared_channels(channels: int, ratio: float) -> int:
    """Return R, one at least."""
    return max(1, round(ratio * channels))


class NonLocal(nn.Module):
    """The standard block: embedded Gaussian, softmax over all pixels.

    Args:
        channels: C.
        inner: channels of query, key and value; 0 for C / 2.
    """

    def __init__(self, channels: int, inner: int = 0) -> None:
        super().__init__()
        self.channels, self.inner = channels, inner or max(1, channels // 2)
        self.query, self.key, self.value = (nn.Conv2d(channels, self.inner, 1) for _ in range(3))
        self.output = nn.Conv2d(self.inner, channels, 1, bias=False)
        self.normalization = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.normalization.weight)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return x + BatchNorm(W_z y)."""
        query, key, value = (layer(inputs).flatten(2) for layer in (self.query, self.key, self.value))
        affinity = torch.softmax(query.transpose(1, 2) @ key, dim=2)  # (B, N, N)
        found = (value @ affinity.transpose(1, 2)).view(len(inputs), self.inner, *inputs.shape[2:])
        return inputs + self.normalization(self.output(found))

    def macs(self, height: int, width: int) -> int:
        """Return the MACs for pictures of H x W."""
        pixels = height * width
        return 4 * pixels * self.channels * self.inner + 2 * pixels * pixels * self.inner
