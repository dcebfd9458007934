"""Counter-based random numbers, one independent stream an environment.

A value is a hash of (seed, environment index, position in the stream), so environment i draws the same
numbers whatever the number of environments, in whatever order they are reset, and the whole state is one
integer an environment. Draws for a set of environments are a few vectorized tensor operations.

Shapes: N environments, n environments drawn for, k values a draw. All arithmetic is int64 and wraps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from rlsuite.data.counters import GOLDEN, mix, signed, to_unit

_ODD = 0x2545F4914F6CDD1D


class EnvironmentRandom:
    """Independent streams of uniform and normal numbers, one an environment.

    Args:
        num_envs: Number of streams, N.
        seed: Root of all streams; any integer (its low 64 bits count).

    Attributes:
        seed: The root seed.
        counters: (N,) int64, how many numbers each stream has given. This is the whole changing state.
    """

    first = 0  # number of the first environment, where they are a part of more: set it before a seed

    def __init__(self, num_envs: int, seed: int) -> None:
        self.num_envs = num_envs
        self.counters = torch.zeros(num_envs, dtype=torch.int64)
        self.reseed(seed)

    def reseed(self, seed: int) -> None:
        """Start every stream afresh from another root seed."""
        self.seed = int(seed)
        root = mix(torch.tensor(signed(self.seed), dtype=torch.int64) + GOLDEN)
        index = torch.arange(1, self.num_envs + 1, dtype=torch.int64) + self.first
        # Two keys a stream: one moves the start, the other enters between two rounds of mixing, so that
        # two streams do not become shifted copies of each other when their starts happen to be near.
        self._start = mix(root + index * _ODD)
        self._key = mix(self._start ^ root)
        self.counters.zero_()

    def bits(self, env_ids: Tensor, count: int) -> Tensor:
        """Draw 64 random bits.

        Args:
            env_ids: (n,) int64 indices of the environments to draw for, without repeats.
            count: Numbers an environment, k.

        Returns:
            (n, k) int64; the streams of `env_ids` have moved on by k.
        """
        position = self.counters[env_ids].unsqueeze(1) + torch.arange(1, count + 1)
        self.counters[env_ids] += count
        value = mix(position * GOLDEN + self._start[env_ids].unsqueeze(1))
        return mix(value ^ self._key[env_ids].unsqueeze(1))

    def uniform(
        self,
        env_ids: Tensor,
        count: int,
        low: float | Sequence[float] = 0.0,
        high: float | Sequence[float] = 1.0,
    ) -> Tensor:
        """Draw from the uniform distribution on [low, high).

        Args:
            env_ids: (n,) environments to draw for.
            count: Numbers an environment, k.
            low: Lower bound, one or k of them.
            high: Upper bound, one or k of them.

        Returns:
            (n, k) float64, with 53 random bits each.
        """
        unit = to_unit(self.bits(env_ids, count))
        if isinstance(low, int | float) and isinstance(high, int | float):
            return unit.mul_(high - low).add_(low)
        lower = torch.as_tensor(low, dtype=torch.float64)
        return lower + unit * (torch.as_tensor(high, dtype=torch.float64) - lower)

    def normal(self, env_ids: Tensor, count: int) -> Tensor:
        """Draw from the standard normal distribution (Box and Muller 1958).

        Args:
            env_ids: (n,) environments to draw for.
            count: Numbers an environment, k. An odd k uses up k + 1 numbers of the stream.

        Returns:
            (n, k) float64.
        """
        pairs = (count + 1) // 2
        unit = self.uniform(env_ids, 2 * pairs)
        # 1 - u is in (0, 1]: its logarithm is finite.
        radius = torch.sqrt(torch.log(1.0 - unit[:, :pairs]) * -2.0)
        angle = unit[:, pairs:] * (2.0 * math.pi)
        return torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], dim=1)[:, :count]

    def until(
        self,
        env_ids: Tensor,
        count: int,
        low: Sequence[float],
        high: Sequence[float],
        inside: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """Draw uniform vectors again and again until each satisfies a condition (rejection sampling).

        Args:
            env_ids: (n,) environments to draw for.
            count: Length of a vector, k.
            low: k lower bounds.
            high: k upper bounds.
            inside: Function from (m, k) vectors to an (m,) bool tensor, True where a vector is accepted.

        Returns:
            (n, k) float64.
        """
        result = self.uniform(env_ids, count, low, high)
        pending = torch.nonzero(~inside(result)).flatten()
        while len(pending):
            candidate = self.uniform(env_ids[pending], count, low, high)
            result[pending] = candidate
            pending = pending[~inside(candidate)]
        return result

    def state(self) -> dict[str, Tensor]:
        """Return the root seed and the counters, enough to continue every stream."""
        return {"seed": torch.tensor(signed(self.seed)), "counters": self.counters.clone()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue the streams that `state()` described.

        Raises:
            ValueError: If the state belongs to another number of environments.
        """
        if state["counters"].shape != (self.num_envs,):
            raise ValueError(
                f"random state is for {len(state['counters'])} environments, not {self.num_envs}; "
                "build the environment with the same num_envs"
            )
        self.reseed(int(state["seed"]))
        self.counters.copy_(state["counters"])
