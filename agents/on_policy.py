"""What agents that learn from whole rollouts share: policy, value, what they see, and advantages.

Generalized advantages; observations standardized, rewards divided by the deviation of their discounted returns;
orthogonal weights (Engstrom et al. 2020, Huang et al. 2022). Statistics of observations change only between rollouts:
the policy that a rollout is learned with is the one it was collected with, to the bit.

Shapes: T steps, N environments, M transitions of a minibatch, D observation, A action, L outputs of the actor.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from agents.on_policy_config import OnPolicyConfig
from agents.spaces import check_vectors_or_choices
from rlsuite.action_space import choice_counts
from rlsuite.agent import Agent
from rlsuite.distributed import ranks
from rlsuite.errors import UserError, require
from rlsuite.nn.action_heads import ActionLaw, Gaussian, choice_law, num_outputs
from rlsuite.nn.action_range import ActionRange, PlainChoices
from rlsuite.nn.ensemble import EnsembleMLP
from rlsuite.nn.exploration import RandomStream
from rlsuite.nn.normalizer import RunningNormalizer, moments_of_all
from rlsuite.nn.pictures import PictureNet
from rlsuite.nn.reward_scaler import ReturnScaler
from rlsuite.replay.buffer import Transition
from rlsuite.replay.mirrored import MirrorImages
from rlsuite.running.advantages import generalized_advantages
from rlsuite.vector_env import EnvironmentFacts

if TYPE_CHECKING:
    from rlsuite.config.schema import TrainConfig


class Minibatch(NamedTuple):
    """M transitions of a rollout with what is computed before anything is learned from it, all leading with M."""

    observation: Tensor
    action: Tensor
    log_prob: Tensor
    value: Tensor
    advantage: Tensor
    value_target: Tensor


class OnPolicyAgent(Agent):
    """An actor and a value network.

    Actions are vectors, Gaussian with a state-independent deviation, or choices: categorical, or Bernoulli of switches.
    Observations are vectors, or pictures (N, C, H, W) of bytes, for which actor and critic are convolutional (D stands
    for C, H, W below); pictures are not standardized. Of a task with goals, whose observations are [own observation,
    desired goal, achieved goal], the networks see the first two.

    Arguments as Agent's.
    """

    learns_from = "rollouts"
    Batch: ClassVar[type[Transition]] = Transition
    config: OnPolicyConfig

    def __init__(
        self, facts: EnvironmentFacts, config: OnPolicyConfig, *, seed: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(facts, config, seed=seed, device=device)
        self.picture_shape = facts.picture_shape
        self.observation_size = facts.visible_size if self.picture_shape is None else 0
        self.choices = choice_counts(facts.action_space) is not None
        num_actor_outputs = num_outputs(facts.action_space)
        generator = torch.Generator().manual_seed(seed)
        self.actor = self._network(num_actor_outputs, config.last_layer_gain, generator)
        self.critic = self._network(1, 1.0, generator)
        gaussian = torch.full((num_actor_outputs,), config.initial_log_std)
        self.log_std = None if self.choices else nn.Parameter(gaussian)
        self.normalizes = config.normalize_observations and self.picture_shape is None
        self.normalizer = RunningNormalizer(self.observation_size, config.normalizer)
        self.return_scaler = ReturnScaler(facts.num_envs, config.discount, math.inf)
        self.action_range = PlainChoices() if self.choices else ActionRange(facts.action_low, facts.action_high)
        self.to(device)
        mirror = facts.mirror() if config.mirrored else None
        self.images = None if mirror is None else MirrorImages(mirror, device)
        self.stream = RandomStream(seed + 1, device)
        spread = [] if self.log_std is None else [self.log_std]
        # The policy's, which come first, and the value's.
        self.actor_parameters: list[Tensor] = [*self.actor.parameters(), *spread]

    @classmethod
    def check(cls, config: TrainConfig, facts: EnvironmentFacts) -> None:
        """Refuse spaces neither of vectors, nor of pictures seen, nor of choices, and mirror images where none are."""
        check_vectors_or_choices(config, facts)
        require(
            not config.agent.mirrored or facts.mirror() is not None,
            f"agent.mirrored=true: env={config.env.name} has no left-right symmetry; use false, or a task that says "
            "what its mirror image is, such as env=LearningToRun",
        )
        super().check(config, facts)

    def _network(self, outputs: int, last_gain: float, generator: torch.Generator) -> EnsembleMLP | PictureNet:
        if self.picture_shape is not None:
            seed = int(torch.randint(2**31, (), generator=generator))
            pictures = PictureNet(self.picture_shape, outputs, self.config.vision, seed)
            pictures.scale_last(last_gain)
            return pictures
        network = EnsembleMLP(
            1,
            self.observation_size,
            self.config.hidden_sizes,
            outputs,
            activation=self.config.activation,
            initialization="orthogonal",
            generator=generator,
        )
        network.scale_layers(math.sqrt(2.0), last_gain)
        return network

    # -- act ----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def act(self, observation: Tensor, explore: bool) -> Tensor:
        """Return actions (N, A) in the environment's units for observations (N, D).

        Explored ones may lie beyond the bounds, where whoever steps the environments clips them; their density is
        that of the unclipped ones.
        """
        if not explore:
            return self.greedy(observation)
        law = self.law(self.mean(self.normalize(observation)))
        return self.action_range.to_environment(law.sample(self.stream.generator))

    def greedy(self, observation: Tensor) -> Tensor:
        """Return the likeliest actions (N, A), within the bounds: a pure function of the weights."""
        likeliest = self.law(self.mean(self.normalize(observation))).mode()
        return self.action_range.to_environment(likeliest if self.choices else likeliest.clamp(-1.0, 1.0))

    def mean(self, observation: Tensor) -> Tensor:
        """Return the actor's outputs (R, L) for standardized observations (R, D).

        They are the Gaussian's mean (R, A), in half action ranges, or the logits of choices.
        """
        return self.actor(observation.unsqueeze(0))[0]

    def law(self, mean: Tensor) -> ActionLaw:
        """Return how actions are distributed for the actor's outputs (R, L)."""
        if self.log_std is None:
            return choice_law(self.facts.action_space, mean)
        return Gaussian(mean, self.log_std)

    def log_prob(self, mean: Tensor, action: Tensor) -> Tensor:
        """Return the log density (R,) of actions (R, A) in half action ranges, or the log probability of choices."""
        return self.law(mean).log_prob(action)

    def value(self, observation: Tensor) -> Tensor:
        """Return V (R,) in units of scaled rewards for standardized observations (R, D)."""
        return self.critic(observation.unsqueeze(0))[0, :, 0]

    def normalize(self, observation: Tensor) -> Tensor:
        """Cut off what only hindsight looks at, and standardize where the config asks for it."""
        if self.picture_shape is not None:
            return observation  # the network scales bytes itself
        observation = observation[..., : self.observation_size]
        return self.normalizer(observation) if self.normalizes else observation.float()

    def observe(self, transition: Transition) -> None:
        """Learn how large returns are."""
        if self.config.scale_rewards:
            self.return_scaler.update(transition.reward, transition.terminated | transition.truncated)

    def interrupt(self) -> None:
        """Begin new episodes in every environment: those of before could not be resumed."""
        self.return_scaler.interrupt()

    # -- what a rollout says -------------------------------------------------------------------------------

    def prepare(self, batch: Transition) -> tuple[Minibatch, Tensor]:
        """Return all transitions with advantages and densities, and the indices of those no failure touched.

        Raises:
            UserError: if every simulation failed at some time in it, so that there is nothing to learn from.
        """
        prepared, usable = self._prepare(batch if self.images is None else self.images.beside(batch))
        number = ranks().fewest(len(usable))  # ranks take their steps together: none has more minibatches
        if number == 0:
            raise UserError("every simulation of the rollout failed; check the environment (see failures/)")
        return prepared, usable[:number]

    @torch.no_grad()
    def _prepare(self, batch: Transition) -> tuple[Minibatch, Tensor]:
        """Return all transitions with advantages and densities, and the indices of those no failure touched."""
        config, (steps, envs) = self.config, batch.reward.shape
        observation = self.normalize(batch.observation.flatten(0, 1))
        value = self.value(observation).unflatten(0, (steps, envs))
        next_value = self.value(self.normalize(batch.next_observation.flatten(0, 1))).unflatten(0, (steps, envs))
        reward = self.return_scaler(batch.reward) if config.scale_rewards else batch.reward
        ended = batch.terminated | batch.truncated
        ended[:-1] |= batch.failed[1:]  # what came of a failed step is no consequence of the one before
        advantage = generalized_advantages(
            reward,
            value,
            next_value,
            batch.terminated,
            ended,
            discount=config.discount,
            trace_decay=config.trace_decay,
        )
        action = self.action_range.to_policy(batch.action).flatten(0, 1)
        prepared = Minibatch(
            observation=observation,
            action=action,
            log_prob=self.log_prob(self.mean(observation), action),
            value=value.flatten(),
            advantage=advantage.flatten(),
            value_target=(advantage + value).flatten(),
        )
        return prepared, (~batch.failed).flatten().nonzero().squeeze(-1)

    def shuffled(self, usable: Tensor) -> tuple[Tensor, ...]:
        """Return the indices of a pass's minibatches, in an order drawn now."""
        order = torch.randperm(len(usable), generator=self.stream.generator, device=usable.device)
        return usable[order].split(self.config.minibatch_size)

    def learn_statistics(self, batch: Transition) -> None:
        """Let what was seen in a rollout that has been learned from count for the next."""
        if self.normalizes:
            if self.images is not None:  # what is left and right must be standardized alike
                batch = self.images.beside(batch)
            self.normalizer.update(batch.observation[..., : self.observation_size].flatten(0, 1))


def standardized(advantage: Tensor) -> Tensor:
    """Return advantages (M,) with mean 0 and deviation 1, over all ranks' together; a single one as it is."""
    if not ranks().alone:
        number, mean, variance = moments_of_all(advantage)
        return (advantage - mean) / ((variance * number / (number - 1.0)).sqrt() + 1e-8)
    if len(advantage) <= 1:
        return advantage
    deviation, mean = torch.std_mean(advantage)
    return (advantage - mean) / (deviation + 1e-8)
