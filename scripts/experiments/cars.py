"""CARS (arXiv:1909.04977), small: evolution in one supernet keeps large networks, too, where plain sorting does not.

Cells of three nodes and four operations (normal, reduction, normal; 8 channels) tell scikit-learn's digits of 8x8
pixels apart. Weights learn from half of the training digits, architectures are compared on the other half, and what is
reported has learned anew from all of them and is judged on the test digits. Arms: CARS (pNSGA-III), plain
NSGA-III on score and size with its own supernet, and as many random architectures as CARS judges, with CARS's supernet:
equal total cost. Every arm is reported by one rule: of what was judged P are kept by pNSGA-III (by plain sorting in its
arm), and of those four spread over sizes; beside them the largest network there is.

Claims: the largest network CARS keeps is larger than the largest plain sorting keeps (near by construction: the second
sorting likes size) and, both trained anew, none of plain sorting's reported ones is at once smaller and better; the
volume under accuracy and size is about that of random search. That CARS finds higher accuracies than random search is
not claimed. The volume is ruled by the smallest network reported, so points above random search at equal size are
printed, too, and Kendall's tau of inherited against retrained scores, over all arms' networks. The bars are our own
choices, set before the first run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from envs.evaluation.search.cars import CARS, CARSConfig, EvolutionConfig, Member, prepared, select, spread_out
from envs.evaluation.search.door import replaced
from envs.evaluation.search.evaluators import SharedEvaluator, TrainedEvaluator
from envs.evaluation.search.pareto import hypervolume
from envs.evaluation.search.shared_weights import SharedConfig
from envs.evaluation.search.space import Architecture
from envs.evaluation.search.spaces.cell import CellSpace
from envs.evaluation.search.strategy import WORST, search
from envs.evaluation.subject import Base, Subject
from envs.evaluation.tasks import ClassifierTask
from envs.evaluation.transform import TeachConfig
from rlsuite.data.arrays import Arrays
from rlsuite.data.digits import digits as data_of
from rlsuite.errors import require
from rlsuite.experiment import Claim, Result
from rlsuite.experiment.jobs import Jobs
from rlsuite.fit import FitConfig
from rlsuite.metrics.ranking import kendall_tau
from rlsuite.nn.vision.conv_net import ConvNet, ConvNetConfig
from rlsuite.optim.choice import OptimizerConfig, ScheduleConfig
from rlsuite.running.seeding import derive_seed

CLASSES, SIZE, BATCH_SIZE = 10, 8, 64
SPACE = CellSpace(CARSConfig().space, channels=1, size=SIZE, outputs=CLASSES)


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The experiment's numbers.

    Attributes:
        seeds: how many: 0, 1, ...
        digits: to learn from, of 1,438; 0 for all.
        population: P.
        warm_up: rounds along uniform paths.
        generations: after that.
        epochs: of the weights' digits, in each round.
        taught_epochs: of every reported network's learning anew, of all training digits.
        size_factor: parameters of the largest network CARS keeps, in those of plain sorting's, at least.
        dominated: of plain sorting's reported networks those that are smaller and better than CARS's largest, at most.
        volume_margin: of the volume of CARS's reported networks minus random search's, at least.
    """

    seeds: int = 3
    digits: int = 0
    population: int = 10
    warm_up: int = 4
    generations: int = 6
    epochs: int = 2
    taught_epochs: int = 8
    size_factor: float = 1.3
    dominated: float = 0.0
    volume_margin: float = -0.005

    def __post_init__(self) -> None:
        for name in ("seeds", "generations", "epochs", "taught_epochs"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require(
            self.digits == 0 or self.digits >= 2 * BATCH_SIZE, f"digits={self.digits}: use {2 * BATCH_SIZE} or more"
        )
        require(self.population >= 2, f"population={self.population}: use 2 or more")
        require(self.warm_up >= 0, f"warm_up={self.warm_up}: use 0 (none) or more")


DEBUG = Numbers(seeds=1, digits=128, population=2, warm_up=1, generations=1, epochs=1, taught_epochs=1)


def run(numbers: Numbers, jobs: Jobs) -> Result:
    """Search, train anew, and test the claims."""
    seeds = tuple(range(numbers.seeds))
    names = ("digits", "population", "warm_up", "generations", "epochs", "taught_epochs")
    inputs = {name: getattr(numbers, name) for name in names}
    found = jobs.grid(search_digits, arms=("digits",), seeds=seeds, **inputs)["digits"]
    for seed, one in zip(seeds, found, strict=True):
        for arm, networks in one["arms"].items():
            each = ", ".join(f"{network['parameters']:,.0f}: {network['test']:.2f}" for network in networks)
            print(f"seed {seed}, {arm}, parameters: right answers in %: {each}", flush=True)
        for arm, sizes in one["sizes"].items():
            print(f"seed {seed}, {arm}, largest of each generation: {[round(size[2]) for size in sizes]}", flush=True)
        print(f"seed {seed}: tau of inherited against retrained {one['tau']:.2f}; judged {one['judged']}", flush=True)
    equal = [points_above(one["arms"]["cars"], one["arms"]["random"]) for one in found]
    print(f"points above random search at equal size: {[round(each, 2) for each in equal]}", flush=True)
    return Result(
        seeds=seeds,
        claims=claims(found, numbers),
        figures={"by seed": found, "points above random search at equal size": equal},
        full_scale="python scripts/reproduce.py paper=cars population=128 warm_up=25 generations=225 taught_epochs=600",
    )


def claims(found: tuple[dict[str, Any], ...], numbers: Numbers) -> tuple[Claim, ...]:
    """Return the claims for what each seed found."""
    volumes = [{arm: volume(networks) for arm, networks in one["arms"].items()} for one in found]
    return (
        Claim(
            statement="parameters of the largest network kept, in those of the largest plain sorting keeps",
            margin=numbers.size_factor,
            figures=tuple(one["sizes"]["cars"][-1][2] / one["sizes"]["nsga3"][-1][2] for one in found),
        ),
        Claim(
            statement="plain sorting's networks that, trained anew, are smaller and better than the largest kept",
            margin=numbers.dominated,
            figures=tuple(float(better_and_smaller(one)) for one in found),
            at_least=False,
        ),
        Claim(
            statement="volume under accuracy and size minus random search's at equal total cost",
            margin=numbers.volume_margin,
            figures=tuple(one["cars"] - one["random"] for one in volumes),
        ),
    )


def volume(networks: Sequence[dict[str, Any]]) -> float:
    """Return the share of the box (accuracy 0 to 1, size 0 to the largest network's) that some networks dominate."""
    points = np.array([[-network["test"] / 100.0, network["share"]] for network in networks])
    return hypervolume(points, np.array([0.0, 1.0 + 1e-9]))


def points_above(networks: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]]) -> float:
    """Return by how many points some networks are better than others at equal size.

    That is the difference of the best accuracies up to a size, its mean over the sizes at which both have a network.
    """
    first = max(min(network["share"] for network in each) for each in (networks, others))
    sizes = sorted({first, *(network["share"] for network in (*networks, *others) if network["share"] > first)})

    def best(among: Sequence[dict[str, Any]], size: float) -> float:
        return max(network["test"] for network in among if network["share"] <= size)

    differences = np.array([best(networks, size) - best(others, size) for size in sizes])
    if len(sizes) == 1:
        return float(differences[0])
    return float(np.average(differences[:-1], weights=np.diff(sizes)))


