"""CARS: a family of networks from one supernet (Yang et al. 2020, arXiv:1909.04977), small and large ones kept.

Shared weights and a population of P architectures live side by side. In turn the weights learn along the population's
paths, then P children are made (0.25 mutations, 0.25 crossovers, 0.5 new ones), all 2 P are judged with inherited
weights on examples that weights never see, and P are kept. Small networks learn faster and would drive out all others
by plain sorting (the small-model trap, section 3.3); pNSGA-III sorts once more with size as something good, or with the
speed at which a member grows better, and unites the two sortings' fronts, rank by rank.

Before that, in the warm-up, every minibatch has an architecture of its own, drawn uniformly. The operation "none" is
not among those drawn unless it is named: the authors' decoder replaces it, so the network that is trained in the end is
not the one that was judged. The recipe of CIFAR-10 (20 cells, auxiliary head, dropped paths, 600 epochs) is not here:
what was found learns by `teach`.

`search/cars` as a transform puts the best member within a budget in the place of the network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from envs.evaluation.search.door import Search, network_task
from envs.evaluation.search.evaluators import SharedEvaluator, halves
from envs.evaluation.search.latency_table import latency_table
from envs.evaluation.search.pareto import merged_fronts, nsga3, reference_directions
from envs.evaluation.search.shared_weights import InTurn, SharedConfig, SharedWeights
from envs.evaluation.search.space import Architecture, Space
from envs.evaluation.search.spaces.cell import CellSpace, CellSpaceConfig
from envs.evaluation.search.strategy import Proposal, search
from envs.evaluation.search.supernet import Supernet
from envs.evaluation.subject import Subject
from envs.evaluation.transform import TeachConfig
from rlsuite.errors import require, require_choice, require_finite
from rlsuite.running.seeding import derive_seed

COSTS = ("macs", "parameters", "kilobytes", "milliseconds")
SELECTIONS = ("pnsga3", "nsga3")
SECOND_SORTS = ("inverse_size", "speed")
_DIVISIONS = 9  # of NSGA-III's simplex: ten directions for two objectives


@dataclass(frozen=True, kw_only=True)
class EvolutionConfig:
    """The population and how it changes.

    Attributes:
        population: P (128 in the paper).
        mutation: probability that a child is a member with some nodes from a new architecture.
        crossover: probability that it has its nodes from two members; it is a new architecture otherwise.
        selection: "pnsga3", or "nsga3" (one sorting, by reference directions), which falls into the trap.
        second_sort: of pnsga3: "inverse_size" (the authors' code) or "speed" (their text).
        warm_up: rounds of learning along uniform paths before the first generation.
        generations: after that, each one round of learning and one selection.
    """

    population: int = 128
    mutation: float = 0.25
    crossover: float = 0.25
    selection: str = "pnsga3"
    second_sort: str = "inverse_size"
    warm_up: int = 5
    generations: int = 45

    def __post_init__(self) -> None:
        require(self.population >= 2, f"population={self.population}: use 2 or more")
        good = min(self.mutation, self.crossover) >= 0.0 and self.mutation + self.crossover <= 1.0
        require(good, f"mutation={self.mutation} and crossover={self.crossover}: use shares, together 1 or less")
        require_choice("selection", self.selection, SELECTIONS)
        require_choice("second_sort", self.second_sort, SECOND_SORTS)
        require(self.warm_up >= 0, f"warm_up={self.warm_up}: use 0 (none) or more")
        require(self.generations >= 1, f"generations={self.generations}: use 1 or more")


class Member(NamedTuple):
    """An architecture that was kept, its score with inherited weights, and its costs in the order of the objectives."""

    architecture: Architecture
    score: float
    costs: tuple[float, ...]


class CARS:
    """The strategy: its rounds train paths and judge parents with children.

    Args:
        space: what is searched.
        costs: what counts beside the score, smaller is better: parameters, MACs, milliseconds.
        config: see EvolutionConfig.
        paths: architectures drawn for each round of the warm-up, as many as its minibatches go along: each has its own.
        seed: of all draws.

    Attributes:
        members: the population, once it has been judged.
        sizes: of each generation the smallest, mean and largest first cost of the population: where the trap shows.
    """

    def __init__(
        self,
        space: Space,
        costs: Sequence[Callable[[Architecture], float]],
        config: EvolutionConfig | None = None,
        *,
        paths: int,
        seed: int,
    ) -> None:
        require(len(costs) >= 1, "costs=[]: name what networks cost, such as [parameters]")
        self.space, self.costs, self.config, self.paths = space, tuple(costs), config or EvolutionConfig(), paths
        self.rng = np.random.default_rng(seed)
        self.population: list[Architecture] = []
        self.members: list[Member] = []
        self.sizes: list[tuple[float, float, float]] = []
        self.earlier: dict[Architecture, float] = {}
        self.round = 0
        self._waiting: list[Architecture] = []

    def ask(self) -> Proposal:
        """Return a round: paths to learn along, and in the second phase whom to judge after that."""
        config = self.config
        self.round += 1
        if self.round <= config.warm_up:
            return Proposal(train=InTurn(self.space.sample(self.rng) for _ in range(self.paths)))
        if self.round > config.warm_up + config.generations:
            return Proposal()
        if not self.population:
            self.population = self._distinct(lambda: self.space.sample(self.rng), [])
        children = self._distinct(self._child, self.population)
        self._waiting = [*self.population, *children]
        return Proposal(train=tuple(self.population), judge=tuple(self._waiting))

    def tell(self, scores: Sequence[float]) -> None:
        """Keep P of parents and children."""
        if not self._waiting:
            return
        found = np.asarray(scores, dtype=float)
        costs = np.array([[cost(one) for cost in self.costs] for one in self._waiting], dtype=float)
        before = np.array([self.earlier.get(one, np.nan) for one in self._waiting])
        speeds = np.subtract(found, before, where=np.isfinite(found) & np.isfinite(before), out=np.zeros(len(found)))
        kept = np.sort(select(found, costs, speeds, self.config, self.rng))
        self.members = [Member(self._waiting[i], float(found[i]), tuple(costs[i].tolist())) for i in kept]
        self.population = [member.architecture for member in self.members]
        self.earlier = {member.architecture: member.score for member in self.members}
        first = costs[kept, 0]
        self.sizes.append((float(first.min()), float(first.mean()), float(first.max())))
        self._waiting = []

    def _child(self) -> Architecture:
        """Return a child of the population, or a new architecture."""
        kind, parents = self.rng.random(), self.rng.integers(len(self.population), size=2)
        one = self.population[parents[0]]
        if kind < self.config.mutation:
            return self.space.crossover(one, self.space.sample(self.rng), self.rng)
        if kind < self.config.mutation + self.config.crossover:
            return self.space.crossover(one, self.population[parents[1]], self.rng)
        return self.space.sample(self.rng)

    def _distinct(self, draw: Callable[[], Architecture], others: Sequence[Architecture]) -> list[Architecture]:
        """Return P architectures unlike each other and unlike others; fewer where a small space has no more."""
        known, found = set(others), []
        for _ in range(100 * self.config.population):
            one = draw()
            if one not in known:
                known.add(one)
                found.append(one)
            if len(found) == self.config.population:
                break
        return found


def select(
    scores: np.ndarray, costs: np.ndarray, speeds: np.ndarray, config: EvolutionConfig, rng: np.random.Generator
) -> np.ndarray:
    """Return the indices of P of R architectures.

    The authors minimize 1 / accuracy and 1 / size; only the order counts, so negated values serve, returns too.

    Args:
        scores: (R,), larger is better; infinitely low where a candidate failed.
        costs: (R, M), smaller is better.
        speeds: (R,) how much each score has grown since it was judged before, 0 for newcomers and where either failed.
        config: population, selection and second_sort count.
        rng: draws among equal choices.
    """
    errors = -scores[:, None]
    if config.selection == "nsga3":
        objectives = np.concatenate([errors, costs], axis=1)
        finite = np.where(np.isfinite(objectives), objectives, objectives[np.isfinite(objectives)].max(initial=0.0))
        return nsga3(finite, config.population, reference_directions(1 + costs.shape[1], _DIVISIONS), rng)
    sortings = []
    for cost in costs.T[:, :, None]:
        second = [errors, -cost] if config.second_sort == "inverse_size" else [-speeds[:, None], cost]
        sortings += [np.concatenate([errors, cost], axis=1), np.concatenate(second, axis=1)]
    return merged_fronts(sortings, config.population, rng)


def spread_out(members: Sequence[Member], count: int = 4) -> list[Member]:
    """Return the best member of each of `count` equal ranges of the first cost, among those with good scores.

    Good is the upper half of the range of scores. Ranges that hold nobody give nobody, and members that failed are not
    reported: where all have failed there is nobody.
    """
    members = without_failed(members)
    if not members:
        return []
    scores = [member.score for member in members]
    good = [member for member in members if member.score >= (min(scores) + max(scores)) / 2]
    sizes = np.array([member.costs[0] for member in good])
    edges = np.linspace(sizes.min(), sizes.max(), count + 1)
    places = np.clip(np.searchsorted(edges, sizes, side="right") - 1, 0, count - 1)
    chosen = []
    for place in range(count):
        inside = [member for member, own in zip(good, places, strict=True) if own == place]
        if inside:
            chosen.append(max(inside, key=lambda member: member.score))
    return chosen


def reference_spread(members: Sequence[Member], rng: np.random.Generator, count: int = 4) -> list[Member]:
    """Return `count` members by NSGA-III on score and costs: the other way of reporting; none that failed."""
    members = without_failed(members)
    if not members:
        return []
    objectives = np.array([[-member.score, *member.costs] for member in members])
    directions = reference_directions(objectives.shape[1], count - 1)
    return [members[i] for i in np.sort(nsga3(objectives, count, directions, rng))]


def without_failed(members: Sequence[Member]) -> list[Member]:
    """Return the members that have a score."""
    return [member for member in members if math.isfinite(member.score)]


@dataclass(frozen=True, kw_only=True)
class CARSConfig:
    """A search for a network of pictures.

    Attributes:
        space: of cells.
        macs: of the network that is chosen at most; 0 for no budget. The search does not know it: where no member of
            the last population is within it, the smallest network of the space is taken.
        costs: what counts beside the score: "parameters", "macs", "kilobytes" or "milliseconds" (see latency_table.py).
        evolution: see EvolutionConfig.
        shared: how shared weights learn; the schedule is stretched over the whole search.
        epochs: of the weights' part of the examples, in each round.
        statistics: batches that each candidate's normalizations are measured on anew; 0 takes the shared ones, as the
            authors do.
        seed: of all draws.
        teach: how the network that was found learns.
    """

    space: CellSpaceConfig = field(
        default_factory=lambda: CellSpaceConfig(
            operations=("max_pool_3x3", "skip_connect", "sep_conv_3x3", "dil_conv_3x3"),
            nodes=3,
            width=8,
            layout=("normal", "reduction", "normal"),
        )
    )
    macs: float = 0.0
    costs: tuple[str, ...] = ("parameters",)
    evolution: EvolutionConfig = field(
        default_factory=lambda: EvolutionConfig(population=16, warm_up=5, generations=15)
    )
    shared: SharedConfig = field(default_factory=SharedConfig)
    epochs: int = 2
    statistics: int = 5
    seed: int = 0
    teach: TeachConfig = field(default_factory=TeachConfig)

    def __post_init__(self) -> None:
        require_finite("macs", self.macs, low=0.0)
        for name in self.costs:
            require_choice("costs", name, COSTS)
        require(bool(self.costs), "costs=[]: name what networks cost, such as [parameters]")
        require(self.epochs >= 1, f"epochs={self.epochs}: use 1 or more")
        require(self.statistics >= 0, f"statistics={self.statistics}: use 0 (the shared ones) or more")
        require(self.seed >= 0, f"seed={self.seed}: use 0 or more")


class CARSSearch(Search):
    """The search as a transform."""

    Config = CARSConfig
    needs: ClassVar = {"convolutional": "it sees no pictures; use search/ncp"}
    config: CARSConfig

    def space_of(self, subject: Subject) -> tuple[str, Any]:
        """Return the cells."""
        return "cell", self.config.space

    def find(self, subject: Subject, space: Space) -> Architecture:
        """Return the member of the last population with the highest score within the budget.

        Where none of them is within it, the smallest network of the space is taken, which was not judged.
        """
        config = self.config
        if config.macs:
            space.require_budget("cars.macs", config.macs)
        evaluator, strategy = prepared(space, subject, config, self.folder)
        budget = 2 * config.evolution.population * config.evolution.generations
        description = {"method": "cars", "seed": config.seed}
        search(space, strategy, evaluator, budget=budget, folder=self.folder, description=description)

        def fits(architecture: Architecture) -> bool:
            return not config.macs or space.cost(architecture)["macs"] <= config.macs

        fitting = [member for member in strategy.members if fits(member.architecture)]
        if not fitting:
            return space.smallest()
        return max(fitting, key=lambda member: member.score).architecture


def prepared(
    space: Space, subject: Subject, config: CARSConfig, folder: Path | None = None
) -> tuple[SharedEvaluator, CARS]:
    """Return a fresh supernet that learns half of a subject's examples, and the strategy that searches in it.

    Args:
        space: of cells.
        subject: whose task is learned.
        config: see CARSConfig.
        folder: where measured milliseconds are kept, so that a search that goes on has the same; None for nowhere.
    """
    task = halves(network_task(subject), config.seed)
    supernet = Supernet(space, seed=derive_seed(config.seed, "supernet"), affine=False).to(subject.device)
    steps = config.epochs * max(1, len(task.source("train")) // config.shared.batch_size)
    rounds = config.evolution.warm_up + config.evolution.generations
    learning = replace(config.shared, total=steps * rounds)
    shared = SharedWeights(supernet, task, learning, seed=derive_seed(config.seed, "shared"))
    evaluator = SharedEvaluator(shared, steps=steps, statistics=config.statistics)
    costs = [_named_cost(space, name, folder) for name in config.costs]
    seed = derive_seed(config.seed, "evolution")
    return evaluator, CARS(space, costs, config.evolution, paths=steps * config.shared.paths, seed=seed)


def _named_cost(space: Space, name: str, folder: Path | None) -> Callable[[Architecture], float]:
    if name == "milliseconds":
        assert isinstance(space, CellSpace)
        return latency_table(space, folder)
    return lambda architecture: space.cost(architecture)[name]
