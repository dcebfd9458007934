"""The paper's baselines: DDPG that does not look through the renderer, and DDPG with PatchQ (arXiv:1903.04411).

The critic takes state and action, and the actor ascends it; the renderer only paints. With agent.patches=true rewards
and values are of each of the (W/16)^2 patches of the picture, and so is the Bellman target.

Shapes: B batch, W side of the canvas, A action, P patches (1 without).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from agents.painter.agent import Painter
from agents.painter.config import ModelFreePainterConfig, PainterConfig
from agents.painter.networks import PatchCritic, PictureNetwork
from rlsuite.errors import require
from rlsuite.replay.buffer import Batch
from rlsuite.vector_env import EnvironmentFacts

if TYPE_CHECKING:
    from rlsuite.config.schema import TrainConfig


class ModelFreePainter(Painter):
    """DDPG on strokes; arguments as Agent's."""

    Config: ClassVar[type[PainterConfig]] = ModelFreePainterConfig
    config: ModelFreePainterConfig

    @classmethod
    def check(cls, config: TrainConfig, facts: EnvironmentFacts) -> None:
        """Refuse patches that do not divide the canvas."""
        super().check(config, facts)
        if config.agent.patches:
            size = cls.make_world(config.agent).size(facts.observation_size)
            text = "agent.patches=true has patches of 16 pixels; use a multiple of 16"
            require(size % 16 == 0, f"env.size={size}: {text}")

    @classmethod
    def check_renderer(cls, kind: str) -> None:
        """Take any renderer: nothing looks through it."""

    @property
    def patches(self) -> bool:
        """Whether rewards and values are of patches of the picture (PatchQ)."""
        return self.config.patches

    def _make_critic(self) -> nn.Module:
        config = self.config
        if config.network == "resnet18":
            return PatchCritic(self.critic_state_channels, self.action_size, width=config.width, patches=config.patches)
        return PictureNetwork(
            self.critic_state_channels,
            1,
            self.size,
            kind="small",
            width=config.width,
            batch_norm=False,
            extra=self.action_size,
        )

    @property
    def critic_state_channels(self) -> int:
        """Channels of `critic_state`."""
        return self.actor_channels

    def critic_state(self, scene: Any) -> Tensor:
        """Return what the critic sees besides the action, the coordinates last: what the actor does."""
        return self.state(scene)

    def _update_critic(self, scene: Any, following: Any, batch: Batch) -> dict[str, Tensor]:
        with torch.no_grad():
            action = self._call(self.target_actor, self.state(following))
            later = self._call(self.target_critic, self.critic_state(following), action)
            reward = self.gain(scene, following.canvas)
            target = reward + batch.discount.unsqueeze(1) * later
        value = self._call(self.critic, self.critic_state(scene), batch.action)
        error = value - target
        loss = (batch.weight.unsqueeze(1) * error.square()).mean()
        self._step("critic", self.critic, loss)
        return {"critic_loss": loss.detach(), "value": value.detach().mean(), "td_error": error.detach().mean(dim=1)}

    def _update_actor(self, scene: Any) -> dict[str, Tensor]:
        self.actor.train()
        action = self._call(self.actor, self.state(scene))
        self.actor.eval()
        loss = -self._call(self.critic, self.critic_state(scene), action).mean()
        self._step("actor", self.actor, loss)
        return {"actor_loss": loss.detach()}
