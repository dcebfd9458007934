"""Locomotion of a fixed horizon whose reward is a known function of what the agent sees, for model-based agents.

The tasks of arXiv:1911.12574: T = 200, no termination, and the forward velocity in the
observation, so that a model of the observations can be rewarded like the real task. The velocity (and the height) that
a step pays for is that at its start. max_episode_steps=1000 is the long variant, observation_noise and action_noise the
noisy ones.

Shapes: n environments, D observation, A action.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from envs.random import EnvironmentRandom
from envs.simulation.base import Fields, ModelFacts, Simulation
from envs.task import KnownReward, Outcome, Task, never, squared_norm
from rlsuite.errors import require_finite


@dataclass(frozen=True)
class FixedHorizonTask(Task):
    """Base of the five tasks.

    Attributes:
        reset_noise_scale: Half width of the uniform noise on the start state.
        observation_noise: Half width of the uniform noise on every entry of every observation.
        action_noise: Half width of the uniform noise on every action, in the controls' units.
    """

    max_episode_steps: ClassVar[int] = 200
    first_position: ClassVar[int] = 1  # positions before it are left out of the observation
    velocity_index: ClassVar[int]  # of the forward velocity, in the observation
    control_cost: ClassVar[float] = 0.1
    height: ClassVar[float | None] = None  # that is paid for keeping, with 1 a step; None for no such term
    height_cost: ClassVar[float] = 3.0

    reset_noise_scale: float = 0.1
    observation_noise: float = 0.0
    action_noise: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("reset_noise_scale", "observation_noise", "action_noise"):
            require_finite(f"env.{name}", getattr(self, name), low=0.0)

    @property
    def known_reward(self) -> KnownReward:
        """The reward of a step."""
        return self.reward

    def reward(self, observation: Tensor, action: Tensor, following: Tensor) -> Tensor:
        """Return the reward (rows,) of a step from observations (rows, D) with actions (rows, A), wherever it leads."""
        reward = observation[:, self.velocity_index] - self.control_cost * squared_norm(action)
        if self.height is not None:
            reward = reward - self.height_cost * (observation[:, 0] - self.height).square() + 1.0
        return reward

    def memory(self, facts: ModelFacts) -> dict[str, int]:
        """Remember the observation's noise of each step."""
        size = facts.num_positions - self.first_position + facts.num_velocities
        return {"noise": size} if self.observation_noise else {}

    def state(self, fields: Fields) -> Tensor:
        """Return the observation without its noise, (n, D)."""
        return torch.cat([fields.field("qpos")[:, self.first_position :], fields.field("qvel")], dim=1)

    def observation(self, fields: Fields) -> Tensor:
        """Return positions and velocities with their noise, (n, D)."""
        return self.state(fields) + fields.field("noise") if self.observation_noise else self.state(fields)

    def tracked(self, fields: Fields) -> Tensor:
        """Return what the next step's reward is judged by, (n, D)."""
        return self.state(fields)

    def outcome(self, fields: Fields, before: Tensor, after: Tensor, action: Tensor) -> Outcome:
        """Reward the step by the state it started from."""
        velocity = before[:, self.velocity_index].clone()  # `before` is overwritten before the caller copies
        return Outcome(self.reward(before, action, after), never(fields), {"x_velocity": velocity})

    def actuate(self, simulation: Simulation, action: Tensor, random: EnvironmentRandom) -> None:
        """Set the controls, with noise where the task has some."""
        if self.action_noise:
            everyone = torch.arange(len(action), device=action.device)
            action = action + random.uniform(everyone, action.shape[1], -self.action_noise, self.action_noise)
        super().actuate(simulation, action, random)

    def after_step(self, simulation: Simulation, random: EnvironmentRandom) -> None:
        """Draw the next observation's noise."""
        if self.observation_noise:
            self._draw_noise(simulation, random, torch.arange(simulation.num_envs, device=simulation.device))

    def begin(self, simulation: Simulation, random: EnvironmentRandom, env_ids: Tensor) -> None:
        """Draw a start state, and the first observation's noise."""
        super().begin(simulation, random, env_ids)
        if self.observation_noise:
            self._draw_noise(simulation, random, env_ids)

    def _draw_noise(self, simulation: Simulation, random: EnvironmentRandom, env_ids: Tensor) -> None:
        noise = simulation.field("noise")
        noise[env_ids] = random.uniform(env_ids, noise.shape[1], -self.observation_noise, self.observation_noise)


@dataclass(frozen=True)
class FixedHorizonHalfCheetah(FixedHorizonTask):
    """Velocity minus 0.1 a^2."""

    name: ClassVar[str] = "FixedHorizonHalfCheetah"
    angles: ClassVar[tuple[int, ...]] = tuple(range(1, 8))
    normal_start_velocity: ClassVar[bool] = True
    velocity_index: ClassVar[int] = 8

    xml_file: str = "half_cheetah.xml"
    frame_skip: int = 5


@dataclass(frozen=True)
class FixedHorizonSwimmer(FixedHorizonTask):
    """Velocity minus 1e-4 a^2."""

    name: ClassVar[str] = "FixedHorizonSwimmer"
    angles: ClassVar[tuple[int, ...]] = tuple(range(3))
    first_position: ClassVar[int] = 2
    velocity_index: ClassVar[int] = 3
    control_cost: ClassVar[float] = 1e-4

    xml_file: str = "swimmer.xml"
    frame_skip: int = 4


@dataclass(frozen=True)
class FixedHorizonHopper(FixedHorizonTask):
    """Velocity minus 0.1 a^2 and minus 3 (z - 1.3)^2, plus 1."""

    name: ClassVar[str] = "FixedHorizonHopper"
    angles: ClassVar[tuple[int, ...]] = tuple(range(1, 5))
    velocity_index: ClassVar[int] = 5
    height: ClassVar[float | None] = 1.3

    xml_file: str = "hopper.xml"
    frame_skip: int = 4
    reset_noise_scale: float = 5e-3


@dataclass(frozen=True)
class FixedHorizonWalker2d(FixedHorizonTask):
    """Velocity minus 0.1 a^2 and minus 3 (z - 1.3)^2, plus 1."""

    name: ClassVar[str] = "FixedHorizonWalker2d"
    angles: ClassVar[tuple[int, ...]] = tuple(range(1, 8))
    velocity_index: ClassVar[int] = 8
    height: ClassVar[float | None] = 1.3

    xml_file: str = "walker2d_v5.xml"
    frame_skip: int = 4
    reset_noise_scale: float = 5e-3


@dataclass(frozen=True)
class FixedHorizonAnt(FixedHorizonTask):
    """Velocity minus 0.1 a^2 and minus 3 (z - 0.57)^2, plus 1."""

    name: ClassVar[str] = "FixedHorizonAnt"
    angles: ClassVar[tuple[int, ...]] = tuple(range(5, 13))
    first_position: ClassVar[int] = 2
    normal_start_velocity: ClassVar[bool] = True
    velocity_index: ClassVar[int] = 13
    height: ClassVar[float | None] = 0.57

    xml_file: str = "ant.xml"
    frame_skip: int = 5
