"""DQN: values of every choice, learned from a replay (Mnih et al. 2015, doi:10.1038/nature14236).

With it double learning (van Hasselt et al. 2016, arXiv:1509.06461) and a dueling last layer (Wang et al. 2016,
arXiv:1511.06581); n-step sums and priorities (Schaul et al. 2016, arXiv:1511.05952) are the replay's.

Shapes: N environments, B batch, D observation (C, H, W of pictures), K choices.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from agents.dqn_config import DQNConfig, EpsilonConfig
from agents.spaces import check_one_choice
from rlsuite.action_space import choice_counts
from rlsuite.agent import Agent
from rlsuite.distributed import ranks
from rlsuite.errors import require
from rlsuite.nn.ensemble import EnsembleMLP
from rlsuite.nn.exploration import RandomStream
from rlsuite.nn.normalizer import RunningNormalizer
from rlsuite.nn.pictures import PictureNet
from rlsuite.optim.state import adam
from rlsuite.optim.step import take_step
from rlsuite.replay.buffer import Batch, Transition
from rlsuite.vector_env import EnvironmentFacts

if TYPE_CHECKING:
    from rlsuite.config.schema import TrainConfig


class EpsilonGreedy(nn.Module):
    """Takes random choices with a probability that falls with environment steps; steps and draws are its state.

    Args:
        config: see EpsilonConfig.
        seed: of the draws.
        device: where choices lie.
    """

    steps: Tensor

    def __init__(self, config: EpsilonConfig, *, seed: int, device: torch.device | str) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64, device=device))
        self.stream = RandomStream(seed, device)

    def epsilon(self) -> Tensor:
        """Return the present chance of a random choice, 0-d."""
        share = (self.steps / self.config.decay_steps).clamp(max=1.0)
        return self.config.start + (self.config.end - self.config.start) * share

    def forward(self, choice: Tensor, num_choices: int) -> Tensor:
        """Return choices (N, 1), some of them uniformly random ones of K = num_choices."""
        draw = torch.rand(
            (2, *choice.shape), generator=self.stream.generator, device=choice.device, dtype=torch.float64
        )
        return torch.where(draw[0] < self.epsilon(), (draw[1] * num_choices).long(), choice)


class DQN(Agent):
    """A network of action values and its slow copy.

    Actions are one choice among K. Observations are vectors, or pictures of bytes (then the network is convolutional).
    Of a task with goals, whose observations are [own observation, desired goal, achieved goal], the network sees the
    first two.

    Arguments as Agent's.
    """

    Config: ClassVar[type[DQNConfig]] = DQNConfig
    recordable = True
    config: DQNConfig

    def __init__(
        self, facts: EnvironmentFacts, config: DQNConfig, *, seed: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(facts, config, seed=seed, device=device)
        counts = choice_counts(facts.action_space)
        assert counts is not None
        (self.num_choices,) = counts
        self.picture_shape = facts.picture_shape
        self.observation_size = facts.visible_size if self.picture_shape is None else 0
        self.num_updates = 0
        self.network = self._network(seed)
        self.target_network = copy.deepcopy(self.network).requires_grad_(False)
        self.normalizes = config.normalize_observations and self.picture_shape is None
        self.normalizer = RunningNormalizer(self.observation_size, config.normalizer)
        self.to(device)
        self.exploration = EpsilonGreedy(config.epsilon, seed=seed + 1, device=device)
        self.parameters_learned: list[Tensor] = list(self.network.parameters())
        self.parameters_followed: list[Tensor] = list(self.target_network.parameters())
        self.optimizers = {"values": adam(self.parameters_learned, config.learning_rate)}

    @classmethod
    def check(cls, config: TrainConfig, facts: EnvironmentFacts) -> None:
        """Refuse spaces other than one choice acted with, and vectors or pictures seen."""
        check_one_choice(config, facts)
        super().check(config, facts)
        require(
            config.replay.capacity >= config.agent.batch_size,
            f"agent.batch_size={config.agent.batch_size}: the replay holds only {config.replay.capacity}; use less",
        )
        require(
            not config.agent.reward_clip or config.replay.n_step == 1,
            f"agent.reward_clip={config.agent.reward_clip}: with replay.n_step={config.replay.n_step} sums of rewards "
            "would be clipped, not rewards; use replay.n_step=1, or agent.reward_clip=0",
        )

    def _network(self, seed: int) -> EnsembleMLP | PictureNet:
        config, outputs = self.config, self.num_choices + self.config.dueling
        if self.picture_shape is not None:
            return PictureNet(self.picture_shape, outputs, config.vision, seed)
        generator = torch.Generator().manual_seed(seed)
        return EnsembleMLP(
            1, self.observation_size, config.hidden_sizes, outputs, activation=config.activation, generator=generator
        )

    # -- act ----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def act(self, observation: Tensor, explore: bool) -> Tensor:
        """Return choices (N, 1), int64, for observations (N, D)."""
        best = self.greedy(observation)
        return self.exploration(best, self.num_choices) if explore else best

    def greedy(self, observation: Tensor) -> Tensor:
        """Return the choices (N, 1) of largest value: a pure function of the weights."""
        return self.values(self.network, self.normalize(observation)).argmax(dim=-1, keepdim=True)

    def values(self, network: nn.Module, observation: Tensor) -> Tensor:
        """Return Q (B, K) for what normalize() gave (B, D)."""
        output = network(observation.unsqueeze(0))[0]
        if not self.config.dueling:
            return output
        value, advantage = output[:, :1], output[:, 1:]
        return value + advantage - advantage.mean(dim=-1, keepdim=True)  # eq. 9 of Wang et al. 2016

    def normalize(self, observation: Tensor) -> Tensor:
        """Cut off what only hindsight looks at, and standardize where the config asks for it; pictures stay bytes."""
        if self.picture_shape is not None:
            return observation
        observation = observation[..., : self.observation_size]
        return self.normalizer(observation) if self.normalizes else observation.float()

    def observe(self, transition: Transition) -> None:
        """Count steps, and learn observation statistics where the config asks for them."""
        self.exploration.steps += len(transition.reward) * ranks().size
        if self.normalizes:
            self.normalizer.update(transition.observation[..., : self.observation_size])

    # -- update -------------------------------------------------------------------------------------------

    def prepare_update(self) -> bool:
        """Count an update; return whether the slow copy moves with it. This is the update's work on the host."""
        self.num_updates += 1
        return self.config.target_every == 0 or self.num_updates % self.config.target_every == 0

    def learn(self, batch: Batch, follows: bool) -> dict[str, Tensor]:
        """Do one gradient step on a minibatch of B, and let the slow copy follow when its time has come.

        Args:
            batch: B transitions.
            follows: whether it has; a CUDA graph can record either.

        Returns:
            0-d tensors (loss, mean value, epsilon), and under "td_error" the errors (B,) for priorities.
        """
        config = self.config
        observation = self.normalize(batch.observation)
        value = self.values(self.network, observation).gather(1, batch.action).squeeze(1)
        error = value - self.target(batch)
        loss = (batch.weight * functional.huber_loss(error, torch.zeros_like(error), reduction="none")).mean()
        gradients = torch.autograd.grad(loss, self.parameters_learned)
        take_step(self.optimizers["values"], self.parameters_learned, gradients, config.gradient_norm)
        if follows:
            self.follow()
        error = error.detach()
        return {
            "loss": loss.detach(),
            "value": value.detach().mean(),
            "epsilon": self.exploration.epsilon(),
            "td_error": error,
        }

    @torch.no_grad()
    def target(self, batch: Batch) -> Tensor:
        """Return what the values (B,) of a minibatch's actions should be."""
        next_observation = self.normalize(batch.next_observation)
        following = self.values(self.target_network, next_observation)
        chooser = self.values(self.network, next_observation) if self.config.double else following
        following = following.gather(1, chooser.argmax(dim=1, keepdim=True)).squeeze(1)
        clip = self.config.reward_clip
        reward = batch.reward.clamp(-clip, clip) if clip else batch.reward
        return torch.addcmul(reward, batch.discount, following)

    @torch.no_grad()
    def follow(self) -> None:
        """Let the slow copy become the network, or move toward it."""
        if self.config.target_every == 0:
            torch._foreach_lerp_(self.parameters_followed, self.parameters_learned, self.config.target_rate)
        else:
            torch._foreach_copy_(self.parameters_followed, self.parameters_learned)

    # -- state --------------------------------------------------------------------------------------------

    def get_extra_state(self) -> Tensor:
        """Return the number of updates."""
        return torch.tensor(self.num_updates)

    def set_extra_state(self, state: Tensor) -> None:
        """Continue from get_extra_state."""
        self.num_updates = int(state)
