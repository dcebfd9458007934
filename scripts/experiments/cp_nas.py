"""CP-NAS (arXiv:2005.00057), small: cells of 1-bit convolutions, judged with float networks of the same shape.

First without training: 14 edges with 8 operations, each edge's choice adds its utility (uniform in [0, 1]), and every
score has noise as large as the spread of one edge's utilities. Fair rounds with T = 3 are asked on how many edges they
leave the best operation; beside it, where each edge is scored by itself with the same noise. Where NAS-Bench-201's
table is at hand (RLSUITE_DATA), fair elimination and ABanditNAS's rule run on its CIFAR-10 validation column, beside as
many random rows: giving operations up loses there, which is printed.

Then two kinds of cells (normal, reduction; two nodes, 8 channels) and four operations on scikit-learn's digits of 8x8
pixels. Searches see halves of the training digits, what is reported has learned anew from all of them and is judged on
the test digits. Arms: CP (beta 2), beta 0.5, the Child alone (beta 0), CP with RBNN's convolutions, random cells, CP's
cells without the kernels' and centres' loss.

Claims: simulated, 60 % of edges; CP is a point above random cells' mean; at most half a point below the Child alone;
the loss of Child and Parent is no worse than the plain one. The bars were set before the first run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from envs.evaluation.search.abandit_nas import anti_bandit
from envs.evaluation.search.bandit import Arms
from envs.evaluation.search.cp_nas import CPNAS, CPNASConfig, searched
from envs.evaluation.search.door import replaced
from envs.evaluation.search.elimination import fair_then_lowest_mean, play
from envs.evaluation.search.shared_weights import SharedConfig
from envs.evaluation.search.space import Architecture
from envs.evaluation.search.spaces.cell import CellSpace, CellSpaceConfig
from envs.evaluation.search.spaces.nas_bench_201 import NasBench201Space
from envs.evaluation.subject import Subject
from rlsuite.data.nas_bench_201 import default_path, read_table, row_of
from rlsuite.errors import UserError, require
from rlsuite.experiment import Claim, Result
from rlsuite.experiment.jobs import Jobs
from rlsuite.optim.choice import OptimizerConfig
from rlsuite.running.seeding import derive_seed
from scripts.experiments.cars import BATCH_SIZE, CLASSES, SIZE, digit_subject, teaching

CELLS = CellSpaceConfig(
    operations=("skip_connect", "max_pool_3x3", "sep_conv_3x3", "dil_conv_3x3"),
    nodes=2,
    layout=("normal", "reduction"),
    width=8,
    convolution="xnor_one_bit",
)
EDGES, OPERATIONS, TRIES = 14, 8, 3  # of the simulation
TABLE_RUNS, TABLE_COLUMNS = 20, ("cifar10-val", "cifar10-test")


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The experiment's numbers.

    Attributes:
        seeds: how many: 0, 1, ...
        simulations: of 14 edges each.
        digits: to learn from, of 1,438; 0 for all.
        tries: T on digits.
        random: cells of the random arm.
        taught_epochs: of every network's learning anew.
        simulated_share: percent of simulated edges left with their best operation, at least.
        random_margin: points of CP above random cells' mean, at least.
        child_margin: points of CP above the Child alone, at least.
        loss_margin: points of the loss of Child and Parent above the plain one, at least.
    """

    seeds: int = 3
    simulations: int = 50
    digits: int = 0
    tries: int = 2
    random: int = 3
    taught_epochs: int = 10
    simulated_share: float = 60.0
    random_margin: float = 1.0
    child_margin: float = -0.5
    loss_margin: float = 0.0

    def __post_init__(self) -> None:
        for name in ("seeds", "simulations", "tries", "random", "taught_epochs"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require(
            self.digits == 0 or self.digits >= 2 * BATCH_SIZE, f"digits={self.digits}: use {2 * BATCH_SIZE} or more"
        )


DEBUG = Numbers(seeds=1, simulations=2, digits=128, tries=1, random=1, taught_epochs=1)


def run(numbers: Numbers, jobs: Jobs) -> Result:
    """Simulate, search, train anew, and test the claims."""
    seeds = tuple(range(numbers.seeds))
    names = ("simulations", "digits", "tries", "random", "taught_epochs")
    inputs = {name: getattr(numbers, name) for name in names}
    found = jobs.grid(search_digits, arms=("digits",), seeds=seeds, **inputs)["digits"]
    for seed, one in zip(seeds, found, strict=True):
        shares = f"{one['simulated']:.1f} %; edges scored by themselves {one['simulated alone']:.1f} %"
        print(f"seed {seed}, simulated, edges left with their best operation: {shares}", flush=True)
        for rule, accuracy in one["table"].items():
            print(f"seed {seed}, table, {rule}: right in %: {accuracy:.2f}", flush=True)
        for arm, networks in one["arms"].items():
            each = ", ".join(f"{n['test']:.2f} ({n['binary_macs']:,.0f} 1-bit MACs)" for n in networks)
            print(f"seed {seed}, {arm}: right in %: {each}", flush=True)
    return Result(
        seeds=seeds,
        claims=claims(found, numbers),
        figures={"by seed": found},
        full_scale="python scripts/reproduce.py paper=cp_nas tries=3 random=20 taught_epochs=600",
    )


def claims(found: tuple[dict[str, Any], ...], numbers: Numbers) -> tuple[Claim, ...]:
    """Return the claims for what each seed found."""
    means = [{arm: float(np.mean([n["test"] for n in nets])) for arm, nets in one["arms"].items()} for one in found]
    return (
        Claim(
            statement="simulated: percent of edges left with their best operation",
            margin=numbers.simulated_share,
            figures=tuple(one["simulated"] for one in found),
        ),
        Claim(
            statement="points above random cells' mean",
            margin=numbers.random_margin,
            figures=tuple(each["cp"] - each["random"] for each in means),
        ),
        Claim(
            statement="points above the Child alone",
            margin=numbers.child_margin,
            figures=tuple(each["cp"] - each["child alone"] for each in means),
        ),
        Claim(
            statement="points of the loss of Child and Parent above the plain one",
            margin=numbers.loss_margin,
            figures=tuple(each["cp"] - each["plain loss"] for each in means),
        ),
    )


def search_digits(
    arm: str, seed: int, folder: Path, *, simulations: int, digits: int, tries: int, random: int, taught_epochs: int
) -> dict[str, Any]:
    """Simulate, search in every way, train anew: "simulated" (and "alone"), "table", "arms", and "trials" of CP."""
    subject = digit_subject(digits)
    optimizer = OptimizerConfig(name="sgd", learning_rate=0.1, weight_decay=3e-4)  # the rate is for few minibatches
    config = CPNASConfig(
        space=CELLS,
        tries=tries,
        shared=SharedConfig(batch_size=BATCH_SIZE, optimizer=optimizer),
        statistics=3,
        seed=seed,
        teach=teaching(taught_epochs, subject),
    )
    space = space_of(config)
    searches = {
        "cp": config,
        "beta 0.5": replace(config, beta=0.5),
        "child alone": replace(config, beta=0.0),
        "cp, rbnn": replace(config, space=replace(CELLS, convolution="rbnn")),
    }
    arms: dict[str, list[dict[str, Any]]] = {}
    trials: list[dict[str, Any]] = []
    best: Architecture = ()
    for name, each in searches.items():
        found = searched(space_of(each), subject, each, folder / name.replace(" ", "_"))
        arms[name] = [judge(found.architecture, subject, each)]
        if name == "cp":
            best, trials = found.architecture, found.trials
    rng = np.random.default_rng(derive_seed(seed, "random arm"))
    arms["random"] = [judge(space.sample(rng), subject, config) for _ in range(random)]
    arms["plain loss"] = [judge(best, subject, replace(config, kernels=0.0, centre=0.0))]
    return {
        "simulated": simulate(simulations, EDGES, seed),
        "simulated alone": simulate(simulations * EDGES, 1, seed),
        "table": on_table(seed),
        "arms": arms,
        "trials": trials,
    }


def judge(architecture: Architecture, subject: Subject, config: CPNASConfig) -> dict[str, Any]:
    """Train a network anew; return its accuracy "test" once it is packed, and its costs."""
    search = CPNAS(config=config)
    search.space = space_of(config)
    taught = replace(subject, module=replaced(subject.copy(), search.space.build(architecture)))
    search.train(taught, subject, derive_seed(config.seed, "anew"))
    module = search.finish(taught.module).eval()
    test = float(subject.task.score(module, 0).mean())
    return {"architecture": list(architecture), "test": test, **search.space.cost(architecture)}


def space_of(config: CPNASConfig) -> CellSpace:
    """Return the cells."""
    return CellSpace(config.space, channels=1, size=SIZE, outputs=CLASSES)


def simulate(count: int, edges: int, seed: int) -> float:
    """Return in how many percent of edges fair rounds end with the operation of the highest utility.

    Args:
        count: of simulations.
        edges: of each, scored by the sum of their utilities and noise.
        seed: of all draws.
    """
    right = 0
    for number in range(count):
        rng = np.random.default_rng(derive_seed(seed, f"simulation {number}"))
        utilities = rng.random((edges, OPERATIONS))
        spread = float(utilities.std(axis=1).mean())

        def reward(path: Architecture, utilities=utilities, spread=spread, rng=rng) -> float:
            total = float(utilities[np.arange(edges), list(path)].sum()) + spread * float(rng.normal())
            return (total / edges + 1.0) / 3.0 if -edges <= total <= 2 * edges else float(total > 0)

        arms = Arms((OPERATIONS,) * edges)
        play(fair_then_lowest_mean(arms, TRIES, rng), reward)
        right += int((np.array(arms.best()) == utilities.argmax(1)).sum())
    return 100.0 * right / (count * edges)


def on_table(seed: int) -> dict[str, float]:
    """Return mean test accuracies of what rules and random search find on the table; nothing where it is not there."""
    try:
        table = read_table(default_path(), columns=TABLE_COLUMNS)
    except UserError:
        return {}
    validation, test = (table.column(name) for name in TABLE_COLUMNS)
    sizes = NasBench201Space.sizes
    found: dict[str, list[float]] = {"fair elimination": [], "anti-bandit": [], "random": []}
    for number in range(TABLE_RUNS):
        rng = np.random.default_rng(derive_seed(seed, f"table {number}"))
        for name, rule, momentum in (
            ("fair elimination", fair_then_lowest_mean, None),
            ("anti-bandit", anti_bandit, 0.7),
        ):
            arms = Arms(sizes, momentum=momentum)
            trials = play(rule(arms, TRIES, rng), lambda path: float(validation[row_of(path)]) / 100.0)
            found[name].append(float(test[row_of(arms.best())]))
        drawn = rng.integers(len(test), size=trials)
        found["random"].append(float(test[drawn[validation[drawn].argmax()]]))
    return {name: float(np.mean(each)) for name, each in found.items()}
