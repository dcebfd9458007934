"""The numbers of PPO."""

from __future__ import annotations

from dataclasses import dataclass

from agents.on_policy_config import OnPolicyConfig
from rlsuite.errors import require, require_choice, require_finite


@dataclass(frozen=True, kw_only=True)
class PPOConfig(OnPolicyConfig):
    """PPO; what it shares with TRPO stands in OnPolicyConfig.

    Attributes:
        passes: times each rollout is learned from.
        clip: eps of the policy's ratio.
        value_clip: how far a value may move in one update, in units of scaled returns; 0 for any distance.
        value_weight: of half the squared error of the values, beside the policy's objective.
        entropy_weight: of the entropy.
        target_divergence: end an update when the policy's divergence from the one that collected passes 1.5 times
            this; 0 for never.
        schedule: of the learning rate: "constant", "linear" (to 0 in decay_rollouts rollouts) or "adaptive" (up or
            down, so that the divergence stays near desired_divergence: rsl_rl's rule, once a rollout).
        decay_rollouts: of schedule=linear.
        anneal_clip: let the clip of the policy's ratio fall with the learning rate (OpenAI's baselines).
        desired_divergence: of schedule=adaptive.
    """

    passes: int = 10
    clip: float = 0.2
    value_clip: float = 0.0
    value_weight: float = 0.5
    entropy_weight: float = 0.0
    target_divergence: float = 0.0
    schedule: str = "constant"
    decay_rollouts: int = 0
    anneal_clip: bool = False
    desired_divergence: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.passes >= 1, f"agent.passes={self.passes}: use 1 or more")
        for name in ("clip", "desired_divergence"):
            require_finite(f"agent.{name}", getattr(self, name), above=0.0)
        for name in ("value_clip", "value_weight", "entropy_weight", "target_divergence"):
            require_finite(f"agent.{name}", getattr(self, name), low=0.0)
        require_choice("agent.schedule", self.schedule, ("constant", "linear", "adaptive"))
        require(
            (self.schedule == "linear") == (self.decay_rollouts > 0),
            f"agent.decay_rollouts={self.decay_rollouts}: schedule=linear needs 1 or more, the others 0",
        )
        require(
            not self.anneal_clip or self.schedule == "linear",
            f"agent.anneal_clip=true: agent.schedule={self.schedule} has no end to fall to; use schedule=linear",
        )
