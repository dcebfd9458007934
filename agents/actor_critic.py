"""Actor-critics of a deterministic or a stochastic policy: DDPG, TD3, SAC and HER's agent are configs of this one.

Deep deterministic policy gradient (Lillicrap et al. 2016); twin critics, delayed actor and smoothed targets
(Fujimoto et al. 2018); stochastic actors of maximum entropy (Haarnoja et al. 2018). One or several actor-critic pairs
are trained side by side, all networks stacked: K pairs cost one batched matrix product a layer.

An update is the embedding's step, the critics', the actors' with their temperature's, and the slow copies'; the file
goes in this order. ACE and SHER override what they do otherwise: what is bootstrapped, and what the actors ascend.

Shapes: K pairs, C critics a pair, B batch of each pair, N environments, D observation, A action, Z embedding.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from agents.actor_critic_config import ActorCriticConfig, check_run
from agents.actor_critic_networks import Seen, Turn, make_eye, make_networks, make_optimizers, make_parameter_noise
from agents.spaces import check_vectors
from rlsuite.agent import Agent
from rlsuite.distributed import ranks
from rlsuite.nn.action_range import ActionRange
from rlsuite.nn.actors import Temperature
from rlsuite.nn.embedding import Embedding
from rlsuite.nn.exploration import GaussianExploration, RandomStream
from rlsuite.nn.eye import Eye
from rlsuite.nn.normalizer import RunningNormalizer
from rlsuite.nn.precision import update_dtype
from rlsuite.nn.reward_scaler import ReturnScaler
from rlsuite.optim.state import set_learning_rate
from rlsuite.optim.step import take_step
from rlsuite.replay.buffer import Batch, Transition
from rlsuite.vector_env import EnvironmentFacts

if TYPE_CHECKING:
    from rlsuite.config.schema import TrainConfig


class ActorCritic(Agent):
    """K actor-critic pairs; every piece of state is a parameter, buffer or extra state of this module.

    Observations and actions are vectors. Of a task with goals, whose observations are [own observation, desired goal,
    achieved goal], the networks see the first two, and D stands for both wherever networks are spoken of. Of pictures
    (C, H, W) they see an eye's features, and D is their number there; the eye learns with the critics.

    Arguments as Agent's.
    """

    Config: ClassVar[type[ActorCriticConfig]] = ActorCriticConfig
    recordable = True
    config: ActorCriticConfig

    def __init__(
        self, facts: EnvironmentFacts, config: ActorCriticConfig, *, seed: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(facts, config, seed=seed, device=device)
        self.num_updates = 0
        self.picture_shape, action_size = facts.picture_shape, facts.action_size
        self.observation_size = config.vision.features if self.picture_shape else facts.visible_size
        self.normalizes = config.normalize_observations and self.picture_shape is None
        self.update_dtype = update_dtype(config.precision, device)
        self.actors, self.critics, self.target_actors, self.target_critics, self.embedding = make_networks(
            self.observation_size, action_size, config, torch.Generator().manual_seed(seed)
        )
        self.eye = make_eye(facts, config, seed + 5)
        self.normalizer = RunningNormalizer(self.observation_size, config.normalizer)
        scaled, bound = config.reward_scaling == "returns", abs(config.critic.value_max)
        self.return_scaler = ReturnScaler(facts.num_envs, config.discount, bound, through_time_limits=scaled)
        self.action_range = ActionRange(facts.action_low, facts.action_high)
        entropy, learned = config.target_entropy * action_size, config.temperature_learning_rate > 0.0
        self.temperature = Temperature(config.num_pairs, config.initial_temperature, entropy, learned=learned)
        self.stochastic = config.actor.distribution == "squashed_gaussian"
        self.to(device)
        noise = config.exploration
        self.exploration = GaussianExploration(facts.num_envs, action_size, noise, seed=seed + 1, device=device)
        self.parameter_noise = make_parameter_noise(facts, self.observation_size, config, seed + 3, device)
        self.turn_period = math.lcm(config.num_pairs, facts.num_envs * ranks().size, len(noise.episode_multipliers))
        self.stream = RandomStream(seed + 2, device)
        self.actor_parameters: list[Tensor] = list(self.actors.parameters())
        self.critic_parameters: list[Tensor] = list(self.critics.parameters())
        self.critics_step: list[Tensor] = [*self.critic_parameters, *self.eye.parameters()]  # moved by their loss
        self.target_actor_parameters: list[Tensor] = list(self.target_actors.parameters())
        self.target_critic_parameters: list[Tensor] = list(self.target_critics.parameters())
        self.optimizers = make_optimizers(
            config, self.actor_parameters, self.critics_step, self.embedding, self.temperature
        )

    @classmethod
    def check(cls, config: TrainConfig, facts: EnvironmentFacts) -> None:
        """Refuse actions that are no vectors, and numbers that do not go with the run."""
        check_vectors(config, facts, pictures=True)
        super().check(config, facts)
        check_run(config, facts)

    @property
    def sample_size(self) -> int:
        """Transitions wanted in each update: a minibatch for every pair."""
        return self.config.num_pairs * self.config.batch_size

    @property
    def input_size(self) -> int:
        """Size of what `see` returns and networks take, D + Z."""
        return self.observation_size + self.config.embedding.size

    # -- act ----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def act(self, observation: Tensor, explore: bool) -> Tensor:
        """Return actions (N, A) in the environment's units for observations (N, D).

        While exploring, an environment follows one pair through an episode, with noise, and pairs take turns so that
        all collect alike; otherwise the first pair acts.
        """
        if not explore:
            return self.greedy(observation)
        proposals = self.propose(observation, explore)
        row = torch.arange(len(observation), device=observation.device)
        # The turns shift by one whenever environments and noise levels have been through theirs: else, with episodes of
        # equal length, a pair would meet the same ones for ever.
        episode = self.exploration.episode
        pair = (episode + episode // self.turn_period) % self.config.num_pairs
        noisy, std = self.exploration(proposals[pair, row]), self.exploration.std
        noisy = self.parameter_noise(noisy, observation, self.see, self.actors, pair, std)
        return self.action_range.to_environment(noisy)

    def greedy(self, observation: Tensor) -> Tensor:
        """Return the deterministic policy's actions (N, A): a pure function of the weights, which can be exported."""
        return self.action_range.to_environment(self.propose(observation, False)[0])

    def propose(self, observation: Tensor, explore: bool) -> Tensor:
        """Return every actor's action (K, N, A) in [-1, 1] for observations (N, D)."""
        actors = self.target_actors if self.config.act_with_targets and not explore else self.actors
        observation = self.for_members(self.see(observation), self.config.num_pairs)
        if explore and self.config.exploration.before_tanh:
            return actors.with_noise(observation, self.exploration.held())
        if self.stochastic and explore:
            return actors.sample(observation, self.exploration.stream.generator).action
        return actors(observation)

    def observe(self, transition: Transition) -> None:
        """Learn what each step of the environments tells: observation statistics, ends of episodes."""
        if self.normalizes and self.config.normalizer.source == "steps":
            self.normalizer.update(transition.observation[..., : self.observation_size])
        ended = transition.terminated | transition.truncated
        if self.config.reward_scaling == "returns":
            cut = transition.truncated & ~transition.terminated & ~transition.failed
            self.return_scaler.update(transition.reward, ended, cut)
        self.exploration.advance(ended)
        self.parameter_noise.advance(ended)

    def interrupt(self) -> None:
        """Begin new episodes everywhere: those of before could not be resumed."""
        self.return_scaler.interrupt()
        self.exploration.interrupt()
        self.parameter_noise.interrupt()

    def observe_relabelled(self, observation: Tensor) -> None:
        """Learn the statistics of observations (n, D) whose goals are relabelled, where the config asks for these."""
        if self.normalizes and self.config.normalizer.source == "relabelled":
            self.normalizer.update(observation[..., : self.observation_size])

    def normalize(self, observation: Tensor) -> Tensor:
        """Return pictures' features; else cut off what only hindsight looks at, and standardize if so configured."""
        if isinstance(self.eye, Eye):
            return self.eye(observation)
        observation = observation[..., : self.observation_size]
        return self.normalizer(observation) if self.normalizes else observation.float()

    def see(self, observation: Tensor) -> Tensor:
        """Return what actors and critics look at: standardized observations, with their embeddings if any."""
        return self.embedding.beside(self.normalize(observation))

    @staticmethod
    def for_members(rows: Tensor, num_members: int) -> Tensor:
        """Show the same rows (N, D) to every member: (M, N, D), without a copy."""
        return rows if rows.dim() == 3 else rows.expand(num_members, *rows.shape)

    # -- update -------------------------------------------------------------------------------------------

    def prepare_update(self) -> Turn:
        """Count an update; return whose turn it is. This is the update's work on the host."""
        self.num_updates += 1
        actors = self.num_updates % self.config.policy_delay == 0
        every = self.config.target_every
        return Turn(actors, self.num_updates % every == 0 if every else actors)

    def learn(self, batch: Batch, turn: Turn) -> dict[str, Tensor]:
        """Do one gradient step of the critics, and of the actors and slow copies when their turn comes.

        Args:
            batch: K * B transitions; each pair learns from its own B.
            turn: whose turn it is; a CUDA graph can record each kind.

        Returns:
            0-d tensors (losses, mean value), and under "td_error" the (K * B,) errors for prioritized replay.
        """
        seen, metrics = self.learn_critics(batch)
        metrics |= self.learn_actors(seen, turn.actors)
        if turn.targets:
            self.follow()
        return metrics

    def update_generators(self) -> list[torch.Generator]:
        """Return the random streams that learn() draws from."""
        return [self.stream.generator]

    def anneal(self, progress: float) -> None:
        """Set the learning rates to what they are when this share of the training's steps, in [0, 1], is done."""
        for name, rate in self.config.learning_rates(progress).items():
            if name in self.optimizers:
                set_learning_rate(self.optimizers[name], rate)

    def _step(self, name: str, parameters: list[Tensor], loss: Tensor) -> None:
        # Gradients for these parameters alone: the actor's pass computes none for the critic's weights.
        take_step(self.optimizers[name], parameters, torch.autograd.grad(loss, parameters), self.config.gradient_norm)

    # -- the critics' target ------------------------------------------------------------------------------

    def bootstrap_action(self, next_observation: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the actions (K, B, A) whose values are bootstrapped, at what is seen next (K, B, D + Z).

        With it, where actors are stochastic, what their entropy adds to those values, (K, B).
        """
        if self.stochastic:
            action, log_prob, _ = self.actors.sample(next_observation, self.stream.generator)
            return action, -self.temperature().unsqueeze(-1) * log_prob
        return self.smooth(self.target_actors(next_observation)), None

    def smooth(self, action: Tensor) -> Tensor:
        """Add TD3's clipped noise to target actions (K, B, A), so that sharp peaks of the critics do not tell."""
        if self.config.target_noise == 0.0:
            return action
        noise = torch.randn(action.shape, generator=self.stream.generator, device=action.device)
        clip = self.config.target_noise_clip
        return (action + (noise * self.config.target_noise).clamp_(-clip, clip)).clamp_(-1.0, 1.0)

    def bootstrap_output(self, next_observation: Tensor, next_action: Tensor) -> Tensor:
        """Return the target critics' raw outputs (K * C, B, 1 or V) that are bootstrapped."""
        return self.pessimistic(self.target_critics(self.for_critics(next_observation, next_action)))

    def pessimistic(self, output: Tensor) -> Tensor:
        """Of each pair's C outputs (K * C, B, 1 or V) keep, row by row, the one of smallest value, for all C."""
        count = self.config.num_critics
        return output if count == 1 else self.critics.smallest(output.unflatten(0, (-1, count))).flatten(0, 1)

    def rewards(self, reward: Tensor, discount: Tensor, entropy_bonus: Tensor | None) -> Tensor:
        """Return rewards (K, B) in the values' scale, with what the entropy of the next state adds."""
        if self.config.reward_scaling == "returns":
            reward = self.return_scaler(reward)
        elif self.config.reward_scale != 1.0:
            reward = reward * self.config.reward_scale
        return reward if entropy_bonus is None else torch.addcmul(reward, discount, entropy_bonus)

    # -- the critics' step, and the embedding's -------------------------------------------------------------

    def learn_critics(self, batch: Batch) -> tuple[Seen, dict[str, Tensor]]:
        """Step the embedding and the critics; return what is seen of the minibatch and their metrics."""
        rows = Batch(*(tensor.unflatten(0, (self.config.num_pairs, -1)) for tensor in batch))
        observation, next_observation = self._look(rows)
        action = self.action_range.to_policy(rows.action)
        metrics = self._update_embedding(observation, action, next_observation)
        with torch.no_grad():
            if not isinstance(self.eye, Eye):  # whose features keep their gradient, and have no embedding beside
                observation, next_observation = map(self.embedding.beside, (observation, next_observation))
            next_action, entropy_bonus = self.bootstrap_action(next_observation)
        output, next_output = self._outputs(observation, action, next_observation, next_action)
        reward = self.rewards(rows.reward, rows.discount, entropy_bonus)
        reward, discount, weight = (self._per_critic(column) for column in (reward, rows.discount, rows.weight))
        losses = self.critics.loss(output, reward, discount, next_output, self.config.target_range)
        loss = (weight * losses).sum() / losses.shape[1]  # mean over B, sum over members: each learns as if alone
        self._step("critic", self.critics_step, loss)
        self.critics.after_step()
        with torch.no_grad():
            metrics |= {
                "critic_loss": loss.detach() / losses.shape[0],
                "value": self.critics.value(output.detach()).mean(),
                "td_error": losses.detach().unflatten(0, (-1, self.config.num_critics)).mean(1).sqrt().flatten(),
            }
        return Seen(observation.detach(), next_observation), metrics

    def _look(self, rows: Batch) -> tuple[Tensor, Tensor]:
        """Return what is seen of a minibatch (K, B, D) now, which the eye learns by, and next."""
        see = self.normalize
        if isinstance(self.eye, Eye):
            see = functools.partial(self.eye.learn, generator=self.stream.generator)
        now = see(rows.observation).to(self.update_dtype)
        with torch.no_grad():
            return now, see(rows.next_observation).to(self.update_dtype)

    def _outputs(
        self, observation: Tensor, action: Tensor, next_observation: Tensor, next_action: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the critics' raw outputs (K * C, B, 1 or V) now, and those that are bootstrapped."""
        inputs = self.for_critics(observation, action)
        if not self.critics.joint_batches:
            with torch.no_grad():
                next_output = self.bootstrap_output(next_observation, next_action)
            return self.critics(inputs), next_output
        # One batch of both, so that batch normalization sees both distributions (CrossQ).
        joint = torch.cat([inputs, self.for_critics(next_observation, next_action)], dim=1)
        output, next_output = self.critics.by_batch(joint).chunk(2, dim=1)
        if self.critics.slow_copies:  # which move running statistics of their own (FlashSAC)
            with torch.no_grad():
                next_output = self.target_critics.by_batch(joint).chunk(2, dim=1)[1]
        return output, self.pessimistic(next_output.detach())

    def _update_embedding(self, observation: Tensor, action: Tensor, next_observation: Tensor) -> dict[str, Tensor]:
        if not isinstance(self.embedding, Embedding):
            return {}
        loss = self.embedding.loss(observation, action.to(observation.dtype), next_observation)
        self._step("embedding", self.embedding.learned_parameters, loss)
        return {"embedding_loss": loss.detach()}

    def for_critics(self, observation: Tensor, action: Tensor) -> Tensor:
        """Join what is seen (K, B, D + Z) and action (K, B, A) for every critic: (K * C, B, D + Z + A + Z)."""
        return self._per_critic(self.embedding.join(observation, action))

    def _per_critic(self, rows: Tensor) -> Tensor:
        count, pairs = self.config.num_critics, self.config.num_pairs
        if count == 1:
            return rows
        # With a single pair the critics share the very same rows: a view is enough.
        return rows.expand(count, *rows.shape[1:]) if pairs == 1 else rows.repeat_interleave(count, dim=0)

    # -- the actors' step -----------------------------------------------------------------------------------

    def learn_actors(self, seen: Seen, due: bool) -> dict[str, Tensor]:
        """Step the actors where they are due, with what is seen of the minibatch; return metrics."""
        if not due:
            return {}
        action, log_prob, pre_activation = self.actors.learning_actions(*seen, self.stream.generator)
        return self.ascend(self.actor_value(seen.now, action), action, log_prob, pre_activation)

    def actor_value(self, observation: Tensor, action: Tensor) -> Tensor:
        """Return what the actors ascend, (K, B), at the pair's own actions: its first critic, SAC's its smallest."""
        count = self.config.num_critics
        if count > 1 and self.stochastic:
            values = self.critics.value(self.critics(self.for_critics(observation, action)))
            return values.unflatten(0, (-1, count)).amin(dim=1)
        first = None if count == 1 else slice(0, None, count)
        return self.critics.value(self.critics(self.embedding.join(observation, action), first))

    def ascend(
        self, value: Tensor, action: Tensor, log_prob: Tensor | None, pre_activation: Tensor
    ) -> dict[str, Tensor]:
        """Step the actors, and the temperature, where their actions (K, B, A) have these values (K, B)."""
        objective = value.mean(dim=1)
        if log_prob is not None:
            objective = objective - self.temperature().detach() * log_prob.mean(dim=1)
        if self.config.pre_activation_penalty:
            # Relative to the values' size, which grows a thousandfold and differs from task to task.
            penalty = pre_activation.square().mean(dim=(1, 2)) * self.config.pre_activation_penalty
            objective = objective / ranks().mean(value.detach().abs().mean(dim=1)).clamp_min(1e-3) - penalty
        if self.config.action_penalty:
            objective = objective - self.config.action_penalty * action.square().mean(dim=(1, 2))
        loss = -objective.sum()
        self._step("actor", self.actor_parameters, loss)
        self.actors.after_step()
        metrics = {"actor_loss": loss.detach() / self.config.num_pairs}
        return metrics if log_prob is None else metrics | self._update_temperature(log_prob.detach())

    def _update_temperature(self, log_prob: Tensor) -> dict[str, Tensor]:
        """Step the temperature, where it is learned, towards its entropy; log_prob is (K, B)."""
        if "temperature" in self.optimizers:
            self._step("temperature", list(self.temperature.parameters()), self.temperature.loss(log_prob).sum())
        return {"temperature": self.temperature().detach().mean(), "entropy": -log_prob.mean()}

    # -- the slow copies ------------------------------------------------------------------------------------

    @torch.no_grad()
    def follow(self) -> None:
        """Let the slow copies follow their networks."""
        rate = self.config.target_rate
        torch._foreach_lerp_(self.target_actor_parameters, self.actor_parameters, rate)
        self.embedding.follow(rate)
        if self.actors.joint_batches:  # in evaluation mode always, they gather no running statistics of their own
            torch._foreach_lerp_(list(self.target_actors.buffers()), list(self.actors.buffers()), rate)
        if self.critics.slow_copies:
            torch._foreach_lerp_(self.target_critic_parameters, self.critic_parameters, rate)

    # -- state --------------------------------------------------------------------------------------------

    def get_extra_state(self) -> Tensor:
        """Return the number of updates done, which the delayed actor needs on resume."""
        return torch.tensor(self.num_updates)

    def set_extra_state(self, state: Tensor) -> None:
        """Continue from get_extra_state."""
        self.num_updates = int(state)
