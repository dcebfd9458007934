"""BNAS (arXiv:2009.04247), small: cells of binary weights, by architecture parameters and accuracies together.

Two kinds of cells (normal, reduction; three nodes, 8 channels) and four operations tell scikit-learn's digits of 8x8
pixels apart. Weights learn from half of the training digits, architecture parameters and accuracies come from the other
half, and what is reported has learned anew from all of them and is judged on the test digits. Arms, all of equal search
cost: BNAS, architecture parameters alone, accuracies alone (whose mixing still trains the weights), upper bounds with
1-bit activations while searching; random cells; the largest cells; BNAS's cells with float weights.

Claims: BNAS is a point above random cells' mean; no worse than architecture parameters alone; at most three points
below its float twin; weights of converted layers take a 32nd of floats. At 8 channels all bytes, with normalizations,
stem and last layer, are about a fifth: they are printed. That BNAS is above accuracies alone is not claimed. The bars
were set before the first run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from envs.evaluation.catalogue import EVALUATIONS
from envs.evaluation.probes import count_bytes
from envs.evaluation.quantization.binary_layer import BinaryLayer
from envs.evaluation.search.bnas import BNAS, BNASConfig, searched
from envs.evaluation.search.relaxation import ARCHITECTURE
from envs.evaluation.search.shared_weights import SharedConfig
from envs.evaluation.search.space import Architecture
from envs.evaluation.search.spaces.cell import CellSpace, CellSpaceConfig
from envs.evaluation.subject import Step, Subject
from rlsuite.errors import require
from rlsuite.experiment import Claim, Result
from rlsuite.experiment.jobs import Jobs
from rlsuite.methods import Method, to_plain
from rlsuite.optim.choice import OptimizerConfig
from rlsuite.running.seeding import derive_seed
from scripts.experiments.cars import BATCH_SIZE, CLASSES, SIZE, digit_subject, teaching

CELLS = CellSpaceConfig(
    operations=("max_pool_3x3", "skip_connect", "sep_conv_3x3", "dil_conv_3x3"),
    nodes=3,
    layout=("normal", "reduction"),
    width=8,
    convolution="xnor",
)
ARMS = {"bnas": 0.5, "alpha alone": 0.0, "accuracy alone": 1.0}  # the accuracies' share


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The experiment's numbers.

    Attributes:
        seeds: how many: 0, 1, ...
        digits: to learn from, of 1,438; 0 for all.
        mixed_epochs: L.
        tries: T.
        random: cells of the random arm.
        taught_epochs: of every network's learning anew.
        random_margin: points of BNAS above random cells' mean, at least.
        alpha_margin: points above architecture parameters alone, at least.
        float_margin: points below the float twin, at most.
        share: bytes of converted layers' weights in those of floats, at most.
    """

    seeds: int = 3
    digits: int = 0
    mixed_epochs: int = 2
    tries: int = 2
    random: int = 3
    taught_epochs: int = 10
    random_margin: float = 1.0
    alpha_margin: float = 0.0
    float_margin: float = 3.0
    share: float = 1.0 / 32.0

    def __post_init__(self) -> None:
        for name in ("seeds", "mixed_epochs", "tries", "random", "taught_epochs"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require(
            self.digits == 0 or self.digits >= 2 * BATCH_SIZE, f"digits={self.digits}: use {2 * BATCH_SIZE} or more"
        )


DEBUG = Numbers(seeds=1, digits=128, mixed_epochs=1, tries=1, random=1, taught_epochs=1)


def run(numbers: Numbers, jobs: Jobs) -> Result:
    """Search, train anew, and test the claims."""
    seeds = tuple(range(numbers.seeds))
    names = ("digits", "mixed_epochs", "tries", "random", "taught_epochs")
    inputs = {name: getattr(numbers, name) for name in names}
    found = jobs.grid(search_digits, arms=("digits",), seeds=seeds, **inputs)["digits"]
    for seed, one in zip(seeds, found, strict=True):
        for arm, networks in one["arms"].items():
            each = ", ".join(f"{n['test']:.2f} ({n['tensors']:,.0f} bytes, {n['macs']:,.0f} MACs)" for n in networks)
            print(f"seed {seed}, {arm}: right in %: {each}", flush=True)
        print(f"seed {seed}: spread of softmax alpha / accuracy by stage: {one['spreads']}", flush=True)
    return Result(
        seeds=seeds,
        claims=claims(found, numbers),
        figures={"by seed": found},
        full_scale="python scripts/reproduce.py paper=bnas mixed_epochs=5 tries=3 random=20 taught_epochs=600",
    )


def claims(found: tuple[dict[str, Any], ...], numbers: Numbers) -> tuple[Claim, ...]:
    """Return the claims for what each seed found."""
    means = [{arm: float(np.mean([n["test"] for n in nets])) for arm, nets in one["arms"].items()} for one in found]
    return (
        Claim(
            statement="points above random cells' mean",
            margin=numbers.random_margin,
            figures=tuple(each["bnas"] - each["random"] for each in means),
        ),
        Claim(
            statement="points above architecture parameters alone",
            margin=numbers.alpha_margin,
            figures=tuple(each["bnas"] - each["alpha alone"] for each in means),
        ),
        Claim(
            statement="points below the same cells with float weights",
            margin=numbers.float_margin,
            figures=tuple(each["float twin"] - each["bnas"] for each in means),
            at_least=False,
        ),
        Claim(
            statement="bytes of converted layers' weights in those of floats",
            margin=numbers.share,
            figures=tuple(one["arms"]["bnas"][0]["share"] for one in found),
            at_least=False,
        ),
    )


def search_digits(
    arm: str, seed: int, folder: Path, *, digits: int, mixed_epochs: int, tries: int, random: int, taught_epochs: int
) -> dict[str, Any]:
    """Search in every way, train anew: "arms" and "spreads", how much the potentials' halves differ on an edge."""
    subject = digit_subject(digits)
    optimizer = OptimizerConfig(name="sgd", learning_rate=0.1, weight_decay=3e-4)  # the rate is for few minibatches
    config = BNASConfig(
        space=CELLS,
        mixed_epochs=mixed_epochs,
        tries=tries,
        architecture=replace(ARCHITECTURE, learning_rate=0.03),  # likewise
        shared=SharedConfig(batch_size=BATCH_SIZE, optimizer=optimizer),
        statistics=3,
        seed=seed,
        teach=teaching(taught_epochs, subject),
    )
    space = space_of("xnor")
    arms: dict[str, list[dict[str, Any]]] = {}
    spreads: list[list[float]] = []
    best: Architecture = ()
    for name, share in ARMS.items():
        found = searched(space, subject, replace(config, accuracy_share=share), folder / name)
        arms[name] = [judge(found.architecture, "xnor", subject, config)]
        if name == "bnas":
            best = found.architecture
            for stage in found.stages:
                halves = ([row[row > 0].std() for row in half] for half in (stage.alpha, stage.accuracy))
                spreads.append([round(float(np.mean(each)), 5) for each in halves])
    noisy = replace(config, rule="ucb", space=replace(CELLS, convolution="xnor_one_bit"))
    found = searched(space_of("xnor_one_bit"), subject, noisy, folder / "ucb")
    arms["upper bounds, 1-bit search"] = [judge(found.architecture, "xnor", subject, config)]
    rng = np.random.default_rng(derive_seed(seed, "random arm"))
    arms["random"] = [judge(space.sample(rng), "xnor", subject, config) for _ in range(random)]
    arms["largest"] = [judge(largest(space), "xnor", subject, config)]
    arms["float twin"] = [judge(best, "float", subject, config)]
    return {"arms": arms, "spreads": spreads}


def judge(architecture: Architecture, convolution: str, subject: Subject, config: BNASConfig) -> dict[str, Any]:
    """Train a network anew; return its accuracy "test", bytes, costs, and the "share" its binary weights take."""
    space = space_of(convolution)
    config = replace(config, space=space.config)
    search = BNAS(config=config)
    search.space = space
    ends = {"channels": 1, "size": [SIZE, SIZE], "outputs": CLASSES}
    method = Method("search/bnas", config, EVALUATIONS["search/bnas"])
    (plain,) = to_plain([method])
    plan = {"space": "cell", "config": plain["config"]["space"], "ends": ends, "architecture": list(architecture)}
    taught = replace(subject, module=search.rebuild(subject.copy(), plan))
    search.train(taught, subject, derive_seed(config.seed, "anew"))
    module = search.finish(taught.module).eval()
    kept = replace(subject, module=module, recipe=(Step(method.name, plain["config"], plan),))
    binary = [layer for layer in module.modules() if isinstance(layer, BinaryLayer)]
    floats = 4 * sum(layer.num_weights for layer in binary)
    return {
        "architecture": list(architecture),
        "test": float(subject.task.score(module, 0).mean()),
        "bytes": count_bytes(kept),
        "tensors": sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values()),
        "share": sum(layer.codes.numel() for layer in binary) / floats if floats else 1.0,
        **space.cost(architecture),
    }


def space_of(convolution: str) -> CellSpace:
    """Return the cells with a kind of convolution."""
    return CellSpace(replace(CELLS, convolution=convolution), channels=1, size=SIZE, outputs=CLASSES)


def largest(space: CellSpace) -> Architecture:
    """Return separable convolutions on the last edges that enter each node."""
    found = [0] * len(space.sizes)
    for places in space.blocks():
        for place in places[-space.config.picks :]:
            found[place] = space.config.operations.index("sep_conv_3x3") + 1
    return tuple(found)
