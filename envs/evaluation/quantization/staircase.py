"""Quantizers as sums of steps, which are sigmoids while they learn (Yang et al. 2019, arXiv:1911.09464).

    y = alpha (Y_1 + sum_i s_i A(beta x - b_i)),   s_i = Y_(i+1) - Y_i

A is the unit step; while it learns, sigmoid(T .) instead, whose temperature T rises until both are the same. Alpha and
beta are learned, one each a layer; b_i are midpoints between neighbouring clusters of beta x, learned or not. (The
paper writes Y_1 as -o, half the sum of the heights, for weights, whose levels are symmetric; inputs start at 0.)

Shapes: n steps, n + 1 levels.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from envs.evaluation.quantization.codes import index_bits
from envs.evaluation.quantization.rules import InputRule, WeightRule
from envs.evaluation.quantization.through import through
from rlsuite.errors import require

LEVELS: dict[str, tuple[int, ...]] = {
    "binary": (-1, 1),
    "ternary": (-1, 0, 1),
    "pm2": (-2, -1, 0, 1, 2),
    "pm4": (-4, -2, -1, 0, 1, 2, 4),
}
SATURATED = 10.0  # T (beta x - b) is kept within this (the authors' code)
SMALLEST_BETA = 1e-3
TRIMMED = 1e-3  # share of the values on each side that clusters are found without (as a port of the code to CIFAR-10)
KMEANS_STEPS = 100
CLUSTERED = 2**18  # values that clusters are found in, at most


def input_levels(bits: int, *, signed: bool) -> tuple[int, ...]:
    """Return the levels of inputs: 0 to 2^bits - 1; of those that may be negative as many on both sides of 0."""
    if not signed:
        return tuple(range(2**bits))
    side = max(1, 2 ** (bits - 1) - 1)
    return tuple(level for level in range(-side, side + 1) if level or bits > 1)


class Staircase(nn.Module):
    """A sum of steps: soft in training mode, hard in evaluation.

    Attributes:
        alpha, beta: () learned.
        thresholds: b (n,), a parameter where they are learned.
        temperature: T.
        soft: whether it is soft in evaluation, too.

    Args:
        levels: Y, rising.
        learn_thresholds: whether b learn; in the authors' code they do not.
        blunt: take the gradient from sigmoids at T = 1, T times (the authors' code, for weights of few levels):
            weights far from every step learn, too.
    """

    heights: Tensor
    values: Tensor

    def __init__(self, levels: Sequence[int], *, learn_thresholds: bool = False, blunt: bool = False) -> None:
        super().__init__()
        self.levels, self.blunt, self.temperature, self.soft = tuple(levels), blunt, 1.0, False
        values = torch.tensor(self.levels, dtype=torch.float32)
        self.register_buffer("values", values, persistent=False)
        self.register_buffer("heights", values[1:] - values[:-1], persistent=False)
        self.alpha, self.beta = nn.Parameter(torch.ones(())), nn.Parameter(torch.ones(()))
        middles = (values[1:] + values[:-1]) / 2.0
        if learn_thresholds:
            self.thresholds = nn.Parameter(middles)
        else:
            self.register_buffer("thresholds", middles)

    @torch.no_grad()
    def start(self, values: Tensor, beta: float | None = None) -> None:
        """Start at beta = 5 p / (4 q), alpha = 1 / beta, p the largest level and q the largest value; b at clusters.

        Args:
            values: of any shape.
            beta: where it starts, if not there.

        Raises:
            UserError: if all values are 0, or one is not finite.
        """
        largest = float(values.abs().max())
        require(
            0.0 < largest < float("inf"), f"the largest value is {largest}; there are no levels to find for such values"
        )
        start = beta if beta is not None else 5.0 * max(map(abs, self.levels)) / (4.0 * largest)
        self.beta.fill_(start)
        self.alpha.fill_(1.0 / start)
        self.thresholds.copy_(cluster_thresholds(values * start, self.levels))

    def positive_beta(self) -> Tensor:
        """Return beta kept above zero; one that has fallen below can still come back."""
        return through(self.beta.clamp_min(SMALLEST_BETA), self.beta)

    def codes(self, values: Tensor) -> Tensor:
        """Return the places of values among the levels, int32: how many steps they are above."""
        return torch.bucketize(
            self.positive_beta().detach() * values.detach(), self.sorted_thresholds().detach(), out_int32=True
        )

    def sorted_thresholds(self) -> Tensor:
        """Return b, rising, with gradients: learned ones may pass each other, and a step keeps its place and height."""
        return self.thresholds.sort().values

    def hard(self, values: Tensor) -> Tensor:
        """Return the quantized values, with gradients as if nothing had been done to them, for who attacks inputs."""
        return through(self.alpha.detach() * self.values[self.codes(values).long()], values)

    def forward(self, values: Tensor) -> Tensor:
        """Return quantized values: softly while it learns, with gradients for all that learns."""
        if not (self.training or self.soft):
            return self.hard(values)
        if not self.blunt:
            return self.alpha * self._sum(values, self.temperature)
        with torch.no_grad():
            soft = self._sum(values, self.temperature)
        smooth = self.alpha.detach() * self.temperature * self._sum(values, 1.0) + self.alpha * soft
        return through(self.alpha.detach() * soft, smooth)

    def _sum(self, values: Tensor, temperature: float) -> Tensor:
        """Return Y_1 + sum_i s_i sigmoid(T (beta x - b_i)), b rising: steps need not be equally high."""
        scaled = self.positive_beta() * values
        total = torch.full_like(scaled, float(self.levels[0]))
        for threshold, height in zip(self.sorted_thresholds(), self.heights, strict=True):
            argument = temperature * (scaled - threshold)
            # The gradient is that of the sigmoid at the clamped value, as the authors' code has it: never 0.
            total = total + height * torch.sigmoid(through(argument.clamp(-SATURATED, SATURATED), argument))
        return total

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *arguments: Any) -> None:
        beta = state_dict.get(f"{prefix}beta")
        if isinstance(beta, Tensor) and beta.device.type != "meta":
            require(bool((beta > 0.0).all()), f"{prefix}beta={beta.tolist()}: a scale of 0 or less has no levels")
        super()._load_from_state_dict(state_dict, prefix, *arguments)


class StepWeights(nn.Module, WeightRule):
    """Weights by a staircase that learns with them.

    Args:
        levels: Y.
        learn_thresholds: see Staircase.
        blunt: see Staircase.
    """

    def __init__(self, levels: Sequence[int], *, learn_thresholds: bool = False, blunt: bool = False) -> None:
        nn.Module.__init__(self)
        WeightRule.__init__(self, index_bits(len(levels)))
        self.staircase = Staircase(levels, learn_thresholds=learn_thresholds, blunt=blunt)

    def codes(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return places among the levels, and alpha ()."""
        return self.staircase.codes(weight), self.staircase.alpha.detach().clone()

    def values(self, codes: Tensor, scale: Tensor) -> Tensor:
        """Return levels times alpha."""
        return scale * self.staircase.values[codes.long()]

    def quantize(self, weight: Tensor) -> Tensor:
        """Return the quantized weights, soft while they learn."""
        return self.staircase(weight)

    def fixed(self) -> WeightRule:
        """Return the rule of a layer that learns no more: alpha is its scale, and beta and b are needed no more."""
        return LevelWeights(self)


class LevelWeights(WeightRule):
    """Weights that are levels times a scale.

    Args:
        learned: what says how weights became codes.
    """

    def __init__(self, learned: StepWeights) -> None:
        super().__init__(learned.bits)
        self.levels, self._learned = learned.staircase.levels, [learned]  # in a list: no part of a module's state

    def codes(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the rule that learned says."""
        return self._learned[0].codes(weight)

    def values(self, codes: Tensor, scale: Tensor) -> Tensor:
        """Return levels times alpha."""
        return scale * torch.tensor(self.levels, dtype=torch.float32, device=scale.device)[codes.long()]


class StepInput(InputRule):
    """Inputs by a staircase.

    Attributes:
        passing: let inputs through as they are, while weights alone learn.

    Args:
        bits: of an input.
        signed: whether inputs may be negative.
        learn_thresholds: see Staircase.
        blunt: see Staircase.
    """

    def __init__(self, bits: int, *, signed: bool, learn_thresholds: bool = False, blunt: bool = False) -> None:
        super().__init__(bits)
        levels = input_levels(bits, signed=signed)
        self.staircase = Staircase(levels, learn_thresholds=learn_thresholds, blunt=blunt)
        self.passing = False

    def forward(self, inputs: Tensor) -> Tensor:
        """Return quantized inputs, soft while they learn."""
        return inputs if self.passing else self.staircase(inputs)


def cluster_thresholds(values: Tensor, levels: Sequence[int]) -> Tensor:
    """Return midpoints (n,) float32 between neighbouring clusters of values, as many clusters as levels.

    Clusters are those of Lloyd's k-means, begun at quantiles of the different values, without the outermost 0.1 % on
    each side. Where there are fewer different values than levels, the levels' own midpoints.
    """
    flat = values.detach().flatten().double().sort().values
    flat = flat[:: -(-len(flat) // CLUSTERED)]
    cut = int(TRIMMED * len(flat))
    flat = flat[cut : len(flat) - cut].contiguous()
    different = flat.unique()
    if len(different) < len(levels):
        steps = torch.tensor(levels, dtype=torch.float32)
        return (steps[1:] + steps[:-1]) / 2.0
    share = (torch.arange(len(levels), dtype=torch.float64, device=flat.device) + 0.5) / len(levels)
    centres = different[(share * len(different)).long()]
    sums = torch.cat([flat.new_zeros(1), flat.cumsum(0)])
    for _ in range(KMEANS_STEPS):
        middles = (centres[1:] + centres[:-1]) / 2.0
        ends = torch.cat([torch.searchsorted(flat, middles), torch.tensor([len(flat)], device=flat.device)])
        starts = torch.cat([ends.new_zeros(1), ends[:-1]])
        found = torch.where(ends > starts, (sums[ends] - sums[starts]) / (ends - starts).clamp_min(1), centres)
        if torch.equal(found, centres):
            break
        centres = found
    return ((centres[1:] + centres[:-1]) / 2.0).float()


def staircases(module: nn.Module) -> Iterator[Staircase]:
    """Return all staircases of a network."""
    return (part for part in module.modules() if isinstance(part, Staircase))


def set_temperature(module: nn.Module, temperature: float) -> None:
    """Give all staircases of a network a temperature."""
    for part in staircases(module):
        part.temperature = temperature


@contextlib.contextmanager
def softly(module: nn.Module, temperature: float | None = None) -> Iterator[None]:
    """Let all staircases of a network be soft in evaluation for a while, at their temperature or another."""
    before = [(part, part.soft, part.temperature) for part in staircases(module)]
    for part, _, own in before:
        part.soft, part.temperature = True, own if temperature is None else temperature
    try:
        yield
    finally:
        for part, soft, own in before:
            part.soft, part.temperature = soft, own
