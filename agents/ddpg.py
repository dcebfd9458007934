"""DDPG, and with its options TD3 and SAC, for one or several actor-critic pairs trained side by side.

Deep deterministic policy gradient (Lillicrap et al. 2016); twin critics, delayed actor and smoothed targets
(Fujimoto et al. 2018); stochastic actors of maximum entropy (Haarnoja et al. 2018). All networks are stacked:
K pairs cost one batched matrix product a layer.

Shapes: K pairs, C critics a pair, B batch of each pair, N environments, D observation, A action.
"""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from agents.ddpg_config import DDPGConfig
from rlsuite.goals import GoalSpec
from rlsuite.nn.action_range import ActionRange
from rlsuite.nn.actors import Actors, Temperature
from rlsuite.nn.critics import Critics
from rlsuite.nn.embedding import Embedding, make_embedding
from rlsuite.nn.exploration import GaussianExploration, RandomStream
from rlsuite.nn.normalizer import RunningNormalizer
from rlsuite.nn.precision import update_dtype
from rlsuite.nn.reward_scaler import ReturnScaler
from rlsuite.optim.state import adam, set_learning_rate
from rlsuite.optim.step import take_step
from rlsuite.replay.buffer import Batch, Transition


class Turn(NamedTuple):
    """Who is updated beside the critics."""

    actors: bool
    targets: bool


