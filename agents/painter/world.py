"""What the painter's algorithm has to know of what it draws on: rows, canvases, and what actor and critic see of them.

Painting is one world; written characters are another (agents/stroke_recognizer/agent.py).

Shapes: B batch, C channels of a canvas, W its side, A action.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from envs.painting.canvas import Renderer
from envs.painting.environment import Scene, paint, unpack


class World(Protocol):
    """A world of canvases.

    Attributes:
        task: the environment's name, for messages.
        canvas_channels: C.
        actor_channels: of what the actor sees besides the step and the coordinates.
        critic_channels: of what the critic sees besides the two canvases, the step and the coordinates.
        blank: value of an empty canvas.
    """

    task: str
    canvas_channels: int
    actor_channels: int
    critic_channels: int
    blank: float

    def size(self, columns: int) -> int:
        """Return W of observations of so many columns."""
        ...

    def unpack(self, observation: Tensor) -> Any:
        """Return a scene of observations (B, columns) uint8: with `canvas`, `target` (B, C, W, W) and `step` (B,)."""
        ...

    def draw(self, canvas: Tensor, action: Tensor, renderer: Renderer) -> Tensor:
        """Return canvases (B, C, W, W) after actions (B, A), differentiably where the renderer is."""
        ...

    def for_actor(self, scene: Any) -> Tensor:
        """Return what the actor sees of a scene (B, actor_channels, W, W)."""
        ...

    def for_critic(self, scene: Any) -> Tensor:
        """Return what the critic sees of a scene besides the canvases, (B, critic_channels, W, W)."""
        ...


class PaintingWorld:
    """Colour canvases, black at first, and a picture that everybody sees."""

    task, canvas_channels, actor_channels, critic_channels, blank = "Painting", 3, 6, 3, 0.0

    def size(self, columns: int) -> int:
        """Return W of observations of 6 W W + 1 bytes."""
        return round((columns // 6) ** 0.5)

    def unpack(self, observation: Tensor) -> Scene:
        """Return canvas, step and target."""
        return unpack(observation)

    def draw(self, canvas: Tensor, action: Tensor, renderer: Renderer) -> Tensor:
        """Paint bundles of strokes."""
        return paint(canvas, action, renderer)

    def for_actor(self, scene: Scene) -> Tensor:
        """Return canvas and picture."""
        return torch.cat([scene.canvas, scene.target], dim=1)

    def for_critic(self, scene: Scene) -> Tensor:
        """Return the picture."""
        return scene.target
