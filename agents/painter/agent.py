"""The painter: model-based DDPG through a differentiable renderer (Learning to Paint, arXiv:1903.04411).

The renderer is the environment's dynamics, known and differentiable. So the policy's gradient is taken through the
strokes it paints, and the critic judges states only: V(C, C', I, t) is the discounted value of what follows once the
bundle has turned canvas C into C'. The update keeps the official code's order: discriminator, critic, actor, slow
copies; reward and value are those of the current networks, and a stored reward is never used.

The canvas after a stored bundle is read from the replay, where it lies in bytes, instead of being painted again: it
differs by less than 1/255 and saves one of three renderings. The official critic's prediction and target both contain
this bundle's reward, which cancels; it is left out.

What a row of the observation says, how an action changes a canvas, and what actor and critic see is the world's
(agents/painter/world.py); the loop is the same for paintings and for written characters.

Shapes: N environments, B batch, W side of the canvas, k strokes a bundle, A = 13 k action.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from agents.painter.config import PainterConfig
from agents.painter.discriminator import Discriminator
from agents.painter.networks import PictureNetwork, coordinate_maps
from agents.painter.world import PaintingWorld, World
from envs.painting.environment import Scene
from rlsuite.agent import Agent
from rlsuite.errors import UserError, require
from rlsuite.nn.exploration import RandomStream
from rlsuite.nn.precision import update_dtype
from rlsuite.optim.state import adam, set_learning_rate
from rlsuite.optim.step import take_step
from rlsuite.replay.buffer import Batch
from rlsuite.vector_env import EnvironmentFacts

if TYPE_CHECKING:
    from rlsuite.config.schema import TrainConfig

ACTOR_CHANNELS = 9  # of paintings
MAPS = 3  # channels of the step and the coordinates
FLOOR = 1e-4  # of mean squared errors in reward=psnr: nobody sees a difference of 40 dB


class Painter(Agent):
    """Actor, critic, discriminator and their slow copies, for canvases of envs/painting/environment.py.

    Arguments as Agent's; the facts are of a painting environment, its renderer differentiable.
    """

    Config: ClassVar[type[PainterConfig]] = PainterConfig
    config: PainterConfig
    recordable = True
    does = "paints"

    def __init__(
        self, facts: EnvironmentFacts, config: PainterConfig, *, seed: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(facts, config, seed=seed, device=device)
        if facts.renderer is None or facts.max_episode_steps is None:
            raise ValueError("the environment is none of painting")
        self.world = self.make_world(config)
        self.renderer, self.episode_length = facts.renderer, facts.max_episode_steps
        self.num_updates = 0
        self.size = self.world.size(facts.observation_size)
        self.action_size = facts.action_size
        self.update_dtype = update_dtype(config.precision, device)
        with torch.random.fork_rng(devices=[]):  # torch's own initializations take no generator
            torch.manual_seed(seed)
            self._make_networks()
        self.register_buffer("coordinates", coordinate_maps(self.size), persistent=False)
        self.coordinates: Tensor
        self.to(device)
        self.noise_scale: Tensor
        self.register_buffer("noise_scale", torch.zeros(facts.num_envs, 1, device=device))
        self.exploration_stream = RandomStream(seed + 1, device)
        self.stream = RandomStream(seed + 2, device)
        self.optimizers = {
            "actor": adam(self.actor.parameters(), config.actor_learning_rates[0]),
            "critic": adam(self.critic.parameters(), config.critic_learning_rates[0]),
        }
        if config.reward == "wgan":
            self.optimizers["discriminator"] = adam(
                self.discriminator.parameters(), config.discriminator_learning_rate, betas=(0.5, 0.999)
            )

    @classmethod
    def make_world(cls, config: Any) -> World:
        """Return the world that an agent with such numbers lives in."""
        return PaintingWorld()

    @classmethod
    def check_task(cls, config: TrainConfig) -> None:
        """Refuse tasks of another world: their options are not this agent's."""
        task = cls.make_world(config.agent).task
        require(config.env.name == task, f"agent={config.agent_name} {cls.does}; use env={task}")

    @classmethod
    def check(cls, config: TrainConfig, facts: EnvironmentFacts) -> None:
        """Refuse renderers that have no gradients to learn through."""
        cls.check_task(config)
        cls.check_renderer(str(config.env.options.get("renderer", "soft")))
        super().check(config, facts)

    @classmethod
    def check_renderer(cls, kind: str) -> None:
        """Raise UserError where the renderer has no gradients to learn through."""
        require(kind != "exact", "env.renderer=exact has no gradients; use soft or neural, or agent=painter_ddpg")

    @property
    def patches(self) -> bool:
        """Whether rewards and values are of patches of the picture."""
        return False

    @property
    def actor_channels(self) -> int:
        """Channels of `state`."""
        return self.world.actor_channels + MAPS

    def _make_networks(self) -> None:
        config = self.config
        kind: Any = {"kind": config.network, "width": config.width}
        self.actor = PictureNetwork(
            self.actor_channels, self.action_size, self.size, batch_norm=True, squash=torch.sigmoid, **kind
        )
        self.critic = self._make_critic()
        self.discriminator = Discriminator(patches=self.patches)
        self.target_actor, self.target_critic, self.target_discriminator = (
            copy.deepcopy(network).requires_grad_(False) for network in (self.actor, self.critic, self.discriminator)
        )
        self.eval()

    def _make_critic(self) -> nn.Module:
        config = self.config
        channels = 2 * self.world.canvas_channels + self.world.critic_channels + MAPS
        return PictureNetwork(channels, 1, self.size, kind=config.network, width=config.width, batch_norm=False)

    # -- act ----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def act(self, observation: Tensor, explore: bool) -> Tensor:
        """Return bundles of strokes (N, 13 k) in [0, 1] for observations (N, 6 W W + 1) uint8."""
        scene = self.world.unpack(observation)
        action = self.actor(self.state(scene))
        if not explore or self.config.exploration_noise == 0.0:
            return action
        generator, begins = self.exploration_stream.generator, scene.step.unsqueeze(1) == 0
        drawn = torch.rand(self.noise_scale.shape, generator=generator, device=action.device)
        self.noise_scale.copy_(torch.where(begins, drawn * self.config.exploration_noise, self.noise_scale))
        noise = torch.randn(action.shape, generator=generator, device=action.device)
        return (action + self.noise_scale * noise).clamp_(0.0, 1.0)

    def state(self, scene: Any) -> Tensor:
        """Return what the actor sees (B, ..., W, W): canvas, picture, the share of steps done, coordinates."""
        maps = step_and_place_maps(scene.step, self.episode_length, self.coordinates)
        return torch.cat([self.world.for_actor(scene), *maps], dim=1)

    def greedy(self, observation: Tensor) -> Tensor:
        """Refuse to be exported as other policies are."""
        raise UserError("there is no policy of vectors in it; scripts/painter/export_painter.py exports painters")

    # -- values and rewards ---------------------------------------------------------------------------------

    def _call(self, network: nn.Module, *inputs: Tensor) -> Tensor:
        """Run a network in the dtype of updates."""
        with self._precision():
            return network(*inputs).float()

    def _precision(self) -> torch.autocast:
        low = self.update_dtype != torch.float32
        return torch.autocast(self.coordinates.device.type, self.update_dtype if low else None, enabled=low)

    def value(self, critic: nn.Module, scene: Any, after: Tensor) -> Tensor:
        """Return V(C, C', I, t + 1) (B, 1): what follows once a scene's canvases have become `after`."""
        maps = step_and_place_maps(scene.step + 1, self.episode_length, self.coordinates)
        return self._call(critic, torch.cat([scene.canvas, after, self.world.for_critic(scene), *maps], dim=1))

    def gain(self, scene: Any, after: Tensor) -> Tensor:
        """Return rewards (B, P) of turning a scene's canvases into `after`."""
        return self.reward(scene.target, scene.canvas, after)

    def reward(self, target: Tensor, before: Tensor, after: Tensor) -> Tensor:
        """Return rewards (B, P) of turning canvases `before` into `after`: P patches, or 1."""
        if self.config.reward == "wgan":
            score = self.target_discriminator
            gain = self._call(score, target, after) - self._call(score, target, before)
        else:
            first, last = self._errors(before, target), self._errors(after, target)
            logarithmic = self.config.reward == "psnr"
            gain = torch.log((first + FLOOR) / (last + FLOOR)) if logarithmic else first - last
            if self.config.reward == "share":
                gain = gain / self._errors(torch.full_like(target, self.world.blank), target).clamp_min(FLOOR)
        return self.config.reward_scale * gain

    def _errors(self, canvas: Tensor, target: Tensor) -> Tensor:
        """Return mean squared errors (B, P)."""
        error = (canvas - target).square().mean(dim=1)
        if self.patches:
            return nn.functional.avg_pool2d(error, 16).flatten(1)
        return error.mean(dim=(1, 2)).unsqueeze(1)

    # -- update -------------------------------------------------------------------------------------------

    def prepare_update(self) -> None:
        """Set the learning rates and count the update."""
        self._schedule()
        self.num_updates += 1

    def update_generators(self) -> list[torch.Generator]:
        """Return the stream of the discriminator's penalty."""
        return [self.stream.generator]

    def learn(self, batch: Batch, variant: Any) -> dict[str, Tensor]:
        """Do one update with transitions (B, ...), in the released code's order; return metrics and "td_error" (B,)."""
        scene, following = self.world.unpack(batch.observation), self.world.unpack(batch.next_observation)
        metrics: dict[str, Tensor] = {}
        if self.config.reward == "wgan":
            metrics |= self._update_discriminator(following)
        metrics |= self._update_critic(scene, following, batch)
        metrics |= self._update_actor(scene)
        self._update_targets()
        return metrics

    def _schedule(self) -> None:
        config = self.config
        phase = sum(self.num_updates >= milestone for milestone in config.milestones)
        set_learning_rate(self.optimizers["actor"], config.actor_learning_rates[phase])
        set_learning_rate(self.optimizers["critic"], config.critic_learning_rates[phase])

    def _update_discriminator(self, following: Any) -> dict[str, Tensor]:
        with self._precision():
            loss, distance = self.discriminator.loss(
                following.target,
                following.canvas,
                penalty=self.config.gradient_penalty,
                generator=self.stream.generator,
            )
        self._step("discriminator", self.discriminator, loss)
        return {"discriminator_loss": loss.detach(), "wasserstein_distance": distance}

    def _update_critic(self, scene: Any, following: Any, batch: Batch) -> dict[str, Tensor]:
        with torch.no_grad():
            action = self._call(self.target_actor, self.state(following))
            after = self.world.draw(following.canvas, action, self.renderer)
            later = self.value(self.target_critic, following, after) + self.gain(following, after)
            target = batch.discount.unsqueeze(1) * later
        value = self.value(self.critic, scene, following.canvas)
        error = value - target
        loss = (batch.weight.unsqueeze(1) * error.square()).mean()
        self._step("critic", self.critic, loss)
        return {"critic_loss": loss.detach(), "value": value.detach().mean(), "td_error": error.detach().mean(dim=1)}

    def _update_actor(self, scene: Any) -> dict[str, Tensor]:
        self.actor.train()  # BatchNorm learns from the minibatch here, and nowhere else
        action = self._call(self.actor, self.state(scene))
        self.actor.eval()
        after = self.world.draw(scene.canvas, action, self.renderer)
        value = self.value(self.critic, scene, after)
        reward = self.gain(scene, after)
        loss = -(value + reward).mean()
        self._step("actor", self.actor, loss)
        return {"actor_loss": loss.detach(), "reward": reward.detach().mean()}

    def _step(self, name: str, network: nn.Module, loss: Tensor) -> None:
        parameters = list(network.parameters())
        take_step(self.optimizers[name], parameters, torch.autograd.grad(loss, parameters))

    @torch.no_grad()
    def _update_targets(self) -> None:
        for name in ("actor", "critic", "discriminator"):
            network, slow = getattr(self, name), getattr(self, f"target_{name}")
            torch._foreach_lerp_(list(slow.parameters()), list(network.parameters()), self.config.target_rate)
        # BatchNorm's running statistics are no parameters; a slow actor with its first statistics would act oddly.
        for slow, own in zip(self.target_actor.buffers(), self.actor.buffers(), strict=True):
            slow.copy_(own)

    # -- state --------------------------------------------------------------------------------------------

    def get_extra_state(self) -> Tensor:
        """Return the number of updates done, which the learning rates need on resume."""
        return torch.tensor(self.num_updates)

    def set_extra_state(self, state: Tensor) -> None:
        """Continue from get_extra_state."""
        self.num_updates = int(state)


def actor_state(scene: Scene, episode_length: int, coordinates: Tensor) -> Tensor:
    """Return what a painter's actor sees (B, 9, W, W): canvas, picture, the share of steps done, two coordinates."""
    maps = step_and_place_maps(scene.step, episode_length, coordinates)
    return torch.cat([scene.canvas, scene.target, *maps], dim=1)


def step_and_place_maps(step: Tensor, episode_length: int, coordinates: Tensor) -> tuple[Tensor, Tensor]:
    """Return maps (B, 1, W, W) of the share of steps (B,) done, and CoordConv's (B, 2, W, W)."""
    share = (step / episode_length).view(-1, 1, 1, 1).expand(-1, 1, *coordinates.shape[1:])
    return share, coordinates.expand(len(step), -1, -1, -1)
