"""Painting as an environment: the canvas and a picture are seen, an action is a bundle of strokes.

The canvas begins black and is painted by a renderer that is given, so the environment runs wherever the renderer does
(Learning to Paint, arXiv:1903.04411, section 3). Bytes, reward and state are those of envs/painting/canvas.py. The
reward is of use for logs and for judging; agents that learn by painting reckon their own.

A row of the observation is bytes: the canvas, channels first (3 W W), the number of bundles painted, and the picture
(3 W W), which does not change within an episode, so that the replay stores it once (`constant_columns`).

Shapes: N environments, k strokes a bundle, W side of the canvas.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NamedTuple

import gymnasium
import torch
from torch import Tensor

from envs.painting.canvas import CanvasVectorEnv, Renderer
from envs.painting.pictures import picture_pool
from renderers.choice import make_renderer
from renderers.strokes import BRUSHES, SHAPE_SIZE, STROKE_SIZE, composite
from rlsuite.errors import require, require_choice

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


class PaintingVectorEnv(CanvasVectorEnv):
    """N canvases painted together, wholly on one device.

    Args:
        options: see Painting.
        num_envs: N.
        max_episode_steps: T, bundles an episode, below 256; episodes terminate there.
        device: where canvases and pictures lie.
        dtype: of rewards and info.
        render_mode: "rgb_array" or None.
        pictures: (M, 3, W, W) uint8 to paint, instead of those that the options name.
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
        renderer = make_renderer(
            options.renderer, options.size, brush=options.brush, weights=options.renderer_weights, device=device
        )
        super().__init__(
            options,
            "rlsuite/Painting",
            num_envs,
            renderer=renderer,
            channels=3,
            constants={"target": 3},
            action_size=options.bundle * STROKE_SIZE,
            max_episode_steps=max_episode_steps,
            device=device,
            dtype=dtype,
            render_mode=render_mode,
        )
        self._pool = pictures

    @property
    def pool(self) -> Tensor:
        """The pictures (M, 3, W, W) uint8, read when first needed."""
        if self._pool is None:
            options = self.options
            pool = picture_pool(options.data, options.size, options.num_pictures, options.crop, options.split)
            self._pool = pool.to(self.device)
        return self._pool

    def reset_to(self, pictures: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """Begin an episode on black canvases with given pictures (N, 3, W, W) uint8 instead of drawn ones."""
        self.reset()
        self.target.copy_(pictures)
        self.canvas.zero_()
        self._measure(torch.arange(self.num_envs, device=self.device))
        return self.observation(), {}

    def begin(self, env_ids: Tensor) -> dict[str, Tensor]:
        """Return canvases and pictures to begin with."""
        draw = self.random.uniform(env_ids, 4)
        pick = (draw[:, 0] * len(self.pool)).long().to(self.device)
        target = self.pool[pick]
        if self.options.flip:
            mirrored = (draw[:, 1] < 0.5).to(self.device).view(-1, 1, 1, 1)
            target = torch.where(mirrored, target.flip(3), target)
        canvas = torch.zeros_like(target)
        if self.options.start == "mixed":
            level = (draw[:, 3] * len(COARSE)).long().to(self.device)
            rows = torch.arange(len(env_ids), device=self.device)
            coarse = torch.stack([coarsened(target, factor) for factor in COARSE])[level, rows]
            canvas = torch.where((draw[:, 2] < 0.5).to(self.device).view(-1, 1, 1, 1), coarse, canvas)
        return {"canvas": canvas, "target": target}

    def draw(self, canvas: Tensor, action: Tensor) -> Tensor:
        """Paint bundles of strokes."""
        return paint(canvas, action, self.renderer)


def coarsened(picture: Tensor, factor: int) -> Tensor:
    """Return byte pictures (B, 3, W, W) reduced by a factor and enlarged again, bilinearly."""
    cells = max(1, picture.shape[-1] // factor)
    small = torch.nn.functional.adaptive_avg_pool2d(picture.float(), cells)
    large = torch.nn.functional.interpolate(small, picture.shape[-2:], mode="bilinear", align_corners=False)
    return large.round_().to(torch.uint8)
