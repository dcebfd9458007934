"""ABanditNAS (arXiv:2008.00698), small: cells that withstand attacks, found by an anti-bandit.

First without training: edges with nine arms each, whose rewards are accuracies on 100 examples. An arm's accuracy is
drawn from 0.3 to 0.9; a third of the arms learn slowly: theirs begins 0.2 low, and a tenth of what is missing is made
up with every pull. Compared are the published rule (sampling by low lower bounds, giving up the smallest upper bound),
the highest upper bounds for sampling with the lowest mean given up, uniform sampling with the lowest mean given up, and
the published sampling with the lowest mean given up, all with equal trials and equal moving means: how often is the
truly best arm left?

Then cells of two nodes and five operations (three kinds of cells, the second a reduction; 8 channels) on scikit-learn's
digits of 8 x 8 pixels. Networks are searched on halves of the training digits, under attack, learn anew from all of
them by fast adversarial training, and are judged by PGD of 20 steps on test digits. Arms: what was found, the mean of
random networks, the largest there is.

Claims: the published rule is ten points above upper bounds where arms learn slowly; PGD accuracy is two points above
random networks' mean. Whether trials' rewards are above chance, 10 %, is printed: a search of rewards below it selects
on nothing, which is why a trial has four epochs. The gain on CIFAR-10 is not claimed. Random networks cost more here
than a search of one epoch a trial: that their best one is no worse is not claimed either, and it is printed. The bars
were set before the first run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from envs.evaluation.attacks.gradient import PGD, PGDConfig
from envs.evaluation.search.abandit_nas import ABanditNAS, ABanditNASConfig, anti_bandit, searched
from envs.evaluation.search.bandit import Arms
from envs.evaluation.search.door import replaced
from envs.evaluation.search.elimination import (
    lower_then_lowest_mean,
    play,
    uniform_then_lowest_mean,
    upper_then_lowest_mean,
)
from envs.evaluation.search.shared_weights import SharedConfig
from envs.evaluation.search.space import Architecture
from envs.evaluation.search.spaces.cell import CellSpace, CellSpaceConfig
from envs.evaluation.subject import Subject
from envs.evaluation.tasks import ClassifierTask
from rlsuite.errors import require
from rlsuite.experiment import Claim, Result
from rlsuite.experiment.jobs import Jobs
from rlsuite.metrics.ranking import kendall_tau
from rlsuite.optim.choice import OptimizerConfig
from rlsuite.running.seeding import derive_seed
from scripts.experiments.cars import BATCH_SIZE, CLASSES, SIZE, digit_subject, teaching

CELLS = CellSpaceConfig(
    operations=("skip_connect", "max_pool_3x3", "conv_3x3", "denoise", "gabor_3x3"),
    nodes=2,
    inputs=1,
    picks=1,
    layout=("a", "b", "c"),
    reductions=("b",),
    width=8,
)
SPACE = CellSpace(CELLS, channels=1, size=SIZE, outputs=CLASSES)
RULES = {
    "anti-bandit": anti_bandit,
    "upper bounds": upper_then_lowest_mean,
    "uniform": uniform_then_lowest_mean,
    "low bounds, lowest mean": lower_then_lowest_mean,
}
ARMS, TRIES, SLOW, SHOWN = 9, 3, 3, 100  # of the simulation: arms, T, slow ones among them, examples of a reward


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The experiment's numbers.

    Attributes:
        seeds: how many: 0, 1, ...
        edges: simulated, each by itself.
        digits: to learn from, of 1,438; 0 for all.
        eps: of attacks, of brightness from 0 to 1.
        tries: T of the search.
        epochs: of the weights' digits, in each trial.
        random: networks of the random arm.
        taught_epochs: of every network's learning anew.
        shown: test digits that PGD attacks; 0 for all.
        simulated_margin: points of the published rule above upper bounds, at least.
        attacked_margin: points of PGD accuracy above random networks' mean, at least.
    """

    seeds: int = 3
    edges: int = 180
    digits: int = 0
    eps: float = 0.2
    tries: int = 2
    epochs: int = 4
    random: int = 5
    taught_epochs: int = 10
    shown: int = 0
    simulated_margin: float = 10.0
    attacked_margin: float = 2.0

    def __post_init__(self) -> None:
        for name in ("seeds", "edges", "tries", "epochs", "random", "taught_epochs"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require(
            self.digits == 0 or self.digits >= 2 * BATCH_SIZE, f"digits={self.digits}: use {2 * BATCH_SIZE} or more"
        )
        require(0.0 < self.eps <= 1.0, f"eps={self.eps}: use a share of brightness above 0, up to 1")
        require(self.shown >= 0, f"shown={self.shown}: use 0 (all) or more")


DEBUG = Numbers(seeds=1, edges=20, digits=128, tries=1, epochs=1, random=1, taught_epochs=1, shown=32)


def run(numbers: Numbers, jobs: Jobs) -> Result:
    """Simulate, search, train anew, attack, and test the claims."""
    seeds = tuple(range(numbers.seeds))
    names = ("edges", "digits", "eps", "tries", "epochs", "random", "taught_epochs", "shown")
    inputs = {name: getattr(numbers, name) for name in names}
    found = jobs.grid(search_digits, arms=("digits",), seeds=seeds, **inputs)["digits"]
    for seed, one in zip(seeds, found, strict=True):
        for case, shares in one["simulated"].items():
            each = ", ".join(f"{rule} {share:.1f}" for rule, share in shares.items())
            print(f"seed {seed}, simulated, {case}: best arm left in % of edges: {each}", flush=True)
        for arm, networks in one["arms"].items():
            each = ", ".join(f"{n['clean']:.1f} / {n['pgd']:.1f} ({n['macs']:,.0f} MACs)" for n in networks)
            print(f"seed {seed}, {arm}: right in % clean / PGD-20: {each}", flush=True)
        mean = 100.0 * float(np.mean(one["rewards"]))
        chance = "above chance" if mean > 100.0 / CLASSES else "no better than chance, so the search selects on nothing"
        each = " ".join(f"{100.0 * reward:.1f}" for reward in one["rewards"])
        print(f"seed {seed}: mean reward {mean:.1f} %, {chance}; by trial: {each}", flush=True)
        print(f"seed {seed}: {one['trials']} trials; tau of m's sum against PGD: {one['tau']:.2f}", flush=True)
    return Result(
        seeds=seeds,
        claims=claims(found, numbers),
        figures={"by seed": found},
        full_scale="python scripts/reproduce.py paper=abandit_nas tries=3 random=20 taught_epochs=200",
    )


def claims(found: tuple[dict[str, Any], ...], numbers: Numbers) -> tuple[Claim, ...]:
    """Return the claims for what each seed found."""
    slow = [one["simulated"]["slow learners"] for one in found]
    return (
        Claim(
            statement="simulated, slow learners: points of edges left with the best arm above upper bounds",
            margin=numbers.simulated_margin,
            figures=tuple(shares["anti-bandit"] - shares["upper bounds"] for shares in slow),
        ),
        Claim(
            statement="points of PGD-20 accuracy above random networks' mean",
            margin=numbers.attacked_margin,
            figures=tuple(
                one["arms"]["found"][0]["pgd"] - float(np.mean([n["pgd"] for n in one["arms"]["random"]]))
                for one in found
            ),
        ),
    )


def search_digits(
    arm: str,
    seed: int,
    folder: Path,
    *,
    edges: int,
    digits: int,
    eps: float,
    tries: int,
    epochs: int,
    random: int,
    taught_epochs: int,
    shown: int,
) -> dict[str, Any]:
    """Simulate and search: "simulated", "arms", "trials", their "rewards" and "tau"."""
    simulated = {
        case: {rule: simulate(rule, slow, edges, seed) for rule in RULES}
        for case, slow in (("equal learners", 0), ("slow learners", SLOW))
    }
    subject = digit_subject(digits)
    optimizer = OptimizerConfig(name="sgd", learning_rate=0.1, weight_decay=3e-4)  # the rate is for few minibatches
    config = ABanditNASConfig(
        space=CELLS,
        tries=tries,
        eps=eps,
        epochs=epochs,
        shared=SharedConfig(batch_size=BATCH_SIZE, optimizer=optimizer),
        statistics=3,
        seed=seed,
        teach=teaching(taught_epochs, subject),
    )
    architecture, arms, _, rewards = searched(SPACE, subject, config, folder / "search")
    rng = np.random.default_rng(derive_seed(seed, "random arm"))
    drawn = {"found": [architecture], "random": [SPACE.sample(rng) for _ in range(random)], "largest": [largest()]}
    judged: dict[str, list[dict[str, Any]]] = {}
    for name, architectures in drawn.items():
        judged[name] = [judge(each, subject, config, shown, seed) for each in architectures]
    pairs = [
        (float(sum(arms.means[place, choice - 1] for place, choice in enumerate(each) if choice)), found["pgd"])
        for name, architectures in drawn.items()
        for each, found in zip(architectures, judged[name], strict=True)
    ]
    columns = torch.tensor(pairs, dtype=torch.float64).T
    tau = float(kendall_tau(columns[:1], columns[1:])[0])
    tau = tau if np.isfinite(tau) else 0.0
    return {"simulated": simulated, "arms": judged, "trials": arms.trials, "rewards": rewards, "tau": tau}


def judge(
    architecture: Architecture, subject: Subject, config: ABanditNASConfig, shown: int, seed: int
) -> dict[str, Any]:
    """Train a network anew under attack; return its accuracies "clean" and "pgd", and its costs."""
    search = ABanditNAS(config=config)
    search.space = SPACE
    module = replaced(subject.copy(), SPACE.build(architecture))
    taught = Subject(module, subject.example, subject.task, subject.base)
    search.train(taught, subject, derive_seed(seed, "anew"))
    clean = float(subject.task.score(module.eval(), seed).mean())
    pgd = pgd_accuracy(module, subject.task, config.eps, shown, seed)
    return {"architecture": list(architecture), "clean": clean, "pgd": pgd, **SPACE.cost(architecture)}


def pgd_accuracy(module: nn.Module, task: Any, eps: float, shown: int, seed: int) -> float:
    """Return the percent of test examples told right after PGD of 20 steps of eps / 4, as the authors' evaluation."""
    assert isinstance(task, ClassifierTask)
    source = task.source("test")
    batch = source.examples(torch.arange(min(shown or len(source), len(source))))
    attack, generator = PGD(config=PGDConfig(steps=20, step_share=0.25)), torch.Generator().manual_seed(seed)

    def objective(inputs: torch.Tensor) -> torch.Tensor:
        return task.loss(module, {**batch, "input": inputs})

    attacked = attack.perturb(objective, batch["input"], task.box, eps, generator)
    with torch.no_grad():
        return 100.0 * float((module(attacked).argmax(1) == batch["label"]).float().mean())


def largest() -> Architecture:
    """Return the architecture of most MACs: from every node's edges the one with the dearest operation."""
    costs = SPACE.choice_costs()
    found = [0] * len(SPACE.sizes)
    for places in SPACE.blocks():
        _, place, choice = max((costs[p][c], p, c) for p in places for c in range(1, SPACE.sizes[p]))
        found[place] = choice
    return tuple(found)


def simulate(rule: str, slow: int, edges: int, seed: int) -> float:
    """Return in how many percent of edges, each a bandit of its own, a rule ends with the best arm."""
    right = 0
    for edge in range(edges):
        rng = np.random.default_rng(derive_seed(seed, f"edge {edge}"))
        utilities = rng.uniform(0.3, 0.9, ARMS)
        learners = rng.permutation(ARMS)[:slow]
        arms, pulls = Arms((ARMS,), momentum=0.7), np.zeros(ARMS)

        def reward(path: Architecture, utilities=utilities, learners=learners, pulls=pulls, rng=rng) -> float:
            arm = path[0]
            missing = 0.2 * 0.9 ** pulls[arm] if arm in learners else 0.0
            pulls[arm] += 1
            return float(rng.binomial(SHOWN, utilities[arm] - missing)) / SHOWN

        draws = np.random.default_rng(derive_seed(seed, f"rule {edge}"))
        play(RULES[rule](arms, TRIES, draws), reward)
        right += arms.best()[0] == int(utilities.argmax())
    return 100.0 * right / edges
