"""SHER: soft hindsight experience replay (arXiv:2002.02089), maximum-entropy actor-critic on relabelled goals.

HER on DDPG is brittle: results differ between seeds. SHER learns a stochastic policy instead, whose return counts
entropy: the sum of r + alpha H(pi(.|s, g)). Minimizing the divergence to the optimal trajectory distribution, with
p(O_t = 1 | s, a, g) proportional to exp(r / alpha), gives soft values
Q(s, a, g) = r + gamma E[V(s', g)] and V(s, g) = E_a[Q(s, a, g) - alpha log pi(a | s, g)].

Two forms of the value, each a class: SAC's later one, in which critics bootstrap from their own slow copies (SHER,
agent.value=action), and the paper's, with a network V of its own whose slow copy V' they bootstrap from
(StateValueSHER, agent.value=state).
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

from agents.actor_critic import ActorCritic, Seen
from agents.actor_critic_config import ActorCriticConfig
from rlsuite.errors import require, require_choice
from rlsuite.nn.ensemble import EnsembleMLP
from rlsuite.nn.exploration import RandomStream
from rlsuite.optim.state import adam, set_learning_rate
from rlsuite.vector_env import EnvironmentFacts


@dataclass(frozen=True, kw_only=True)
class SHERConfig(ActorCriticConfig):
    """SHER: everything of ActorCriticConfig, and the form of the value.

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


class SHER(ActorCritic):
    """Soft actor-critic for goals that bootstraps from slow copies of its critics; arguments as Agent's."""

    Config: ClassVar[type[ActorCriticConfig]] = SHERConfig
    config: SHERConfig
    form: ClassVar[str] = "action"

    def __init__(
        self, facts: EnvironmentFacts, config: SHERConfig, *, seed: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        if config.value != self.form:
            raise ValueError(f"value={config.value} is of another class; SHER.build(...) chooses the right one")
        super().__init__(facts, config, seed=seed, device=device)
        self.evaluation_stream = RandomStream(seed + 4, device)

    @classmethod
    def build(
        cls, facts: EnvironmentFacts, config: SHERConfig, *, seed: int = 0, device: torch.device | str = "cpu"
    ) -> SHER:
        """Return the agent of the config's form of the value."""
        kind = StateValueSHER if config.value == "state" else SHER
        return kind(facts, config, seed=seed, device=device)

    @torch.no_grad()
    def act(self, observation: Tensor, explore: bool) -> Tensor:
        """Return actions (N, A) in the environment's units: tanh of the Gaussian's mean, or explored."""
        if explore or not self.config.explore_in_evaluation:
            return super().act(observation, explore)
        rows = self.for_members(self.see(observation), self.config.num_pairs)
        generator = self.evaluation_stream.generator  # evaluations leave training's streams alone
        sampled = self.actors.sample(rows, generator).action[0]
        return self.action_range.to_environment(self.exploration.sometimes_random(sampled, generator))

    def actor_value(self, observation: Tensor, action: Tensor) -> Tensor:
        """Return what the actors ascend (K, B), entropy apart."""
        if self.config.actor_ascends == "smallest":
            return super().actor_value(observation, action)
        return self.value_by(0, observation, action)

    def value_by(self, critic: int, observation: Tensor, action: Tensor) -> Tensor:
        """Return the values (K, B) that one of each pair's critics gives to actions (K, B, A)."""
        members = slice(critic, None, self.config.num_critics)
        return self.critics.value(self.critics(self.embedding.join(observation, action), members))


class StateValueSHER(SHER):
    """SHER as the paper has it: V learns beside the critics, and they bootstrap from its slow copy."""

    form = "state"

    def __init__(
        self, facts: EnvironmentFacts, config: SHERConfig, *, seed: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(facts, config, seed=seed, device=device)
        generator = torch.Generator().manual_seed(seed + 3)
        self.values, self.target_values = (self._make_values(generator).to(device) for _ in range(2))
        self.target_values.load_state_dict(self.values.state_dict())
        self.target_values.requires_grad_(False)
        self.value_parameters: list[Tensor] = list(self.values.parameters())
        self.target_value_parameters: list[Tensor] = list(self.target_values.parameters())
        # The paper's one Adam for critics and V: the same as two, since Adam treats each weight by itself.
        self.optimizers["value"] = adam(self.value_parameters, config.critic_learning_rate)

    def _make_values(self, generator: torch.Generator) -> EnsembleMLP:
        critic = self.config.critic
        return EnsembleMLP(
            self.config.num_pairs,
            self.input_size,
            critic.hidden_sizes,
            1,
            activation=critic.activation,
            normalization="layer" if critic.block == "layer_norm" else "none",
            initialization=critic.initialization,
            generator=generator,
        )

    def anneal(self, progress: float) -> None:
        """Set the learning rates, V's as the critics'."""
        super().anneal(progress)
        rate = self.config.critic_learning_rate * self.config.learning_rate_left(progress)
        set_learning_rate(self.optimizers["value"], rate)

    # -- the critics' target ------------------------------------------------------------------------------

    def bootstrap_action(self, next_observation: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return no action and no entropy to bootstrap from: V' needs neither."""
        return next_observation.new_zeros((*next_observation.shape[:2], self.action_range.size)), None

    def bootstrap_output(self, next_observation: Tensor, next_action: Tensor) -> Tensor:
        """Return V'(s', g) (K * C, B, 1): y_Q = clip(r + gamma V'(s', g), -1 / (1 - gamma), 0)."""
        return self._per_critic(self.target_values(next_observation))

    # -- the steps of V and of the actors ---------------------------------------------------------------------

    def learn_actors(self, seen: Seen, due: bool) -> dict[str, Tensor]:
        """Step V towards y_V = min_c Q_c(s, a~, g) - alpha log pi(a~ | s, g), then the actors, from one draw of a~.

        V learns from the critics as this update has just left them, and the actors' step follows, with the very
        actions that V was judged by. The released code takes all three gradients at the same weights; squared errors
        there have a factor of 1/2, to which Adam is indifferent.
        """
        with torch.set_grad_enabled(due):
            action, log_prob, pre_activation = self.actors.learning_actions(*seen, self.stream.generator)
            ascended = self.actor_value(seen.now, action)
        with torch.no_grad():
            smallest = ascended
            if self.config.actor_ascends == "first":  # the pair's other critics have not judged yet
                for other in range(1, self.config.num_critics):
                    smallest = torch.minimum(smallest, self.value_by(other, seen.now, action))
            assert log_prob is not None
            target = smallest - self.temperature().unsqueeze(-1) * log_prob
        loss = (self.values(seen.now).squeeze(-1) - target).square().mean(dim=1).sum()
        self._step("value", self.value_parameters, loss)
        metrics = {"value_loss": loss.detach() / self.config.num_pairs}
        return metrics | self.ascend(ascended, action, log_prob, pre_activation) if due else metrics

    @torch.no_grad()
    def follow(self) -> None:
        """Let V' follow V; of the actors, where slow ones act."""
        self.embedding.follow(self.config.target_rate)
        torch._foreach_lerp_(self.target_value_parameters, self.value_parameters, self.config.target_rate)
        if self.config.act_with_targets:
            torch._foreach_lerp_(self.target_actor_parameters, self.actor_parameters, self.config.target_rate)
