"""PPO: proximal policy optimization (Schulman et al. 2017), with what makes it work in practice.

A rollout of T steps of N environments is learned from in several passes of shuffled minibatches, and forgotten;
advantages are standardized in each minibatch. What it shares with TRPO stands in agents/on_policy.py.

Shapes: T steps, N environments, M transitions of a minibatch.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from agents.on_policy import Minibatch, OnPolicyAgent, standardized
from agents.ppo_config import PPOConfig
from rlsuite.distributed import ranks
from rlsuite.optim.state import adam, set_learning_rate
from rlsuite.optim.step import take_step
from rlsuite.replay.buffer import Transition
from rlsuite.running.cuda_graph import GraphedPiece, Recorder
from rlsuite.vector_env import EnvironmentFacts


class PPO(OnPolicyAgent):
    """An actor and a value network, one optimizer for both.

    Arguments as Agent's.
    """

    Config: ClassVar[type[PPOConfig]] = PPOConfig
    config: PPOConfig

    def __init__(
        self, facts: EnvironmentFacts, config: PPOConfig, *, seed: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(facts, config, seed=seed, device=device)
        self.learning_rate_factor = 1.0
        self.rollouts = 0
        self._recorded: GraphedPiece | None = None
        self.policy_parameters: list[Tensor] = [*self.actor_parameters, *self.critic.parameters()]
        self.optimizers = {"policy": adam(self.policy_parameters, config.learning_rate, epsilon=config.adam_epsilon)}

    # -- update -------------------------------------------------------------------------------------------

    def update(self, batch: Transition) -> dict[str, Tensor]:
        """Learn from a rollout, every tensor (T, N, ...).

        Returns:
            0-d tensors: losses and measures of the last pass.

        Raises:
            UserError: if every simulation failed at some time in it, so that there is nothing to learn from.
        """
        config = self.config
        prepared, usable = self.prepare(batch)
        metrics: dict[str, Tensor] = {}
        for _ in range(config.passes):
            parts = self.shuffled(usable)
            sums: dict[str, Tensor] = {}
            for part in parts:
                found = self._learn(Minibatch(*(tensor.index_select(0, part) for tensor in prepared)))
                sums = {name: sums.get(name, 0.0) + value for name, value in found.items()}
            metrics = {name: value / len(parts) for name, value in sums.items()}
            metrics["divergence"] = ranks().mean(metrics["divergence"])
            if config.target_divergence and float(metrics["divergence"]) > 1.5 * config.target_divergence:
                break  # the policy has gone far enough from the one that collected
        self.learn_statistics(batch)
        self.rollouts += 1
        self._adapt_learning_rate(metrics)
        return metrics if self.log_std is None else metrics | {"std": self.log_std.detach().exp().mean()}

    def record_pieces(self, record: Recorder) -> None:
        """Let whole minibatches' steps be recorded; not those of a clip that changes with every rollout."""
        if not self.config.anneal_clip:
            self._recorded = GraphedPiece(self, lambda minibatch, _: self._step(minibatch), record=record)

    def _learn(self, minibatch: Minibatch) -> dict[str, Tensor]:
        whole = len(minibatch.advantage) == self.config.minibatch_size
        return self._step(minibatch) if self._recorded is None or not whole else self._recorded.run(minibatch)

    def _step(self, minibatch: Minibatch) -> dict[str, Tensor]:
        """Do one gradient step of policy and value on a minibatch."""
        config = self.config
        clip = config.clip * self.learning_rate_factor if config.anneal_clip else config.clip
        advantage = minibatch.advantage
        if config.standardize_advantages:
            advantage = standardized(advantage)
        law = self.law(self.mean(minibatch.observation))
        log_ratio = law.log_prob(minibatch.action) - minibatch.log_prob
        policy_loss = -surrogate(log_ratio.exp(), advantage, clip).mean()
        value_loss = self._value_loss(minibatch)
        entropy = law.entropy().mean()
        loss = policy_loss + config.value_weight * value_loss - config.entropy_weight * entropy
        gradients = torch.autograd.grad(loss, self.policy_parameters)
        take_step(self.optimizers["policy"], self.policy_parameters, gradients, config.gradient_norm)
        with torch.no_grad():
            return {
                "policy_loss": policy_loss.detach(),
                "value_loss": value_loss.detach(),
                "entropy": entropy.detach(),
                "divergence": (log_ratio.exp() - 1.0 - log_ratio).mean(),  # of the old policy to the new, unbiased
                "clipped_share": ((log_ratio.exp() - 1.0).abs() > clip).float().mean(),
            }

    def _value_loss(self, minibatch: Minibatch) -> Tensor:
        value = self.value(minibatch.observation)
        loss = (value - minibatch.value_target).square()
        if self.config.value_clip:
            change = (value - minibatch.value).clamp(-self.config.value_clip, self.config.value_clip)
            loss = torch.maximum(loss, (minibatch.value + change - minibatch.value_target).square())
        return 0.5 * loss.mean()

    def _adapt_learning_rate(self, metrics: dict[str, Tensor]) -> None:
        config = self.config
        if config.schedule == "adaptive":  # rsl_rl's rule, once a rollout
            divergence = float(metrics["divergence"])
            if divergence > 2.0 * config.desired_divergence:
                self.learning_rate_factor = max(self.learning_rate_factor / 1.5, 1e-2)
            elif 0.0 < divergence < 0.5 * config.desired_divergence:
                self.learning_rate_factor = min(self.learning_rate_factor * 1.5, 1e2)
        elif config.schedule == "linear":
            self.learning_rate_factor = max(0.0, 1.0 - self.rollouts / config.decay_rollouts)
        self._set_learning_rate()

    def _set_learning_rate(self) -> None:
        set_learning_rate(self.optimizers["policy"], self.config.learning_rate * self.learning_rate_factor)

    # -- state --------------------------------------------------------------------------------------------

    def get_extra_state(self) -> Tensor:
        """Return what a resumed run's learning rate depends on."""
        return torch.tensor([float(self.rollouts), self.learning_rate_factor], dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        """Continue from get_extra_state."""
        self.rollouts, self.learning_rate_factor = int(state[0]), float(state[1])
        self._set_learning_rate()


def surrogate(ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """Return PPO's clipped objective of each transition: min(r A, clip(r, 1 - eps, 1 + eps) A) (eq. 7 there).

    Args:
        ratio: (M,) new over old density.
        advantage: (M,).
        clip: eps.
    """
    return torch.minimum(ratio * advantage, ratio.clamp(1.0 - clip, 1.0 + clip) * advantage)
