"""AutoSpace: which cells are worth offering, layer by layer (Zhou et al. 2021, arXiv:2103.11833).

Every layer has a population of random cells, each with a fitness that learns. In each round K cells of each layer are
drawn by tournament, some mutate, and stand side by side in the layer:

    y = sum_k w_k c_k(x) + w_ref c_ref(x),    w = softmax of the K + 1 fitnesses                          (equation 3)

Weights and fitnesses learn for some steps, each from their own half of the examples; then fitnesses go back to the
population (equations 4, 5). The reference, an inverted residual, is always there, and learns alone at first: it keeps
the network trainable while cells are poor. The best cells of each layer are the space that was learned.

No search code was published. Chosen here: softmax, the average on the way back, the size of tournaments, uniform
draws in the first rounds and sometimes afterwards (cells that were drawn early would stay the only ones), a mutant that
takes the worst member's place with its parent's fitness, fitnesses that draw a little together, weights shared by all
cells with the same operation at the same edge, and the budget's term: weight * MACs of the mixture / macs.

`search/autospace` takes of the learned space the network within `macs` whose cells stand nearest to the heads of their
lists, and lets it learn anew. `learned_space` gives the lists, for any strategy that searches a Space (random, NCP,
evolution).

Shapes: L layers, P members of a population, K drawn.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, ClassVar

from envs.evaluation.search.cell_evolution import Evolution, EvolveConfig
from envs.evaluation.search.door import Search, ends_of, make_space, network_task
from envs.evaluation.search.evaluators import halves
from envs.evaluation.search.space import Architecture
from envs.evaluation.search.spaces.chain import ChainConfig
from envs.evaluation.search.spaces.graph_cell import ListedChainConfig, ListedChainSpace
from envs.evaluation.subject import Subject
from envs.evaluation.transform import TeachConfig
from rlsuite.errors import require, require_finite


@dataclass(frozen=True, kw_only=True)
class AutoSpaceConfig:
    """A search for cells.

    Attributes:
        macs: of the network at most; 0 for no budget.
        chain: the layers.
        evolve: see EvolveConfig.
        top: cells of each layer that are offered (4 in the paper's figure, 9 in its files).
        seed: of all draws.
        teach: how the network that was found learns.
    """

    macs: float = 0.0
    chain: ChainConfig = field(default_factory=ChainConfig)
    evolve: EvolveConfig = field(default_factory=EvolveConfig)
    top: int = 4
    seed: int = 0
    teach: TeachConfig = field(default_factory=TeachConfig)

    def __post_init__(self) -> None:
        require_finite("macs", self.macs, low=0.0)
        require(1 <= self.top <= self.evolve.population, f"top={self.top}: use 1 to population")
        require(self.seed >= 0, f"seed={self.seed}: use 0 or more")


class AutoSpace(Search):
    """The search as a transform."""

    Config = AutoSpaceConfig
    needs: ClassVar = {"convolutional": "it sees no pictures; use search/ncp"}
    config: AutoSpaceConfig

    def plan(self, subject: Subject) -> dict[str, Any]:
        """Evolve lists of cells; return them as a space, and the network that is taken from it."""
        config, ends = self.config, ends_of(subject)
        self.claim(ends)
        task = halves(network_task(subject), config.seed)
        evolution = Evolution(config.chain, ends, task, config.evolve, seed=config.seed, device=subject.device)
        evolution.run(self.folder)
        listed = ListedChainConfig(chain=config.chain, cells=evolution.learned_space(config.top))
        self.space = make_space("listed_chain", listed, ends)
        assert isinstance(self.space, ListedChainSpace)
        architecture = list(best_within(self.space, config.macs))
        return {
            "space": "listed_chain",
            "config": dataclasses.asdict(listed),
            "ends": ends,
            "architecture": architecture,
        }


def best_within(space: ListedChainSpace, macs: float) -> Architecture:
    """Return the network whose cells stand nearest to the heads of their lists, of those of so many MACs at most.

    Of equally near ones the cheapest is taken, of equally cheap ones the first in order. 0 MACs are no budget. Layers
    cost by themselves, so the cheapest at each distance is built up layer by layer, from the last.

    Raises:
        UserError: if none is within the budget.
    """
    if macs:
        space.require_budget("autospace.macs", macs)
    heads = (0,) * len(space.sizes)
    least = space.cost(heads)["macs"]
    # Distance -> the cheapest choices of the layers so far, and their MACs beyond the heads'.
    cheapest: dict[int, tuple[float, Architecture]] = {0: (0.0, ())}
    for place in reversed(range(len(heads))):
        found: dict[int, tuple[float, Architecture]] = {}
        for choice in range(space.sizes[place]):
            more = space.cost((*heads[:place], choice, *heads[place + 1 :]))["macs"] - least
            for distance, (rest, others) in cheapest.items():
                one = (more + rest, (choice, *others))
                found[distance + choice] = min(found.get(distance + choice, one), one)
        cheapest = found
    fitting = [distance for distance, (more, _) in cheapest.items() if not macs or least + more <= macs]
    return cheapest[min(fitting)][1]
