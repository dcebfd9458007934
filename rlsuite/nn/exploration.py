"""Exploration noise whose whole state (streams, held noise, episode counts) is buffers of a module.

Shapes: N environments, A action.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rlsuite.errors import require, require_finite
from rlsuite.seeding import restore_generator


class RandomStream(nn.Module):
    """A torch.Generator that travels with state_dict, so that a resumed run draws the same numbers."""

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.generator = torch.Generator(device=device).manual_seed(seed)

    def get_extra_state(self) -> Tensor:
        """Return the generator's state, a uint8 tensor."""
        return self.generator.get_state().clone()

    def set_extra_state(self, state: Tensor) -> None:
        """Continue from a state returned by get_extra_state."""
        restore_generator(self.generator, state)


@dataclass(frozen=True, kw_only=True)
class ExplorationConfig:
    """Gaussian noise on the actions, in units of half the action range.

    Attributes:
        std: standard deviation sigma at the start of the first episode.
        hold: decisions for which one draw is kept.
        episode_multipliers: episode k uses sigma times ``episode_multipliers[k % len]``.
        decision_decay: factor on sigma at each decision within an episode.
        episode_decay: factor on the starting sigma at each episode started.
    """

    std: float = 0.1
    hold: int = 1
    episode_multipliers: tuple[float, ...] = (1.0,)
    decision_decay: float = 1.0
    episode_decay: float = 1.0

    def __post_init__(self) -> None:
        for name in ("std", "decision_decay", "episode_decay"):
            require_finite(f"agent.exploration.{name}", getattr(self, name), low=0.0)
        require(self.hold >= 1, f"agent.exploration.hold={self.hold}: use 1 or more")
        multipliers = list(self.episode_multipliers)
        require(
            bool(multipliers) and all(0.0 <= factor < math.inf for factor in multipliers),
            f"agent.exploration.episode_multipliers={multipliers}: use a list of factors, such as [1]",
        )


class GaussianExploration(nn.Module):
    """Adds noise to actions in [-1, 1] and clips; plain Gaussian noise and the card's held noise in one.

    With the defaults this is the noise of TD3; with hold 5, multipliers (1, 2, 0), decays 0.98 and 0.999 and
    std 1.0 it is that of arXiv:1712.08987 (0.5 there, on actions in [0, 1], whose half range is 0.5).
    Episodes are numbered in the order in which they start over all environments.
    """

    def __init__(
        self,
        num_envs: int,
        action_size: int,
        config: ExplorationConfig,
        *,
        seed: int,
        device: torch.device | str,
    ) -> None:
        super().__init__()
        self.config = config
        self.stream = RandomStream(seed, device)
        self.plain = (
            config.hold == 1
            and config.decision_decay == config.episode_decay == 1.0
            and len(config.episode_multipliers) == 1
        )
        self.decision: Tensor
        self.episode: Tensor
        self.episodes_started: Tensor
        self.noise: Tensor
        self.multipliers: Tensor
        self.register_buffer("decision", torch.zeros(num_envs, dtype=torch.int64))
        self.register_buffer("episode", torch.arange(num_envs))
        self.register_buffer("episodes_started", torch.tensor(num_envs))
        self.register_buffer("noise", torch.zeros(num_envs, action_size))
        self.register_buffer("multipliers", torch.tensor(config.episode_multipliers), persistent=False)
        self.to(device)

    @torch.no_grad()
    def forward(self, action: Tensor) -> Tensor:
        """Return actions (N, A) with noise, clipped to [-1, 1]."""
        draw = torch.randn(action.shape, generator=self.stream.generator, device=action.device)
        if self.plain:
            scale = self.config.std * self.config.episode_multipliers[0]
            return torch.add(action, draw, alpha=scale).clamp_(-1.0, 1.0)
        fresh = (self.decision % self.config.hold == 0).unsqueeze(-1)
        self.noise.copy_(torch.where(fresh, draw * self.std().unsqueeze(-1), self.noise))
        return (action + self.noise).clamp_(-1.0, 1.0)

    def std(self) -> Tensor:
        """Return each environment's present sigma (N,)."""
        config = self.config
        start = config.std * config.episode_decay ** self.episode.to(torch.float32)
        multiplier = self.multipliers[self.episode % len(self.multipliers)]
        return start * multiplier * config.decision_decay ** self.decision.to(torch.float32)

    @torch.no_grad()
    def advance(self, ended: Tensor) -> None:
        """Count a decision; environments whose episode ended (N,) bool start their next one."""
        self.decision.add_(1).masked_fill_(ended, 0)
        number = self.episodes_started + ended.cumsum(0) - 1
        self.episode.copy_(torch.where(ended, number, self.episode))
        self.episodes_started.add_(ended.sum())
