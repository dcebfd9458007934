"""The first stage: a filter, learned online, scores every position of a search area.

The score is phi(f * (P x)): features x are projected by P, filtered by one f, and bent by phi. Both are found by
Gauss-Newton steps, each of them solved by conjugate gradients. Solver and constants are ATOM's (Danelljan et al. 2019,
arXiv:1811.07628, section 3.3), the family that Cascaded Regression Tracking (arXiv:2006.10336) belongs to.

Shapes: B trackers, N samples of each, C channels, Q projected, h cells a side, K the filter's side; a map of scores has
h + 1 positions a side, which are the corners of cells: position i lies at i * stride pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

FLOOR = 0.05
FILTER_WEIGHT, PROJECTION_WEIGHT = 0.1, 1e-4  # of |f|^2 and |P|^2


def bent(scores: Tensor, floor: float = FLOOR) -> Tensor:
    """Return phi: scores as they are above 0; below, smoothly no deeper than -floor."""
    return torch.where(scores >= 0, scores, floor * torch.expm1(scores.clamp_max(0.0) / floor))


def projected(features: Tensor, projection: Tensor) -> Tensor:
    """Return P x (B, N, Q, h, h) of features (B, N, C, h, h) and projections (B, Q, C)."""
    flat = projection.unsqueeze(1) @ features.flatten(3)
    return flat.unflatten(3, features.shape[-2:])


def score_maps(features: Tensor, filters: Tensor) -> Tensor:
    """Return phi(f * x) (B, N, h + 1, h + 1) of projected features (B, N, Q, h, h), filters (B, Q, K, K), K even.

    What each of the filter's K K taps gives is one matrix product, and their shifted sum is `fold`.
    """
    batch, count, _, height, width = features.shape
    side = filters.shape[-1]
    taps = filters.flatten(2).mT.unsqueeze(1) @ features.flatten(3)  # (B, N, K K, h h)
    size = (height + 1, width + 1)
    summed = functional.fold(taps.flatten(0, 1), size, kernel_size=side, padding=side // 2 - 1)
    return bent(summed.view(batch, count, *size))


def gaussian_labels(centres: Tensor, cells: int, stride: float, deviation: Tensor) -> Tensor:
    """Return labels (B, N, h + 1, h + 1): a bump of height 1 at centres (B, N, 2), x and y in pixels of the crop.

    Args:
        centres: see there.
        cells: h.
        stride: pixels of a cell.
        deviation: (B, 2), of the bump along x and y, in cells.
    """
    places = torch.arange(cells + 1, device=centres.device, dtype=centres.dtype)
    away = (places - centres.unsqueeze(-1) / stride) / deviation.unsqueeze(1).unsqueeze(-1)  # (B, N, 2, h + 1)
    along = torch.exp(-0.5 * away**2)
    return along[:, :, 1].unsqueeze(-1) * along[:, :, 0].unsqueeze(-2)


def learn_both(
    features: Tensor, labels: Tensor, weights: Tensor, start: tuple[Tensor, Tensor], newton_steps: int, steps: int
) -> tuple[Tensor, Tensor]:
    """Return filter (B, Q, K, K) and projection (B, Q, C) for the samples of a first frame.

    Args:
        features: x (B, N, C, h, h).
        labels: (B, N, h + 1, h + 1).
        weights: (B, N), of samples.
        start: the filter and the projection to begin with.
        newton_steps: Gauss-Newton steps, each with
        steps: conjugate gradient steps.
    """

    def residuals(found: Sequence[Tensor]) -> Tensor:
        filters, projection = found
        errors = _weighted_errors(projected(features, projection), filters, labels, weights)
        kept = (FILTER_WEIGHT**0.5 * filters.flatten(1), PROJECTION_WEIGHT**0.5 * projection.flatten(1))
        return torch.cat([errors, *kept], dim=1)

    filters, projection = gauss_newton(residuals, start, newton_steps, steps)
    return filters, projection


def learn_filter(features: Tensor, labels: Tensor, weights: Tensor, start: Tensor, steps: int) -> Tensor:
    """Return a filter (B, Q, K, K) for projected samples (B, N, Q, h, h): one Gauss-Newton step from `start`."""

    def residuals(found: Sequence[Tensor]) -> Tensor:
        errors = _weighted_errors(features, found[0], labels, weights)
        return torch.cat([errors, FILTER_WEIGHT**0.5 * found[0].flatten(1)], dim=1)

    return gauss_newton(residuals, (start,), 1, steps)[0]


def _weighted_errors(features: Tensor, filters: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    errors = score_maps(features, filters) - labels
    return (weights.sqrt()[..., None, None] * errors).flatten(1)


@torch.enable_grad()
def gauss_newton(
    residuals: Callable[[Sequence[Tensor]], Tensor], start: Sequence[Tensor], newton_steps: int, steps: int
) -> tuple[Tensor, ...]:
    """Return parameters that make |r|^2 of each row smaller; B problems at once, which know nothing of each other.

    Args:
        residuals: r (B, R) of parameters; row b depends on row b of each alone.
        start: the parameters (B, ...) to begin with.
        newton_steps: how often r is linearized.
        steps: conjugate gradient steps on each linear problem; a row that is solved already stays.
    """
    found = tuple(one.detach() for one in start)
    for _ in range(newton_steps):
        here = tuple(one.requires_grad_() for one in (value.clone() for value in found))
        error = residuals(here)
        probe = torch.zeros_like(error, requires_grad=True)
        pulled = torch.autograd.grad(error, here, probe, create_graph=True)  # J'u: linear in u, so its gradient is J

        def curved(
            direction: Sequence[Tensor],
            here: tuple[Tensor, ...] = here,
            error: Tensor = error,
            probe: Tensor = probe,
            pulled: tuple[Tensor, ...] = pulled,
        ) -> tuple[Tensor, ...]:
            """Return J'J times a direction."""
            (pushed,) = torch.autograd.grad(pulled, probe, tuple(direction), retain_graph=True)
            return torch.autograd.grad(error, here, pushed, retain_graph=True)

        downhill = torch.autograd.grad(error, here, -error.detach(), retain_graph=True)
        change = conjugate_gradients(curved, downhill, steps)
        found = tuple(value + one for value, one in zip(found, change, strict=True))
    return tuple(one.detach() for one in found)


