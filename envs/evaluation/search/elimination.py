"""Searches that try an operation on every edge, score the whole, and give operations up until one is left.

A rule is a generator: it yields the next architecture to be tried, is sent its reward in [0, 1], and returns when
nothing is left to try. `Trials` makes a strategy of one, `play` runs one against a function. The rules of a paper stand
in its module; here are those that they are compared with.

Shapes: P places, K operations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from envs.evaluation.search.bandit import Arms
from envs.evaluation.search.sampling import fair_round, softmax_draw
from envs.evaluation.search.space import Architecture
from envs.evaluation.search.spaces.cell import CellSpace
from envs.evaluation.search.strategy import Proposal
from rlsuite.errors import UserError

Rule = Generator[Architecture, float, None]
Genotype = Mapping[str, Sequence[Sequence[tuple[str, int]]]]  # kind -> for each node (operation, state it reads)


class Trials:
    """The strategy: one architecture a round, which is trained first and judged then.

    Args:
        rule: see the module.
        reward: from a score, larger is better, to [0, 1]; see `reward_of`.
    """

    def __init__(self, rule: Rule, reward: Callable[[float], float] = float) -> None:
        self.rule, self.reward = rule, reward
        self._next: Architecture | None = next(rule, None)

    def ask(self) -> Proposal:
        """Return the next trial; nothing where the rule has ended."""
        return Proposal() if self._next is None else Proposal(train=(self._next,), judge=(self._next,))

    def tell(self, scores: Sequence[float]) -> None:
        """Let the rule go on. A candidate that failed is worth nothing."""
        try:
            self._next = self.rule.send(self.reward_for(scores[0]))
        except StopIteration:
            self._next = None

    def reward_for(self, score: float) -> float:
        """Return what the rule is told for a score."""
        return self.reward(score) if math.isfinite(score) else 0.0


def play(rule: Rule, reward: Callable[[Architecture], float]) -> int:
    """Run a rule to its end against a function; return the number of trials."""
    count, path = 0, next(rule, None)
    while path is not None:
        count += 1
        try:
            path = rule.send(reward(path))
        except StopIteration:
            path = None
    return count


def reward_of(unit: str) -> Callable[[float], float]:
    """Return how a task's scores become rewards: percents as shares, negative losses by exp, which is 1 for none.

    Means of returns or decibels have no bounds and are refused: searches compare on `evaluators.halves` of examples.
    """
    if unit == "%":
        return lambda score: score / 100.0
    if unit == "negative loss":
        return lambda score: math.exp(min(score, 0.0))
    raise UserError(f"scores in '{unit}' are no rewards in [0, 1]; compare candidates on examples")


# -- rules to compare with ------------------------------------------------------------------------------------


def uniform_then_lowest_mean(arms: Arms, tries: int, rng: np.random.Generator) -> Rule:
    """Each trial draws uniformly; after tries * K of them the lowest mean goes."""
    yield from first_values(arms, rng)
    while arms.left > 1:
        for _ in range(tries * arms.left):
            path = tuple(int(rng.choice(np.flatnonzero(row))) for row in arms.alive)
            arms.update(path, (yield path))
        arms.eliminate(arms.means)


def upper_then_lowest_mean(arms: Arms, tries: int, rng: np.random.Generator) -> Rule:
    """Each trial takes the highest upper bounds (UCB, Auer et al. 2002); after tries * K the lowest mean goes."""
    yield from first_values(arms, rng)
    while arms.left > 1:
        for _ in range(tries * arms.left):
            path = arms.best(arms.upper())
            arms.update(path, (yield path))
        arms.eliminate(arms.means)


def lower_then_lowest_mean(arms: Arms, tries: int, rng: np.random.Generator) -> Rule:
    """Each trial is drawn as ABanditNAS draws, by low lower bounds; but then the lowest mean goes."""
    yield from first_values(arms, rng)
    while arms.left > 1:
        for _ in range(tries * arms.left):
            path = softmax_draw(-arms.lower(), arms.alive, rng)
            arms.update(path, (yield path))
        arms.eliminate(arms.means)


def fair_then_lowest_mean(arms: Arms, tries: int, rng: np.random.Generator) -> Rule:
    """Each of `tries` rounds tries every arm once; then the lowest mean of these rounds goes."""
    while arms.left > 1:
        arms.forget()
        for _ in range(tries):
            for path in fair_round(arms.alive, rng):
                arms.update(path, (yield path))
        arms.eliminate(arms.means)


def first_values(arms: Arms, rng: np.random.Generator) -> Rule:
    """Try every arm once: K trials."""
    for path in fair_round(arms.alive, rng):
        arms.update(path, (yield path))


# -- the cell that is left --------------------------------------------------------------------------------------


def all_edges(space: CellSpace) -> CellSpace:
    """Return the space of the same cells in which every edge has one operation."""
    config = replace(space.config, picks=0)
    return CellSpace(config, channels=space.channels, size=space.size, outputs=space.outputs)


def strongest_edges(space: CellSpace, chosen: Architecture, values: np.ndarray) -> Architecture:
    """Return the architecture that keeps of one operation an edge the edges of the highest values, picks a node.

    Edges with "none" are taken last, equal ones in their order. One that stays all the same, where a node has too few
    others, has the operation that is worth most beside "none", as DARTS's derivation has it.

    Args:
        space: with picks; with 0 all edges stay as they are.
        chosen: an operation (index) at each place.
        values: (P, K) what each operation was worth when it was last compared.
    """
    if not space.config.picks:
        return chosen
    something = [index for index, name in enumerate(space.config.operations) if name != "none"]
    found = [0] * len(space.sizes)
    for places in space.blocks():
        order = sorted(places, key=lambda p: (chosen[p] not in something, -values[p, chosen[p]], p))
        for place in order[: space.config.picks]:
            operation = chosen[place]
            if operation not in something:
                operation = max(something, key=lambda index: values[place, index])
            found[place] = operation + 1
    return tuple(found)


def within_budget(
    space: CellSpace, architecture: Architecture, values: np.ndarray, budget: float, what: str = "kilobytes"
) -> Architecture:
    """Return the architecture with as many operations exchanged for cheaper ones as a budget needs.

    Each time the exchange is made that loses least of the values for what it saves; none is for "none", where only
    some edges stay.

    Args:
        space: of the architecture.
        architecture: where it begins.
        values: (P, operations) what each operation was worth to the search.
        budget: of `what`; the least there is where it cannot be reached by exchanges.
        what: a key of the space's costs.
    """
    first = 1 if space.config.picks else 0
    nothing = {first + index for index, name in enumerate(space.config.operations) if first and name == "none"}
    while (now := space.cost(architecture)[what]) > budget:
        best: tuple[float, Architecture] | None = None
        for place, choice in enumerate(architecture):
            for other in range(first, space.sizes[place]) if choice >= first else ():
                if other in nothing:
                    continue
                changed = (*architecture[:place], other, *architecture[place + 1 :])
                saved = now - space.cost(changed)[what]
                lost = values[place, choice - first] - values[place, other - first]
                if saved > 0 and space.valid(changed) and (best is None or lost / saved < best[0]):
                    best = (float(lost / saved), changed)
        if best is None:
            return space.smallest(what)
        architecture = best[1]
    return architecture


def architecture_of(space: CellSpace, genotype: Genotype) -> Architecture:
    """Return the architecture of a space with picks that a published cell describes.

    Raises:
        UserError: if it is none of the space.
    """
    found = [0] * len(space.sizes)
    for kind, nodes in genotype.items():
        for node, entering in enumerate(nodes):
            for name, source in entering:
                edge = space.edges.index((source, space.config.inputs + node))
                place = space.kinds.index(kind) * len(space.edges) + edge
                found[place] = space.config.operations.index(name) + 1
    return space.check(tuple(found))
