"""The numbers of the painter."""

from __future__ import annotations

from dataclasses import dataclass

from agents.painter.networks import NETWORKS
from rlsuite.errors import require, require_choice, require_finite
from rlsuite.nn.precision import PRECISIONS

REWARDS = ("wgan", "l2", "psnr", "share")


@dataclass(frozen=True, kw_only=True)
class PainterConfig:
    """The painter (arXiv:1903.04411).

    Attributes:
        batch_size: B.
        discount: gamma of one bundle of strokes; the paper's 0.95 a stroke, five strokes a bundle.
        target_rate: tau of the soft updates of all target networks.
        reward: "wgan" (a discriminator learned on the way), "l2" (how far the mean squared error falls), "share" (as a
            share of an empty canvas's, as the environment's own) or "psnr" (how far its logarithm falls: what is left
            counts as much on a nearly finished canvas as on an empty one).
        reward_scale: rewards are multiplied by this.
        gradient_penalty: weight of the discriminator's.
        network: "resnet18" (the paper's) or "small" (three convolutions).
        width: w of the networks, see agents/painter/networks.py.
        actor_learning_rates: of Adam, in turn.
        critic_learning_rates: of Adam, in turn.
        milestones: the update at which each later rate begins.
        discriminator_learning_rate: of Adam, whose betas are 0.5 and 0.999.
        exploration_noise: each episode explores with Gaussian noise whose standard deviation is drawn from 0 to this;
            the model-based painter needs none.
        precision: of the networks' products in updates: "float32", "bfloat16", or "auto" (bfloat16 where the
            processor has it natively). Strokes are drawn in float32 always.
    """

    batch_size: int = 96
    discount: float = 0.95**5
    target_rate: float = 0.001
    reward: str = "wgan"
    reward_scale: float = 1.0
    gradient_penalty: float = 10.0
    network: str = "resnet18"
    width: int = 64
    actor_learning_rates: tuple[float, ...] = (1e-3, 3e-4, 1e-4)
    critic_learning_rates: tuple[float, ...] = (3e-4, 1e-4, 3e-5)
    milestones: tuple[int, ...] = (100_000, 200_000)
    discriminator_learning_rate: float = 3e-4
    exploration_noise: float = 0.0
    precision: str = "auto"

    def __post_init__(self) -> None:
        require_choice("agent.reward", self.reward, REWARDS)
        require_choice("agent.network", self.network, NETWORKS)
        require_choice("agent.precision", self.precision, PRECISIONS)
        require(self.batch_size >= 2, f"agent.batch_size={self.batch_size}: use 2 or more")
        require(self.width >= 2, f"agent.width={self.width}: use 2 or more")
        for name in ("target_rate", "reward_scale", "gradient_penalty", "exploration_noise"):
            require_finite(f"agent.{name}", getattr(self, name), low=0.0)
        require(0.0 <= self.discount <= 1.0, f"agent.discount={self.discount}: use a number from 0 to 1")
        for name in ("actor_learning_rates", "critic_learning_rates"):
            rates = getattr(self, name)
            require(
                len(rates) == len(self.milestones) + 1,
                f"agent.{name}={list(rates)}: one more than agent.milestones={list(self.milestones)}",
            )
            for rate in rates:
                require_finite(f"agent.{name}", rate, low=0.0)
        require_finite("agent.discriminator_learning_rate", self.discriminator_learning_rate, low=0.0)


@dataclass(frozen=True, kw_only=True)
class ModelFreePainterConfig(PainterConfig):
    """The paper's baselines, which do not look through the renderer.

    Attributes:
        patches: PatchQ: rewards and values of each patch of 16 x 16 pixels, instead of one of the whole picture;
            env.size is a multiple of 16.
    """

    exploration_noise: float = 0.05
    patches: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            not self.patches or self.network == "resnet18",
            "agent.patches=true needs agent.network=resnet18",
        )
