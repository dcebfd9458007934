"""A running mean and variance as buffers of a module, so that it travels with state_dict, export and resume.

Shapes: N rows in an update, D features, M sets of statistics (1 in training; one a member where policies of
several runs are stacked).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rlsuite.distributed import ranks
from rlsuite.errors import require_choice, require_finite

SOURCES = ("steps", "relabelled")


@dataclass(frozen=True, kw_only=True)
class NormalizerConfig:
    """How observations are standardized: ``clip((x - mean) / sqrt(max(variance + epsilon, minimum_std^2)))``.

    Attributes:
        clip: standardized values are clipped to plus or minus this.
        epsilon: added to the variance.
        minimum_std: the standard deviation counts as no less than this (0.01: HER).
        input_clip: raw values are clipped to plus or minus this first; 0 for not (200: HER).
        prior_rows: rows of zeros that the statistics start with (1: HER).
        source: what the statistics are of: "steps" (observations as they are met) or "relabelled" (those of whole
            episodes, goals replaced as in minibatches: HER; needs replay.hindsight).
    """

    clip: float = 10.0
    epsilon: float = 1e-4
    minimum_std: float = 0.0
    input_clip: float = 0.0
    prior_rows: int = 0
    source: str = "steps"

    def __post_init__(self) -> None:
        require_finite("agent.normalizer.clip", self.clip, above=0.0)
        for name in ("epsilon", "minimum_std", "input_clip", "prior_rows"):
            require_finite(f"agent.normalizer.{name}", getattr(self, name), low=0.0)
        both = self.epsilon + self.minimum_std
        require_finite("agent.normalizer.epsilon + agent.normalizer.minimum_std", both, above=0.0)
        require_choice("agent.normalizer.source", self.source, SOURCES)


@torch.no_grad()
def moments_of_all(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return number (0-d), mean and variance (without Bessel's correction) of the rows (N, ...) of all ranks together.

    Args:
        rows: this rank's; none is a number of rows, too.
    """
    number = rows.new_tensor(float(len(rows)))
    mean = rows.sum(dim=0) / number.clamp_min(1.0)
    spread = (rows - mean).square().sum(dim=0)
    found = ranks().gathered(torch.cat([number.reshape(1), mean.reshape(-1), spread.reshape(-1)]))
    numbers, means, spreads = found.split([1, mean.numel(), mean.numel()], dim=1)
    total = numbers.sum()
    middle = (numbers * means).sum(dim=0) / total
    variance = (spreads + numbers * (means - middle).square()).sum(dim=0) / total
    return total, middle.view_as(mean), variance.view_as(mean)


@torch.no_grad()
def merge_moments(count: Tensor, mean: Tensor, variance: Tensor, rows: Tensor) -> None:
    """Take rows (N, ...) of every rank into running moments in place: the parallel update of Chan et al. (1979).

    Args:
        count: rows seen so far.
        mean: their mean, of a shape that one row's broadcasts to.
        variance: their variance, without Bessel's correction.
        rows: float64, as the moments: after millions of rows a float32 count stops growing. A rank may have none, where
            another has some.
    """
    number: Tensor | int = rows.shape[0]
    if ranks().alone:
        rows_variance, rows_mean = torch.var_mean(rows, dim=0, correction=0)
    else:
        number, rows_mean, rows_variance = moments_of_all(rows)
    total = count + number
    weight = number / total
    delta = rows_mean - mean
    mean += delta * weight
    variance += (rows_variance - variance) * weight + delta.square() * weight * (1.0 - weight)
    count.copy_(total)


class RunningNormalizer(nn.Module):
    """Standardizes features by the mean and variance of all rows seen so far.

    Args:
        features: D.
        config: see NormalizerConfig; None for its defaults.
        num_sets: M, how many sets of statistics stand side by side.
    """

    def __init__(self, features: int, config: NormalizerConfig | None = None, *, num_sets: int = 1) -> None:
        super().__init__()
        self.config = config = config or NormalizerConfig()
        self.count: Tensor
        self.mean: Tensor
        self.variance: Tensor
        self.center: Tensor
        self.scale: Tensor
        self.register_buffer("count", torch.full((num_sets, 1, 1), float(config.prior_rows), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(num_sets, 1, features, dtype=torch.float64))
        spread = torch.zeros if config.prior_rows else torch.ones
        self.register_buffer("variance", spread(num_sets, 1, features, dtype=torch.float64))
        # What forward needs, kept in float32: standardized = (input - center) * scale.
        self.register_buffer("center", torch.zeros(num_sets, 1, features))
        self.register_buffer("scale", torch.ones(num_sets, 1, features))

    @torch.no_grad()
    def update(self, rows: Tensor) -> None:
        """Take rows (N, D) into the statistics of every set."""
        merge_moments(self.count, self.mean, self.variance, self._clipped(rows).to(torch.float64))
        variance = (self.variance + self.config.epsilon).clamp_min(self.config.minimum_std**2)
        self.scale.copy_(torch.rsqrt(variance))
        self.center.copy_(self.mean)

    def forward(self, inputs: Tensor) -> Tensor:
        """Standardize (..., B, D); with M > 1 the result is (M, B, D).

        Inputs in float64, with features that are large beside their deviation, lose no digits before the mean is taken
        off; the result is of the buffers' dtype, float32, whatever theirs.
        """
        # The difference first: a large, nearly constant feature would lose its digits in input * scale.
        center = self.mean if inputs.dtype == torch.float64 else self.center
        scaled = (self._clipped(inputs) - center).to(self.center.dtype).mul_(self.scale)
        if inputs.dim() == 2 and self.center.shape[0] == 1:
            scaled = scaled[0]
        return scaled.clamp_(-self.config.clip, self.config.clip)

    def _clipped(self, inputs: Tensor) -> Tensor:
        bound = self.config.input_clip
        return inputs.clamp(-bound, bound) if bound else inputs
