"""A running mean and variance as buffers of a module, so that it travels with state_dict, export and resume.

Shapes: N rows in an update, D features, M sets of statistics (1 in training; one a member where policies of
several runs are stacked).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.no_grad()
def merge_moments(count: Tensor, mean: Tensor, variance: Tensor, rows: Tensor) -> None:
    """Take rows (N, ...) into running moments in place: the parallel update of Chan et al. (1979).

    Args:
        count: rows seen so far.
        mean: their mean, of a shape that one row's broadcasts to.
        variance: their variance, without Bessel's correction.
        rows: float64, as the moments: after millions of rows a float32 count stops growing.
    """
    rows_variance, rows_mean = torch.var_mean(rows, dim=0, correction=0)
    total = count + rows.shape[0]
    weight = rows.shape[0] / total
    delta = rows_mean - mean
    mean += delta * weight
    variance += (rows_variance - variance) * weight + delta.square() * weight * (1.0 - weight)
    count.copy_(total)


class RunningNormalizer(nn.Module):
    """Standardizes features by the mean and variance of all rows seen so far.

    Args:
        features: D.
        num_sets: M, how many sets of statistics stand side by side.
        clip: standardized values are clipped to plus or minus this.
        epsilon: added to the variance.
    """

    def __init__(self, features: int, *, num_sets: int = 1, clip: float = 10.0, epsilon: float = 1e-4) -> None:
        super().__init__()
        self.clip, self.epsilon = clip, epsilon
        self.count: Tensor
        self.mean: Tensor
        self.variance: Tensor
        self.center: Tensor
        self.scale: Tensor
        self.register_buffer("count", torch.zeros(num_sets, 1, 1, dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(num_sets, 1, features, dtype=torch.float64))
        self.register_buffer("variance", torch.ones(num_sets, 1, features, dtype=torch.float64))
        # What forward needs, kept in float32: standardized = (input - center) * scale.
        self.register_buffer("center", torch.zeros(num_sets, 1, features))
        self.register_buffer("scale", torch.ones(num_sets, 1, features))

    @torch.no_grad()
    def update(self, rows: Tensor) -> None:
        """Take rows (N, D) into the statistics of every set."""
        merge_moments(self.count, self.mean, self.variance, rows.to(torch.float64))
        scale = torch.rsqrt(self.variance + self.epsilon)
        self.scale.copy_(scale)
        self.center.copy_(self.mean)

    def forward(self, inputs: Tensor) -> Tensor:
        """Standardize (..., B, D); with M > 1 the result is (M, B, D)."""
        # The difference first: a large, nearly constant feature would lose its digits in input * scale.
        scaled = (inputs - self.center).mul_(self.scale)
        if inputs.dim() == 2 and self.center.shape[0] == 1:
            scaled = scaled[0]
        return scaled.clamp_(-self.clip, self.clip)
