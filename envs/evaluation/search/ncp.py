"""NCP: network codes that are moved along a predictor's gradient (Ding et al. 2021, arXiv:2103.13253).

A perceptron learns to tell figures (score, MACs, ...) from codes. Then the code learns: for 70 steps a continuous,
standardized copy moves towards "the score a little higher" and "the MACs a little lower", is clamped to what codes may
be, and rounded to a legal one, which is written down; the copy itself is never rounded (section 3.3 and the authors'
tools/ncp.py). Several predictors on one code search for several tasks at once; a search may begin from another task's
code. Of one-hot codes a place's numbers stay shares of its choices, and rounding takes the largest.

`search/ncp` as a transform: it trains some codes of policies (or encoders of pictures) for a short while, learns from
them, and puts the best of what it passed, within a budget, in the place of the network.

Shapes: B batch, F numbers of a code, M figures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from envs.evaluation.search.door import Search, coded_space, replaced
from envs.evaluation.search.evaluators import TrainedEvaluator, halves
from envs.evaluation.search.metric_table import COSTS, MetricTable, scored_table
from envs.evaluation.search.predictors import Standard, check_labels, codes
from envs.evaluation.search.random import RandomSearch
from envs.evaluation.search.space import Architecture, Space
from envs.evaluation.search.spaces.code import ActorConfig, EncoderConfig
from envs.evaluation.search.strategy import search
from envs.evaluation.subject import Subject
from envs.evaluation.transform import TeachConfig
from rlsuite.data.minibatches import minibatch
from rlsuite.errors import require, require_finite
from rlsuite.fit import FitConfig
from rlsuite.metrics.ranking import kendall_tau
from rlsuite.running.seeding import derive_seed


@dataclass(frozen=True, kw_only=True)
class PredictorConfig:
    """The predictor; numbers are the authors'.

    Attributes:
        hidden_sizes: units of the layer all figures share, and of each group's own.
        dropout: of both, but not of the costs' own layer.
        epochs: over the labelled codes.
        batch_size: codes of a minibatch; normalization needs 2.
        learning_rate: the highest of one cycle (rising over its first 30 %, from a tenth; Adam's first beta 0.95 to
            0.85 and back).
        weight_decay: a part of the gradient.
        held_out: share of the codes that the epoch is chosen by: the one whose error of the main figure is smallest.
        members: networks whose mean is told (1 in the paper); editing finds where one alone is wrong.
    """

    hidden_sizes: tuple[int, int] = (256, 128)
    dropout: float = 0.5
    epochs: int = 200
    batch_size: int = 128
    learning_rate: float = 1e-2
    weight_decay: float = 1e-7
    held_out: float = 0.2
    members: int = 1

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 2), ("members", 1)):
            require(getattr(self, name) >= least, f"{name}={getattr(self, name)}: use {least} or more")
        require(0.0 <= self.dropout < 1.0, f"dropout={self.dropout}: use 0 or more, and less than 1")
        require(0.0 < self.held_out < 1.0, f"held_out={self.held_out}: use more than 0, and less than 1")
        require_finite("learning_rate", self.learning_rate, above=0.0)
        require_finite("weight_decay", self.weight_decay, low=0.0)


class PredictorNetwork(nn.Module):
    """Standardized codes (B, F) to standardized figures (B, M), in groups.

    The codes are normalized once more: without that the editing's step size would mean another thing.

    Args:
        inputs: F.
        groups: (figures, whether they are costs) of each group.
        config: see PredictorConfig.
    """

    def __init__(self, inputs: int, groups: Sequence[tuple[int, bool]], config: PredictorConfig) -> None:
        super().__init__()
        shared, own = config.hidden_sizes
        drop = nn.Dropout(config.dropout)
        self.trunk = nn.Sequential(
            nn.BatchNorm1d(inputs), nn.Linear(inputs, shared), nn.BatchNorm1d(shared), nn.SiLU(), drop
        )
        self.heads = nn.ModuleList(
            [
                nn.Sequential(
                    nn.Linear(shared, own),
                    nn.BatchNorm1d(own),
                    nn.SiLU(),
                    nn.Dropout(0.0 if costs else config.dropout),
                    nn.Linear(own, size),
                )
                for size, costs in groups
            ]
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Return all groups' figures side by side."""
        features = self.trunk(inputs)
        return torch.cat([head(features) for head in self.heads], dim=1)


