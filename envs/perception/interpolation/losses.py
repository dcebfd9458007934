"""What RIFE learns from: differences at five sizes, and a teacher's flow (arXiv:2011.06294, sections 3.3 and 3.4).

Shapes: B batch, C channels, H and W sides.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from envs.perception.interpolation.ifnet import Stage

LEVELS = 5
BINOMIAL = (1.0, 4.0, 6.0, 4.0, 1.0)
BETTER = 0.01  # by so much the teacher's blend must be nearer the truth for its flow to be taught
_SMALLEST = 1e-12  # under a root: where both flows are equal its gradient would be infinite


def laplacian_difference(predicted: Tensor, truth: Tensor) -> Tensor:
    """Return the sum over the five levels of a Laplacian pyramid of the mean absolute difference, 0-d.

    Of pictures (B, C, H, W) with sides of 33 or more. The last low-pass picture does not count, as in the official
    code: a difference that is the same everywhere costs nothing here. The pyramid is linear, so that the pyramids'
    difference is the difference's pyramid.
    """
    current, total = (predicted - truth).flatten(0, 1).unsqueeze(1), predicted.new_zeros(())
    for _ in range(LEVELS):
        small = _smoothed(current)[:, :, ::2, ::2]
        spread = torch.zeros_like(current)
        spread[:, :, ::2, ::2] = small
        total = total + (current - 4.0 * _smoothed(spread)).abs().mean()
        current = small
    return total


def _smoothed(planes: Tensor) -> Tensor:
    """Return planes (N, 1, H, W) under the binomial kernel, mirrored at the border."""
    kernel = planes.new_tensor(BINOMIAL) / 16.0
    padded = functional.pad(planes, (2, 2, 2, 2), mode="reflect")
    return functional.conv2d(functional.conv2d(padded, kernel.view(1, 1, 5, 1)), kernel.view(1, 1, 1, 5))


def distillation(stages: Sequence[Stage], teacher: Stage, truth: Tensor) -> Tensor:
    """Return how far the stages' flows are from the teacher's, where its blend is the better one, 0-d.

    The root of the mean squared difference over the four numbers of the flow, averaged over pixels, summed over stages
    (section 3.3). No gradient reaches the teacher, nor the choice of pixels.
    """
    flow, apart = teacher.flow.detach(), _apart(teacher.blend, truth)
    total = truth.new_zeros(())
    for stage in stages:
        worse = _apart(stage.blend, truth) > apart + BETTER
        distance = ((flow - stage.flow).square().mean(dim=1, keepdim=True) + _SMALLEST).sqrt()
        total = total + (distance * worse).mean()
    return total


def flow_error(stages: Sequence[Stage], truth: Tensor) -> Tensor:
    """Return the mean distance between the stages' flows and the true one (B, 4, H, W), in pixels, 0-d.

    Summed over stages, averaged over both frames. Stages may be larger: at the bottom and right they are padded.
    """
    height, width = truth.shape[2:]
    return torch.stack(
        [
            ((stage.flow[:, :, :height, :width] - truth).unflatten(1, (2, 2)).square().sum(dim=2) + _SMALLEST)
            .sqrt()
            .mean()
            for stage in stages
        ]
    ).sum()


def _apart(pictures: Tensor, truth: Tensor) -> Tensor:
    """Return the mean absolute difference over channels, (B, 1, H, W)."""
    return (pictures.detach() - truth).abs().mean(dim=1, keepdim=True)