def better_and_smaller(one: dict[str, Any]) -> int:
    """Return how many of plain sorting's networks dominate the largest that CARS kept."""
    largest = one["arms"]["cars' largest"][0]
    return sum(
        network["test"] > largest["test"] and network["parameters"] < largest["parameters"]
        for network in one["arms"]["nsga3"]
    )


def search_digits(
    arm: str,
    seed: int,
    folder: Path,
    *,
    digits: int,
    population: int,
    warm_up: int,
    generations: int,
    epochs: int,
    taught_epochs: int,
) -> dict[str, Any]:
    """Search in every way, train what is reported anew: "arms", "sizes" by generation, "tau" and "judged"."""
    subject = digit_subject(digits)
    evolution = EvolutionConfig(population=population, warm_up=warm_up, generations=generations)
    optimizer = OptimizerConfig(name="sgd", learning_rate=0.1, weight_decay=3e-4)  # the rate is for few minibatches
    shared = SharedConfig(batch_size=BATCH_SIZE, optimizer=optimizer)
    config = CARSConfig(evolution=evolution, shared=shared, epochs=epochs, statistics=3, seed=seed)
    reported: dict[str, list[Member]] = {}
    sizes, judged, scores = {}, {}, {}
    evaluator, strategy = searched(subject, config, folder / "cars")
    reported["cars"], sizes["cars"] = spread_out(strategy.members), strategy.sizes
    largest = max(strategy.members, key=lambda member: member.costs[0])
    reported["cars' largest"] = [largest]
    judged["cars"] = judged["random"] = 2 * population * generations
    rng = np.random.default_rng(derive_seed(seed, "random arm"))
    drawn = random_members(evaluator, judged["random"], rng)
    reported["random"] = spread_out(kept(drawn, evolution, np.random.default_rng(derive_seed(seed, "random kept"))))
    plain = replace(config, evolution=replace(evolution, selection="nsga3"))
    _, other = searched(subject, plain, folder / "nsga3")
    reported["nsga3"], sizes["nsga3"], judged["nsga3"] = spread_out(other.members), other.sizes, judged["cars"]
    whole = max_architecture()
    reported["largest there is"] = [Member(whole, evaluator.score([whole])[0], (parameters(whole),))]
    trainer = TrainedEvaluator(SPACE, subject, replaced, teaching(taught_epochs, subject), seed=seed)
    arms: dict[str, list[dict[str, Any]]] = {}
    for name, members in reported.items():
        arms[name] = []
        for member in members:
            (test,) = trainer.score([member.architecture])
            scores[member.architecture] = (member.score, test)
            costs = SPACE.cost(member.architecture)
            share = costs["parameters"] / parameters(whole)
            arms[name].append(
                {
                    "architecture": list(member.architecture),
                    "inherited": member.score,
                    "test": test,
                    "share": share,
                    **costs,
                }
            )
    pairs = torch.tensor(list(scores.values()), dtype=torch.float64).T
    found = float(kendall_tau(pairs[:1], pairs[1:])[0]) if pairs.shape[1] > 1 else 0.0
    return {"arms": arms, "sizes": sizes, "tau": found if np.isfinite(found) else 0.0, "judged": judged}


