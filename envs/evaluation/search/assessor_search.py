"""`search/assessor`: the network of a policy, or of pictures, found by few trials and many predictions.

Some codes are trained for a short while; the assessor (`assessor.py`, arXiv:2005.06821) learns from them and from codes
that were not, ranks more, and the best of those are trained in turn. The best trained one is taken.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from envs.evaluation.search.assessor import Assessor, AssessorConfig
from envs.evaluation.search.door import Search, coded_space, replaced
from envs.evaluation.search.evaluators import TrainedEvaluator, halves
from envs.evaluation.search.prefilter import Ranked, RankedConfig
from envs.evaluation.search.space import Architecture, Space
from envs.evaluation.search.spaces.code import ActorConfig, EncoderConfig
from envs.evaluation.search.strategy import search
from envs.evaluation.subject import Subject
from envs.evaluation.transform import TeachConfig
from rlsuite.errors import UserError, require, require_finite
from rlsuite.fit import FitConfig
from rlsuite.running.seeding import derive_seed


@dataclass(frozen=True, kw_only=True)
class AssessorSearchConfig:
    """A search by the assessor.

    Attributes:
        macs: of the network at most; 0 for no budget. Networks beyond it are neither tried nor ranked.
        trials: networks that are trained.
        ranked: how many of them at random, and how the rest is picked.
        assessor: see AssessorConfig.
        candidate: how each network learns.
        actor: the space, for plain policies.
        encoder: the space, for pictures.
        seed: of all draws.
        teach: how the network that was found learns.
    """

    macs: float = 0.0
    trials: int = 40
    ranked: RankedConfig = field(default_factory=lambda: RankedConfig(labels=20, others=200, candidates=400, picks=5))
    assessor: AssessorConfig = field(default_factory=AssessorConfig)
    candidate: TeachConfig = field(
        default_factory=lambda: TeachConfig(fit=FitConfig(steps=300, batch_size=256), rounds=1)
    )
    actor: ActorConfig = field(default_factory=ActorConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    seed: int = 0
    teach: TeachConfig = field(default_factory=TeachConfig)

    def __post_init__(self) -> None:
        require_finite("macs", self.macs, low=0.0)
        require(self.trials >= 2, f"trials={self.trials}: use 2 or more")
        require(self.seed >= 0, f"seed={self.seed}: use 0 or more")


class AssessorSearch(Search):
    """The search as a transform."""

    Config = AssessorSearchConfig
    config: AssessorSearchConfig

    def space_of(self, subject: Subject) -> tuple[str, Any]:
        """Return layers for plain policies, stages of convolutions for pictures."""
        return coded_space("search/assessor", subject, self.config.actor, self.config.encoder)

    def find(self, subject: Subject, space: Space) -> Architecture:
        """Return the best of the networks that were trained."""
        config = self.config
        if config.macs:
            space.require_budget("assessor.macs", config.macs)
            space.limit = lambda architecture: space.cost(architecture)["macs"] <= config.macs
        part = Subject(subject.module, subject.example, halves(subject.task, config.seed), subject.base)
        evaluator = TrainedEvaluator(space, part, replaced, config.candidate, seed=config.seed)

        def assessor(number: int) -> Assessor:
            return Assessor(space, config.assessor, seed=derive_seed(config.seed, f"assessor {number}"))

        strategy = Ranked(space, assessor, config.ranked, seed=config.seed)
        outcome = search(
            space,
            strategy,
            evaluator,
            budget=config.trials,
            folder=self.folder,
            description={"method": "assessor", "seed": config.seed, "macs": config.macs},
        )
        if not any(math.isfinite(score) for _, score in outcome.judged):
            raise UserError("search/assessor: no network learned; use a smaller assessor.candidate.fit learning_rate")
        return outcome.best
