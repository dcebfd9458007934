"""A space of architectures: tuples of whole numbers, one choice a place, and what can be done with them.

Shapes: P places; S the sum of the places' sizes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import numpy as np
from torch import nn

from rlsuite.errors import UserError, require
from rlsuite.nn.vision.blocks import draw_weights

Architecture = tuple[int, ...]

# From a choice to the module that stands for it, or None where it stands for nothing at all.
MakeChoice = Callable[[int], "nn.Module | None"]
# From a place and what its choices are to what stands there: one of them, or all of them in a supernet.
MakeSlot = Callable[[int, MakeChoice], "nn.Module | None"]

_MOST_DRAWS = 10_000  # of architectures in a row that are not valid, before a space is called empty


class Space:
    """Tuples of P choices. What one means, which are valid and what they cost is a concrete space's.

    Attributes:
        name: of the space, as histories and recipes keep it.
        sizes: the number of choices at each of the P places.
        limit: what else a drawn architecture must fulfil, such as a budget; None for nothing.
    """

    name: str
    sizes: tuple[int, ...]
    limit: Callable[[Architecture], bool] | None = None

    # -- what a concrete space says -------------------------------------------------------------------------

    def valid(self, architecture: Architecture) -> bool:
        """Return whether the architecture is one: whether data can flow through it, for example."""
        return True

    def canonical(self, architecture: Architecture) -> Hashable:
        """Return what two architectures share if, and only if, they are known to be the same network."""
        return architecture

    def cost(self, architecture: Architecture) -> dict[str, float]:
        """Return "macs" and "parameters" without building the network."""
        raise NotImplementedError

    def network(self, make_slot: MakeSlot, **options: Any) -> nn.Module:
        """Return a network with a slot at each place (several, where parts share a choice), all as make_slot fills it.

        One description serves the network of an architecture and the supernet of all of them, so that they agree.
        """
        raise NotImplementedError

    def build(self, architecture: Architecture, **options: Any) -> nn.Module:
        """Return the network by itself, its weights always the same ones; options are the network's."""
        built = self.network(lambda place, make: make(architecture[place]), **options)
        self.draw(built, 0)
        return built

    def draw(self, network: nn.Module, seed: int) -> None:
        """Draw the first weights of a network of this space anew."""
        draw_weights(network, seed)

    def told_apart(self) -> dict[str, Any]:
        """Return plain data that differs where spaces do, as histories keep it: name, sizes, numbers, ends."""
        config = getattr(self, "config", None)
        ends = {name: getattr(self, name) for name in ("channels", "size", "inputs", "outputs") if hasattr(self, name)}
        numbers = dataclasses.asdict(config) if dataclasses.is_dataclass(config) else {}  # type: ignore[arg-type]
        return {"space": self.name, "sizes": list(self.sizes), "numbers": numbers, "ends": ends}

    # -- what every space can do ----------------------------------------------------------------------------

    def check(self, architecture: Architecture) -> Architecture:
        """Return an architecture read from outside, as a tuple of ints.

        Raises:
            UserError: if it is none of this space.
        """
        found = tuple(int(choice) for choice in architecture)
        fits = len(found) == len(self.sizes) and all(0 <= c < n for c, n in zip(found, self.sizes, strict=False))
        if not fits or not self.valid(found):
            raise UserError(f"{list(architecture)} is no architecture of {self.name}; it has {len(self.sizes)} places")
        return found

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Draw a valid architecture, uniformly over the valid ones.

        Raises:
            UserError: if none is found: the space is empty.
        """
        for _ in range(_MOST_DRAWS):
            architecture = tuple(rng.integers(self.sizes).tolist())
            if self.valid(architecture) and (self.limit is None or self.limit(architecture)):
                return architecture
        raise UserError(f"{self.name} has no valid architecture; loosen what it asks for")

    def mutate(self, architecture: Architecture, rng: np.random.Generator) -> Architecture:
        """Change the choice at one place, drawn among those with a choice, to another; the result is valid.

        Raises:
            UserError: if no valid change is found.
        """
        places = [place for place, size in enumerate(self.sizes) if size > 1]
        for _ in range(_MOST_DRAWS if places else 0):
            place = places[rng.integers(len(places))]
            choice = int(rng.integers(self.sizes[place] - 1))
            changed = _with(architecture, place, choice + (choice >= architecture[place]))
            if self.valid(changed):
                return changed
        raise UserError(f"{self.name} has no valid neighbour of {list(architecture)}")

    def smallest(self, what: str = "macs") -> Architecture:
        """Return an architecture none of whose neighbours costs less: the cheapest, where places cost by themselves."""
        found = self.sample(np.random.default_rng(0))
        while True:
            cheaper = min(self.neighbours(found), key=lambda other: self.cost(other)[what], default=found)
            if self.cost(cheaper)[what] >= self.cost(found)[what]:
                return found
            found = cheaper

    def require_budget(self, key: str, budget: float, what: str = "macs") -> None:
        """Raise UserError if no architecture costs at most so much; `key` names the budget in the message."""
        least = self.cost(self.smallest(what))[what]
        require(least <= budget, f"{key}={budget:.10g}: the smallest network of {self.name} needs {least:.10g}")

    def crossover(self, one: Architecture, other: Architecture, rng: np.random.Generator) -> Architecture:
        """Take each place's choice from one of two parents by a fair coin; a parent itself where no child is valid."""
        for _ in range(100):
            coins = rng.integers(2, size=len(self.sizes))
            child = tuple(a if coin else b for a, b, coin in zip(one, other, coins, strict=True))
            if self.valid(child):
                return child
        return one

    def neighbours(self, architecture: Architecture) -> Iterator[Architecture]:
        """Yield every valid architecture that differs at one place."""
        for place, size in enumerate(self.sizes):
            for choice in range(size):
                changed = _with(architecture, place, choice)
                if choice != architecture[place] and self.valid(changed):
                    yield changed

    def encode(self, architecture: Architecture) -> np.ndarray:
        """Return the choices one-hot, place after place: (S,) float64."""
        code = np.zeros(sum(self.sizes))
        starts = np.cumsum([0, *self.sizes[:-1]])
        code[starts + np.asarray(architecture)] = 1.0
        return code

    def matrix(self, architecture: Architecture) -> np.ndarray:
        """Return an architecture as matrices (C, R, S): of graphs one an operation, from row to column; else (1, P, K).

        The latter is one-hot: a row a place, a column a choice.
        """
        found = np.zeros((1, len(self.sizes), max(self.sizes)))
        found[0, np.arange(len(self.sizes)), np.asarray(architecture)] = 1.0
        return found

    def decode(self, code: np.ndarray) -> Architecture:
        """Return the architecture nearest to a code (S,) that need not be one: at each place the largest choice."""
        return tuple(int(np.argmax(part)) for part in np.split(code, np.cumsum(self.sizes)[:-1]))

    def clip(self, code: np.ndarray) -> np.ndarray:
        """Return the nearest of what codes may be (S,): at each place shares of its choices, together 1."""
        return np.concatenate([_to_simplex(part) for part in np.split(code, np.cumsum(self.sizes)[:-1])])

    def middle(self) -> np.ndarray:
        """Return the code (S,) between all others, which need not be an architecture's: equal shares of all choices."""
        return np.concatenate([np.full(size, 1.0 / size) for size in self.sizes])


def _to_simplex(values: np.ndarray) -> np.ndarray:
    """Return the nearest shares (n,), 0 or more and together 1 (Duchi et al. 2008)."""
    ordered = np.sort(values)[::-1]
    excess = (np.cumsum(ordered) - 1.0) / np.arange(1, len(values) + 1)
    return np.maximum(values - excess[np.flatnonzero(ordered > excess)[-1]], 0.0)


def _with(architecture: Architecture, place: int, choice: int) -> Architecture:
    return (*architecture[:place], choice, *architecture[place + 1 :])
