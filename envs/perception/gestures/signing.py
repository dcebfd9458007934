"""The planar hand as an environment: an action is where its joints shall go, an observation its picture.

What signs in it is seen as in the videos of `sentences.py`, so a recognizer of those reads it (`score.py`). It pays
nothing by itself, and its episodes end after a number of steps, their time limit.

Shapes: N environments, J = 5 joints, S side of a picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector.utils import batch_space
from torch import Tensor

from envs.perception.gestures.hand import JOINTS, LOOK_DRAWS, draw, looks
from envs.perception.gestures.sentences import NEUTRAL, SigningConfig, targets
from envs.random import EnvironmentRandom
from envs.vector import VectorEnv


class SigningHand(VectorEnv):
    """N hands.

    Observations are pictures (3, S, S) uint8. Actions are in [-1, 1]: the four curls from straight to folded, and the
    wrist. Joints go a share of the way in a step, as those of scripted sentences do.

    Args:
        num_envs: N.
        config: size of pictures, how fast joints follow, how they tremble.
        max_episode_steps: of every episode.
    """

    def __init__(self, num_envs: int, config: SigningConfig | None = None, *, max_episode_steps: int = 35) -> None:
        self.config = config or SigningConfig()
        ones = np.ones(JOINTS)
        self._limit = max_episode_steps
        super().__init__("SigningHand", num_envs, JOINTS, -ones, ones, max_episode_steps=max_episode_steps)
        shape = (3, self.config.size, self.config.size)
        self.single_observation_space = gymnasium.spaces.Box(0, 255, shape, np.uint8)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.random = EnvironmentRandom(num_envs, self.seed, dtype=torch.float32)
        self._everyone = torch.arange(num_envs)
        self._joints = torch.zeros(num_envs, JOINTS)
        self._looks = torch.zeros(num_envs, LOOK_DRAWS)
        self._elapsed = torch.zeros(num_envs, dtype=torch.int64)
        self._picture = torch.zeros(num_envs, *shape, dtype=torch.uint8)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Tensor, dict[str, Any]]:
        """Begin a new episode in every environment; see `VectorEnv.reset`."""
        if seed is not None:
            self.seed = seed
            self.random.reseed(seed)
        self._begin(self._everyone)
        self._picture = self._draw(self._everyone)
        return self._picture.clone(), {}

    def step(self, actions: Tensor | np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Step every environment once; see `VectorEnv.step`."""
        action = self.checked_action(actions).float().clamp(-1.0, 1.0)
        targets = torch.cat([(action[:, :4] + 1.0) / 2.0, action[:, 4:]], 1)
        self._joints = self._joints + self.config.follow * (targets - self._joints)
        self._elapsed += 1
        final = self._draw(self._everyone)
        self._picture = final.clone()
        truncated = self._elapsed >= self._limit
        ended = truncated.nonzero().flatten()
        if len(ended):
            self._begin(ended)
            self._picture[ended] = self._draw(ended)
        nothing = torch.zeros(self.num_envs, dtype=torch.bool)
        info = {"final_obs": final, "failed": nothing}
        return self._picture.clone(), torch.zeros(self.num_envs), nothing.clone(), truncated, info

    def observation(self) -> Tensor:
        """Return a copy of the current pictures."""
        return self._picture.clone()

    def state(self) -> dict[str, Tensor]:
        """Return copies of all that stepping depends on."""
        own = {"joints": self._joints, "looks": self._looks, "elapsed": self._elapsed, "picture": self._picture}
        random = {f"random.{name}": value for name, value in self.random.state().items()}
        return {name: value.clone() for name, value in {**own, **random}.items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` returned."""
        if set(state) != set(self.state()) or state["joints"].shape != self._joints.shape:
            raise ValueError(f"the state is not of {self.num_envs} signing hands")
        self.random.load_state({name: state[f"random.{name}"] for name in ("seed", "counters")})
        self.seed = self.random.seed
        self._joints, self._looks = state["joints"].clone(), state["looks"].clone()
        self._elapsed, self._picture = state["elapsed"].clone(), state["picture"].clone()

    def _begin(self, rows: Tensor) -> None:
        """Begin an episode in environments `rows` (n,): at rest, with a look of its own."""
        self._elapsed[rows] = 0
        self._joints[rows] = torch.tensor([*NEUTRAL, 0.0])
        self._looks[rows] = self.random.uniform(rows, LOOK_DRAWS)

    def _draw(self, rows: Tensor) -> Tensor:
        """Return pictures (n, 3, S, S) of environments `rows` (n,)."""
        joints = self._joints[rows] + self.config.tremble * self.random.normal(rows, JOINTS)
        return draw(joints, looks(self._looks[rows]), self.config.size)[0]


def script(sentences: Sequence[Sequence[int]], seed: int, config: SigningConfig | None = None) -> Tensor:
    """Return actions (N, T, J) that sign sentences of word numbers in a `SigningHand`, at rest after their end."""
    wanted, _ = targets(sentences, seed, config)
    return torch.cat([2.0 * wanted[..., :4] - 1.0, wanted[..., 4:]], 2).clamp(-1.0, 1.0)