class DDPG(nn.Module):
    """K actor-critic pairs; every piece of state is a parameter, buffer or extra state of this module.

    Args:
        observation_size: D.
        action_low: (A,) lower bounds.
        action_high: (A,) upper bounds.
        config: see DDPGConfig.
        num_envs: N of the training environments, for the exploration's state.
        seed: of initial weights, exploration and target noise.
        device: where everything lies.
        goals: of a task with goals, whose observations are [own observation, desired goal, achieved goal]; the
            networks see the first two, and D stands for both wherever networks are spoken of.
    """

    Config: ClassVar[type[DDPGConfig]] = DDPGConfig

    def __init__(
        self,
        observation_size: int,
        action_low: Tensor,
        action_high: Tensor,
        config: DDPGConfig,
        *,
        num_envs: int = 1,
        seed: int = 0,
        device: torch.device | str = "cpu",
        goals: GoalSpec | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.num_updates = 0
        self.observation_size = observation_size = observation_size if goals is None else goals.visible_size
        self.update_dtype = update_dtype(config.precision, device)
        action_size, pairs = action_low.numel(), config.num_pairs
        generator = torch.Generator().manual_seed(seed)
        seen, done = self.seen_size, action_size + config.embedding.size  # with their embeddings beside them
        make_actors = lambda: Actors(pairs, seen, action_size, config.actor, generator=generator)  # noqa: E731
        make_critics = lambda: Critics(  # noqa: E731
            pairs * config.num_critics, seen, done, config.critic, generator=generator
        )
        self.actors, self.critics = make_actors(), make_critics()
        self.target_actors, self.target_critics = make_actors(), make_critics()
        self.target_actors.load_state_dict(self.actors.state_dict())
        self.target_critics.load_state_dict(self.critics.state_dict())
        self.target_actors.requires_grad_(False)
        self.target_critics.requires_grad_(False)
        self.embedding = make_embedding(observation_size, action_size, config.embedding, generator=generator)
        # Batch normalization uses its running statistics everywhere but in the critics' own joint batch.
        self.critics.eval()
        self.target_critics.eval()
        self.normalizer = RunningNormalizer(observation_size, config.normalizer)
        scaled, bound = config.reward_scaling == "returns", abs(config.critic.value_max)
        self.return_scaler = ReturnScaler(num_envs, config.discount, bound, through_time_limits=scaled)
        self.action_range = ActionRange(action_low, action_high)
        self.to(device)
        self.exploration = GaussianExploration(num_envs, action_size, config.exploration, seed=seed + 1, device=device)
        self.turn_period = math.lcm(pairs, num_envs, len(config.exploration.episode_multipliers))
        self.stream = RandomStream(seed + 2, device)
        self.actor_parameters: list[Tensor] = list(self.actors.parameters())
        self.critic_parameters: list[Tensor] = list(self.critics.parameters())
        self.target_actor_parameters: list[Tensor] = list(self.target_actors.parameters())
        self.target_critic_parameters: list[Tensor] = list(self.target_critics.parameters())
        self.temperature = Temperature(
            pairs,
            config.initial_temperature,
            config.target_entropy * action_size,
            learned=config.temperature_learning_rate > 0.0,
        ).to(device)
        self.stochastic = config.actor.distribution == "squashed_gaussian"
        self.optimizers = {
            "actor": adam(self.actor_parameters, config.actor_learning_rate),
            "critic": adam(
                self.critic_parameters, config.critic_learning_rate, weight_decay=config.critic_weight_decay
            ),
        }
        if isinstance(self.embedding, Embedding):
            self.optimizers["embedding"] = adam(self.embedding.learned_parameters, config.embedding.learning_rate)
        if self.stochastic and config.temperature_learning_rate:
            self.optimizers["temperature"] = adam(self.temperature.parameters(), config.temperature_learning_rate)

    @property
    def sample_size(self) -> int:
        """Transitions wanted in each update: a minibatch for every pair."""
        return self.config.num_pairs * self.config.batch_size

    @property
    def seen_size(self) -> int:
        """Size of what `see` returns, D + Z."""
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
        return self.action_range.to_environment(self.exploration(proposals[pair, row]))

    def greedy(self, observation: Tensor) -> Tensor:
        """Return the deterministic policy's actions (N, A): a pure function of the weights, which can be exported."""
        return self.action_range.to_environment(self.propose(observation, False)[0])

    def propose(self, observation: Tensor, explore: bool) -> Tensor:
        """Return every actor's action (K, N, A) in [-1, 1] for observations (N, D)."""
        actors = self.target_actors if self.config.act_with_targets and not explore else self.actors
        observation = self.for_members(self.see(observation), self.config.num_pairs)
        if self.stochastic and explore:
            return actors.sample(observation, self.exploration.stream.generator).action
        return actors(observation)

    def observe(self, transition: Transition) -> None:
        """Learn what each step of the environments tells: observation statistics, ends of episodes."""
        if self.config.normalize_observations and self.config.normalizer.source == "steps":
            self.normalizer.update(transition.observation[..., : self.observation_size])
        ended = transition.terminated | transition.truncated
        if self.config.reward_scaling == "returns":
            cut = transition.truncated & ~transition.terminated & ~transition.failed
            self.return_scaler.update(transition.reward, ended, cut)
        self.exploration.advance(ended)

    def interrupt(self) -> None:
        """Begin new episodes in every environment: those of before could not be resumed."""
        self.return_scaler.interrupt()
        self.exploration.interrupt()

    def observe_relabelled(self, observation: Tensor) -> None:
        """Learn the statistics of observations (n, D) whose goals are relabelled, where the config asks for these."""
        if self.config.normalize_observations and self.config.normalizer.source == "relabelled":
            self.normalizer.update(observation[..., : self.observation_size])

    def normalize(self, observation: Tensor) -> Tensor:
        """Cut off what only hindsight looks at, and standardize where the config asks for it."""
        observation = observation[..., : self.observation_size]
        return self.normalizer(observation) if self.config.normalize_observations else observation

    def see(self, observation: Tensor) -> Tensor:
        """Return what actors and critics look at: standardized observations, with their embeddings if any."""
        return self.embedding.beside(self.normalize(observation))

    @staticmethod
    def for_members(rows: Tensor, num_members: int) -> Tensor:
        """Show the same rows (N, D) to every member: (M, N, D), without a copy."""
        return rows if rows.dim() == 3 else rows.expand(num_members, *rows.shape)

    # -- update -------------------------------------------------------------------------------------------

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """Do one gradient step of the critics, and of the actors and targets when their turn comes.

        Args:
            batch: K * B transitions; each pair learns from its own B.

        Returns:
            0-d tensors (losses, mean value), and under "td_error" the (K * B,) errors for prioritized replay.
        """
        return self.learn(batch, self.prepare_update())

    def prepare_update(self) -> Turn:
        """Count an update; return whose turn it is. This is the update's work on the host."""
        self.num_updates += 1
        actors = self.num_updates % self.config.policy_delay == 0
        every = self.config.target_every
        return Turn(actors, self.num_updates % every == 0 if every else actors)

    def anneal(self, progress: float) -> None:
        """Set the learning rates to what they are when this share of the training's steps, in [0, 1], is done."""
        config, left = self.config, self.config.learning_rate_left(progress)
        rates = {"actor": config.actor_learning_rate, "critic": config.critic_learning_rate}
        rates |= {"embedding": config.embedding.learning_rate, "temperature": config.temperature_learning_rate}
        for name in rates.keys() & self.optimizers.keys():
            set_learning_rate(self.optimizers[name], rates[name] * left)

    def learn(self, batch: Batch, turn: Turn) -> dict[str, Tensor]:
        """Do the update's work on the device; a CUDA graph can record it for each value of `turn`."""
        observation, metrics = self.learn_critics(batch)
        if turn.actors:
            metrics |= self._update_actors(observation)
        if turn.targets:
            self._update_targets()
        return metrics

    def learn_critics(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Step the embedding and the critics; return what is seen of the minibatch (K, B, D + Z) and their metrics."""
        pairs = self.config.num_pairs
        rows = [tensor.unflatten(0, (pairs, -1)) for tensor in batch]
        observation, action, reward, discount, next_observation, weight, _ = rows
        observation = self.normalize(observation).to(self.update_dtype)
        next_observation = self.normalize(next_observation).to(self.update_dtype)
        action = self.action_range.to_policy(action)
        metrics = self._update_embedding(observation, action, next_observation)
        with torch.no_grad():
            observation, next_observation = map(self.embedding.beside, (observation, next_observation))
        metrics |= self._update_critics(observation, action, reward, discount, next_observation, weight)
        return observation, metrics

    def update_generators(self) -> list[torch.Generator]:
        """Return the random streams that learn() draws from."""
        return [self.stream.generator]

    def _update_embedding(self, observation: Tensor, action: Tensor, next_observation: Tensor) -> dict[str, Tensor]:
        if not isinstance(self.embedding, Embedding):
            return {}
        loss = self.embedding.loss(observation, action.to(observation.dtype), next_observation)
        self._step("embedding", self.embedding.learned_parameters, loss)
        return {"embedding_loss": loss.detach()}

    def _update_critics(
        self,
        observation: Tensor,
        action: Tensor,
        reward: Tensor,
        discount: Tensor,
        next_observation: Tensor,
        weight: Tensor,
    ) -> dict[str, Tensor]:
        inputs = self.for_critics(observation, action)
        with torch.no_grad():
            next_action, entropy_bonus = self.bootstrap_action(next_observation)
        if self.critics.joint_batches:
            # One batch of both, so that batch normalization sees both distributions (CrossQ).
            next_inputs = self.for_critics(next_observation, next_action)
            self.critics.train()
            output, next_output = self.critics(torch.cat([inputs, next_inputs], dim=1)).chunk(2, dim=1)
            self.critics.eval()
            next_output = self.pessimistic(next_output.detach())
        else:
            output = self.critics(inputs)
            with torch.no_grad():
                next_output = self.bootstrap_output(next_observation, next_action)
        if self.config.reward_scaling == "returns":
            reward = self.return_scaler(reward)
        elif self.config.reward_scale != 1.0:
            reward = reward * self.config.reward_scale
        if entropy_bonus is not None:
            reward = torch.addcmul(reward, discount, entropy_bonus)
        reward, discount, weight = (self._per_critic(rows) for rows in (reward, discount, weight))
        losses = self.critics.loss(output, reward, discount, next_output, self.config.target_range)
        loss = (weight * losses).sum() / losses.shape[1]  # mean over B, sum over members: each learns as if alone
        self._step("critic", self.critic_parameters, loss)
        self.critics.after_step()
        with torch.no_grad():
            value = self.critics.value(output.detach())
            return {
                "critic_loss": loss.detach() / losses.shape[0],
                "value": value.mean(),
                "td_error": losses.detach().unflatten(0, (-1, self.config.num_critics)).mean(1).sqrt().flatten(),
            }

    def _update_actors(self, observation: Tensor) -> dict[str, Tensor]:
        if self.stochastic:
            action, log_prob, pre_activation = self.actors.sample(observation, self.stream.generator)
        else:
            pre_activation = self.actors.pre_activation(observation)
            action, log_prob = torch.tanh(pre_activation), None
        return self.ascend(self.actor_value(observation, action), action, log_prob, pre_activation)

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
            objective = objective / value.detach().abs().mean(dim=1).clamp_min(1e-3) - penalty
        if self.config.action_penalty:
            objective = objective - self.config.action_penalty * action.square().mean(dim=(1, 2))
        loss = -objective.sum()
        self._step("actor", self.actor_parameters, loss)
        metrics = {"actor_loss": loss.detach() / self.config.num_pairs}
        return metrics if log_prob is None else metrics | self._update_temperature(log_prob.detach())

    def _update_temperature(self, log_prob: Tensor) -> dict[str, Tensor]:
        if "temperature" in self.optimizers:
            self._step("temperature", list(self.temperature.parameters()), self.temperature.loss(log_prob).sum())
        return {"temperature": self.temperature().detach().mean(), "entropy": -log_prob.mean()}

    @torch.no_grad()
    def _update_targets(self) -> None:
        rate = self.config.target_rate
        torch._foreach_lerp_(self.target_actor_parameters, self.actor_parameters, rate)
        self.embedding.follow(rate)
        if not self.critics.joint_batches:
            torch._foreach_lerp_(self.target_critic_parameters, self.critic_parameters, rate)

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

    def actor_value(self, observation: Tensor, action: Tensor) -> Tensor:
        """Return what the actors ascend, (K, B), at the pair's own actions: its first critic, SAC's its smallest."""
        count = self.config.num_critics
        if count > 1 and self.stochastic:
            values = self.critics.value(self.critics(self.for_critics(observation, action)))
            return values.unflatten(0, (-1, count)).amin(dim=1)
        first = None if count == 1 else slice(0, None, count)
        return self.critics.value(self.critics(self.embedding.join(observation, action), first))

    def bootstrap_output(self, next_observation: Tensor, next_action: Tensor) -> Tensor:
        """Return the target critics' raw outputs (K * C, B, 1 or V) that are bootstrapped."""
        return self.pessimistic(self.target_critics(self.for_critics(next_observation, next_action)))

    def pessimistic(self, output: Tensor) -> Tensor:
        """Of each pair's C outputs (K * C, B, 1 or V) keep, row by row, the one of smallest value, for all C."""
        count = self.config.num_critics
        return output if count == 1 else self.critics.smallest(output.unflatten(0, (-1, count))).flatten(0, 1)

    def for_critics(self, observation: Tensor, action: Tensor) -> Tensor:
        """Join what is seen (K, B, D + Z) and action (K, B, A) for every critic: (K * C, B, D + Z + A + Z)."""
        return self._per_critic(self.embedding.join(observation, action))

    def _per_critic(self, rows: Tensor) -> Tensor:
        count, pairs = self.config.num_critics, self.config.num_pairs
        if count == 1:
            return rows
        # With a single pair the critics share the very same rows: a view is enough.
        return rows.expand(count, *rows.shape[1:]) if pairs == 1 else rows.repeat_interleave(count, dim=0)

    def _step(self, name: str, parameters: list[Tensor], loss: Tensor) -> None:
        # Gradients for these parameters alone: the actor's pass computes none for the critic's weights.
        take_step(self.optimizers[name], parameters, torch.autograd.grad(loss, parameters))

    # -- state --------------------------------------------------------------------------------------------

    def diagnostics(self) -> dict[str, Tensor]:
        """Return histograms for the log since the last call; DDPG has none."""
        return {}

    def get_extra_state(self) -> Tensor:
        """Return the number of updates done, which the delayed actor needs on resume."""
        return torch.tensor(self.num_updates)

    def set_extra_state(self, state: Tensor) -> None:
        """Continue from get_extra_state."""
        self.num_updates = int(state)