class MeanOf(nn.Module):
    """The mean of what some networks return."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the mean."""
        return torch.stack([member(inputs) for member in self.members]).mean(0)


class Fitted(NamedTuple):
    """How well figures are told that were held out: Kendall's tau of the main one, and mean errors in their units."""

    tau: float
    errors: dict[str, float]


class CodePredictor:
    """Tells the figures of a table from codes.

    Args:
        space: of the codes.
        config: see PredictorConfig.
        seed: of weights, minibatches, dropout and what is held out.

    Attributes:
        names: the figures, as `forward` returns them.
    """

    def __init__(self, space: Space, config: PredictorConfig | None = None, *, seed: int) -> None:
        self.space, self.config, self.seed = space, config or PredictorConfig(), seed

    def fit_table(self, table: MetricTable) -> Fitted:
        """Learn a table: a group for each score, one for the costs (its cost column, MACs and parameters).

        Raises UserError if fewer than two codes are left to learn from.
        """
        config, count = self.config, len(table.architectures)
        first = max(1, round(config.held_out * count))
        left = (
            f"{count} codes, {first} of them held out: 2 or more must be left: give more codes, or a smaller held_out"
        )
        require(count - first >= 2, left)
        cost = [name for name in table.columns if name in (*COSTS, table.cost)]
        groups = [[name] for name in table.columns if name not in cost] + ([cost] if cost else [])
        self.names, self.main, self.cost = [name for group in groups for name in group], table.main, table.cost
        inputs, outputs = codes(self.space, table.architectures), table.values(self.names)
        self.inputs, self.outputs = Standard(inputs), Standard(outputs)
        x, y = _tensor(self.inputs.apply(inputs)), _tensor(self.outputs.apply(outputs))
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(derive_seed(self.seed, "held out")))
        held, learned = order[:first], order[first:]
        shapes, members = [(len(group), group is cost) for group in groups], []
        with torch.random.fork_rng([]):
            for member in range(config.members):
                torch.manual_seed(derive_seed(self.seed, f"predictor {member}"))
                network = PredictorNetwork(x.shape[1], shapes, config)
                self._learn(network, x, y, held, learned, derive_seed(self.seed, f"minibatches {member}"))
                members.append(network)
        self.network = MeanOf(members).eval().requires_grad_(False)
        return self._fitted(x[held], y[held])

    def _learn(self, network: nn.Module, x: Tensor, y: Tensor, held: Tensor, learned: Tensor, seed: int) -> None:
        """Let a network learn; it ends with the weights of the epoch that told held-out main figures best."""
        config, size = self.config, min(self.config.batch_size, len(learned))
        steps = -(-len(learned) // size)
        optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
        cycle = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, config.learning_rate, total_steps=config.epochs * steps, pct_start=0.3, div_factor=10.0
        )
        best, kept, main = math.inf, network.state_dict(), self.names.index(self.main)
        for epoch in range(config.epochs):
            network.train()
            for step in range(epoch * steps, (epoch + 1) * steps):
                index = learned[minibatch(seed, step, len(learned), size)]
                loss = functional.smooth_l1_loss(network(x[index]), y[index])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                cycle.step()
            network.eval()
            with torch.no_grad():
                error = float((network(x[held]) - y[held])[:, main].abs().mean())
            if error < best:
                best, kept = error, {name: value.clone() for name, value in network.state_dict().items()}
        network.load_state_dict(kept)

    def fit(self, tried: Sequence[Architecture], scores: np.ndarray, others: Sequence[Architecture] = ()) -> None:
        """Learn scores and, from the space's rule, costs; others are not used."""
        check_labels(tried, scores)
        self.fit_table(scored_table(self.space, tried, scores))

    def predict(self, architectures: Sequence[Architecture]) -> np.ndarray:
        """Return the main figure of each architecture."""
        return self.figures(architectures)[self.main]

    @torch.no_grad()
    def figures(self, architectures: Sequence[Architecture]) -> dict[str, np.ndarray]:
        """Return all figures of architectures, in their own units."""
        found = self.network(_tensor(self.inputs.apply(codes(self.space, architectures))))
        return dict(zip(self.names, self.outputs.undo(found.double().numpy()).T, strict=True))

    def _fitted(self, x: Tensor, y: Tensor) -> Fitted:
        with torch.no_grad():
            found = self.network(x)
        main = self.names.index(self.main)
        tau = float(kendall_tau(found[None, :, main], y[None, :, main])[0])
        errors = (found - y).abs().mean(0).double().numpy() * self.outputs.deviation
        return Fitted(tau, dict(zip(self.names, errors.tolist(), strict=True)))


