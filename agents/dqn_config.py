"""The numbers of DQN."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

from rlsuite.distributed import divided
from rlsuite.errors import require, require_choice, require_finite
from rlsuite.nn.ensemble import ACTIVATIONS, check_sizes
from rlsuite.nn.normalizer import NormalizerConfig
from rlsuite.nn.vision.conv_net import ConvNetConfig


@dataclass(frozen=True, kw_only=True)
class EpsilonConfig:
    """The chance of a random action while exploring, linear in environment steps.

    Attributes:
        start: before the first step.
        end: from decay_steps on.
        decay_steps: environment steps, over all environments and the random start of training among them.
    """

    start: float = 1.0
    end: float = 0.05
    decay_steps: int = 10_000

    def __post_init__(self) -> None:
        for name in ("start", "end"):
            value = getattr(self, name)
            require(0.0 <= value <= 1.0, f"agent.epsilon.{name}={value}: use a value in [0, 1]")
        require(1 <= self.decay_steps <= 10**15, f"agent.epsilon.decay_steps={self.decay_steps}: use 1 to 10^15 steps")


@dataclass(frozen=True, kw_only=True)
class DQNConfig:
    """DQN. Rewards summed over n steps and prioritized minibatches are the replay's: replay.n_step, replay.prioritized.

    Attributes:
        discount: gamma.
        batch_size: B.
        learning_rate: of Adam.
        gradient_norm: gradients are scaled down to this norm; 0 for not.
        double: the network chooses the next action, and its slow copy values it (van Hasselt et al. 2016); otherwise
            the copy does both.
        dueling: the last layer gives a value and each action's advantage over their mean (Wang et al. 2016).
        target_every: updates between two moments at which the slow copy becomes what the network is; 0: it follows at
            target_rate with every update.
        target_rate: the share of the way that the slow copy goes with each update, where target_every is 0.
        epsilon: exploration.
        reward_clip: rewards are clipped to plus or minus this in updates (1: Mnih et al. 2015); 0 for not. With
            replay.n_step=1 only, since the replay gives sums.
        normalize_observations: standardize vectors by running statistics.
        normalizer: how.
        hidden_sizes: width of each hidden layer, where observations are vectors.
        activation: a key of rlsuite.nn.ensemble.ACTIVATIONS, where observations are vectors.
        vision: the convolutions, where observations are pictures.
    """

    discount: float = 0.99
    batch_size: int = 128
    learning_rate: float = 5e-4
    gradient_norm: float = 10.0
    double: bool = True
    dueling: bool = True
    target_every: int = 0
    target_rate: float = 0.01
    epsilon: EpsilonConfig = field(default_factory=EpsilonConfig)
    reward_clip: float = 0.0
    normalize_observations: bool = False
    normalizer: NormalizerConfig = field(default_factory=NormalizerConfig)
    hidden_sizes: tuple[int, ...] = (256, 256)
    activation: str = "relu"
    vision: ConvNetConfig = field(default_factory=ConvNetConfig)

    def __post_init__(self) -> None:
        require(0.0 <= self.discount <= 1.0, f"agent.discount={self.discount}: use a value in [0, 1]")
        require(self.batch_size >= 1, f"agent.batch_size={self.batch_size}: use 1 or more")
        require_finite("agent.learning_rate", self.learning_rate, above=0.0)
        for name in ("gradient_norm", "reward_clip"):
            require_finite(f"agent.{name}", getattr(self, name), low=0.0)
        require(self.target_every >= 0, f"agent.target_every={self.target_every}: use 0 or more")
        require(0.0 < self.target_rate <= 1.0, f"agent.target_rate={self.target_rate}: use a value in (0, 1]")
        require(
            self.normalizer.source == "steps",
            "agent.normalizer.source=relabelled: agent=dqn learns from no relabelled goals; use steps",
        )
        check_sizes("agent", self.hidden_sizes)
        require_choice("agent.activation", self.activation, ACTIVATIONS)

    def share(self, size: int) -> Self:
        """Return the numbers of one of `size` ranks, each of which learns from its rows of every minibatch."""
        return divided(self, size, "batch_size")
