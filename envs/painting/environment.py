"""Painting as an environment: the canvas and a picture are seen, an action is a bundle of strokes.

The canvas begins black and is painted by a renderer that is given, so the environment runs wherever the renderer does
(Learning to Paint, arXiv:1903.04411, section 3). As in the official code canvases are bytes: 255 C is floored after
every bundle. The reward is the official code's, of use for logs and for judging, (MSE_before - MSE_after) / MSE_0, so
that an episode's return is 1 - MSE_T / MSE_0; agents that learn by painting reckon their own.

A row of the observation is bytes: the canvas, channels first (3 W W), the number of bundles painted, and the picture
(3 W W), which does not change within an episode, so that the replay stores it once (`constant_columns`).

Shapes: N environments, k strokes a bundle, W side of the canvas.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import gymnasium
import numpy as np
import torch
from torch import Tensor

from envs.painting.pictures import picture_pool
from envs.random import EnvironmentRandom
from envs.vector import VectorEnv
from renderers.choice import make_renderer
from renderers.strokes import BRUSHES, SHAPE_SIZE, STROKE_SIZE, composite
from rlsuite.errors import require, require_choice

Renderer = Callable[[Tensor], Tensor]
COARSE = (4, 8, 16)  # pixels of the canvas that one of a coarse start's becomes


class Scene(NamedTuple):
    """What a row of the observation says.

    Attributes:
        canvas: (B, 3, W, W) float in [0, 1].
        step: (B,) float, bundles painted.
        target: (B, 3, W, W) float in [0, 1].
    """

    canvas: Tensor
    step: Tensor
    target: Tensor


def unpack(observation: Tensor) -> Scene:
    """Return the parts of observations (B, 6 W W + 1) uint8."""
    pixels = observation.shape[1] // 2
    side = round((pixels // 3) ** 0.5)
    parts = observation[:, :pixels], observation[:, pixels + 1 :]
    canvas, target = (part.unflatten(1, (3, side, side)).float() / 255.0 for part in parts)
    return Scene(canvas, observation[:, pixels].float(), target)


def paint(canvas: Tensor, action: Tensor, renderer: Renderer) -> Tensor:
    """Paint bundles of strokes, in their order, over canvases, differentiably where the renderer is.

    Args:
        canvas: (B, 3, W, W) in [0, 1].
        action: (B, 13 k) in [0, 1].
        renderer: maps shapes (..., 10) to opacity maps (..., W, W).

    Returns:
        The painted canvases (B, 3, W, W).
    """
    strokes = action.unflatten(1, (-1, STROKE_SIZE))
    return composite(canvas, renderer(strokes[..., :SHAPE_SIZE]), strokes[..., SHAPE_SIZE:])


@dataclasses.dataclass(frozen=True)
class Painting:
    """The options of the painting environment.

    Attributes:
        size: W, pixels of the canvas's side.
        bundle: k, strokes an action.
        renderer: "soft", "neural" or "exact".
        renderer_weights: file of the neural renderer's weights; see scripts/painter/train_renderer.py.
        brush: one of "bezier", "opaque", "circle", "triangle", "line".
        data: an image folder; "scenes" for self-made pictures; "skimage" for scikit-image's and as many self-made.
        split: "train" or "test": which of the pictures. Evaluation takes "test", unless a run sets this.
        num_pictures: pictures kept in memory at most.
        crop: crops take this share of a picture's shorter side or more; 1 takes whole pictures, squeezed to a
            square, as the paper does.
        flip: mirror pictures left to right at random.
        start: "black" (the paper), or "mixed": half of the episodes begin on a coarse copy of the picture, which is
            what tiles of a large picture look like when finer strokes begin. Evaluation always begins black.
    """

    name: ClassVar[str] = "Painting"
    max_episode_steps: ClassVar[int] = 40
    ends_itself: ClassVar[bool] = True  # its episodes terminate, on their last bundle, where others are truncated

    size: int = 128
    bundle: int = 5
    renderer: str = "soft"
    renderer_weights: str = ""
    brush: str = "bezier"
    data: str = "scenes"
    split: str = "train"
    num_pictures: int = 2_000
    crop: float = 0.3
    flip: bool = True
    start: str = "black"

    def __post_init__(self) -> None:
        require(self.size >= 8, f"env.size={self.size}: use 8 or more")
        require(self.bundle >= 1, f"env.bundle={self.bundle}: use 1 or more")
        require(self.num_pictures >= 1, f"env.num_pictures={self.num_pictures}: use 1 or more")
        require(0.0 < self.crop <= 1.0, f"env.crop={self.crop}: use a share of the picture, above 0 and at most 1")
        require_choice("env.brush", self.brush, BRUSHES)
        require_choice("env.split", self.split, ("train", "test"))
        require_choice("env.start", self.start, ("black", "mixed"))

    @staticmethod
    def evaluation_options(options: dict[str, Any]) -> dict[str, Any]:
        """Return a run's options for judging its painter: test pictures, unless env.split is chosen, from black."""
        return {"split": "test", **options, "start": "black"}

    @staticmethod
    def make_single(**arguments: Any) -> gymnasium.Env:
        """Return one environment, as `gymnasium.make` asks for it."""
        from envs.painting.single import PaintingSingleEnv

        return PaintingSingleEnv(**arguments)

    def make_vector(self, num_envs: int, **arguments: Any) -> PaintingVectorEnv:
        """Return the environments."""
        return PaintingVectorEnv(self, num_envs, **arguments)


