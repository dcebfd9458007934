"""Convolutional sparse coding: pictures as sums of a few small kernels, both learned, with what is unknown masked out.

    min over d, z of  residual / 2 * |mask * (b - sum_k d_k * z_k)|^2 + sparsity * |z|_1,   |d_k| <= 1, of SIZE x SIZE

by alternating two runs of ADMM (FFCSC, Heide et al. 2015, "Fast and flexible convolutional sparse coding"), the linear
solves frequency by frequency by the matrix inversion lemma. CoGD (Zhuo et al. 2020, arXiv:2006.09142) corrects what
comes out of them, in one of two ways:

- "text": the paper's rule, `rlsuite.optim.cogradient`: entries of a code that are small while their kernel is not go
  back towards what they were; an entry's column of A is its kernel at its place. The rate is that of plain proximal
  descent, one over the largest curvature in z.
- "official": what the authors' script does instead: it sends the *kernels* back where the codes are largest.

"plain" does neither. In all three the duals go on from one round to the next, and a round in which neither objective
improves on the best so far is undone, as the script does; there a loop bound of eight bits lets at most 255 entries go
back, which is `limit`.

Shapes: n pictures of H x W, K kernels of S x S; codes are on the padded grid of (H + S - 1) x (W + S - 1).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from rlsuite.errors import require, require_choice, require_finite
from rlsuite.optim.cogradient import Cogradient, CogradientConfig
from rlsuite.optim.proximal import soft_threshold

VARIANTS = ("plain", "text", "official")


@dataclass(frozen=True, kw_only=True)
class CodingConfig:
    """The numbers of the paper's script; its kernels are 100 of 11 x 11.

    Attributes:
        kernels: K.
        size: S, odd.
        residual: weight of what is not reconstructed.
        sparsity: weight of the codes' l1 norm.
        rounds: of a kernel update and a code update each.
        inner: steps of ADMM in each update.
        variant: "plain" (FFCSC), "text" or "official" (CoGD as above).
        limit: entries that "official" sends back at most; 0 for no limit.
        cogradient: when and how far "text" sends codes back.
    """

    kernels: int = 100
    size: int = 11
    residual: float = 1.0
    sparsity: float = 1.0
    rounds: int = 20
    inner: int = 10
    variant: str = "text"
    limit: int = 255
    cogradient: CogradientConfig = field(default_factory=CogradientConfig)

    def __post_init__(self) -> None:
        for name in ("kernels", "size", "rounds", "inner"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require(self.size % 2 == 1, f"size={self.size}: use an odd one")
        require_finite("residual", self.residual, above=0.0)
        require_finite("sparsity", self.sparsity, above=0.0)
        require_choice("variant", self.variant, VARIANTS)
        require(self.limit >= 0, f"limit={self.limit}: use 0 (none) or more")


class Coding(NamedTuple):
    """What was learned.

    Attributes:
        kernels: (K, S, S).
        codes: (n, K, H + S - 1, W + S - 1).
        pictures: (n, H, W), the kernels' sums, where nothing was known, too.
        objectives: (rounds, 2) after each kernel update and each code update.
        sent_back: share of the codes' entries that "text" changed, over all rounds.
        undone: rounds that were undone.
    """

    kernels: Tensor
    codes: Tensor
    pictures: Tensor
    objectives: Tensor
    sent_back: float
    undone: int


def learn(pictures: Tensor, config: CodingConfig, *, seed: int, known: Tensor | None = None) -> Coding:
    """Return kernels and codes of pictures (n, H, W), floats of zero mean.

    Args:
        pictures: what is coded; where nothing is known, any finite numbers.
        config: how.
        seed: of the first kernels and codes, both normally distributed.
        known: (n, H, W) of 1 where a pixel is known and 0 where it is to be painted in; None for all known.

    Raises:
        UserError: if no known pixel is above 0, as of blank pictures; penalties are shares of the largest.
    """
    grid = _Grid(pictures, config, known)
    generator = torch.Generator().manual_seed(seed)
    number, (height, width) = len(pictures), grid.mask.shape[1:]
    kernels = grid.spread(torch.randn(config.kernels, config.size, config.size, generator=generator).to(pictures))
    codes = torch.randn(number, config.kernels, height, width, generator=generator).to(pictures)
    kernel_duals = [torch.zeros_like(grid.target), torch.zeros_like(kernels)]
    code_duals = [torch.zeros_like(grid.target), torch.zeros_like(codes)]
    back, objectives, undone = Cogradient(config.cogradient), [], 0
    best = torch.full((2,), torch.inf, dtype=pictures.dtype, device=pictures.device)

    for number_done in range(config.rounds):
        before = kernels, codes
        kernels = grid.update_kernels(kernels, codes, kernel_duals)
        if config.variant == "official":
            kernels = send_kernels_back(grid, kernels, before[0], codes, number_done, known is not None)
        found = [grid.objective(kernels, codes)]
        lost = grid.residuals(kernels, codes)
        codes = grid.update_codes(kernels, codes, code_duals)
        if config.variant == "text":
            rate = 1.0 / float(grid.curvature(kernels))
            size = kernels.abs().sum((1, 2))[:, None, None]
            codes = back.after(codes, before[1], kernels, size, functools.partial(grid.correlate, lost), rate)
        found.append(grid.objective(kernels, codes))
        objectives.append(torch.stack(found))
        if (objectives[-1] >= best).all():
            kernels, codes = before
            undone += 1
        best = torch.minimum(best, objectives[-1])
    kernels = grid.feasible(kernels)
    made = grid.sums(kernels, codes)
    return Coding(
        grid.gathered(kernels),
        codes,
        made[:, grid.radius : -grid.radius or None, grid.radius : -grid.radius or None],
        torch.stack(objectives),
        float(back.fired) / max(1, back.asked),
        undone,
    )


def send_kernels_back(grid: _Grid, kernels: Tensor, old: Tensor, codes: Tensor, done: int, painting_in: bool) -> Tensor:
    """Return kernels (K, H, W) whose entries of the largest codes went back towards the old ones: the script's rule.

    A share (I - i) / 2I of all entries in round i of I, and almost the whole way; where pixels are missing a third
    instead of a half, by 0.1 c p d_old with p = min(|z - z_old| / (|d - d_old| + 1e-5), 1) and c = 0.05 times the sum
    of the residuals. As codes are of before their update, p's first norm is taken of the codes themselves.
    """
    config = grid.config
    share = (config.rounds - done - 1) / ((3 if painting_in else 2) * config.rounds)
    count = int(share * kernels.numel())
    count = min(count, config.limit) if config.limit else count
    chosen = codes.abs().sum(0).flatten().topk(count).indices
    flat, before = kernels.flatten().clone(), old.flatten()
    if painting_in:
        moved = codes.norm() / ((kernels - old).norm() + 1e-5)
        far = 0.1 * 0.05 * grid.residuals(kernels, codes).sum() * moved.clamp(max=1.0)
        flat[chosen] += far * before[chosen]
    else:
        flat[chosen] = 0.01 * flat[chosen] + 0.99 * before[chosen]
    return flat.view_as(kernels)


class _Grid:
    """The problem on the padded grid, where convolutions are products of Fourier coefficients."""

    def __init__(self, pictures: Tensor, config: CodingConfig, known: Tensor | None) -> None:
        self.config, self.radius = config, config.size // 2
        sides = (self.radius,) * 4
        known = torch.ones_like(pictures) if known is None else known.to(pictures)
        self.mask = functional.pad(known, sides)
        self.target = self.mask * functional.pad(pictures, sides)
        self.side = self.target.shape[1:]
        peak = float(self.target.max())
        require(
            peak > 0.0, f"pictures: the largest known pixel is {peak:g}; code some that are not blank, of zero mean"
        )
        heuristic = 60.0 * config.sparsity / peak  # the script's, of all penalties
        self.kernel_penalties = heuristic / 5000.0, heuristic
        self.code_penalties = heuristic / 500.0, heuristic

    # -- between kernels and the grid: the kernel's middle lies at the grid's first place ---------------------

    def spread(self, kernels: Tensor) -> Tensor:
        """Return kernels (K, S, S) on the grid (K, H, W)."""
        rows, columns = (side - self.config.size for side in self.side)
        return functional.pad(kernels, (0, columns, 0, rows)).roll((-self.radius, -self.radius), (1, 2))

    def gathered(self, kernels: Tensor) -> Tensor:
        """Return kernels on the grid (K, H, W) cut to (K, S, S)."""
        size = self.config.size
        return kernels.roll((self.radius, self.radius), (1, 2))[:, :size, :size]

    def feasible(self, kernels: Tensor) -> Tensor:
        """Return the nearest kernels of S x S with norms of 1 or less."""
        small = self.gathered(kernels)
        return self.spread(small / small.flatten(1).norm(dim=1).clamp_min(1.0)[:, None, None])

    # -- Fourier ---------------------------------------------------------------------------------------------

    def to(self, values: Tensor) -> Tensor:
        return torch.fft.rfft2(values)

    def back(self, values: Tensor) -> Tensor:
        return torch.fft.irfft2(values, s=tuple(self.side))

    # -- the objective, and what follows from it -------------------------------------------------------------

    def sums(self, kernels: Tensor, codes: Tensor) -> Tensor:
        """Return the pictures (n, H, W) that codes and kernels make."""
        return self.back((self.to(codes) * self.to(kernels)).sum(1))

    def residuals(self, kernels: Tensor, codes: Tensor) -> Tensor:
        return self.mask * self.sums(kernels, codes) - self.target

    def objective(self, kernels: Tensor, codes: Tensor) -> Tensor:
        lost = self.residuals(kernels, codes).square().sum()
        return 0.5 * self.config.residual * lost + self.config.sparsity * codes.abs().sum()

    def correlate(self, residuals: Tensor, kernels: Tensor) -> Tensor:
        """Return how residuals (n, H, W) go along with kernels (K, H, W) at every place (n, K, H, W)."""
        found = self.to(residuals).unsqueeze(1) * self.to(kernels).conj()
        return self.config.residual * self.back(found)

    def curvature(self, kernels: Tensor) -> Tensor:
        """Return the largest curvature of the objective's smooth part in the codes."""
        return self.config.residual * self.to(kernels).abs().square().sum(0).max().clamp_min(1e-12)

    # -- ADMM ------------------------------------------------------------------------------------------------

    def update_kernels(self, kernels: Tensor, codes: Tensor, duals: list[Tensor]) -> Tensor:
        """Return kernels after `inner` steps, the codes held; `duals` go on."""
        seen = self.to(codes)  # (n, K, F1, F2)
        first, second = self.kernel_penalties
        ratio = second / first
        by_frequency = seen.permute(2, 3, 0, 1)
        gram = by_frequency @ by_frequency.mH + ratio * torch.eye(len(codes)).to(by_frequency)
        inverse = torch.linalg.inv(gram)

        def solve(pictures: Tensor, wanted: Tensor) -> Tensor:
            right = (seen.conj() * pictures.unsqueeze(1)).sum(0) + ratio * wanted
            inner = (seen * right).sum(1).permute(1, 2, 0).unsqueeze(-1)
            spread = (inverse @ inner).squeeze(-1).permute(2, 0, 1)
            return (right - (seen.conj() * spread.unsqueeze(1)).sum(0)) / ratio

        def picture(kernels: Tensor) -> Tensor:
            return self.back((seen * self.to(kernels)).sum(1))

        return self._alternate(kernels, picture, solve, self.feasible, first, duals)

    def update_codes(self, kernels: Tensor, codes: Tensor, duals: list[Tensor]) -> Tensor:
        """Return codes after `inner` steps, the kernels held; `duals` go on."""
        seen = self.to(kernels)  # (K, F1, F2)
        first, second = self.code_penalties
        ratio = second / first
        power = seen.abs().square().sum(0)

        def solve(pictures: Tensor, wanted: Tensor) -> Tensor:
            right = seen.conj() * pictures.unsqueeze(1) + ratio * wanted
            inner = (seen * right).sum(1) / (ratio + power)
            return (right - seen.conj() * inner.unsqueeze(1)) / ratio

        def picture(codes: Tensor) -> Tensor:
            return self.back((seen * self.to(codes)).sum(1))

        by = self.config.sparsity / second
        return self._alternate(codes, picture, solve, lambda value: soft_threshold(value, by), first, duals)

    def _alternate(
        self,
        value: Tensor,
        picture: Callable[[Tensor], Tensor],
        solve: Callable[[Tensor, Tensor], Tensor],
        prox: Callable[[Tensor], Tensor],
        penalty: float,
        duals: list[Tensor],
    ) -> Tensor:
        theta = self.config.residual / penalty
        for _ in range(self.config.inner):
            made = picture(value)
            pictures = (self.target + (made - duals[0]) / theta) / (self.mask + 1.0 / theta)
            wanted = prox(value - duals[1])
            duals[0] = duals[0] - (made - pictures)
            duals[1] = duals[1] - (value - wanted)
            value = self.back(solve(self.to(pictures + duals[0]), self.to(wanted + duals[1])))
        return value


def normalized(pictures: Tensor, deviation: float = 3.0) -> Tensor:
    """Return pictures (n, H, W) with local contrast normalized, of zero mean: what the kernels are learned from.

    Each pixel minus the mean around it, over the deviation around it (no less than that deviation's mean).
    """
    reach = int(2 * deviation)
    places = torch.arange(-reach, reach + 1, dtype=pictures.dtype, device=pictures.device)
    window = torch.exp(-0.5 * (places / deviation).square())
    window = window / window.sum()

    def smooth(values: Tensor) -> Tensor:
        padded = functional.pad(values.unsqueeze(1), (reach,) * 4, mode="reflect")
        rows = functional.conv2d(padded, window.view(1, 1, -1, 1))
        return functional.conv2d(rows, window.view(1, 1, 1, -1)).squeeze(1)

    centred = pictures - smooth(pictures)
    spread = smooth(centred.square()).clamp_min(0.0).sqrt()
    floor = spread.flatten(1).mean(1)[:, None, None].clamp_min(1e-6)
    found = centred / torch.maximum(spread, floor)
    return found - found.flatten(1).mean(1)[:, None, None]
