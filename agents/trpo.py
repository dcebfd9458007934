"""TRPO: trust region policy optimization (Schulman et al. 2015, arXiv:1502.05477).

Once a rollout, the policy takes one step along the natural gradient: conjugate gradients solve F x = g with products of
the divergence's curvature F and vectors, x is scaled so that the divergence would be `max_divergence`, and a
backtracking line search shortens the step until the divergence is within it and the objective has grown; otherwise the
policy stays. The value network learns by Adam in several passes. Defaults are sb3-contrib's; what is shared with PPO
stands in agents/on_policy.py. Divergence is KL(old || new), as in the paper.

Shapes: T steps, N environments, R rows, P numbers of the policy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Self

import torch
from torch import Tensor

from agents.on_policy import Minibatch, OnPolicyAgent, standardized
from agents.on_policy_config import OnPolicyConfig
from rlsuite.distributed import divided, ranks
from rlsuite.errors import require, require_finite
from rlsuite.nn.action_heads import ActionLaw
from rlsuite.optim.state import adam
from rlsuite.optim.step import take_step
from rlsuite.replay.buffer import Transition
from rlsuite.running.cuda_graph import GraphedPiece, Recorder
from rlsuite.vector_env import EnvironmentFacts


@dataclass(frozen=True, kw_only=True)
class TRPOConfig(OnPolicyConfig):
    """TRPO; what it shares with PPO stands in OnPolicyConfig.

    Attributes:
        max_divergence: delta, how far the policy may move in a rollout.
        gradient_steps: of conjugate gradients.
        damping: added to the curvature's diagonal.
        curvature_rows: transitions that the curvature is estimated on; 0 for all of the rollout.
        line_steps: step lengths that the line search tries.
        line_shrink: each is this share of the one before.
        passes: of the value network through each rollout.
        minibatch_size: of the value network.
        learning_rate: of the value network.
        gradient_norm: of the value network; 0 for not.
    """

    max_divergence: float = 0.01
    gradient_steps: int = 15
    damping: float = 0.1
    curvature_rows: int = 0
    line_steps: int = 10
    line_shrink: float = 0.8
    passes: int = 10
    minibatch_size: int = 128
    learning_rate: float = 1e-3
    gradient_norm: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("gradient_steps", "line_steps", "passes"):
            require(getattr(self, name) >= 1, f"agent.{name}={getattr(self, name)}: use 1 or more")
        require(self.curvature_rows >= 0, f"agent.curvature_rows={self.curvature_rows}: use 0 (all) or more")
        require_finite("agent.max_divergence", self.max_divergence, above=0.0)
        require_finite("agent.damping", self.damping, low=0.0)
        require(0.0 < self.line_shrink < 1.0, f"agent.line_shrink={self.line_shrink}: use a share between 0 and 1")

    def share(self, size: int) -> Self:
        """Return the numbers of one of `size` ranks, each of which learns from its rows of every minibatch."""
        return divided(self, size, "minibatch_size", "curvature_rows")


class _Local(NamedTuple):
    """What the natural gradient follows from: standardized advantages (R,), and the rows of the curvature (R', D)."""

    observation: Tensor
    action: Tensor
    log_prob: Tensor
    advantage: Tensor
    rows: Tensor


class _Fit(NamedTuple):
    """What the value is fitted to: observations (M, ...) and their targets (M,)."""

    observation: Tensor
    value_target: Tensor


class TRPO(OnPolicyAgent):
    """An actor, stepped within a trust region, and a value network.

    Arguments as Agent's.
    """

    Config: ClassVar[type[TRPOConfig]] = TRPOConfig
    config: TRPOConfig

    def __init__(
        self, facts: EnvironmentFacts, config: TRPOConfig, *, seed: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(facts, config, seed=seed, device=device)
        self._recorded_gradient: GraphedPiece | None = None
        self._recorded_fit: GraphedPiece | None = None
        self.critic_parameters: list[Tensor] = list(self.critic.parameters())
        self.optimizers = {"value": adam(self.critic_parameters, config.learning_rate, epsilon=config.adam_epsilon)}

    def update(self, batch: Transition) -> dict[str, Tensor]:
        """Learn from a rollout, every tensor (T, N, ...).

        Returns:
            0-d tensors: the objective's gain, the divergence, the share of the full step that was taken, losses.

        Raises:
            UserError: if every simulation failed at some time in it, so that there is nothing to learn from.
        """
        prepared, usable = self.prepare(batch)
        used = Minibatch(*(tensor.index_select(0, usable) for tensor in prepared))
        metrics = self._step_policy(used, whole=len(usable) == len(prepared.advantage))
        metrics |= self._learn_values(prepared, usable)
        self.learn_statistics(batch)
        return metrics if self.log_std is None else metrics | {"std": self.log_std.detach().exp().mean()}

    def record_pieces(self, record: Recorder) -> None:
        """Let natural gradients of whole rollouts be recorded, and the value's steps on whole minibatches.

        The line search asks after each step length whether to go on, and stays eager.
        """
        self._recorded_gradient = GraphedPiece(self, lambda given, _: self._natural_step(given), record=record)
        self._recorded_fit = GraphedPiece(self, lambda minibatch, _: self._fit(minibatch), record=record)

    # -- the policy ---------------------------------------------------------------------------------------

    def _step_policy(self, rollout: Minibatch, *, whole: bool) -> dict[str, Tensor]:
        """Take a natural gradient's step as long as the trust region lets it; `whole`: no row was left out."""
        advantage = standardized(rollout.advantage) if self.config.standardize_advantages else rollout.advantage
        rows = self._curvature_rows(rollout.observation)
        given = _Local(rollout.observation, rollout.action, rollout.log_prob, advantage, rows)
        recorded = self._recorded_gradient if whole else None
        found = self._natural_step(given) if recorded is None else recorded.run(given)
        with torch.no_grad():
            old = self._law(rollout.observation).kept()
        return self._search(found["step"], found["objective"], lambda: self._objective(given), rollout.observation, old)

    def _objective(self, given: _Local) -> Tensor:
        """Return what the policy is to make large, 0-d: the mean of density ratios times advantages."""
        ratio = (self._law(given.observation).log_prob(given.action) - given.log_prob).exp()
        return (ratio * given.advantage).mean()

    def _natural_step(self, given: _Local) -> dict[str, Tensor]:
        """Return the step (P,) that would use up the trust region, and the objective before it."""
        config, rows = self.config, given.rows
        with torch.no_grad():
            old_rows = self._law(rows).kept()
        before = self._objective(given)
        gradient = ranks().mean(flat(torch.autograd.grad(before, self.actor_parameters)))
        slope = torch.autograd.grad(
            self._law(rows).divergence_from(old_rows).mean(), self.actor_parameters, create_graph=True
        )

        def curvature(vector: Tensor) -> Tensor:
            along = (flat(slope) * vector).sum()
            found = flat(torch.autograd.grad(along, self.actor_parameters, retain_graph=True))
            return ranks().mean(found) + config.damping * vector

        direction = conjugate_gradients(curvature, gradient, config.gradient_steps)
        length = (2.0 * config.max_divergence / (direction @ curvature(direction)).clamp_min(1e-12)).sqrt()
        return {"step": direction * length, "objective": before.detach()}

    @torch.no_grad()
    def _search(
        self, step: Tensor, before: Tensor, objective: Callable[[], Tensor], observation: Tensor, old: ActionLaw
    ) -> dict[str, Tensor]:
        """Move along a step (P,), shortened until the divergence is small enough and the objective has grown."""
        config, start = self.config, flat(self.actor_parameters).clone()
        share, nothing = 1.0, before.new_zeros(())
        for _ in range(config.line_steps):
            assign(self.actor_parameters, start + share * step)
            law = self._law(observation)
            gain, divergence = ranks().averaged([objective() - before, law.divergence_from(old).mean()])
            if bool((divergence <= config.max_divergence) & (gain > 0.0)):
                return {
                    "policy_gain": gain,
                    "divergence": divergence,
                    "step_share": nothing + share,
                    "entropy": law.entropy().mean(),
                }
            share *= config.line_shrink
        assign(self.actor_parameters, start)
        entropy = self._law(observation).entropy().mean()
        return {"policy_gain": nothing, "divergence": nothing, "step_share": nothing, "entropy": entropy}

    def _law(self, observation: Tensor) -> ActionLaw:
        return self.law(self.mean(observation))

    def _curvature_rows(self, observation: Tensor) -> Tensor:
        """Return the observations (R, D) that the curvature is estimated on, drawn where it is not all of them."""
        wanted = self.config.curvature_rows
        if not 0 < wanted < len(observation):
            return observation
        drawn = torch.randperm(len(observation), generator=self.stream.generator, device=observation.device)
        return observation[drawn[:wanted]]

    # -- the value ----------------------------------------------------------------------------------------

    def _learn_values(self, prepared: Minibatch, usable: Tensor) -> dict[str, Tensor]:
        config, losses = self.config, []
        data = _Fit(prepared.observation, prepared.value_target)
        for _ in range(config.passes):
            losses = []
            for part in self.shuffled(usable):
                minibatch = _Fit(*(tensor.index_select(0, part) for tensor in data))
                recorded = self._recorded_fit if len(part) == config.minibatch_size else None
                found = self._fit(minibatch) if recorded is None else recorded.run(minibatch)
                losses.append(found["value_loss"])
        return {"value_loss": torch.stack(losses).mean()}  # of the last pass

    def _fit(self, minibatch: _Fit) -> dict[str, Tensor]:
        """Do one gradient step of the value on a minibatch."""
        loss = (self.value(minibatch.observation) - minibatch.value_target).square().mean()
        gradients = torch.autograd.grad(loss, self.critic_parameters)
        take_step(self.optimizers["value"], self.critic_parameters, gradients, self.config.gradient_norm)
        return {"value_loss": loss.detach()}


@torch.no_grad()
def conjugate_gradients(product: Callable[[Tensor], Tensor], right: Tensor, steps: int) -> Tensor:
    """Return x with A x = right approximately, of a symmetric, positive definite A known by its products alone.

    Args:
        product: vectors (P,) to A v (P,).
        right: (P,).
        steps: of the method; once the residual is nothing, further ones change nothing.
    """
    found, residual = torch.zeros_like(right), right.clone()
    direction, squared = residual.clone(), residual @ residual
    for _ in range(steps):
        with torch.enable_grad():
            image = product(direction)
        going = squared > 1e-10
        length = torch.where(going, squared / (direction @ image).clamp_min(1e-20), 0.0)
        found = found + length * direction
        residual = residual - length * image
        following = residual @ residual
        direction = residual + torch.where(going, following / squared.clamp_min(1e-20), 0.0) * direction
        squared = following
    return found


def flat(tensors: Sequence[Tensor]) -> Tensor:
    """Return tensors behind each other, (P,)."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


@torch.no_grad()
def assign(parameters: Sequence[Tensor], values: Tensor) -> None:
    """Put (P,) into parameters, in their order."""
    for parameter, part in zip(parameters, values.split([parameter.numel() for parameter in parameters]), strict=True):
        parameter.copy_(part.view_as(parameter))
