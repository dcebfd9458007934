"""The numbers of POMBU, its models and its imagination."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

from rlsuite.errors import UserError, require, require_choice, require_finite
from rlsuite.nn.ensemble import ACTIVATIONS, check_sizes
from rlsuite.nn.precision import PRECISIONS


@dataclass(frozen=True, kw_only=True)
class DynamicsConfig:
    """The ensemble of models.

    Attributes:
        num_members: K.
        hidden_sizes: width of each hidden layer.
        activation: of the hidden layers, one of `rlsuite.nn.ensemble.ACTIVATIONS`.
        normalization: of the weights: "weight" (a learned norm of each unit's, from small normal weights) or "none".
        weight_decay: decoupled, of Adam; 0 for none.
        see_angles: models also see sine and cosine of what the task says are angles.
        learning_rate: of Adam.
        gradient_norm: each member's gradient is scaled down to this norm.
        batch_size: transitions of each member's minibatch.
        held_out: share of each trajectory that validates, drawn for each member and kept.
        validate_every: passes over the data between validations.
        patience: a member is done after so many passes without improvement.
        max_passes: passes at most.
        reset_every: iterations between fresh networks; 0 for never.
        capacity: real transitions kept.
        precision: of the hidden layers' products: "float32", "bfloat16" or "auto".
    """

    num_members: int = 5
    hidden_sizes: tuple[int, ...] = (512, 512)
    activation: str = "relu"
    normalization: str = "weight"
    weight_decay: float = 0.0
    see_angles: bool = False
    learning_rate: float = 2e-4
    gradient_norm: float = 0.5
    batch_size: int = 1000
    held_out: float = 0.2
    validate_every: int = 5
    patience: int = 25
    max_passes: int = 10_000
    reset_every: int = 10
    capacity: int = 200_000
    precision: str = "auto"

    def __post_init__(self) -> None:
        for name in ("num_members", "batch_size", "validate_every", "patience", "max_passes", "capacity"):
            require(getattr(self, name) >= 1, f"agent.dynamics.{name}={getattr(self, name)}: use 1 or more")
        require(self.reset_every >= 0, f"agent.dynamics.reset_every={self.reset_every}: use 0 (never) or more")
        require(0.0 < self.held_out < 1.0, f"agent.dynamics.held_out={self.held_out}: use a value between 0 and 1")
        for name in ("learning_rate", "gradient_norm"):
            require_finite(f"agent.dynamics.{name}", getattr(self, name), above=0.0)
        require_finite("agent.dynamics.weight_decay", self.weight_decay, low=0.0)
        require_choice("agent.dynamics.activation", self.activation, tuple(ACTIVATIONS))
        require_choice("agent.dynamics.normalization", self.normalization, ("none", "weight"))
        check_sizes("agent.dynamics", self.hidden_sizes)
        require_choice("agent.dynamics.precision", self.precision, PRECISIONS)


OBJECTIVES = ("penalty", "ratio", "ratio_as_alpha")
U_SCALES = ("official", "advantage")


@dataclass(frozen=True, kw_only=True)
class POMBUConfig:
    """POMBU; with alpha = beta = 0 it is MBPPO, its model-based baseline.

    Attributes:
        horizon: T, steps of an episode, real or imagined; the environment's own limit.
        policy_updates: of each iteration, each on imagined trajectories of its own.
        trajectories: imagined for each of them.
        alpha: weight of the conservatism: of E[|D| sigma] against the expected improvement; of objective=penalty only.
        beta: weight of the optimism of exploration policies: of sigma beside the advantage; 0 explores with the policy.
        objective: "penalty" (improvement minus alpha times the bound on its deviation), "ratio" (their ratio, which
            maximizes the probability of an improvement) or "ratio_as_alpha" (penalty with alpha the ratio, clipped to
            alpha_range, of each minibatch).
        alpha_range: of objective=ratio_as_alpha, and of an adaptive alpha.
        alpha_factor: alpha is multiplied or divided by this where the approximate divergence of a policy step,
            E[(log pi - log pi_old)^2] / 2 over all of its rows, leaves divergence_range; 1 keeps alpha as it is, and
            0 stays 0.
        divergence_range: lower and upper end.
        u_scale: "official" (sigma is in units of scaled returns, as the released code's alpha values want it) or
            "advantage" (in units of the advantages' standard deviation).
        discount: gamma.
        trace_decay: lambda of advantages and of U.
        passes: over the imagined data, of a policy update.
        minibatch_size: M.
        clip: eps of the policy's ratio.
        learning_rate: of policy, values and exploration at first; falls by 1 / decay_iterations of it each iteration.
        decay_iterations: 110 in the released code, for 100 iterations.
        adam_epsilon: of Adam.
        gradient_norm: gradients are scaled down to this norm.
        uncertainty_weight: of U's squared error beside V's.
        largest_uncertainty: U is clipped to this.
        largest_advantage: advantages are clipped to this before they are standardized.
        largest_reward: rewards are clipped to this before they are scaled.
        clip_to_seen_rewards: imagined rewards are clipped to the range of the real ones so far, 0 included, in place of
            largest_reward, and real ones are not clipped: a task may pay more than 5, but models promise no more than
            has been paid in a step.
        largest_state: imagined observations are clipped to this.
        hidden_sizes: of policy, V and U.
        values_see_time: V and U also see how much of the episode is left, as returns of a finite horizon ask for.
        fresh_std_iterations: before each of the first so many iterations the policy's deviation is put back to 1.
        dynamics: the models.
    """

    horizon: int = 200
    policy_updates: int = 20
    trajectories: int = 200
    alpha: float = 0.5
    beta: float = 10.0
    objective: str = "penalty"
    alpha_range: tuple[float, ...] = (0.0, 1.0)
    alpha_factor: float = 1.0
    divergence_range: tuple[float, ...] = (1e-3, 8e-3)
    u_scale: str = "official"
    discount: float = 0.99
    trace_decay: float = 1.0
    passes: int = 10
    minibatch_size: int = 500
    clip: float = 0.15
    learning_rate: float = 1e-4
    decay_iterations: int = 110
    adam_epsilon: float = 1e-5
    gradient_norm: float = 0.5
    uncertainty_weight: float = 0.5
    largest_uncertainty: float = 5.0
    largest_advantage: float = 5.0
    largest_reward: float = 5.0
    clip_to_seen_rewards: bool = False
    largest_state: float = 1e5
    hidden_sizes: tuple[int, ...] = (64, 64)
    values_see_time: bool = False
    fresh_std_iterations: int = 5
    dynamics: DynamicsConfig = field(default_factory=DynamicsConfig)

    def __post_init__(self) -> None:
        for name in ("horizon", "policy_updates", "trajectories", "passes", "minibatch_size", "decay_iterations"):
            require(getattr(self, name) >= 1, f"agent.{name}={getattr(self, name)}: use 1 or more")
        require(
            self.fresh_std_iterations >= 0,
            f"agent.fresh_std_iterations={self.fresh_std_iterations}: use 0 (never) or more",
        )
        for name in ("alpha", "beta", "uncertainty_weight"):
            require_finite(f"agent.{name}", getattr(self, name), low=0.0)
        positive = ("clip", "learning_rate", "adam_epsilon", "gradient_norm", "largest_uncertainty")
        for name in (*positive, "largest_advantage", "largest_reward", "largest_state"):
            require_finite(f"agent.{name}", getattr(self, name), above=0.0)
        require_finite("agent.alpha_factor", self.alpha_factor, low=1.0)
        for name in ("alpha_range", "divergence_range"):
            low_high = list(getattr(self, name))
            require(
                len(low_high) == 2 and 0.0 <= low_high[0] <= low_high[1],
                f"agent.{name}={low_high}: use [low, high] with 0 <= low <= high",
            )
        for name in ("discount", "trace_decay"):
            value = getattr(self, name)
            require(0.0 <= value <= 1.0, f"agent.{name}={value}: use a value in [0, 1]")
        require_choice("agent.objective", self.objective, OBJECTIVES)
        require_choice("agent.u_scale", self.u_scale, U_SCALES)
        check_sizes("agent", self.hidden_sizes)
        self._check_alpha()

    def _check_alpha(self) -> None:
        """Refuse an alpha that could not adapt as it is told to."""
        if self.alpha_factor == 1.0:
            return
        said = f"agent.alpha_factor={self.alpha_factor}"
        require(
            self.objective == "penalty",
            f"{said}: agent.objective={self.objective} has no alpha of its own to adapt; use agent.objective=penalty "
            "or agent.alpha_factor=1",
        )
        low, high = self.alpha_range
        require(
            self.alpha == 0.0 or low <= self.alpha <= high,
            f"agent.alpha={self.alpha}: an adaptive alpha stays within agent.alpha_range={[low, high]}; use one of it",
        )

    @property
    def rollout_length(self) -> int:
        """Steps of every environment between updates: an episode."""
        return self.horizon

    def share(self, size: int) -> Self:
        """Refuse: the models' validation, on which their training stops, is of all real data.

        Raises:
            UserError: always.
        """
        raise UserError(
            "its models are standardized and validated on all real data, of which each rank would have a part; start "
            "it without torchrun"
        )
