"""The numbers of actor-critics: DDPG, TD3, SAC and HER's agent."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from rlsuite.distributed import divided
from rlsuite.errors import require, require_choice, require_finite
from rlsuite.nn.actors import ActorConfig
from rlsuite.nn.critics import BATCH_NORMALIZED, CriticConfig
from rlsuite.nn.embedding import EmbeddingConfig
from rlsuite.nn.exploration import ExplorationConfig
from rlsuite.nn.eye import EyeConfig
from rlsuite.nn.normalizer import NormalizerConfig
from rlsuite.nn.precision import PRECISIONS

if TYPE_CHECKING:
    from rlsuite.config.schema import TrainConfig
    from rlsuite.vector_env import EnvironmentFacts

_DEFAULT = CriticConfig()


@dataclass(frozen=True, kw_only=True)
class ActorCriticConfig:
    """DDPG, TD3, SAC and HER's agent.

    Attributes:
        num_pairs: K, actor-critic pairs trained side by side, each on minibatches of its own.
        num_critics: C, critics of each pair; the smallest bootstraps (2: clipped double Q, TD3).
        policy_delay: critic updates for each update of actor and targets (2: TD3).
        target_every: critic updates for each update of the targets; 0: whenever the actors are updated.
        target_noise: standard deviation of the noise on target actions (0.2: TD3), in half action ranges.
        target_noise_clip: that noise is clipped to plus or minus this.
        discount: gamma.
        target_rate: tau of the soft target update.
        batch_size: B.
        actor_learning_rate: of Adam.
        critic_learning_rate: of Adam.
        learning_rate_decay_start: the share of the training's steps (steps=) after which all rates fall.
        final_learning_rate_share: what is left of them at its end; 1 keeps them as they are. A run that is resumed with
            more steps= follows the schedule of the new length.
        final_critic_learning_rate_share: the same of the critics' rate, where it is another; null for the same.
        learning_rate_schedule: how they fall: "linear" or "cosine".
        learning_rate_counts: "run" (all rates fall with the training's steps), or "updates": the actors' and the
            temperature's fall agent.policy_delay times as slowly, having done so many fewer updates (FlashSAC).
        critic_weight_decay: decoupled weight decay of the critics; 0 is plain Adam.
        second_moment_decay: Adam's beta_2, of actors and critics.
        gradient_norm: gradients of actors, critics and the rest, each of all pairs together, are scaled down to this
            norm; 0 for not.
        clip_targets: keep the critics' targets within [-1 / (1 - discount), 0], where returns of rewards between -1
            and 0 lie (sparse rewards of tasks with goals).
        normalize_observations: standardize observations by running statistics.
        normalizer: how.
        reward_scaling: "constant" (rewards are multiplied by reward_scale) or "returns" (they are divided so that
            discounted returns stay within agent.critic.value_max, as large as bootstrapping through time limits makes
            them; what a categorical critic wants).
        reward_scale: the constant.
        initial_temperature: alpha at first, the weight of the entropy; it and the next two are read only with
            agent.actor.distribution=squashed_gaussian (SAC).
        temperature_learning_rate: of Adam on log alpha; 0 keeps alpha as it is.
        target_entropy: the entropy alpha is driven to, for each action dimension.
        approximate_soft_returns: let stochastic actors learn from replay.n_step above 1 although such returns hold the
            entropy of the bootstrapped state alone, not that of the steps on the way (FlashSAC's in IsaacLab; little
            is missing where alpha is small beside the rewards, docs/statistics.md).
        pre_activation_penalty: weight, in the actors' loss, of the mean square of what enters their tanh, against
            the objective in units of its mean absolute value (0: plain DDPG). Without it a fast critic drives actions
            to their bounds, where tanh passes no gradient back (the idea is MR.Q's, Fujimoto et al. 2025).
        action_penalty: weight, in the actors' loss, of the mean square of the actions in [-1, 1] (1.0: HER's DDPG).
        act_with_targets: act greedily with the target actor, as arXiv:1712.08987's tester does.
        precision: of the hidden layers' products in updates: "float32", "bfloat16", or "auto" (bfloat16 where the
            processor has it natively). Weights, values, losses and acting are always float32.
        actor: the actor block.
        critic: the critic block.
        vision: what sees pictures, where observations are pictures; they are not standardized.
        embedding: what is learned beside observations and actions, for actors and critics to see.
        exploration: noise on the actions while collecting.
    """

    num_pairs: int = 1
    num_critics: int = 1
    policy_delay: int = 1
    target_every: int = 0
    target_noise: float = 0.0
    target_noise_clip: float = 0.5
    discount: float = 0.99
    target_rate: float = 0.005
    batch_size: int = 256
    actor_learning_rate: float = 3e-4
    critic_learning_rate: float = 3e-4
    learning_rate_decay_start: float = 0.0
    final_learning_rate_share: float = 1.0
    final_critic_learning_rate_share: float | None = None
    learning_rate_schedule: str = "linear"
    learning_rate_counts: str = "run"
    critic_weight_decay: float = 0.0
    second_moment_decay: float = 0.999
    gradient_norm: float = 0.0
    clip_targets: bool = False
    normalize_observations: bool = True
    normalizer: NormalizerConfig = field(default_factory=NormalizerConfig)
    reward_scaling: str = "constant"
    reward_scale: float = 1.0
    initial_temperature: float = 1.0
    temperature_learning_rate: float = 3e-4
    target_entropy: float = -1.0
    approximate_soft_returns: bool = False
    pre_activation_penalty: float = 0.0
    action_penalty: float = 0.0
    act_with_targets: bool = False
    precision: str = "auto"
    actor: ActorConfig = field(default_factory=ActorConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)
    vision: EyeConfig = field(default_factory=EyeConfig)
    embedding: EmbeddingConfig = field(default_factory=EmbeddingConfig)
    exploration: ExplorationConfig = field(default_factory=ExplorationConfig)

    def __post_init__(self) -> None:
        for name in ("num_pairs", "num_critics", "policy_delay", "batch_size"):
            require(getattr(self, name) >= 1, f"agent.{name}={getattr(self, name)}: use 1 or more")
        require_choice("agent.precision", self.precision, PRECISIONS)
        require_choice("agent.reward_scaling", self.reward_scaling, ("constant", "returns"))
        self._check_scales()
        require(0.0 <= self.discount <= 1.0, f"agent.discount={self.discount}: use a value in [0, 1]")
        require(0.0 < self.target_rate <= 1.0, f"agent.target_rate={self.target_rate}: use a value in (0, 1]")
        for name in ("actor_learning_rate", "critic_learning_rate", "reward_scale", "initial_temperature"):
            require_finite(f"agent.{name}", getattr(self, name), above=0.0)
        for name in (
            "target_noise",
            "target_noise_clip",
            "critic_weight_decay",
            "gradient_norm",
            "temperature_learning_rate",
            "pre_activation_penalty",
            "action_penalty",
        ):
            require_finite(f"agent.{name}", getattr(self, name), low=0.0)
        require_finite("agent.target_entropy", self.target_entropy)
        self._check_actors()
        self._check_learning_rates()
        require(self.target_every >= 0, f"agent.target_every={self.target_every}: use 0 (with the actors) or more")
        require(
            not self.clip_targets or (self.discount < 1.0 and self.critic.loss == "squared_error"),
            "agent.clip_targets=true needs agent.discount below 1 and agent.critic.loss=squared_error",
        )
        require(
            not self.clip_targets or (self.reward_scaling == "constant" and self.reward_scale == 1.0),
            "agent.clip_targets=true is for rewards as they are; use agent.reward_scaling=constant and "
            "agent.reward_scale=1",
        )

    def _check_actors(self) -> None:
        """Refuse numbers that the actors' kind has no use for."""
        require(
            self.target_noise == 0.0 or self.actor.distribution != "squashed_gaussian",
            f"agent.target_noise={self.target_noise}: stochastic actors draw their target actions; use 0",
        )
        require(
            self.target_entropy == -1.0 or self.temperature_learning_rate > 0.0,
            f"agent.target_entropy={self.target_entropy}: agent.temperature_learning_rate=0 keeps the temperature; use "
            "a rate above 0",
        )
        if self.actor.distribution == "deterministic":
            for name in (
                "target_entropy",
                "initial_temperature",
                "temperature_learning_rate",
                "approximate_soft_returns",
            ):
                value, default = getattr(self, name), ActorCriticConfig.__dataclass_fields__[name].default
                require(
                    value == default,
                    f"agent.{name}={value}: deterministic actors have no temperature; use "
                    "agent.actor.distribution=squashed_gaussian",
                )
        require(
            self.exploration.parameter_noise == 0.0
            or (self.actor.distribution == "deterministic" and self.actor.block == "plain"),
            f"agent.exploration.parameter_noise={self.exploration.parameter_noise}: it is for actors without noise of "
            "their own whose weights have no fixed norm; use agent.actor.distribution=deterministic and block=plain",
        )

    def _check_learning_rates(self) -> None:
        """Refuse schedules that would change nothing, or more than there is."""
        start, share = self.learning_rate_decay_start, self.final_learning_rate_share
        require(0.0 <= start < 1.0, f"agent.learning_rate_decay_start={start}: use a value in [0, 1)")
        require(0.0 <= share <= 1.0, f"agent.final_learning_rate_share={share}: use a value in [0, 1]")
        of_critics, beta = self.final_critic_learning_rate_share, self.second_moment_decay
        require(
            of_critics is None or (0.0 <= of_critics <= 1.0 and share < 1.0),
            f"agent.final_critic_learning_rate_share={of_critics}: use a value in [0, 1], with "
            "agent.final_learning_rate_share below 1, or null",
        )
        require(0.0 <= beta < 1.0, f"agent.second_moment_decay={beta}: use a value in [0, 1)")
        require(
            start == 0.0 or share < 1.0,
            f"agent.learning_rate_decay_start={start}: the rates stay; use agent.final_learning_rate_share below 1",
        )
        for name, choices in (("schedule", ("linear", "cosine")), ("counts", ("run", "updates"))):
            value = getattr(self, f"learning_rate_{name}")
            require_choice(f"agent.learning_rate_{name}", value, choices)
            require(
                value == choices[0] or share < 1.0,
                f"agent.learning_rate_{name}={value}: the rates stay; use agent.final_learning_rate_share below 1",
            )

    def _check_scales(self) -> None:
        """Refuse rewards that would leave the support of categorical values, or be scaled in two ways."""
        support = [self.critic.value_min, self.critic.value_max]
        if self.reward_scaling == "returns":
            require_finite("agent.critic.value_max", self.critic.value_max, above=0.0)
            require(
                self.reward_scale == 1.0,
                f"agent.reward_scale={self.reward_scale}: agent.reward_scaling=returns finds the scale itself; use 1",
            )
            require(
                self.discount < 1.0,
                "agent.discount=1: values that bootstrap through time limits have no bound for "
                "agent.reward_scaling=returns to find; use less than 1",
            )
        require(
            self.critic.loss == "categorical"
            or self.reward_scaling == "returns"
            or support == [_DEFAULT.value_min, _DEFAULT.value_max],
            f"agent.critic.value_min={support[0]} and value_max={support[1]}: squared errors have no support; use "
            "agent.critic.loss=categorical",
        )
        if self.critic.loss == "categorical":
            require(
                self.reward_scaling == "constant" or support[0] == -support[1],
                f"agent.critic.value_min={support[0]}: agent.reward_scaling=returns keeps returns within plus and "
                f"minus agent.critic.value_max; use {-support[1]}",
            )
            require(
                self.reward_scaling == "returns" or support != [_DEFAULT.value_min, _DEFAULT.value_max],
                "agent.critic.loss=categorical: values beyond agent.critic.value_min and value_max cannot be learned; "
                "use agent.reward_scaling=returns, or set both so that every discounted return lies between them",
            )

    def share(self, size: int) -> Self:
        """Return the numbers of one of `size` ranks, each of which learns from its rows of every minibatch.

        Raises:
            UserError: where normalization is by a minibatch's own statistics.
        """
        for key, block in {"critic": self.critic.block, "actor": self.actor.block}.items():
            require(
                block not in BATCH_NORMALIZED,
                f"agent.{key}.block={block} normalizes by the statistics of whole minibatches, and each rank has a "
                "part of them; use layer_norm, or start it without torchrun",
            )
        return divided(self, size, "batch_size")

    @property
    def target_range(self) -> tuple[float, float] | None:
        """What the critics' targets are clipped to; None for nothing."""
        return (-1.0 / (1.0 - self.discount), 0.0) if self.clip_targets else None

    def learning_rate_left(self, progress: float, final: float | None = None) -> float:
        """Return the factor on rates when this share of the training is done, on those that fall to another share."""
        decayed = max(0.0, progress - self.learning_rate_decay_start) / (1.0 - self.learning_rate_decay_start)
        decayed = min(decayed, 1.0)
        if self.learning_rate_schedule == "cosine":
            decayed = 0.5 - 0.5 * math.cos(math.pi * decayed)
        return 1.0 - (1.0 - (self.final_learning_rate_share if final is None else final)) * decayed

    def learning_rates(self, progress: float) -> dict[str, float]:
        """Return each optimizer's rate when this share of the training is done."""
        left = self.learning_rate_left(progress)
        rare = left if self.learning_rate_counts == "run" else self.learning_rate_left(progress / self.policy_delay)
        return {
            "actor": self.actor_learning_rate * rare,
            "critic": self.critic_learning_rate
            * self.learning_rate_left(progress, self.final_critic_learning_rate_share),
            "embedding": self.embedding.learning_rate * left,
            "temperature": self.temperature_learning_rate * rare,
        }


