"""Losses on density maps that look at several scales (NAS-Count, Hu et al. 2020, arXiv:2003.00217).

    L_SPP = sum_{j=0..S} (1 / N_j) ||E_j - G_j||^2,    E_j, G_j = pool_j(E_{j-1}), pool_j(G_{j-1})

A mean of squares treats pixels as if they stood alone; pooled levels punish a wrong local count. In a search the pool
of each level is a mixture of candidates whose weights learn with the architecture. No code was published: candidates
(largest and mean, windows 2, 4, 6, stride 2) and S = 3 are recalled, the rest chosen here.

Counts are conserved by a sum of windows only where window = stride and sides are multiples of it; overlapping windows
count mass several times, and the largest of a window is no count.

Shapes: B batch, H x W pixels, N_j entries of level j, K candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from rlsuite.errors import require, require_choice

KINDS = ("mean", "largest", "sum")


@dataclass(frozen=True)
class Pooling:
    """One pooling of a level.

    Attributes:
        kind: "mean", "largest", or "sum" (of the window's pixels).
        window: its side.
        stride: pixels between windows.
    """

    kind: str = "mean"
    window: int = 2
    stride: int = 2

    def __post_init__(self) -> None:
        require_choice("kind", self.kind, KINDS)
        for name in ("window", "stride"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")

    def __call__(self, maps: Tensor) -> Tensor:
        """Map (B, 1, H, W) to (B, 1, ceil(H / stride), ceil(W / stride)); what a window lacks at the border is 0."""
        height, width = maps.shape[2:]
        missing = [max(0, (-(-side // self.stride) - 1) * self.stride + self.window - side) for side in (height, width)]
        rows, columns = missing
        maps = functional.pad(maps, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
        if self.kind == "largest":
            return functional.max_pool2d(maps, self.window, self.stride)
        found = functional.avg_pool2d(maps, self.window, self.stride)
        return found * self.window**2 if self.kind == "sum" else found


CANDIDATES = tuple(Pooling(kind, window) for kind in ("mean", "largest") for window in (2, 4, 6))


class SPPLoss(nn.Module):
    """The pyramid's loss.

    Args:
        levels: S, above the maps themselves.
        poolings: one for each level, or one for all.
        weights: of each level, the maps' own first; () for 1. With sums, 1 / 4^j gives every level alike.

    Raises:
        UserError: for another number of poolings or weights.
    """

    def __init__(
        self, levels: int = 3, poolings: Sequence[Pooling] = (Pooling(),), weights: Sequence[float] = ()
    ) -> None:
        super().__init__()
        require(levels >= 0, f"levels={levels}: use 0 (a mean of squares) or more")
        self.poolings = tuple(poolings) * levels if len(poolings) == 1 else tuple(poolings)
        require(len(self.poolings) == levels, f"poolings: there are {len(self.poolings)} for {levels} levels")
        self.level_weights = tuple(weights) or (1.0,) * (levels + 1)
        require(len(self.level_weights) == levels + 1, f"weights: use {levels + 1}, the maps' own first")

    def pyramid(self, maps: Tensor) -> list[Tensor]:
        """Return the maps (B, 1, H, W) and what each level makes of them."""
        found = [maps]
        for pooling in self.poolings:
            found.append(pooling(found[-1]))
        return found

    def each(self, predicted: Tensor, true: Tensor) -> Tensor:
        """Return each level's weighted part of each picture's loss, (S + 1, B)."""
        pairs = zip(self.level_weights, self.pyramid(predicted), self.pyramid(true), strict=True)
        return torch.stack([weight * (one - other).square().flatten(1).mean(1) for weight, one, other in pairs])

    def terms(self, predicted: Tensor, true: Tensor) -> Tensor:
        """Return each level's weighted part of the loss, (S + 1,)."""
        return self.each(predicted, true).mean(1)

    def forward(self, predicted: Tensor, true: Tensor) -> Tensor:
        """Return the loss of maps (B, 1, H, W)."""
        return self.terms(predicted, true).sum()

    def gradient_shares(self, predicted: Tensor, true: Tensor) -> Tensor:
        """Return the share of each level (S + 1,) in the sum of gradients' norms: which level rules the learning."""
        maps = predicted.detach().requires_grad_(True)
        terms = self.terms(maps, true)
        norms = torch.stack([torch.autograd.grad(term, maps, retain_graph=True)[0].norm() for term in terms])
        return norms / norms.sum().clamp_min(torch.finfo(norms.dtype).tiny)


class SearchedSPPLoss(SPPLoss):
    """The pyramid's loss whose poolings are mixtures that learn; the same mixture for what is predicted and true.

    Args:
        levels: S.
        candidates: K poolings of one stride.
        weights: as in SPPLoss.

    Attributes:
        choices: (S, K), the softmax over K weighs candidates.
    """

    def __init__(
        self, levels: int = 3, candidates: Sequence[Pooling] = CANDIDATES, weights: Sequence[float] = ()
    ) -> None:
        super().__init__(levels, tuple(candidates[:1]) * levels, weights)
        strides = {pooling.stride for pooling in candidates}
        require(len(strides) == 1, f"candidates have strides {sorted(strides)}; a mixture needs one")
        self.candidates = tuple(candidates)
        self.choices = nn.Parameter(torch.zeros(levels, len(candidates)))

    def pyramid(self, maps: Tensor) -> list[Tensor]:
        """Return the maps and what each level's mixture makes of them."""
        found = [maps]
        for weights in self.choices.softmax(1):
            pooled = [pooling(found[-1]) for pooling in self.candidates]
            found.append(torch.einsum("k,kbchw->bchw", weights, torch.stack(pooled)))
        return found

    def found(self) -> SPPLoss:
        """Return the loss with the strongest candidate of each level."""
        places = self.choices.argmax(1).tolist()
        return SPPLoss(len(places), tuple(self.candidates[place] for place in places), self.level_weights)


def consistency_loss(predicted: Tensor, true: Tensor, sizes: Sequence[int] = (1, 2, 4)) -> Tensor:
    """Return sum_j (1 / k_j) ||pool(E, k_j) - pool(G, k_j)||_1, a mean over the batch; pools are means to k_j x k_j.

    The related form of Dai et al. 2019 (DSNet, arXiv:1906.09707), by hand.

    Args:
        predicted: E (B, 1, H, W).
        true: G.
        sizes: k_j.
    """
    off = predicted - true
    terms = [functional.adaptive_avg_pool2d(off, size).abs().flatten(1).sum(1) / size for size in sizes]
    return torch.stack(terms).sum(0).mean()