class PaintingVectorEnv(VectorEnv):
    """N canvases painted together, wholly on one device.

    Args:
        options: see Painting.
        num_envs: N.
        max_episode_steps: T, bundles an episode, below 256; episodes terminate there.
        device: where canvases and pictures lie.
        dtype: of rewards and info.
        render_mode: "rgb_array" or None.
        pictures: (M, 3, W, W) uint8 to paint, instead of those that the options name.

    Attributes:
        renderer: shapes (..., 10) -> opacity maps (..., W, W).
        finished: (N, 2, 3, W, W) uint8: the pictures and canvases of the episodes that ended last.
    """

    def __init__(
        self,
        options: Painting,
        num_envs: int,
        *,
        max_episode_steps: int | None = Painting.max_episode_steps,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        render_mode: str | None = None,
        pictures: Tensor | None = None,
    ) -> None:
        require(
            max_episode_steps is not None and max_episode_steps < 256,
            f"env.max_episode_steps={max_episode_steps}: the bundles painted are one byte; use 1 to 255",
        )
        self.options = options
        self.renderer: Renderer = make_renderer(
            options.renderer, options.size, brush=options.brush, weights=options.renderer_weights, device=device
        )
        self.pixels = 3 * options.size**2
        self.constant_columns = self.pixels
        low, high = np.zeros(options.bundle * STROKE_SIZE), np.ones(options.bundle * STROKE_SIZE)
        super().__init__(
            "rlsuite/Painting",
            num_envs,
            2 * self.pixels + 1,
            low,
            high,
            device=device,
            dtype=dtype,
            max_episode_steps=max_episode_steps,
            render_mode=render_mode,
        )
        self.single_observation_space = gymnasium.spaces.Box(0, 255, (2 * self.pixels + 1,), np.uint8)
        self.observation_space = gymnasium.vector.utils.batch_space(self.single_observation_space, num_envs)
        self.random = EnvironmentRandom(num_envs, self.seed)
        self._pool = pictures
        side = (3, options.size, options.size)
        self.canvas, self.target = (torch.zeros((num_envs, *side), dtype=torch.uint8, device=device) for _ in range(2))
        self.elapsed = torch.zeros(num_envs, dtype=torch.uint8, device=device)
        self.error, self.first_error = (torch.ones(num_envs, device=device) for _ in range(2))
        self.finished = torch.zeros((num_envs, 2, *side), dtype=torch.uint8, device=device)

    @property
    def pool(self) -> Tensor:
        """The pictures (M, 3, W, W) uint8, read when first needed."""
        if self._pool is None:
            options = self.options
            pool = picture_pool(options.data, options.size, options.num_pictures, options.crop, options.split)
            self._pool = pool.to(self.device)
        return self._pool

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Tensor, dict[str, Any]]:
        """Begin a new episode in every environment; see `VectorEnv.reset`."""
        gymnasium.vector.VectorEnv.reset(self, seed=seed)
        if seed is not None:
            self.seed = seed
            self.random.reseed(seed)
        self._begin(torch.arange(self.num_envs))
        return self.observation(), {}

    def reset_to(self, pictures: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """Begin an episode on black canvases with given pictures (N, 3, W, W) uint8 instead of drawn ones."""
        self.reset()
        self.target.copy_(pictures)
        self.canvas.zero_()
        self.error.copy_(squared_error(self.canvas, self.target))
        self.first_error.copy_(self.error.clamp_min(1e-4))
        return self.observation(), {}

    def _begin(self, env_ids: Tensor) -> None:
        draw = self.random.uniform(env_ids, 4)
        pick = (draw[:, 0] * len(self.pool)).long().to(self.device)
        target = self.pool[pick]
        if self.options.flip:
            mirrored = (draw[:, 1] < 0.5).to(self.device).view(-1, 1, 1, 1)
            target = torch.where(mirrored, target.flip(3), target)
        ids = env_ids.to(self.device)
        canvas = torch.zeros_like(target)
        if self.options.start == "mixed":
            level = (draw[:, 3] * len(COARSE)).long().to(self.device)
            coarse = torch.stack([coarsened(target, factor) for factor in COARSE])[level, torch.arange(len(ids))]
            canvas = torch.where((draw[:, 2] < 0.5).to(self.device).view(-1, 1, 1, 1), coarse, canvas)
        self.target[ids], self.canvas[ids], self.elapsed[ids] = target, canvas, 0
        error = squared_error(canvas, target)
        self.error[ids], self.first_error[ids] = error, error.clamp_min(1e-4)

    def step(self, actions: Tensor | np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Paint one bundle on every canvas; see `VectorEnv.step`. info["mse"] is the error it left, (N,)."""
        action = self.checked_action(actions).to(self.device, torch.float32).clamp_(0.0, 1.0)
        with torch.no_grad():
            painted = paint(self.canvas.float() / 255.0, action, self.renderer)
        self.canvas = (painted * 255.0).floor_().clamp_(0.0, 255.0).to(torch.uint8)
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
            self.finished[ended] = torch.stack([self.target[ended], self.canvas[ended]], dim=1)
            self._begin(ended.cpu())
            observation = self.observation()
        no = torch.zeros_like(terminated)
        return observation, reward, terminated, no, {"final_obs": final, "failed": no, "mse": mse}

    def observation(self) -> Tensor:
        """Return a copy of the current observation, (N, 6 W W + 1) uint8."""
        return torch.cat([self.canvas.flatten(1), self.elapsed.unsqueeze(1), self.target.flatten(1)], dim=1)

    def state(self) -> dict[str, Tensor]:
        """Return copies of all that stepping depends on, as CPU tensors."""
        own = {name: getattr(self, name).cpu().clone() for name in _STATE}
        return own | {f"random.{name}": value for name, value in self.random.state().items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` returned; the pictures are those of the options.

        Raises:
            ValueError: If the state belongs to another number or size of canvases.
        """
        if state["canvas"].shape != self.canvas.shape:
            raise ValueError(f"the state is of canvases {tuple(state['canvas'].shape)}, not {tuple(self.canvas.shape)}")
        for name in _STATE:
            setattr(self, name, state[name].to(self.device, copy=True))
        self.random.load_state({name: state[f"random.{name}"] for name in ("seed", "counters")})

    def gallery(self, number: int = 8) -> np.ndarray:
        """Return pictures (above) and final canvases (below) of the episodes that ended last, (2 W, n W, 3) uint8."""
        shown = self.finished[:number].permute(1, 3, 0, 4, 2)  # (2, W, n, W, 3)
        return shown.flatten(2, 3).flatten(0, 1).cpu().numpy()

    def render(self, index: int = 0) -> np.ndarray:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the picture and the canvas of one environment side by side, (W, 2 W, 3) uint8."""
        return torch.cat([self.target[index], self.canvas[index]], dim=2).permute(1, 2, 0).cpu().numpy()


_STATE = ("canvas", "target", "elapsed", "error", "first_error", "finished")


def squared_error(canvas: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared errors (B,) of byte pictures (B, 3, W, W), of values in [0, 1]."""
    return ((canvas.float() - target.float()) / 255.0).square().mean(dim=(1, 2, 3))


def coarsened(picture: Tensor, factor: int) -> Tensor:
    """Return byte pictures (B, 3, W, W) reduced by a factor and enlarged again, bilinearly."""
    cells = max(1, picture.shape[-1] // factor)
    small = torch.nn.functional.adaptive_avg_pool2d(picture.float(), cells)
    large = torch.nn.functional.interpolate(small, picture.shape[-2:], mode="bilinear", align_corners=False)
    return large.round_().to(torch.uint8)
