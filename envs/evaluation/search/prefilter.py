"""Few trials by prediction: a predictor looks at many architectures, and only those that it thinks best are tried.

`Ranked` is a strategy of its own: a sample is ranked, the top is tried, and the predictor learns again (the assessor's
section 3.4, arXiv:2005.06821). `Prefilter` stands before any other strategy: what that proposes is tried only if the
predictor ranks it high, else the strategy is told the prediction.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from envs.evaluation.search.predictors import Predictor
from envs.evaluation.search.space import Architecture, Space
from envs.evaluation.search.strategy import Proposal, Strategy
from rlsuite.errors import require

MakePredictor = Callable[[int], Predictor]  # from how often one was made before


@dataclass(frozen=True, kw_only=True)
class RankedConfig:
    """How many are tried, and among how many.

    Attributes:
        labels: architectures tried at random first.
        others: drawn architectures without a score, which the predictor learns from, too.
        candidates: drawn and ranked in each round.
        picks: of them tried.
    """

    labels: int = 60
    others: int = 540
    candidates: int = 1000
    picks: int = 10

    def __post_init__(self) -> None:
        require(self.labels >= 2, f"labels={self.labels}: use 2 or more")
        require(self.others >= 0, f"others={self.others}: use 0 (none) or more")
        require(self.picks >= 1, f"picks={self.picks}: use 1 or more")
        require(self.candidates >= self.picks, f"candidates={self.candidates}: use picks={self.picks} or more")


class Ranked:
    """Tries some architectures at random, then rounds of the best predicted ones; the predictor learns in between.

    Args:
        space: what is searched.
        predictor: a fresh predictor for each round, by its number.
        config: see RankedConfig.
        seed: of all draws.
    """

    def __init__(
        self, space: Space, predictor: MakePredictor, config: RankedConfig | None = None, *, seed: int
    ) -> None:
        self.space, self.make, self.config = space, predictor, config or RankedConfig()
        self.rng = np.random.default_rng(seed)
        self.tried = Tried(space)
        self.others: list[Architecture] = []
        self.round = 0
        self.waiting: list[Architecture] = []

    def ask(self) -> Proposal:
        """Return the first labels, or the next picks; nothing where no new architecture is drawn."""
        if not self.round:
            self.waiting = self.tried.draw(self.config.labels, self.rng)
            self.others = [self.space.sample(self.rng) for _ in range(self.config.others)]
        else:
            candidates = self.tried.draw(self.config.candidates, self.rng)
            predictor = self.make(self.round)
            self.tried.teach(predictor, self.others)
            told = predictor.predict(candidates) if candidates else np.zeros(0)
            best = np.argsort(-told, kind="stable")[: self.config.picks]
            self.waiting = [candidates[i] for i in best]
        self.round += 1
        return Proposal(judge=tuple(self.waiting))

    def tell(self, scores: Sequence[float]) -> None:
        """Remember the scores."""
        self.tried.add(self.waiting, scores)


class Prefilter:
    """Another strategy's proposals, of which only the best predicted are tried.

    Until `warm_up` scores are known all are. After that a proposal is tried if its prediction lies in the best share of
    those of architectures drawn from the space; of a generation the best share of it is.

    Args:
        space: what is searched.
        inner: the strategy; it proposes what to judge, not what to train.
        predictor: a fresh predictor, by its number.
        keep: the share.
        warm_up: scores before anything is predicted.
        every: new scores between two predictors.
        sample: architectures that a prediction is compared with.
        seed: of these draws.
    """

    def __init__(
        self,
        space: Space,
        inner: Strategy,
        predictor: MakePredictor,
        *,
        keep: float = 0.1,
        warm_up: int = 40,
        every: int = 10,
        sample: int = 200,
        seed: int,
    ) -> None:
        require(0.0 < keep <= 1.0, f"keep={keep}: use a share above 0, up to 1")
        require(min(warm_up, every, sample) >= 2, "warm_up, every and sample: use 2 or more of each")
        self.space, self.inner, self.make, self.keep = space, inner, predictor, keep
        self.warm_up, self.every = warm_up, every
        rng = np.random.default_rng(seed)
        self.sample = [space.sample(rng) for _ in range(sample)]
        self.tried = Tried(space)
        self.predictor: Predictor | None = None
        self.made, self.known, self.bar = 0, 0, -math.inf
        self.proposed: list[Architecture] = []
        self.told: list[float | None] = []  # predictions of what is not tried; None for what is

    def ask(self) -> Proposal:
        """Return what of the strategy's proposals is worth a trial; those before it are told their predictions."""
        if len(self.tried.scores) >= self.warm_up and (
            self.predictor is None or len(self.tried.scores) >= self.known + self.every
        ):
            self._learn()
        for _ in range(1000):
            proposal = self.inner.ask()
            self.proposed = list(proposal.judge)
            self.told = self._judge()
            judge = tuple(one for one, told in zip(self.proposed, self.told, strict=True) if told is None)
            if judge or not self.proposed:
                return Proposal(judge=judge)
            self.inner.tell([score for score in self.told if score is not None])
        return Proposal()

    def tell(self, scores: Sequence[float]) -> None:
        """Tell the strategy scores where there was a trial, predictions where not."""
        found = iter(scores)
        whole = [next(found) if told is None else told for told in self.told]
        tried = [(one, score) for one, score, told in zip(self.proposed, whole, self.told, strict=True) if told is None]
        self.tried.add([one for one, _ in tried], [score for _, score in tried])
        self.inner.tell(whole)

    def _learn(self) -> None:
        self.predictor = self.make(self.made)
        self.tried.teach(self.predictor, self.sample)
        self.made, self.known = self.made + 1, len(self.tried.scores)
        self.bar = float(np.quantile(self.predictor.predict(self.sample), 1.0 - self.keep))

    def _judge(self) -> list[float | None]:
        if self.predictor is None or not self.proposed:
            return [None] * len(self.proposed)
        told = self.predictor.predict(self.proposed)
        bar = self.bar
        if len(told) > 1:
            bar = np.sort(told)[::-1][max(1, round(self.keep * len(told))) - 1]
        return [None if value >= bar else float(value) for value in told]


class Tried:
    """Architectures with scores, each network once.

    Args:
        space: whose canonical forms tell networks apart.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self.scores: dict[Architecture, float] = {}
        self._forms: set[object] = set()

    def draw(self, count: int, rng: np.random.Generator) -> list[Architecture]:
        """Return up to so many drawn architectures, none of which has been tried, all of them different networks."""
        forms, found = set(self._forms), []
        for _ in range(20 * count):
            one = self.space.sample(rng)
            if (form := self.space.canonical(one)) not in forms:
                forms.add(form)
                found.append(one)
            if len(found) == count:
                break
        return found

    def add(self, architectures: Sequence[Architecture], scores: Sequence[float]) -> None:
        """Remember scores."""
        for one, score in zip(architectures, scores, strict=True):
            self.scores[one] = score
            self._forms.add(self.space.canonical(one))

    def teach(self, predictor: Predictor, others: Sequence[Architecture]) -> None:
        """Let a predictor learn what is known; candidates that failed are left out, tried ones are no others."""
        good = {one: score for one, score in self.scores.items() if math.isfinite(score)}
        rest = [one for one in others if self.space.canonical(one) not in self._forms]
        predictor.fit(list(good), np.asarray(list(good.values())), rest)
