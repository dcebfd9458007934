"""How near pictures are to each other.

Shapes: B batch, C channels, H and W sides; values in [0, peak].
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

FLOOR = 1e-10  # of a mean squared error, in squared peaks: equal pictures have 100 dB
WINDOW, DEVIATION = 11, 1.5  # of SSIM's Gaussian


def mean_squared_error(predicted: Tensor, truth: Tensor) -> Tensor:
    """Return the mean squared error (B,) of (B, ...)."""
    return (predicted - truth).square().flatten(1).mean(dim=1)


def psnr(predicted: Tensor, truth: Tensor, peak: float = 1.0) -> Tensor:
    """Return the peak signal-to-noise ratio (B,) of pictures (B, C, H, W), in dB, at most 100."""
    return -10.0 * torch.log10((mean_squared_error(predicted, truth) / peak**2).clamp_min(FLOOR))


def decibels(mean_squared_error: float) -> float:
    """Return the peak signal-to-noise ratio of a mean squared error in squared peaks, in dB, at most 100."""
    return -10.0 * math.log10(max(mean_squared_error, FLOOR))


def ssim(predicted: Tensor, truth: Tensor, peak: float = 1.0) -> Tensor:
    """Return the structural similarity (B,) of pictures (B, C, H, W), 1 for equal ones (Wang et al. 2004).

    A Gaussian window of 11x11 and deviation 1.5, the constants 0.01 and 0.03, the mean over all places where the window
    fits and over channels.

    Raises:
        ValueError: if a side is below 11.
    """
    if min(predicted.shape[-2:]) < WINDOW:
        raise ValueError(f"pictures of {tuple(predicted.shape[-2:])}: SSIM's window needs sides of {WINDOW} or more")
    first, second = _planes(predicted), _planes(truth)
    place = torch.arange(WINDOW, dtype=first.dtype, device=first.device) - WINDOW // 2
    window = torch.exp(-0.5 * (place / DEVIATION).square())
    window = window / window.sum()

    def smooth(planes: Tensor) -> Tensor:
        return functional.conv2d(functional.conv2d(planes, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))

    mean_1, mean_2 = smooth(first), smooth(second)
    variance_1 = smooth(first.square()) - mean_1.square()
    variance_2 = smooth(second.square()) - mean_2.square()
    covariance = smooth(first * second) - mean_1 * mean_2
    small_1, small_2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    above = (2 * mean_1 * mean_2 + small_1) * (2 * covariance + small_2)
    below = (mean_1.square() + mean_2.square() + small_1) * (variance_1 + variance_2 + small_2)
    return (above / below).view(len(predicted), -1).mean(dim=1)


def edge_score(change: Tensor) -> Tensor:
    """Return |L * change| / |change| (B,) of changes (B, C, H, W), L the Laplacian of four neighbours.

    0 for a harmonic change, which no edge detector sees (arXiv:1807.10590); about 4.5 for
    white noise; 0 where nothing changes. Each channel apart, at the places that have four neighbours.

    Raises:
        ValueError: if a side is below 3.
    """
    if min(change.shape[-2:]) < 3:
        raise ValueError(f"changes of {tuple(change.shape[-2:])}: the Laplacian needs sides of 3 or more")
    planes = _planes(change)
    laplacian = planes.new_tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]]).view(1, 1, 3, 3)
    edges = functional.conv2d(planes, laplacian).view(len(change), -1).norm(dim=1)
    return edges / change.double().flatten(1).norm(dim=1).clamp_min(1e-12)


def _planes(pictures: Tensor) -> Tensor:
    """Return pictures (B, C, H, W) as (B C, 1, H, W) float64: variances are small differences of large sums."""
    return pictures.double().flatten(0, 1).unsqueeze(1)