def check_run(config: TrainConfig, facts: EnvironmentFacts) -> None:
    """Raise UserError, naming the fix, where an actor-critic's numbers do not go with its replay and task."""
    agent: ActorCriticConfig = config.agent
    named = "dense" if config.env.full_id.endswith("Dense") else "sparse"
    dense = config.env.options.get("reward_type", named) == "dense"
    require(
        not agent.clip_targets or (facts.goals is not None and not dense),
        "agent.clip_targets=true is for the sparse rewards of tasks with goals, between -1 and 0; use "
        "agent.clip_targets=false",
    )
    require(
        facts.picture_shape is None or agent.embedding.size == 0,
        f"agent.embedding.size={agent.embedding.size}: embeddings are of vectors; use 0 with pictures",
    )
    require(
        agent.exploration.parameter_noise == 0.0 or facts.picture_shape is None,
        f"agent.exploration.parameter_noise={agent.exploration.parameter_noise}: it remembers states, which pictures "
        "are too large for; use 0",
    )
    require(
        agent.normalizer.source == "steps" or config.replay.hindsight.strategy != "none",
        "agent.normalizer.source=relabelled: nothing is relabelled; use replay.hindsight.strategy=future, or "
        "agent.normalizer.source=steps",
    )
    require(
        config.replay.n_step == 1 or agent.actor.distribution == "deterministic" or agent.approximate_soft_returns,
        f"replay.n_step={config.replay.n_step}: soft returns would leave out the entropy of the steps on the way "
        "(agent.actor.distribution=squashed_gaussian); use replay.n_step=1, or agent.approximate_soft_returns=true to "
        "leave it out",
    )
    require(
        config.replay.n_step > 1 or not agent.approximate_soft_returns,
        "agent.approximate_soft_returns=true: replay.n_step=1 leaves nothing out; use a larger n_step, or false",
    )
