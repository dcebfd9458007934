"""DDPG, and with its options TD3, for one or several actor-critic pairs trained side by side.

Deep deterministic policy gradient (Lillicrap et al. 2016); twin critics, delayed actor and smoothed targets
(Fujimoto et al. 2018). All networks are stacked: K pairs cost one batched matrix product a layer.

Shapes: K pairs, C critics a pair, B batch of each pair, N environments, D observation, A action.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from rlsuite.errors import require, require_choice, require_finite
from rlsuite.nn.actors import ActorConfig, Actors
from rlsuite.nn.critics import CriticConfig, Critics
from rlsuite.nn.exploration import ExplorationConfig, GaussianExploration, RandomStream
from rlsuite.nn.normalizer import RunningNormalizer
from rlsuite.nn.precision import PRECISIONS, update_dtype
from rlsuite.nn.reward_scaler import ReturnScaler
from rlsuite.optim.state import adam
from rlsuite.replay.buffer import Batch, Transition


@dataclass(frozen=True, kw_only=True)
class DDPGConfig:
    """DDPG and TD3.

    Attributes:
        num_pairs: K, actor-critic pairs trained side by side, each on minibatches of its own.
        num_critics: C, critics of each pair; the smallest bootstraps (2: clipped double Q, TD3).
        policy_delay: critic updates for each update of actor and targets (2: TD3).
        target_noise: standard deviation of the noise on target actions (0.2: TD3), in half action ranges.
        target_noise_clip: that noise is clipped to plus or minus this.
        discount: gamma.
        target_rate: tau of the soft target update.
        batch_size: B.
        actor_learning_rate: of Adam.
        critic_learning_rate: of Adam.
        critic_weight_decay: decoupled weight decay of the critics; 0 is plain Adam.
        normalize_observations: standardize observations by running statistics.
        reward_scaling: "constant" (rewards are multiplied by reward_scale) or "returns" (they are divided so that
            discounted returns stay within agent.critic.value_max; what a categorical critic wants).
        reward_scale: the constant.
        pre_activation_penalty: weight, in the actors' loss, of the mean square of what enters their tanh, against
            the objective in units of its mean absolute value (0: plain DDPG). Without it a fast critic drives actions
            to their bounds, where tanh passes no gradient back (Fujimoto et al. 2025, MR.Q, eq. 9, has 1e-5).
        act_with_targets: act greedily with the target actor, as arXiv:1712.08987's tester does.
        precision: of the hidden layers' products in updates: "float32", "bfloat16", or "auto" (bfloat16 where the
            processor has it natively). Weights, values, losses and acting are always float32.
        actor: the actor block.
        critic: the critic block.
        exploration: noise on the actions while collecting.
    """

    num_pairs: int = 1
    num_critics: int = 1
    policy_delay: int = 1
    target_noise: float = 0.0
    target_noise_clip: float = 0.5
    discount: float = 0.99
    target_rate: float = 0.005
    batch_size: int = 256
    actor_learning_rate: float = 3e-4
    critic_learning_rate: float = 3e-4
    critic_weight_decay: float = 0.0
    normalize_observations: bool = True
    reward_scaling: str = "constant"
    reward_scale: float = 1.0
    pre_activation_penalty: float = 0.0
    act_with_targets: bool = False
    precision: str = "auto"
    actor: ActorConfig = field(default_factory=ActorConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)
    exploration: ExplorationConfig = field(default_factory=ExplorationConfig)

    def __post_init__(self) -> None:
        for name in ("num_pairs", "num_critics", "policy_delay", "batch_size"):
            require(getattr(self, name) >= 1, f"agent.{name}={getattr(self, name)}: use 1 or more")
        require_choice("agent.precision", self.precision, PRECISIONS)
        require_choice("agent.reward_scaling", self.reward_scaling, ("constant", "returns"))
        if self.reward_scaling == "returns":
            require_finite("agent.critic.value_max", self.critic.value_max, above=0.0)
        require(0.0 <= self.discount <= 1.0, f"agent.discount={self.discount}: use a value in [0, 1]")
        require(0.0 < self.target_rate <= 1.0, f"agent.target_rate={self.target_rate}: use a value in (0, 1]")
        for name in ("actor_learning_rate", "critic_learning_rate", "reward_scale"):
            require_finite(f"agent.{name}", getattr(self, name), above=0.0)
        for name in ("target_noise", "target_noise_clip", "critic_weight_decay", "pre_activation_penalty"):
            require_finite(f"agent.{name}", getattr(self, name), low=0.0)


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
    ) -> None:
        super().__init__()
        self.config = config
        self.num_updates = 0
        self.update_dtype = update_dtype(config.precision, device)
        action_size, pairs = action_low.numel(), config.num_pairs
        generator = torch.Generator().manual_seed(seed)
        make_actors = lambda: Actors(pairs, observation_size, action_size, config.actor, generator=generator)  # noqa: E731
        make_critics = lambda: Critics(  # noqa: E731
            pairs * config.num_critics, observation_size, action_size, config.critic, generator=generator
        )
        self.actors, self.critics = make_actors(), make_critics()
        self.target_actors, self.target_critics = make_actors(), make_critics()
        self.target_actors.load_state_dict(self.actors.state_dict())
        self.target_critics.load_state_dict(self.critics.state_dict())
        self.target_actors.requires_grad_(False)
        self.target_critics.requires_grad_(False)
        # Batch normalization uses its running statistics everywhere but in the critics' own joint batch.
        self.critics.eval()
        self.target_critics.eval()
        self.normalizer = RunningNormalizer(observation_size)
        self.return_scaler = ReturnScaler(num_envs, config.discount, abs(config.critic.value_max))
        self.action_center: Tensor
        self.action_half_range: Tensor
        self.register_buffer("action_center", (action_high + action_low).float() / 2)
        self.register_buffer("action_half_range", (action_high - action_low).float() / 2)
        self.to(device)
        self.exploration = GaussianExploration(num_envs, action_size, config.exploration, seed=seed + 1, device=device)
        self.stream = RandomStream(seed + 2, device)
        self.actor_parameters: list[Tensor] = list(self.actors.parameters())
        self.critic_parameters: list[Tensor] = list(self.critics.parameters())
        self.target_actor_parameters: list[Tensor] = list(self.target_actors.parameters())
        self.target_critic_parameters: list[Tensor] = list(self.target_critics.parameters())
        self.optimizers = {
            "actor": adam(self.actor_parameters, config.actor_learning_rate),
            "critic": adam(
                self.critic_parameters, config.critic_learning_rate, weight_decay=config.critic_weight_decay
            ),
        }

    @property
    def sample_size(self) -> int:
        """Transitions wanted in each update: a minibatch for every pair."""
        return self.config.num_pairs * self.config.batch_size

    # -- act ----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def act(self, observation: Tensor, explore: bool) -> Tensor:
        """Return actions (N, A) in the environment's units for observations (N, D).

        While exploring, an environment follows pair k mod K through its episode k, with noise, so that all pairs
        collect alike; otherwise the first pair acts.
        """
        if not explore:
            return self.greedy(observation)
        proposals = self.propose(observation, explore)
        row = torch.arange(len(observation), device=observation.device)
        pair = self.exploration.episode % self.config.num_pairs
        return self.to_environment(self.exploration(proposals[pair, row]))

    def greedy(self, observation: Tensor) -> Tensor:
        """Return the deterministic policy's actions (N, A): a pure function of the weights, which can be exported."""
        return self.to_environment(self.propose(observation, False)[0])

    def propose(self, observation: Tensor, explore: bool) -> Tensor:
        """Return every actor's action (K, N, A) in [-1, 1] for observations (N, D)."""
        actors = self.target_actors if self.config.act_with_targets and not explore else self.actors
        return actors(self.for_members(self.normalize(observation), self.config.num_pairs))

    def observe(self, transition: Transition) -> None:
        """Learn what each step of the environments tells: observation statistics, ends of episodes."""
        if self.config.normalize_observations:
            self.normalizer.update(transition.observation)
        if self.config.reward_scaling == "returns":
            self.return_scaler.update(transition.reward, transition.terminated | transition.truncated)
        self.exploration.advance(transition.terminated | transition.truncated)

    def normalize(self, observation: Tensor) -> Tensor:
        """Standardize observations where the config asks for it."""
        return self.normalizer(observation) if self.config.normalize_observations else observation

    def to_environment(self, action: Tensor) -> Tensor:
        """Map actions in [-1, 1] to the environment's bounds."""
        return torch.addcmul(self.action_center, action, self.action_half_range)

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

    def prepare_update(self) -> bool:
        """Count an update; return whether it is the actors' turn. This is the update's work on the host."""
        self.num_updates += 1
        return self.num_updates % self.config.policy_delay == 0

    def learn(self, batch: Batch, actors_turn: bool) -> dict[str, Tensor]:
        """Do the update's work on the device; a CUDA graph can record it for either value of `actors_turn`."""
        pairs = self.config.num_pairs
        rows = [tensor.unflatten(0, (pairs, -1)) for tensor in batch]
        observation, action, reward, discount, next_observation, weight, _ = rows
        observation = self.normalize(observation).to(self.update_dtype)
        next_observation = self.normalize(next_observation).to(self.update_dtype)
        action = (action - self.action_center) / self.action_half_range
        metrics = self._update_critics(observation, action, reward, discount, next_observation, weight)
        if actors_turn:
            metrics |= self._update_actors(observation)
            self._update_targets()
        return metrics

    def update_generators(self) -> list[torch.Generator]:
        """Return the random streams that learn() draws from."""
        return [self.stream.generator]

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
            next_inputs = self.for_critics(next_observation, self.bootstrap_action(next_observation))
            next_output = None if self.critics.joint_batches else self.target_critics(next_inputs)
        if next_output is None:
            # One batch of both, so that batch normalization sees both distributions (CrossQ).
            self.critics.train()
            output, next_output = self.critics(torch.cat([inputs, next_inputs], dim=1)).chunk(2, dim=1)
            self.critics.eval()
        else:
            output = self.critics(inputs)
        next_output = self.pessimistic(next_output.detach())
        if self.config.reward_scaling == "returns":
            reward = self.return_scaler(reward)
        elif self.config.reward_scale != 1.0:
            reward = reward * self.config.reward_scale
        reward, discount, weight = (self._per_critic(rows) for rows in (reward, discount, weight))
        losses = self.critics.loss(output, reward, discount, next_output)
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
        pre_activation = self.actors.pre_activation(observation)
        value = self.actor_value(observation, torch.tanh(pre_activation))
        objective = value.mean(dim=1)
        if self.config.pre_activation_penalty:
            # Relative to the values' size, which grows a thousandfold and differs from task to task.
            penalty = pre_activation.square().mean(dim=(1, 2)) * self.config.pre_activation_penalty
            objective = objective / value.detach().abs().mean(dim=1).clamp_min(1e-3) - penalty
        loss = -objective.sum()
        self._step("actor", self.actor_parameters, loss)
        return {"actor_loss": loss.detach() / self.config.num_pairs}

    @torch.no_grad()
    def _update_targets(self) -> None:
        rate = self.config.target_rate
        torch._foreach_lerp_(self.target_actor_parameters, self.actor_parameters, rate)
        if not self.critics.joint_batches:
            torch._foreach_lerp_(self.target_critic_parameters, self.critic_parameters, rate)

    def bootstrap_action(self, next_observation: Tensor) -> Tensor:
        """Return the actions (K, B, A) whose values are bootstrapped, at next observations (K, B, D)."""
        return self.smooth(self.target_actors(next_observation))

    def smooth(self, action: Tensor) -> Tensor:
        """Add TD3's clipped noise to target actions (K, B, A), so that sharp peaks of the critics do not tell."""
        if self.config.target_noise == 0.0:
            return action
        noise = torch.randn(action.shape, generator=self.stream.generator, device=action.device)
        clip = self.config.target_noise_clip
        return (action + (noise * self.config.target_noise).clamp_(-clip, clip)).clamp_(-1.0, 1.0)

    def actor_value(self, observation: Tensor, action: Tensor) -> Tensor:
        """Return what the actors ascend, (K, B): the first critic of each pair at the pair's own actions."""
        count = self.config.num_critics
        first = None if count == 1 else slice(0, None, count)
        return self.critics.value(self.critics(join(observation, action), first))

    def pessimistic(self, output: Tensor) -> Tensor:
        """Of each pair's C outputs (K * C, B, V) keep, row by row, the one of smallest value, for all C."""
        count = self.config.num_critics
        if count == 1:
            return output
        output = output.unflatten(0, (-1, count))
        if self.critics.categorical:
            place = self.critics.value(output).argmin(dim=1, keepdim=True)[..., None]
            smallest = output.gather(1, place.expand(-1, -1, -1, output.shape[-1]))
        else:
            smallest = output.amin(dim=1, keepdim=True)
        return smallest.expand_as(output).flatten(0, 1)

    def for_critics(self, observation: Tensor, action: Tensor) -> Tensor:
        """Join observation (K, B, D) and action (K, B, A) for every critic: (K * C, B, D + A)."""
        return self._per_critic(join(observation, action))

    def _per_critic(self, rows: Tensor) -> Tensor:
        count, pairs = self.config.num_critics, self.config.num_pairs
        if count == 1:
            return rows
        # With a single pair the critics share the very same rows: a view is enough.
        return rows.expand(count, *rows.shape[1:]) if pairs == 1 else rows.repeat_interleave(count, dim=0)

    def _step(self, name: str, parameters: list[Tensor], loss: Tensor) -> None:
        # Gradients for these parameters alone: the actor's pass computes none for the critic's weights.
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.grad = gradient
        self.optimizers[name].step()

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


def join(observation: Tensor, action: Tensor) -> Tensor:
    """Put observations (..., D) and actions (..., A) side by side, (..., D + A), in the observations' dtype."""
    return torch.cat([observation, action.to(observation.dtype)], dim=-1)


def stack_members(states: Iterable[dict[str, Tensor]], num_pairs: Iterable[int]) -> dict[str, Tensor]:
    """Stack the policies of several DDPG-like agents into the state of one agent with all their pairs.

    Args:
        states: a state_dict for each agent.
        num_pairs: how many pairs each holds.

    Returns:
        Parameters joined along their leading axis; normalizer statistics one set for each pair, so that every
        member sees observations as it was trained to.
    """
    joined: dict[str, list[Tensor]] = {}
    for state, pairs in zip(states, num_pairs, strict=True):
        for name, tensor in state.items():
            if name.startswith("normalizer."):
                tensor = tensor.expand(pairs, *tensor.shape[1:])
            if name.split(".")[0] in ("actors", "critics", "target_actors", "target_critics", "normalizer"):
                joined.setdefault(name, []).append(tensor)
    return {name: torch.cat(tensors) for name, tensors in joined.items()}
