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

from rlsuite.action_space import ActionLimits
from rlsuite.running.threads import few_threads_for
from rlsuite.statistics.digits import significant
from rlsuite.statistics.means import NONE, MeanInterval, mean_interval
from rlsuite.vector_env import VectorEnv

Policy = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Evaluation:
    """Returns and lengths of E episodes, and where infos tell "is_success" whether each succeeded, by its last info.

    `censored` (E,) bool marks those that a simulation's failure cut short: their returns and lengths are of what was
    played, and no average has them in it. None is for none. `cut` counts those that did not end within the steps of an
    evaluation; they count as far as they went.
    """

    returns: np.ndarray
    lengths: np.ndarray
    successes: np.ndarray | None = None
    censored: np.ndarray | None = None
    cut: int = 0

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
        interval = self.interval(level)
        known = self.whole.any()
        summary = {
            "mean": self.mean if known else None,
            "std": float(self.returns[self.whole].std()) if known else None,
            "interval": interval.ends,
            "interval_kind": interval.kind,
            "returns": [significant(value) for value in self.returns],
            "lengths": [int(length) for length in self.lengths],
        }
        if self.failed:
            summary |= {"failed": self.failed, "failed_episodes": np.flatnonzero(~self.whole).tolist()}
        if self.cut:
            summary["cut"] = self.cut
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
        scalars |= {name: count for name, count in {"failed": self.failed, "cut": self.cut}.items() if count}
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
    frame_steps: range | None = None,
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
        frame_steps: before which of them, counted from 0; None: all.
        count_only: told before each step which environments (E,) bool are still in their episode, so that what an agent
            gathers of its decisions is of the episodes alone; told None at the end.

    Returns:
        The E episodes' returns and lengths, and their successes where the environment tells "is_success". Of an
        environment that tells it at times only, an episode whose last info does not has not succeeded.
    """
    observation, _ = env.reset(seed=seed)
    device = observation.device
    running = torch.ones(env.num_envs, dtype=torch.bool, device=device)
    returns = torch.zeros(env.num_envs, dtype=torch.float64, device=device)
    lengths = torch.zeros(env.num_envs, dtype=torch.int64, device=device)
    failed = torch.zeros_like(running)
    successes: Tensor | None = None
    told = torch.zeros((), dtype=torch.bool, device=device)
    limits = ActionLimits(env.single_action_space, device)
    for step in range(max_steps):
        if on_frame is not None and (frame_steps is None or step in frame_steps) and running[0]:
            on_frame(env.render(0))
        if count_only is not None:
            count_only(running.clone())
        with few_threads_for(observation):
            action = policy(observation)
        # As in training: by rounding, a policy's action may lie beyond a bound.
        observation, reward, terminated, truncated, info = env.step(limits.clip(action))
        returns += torch.where(running, reward, 0.0)  # what comes after an episode's end does not count
        lengths += running
        failed |= running & info["failed"]
        if successes is not None or "is_success" in info:
            success = info.get("is_success", torch.full_like(returns, torch.nan)).to(returns)  # NaN: not told
            told |= (running & ~success.isnan()).any()
            last = torch.zeros_like(returns) if successes is None else successes
            successes = torch.where(running, success.nan_to_num(), last)
        running &= ~(terminated | truncated)
        if not running.any():
            break
    if count_only is not None:
        count_only(None)
    reached = successes.cpu().numpy() if successes is not None and told else None
    censored = failed.cpu().numpy()
    return Evaluation(returns.cpu().numpy(), lengths.cpu().numpy(), reached, censored, int(running.sum()))


def cut_note(result: Evaluation) -> str:
    """Return a sentence about episodes that never ended."""
    return (
        f"{result.cut} of {len(result.returns)} episodes did not end within {int(result.lengths.max())} steps "
        "and count as far as they went; env.max_episode_steps= sets a limit"
    )