@dataclass(frozen=True, kw_only=True)
class EditConfig:
    """How a code is edited; numbers are the authors'.

    The loss is the distance to a target that moves along, whose gradient has one size: any `up` (or `down`) above 0
    gives the same codes, as the authors' does; 0 stops the pull. They write codes down before each step: the start and
    69 edits; here it is after each.

    Attributes:
        steps: of editing, each writes down a code.
        rate: of plain gradient descent.
        up: standard deviations that the main figure shall rise by, in each step.
        down: standard deviations that the cost shall fall by.
        cost_weight: of the cost's loss; 0 looks at scores alone.
    """

    steps: int = 70
    rate: float = 3.0
    up: float = 0.1
    down: float = 0.1
    cost_weight: float = 0.0

    def __post_init__(self) -> None:
        require(self.steps >= 1, f"steps={self.steps}: use 1 or more")
        for name in ("rate", "up", "down", "cost_weight"):
            require_finite(name, getattr(self, name), low=0.0)


class Edit(NamedTuple):
    """A code that was passed: what the predictors say of it, one main figure for each, and what it costs by rule."""

    architecture: Architecture
    predicted: tuple[float, ...]
    cost: dict[str, float]


def propagate(
    predictors: Sequence[CodePredictor], start: np.ndarray, config: EditConfig, weights: Sequence[float] = ()
) -> list[Edit]:
    """Return the codes that editing passes.

    Args:
        predictors: one for each task, all of one space.
        start: the code (F,) it begins at: an architecture's, such as another task's, or `Space.middle`.
        config: see EditConfig.
        weights: of each task's loss; () for 1.
    """
    first, space = predictors[0], predictors[0].space
    shares = weights or (1.0,) * len(predictors)
    z = _tensor(first.inputs.apply(start))
    edits = []
    for _ in range(config.steps):
        z = z.detach().requires_grad_(True)
        loss = torch.zeros(())
        for predictor, share in zip(predictors, shares, strict=True):
            found = predictor.network(_between(z, first.inputs, predictor.inputs)[None])[0]
            main = found[predictor.names.index(predictor.main)]
            loss = loss + share * (main - (main.detach() + config.up)).abs()
            if config.cost_weight and predictor.cost:
                cost = found[predictor.names.index(predictor.cost)]
                loss = loss + share * config.cost_weight * (cost - (cost.detach() - config.down)).abs()
        (gradient,) = torch.autograd.grad(loss, z)
        code = space.clip(first.inputs.undo((z.detach() - config.rate * gradient).double().numpy()))
        z, one = _tensor(first.inputs.apply(code)), space.decode(code)
        edits.append(Edit(one, tuple(float(each.predict([one])[0]) for each in predictors), space.cost(one)))
    return edits


