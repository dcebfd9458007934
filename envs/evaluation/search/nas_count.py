"""NAS-Count: a counting network and its loss, found by gradients (Hu et al. 2020, arXiv:2003.00217).

In turn the architecture (operations, edges' weights and the fusions' gates, and the poolings of the loss) learns from
one half of the examples and weights from the other, first order; weights alone in the first fifth. Of each node the two
edges with the largest product of both weights remain, of each edge the best operation, of each fusion two inputs, of
each level of the loss one pooling. What was found learns anew by `teach`, with the loss that was found.

No code was published; the cells are recalled, and numbers are chosen here (see spaces/counting.py, losses.py). Partial
channels are PC-DARTS's (arXiv:1907.05737).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from envs.evaluation.search.cost import expected, table
from envs.evaluation.search.door import Search
from envs.evaluation.search.evaluators import PartTask, halves
from envs.evaluation.search.relaxation import Relaxation, Relaxed, turns
from envs.evaluation.search.space import Architecture
from envs.evaluation.search.spaces.counting import MOST, CountingConfig, CountingSpace
from envs.evaluation.search.supernet import Supernet
from envs.evaluation.subject import Subject
from envs.evaluation.transform import TeachConfig
from envs.perception.counting.losses import SearchedSPPLoss, SPPLoss
from envs.perception.counting.task import CountTask
from rlsuite.errors import require, require_finite
from rlsuite.fit import FitConfig, Turn, fit
from rlsuite.optim.choice import OptimizerConfig
from rlsuite.running.seeding import derive_seed


@dataclass(frozen=True, kw_only=True)
class NASCountConfig:
    """A search for a counting network.

    Attributes:
        space: see CountingConfig.
        partial: 1 of so many channels goes through the mixed operations of extraction cells.
        levels: of the loss, above the maps themselves.
        alone: share of the minibatches in which weights learn alone, at first.
        price: of the mixture's MACs in those of all operations; 0 for none.
        search: minibatches, and the weights' optimizer.
        architecture: optimizer of the architecture and the poolings. A step of Adam moves a number by about the
            learning rate, and numbers begin at 0: learning_rate times the joint steps is how far they come at all. 3e-4
            is for the tens of thousands of steps of a full search; a search of some hundred needs 3e-3 to 1e-2, or all
            choices stay within a few per cent of each other.
        seed: of all draws.
        teach: how the network that was found learns.
    """

    space: CountingConfig = field(default_factory=CountingConfig)
    partial: int = 4
    levels: int = 3
    alone: float = 0.2
    price: float = 0.0
    search: FitConfig = field(default_factory=lambda: FitConfig(steps=600, batch_size=8))
    architecture: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(learning_rate=3e-4, weight_decay=1e-3, beta1=0.5)
    )
    seed: int = 0
    teach: TeachConfig = field(default_factory=TeachConfig)

    def __post_init__(self) -> None:
        require(self.partial >= 1, f"partial={self.partial}: use 1 (all channels) or more")
        require(0.0 <= self.alone < 1.0, f"alone={self.alone}: use 0 or more, and less than 1")
        require_finite("price", self.price, low=0.0)
        require(self.seed >= 0, f"seed={self.seed}: use 0 or more")


@dataclass(frozen=True)
class Found:
    """What a search has found: a network, and the loss it shall learn by."""

    architecture: Architecture
    loss: SPPLoss


class NASCount(Search):
    """The search as a transform, of a network that draws density maps."""

    Config = NASCountConfig
    needs: ClassVar = {"convolutional": "it sees no pictures; counting is for pictures"}
    config: NASCountConfig

    def examine(self, subject: Subject) -> None:
        """Raise UserError unless the task is to count."""
        require(isinstance(subject.task, CountTask), "search/nas_count: the task is not to count; use search/cars")

    def plan(self, subject: Subject) -> dict[str, Any]:
        """Return the space and the architecture that was found."""
        self.examine(subject)
        assert isinstance(subject.task, CountTask)
        channels, height, width = subject.example.shape[1:]
        ends = {"channels": channels, "size": [height, width]}
        self.claim(ends)
        space = CountingSpace(self.config.space, channels=channels, size=(height, width))
        self.space, self.found = (
            space,
            search_counting(space, subject.task, self.config, self.folder, device=subject.device),
        )
        config, architecture = dataclasses.asdict(self.config.space), list(self.found.architecture)
        return {"space": "counting", "config": config, "ends": ends, "architecture": architecture}

    def train(self, subject: Subject, before: Subject, seed: int) -> None:
        """Let the network learn from the start, by the loss that was found."""
        task = subject.task
        assert isinstance(task, CountTask)
        found = CountTask(task.source("train"), task.source("test"), self.found.loss, floor=task.floor)
        super().train(replace(subject, task=found), before, seed)


def search_counting(
    space: CountingSpace,
    task: CountTask,
    config: NASCountConfig,
    folder: Path | None = None,
    *,
    device: torch.device | str = "cpu",
) -> Found:
    """Search on a task's training examples; with a folder a search that was killed goes on from there.

    The weights' optimizer begins anew where the architecture begins to learn.

    Args:
        space: of counting networks.
        task: what is learned.
        config: see NASCountConfig.
        folder: keeps checkpoints; None for nowhere.
        device: where the network learns.
    """
    pooling = SearchedSPPLoss(config.levels)
    searched = CountTask(task.source("train"), task.source("test"), pooling, floor=task.floor)
    parts: PartTask = halves(searched, config.seed)
    relaxed = relaxed_network(space, pooling, config).to(device)
    costs = place_costs(space)

    def dear(module: nn.Module) -> Tensor:
        assert isinstance(module, Relaxed)
        return config.price * expected(module.relaxation.mixture(), costs) / float(costs.sum())

    penalty = dear if config.price else None
    both = turns(
        searched,
        parts.source("train"),
        parts.source("test"),
        weights=config.search.optimizer,
        architecture=config.architecture,
        penalty=penalty,
    )
    first = round(config.alone * config.search.steps)
    phases: list[tuple[str, list[Turn], int]] = [
        ("alone", both[1:], first),
        ("both", both, config.search.steps - first),
    ]
    for name, chosen, steps in phases:
        if steps:
            fit(
                relaxed,
                chosen,
                parts.source("train"),
                replace(config.search, steps=steps),
                seed=derive_seed(config.seed, name),
                run_dir=None if folder is None else folder / name,
                about={"method": "nas_count", "price": config.price},
            )
    return Found(derived(space, relaxed.relaxation), pooling.found())


def relaxed_network(space: CountingSpace, pooling: SearchedSPPLoss, config: NASCountConfig) -> Relaxed:
    """Return the supernet with its relaxation, which also holds the loss's poolings; "no edge" is no choice of it."""
    supernet = Supernet(space, seed=derive_seed(config.seed, "first weights"), partial=config.partial)
    relaxation = Relaxation(space.sizes, space.groups, seed=derive_seed(config.seed, "relaxation"))
    keep = relaxation.alive.numpy().copy()
    keep[:, 0] = False
    relaxation.give_up(keep)
    relaxation.add_module("poolings", pooling)
    return Relaxed(supernet, relaxation)


def derived(space: CountingSpace, relaxation: Relaxation) -> Architecture:
    """Return the network that remains: see the module's docstring."""
    with torch.no_grad():
        mixture, scales = relaxation.mixture().cpu().numpy(), relaxation.scales()
    assert scales is not None
    strength = mixture.max(1) * scales.detach().cpu().numpy()
    found = [0] * len(space.sizes)
    for group in range(max(space.groups) + 1):
        places = [place for place, own in enumerate(space.groups) if own == group]
        for place in sorted(places, key=lambda one: -strength[one])[:MOST]:
            found[place] = int(np.argmax(mixture[place]))
    return space.check(tuple(found))


def place_costs(space: CountingSpace) -> Tensor:
    """Return the MACs (P, K) of each choice of each place."""
    nothing = (0,) * len(space.sizes)
    fixed = space.cost(nothing)["macs"]
    rows = []
    for place, size in enumerate(space.sizes):
        each = [(*nothing[:place], choice, *nothing[place + 1 :]) for choice in range(size)]
        rows.append([int(space.cost(one)["macs"] - fixed) for one in each])
    return table(rows)
