"""The evaluation protocol: own environments, deterministic policy, one episode in each of E environments.

One environment an episode, all started together, so that short episodes are not counted more often than long
ones, and the same seeds for every policy, so that policies are compared on the same starts.

Shapes: E episodes (= environments), D observation, A action.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlsuite.running.threads import few_threads_for
from rlsuite.statistics.estimates import bootstrap_interval
from rlsuite.vector_env import VectorEnv

Policy = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Evaluation:
    """Returns and lengths of E episodes, and of tasks with goals whether each was reached at its end.

    `failed` counts episodes that a simulation's failure cut short; they count as far as they went.
    """

    returns: np.ndarray
    lengths: np.ndarray
    successes: np.ndarray | None = None
    failed: int = 0

    def summary(self, *, level: float = 0.95) -> dict[str, Any]:
        """Return mean, std, bootstrap interval of the mean, and every return and length, ready for JSON."""
        low, high = bootstrap_interval(self.returns, level=level)
        summary = {
            "mean": float(self.returns.mean()),
            "std": float(self.returns.std()),
            "interval": [float(low), float(high)],
            "returns": [round(float(value), 3) for value in self.returns],
            "lengths": [int(length) for length in self.lengths],
        }
        if self.failed:
            summary["failed"] = self.failed
        return summary if self.successes is None else summary | {"success_rate": float(self.successes.mean())}

    def scalars(self) -> dict[str, float]:
        """Return what a learning curve's record holds: mean, std, bounds of the interval, mean length."""
        summary = self.summary()
        low, high = summary["interval"]
        length = float(self.lengths.mean())
        scalars = {"mean": summary["mean"], "std": summary["std"], "low": low, "high": high, "length": length}
        return scalars | {name: summary[name] for name in ("failed", "success_rate") if name in summary}


@torch.no_grad()
def evaluate(
    policy: Policy,
    env: VectorEnv,
    *,
    seed: int,
    max_steps: int = 100_000,
    on_frame: Callable[[Any], None] | None = None,
) -> Evaluation:
    """Run one episode in every environment.

    Args:
        policy: maps observations (E, D) to actions (E, A).
        env: E environments nobody else uses.
        seed: of the episodes.
        max_steps: gives up on episodes that never end; they count as far as they went.
        on_frame: called with a picture of environment 0 before each of its steps.

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
    reached = None if successes is None else successes.cpu().numpy()
    return Evaluation(returns.cpu().numpy(), lengths.cpu().numpy(), reached, int(failed.sum()))