def select(
    predictors: Sequence[CodePredictor],
    edits: Sequence[Edit],
    within: Callable[[Edit], bool] = lambda edit: True,
    weights: Sequence[float] = (),
) -> Edit | None:
    """Return the first of those with the best predicted main figures, standardized and summed; None if none is within.

    Args:
        predictors: as in `propagate`.
        edits: what it returned.
        within: whether a code is allowed, such as by its MACs.
        weights: as in `propagate`.
    """
    shares = weights or (1.0,) * len(predictors)

    def value(edit: Edit) -> float:
        scales = [float(one.outputs.deviation[one.names.index(one.main)]) for one in predictors]
        return sum(s * p / scale for s, p, scale in zip(shares, edit.predicted, scales, strict=True))

    return max((edit for edit in edits if within(edit)), key=value, default=None)


@dataclass(frozen=True, kw_only=True)
class NCPConfig:
    """A search for the network of a policy, or of pictures.

    Attributes:
        macs: the network's MACs at most; 0 for no budget.
        labels: codes that are trained, drawn at random.
        candidate: how each of them learns.
        predictor: see PredictorConfig.
        edit: see EditConfig.
        actor: the space, for plain policies.
        encoder: the space, for pictures.
        seed: of all draws.
        teach: how the network that was found learns.
    """

    macs: float = 0.0
    labels: int = 40
    candidate: TeachConfig = field(
        default_factory=lambda: TeachConfig(fit=FitConfig(steps=300, batch_size=256), rounds=1)
    )
    predictor: PredictorConfig = field(default_factory=PredictorConfig)
    edit: EditConfig = field(default_factory=lambda: EditConfig(cost_weight=0.5))
    actor: ActorConfig = field(default_factory=ActorConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    seed: int = 0
    teach: TeachConfig = field(default_factory=TeachConfig)

    def __post_init__(self) -> None:
        require_finite("macs", self.macs, low=0.0)
        require(self.labels >= 4, f"labels={self.labels}: use 4 or more")
        require(self.seed >= 0, f"seed={self.seed}: use 0 or more")


class NCP(Search):
    """The search as a transform."""

    Config = NCPConfig
    config: NCPConfig

    def space_of(self, subject: Subject) -> tuple[str, Any]:
        """Return layers for plain policies, stages of convolutions for pictures."""
        return coded_space("search/ncp", subject, self.config.actor, self.config.encoder)

    def find(self, subject: Subject, space: Space) -> Architecture:
        """Train codes, learn from them, edit; return the best code that was passed or trained, within the budget."""
        config = self.config
        if config.macs:
            space.require_budget("ncp.macs", config.macs)
        part = Subject(subject.module, subject.example, halves(subject.task, config.seed), subject.base)
        evaluator = TrainedEvaluator(space, part, replaced, config.candidate, seed=config.seed)
        outcome = search(
            space,
            RandomSearch(space, seed=config.seed),
            evaluator,
            budget=config.labels,
            folder=self.folder,
            description={"method": "ncp", "seed": config.seed},
        )
        known: Mapping[Architecture, float] = {one: score for one, score in outcome.judged if math.isfinite(score)}
        predictor = CodePredictor(space, config.predictor, seed=config.seed)
        predictor.fit(list(known), np.asarray(list(known.values())))
        edits = propagate([predictor], space.middle(), config.edit)
        told = predictor.predict(list(known))
        edits += [Edit(one, (float(t),), space.cost(one)) for one, t in zip(known, told, strict=True)]
        if config.macs:
            least = space.smallest()
            edits.append(Edit(least, (float(predictor.predict([least])[0]),), space.cost(least)))
        chosen = select([predictor], edits, lambda edit: not config.macs or edit.cost["macs"] <= config.macs)
        assert chosen is not None
        return chosen.architecture


def _between(z: Tensor, of: Standard, to: Standard) -> Tensor:
    """Return a code standardized by one table's statistics as another's."""
    if of is to:
        return z
    raw = z * _tensor(np.asarray(of.deviation)) + _tensor(np.asarray(of.mean))
    return (raw - _tensor(np.asarray(to.mean))) / _tensor(np.asarray(to.deviation))


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(values, dtype=np.float64)).float()
