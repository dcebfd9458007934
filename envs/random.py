"""Counter-based random numbers, one independent stream an environment.

A value is a hash of (seed, environment index, position in the stream), so environment i draws the same
numbers whatever the number of environments, in whatever order they are reset, and the whole state is one
integer an environment. Draws for a set of environments are a few vectorized tensor operations.

Shapes: N environments, n environments drawn for, k values a draw. All arithmetic is int64 and wraps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from envs.constants import constant
from rlsuite.data.counters import GOLDEN, mix, signed, to_unit

_ODD = 0x2545F4914F6CDD1D
# Vectors that `until` looks at where streams are masked. Where four of five are refused, as for FetchSlide's puck, one
# stream in 10^13 has none that is accepted.
_CANDIDATES = 128


class EnvironmentRandom:
    """Independent streams of uniform and normal numbers, one an environment.

    All is computed in float64 and rounded last, so that streams of any device and dtype give the same numbers.

    Args:
        num_envs: Number of streams, N.
        seed: Root of all streams; any integer (its low 64 bits count).
        device: Where numbers are wanted.
        dtype: Of the numbers.

    Attributes:
        seed: The root seed.
        counters: (N,) int64, how many numbers each stream has given. This is the whole changing state.
    """

    first = 0  # number of the first environment, where they are a part of more: set it before a seed

    def __init__(
        self,
        num_envs: int,
        seed: int,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> None:
        self.num_envs, self.dtype = num_envs, dtype
        self.counters = torch.zeros(num_envs, dtype=torch.int64, device=device)
        self._start, self._key = torch.zeros_like(self.counters), torch.zeros_like(self.counters)
        self._mask: Tensor | None = None
        self.reseed(seed)

    def reseed(self, seed: int) -> None:
        """Start every stream afresh from another root seed."""
        self.seed = int(seed)
        root = mix(torch.tensor(signed(self.seed), dtype=torch.int64) + GOLDEN)
        index = torch.arange(1, self.num_envs + 1, dtype=torch.int64) + self.first
        # Two keys a stream: one moves the start, the other enters between two rounds of mixing, so that
        # two streams do not become shifted copies of each other when their starts happen to be near.
        start = mix(root + index * _ODD)
        self._start.copy_(start)  # in place: recorded steps hold addresses
        self._key.copy_(mix(start ^ root))
        self.counters.zero_()

    @contextmanager
    def only(self, mask: Tensor) -> Iterator[None]:
        """Let only the streams of a mask (N,) bool move on in what follows; what the others give is to be thrown away.

        Draws for all environments then need no knowledge, on the host, of which are wanted.
        """
        self._mask = mask
        try:
            yield
        finally:
            self._mask = None

    def _move_on(self, env_ids: Tensor, count: int | Tensor) -> None:
        """Let streams (n,) move on by a number each, one or (n,) of them."""
        self.counters[env_ids] += count if self._mask is None else self._mask[env_ids] * count

    def bits(self, env_ids: Tensor, count: int) -> Tensor:
        """Draw 64 random bits.

        Args:
            env_ids: (n,) int64 indices of the environments to draw for, without repeats.
            count: Numbers an environment, k.

        Returns:
            (n, k) int64; the streams of `env_ids` have moved on by k.
        """
        value = self._ahead(env_ids, count)
        self._move_on(env_ids, count)
        return value

    def _ahead(self, env_ids: Tensor, count: int) -> Tensor:
        """Return the bits (n, k) that streams will give next."""
        position = self.counters[env_ids].unsqueeze(1) + torch.arange(1, count + 1, device=env_ids.device)
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
            (n, k), with 53 random bits each; rounded to float32, one in 2^25 may be the upper bound itself.
        """
        return _between(to_unit(self.bits(env_ids, count)), low, high).to(self.dtype)

    def normal(self, env_ids: Tensor, count: int) -> Tensor:
        """Draw from the standard normal distribution (Box and Muller 1958).

        Args:
            env_ids: (n,) environments to draw for.
            count: Numbers an environment, k. An odd k uses up k + 1 numbers of the stream.

        Returns:
            (n, k).
        """
        pairs = (count + 1) // 2
        unit = to_unit(self.bits(env_ids, 2 * pairs))
        # 1 - u is in (0, 1]: its logarithm is finite.
        radius = torch.sqrt(torch.log(1.0 - unit[:, :pairs]) * -2.0)
        angle = unit[:, pairs:] * (2.0 * math.pi)
        return torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], dim=1)[:, :count].to(self.dtype)

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
            inside: Function from (m, k) float64 vectors to an (m,) bool tensor, True where a vector is accepted.

        Returns:
            (n, k). Masked streams (see `only`) look through 128 vectors and take the last where none is accepted.
        """
        if self._mask is not None:
            return self._first(env_ids, count, low, high, inside).to(self.dtype)
        result = _between(to_unit(self.bits(env_ids, count)), low, high)
        pending = torch.nonzero(~inside(result)).flatten()
        while len(pending):
            candidate = _between(to_unit(self.bits(env_ids[pending], count)), low, high)
            result[pending] = candidate
            pending = pending[~inside(candidate)]
        return result.to(self.dtype)

    def _first(
        self,
        env_ids: Tensor,
        count: int,
        low: Sequence[float],
        high: Sequence[float],
        inside: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """Return what `until` does, (n, k) float64, of a fixed number of vectors, which are all looked at."""
        bits = self._ahead(env_ids, _CANDIDATES * count).unflatten(1, (_CANDIDATES, count))
        candidates = _between(to_unit(bits), low, high)
        accepted = inside(candidates.flatten(0, 1)).unflatten(0, (-1, _CANDIDATES)).to(torch.int64)
        accepted[:, -1].fill_(1)
        first = accepted.argmax(dim=1)
        self._move_on(env_ids, (first + 1) * count)
        return candidates.gather(1, first.view(-1, 1, 1).expand(-1, 1, count)).squeeze(1)

    def state(self) -> dict[str, Tensor]:
        """Return the root seed and the counters, enough to continue every stream; CPU tensors."""
        return {"seed": torch.tensor(signed(self.seed)), "counters": self.counters.cpu().clone()}

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


def _between(unit: Tensor, low: float | Sequence[float], high: float | Sequence[float]) -> Tensor:
    """Return numbers (..., k) between bounds, one or k of them, for numbers in [0, 1), which may be overwritten."""
    if isinstance(low, int | float) and isinstance(high, int | float):
        return unit.mul_(high - low).add_(low)
    size = unit.shape[-1]
    lower, upper = (
        constant((float(bound),) * size if isinstance(bound, int | float) else tuple(map(float, bound)), unit)
        for bound in (low, high)
    )
    return lower + unit * (upper - lower)
