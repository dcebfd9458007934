"""One characters environment for users of other libraries: Gymnasium's Env interface."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from torch import Tensor

from envs import catalogue


class CharacterSingleEnv(gymnasium.Env):
    """The characters environment as a `gymnasium.Env`.

    The observation has "canvas" (1, W, W) and "noisy" (3, W, W) uint8 and "step", the bundles written; what is to be
    found, the clean glyph, is in info["clean"] alone. The episode terminates on its last bundle. Options: see
    `Characters`, and episode_length, the bundles of an episode.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}  # noqa: RUF012

    def __init__(self, *, render_mode: str | None = None, episode_length: int = 4, **options: Any) -> None:
        self.vector = catalogue.build("Characters", **options).make_vector(
            1, max_episode_steps=episode_length, render_mode=render_mode
        )
        self.render_mode = render_mode
        side = (self.vector.options.size, self.vector.options.size)
        boxes = {
            name: gymnasium.spaces.Box(0, 255, (count, *side), np.uint8)
            for name, count in (("canvas", 1), ("noisy", 3))
        }
        self.observation_space = gymnasium.spaces.Dict({**boxes, "step": gymnasium.spaces.Box(0, 255, (1,), np.uint8)})
        self.action_space = self.vector.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Begin a new character; a seed restarts the random stream."""
        super().reset(seed=seed)
        return self._named(self.vector.reset(seed=seed)[0][0])

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Write one bundle; info["mse"] is the error it left."""
        _, reward, terminated, _, info = self.vector.step(np.asarray(action, np.float32)[None])
        observation, clean = self._named(info["final_obs"][0])
        return observation, float(reward), bool(terminated), False, {"mse": float(info["mse"]), **clean}

    def _named(self, row: Tensor) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        pixels, side = self.vector.pixels, (-1, self.vector.options.size, self.vector.options.size)
        canvas, step, noisy, clean = row.cpu().split([pixels, 1, 3 * pixels, pixels])
        seen = {"canvas": canvas.view(side).numpy().copy(), "noisy": noisy.view(side).numpy().copy()}
        return {**seen, "step": step.numpy().copy()}, {"clean": clean.view(side).numpy().copy()}

    def render(self) -> np.ndarray | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return noisy picture, glyph and paper side by side, or None without a render mode."""
        return None if self.render_mode is None else self.vector.render(0)
