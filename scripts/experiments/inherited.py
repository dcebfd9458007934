"""What inherited scores are worth, and what a search must beat: one job for each search with a supernet, on digits.

A search runs as its experiment runs it, smaller. Then twelve random architectures are scored with the weights that they
inherit from its supernet, and each learns anew; so do what was found and the largest network there is (which is the
largest that fits, since nothing limits these searches). Of the twelve the first few together cost as much as the
search, counted in minibatches: the best of those by its score on the examples that compare is the arm of random search
at equal total cost.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from envs.evaluation.search.abandit_nas import ABanditNAS, ABanditNASConfig
from envs.evaluation.search.abandit_nas import searched as search_abandit
from envs.evaluation.search.bnas import BNAS, BNASConfig
from envs.evaluation.search.bnas import searched as search_bnas
from envs.evaluation.search.cars import CARSConfig, CARSSearch, EvolutionConfig, prepared
from envs.evaluation.search.cp_nas import CPNAS, CPNASConfig
from envs.evaluation.search.cp_nas import searched as search_cp
from envs.evaluation.search.door import replaced
from envs.evaluation.search.evaluators import SharedEvaluator, halves
from envs.evaluation.search.shared_weights import SharedConfig
from envs.evaluation.search.space import Architecture
from envs.evaluation.search.spaces.cell import CellSpace
from envs.evaluation.search.strategy import search
from envs.evaluation.subject import Subject
from rlsuite.metrics.ranking import kendall_tau
from rlsuite.optim.choice import OptimizerConfig
from rlsuite.running.seeding import derive_seed
from scripts.experiments import abandit_nas, bnas, cp_nas
from scripts.experiments.cars import BATCH_SIZE, CLASSES, SIZE, digit_subject, teaching
from scripts.experiments.cars import SPACE as CARS_SPACE

SEARCHES = ("cars", "bnas", "abandit_nas", "cp_nas")
EPS = 0.1  # of ABanditNAS's attacks, of brightness


def order(
    arm: str, seed: int, folder: Path, *, digits: int, tries: int, networks: int, taught_epochs: int
) -> dict[str, Any]:
    """Return "tau", "pairs" (inherited, retrained), "arms", and "cost": minibatches of search and of a learning.

    Args:
        arm: one of SEARCHES.
        seed: of everything.
        folder: where the search keeps its history.
        digits: to learn from.
        tries: T; of CARS half its generations.
        networks: random ones.
        taught_epochs: of each learning anew.
    """
    torch.set_num_threads(1)
    began = time.process_time()
    subject = digit_subject(digits)
    space, method, found, evaluator, spent = run_search(arm, seed, folder, subject, tries, taught_epochs)
    compared = halves(subject.task, seed)

    def learned(architecture: Architecture) -> nn.Module:
        taught = dataclasses.replace(subject, module=replaced(subject.copy(), space.build(architecture)))
        method.train(taught, subject, derive_seed(seed, "anew"))
        return method.finish(taught.module).eval()

    def judged(module: nn.Module) -> dict[str, float]:
        right = float(subject.task.score(module, seed).mean())
        told = {"test": right, "compared": float(compared.score(module, seed).mean())}
        if arm == "abandit_nas":
            told["test"] = abandit_nas.pgd_accuracy(module, subject.task, EPS, 0, seed)
        return told

    drawn = distinct(space, networks, np.random.default_rng(derive_seed(seed, "networks")))
    inherited = [inherited_score(space, evaluator, one) for one in drawn]
    retrained = [judged(learned(one)) for one in drawn]
    steps = taught_epochs * (len(subject.task.source("train")) // BATCH_SIZE)
    affordable = max(1, min(networks, round(spent / steps)))
    best = max(retrained[:affordable], key=lambda told: told["compared"])
    arms = {
        "found": judged(learned(found))["test"],
        "random at equal total cost": best["test"],
        "mean of random": float(np.mean([told["test"] for told in retrained])),
        "largest": judged(learned(largest(space)))["test"],
    }
    return {
        "tau": tau(inherited, [told["test"] for told in retrained]),
        "pairs": [[score, told["test"]] for score, told in zip(inherited, retrained, strict=True)],
        "arms": arms,
        "cost": {"search": spent, "learning": steps, "random networks": affordable},
        "seconds": round(time.process_time() - began, 1),
    }


def run_search(
    arm: str, seed: int, folder: Path, subject: Subject, tries: int, taught_epochs: int
) -> tuple[CellSpace, Any, Architecture, SharedEvaluator, int]:
    """Return the space, the method, what was found, the weights that are inherited, and the minibatches it took."""
    optimizer = OptimizerConfig(name="sgd", learning_rate=0.1, weight_decay=3e-4)  # the rate is for few minibatches
    common: dict[str, Any] = {
        "shared": SharedConfig(batch_size=BATCH_SIZE, optimizer=optimizer),
        "statistics": 3,
        "seed": seed,
        "teach": teaching(taught_epochs, subject),
    }
    if arm == "cars":
        evolution = EvolutionConfig(population=6, warm_up=2, generations=2 * tries)
        config: Any = CARSConfig(evolution=evolution, **common)
        evaluator, strategy = prepared(CARS_SPACE, subject, config, folder)
        search(CARS_SPACE, strategy, evaluator, budget=10**6, folder=folder, description={"seed": seed})
        found = max(strategy.members, key=lambda member: member.score).architecture
        space, method, spent = CARS_SPACE, CARSSearch(config=config), evaluator.shared.step
    elif arm == "bnas":
        config = BNASConfig(space=bnas.CELLS, tries=tries, mixed_epochs=1, **common)
        space, method = made(bnas.CELLS), BNAS(config=config)
        told = search_bnas(space, subject, config, folder)
        found, evaluator, spent = told.architecture, told.evaluator, told.evaluator.shared.step
    elif arm == "abandit_nas":
        config = ABanditNASConfig(space=abandit_nas.CELLS, tries=tries, eps=EPS, **common)
        space, method = abandit_nas.SPACE, ABanditNAS(config=config)
        seen = search_abandit(space, subject, config, folder)
        found, evaluator, spent = seen.architecture, seen.evaluator, seen.evaluator.shared.step
    else:
        config = CPNASConfig(space=cp_nas.CELLS, tries=tries, **common)
        space, method = made(cp_nas.CELLS), CPNAS(config=config)
        both = search_cp(space, subject, config, folder)
        found, evaluator = both.architecture, both.evaluator.child
        spent = evaluator.shared.step + both.evaluator.parent.shared.step
    method.space = space
    return space, method, found, evaluator, spent


def inherited_score(space: CellSpace, evaluator: SharedEvaluator, architecture: Architecture) -> float:
    """Return what an architecture scores with a supernet's weights, its statistics measured anew.

    The supernet may be one of all edges, each of which has an operation: those that are not there are left out then.
    """
    supernet = evaluator.shared.supernet
    if supernet.space is space:
        return evaluator.score([architecture])[0]
    operations = tuple(choice - 1 for choice in architecture)  # -1 for an edge that is not there
    child = space.build(architecture, **supernet.options)
    child.load_state_dict(supernet.path_state(operations))
    return float(evaluator.shared.task.score(evaluator.measured(child), 0).mean())


def distinct(space: CellSpace, count: int, rng: np.random.Generator) -> list[Architecture]:
    """Return so many different architectures."""
    found: dict[Architecture, None] = {}
    while len(found) < count:
        found[space.sample(rng)] = None
    return list(found)


def largest(space: CellSpace) -> Architecture:
    """Return an architecture none of whose neighbours has more MACs."""
    found = max((space.sample(np.random.default_rng(number)) for number in range(20)), key=macs_of(space))
    while True:
        larger = max(space.neighbours(found), key=macs_of(space))
        if macs_of(space)(larger) <= macs_of(space)(found):
            return found
        found = larger


def macs_of(space: CellSpace) -> Callable[[Architecture], float]:
    """Return what gives an architecture's MACs."""
    return lambda architecture: space.cost(architecture)["macs"]


def made(config: Any) -> CellSpace:
    """Return a space of cells on digits."""
    return CellSpace(config, channels=1, size=SIZE, outputs=CLASSES)


def tau(one: Sequence[float], other: Sequence[float]) -> float:
    """Return Kendall's tau of two lists of scores; 0 where one of them tells nothing apart."""
    pairs = torch.tensor([list(one), list(other)], dtype=torch.float64)
    found = float(kendall_tau(pairs[:1], pairs[1:])[0])
    return found if np.isfinite(found) else 0.0
