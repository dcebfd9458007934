"""Canvases that are drawn on together: what painting and writing characters have in common.

A canvas begins blank and is changed by a bundle of strokes at a time. It is kept in bytes: 255 C is floored after
every bundle (Learning to Paint, arXiv:1903.04411, the official env.py). The reward is (MSE_before - MSE_after) / MSE_0,
so that an episode's return is 1 - MSE_T / MSE_0, and the episode terminates on its last bundle.

A row of the observation is bytes: the canvas, channels first, the number of bundles done, and what stays the same
within an episode, which the replay stores once (`constant_columns`). What that is, how an episode begins and how
strokes change a canvas is the task's: a class below this one says so.

Shapes: N environments, C channels of a canvas, W its side, K constant columns, A numbers of an action.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from envs.random import EnvironmentRandom
from envs.vector import VectorEnv
from rlsuite.errors import require

Renderer = Callable[[Tensor], Tensor]


class CanvasVectorEnv(VectorEnv):
    """N canvases drawn on together, wholly on one device.

    Args:
        options: of the task; `size` is W.
        spec_id: see VectorEnv.
        num_envs: N.
        renderer: draws strokes.
        channels: C, of canvas and target.
        constants: name -> channels of the pictures (W, W) that make the constant columns, in their order; "target" is
            among them.
        action_size: A.
        max_episode_steps: T, bundles an episode, below 256.
        device: where canvases lie.
        dtype: of rewards and info.
        render_mode: "rgb_array" or None.

    Attributes:
        renderer: shapes (..., 10) -> what strokes cover (..., W, W).
        pixels: columns of the canvas.
        canvas: (N, C, W, W) uint8.
        target: (N, C, W, W) uint8.
        elapsed: (N,) uint8, bundles done.
        finished: (N, P, C', W, W) uint8: the pictures of the episodes that ended last, see `exhibit`.
    """

    exhibits = 2  # pictures that `exhibit` shows of an episode
    shown_channels = 3

    def __init__(
        self,
        options: Any,
        spec_id: str,
        num_envs: int,
        *,
        renderer: Renderer,
        channels: int,
        constants: dict[str, int],
        action_size: int,
        max_episode_steps: int | None,
        device: str | torch.device,
        dtype: torch.dtype,
        render_mode: str | None,
    ) -> None:
        require(
            max_episode_steps is not None and max_episode_steps < 256,
            f"env.max_episode_steps={max_episode_steps}: the bundles painted are one byte; use 1 to 255",
        )
        self.options = options
        self.renderer: Renderer = renderer
        self.pixels = channels * options.size**2
        self.constants = tuple(constants)
        self.constant_columns = sum(constants.values()) * options.size**2
        columns = self.pixels + 1 + self.constant_columns
        super().__init__(
            spec_id,
            num_envs,
            columns,
            np.zeros(action_size),
            np.ones(action_size),
            device=device,
            dtype=dtype,
            max_episode_steps=max_episode_steps,
            render_mode=render_mode,
        )
        self.single_observation_space = gymnasium.spaces.Box(0, 255, (columns,), np.uint8)
        self.observation_space = gymnasium.vector.utils.batch_space(self.single_observation_space, num_envs)
        self.random = EnvironmentRandom(num_envs, self.seed)
        side = (options.size, options.size)
        self.canvas = torch.zeros((num_envs, channels, *side), dtype=torch.uint8, device=device)
        for name, count in constants.items():
            setattr(self, name, torch.zeros((num_envs, count, *side), dtype=torch.uint8, device=device))
        self.target: Tensor
        self.elapsed = torch.zeros(num_envs, dtype=torch.uint8, device=device)
        self.error, self.first_error = (torch.ones(num_envs, device=device) for _ in range(2))
        shown = (num_envs, self.exhibits, self.shown_channels, *side)
        self.finished = torch.zeros(shown, dtype=torch.uint8, device=device)

    # -- what a task says -------------------------------------------------------------------------------------

    def begin(self, env_ids: Tensor) -> dict[str, Tensor]:
        """Return the "canvas" and all constants (n, ..., W, W) uint8 that episodes of environments (n,) begin with."""
        raise NotImplementedError

    def draw(self, canvas: Tensor, action: Tensor) -> Tensor:
        """Return canvases (N, C, W, W) in [0, 1] after actions (N, A)."""
        raise NotImplementedError

    def exhibit(self, env_ids: Tensor) -> Tensor:
        """Return what is shown of environments (n,): (n, P, C', W, W) uint8, the canvas last."""
        return torch.stack([self.target[env_ids], self.canvas[env_ids]], dim=1)

    # -- episodes ---------------------------------------------------------------------------------------------

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Tensor, dict[str, Any]]:
        """Begin a new episode in every environment; see `VectorEnv.reset`."""
        gymnasium.vector.VectorEnv.reset(self, seed=seed)
        if seed is not None:
            self.seed = seed
            self.random.reseed(seed)
        self._begin(torch.arange(self.num_envs))
        return self.observation(), {}

    def _begin(self, env_ids: Tensor) -> None:
        found, ids = self.begin(env_ids), env_ids.to(self.device)
        for name in ("canvas", *self.constants):
            getattr(self, name)[ids] = found[name]
        self.elapsed[ids] = 0
        self._measure(ids)

    def _measure(self, ids: Tensor) -> None:
        """Take the errors of environments whose episode begins."""
        error = squared_error(self.canvas[ids], self.target[ids])
        self.error[ids], self.first_error[ids] = error, error.clamp_min(1e-4)

    def step(self, actions: Tensor | np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Draw one bundle on every canvas; see `VectorEnv.step`. info["mse"] is the error it left, (N,)."""
        action = self.checked_action(actions).to(self.device, torch.float32).clamp_(0.0, 1.0)
        with torch.no_grad():
            drawn = self.draw(self.canvas.float() / 255.0, action)
        self.canvas = (drawn * 255.0).floor_().clamp_(0.0, 255.0).to(torch.uint8)
        self.elapsed += 1
        error = squared_error(self.canvas, self.target)
        reward = ((self.error - error) / self.first_error).to(self.dtype)
        mse = error.to(self.dtype, copy=True)
        self.error = error
        terminated = self.elapsed >= self.max_episode_steps  # type: ignore[operator]
        final = self.observation()
        observation = final
        ended = torch.nonzero(terminated).flatten()
        if len(ended):
            self.finished[ended] = self.exhibit(ended)
            self._begin(ended.cpu())
            observation = self.observation()
        no = torch.zeros_like(terminated)
        return observation, reward, terminated, no, {"final_obs": final, "failed": no, "mse": mse}

    def observation(self) -> Tensor:
        """Return a copy of the current observation, (N, C W W + 1 + K) uint8."""
        constants = [getattr(self, name).flatten(1) for name in self.constants]
        return torch.cat([self.canvas.flatten(1), self.elapsed.unsqueeze(1), *constants], dim=1)

    # -- state and pictures -----------------------------------------------------------------------------------

    @property
    def _kept(self) -> tuple[str, ...]:
        return ("canvas", *self.constants, "elapsed", "error", "first_error", "finished")

    def state(self) -> dict[str, Tensor]:
        """Return copies of all that stepping depends on, as CPU tensors."""
        own = {name: getattr(self, name).cpu().clone() for name in self._kept}
        return own | {f"random.{name}": value for name, value in self.random.state().items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` returned; the pictures are those of the options.

        Raises:
            ValueError: If the state belongs to another number or size of canvases.
        """
        if state["canvas"].shape != self.canvas.shape:
            raise ValueError(f"the state is of canvases {tuple(state['canvas'].shape)}, not {tuple(self.canvas.shape)}")
        for name in self._kept:
            setattr(self, name, state[name].to(self.device, copy=True))
        self.random.load_state({name: state[f"random.{name}"] for name in ("seed", "counters")})

    def gallery(self, number: int = 8) -> np.ndarray:
        """Return the pictures of the episodes that ended last, an episode a column: (P W, n W, 3) uint8."""
        shown = self.finished[:number].permute(1, 3, 0, 4, 2)  # (P, W, n, W, C')
        return shown.flatten(2, 3).flatten(0, 1).cpu().numpy()

    def render(self, index: int = 0) -> np.ndarray:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the pictures of one environment side by side, (W, P W, 3) uint8."""
        shown = self.exhibit(torch.tensor([index], device=self.device))[0]
        return torch.cat(list(shown), dim=2).permute(1, 2, 0).cpu().numpy()


def squared_error(canvas: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared errors (B,) of byte pictures (B, C, W, W), of values in [0, 1]."""
    return ((canvas.float() - target.float()) / 255.0).square().mean(dim=(1, 2, 3))