@torch.no_grad()
def conjugate_gradients(
    product: Callable[[Sequence[Tensor]], Sequence[Tensor]], wanted: Sequence[Tensor], steps: int
) -> tuple[Tensor, ...]:
    """Return x near A x = b after some steps from 0, for B positive semidefinite systems at once.

    Args:
        product: A times tensors (B, ...).
        wanted: b, tensors (B, ...).
        steps: at most as many; a row whose residual is 0 stays as it is.
    """
    found = tuple(torch.zeros_like(one) for one in wanted)
    left = direction = tuple(wanted)
    before = _dot(left, left)
    for _ in range(steps):
        turned = product(direction)
        length = _ratio(before, _dot(direction, turned))
        found = _moved(found, length, direction)
        left = _moved(left, -length, turned)
        after = _dot(left, left)
        direction = _moved(left, _ratio(after, before), direction)
        before = after
    return found


def _dot(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    """Return inner products (B,)."""
    return sum((one * other).flatten(1).sum(1) for one, other in zip(first, second, strict=True))  # type: ignore


def _ratio(one: Tensor, other: Tensor) -> Tensor:
    return torch.where(other > 0, one / torch.where(other > 0, other, 1.0), 0.0)


def _moved(start: Sequence[Tensor], length: Tensor, direction: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return tuple(
        one + length.view(-1, *[1] * (one.dim() - 1)) * other for one, other in zip(start, direction, strict=True)
    )
