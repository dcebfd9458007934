"""The numbers of agents that learn from whole rollouts, which PPO and TRPO share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

from rlsuite.distributed import divided
from rlsuite.errors import require, require_choice, require_finite
from rlsuite.nn.ensemble import ACTIVATIONS, check_sizes
from rlsuite.nn.normalizer import NormalizerConfig
from rlsuite.nn.vision.conv_net import ConvNetConfig


@dataclass(frozen=True, kw_only=True)
class OnPolicyConfig:
    """A policy and a value that learn from rollouts.

    Attributes:
        rollout_length: T, steps of every environment between updates.
        minibatch_size: M.
        gradient_norm: gradients are scaled down to this norm; 0 for not.
        standardize_advantages: to mean 0 and deviation 1, of PPO in each minibatch, of TRPO over the rollout.
        discount: gamma.
        trace_decay: lambda of generalized advantages.
        learning_rate: of Adam.
        adam_epsilon: added to the root of Adam's second moments (1e-5: OpenAI's baselines).
        normalize_observations: standardize observations by running statistics, renewed between rollouts.
        normalizer: how.
        mirrored: learn from each rollout and its mirror image, whose actions have the policy's own probabilities there,
            for tasks whose left and right may change places (env=LearningToRun).
        scale_rewards: divide rewards by the running deviation of their discounted returns.
        hidden_sizes: width of each hidden layer of policy and value network.
        activation: a key of rlsuite.nn.ensemble.ACTIVATIONS.
        vision: the convolutions of policy and value network, where observations are pictures; the two keys before it
            and the normalizer are not used then.
        initial_log_std: of the Gaussian at first, in half action ranges; choices have none.
        last_layer_gain: of the policy's last layer: near 0, first actions hardly depend on the observation.
    """

    rollout_length: int = 256
    minibatch_size: int = 64
    gradient_norm: float = 0.5
    standardize_advantages: bool = True
    discount: float = 0.99
    trace_decay: float = 0.95
    learning_rate: float = 3e-4
    adam_epsilon: float = 1e-8
    normalize_observations: bool = True
    normalizer: NormalizerConfig = field(default_factory=NormalizerConfig)
    mirrored: bool = False
    scale_rewards: bool = True
    hidden_sizes: tuple[int, ...] = (64, 64)
    activation: str = "tanh"
    vision: ConvNetConfig = field(default_factory=ConvNetConfig)
    initial_log_std: float = 0.0
    last_layer_gain: float = 0.01

    def __post_init__(self) -> None:
        for name in ("rollout_length", "minibatch_size"):
            require(getattr(self, name) >= 1, f"agent.{name}={getattr(self, name)}: use 1 or more")
        for name in ("learning_rate", "adam_epsilon", "last_layer_gain"):
            require_finite(f"agent.{name}", getattr(self, name), above=0.0)
        require_finite("agent.gradient_norm", self.gradient_norm, low=0.0)
        for name in ("discount", "trace_decay"):
            value = getattr(self, name)
            require(0.0 <= value <= 1.0, f"agent.{name}={value}: use a value in [0, 1]")
        require_finite("agent.initial_log_std", self.initial_log_std)
        require(
            self.normalizer.source == "steps",
            "agent.normalizer.source=relabelled: on-policy agents have no replay to relabel; use steps",
        )
        check_sizes("agent", self.hidden_sizes)
        require_choice("agent.activation", self.activation, ACTIVATIONS)

    def share(self, size: int) -> Self:
        """Return the numbers of one of `size` ranks, each of which learns from its rows of every minibatch."""
        return divided(self, size, "minibatch_size")
