"""What the training loop expects of an environment and of an agent, as typing protocols.

Shapes: N environments, B batch, D observation, A action.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from rlsuite.goals import GoalSpec
from rlsuite.replay.buffer import Batch, Transition


class VectorEnv(Protocol):
    """N environments with same-step autoreset, their arrays tensors on one device."""

    num_envs: int
    exact_resume: bool
    failures: list[Any]
    goals: GoalSpec | None
    constant_columns: int
    single_observation_space: Any
    single_action_space: Any

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Tensor, dict]:
        """Begin an episode everywhere; return observation (N, D) and info."""
        ...

    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Step with actions (N, A); return observation, reward, terminated, truncated, info.

        info["final_obs"] (N, D) is the true next observation; info["failed"] (N,) marks broken simulations.
        """
        ...

    def state(self) -> dict[str, Tensor]:
        """Return everything that continuing bit for bit needs."""
        ...

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Put back what state() returned."""
        ...

    def observation(self) -> Tensor:
        """Return a copy of the current observation (N, D)."""
        ...

    def render(self, index: int = 0) -> Any:
        """Return a picture (H, W, 3) uint8 of one environment."""
        ...

    def close(self, **kwargs: Any) -> None:
        """Free what the environments hold."""
        ...


class Agent(Protocol):
    """A torch module that acts, learns from batches, and holds all of its own state."""

    optimizers: Mapping[str, torch.optim.Optimizer]

    @property
    def sample_size(self) -> int:
        """Transitions wanted in each update."""
        ...

    def act(self, observation: Tensor, explore: bool) -> Tensor:
        """Return actions (N, A) in the environment's units."""
        ...

    def observe(self, transition: Transition) -> None:
        """Take note of a step of every environment: statistics, ends of episodes."""
        ...

    def observe_relabelled(self, observation: Tensor) -> None:
        """Take note of observations (n, F) of whole episodes, their goals relabelled as in minibatches."""
        ...

    def anneal(self, progress: float) -> None:
        """Set what changes over a training; this share of its steps is done. Called before updates from a replay."""
        ...

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """Learn from a batch; return 0-d tensors and "td_error" (B,), all still on the device."""
        ...

    def diagnostics(self) -> dict[str, Tensor]:
        """Return 0-d tensors and histograms (1-d tensors) gathered since the last call."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return the whole state, random streams included."""
        ...

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """Put back what state_dict() returned."""
        ...
