"""The stroke recognizer learned by reinforcement: it looks at a noisy character and writes it clean, stroke by stroke.

Version 1 of arXiv:1806.08990 trains its strokes with deep reinforcement learning; its network, reward and figures could
not be read, so this is a reconstruction (docs/characters.md): the painter's algorithm (agents/painter/agent.py) in a
world of white paper and ink. `StrokeRecognizer` learns through the renderer, as the same authors' later painter does;
`ModelFreeStrokeRecognizer` is plain DDPG, as the first version's must have been.

The clean glyph is seen by rewards, and with privileged_critic=true by the critic (an asymmetric critic, which is not
needed once training is over), never by the policy.

Shapes: B batch, W side of the paper, k strokes a bundle.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from agents.painter.agent import MAPS, Painter, step_and_place_maps
from agents.painter.config import ModelFreePainterConfig, PainterConfig
from agents.painter.model_free import ModelFreePainter
from agents.stroke_recognizer.recognizer import PlainReader
from agents.stroke_recognizer.weights import load_readers
from envs.characters.task import WrittenScene, unpack_written
from envs.painting.canvas import Renderer
from renderers.glyph import write
from rlsuite.errors import require_finite


@dataclass(frozen=True, kw_only=True)
class StrokeRecognizerConfig(PainterConfig):
    """The painter's numbers, and what characters add.

    Attributes:
        privileged_critic: the critic sees the clean glyph, too.
        recognizer_weight: beta; the last bundle's reward has beta log p besides, where p is what a frozen recognizer
            gives the class that it reads in the clean glyph. 0 for none.
        recognizer: file of the recognizer's weights; "" for those that come with the suite, of 32 pixels.
    """

    reward: str = "share"
    privileged_critic: bool = True
    recognizer_weight: float = 0.0
    recognizer: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_finite("agent.recognizer_weight", self.recognizer_weight, low=0.0)


@dataclass(frozen=True, kw_only=True)
class ModelFreeStrokeRecognizerConfig(StrokeRecognizerConfig, ModelFreePainterConfig):
    """The same for DDPG that does not look through the renderer."""


class WrittenWorld:
    """White paper, a noisy picture that everybody sees, and a clean glyph that the critic may see.

    Args:
        privileged: whether it does.
    """

    task, canvas_channels, actor_channels, blank = "Characters", 1, 4, 1.0

    def __init__(self, privileged: bool) -> None:
        self.privileged = privileged
        self.critic_channels = 4 if privileged else 3

    def size(self, columns: int) -> int:
        """Return W of observations of 5 W W + 1 bytes."""
        return round((columns // 5) ** 0.5)

    def unpack(self, observation: Tensor) -> WrittenScene:
        """Return paper, step, noisy picture and clean glyph."""
        return unpack_written(observation)

    def draw(self, canvas: Tensor, action: Tensor, renderer: Renderer) -> Tensor:
        """Write bundles of strokes."""
        return write(canvas, action, renderer)

    def for_actor(self, scene: WrittenScene) -> Tensor:
        """Return noisy picture and paper (B, 4, W, W)."""
        return torch.cat([scene.noisy, scene.canvas], dim=1)

    def for_critic(self, scene: WrittenScene) -> Tensor:
        """Return the noisy picture, and the clean glyph if it may be seen."""
        return torch.cat([scene.noisy, scene.target], dim=1) if self.privileged else scene.noisy


class _Writes:
    """What both recognizers have: their world, and the recognizer's word on the last bundle."""

    does = "writes characters"

    @classmethod
    def make_world(cls, config: StrokeRecognizerConfig) -> WrittenWorld:
        """Return the world of characters."""
        return WrittenWorld(config.privileged_critic)

    @functools.cached_property
    def frozen(self: Any) -> PlainReader:
        """The recognizer, cached outside of the module's parts: it never learns and is no state of the agent's."""
        readers = load_readers(self.config.recognizer) if self.config.recognizer else load_readers()
        return readers.plain().to(self.coordinates.device)

    def gain(self: Any, scene: WrittenScene, after: Tensor) -> Tensor:
        """Return rewards (B, 1) of turning a scene's papers into `after`, with the recognizer's on the last bundle."""
        reward = self.reward(scene.target, scene.canvas, after)
        beta = self.config.recognizer_weight
        if beta == 0.0:
            return reward
        with torch.no_grad():
            label = self.frozen(scene.target).argmax(1, keepdim=True)
        log_prob = functional.log_softmax(self.frozen(after), dim=1).gather(1, label)
        last = (scene.step + 1 >= self.episode_length).unsqueeze(1)
        return reward + self.config.reward_scale * beta * torch.where(last, log_prob, 0.0)


class StrokeRecognizer(_Writes, Painter):
    """Model-based DDPG on characters; arguments as Agent's."""

    Config: ClassVar[type[PainterConfig]] = StrokeRecognizerConfig


class ModelFreeStrokeRecognizer(_Writes, ModelFreePainter):
    """DDPG on characters; arguments as Agent's."""

    Config: ClassVar[type[PainterConfig]] = ModelFreeStrokeRecognizerConfig

    @property
    def critic_state_channels(self) -> int:
        """What the actor sees, and the clean glyph if it may be seen."""
        return self.world.critic_channels + self.world.canvas_channels + MAPS

    def critic_state(self, scene: WrittenScene) -> Tensor:
        """Return (B, ..., W, W), the coordinates last."""
        maps = step_and_place_maps(scene.step, self.episode_length, self.coordinates)
        return torch.cat([scene.canvas, self.world.for_critic(scene), *maps], dim=1)
