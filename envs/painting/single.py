"""One painting environment for users of other libraries: Gymnasium's Env interface."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from torch import Tensor

from envs import catalogue


class PaintingSingleEnv(gymnasium.Env):
    """The painting environment as a `gymnasium.Env`.

    The observation has "canvas" and "target" (3, W, W) uint8 and "step", the bundles painted; the episode terminates
    on its last bundle. Options: see `Painting`, and episode_length, the bundles of an episode.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(self, *, render_mode: str | None = None, episode_length: int = 40, **options: Any) -> None:
        self.vector = catalogue.build("Painting", **options).make_vector(
            1, max_episode_steps=episode_length, render_mode=render_mode
        )
        self.render_mode = render_mode
        side = (3, self.vector.options.size, self.vector.options.size)
        picture = gymnasium.spaces.Box(0, 255, side, np.uint8)
        self.observation_space = gymnasium.spaces.Dict(
            {"canvas": picture, "target": picture, "step": gymnasium.spaces.Box(0, 255, (1,), np.uint8)}
        )
        self.action_space = self.vector.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Begin a new picture; a seed restarts the random stream."""
        super().reset(seed=seed)
        return self._named(self.vector.reset(seed=seed)[0][0]), {}

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Paint one bundle; info["mse"] is the error it left."""
        _, reward, terminated, _, info = self.vector.step(np.asarray(action, np.float32)[None])
        observation = self._named(info["final_obs"][0])
        return observation, float(reward), bool(terminated), False, {"mse": float(info["mse"])}

    def _named(self, row: Tensor) -> dict[str, np.ndarray]:
        pixels = self.vector.pixels
        shape = self.observation_space["canvas"].shape  # type: ignore[index]
        row = row.cpu()
        return {
            "canvas": row[:pixels].view(shape).numpy().copy(),
            "target": row[pixels + 1 :].view(shape).numpy().copy(),
            "step": row[pixels : pixels + 1].numpy().copy(),
        }

    def render(self) -> np.ndarray | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return picture and canvas side by side, or None without a render mode."""
        return None if self.render_mode is None else self.vector.render(0)
