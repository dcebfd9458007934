"""What TSAM learns from: differences of pixels, of features, of styles, and what a discriminator says.

The weights are the official configs': 1 for all pixels, 6 for those in holes, 1 for features, 2 for styles, 1 for the
discriminator.

Shapes: B clips, L frames, C channels, H and W sides.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

STYLE_DIVISORS = (2.0, 4.0, 8.0)


def difference(predicted: Tensor, truth: Tensor) -> Tensor:
    """Return the mean absolute difference, 0-d."""
    return (predicted - truth).abs().mean()


def hole_difference(predicted: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Return the mean over all pixels of the absolute difference in holes, 0-d: small holes weigh little."""
    return ((predicted - truth).abs() * (~known).to(predicted.dtype)).mean()


def perceptual(predicted: Sequence[Tensor], truth: Sequence[Tensor]) -> Tensor:
    """Return the sum over layers of the mean absolute difference of features (B L, C, H, W), 0-d."""
    return torch.stack([difference(one, other) for one, other in zip(predicted, truth, strict=True)]).sum()


def style(predicted: Sequence[Tensor], truth: Sequence[Tensor], length: int) -> Tensor:
    """Return the difference of Gram matrices of features (B L, C, H, W), 0-d: frame by frame, mean over frames.

    As in the official code, the matrix is of the rows of all B pictures of a frame, divided by B C H W, and the layers'
    differences by 2, 4 and 8.
    """
    parts = []
    for one, other, divisor in zip(predicted, truth, STYLE_DIVISORS, strict=True):
        parts.append(difference(_grams(one, length), _grams(other, length)) / divisor)
    return torch.stack(parts).sum()


def _grams(features: Tensor, length: int) -> Tensor:
    """Return a Gram matrix for each frame, (L, B C, B C)."""
    rows = features.unflatten(0, (-1, length)).transpose(0, 1).flatten(1, 2).flatten(2)  # (L, B C, H W)
    return rows @ rows.mT / (rows.shape[1] * rows.shape[2])


def discriminator_loss(discriminator: nn.Module, predicted: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Return what the discriminator minimizes, 0-d: real scores are to be 1, filled ones 0; no gradient to the filler.

    Args:
        discriminator: of clips and what is known.
        predicted: filled clips (B, L, 3, H, W).
        truth: real ones.
        known: (B, L, 1, H, W) bool.
    """
    real, filled = discriminator(truth, known), discriminator(predicted.detach(), known)
    return 0.5 * ((real - 1.0).square().mean() + filled.square().mean())


def adversarial(discriminator: nn.Module, predicted: Tensor, known: Tensor) -> Tensor:
    """Return what the filler minimizes, 0-d: its scores are to be 1. No gradient reaches the discriminator."""
    fixed = {name: value.detach() for name, value in discriminator.named_parameters()}
    return (functional_call(discriminator, fixed, (predicted, known)) - 1.0).square().mean()
