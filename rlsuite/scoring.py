"""The evaluation protocol: own environments, deterministic policy, one episode in each of E environments.

One environment an episode, all started together, so that short episodes are not counted more often than long
ones, and the same seeds for every policy, so that policies are compared on the same starts. An episode whose simulation
failed is censored: how it would have gone on nobody knows, so it is counted apart and enters no average.

Shapes: E episodes (= environments), D observation, A action.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlsuite.interfaces import VectorEnv
from rlsuite.running.threads import few_threads_for
from rlsuite.statistics.digits import significant
from rlsuite.statistics.means import NONE, MeanInterval, mean_interval

Policy = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Evaluation:
    """Returns and lengths of E episodes, and of tasks with goals whether each was reached at its end.

    `censored` (E,) bool marks those that a simulation's failure cut short: their returns and lengths are of what was
    played, and no average has them in it. None is for none.
    """

    returns: np.ndarray
    lengths: np.ndarray
    successes: np.ndarray | None = None
    censored: np.ndarray | None = None

    @property
    def whole(self) -> np.ndarray:
        """Which episodes (E,) bool went to their end."""
        return np.ones(len(self.returns), dtype=bool) if self.censored is None else ~self.censored

    @property
    def failed(self) -> int:
        """How many did not."""
        return int((~self.whole).sum())

    @property
    def mean(self) -> float:
        """Mean return of the whole episodes; NaN if every one failed."""
        return _mean(self.returns[self.whole])

    @property
    def mean_length(self) -> float:
        """Mean length of the whole episodes; NaN if every one failed."""
        return _mean(self.lengths[self.whole])

    @property
    def success_rate(self) -> float | None:
        """Share of the whole episodes that reached their goal; NaN if every one failed, None on tasks without goals."""
        return None if self.successes is None else _mean(self.successes[self.whole])

    def interval(self, level: float = 0.95) -> MeanInterval:
        """Return the interval of the mean return over starts, of the whole episodes."""
        returns = self.returns[self.whole]
        return mean_interval(returns, level) if len(returns) else MeanInterval(math.nan, math.nan, NONE)

    def summary(self, *, level: float = 0.95) -> dict[str, Any]:
        """Return mean, std, interval of the mean and its kind, and every return and length, ready for JSON.

        Means are of whole episodes; `failed`, if there are any, is the number of the others and `failed_episodes` their
        places among returns and lengths. What cannot be said, such as the interval of one episode, is None.
        """
        low, high, kind = self.interval(level)
        known = self.whole.any()
        summary = {
            "mean": self.mean if known else None,
            "std": float(self.returns[self.whole].std()) if known else None,
            "interval": [None if kind == NONE else end for end in (low, high)],
            "interval_kind": kind,
            "returns": [significant(value) for value in self.returns],
            "lengths": [int(length) for length in self.lengths],
        }
        if self.failed:
            summary |= {"failed": self.failed, "failed_episodes": np.flatnonzero(~self.whole).tolist()}
        if self.successes is not None:
            summary["success_rate"] = self.success_rate if known else None
        return summary

    def scalars(self) -> dict[str, float]:
        """Return what a learning curve's record holds: mean, std, bounds of the interval if any, mean length."""
        low, high, kind = self.interval()
        returns = self.returns[self.whole]
        scalars = {"mean": self.mean, "std": float(returns.std()) if len(returns) else math.nan}
        if kind != NONE:
            scalars |= {"low": low, "high": high}
        scalars["length"] = self.mean_length
        if self.failed:
            scalars["failed"] = self.failed
        return scalars if self.success_rate is None else scalars | {"success_rate": self.success_rate}


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else math.nan


@torch.no_grad()
def evaluate(
    policy: Policy,
    env: VectorEnv,
    *,
    seed: int,
    max_steps: int = 100_000,
    on_frame: Callable[[Any], None] | None = None,
    count_only: Callable[[Tensor | None], None] | None = None,
) -> Evaluation:
    """Run one episode in every environment.

    Args:
        policy: maps observations (E, D) to actions (E, A).
        env: E environments nobody else uses.
        seed: of the episodes.
        max_steps: the evaluation's own time limit, for episodes that never end: they count as far as they went, as
            every policy's do.
        on_frame: called with a picture of environment 0 before each of its steps.
        count_only: told before each step which environments (E,) bool are still in their episode, so that what an agent
            gathers of its decisions is of the episodes alone; told None at the end.

    Returns:
        The E episodes' returns and lengths, and their successes where the environment tells "is_success".
    """
    observation, _ = env.reset(seed=seed)
    device = observation.device
    running = torch.ones(env.num_envs, dtype=torch.bool, device=device)
    returns = torch.zeros(env.num_envs, dtype=torch.float64, device=device)
    lengths = torch.zeros(env.num_envs, dtype=torch.int64, device=device)
    failed = torch.zeros_like(running)
    successes: Tensor | None = None
    for _ in range(max_steps):
        if on_frame is not None and running[0]:
            on_frame(env.render(0))
        if count_only is not None:
            count_only(running.clone())
        with few_threads_for(observation):
            action = policy(observation)
        observation, reward, terminated, truncated, info = env.step(action)
        returns += torch.where(running, reward, 0.0)  # what comes after an episode's end does not count
        lengths += running
        failed |= running & info["failed"]
        if "is_success" in info:
            last = torch.zeros_like(returns) if successes is None else successes
            successes = torch.where(running, info["is_success"].to(returns), last)
        running &= ~(terminated | truncated)
        if not running.any():
            break
    if count_only is not None:
        count_only(None)
    reached = None if successes is None else successes.cpu().numpy()
    return Evaluation(returns.cpu().numpy(), lengths.cpu().numpy(), reached, failed.cpu().numpy())
