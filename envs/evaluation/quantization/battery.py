"""A policy on a battery: it spends bit operations, and lowers its width as the charge falls.

    policy = BatteryPolicy(module, example, BatteryConfig(capacity=...))
    score = task.score(policy, seed)            # policy.spent is the energy of it

The charge is in bit operations of one environment (`probes.py`), the suite's measure of what a network's arithmetic
costs. Of n widths, the most bits are used while more than (n - 1) / n of the charge is left, and so on; with an empty
battery the policy acts no more: its actions are 0.

Shapes: B environments, which all began together; D observation, A action; n widths.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from envs.evaluation.probes import count_bit_operations
from envs.evaluation.quantization.adaptive import at_width, set_width, widths_of
from rlsuite.errors import require, require_finite


@dataclass(frozen=True, kw_only=True)
class BatteryConfig:
    """A battery.

    Attributes:
        capacity: bit operations of a full one.
        fixed: a width that is kept until it is empty; 0 lowers the width with the charge.
    """

    capacity: float
    fixed: int = 0

    def __post_init__(self) -> None:
        require_finite("capacity", self.capacity, above=0.0)
        require(self.fixed >= 0, f"fixed={self.fixed}: use a width, or 0 for none")


class BatteryPolicy(nn.Module):
    """A policy of several widths that runs on a battery, full at first.

    Args:
        module: a network that AdaBits made; its width is moved.
        example: (1, D) an observation of it, for counting.
        config: see BatteryConfig.
    """

    left: Tensor

    def __init__(self, module: nn.Module, example: Tensor, config: BatteryConfig) -> None:
        super().__init__()
        self.module, self.config, self.widths = module, config, widths_of(module)
        self.costs = {}
        for bits in self.widths:
            with at_width(module, bits):
                self.costs[bits] = float(count_bit_operations(module, example))
        if config.fixed:
            set_width(module, config.fixed)  # refuses one that was never learned
        self.register_buffer("left", torch.tensor(config.capacity, dtype=torch.float64))

    @property
    def spent(self) -> float:
        """Bit operations taken from the battery so far."""
        return self.config.capacity - float(self.left)

    def charge(self) -> None:
        """Fill the battery."""
        self.left.fill_(self.config.capacity)

    def width(self) -> int:
        """Return the width that the charge allows; 0 where it is too little for any."""
        left = float(self.left)
        if self.config.fixed:
            return self.config.fixed if self.costs[self.config.fixed] <= left else 0
        used = 1.0 - left / self.config.capacity
        place = min(int(used * len(self.widths)), len(self.widths) - 1)
        affordable = [bits for bits in self.widths[place:] if self.costs[bits] <= left]
        return affordable[0] if affordable else 0

    @torch.no_grad()
    def forward(self, observation: Tensor) -> Tensor:
        """Map observations (B, D) to actions (B, A) and take their cost, of one environment, from the battery."""
        bits = self.width()
        if not bits:
            action = self.module(observation[:1])
            return torch.zeros_like(action).expand(len(observation), -1)
        set_width(self.module, bits)
        self.left -= self.costs[bits]
        return self.module(observation)
