"""Reward scaling by observed returns, so that values fit one fixed range whatever the task pays.

Shapes: N environments.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlsuite.nn.normalizer import merge_moments


class ReturnScaler(nn.Module):
    """Divides rewards so that discounted returns have standard deviation 1 at most and stay within a bound.

    G <- r + gamma * G in each environment, starting over with each episode; the divisor is the larger of the running
    standard deviation of G and max|G| / bound (SimbaV2, Lee et al. 2025, arXiv:2502.15280). A categorical critic with
    support [-bound, bound] then holds every return seen.

    Args:
        num_envs: N.
        discount: gamma.
        bound: largest scaled return.
    """

    def __init__(self, num_envs: int, discount: float, bound: float) -> None:
        super().__init__()
        self.discount, self.bound = discount, bound
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

    @torch.no_grad()
    def update(self, reward: Tensor, ended: Tensor) -> None:
        """Take in one step's rewards (N,) and ends of episodes (N,) bool."""
        self.running.mul_(self.discount).add_(reward)
        merge_moments(self.count, self.mean, self.variance, self.running)
        self.largest.copy_(torch.maximum(self.largest, self.running.abs().max()))
        divisor = torch.maximum((self.variance + 1e-8).sqrt(), self.largest / self.bound)
        self.scale.copy_(1.0 / divisor)
        self.running.masked_fill_(ended, 0.0)

    def interrupt(self) -> None:
        """Begin a new episode in every environment: theirs could not go on."""
        self.running.zero_()

    def forward(self, reward: Tensor) -> Tensor:
        """Scale rewards, or n-step sums of them, of any shape."""
        return reward * self.scale

    def unscaled(self, reward: Tensor) -> Tensor:
        """Return the rewards that forward has scaled."""
        return reward / self.scale
