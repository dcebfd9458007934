"""The numbers of the replay."""

from __future__ import annotations

from dataclasses import dataclass, field

from rlsuite.errors import require, require_choice, require_finite

STRATEGIES = ("none", "future", "final", "episode")


@dataclass(frozen=True, kw_only=True)
class CurriculumConfig:
    """CHER's curriculum.

    Attributes:
        enabled: use it.
        candidates: C, drawn and relabelled for each group.
        kept: S, of them learned from.
        tried: candidates looked at for each pick.
        weight: lambda of the first minibatch, of the distance from goal to achieved goal.
        growth: lambda is multiplied by 1 + growth with each minibatch.
        columns: of the goal, that count; empty for all (a task of rotations: its quaternion).
    """

    enabled: bool = False
    candidates: int = 128
    kept: int = 64
    tried: int = 3
    weight: float = 1.0
    growth: float = 1e-4
    columns: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        path = "replay.hindsight.curriculum"
        for name in ("kept", "tried"):
            require(getattr(self, name) >= 1, f"{path}.{name}={getattr(self, name)}: use 1 or more")
        require(
            self.candidates >= self.kept,
            f"{path}.candidates={self.candidates}: use at least {self.kept}, which is {path}.kept",
        )
        require_finite(f"{path}.weight", self.weight, low=0.0)
        require_finite(f"{path}.growth", self.growth, low=0.0)
        require(all(column >= 0 for column in self.columns), f"{path}.columns={list(self.columns)}: use 0 or more")

    def candidates_for(self, size: int) -> int:
        """Return how many candidates to draw for a minibatch of `size`.

        Raises:
            UserError: if the size is no multiple of `kept`.
        """
        require(
            size % self.kept == 0,
            f"replay.hindsight.curriculum.kept={self.kept}: the minibatch's {size} transitions are no multiple of it",
        )
        return size // self.kept * self.candidates


@dataclass(frozen=True, kw_only=True)
class HindsightConfig:
    """Hindsight replay, for tasks with goals.

    Attributes:
        strategy: what a transition's goal is replaced by: "none" (hindsight is off), "future" (what its episode
            achieved at this step or later), "final" (what it achieved last) or "episode" (what it achieved at any
            time).
        relabelled_per_original: k; a share k / (k + 1) of the minibatch is relabelled.
        curriculum: choose the minibatch among more candidates (CHER); off by default.
    """

    strategy: str = "none"
    relabelled_per_original: float = 4.0
    curriculum: CurriculumConfig = field(default_factory=CurriculumConfig)

    def __post_init__(self) -> None:
        require_choice("replay.hindsight.strategy", self.strategy, STRATEGIES)
        require_finite("replay.hindsight.relabelled_per_original", self.relabelled_per_original, low=0.0)
        require(
            not self.curriculum.enabled or self.strategy != "none",
            "replay.hindsight.curriculum.enabled=true: nothing is relabelled; use replay.hindsight.strategy=future",
        )
        require(
            self.relabelled_per_original == 4.0 or self.strategy != "none",
            f"replay.hindsight.relabelled_per_original={self.relabelled_per_original}: hindsight is off; use "
            "replay.hindsight.strategy=future",
        )

    @property
    def relabelled_share(self) -> float:
        """K / (k + 1)."""
        return self.relabelled_per_original / (self.relabelled_per_original + 1.0)


@dataclass(frozen=True, kw_only=True)
class ReplayConfig:
    """Replay.

    Attributes:
        capacity: transitions kept, over all environments.
        n_step: rewards summed before the bootstrap.
        prioritized: sample in proportion to |TD error|^alpha (Schaul et al. 2016) instead of uniformly.
        priority_exponent: alpha.
        importance_exponent: beta, correcting the bias of prioritized sampling; constant, where Schaul et al. 2016
            (section 3.4) let it rise to 1 by the end of training, of which a replay knows nothing.
        priority_smallest_error: |TD errors| count as at least this (1 in DR.Q, arXiv:2605.11711).
        priority_age_decay: older transitions are sampled less, by the larger of priority_age_decay^age, age in
            transitions since they were added, and priority_age_floor; 1: all alike (0.9999 in DR.Q).
        priority_age_floor: see priority_age_decay.
        device: "auto" (the agent's device if 2.5 times the bytes are free there, else cpu), "cpu" or "cuda".
        timelimit_as_done: count time-limit ends as terminations, as some old codes do; biased.
        mirrored: half of each minibatch are the mirror images of its other half, for tasks whose left and right may
            change places (env=LearningToRun).
        bootstrap_probability: of a transition to be one that an actor-critic pair learns from, drawn for each pair
            apart (agent.num_pairs); 1: all pairs learn from all.
        hindsight: relabelling of goals, for tasks that have some.
    """

    capacity: int = 1_000_000
    n_step: int = 1
    prioritized: bool = False
    priority_exponent: float = 0.6
    importance_exponent: float = 0.4
    priority_smallest_error: float = 0.0
    priority_age_decay: float = 1.0
    priority_age_floor: float = 0.1
    device: str = "auto"
    timelimit_as_done: bool = False
    mirrored: bool = False
    bootstrap_probability: float = 1.0
    hindsight: HindsightConfig = field(default_factory=HindsightConfig)

    def __post_init__(self) -> None:
        for name in (
            "priority_exponent",
            "importance_exponent",
            "priority_smallest_error",
            "priority_age_decay",
            "priority_age_floor",
        ):
            default = ReplayConfig.__dataclass_fields__[name].default
            value = getattr(self, name)
            require_finite(f"replay.{name}", value, low=0.0)
            require(
                value == default or self.prioritized,
                f"replay.{name}={value}: sampling is uniform; use replay.prioritized=true",
            )
        decay, floor = self.priority_age_decay, self.priority_age_floor
        require(0.0 < decay <= 1.0, f"replay.priority_age_decay={decay}: use a value in (0, 1]")
        require(floor <= 1.0, f"replay.priority_age_floor={floor}: use a value in [0, 1]")
        require(
            floor == 0.1 or decay < 1.0,
            f"replay.priority_age_floor={floor}: priorities do not fade; use replay.priority_age_decay below 1",
        )
        require(
            not (self.mirrored and self.prioritized),
            "replay.mirrored=true: a transition and its image would have one priority; use replay.prioritized=false",
        )
        chance = self.bootstrap_probability
        require(0.0 < chance <= 1.0, f"replay.bootstrap_probability={chance}: use a value in (0, 1]")
        require(
            chance == 1.0 or not (self.prioritized or self.hindsight.strategy != "none"),
            f"replay.bootstrap_probability={chance}: it is for uniform sampling; use replay.prioritized=false and "
            "replay.hindsight.strategy=none",
        )
        if self.hindsight.strategy == "none":
            return
        require(not self.mirrored, "replay.mirrored=true: goals have no mirror image here; use false with hindsight")
        require(self.n_step == 1, f"replay.n_step={self.n_step}: relabelled goals change every reward; use 1")
        require(
            not self.prioritized,
            "replay.prioritized=true: priorities of one goal say nothing of another's; use false with hindsight",
        )
        require(
            not self.timelimit_as_done,
            "replay.timelimit_as_done=true: episodes with goals end by time alone; use false with hindsight",
        )
