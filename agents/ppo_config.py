"""The numbers of PPO."""

from __future__ import annotations

from dataclasses import dataclass, field

from rlsuite.errors import require, require_choice, require_finite
from rlsuite.nn.ensemble import ACTIVATIONS, check_sizes
from rlsuite.nn.normalizer import NormalizerConfig
from rlsuite.nn.vision.conv_net import ConvNetConfig


@dataclass(frozen=True, kw_only=True)
class PPOConfig:
    """PPO.

    Attributes:
        rollout_length: T, steps of every environment between updates.
        passes: times each rollout is learned from.
        minibatch_size: M.
        clip: eps of the policy's ratio.
        value_clip: how far a value may move in one update, in units of scaled returns; 0 for any distance.
        value_weight: of half the squared error of the values, beside the policy's objective.
        entropy_weight: of the entropy.
        gradient_norm: gradients are scaled down to this norm; 0 for not.
        target_divergence: end an update when the policy's divergence from the one that collected passes 1.5 times
            this; 0 for never.
        standardize_advantages: in each minibatch.
        discount: gamma.
        trace_decay: lambda of generalized advantages.
        learning_rate: of Adam.
        schedule: of the learning rate: "constant", "linear" (to 0 in decay_rollouts rollouts) or "adaptive" (up or
            down, so that the divergence stays near desired_divergence: rsl_rl's rule, once a rollout).
        decay_rollouts: of schedule=linear.
        desired_divergence: of schedule=adaptive.
        normalize_observations: standardize observations by running statistics, renewed between rollouts.
        normalizer: how.
        scale_rewards: divide rewards by the running deviation of their discounted returns.
        hidden_sizes: width of each hidden layer of policy and value network.
        activation: a key of rlsuite.nn.ensemble.ACTIVATIONS.
        vision: the convolutions of policy and value network, where observations are pictures; the two keys before it
            and the normalizer are not used then.
        initial_log_std: of the Gaussian at first, in half action ranges; choices have none.
        last_layer_gain: of the policy's last layer: near 0, first actions hardly depend on the observation.
    """

    rollout_length: int = 256
    passes: int = 10
    minibatch_size: int = 64
    clip: float = 0.2
    value_clip: float = 0.0
    value_weight: float = 0.5
    entropy_weight: float = 0.0
    gradient_norm: float = 0.5
    target_divergence: float = 0.0
    standardize_advantages: bool = True
    discount: float = 0.99
    trace_decay: float = 0.95
    learning_rate: float = 3e-4
    schedule: str = "constant"
    decay_rollouts: int = 0
    desired_divergence: float = 0.01
    normalize_observations: bool = True
    normalizer: NormalizerConfig = field(default_factory=NormalizerConfig)
    scale_rewards: bool = True
    hidden_sizes: tuple[int, ...] = (64, 64)
    activation: str = "tanh"
    vision: ConvNetConfig = field(default_factory=ConvNetConfig)
    initial_log_std: float = 0.0
    last_layer_gain: float = 0.01

    def __post_init__(self) -> None:
        for name in ("rollout_length", "passes", "minibatch_size"):
            require(getattr(self, name) >= 1, f"agent.{name}={getattr(self, name)}: use 1 or more")
        for name in ("clip", "learning_rate", "desired_divergence", "last_layer_gain"):
            require_finite(f"agent.{name}", getattr(self, name), above=0.0)
        for name in ("value_clip", "value_weight", "entropy_weight", "gradient_norm", "target_divergence"):
            require_finite(f"agent.{name}", getattr(self, name), low=0.0)
        for name in ("discount", "trace_decay"):
            value = getattr(self, name)
            require(0.0 <= value <= 1.0, f"agent.{name}={value}: use a value in [0, 1]")
        require_finite("agent.initial_log_std", self.initial_log_std)
        require_choice("agent.schedule", self.schedule, ("constant", "linear", "adaptive"))
        require(
            (self.schedule == "linear") == (self.decay_rollouts > 0),
            f"agent.decay_rollouts={self.decay_rollouts}: schedule=linear needs 1 or more, the others 0",
        )
        require(
            self.normalizer.source == "steps",
            "agent.normalizer.source=relabelled: on-policy agents have no replay to relabel; use steps",
        )
        check_sizes("agent", self.hidden_sizes)
        require_choice("agent.activation", self.activation, ACTIVATIONS)
