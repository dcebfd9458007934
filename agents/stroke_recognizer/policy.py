"""A trained scribe's policy alone, unrolled: from a picture to all strokes of an episode, as an extractor gives them.

It writes on its own paper, by the soft rasterizer, and looks at it again, so gradients go through all T steps of
renderer and actor: an attack through `Redraw(PolicyStrokes.of(agent), W)` is adaptive.

Shapes: B pictures, W side, T steps of k strokes.
"""

from __future__ import annotations

import copy
import functools

import torch
from torch import Tensor, nn

from agents.painter.agent import Painter, step_and_place_maps
from envs.characters.task import WrittenScene, unpack_written
from renderers.glyph import blank, write
from renderers.soft import draw_soft
from renderers.strokes import GLYPH


class PolicyStrokes(nn.Module):
    """Pictures to strokes, by an actor that writes one bundle after another.

    Args:
        actor: of a trained scribe.
        size: W.
        steps: T.
    """

    def __init__(self, actor: nn.Module, size: int, steps: int, coordinates: Tensor) -> None:
        super().__init__()
        self.actor, self.size, self.steps = actor, size, steps
        self.register_buffer("coordinates", coordinates, persistent=False)
        self.coordinates: Tensor
        self.eval().requires_grad_(False)

    @classmethod
    def of(cls, agent: Painter) -> PolicyStrokes:
        """Return the policy of a scribe, apart from it."""
        return cls(copy.deepcopy(agent.actor), agent.size, agent.episode_length, agent.coordinates.clone())

    def act(self, observation: Tensor) -> Tensor:
        """Return bundles (B, 9 k) for observations of the environment (B, 5 W W + 1) uint8."""
        return self._bundle(unpack_written(observation))

    def _bundle(self, scene: WrittenScene) -> Tensor:
        maps = step_and_place_maps(scene.step, self.steps, self.coordinates)
        return self.actor(torch.cat([scene.noisy, scene.canvas, *maps], dim=1))

    def forward(self, pictures: Tensor) -> Tensor:
        """Map pictures (B, 3, W, W) in [0, 1] to the strokes of an episode (B, 9 k T)."""
        paper = blank(len(pictures), self.size, pictures)
        renderer = functools.partial(draw_soft, size=self.size, brush=GLYPH)
        bundles = []
        for step in range(self.steps):
            done = torch.full((len(pictures),), float(step), device=pictures.device)
            bundles.append(self._bundle(WrittenScene(paper, done, pictures, paper)))
            paper = write(paper, bundles[-1], renderer)
        return torch.cat(bundles, dim=1)
