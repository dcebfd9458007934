"""Reward scaling by observed returns, so that values fit one fixed range whatever the task pays.

Shapes: N environments.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlsuite.distributed import ranks
from rlsuite.nn.normalizer import merge_moments


class ReturnScaler(nn.Module):
    """Divides rewards so that discounted returns have standard deviation 1 at most and stay within a bound.

    G <- r + gamma * G in each environment, starting over with each episode; the divisor is the larger of the running
    standard deviation of G and max|G| / bound (SimbaV2, Lee et al. 2025, arXiv:2502.15280). A categorical critic with
    support [-bound, bound] then holds every return seen.

    Values that are bootstrapped through time limits are larger than any return within an episode: reward 1 for ever is
    worth 1 / (1 - gamma), of which T steps show the share 1 - gamma^T. With `through_time_limits` the max|G| of an
    episode that a limit cut after T steps is therefore divided by 1 - gamma^T, as if such episodes followed one another
    without end. Before the first episode is cut, T is not known.

    Args:
        num_envs: N.
        discount: gamma; below 1 with `through_time_limits`.
        bound: largest scaled return.
        through_time_limits: whether values are bootstrapped where a time limit cuts an episode.
    """

    def __init__(self, num_envs: int, discount: float, bound: float, *, through_time_limits: bool = False) -> None:
        super().__init__()
        self.discount, self.bound, self.through_time_limits = discount, bound, through_time_limits
        self.running: Tensor
        self.count: Tensor
        self.mean: Tensor
        self.variance: Tensor
        self.largest: Tensor
        self.scale: Tensor
        self.register_buffer("running", torch.zeros(num_envs, dtype=torch.float64))
        for name in ("count", "mean", "variance", "largest"):
            self.register_buffer(name, torch.zeros((), dtype=torch.float64))
        self.register_buffer("scale", torch.ones(()))
        self.peak: Tensor
        self.length: Tensor
        if through_time_limits:  # of the running episodes: max|G| and steps
            for name in ("peak", "length"):
                self.register_buffer(name, torch.zeros(num_envs, dtype=torch.float64))

    @torch.no_grad()
    def update(self, reward: Tensor, ended: Tensor, cut: Tensor | None = None) -> None:
        """Take in one step's rewards (N,) and ends of episodes (N,) bool; `cut` (N,) are those a time limit made."""
        self.running.mul_(self.discount).add_(reward)
        merge_moments(self.count, self.mean, self.variance, self.running)
        reached = self.running.abs()
        if self.through_time_limits:
            assert cut is not None
            self.length += 1.0
            self.peak.copy_(torch.maximum(self.peak, reached))
            reached = torch.where(cut, self.peak / (1.0 - self.discount**self.length), reached)
            self.length.masked_fill_(ended, 0.0)
            self.peak.masked_fill_(ended, 0.0)
        self.largest.copy_(torch.maximum(self.largest, ranks().largest(reached.max())))
        divisor = torch.maximum((self.variance + 1e-8).sqrt(), self.largest / self.bound)
        self.scale.copy_(1.0 / divisor)
        self.running.masked_fill_(ended, 0.0)

    def interrupt(self) -> None:
        """Begin a new episode in every environment: theirs could not go on."""
        self.running.zero_()
        if self.through_time_limits:
            self.peak.zero_()
            self.length.zero_()

    def forward(self, reward: Tensor) -> Tensor:
        """Scale rewards, or n-step sums of them, of any shape."""
        return reward * self.scale

    def unscaled(self, reward: Tensor) -> Tensor:
        """Return the rewards that forward has scaled."""
        return reward / self.scale