def searched(subject: Subject, config: CARSConfig, folder: Path) -> tuple[SharedEvaluator, CARS]:
    """Run a search, or go on with it."""
    evaluator, strategy = prepared(SPACE, subject, config)
    search(SPACE, strategy, evaluator, budget=10**6, folder=folder, description={"seed": config.seed})
    return evaluator, strategy


def random_members(evaluator: SharedEvaluator, count: int, rng: np.random.Generator) -> list[Member]:
    """Return random architectures with inherited scores."""
    drawn: dict[Architecture, None] = {}
    while len(drawn) < count:
        drawn[SPACE.sample(rng)] = None
    found = [score if np.isfinite(score) else WORST for score in evaluator.score(list(drawn))]
    return [Member(one, score, (parameters(one),)) for one, score in zip(drawn, found, strict=True)]


def kept(members: Sequence[Member], config: EvolutionConfig, rng: np.random.Generator) -> list[Member]:
    """Return those of some members that a generation keeps of parents and children: P, by the same selection."""
    scores, costs = np.array([member.score for member in members]), np.array([member.costs for member in members])
    return [members[i] for i in np.sort(select(scores, costs, np.zeros(len(members)), config, rng))]


def parameters(architecture: Architecture) -> float:
    """Return the parameters of an architecture's network."""
    return SPACE.cost(architecture)["parameters"]


def max_architecture() -> Architecture:
    """Return the network with most parameters: separable convolutions from the last states there are."""
    operation = SPACE.config.operations.index("sep_conv_3x3") + 1
    found = [0] * len(SPACE.sizes)
    for places in SPACE.blocks():
        for place in places[-SPACE.config.picks :]:
            found[place] = operation
    return tuple(found)


def digit_subject(count: int) -> Subject:
    """Return digits as a task, `count` of them to learn from or all, with a network that is not used."""
    sources = {}
    for part in ("train", "test"):
        found = data_of(part).tensors
        found = {name: value[:count] if count and part == "train" else value for name, value in found.items()}
        sources[part] = Arrays({"input": found["picture"].float() / 255.0, "label": found["label"]})
    task = ClassifierTask(sources["train"], sources["test"], num_classes=CLASSES)
    module = ConvNet(1, SIZE, CLASSES, ConvNetConfig(widths=(4,), hidden=0), 0).eval()
    return Subject(module, sources["test"].tensors["input"][:1], task, Base("conv", {}))


def teaching(epochs: int, subject: Subject) -> TeachConfig:
    """Return how reported networks learn anew."""
    steps = epochs * (len(subject.task.source("train")) // BATCH_SIZE)
    return TeachConfig(
        fit=FitConfig(
            steps=steps,
            batch_size=BATCH_SIZE,
            optimizer=OptimizerConfig(learning_rate=3e-3),
            schedule=ScheduleConfig(kind="cosine"),
            clip_norm=5.0,
        ),
        rounds=1,
    )
