"""SHER: soft hindsight experience replay (arXiv:2002.02089), maximum-entropy actor-critic on relabelled goals.

HER on DDPG is brittle: results differ between seeds. SHER learns a stochastic policy instead, whose return counts
entropy: the sum of r + alpha H(pi(.|s, g)). Minimizing the divergence to the optimal trajectory distribution, with
p(O_t = 1 | s, a, g) proportional to exp(r / alpha), gives soft values
Q(s, a, g) = r + gamma E[V(s', g)] and V(s, g) = E_a[Q(s, a, g) - alpha log pi(a | s, g)].

Two forms of the value: the paper's, with a network V of its own and a slow copy V' of it that critics bootstrap from
(agent.value=state), and SAC's later one, in which the critics' own slow copies take V's place (agent.value=action).
Hindsight itself is the replay's (rlsuite/replay/hindsight.py).

Left out: the paper's sum of 19 workers' gradients (Adam is nearly indifferent to the factor; a minibatch of all
workers' transitions at once takes its place).

Shapes: K pairs, C critics a pair, B batch, D observation and goal, A action.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from agents.ddpg import DDPG, Turn
from agents.ddpg_config import DDPGConfig
from rlsuite.errors import require, require_choice
from rlsuite.nn.ensemble import EnsembleMLP
from rlsuite.nn.exploration import RandomStream
from rlsuite.optim.state import adam, set_learning_rate
from rlsuite.replay.buffer import Batch


@dataclass(frozen=True, kw_only=True)
class SHERConfig(DDPGConfig):
    """SHER: everything of DDPGConfig, and the form of the value.

    Attributes:
        value: "state" (the paper: V and its slow copy) or "action" (SAC's later form: slow copies of the critics).
        actor_ascends: "first" (the first critic, as the released code) or "smallest" (of the critics).
        explore_in_evaluation: act in evaluations as in training, sampling and sometimes at random: a quirk of the
            released code, whose exploit flag is ignored.
    """

    num_critics: int = 2
    value: str = "state"
    actor_ascends: str = "first"
    explore_in_evaluation: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("agent.value", self.value, ("state", "action"))
        require_choice("agent.actor_ascends", self.actor_ascends, ("first", "smallest"))
        require(
            self.actor.distribution == "squashed_gaussian",
            f"agent.actor.distribution={self.actor.distribution}: SHER's policy is stochastic; use squashed_gaussian, "
            "or agent=ddpg",
        )
        plain = self.critic.loss == "squared_error" and self.critic.block in ("plain", "layer_norm")
        require(
            self.value == "action" or plain,
            "agent.value=state goes with agent.critic.loss=squared_error and agent.critic.block=plain or layer_norm",
        )


class SHER(DDPG):
    """Soft actor-critic for goals; arguments as DDPG's."""

    Config: ClassVar[type[DDPGConfig]] = SHERConfig
    config: SHERConfig

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.evaluation_stream = RandomStream(kwargs.get("seed", 0) + 4, self.action_range.center.device)
        self.values: EnsembleMLP | None = None
        if self.config.value == "action":
            return
        generator = torch.Generator().manual_seed(kwargs.get("seed", 0) + 3)
        device = self.action_range.center.device
        self.values, self.target_values = (self._make_values(generator).to(device) for _ in range(2))
        self.target_values.load_state_dict(self.values.state_dict())
        self.target_values.requires_grad_(False)
        self.value_parameters: list[Tensor] = list(self.values.parameters())
        self.target_value_parameters: list[Tensor] = list(self.target_values.parameters())
        # The paper's one Adam for critics and V: the same as two, since Adam treats each weight by itself.
        self.optimizers["value"] = adam(self.value_parameters, self.config.critic_learning_rate)

    def _make_values(self, generator: torch.Generator) -> EnsembleMLP:
        critic = self.config.critic
        return EnsembleMLP(
            self.config.num_pairs,
            self.seen_size,
            critic.hidden_sizes,
            1,
            activation=critic.activation,
            normalization="layer" if critic.block == "layer_norm" else "none",
            initialization=critic.initialization,
            generator=generator,
        )

    # -- act ----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def act(self, observation: Tensor, explore: bool) -> Tensor:
        """Return actions (N, A) in the environment's units: tanh of the Gaussian's mean, or explored."""
        if explore or not self.config.explore_in_evaluation:
            return super().act(observation, explore)
        rows = self.for_members(self.see(observation), self.config.num_pairs)
        generator = self.evaluation_stream.generator  # evaluations leave training's streams alone
        sampled = self.actors.sample(rows, generator).action[0]
        return self.action_range.to_environment(self.exploration.sometimes_random(sampled, generator))

    # -- update -------------------------------------------------------------------------------------------

    def anneal(self, progress: float) -> None:
        """Set the learning rates, V's as the critics'."""
        super().anneal(progress)
        if self.values is not None:
            rate = self.config.critic_learning_rate * self.config.learning_rate_left(progress)
            set_learning_rate(self.optimizers["value"], rate)

    def learn(self, batch: Batch, turn: Turn) -> dict[str, Tensor]:
        """Do the update's work on the device: critics, V, actors, and the slow copies when their turn comes.

        V learns from the critics as this update has just left them, and the actors' step follows, with the very
        actions that V was judged by. The released code takes all three gradients at the same weights; squared errors
        there have a factor of 1/2, to which Adam is indifferent.
        """
        if self.values is None:
            return super().learn(batch, turn)
        observation, metrics = self.learn_critics(batch)
        metrics |= self._update_values_and_actors(observation, turn.actors)
        if turn.targets:
            self._update_targets()
        return metrics

    def bootstrap_action(self, next_observation: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the action to bootstrap from and what entropy adds; V' needs neither."""
        if self.values is None:
            return super().bootstrap_action(next_observation)
        return next_observation.new_zeros((*next_observation.shape[:2], self.action_range.size)), None

    def bootstrap_output(self, next_observation: Tensor, next_action: Tensor) -> Tensor:
        """Return V'(s', g) (K * C, B, 1): y_Q = clip(r + gamma V'(s', g), -1 / (1 - gamma), 0)."""
        if self.values is None:
            return super().bootstrap_output(next_observation, next_action)
        return self._per_critic(self.target_values(next_observation))

    def _update_values_and_actors(self, observation: Tensor, actors: bool) -> dict[str, Tensor]:
        """Step V towards y_V = min_c Q_c(s, a~, g) - alpha log pi(a~ | s, g), then the actors, from one draw of a~."""
        assert self.values is not None
        with torch.set_grad_enabled(actors):
            action, log_prob, pre_activation = self.actors.sample(observation, self.stream.generator)
            ascended = self.actor_value(observation, action)
        with torch.no_grad():
            smallest = ascended
            if self.config.actor_ascends == "first":  # the pair's other critics have not judged yet
                for other in range(1, self.config.num_critics):
                    members = slice(other, None, self.config.num_critics)
                    output = self.critics(self.embedding.join(observation, action), members)
                    smallest = torch.minimum(smallest, self.critics.value(output))
            target = smallest - self.temperature().unsqueeze(-1) * log_prob
        loss = (self.values(observation).squeeze(-1) - target).square().mean(dim=1).sum()
        self._step("value", self.value_parameters, loss)
        metrics = {"value_loss": loss.detach() / self.config.num_pairs}
        return metrics | self.ascend(ascended, action, log_prob, pre_activation) if actors else metrics

    def actor_value(self, observation: Tensor, action: Tensor) -> Tensor:
        """Return what the actors ascend (K, B), entropy apart."""
        if self.config.actor_ascends == "smallest":
            return super().actor_value(observation, action)
        first = slice(0, None, self.config.num_critics)
        return self.critics.value(self.critics(self.embedding.join(observation, action), first))

    @torch.no_grad()
    def _update_targets(self) -> None:
        if self.values is None:
            super()._update_targets()
            return
        self.embedding.follow(self.config.target_rate)
        torch._foreach_lerp_(self.target_value_parameters, self.value_parameters, self.config.target_rate)
        if self.config.act_with_targets:
            torch._foreach_lerp_(self.target_actor_parameters, self.actor_parameters, self.config.target_rate)
