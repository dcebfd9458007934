"""AutoNL (arXiv:2004.01961), small: light non-local blocks let a small network compare what stands far apart.

Two of scikit-learn's digits stand in opposite corners of a picture of 16x16 pixels: are they of one class? The network
(three blocks of 3x3 filters) is read at the upper left corner alone, and no pixel of the other digit is within its
filters' reach there: without a non-local block its gradient is 0, exactly (a test checks it). Digits are zeros and
ones: of all ten classes neither block learns the comparison in so short a training (light blocks had 68 % of the pairs
they learned from right, 61 % of others), and arms that nearly guess cannot be compared. Arms: no block, the standard
block, light blocks with every pixel (s = 1) and with every fourth (s = 2), one in each of the three.

The search has four positions, on maps of 16x16, 16x16, 8x8 and 8x8, and a quarter of the MACs of all blocks together.
Arms at equal budget, trained alike: the found one, a random one, and the largest that fits; beside them all blocks.

Claims: no block is near guessing, light blocks are not and are near the standard one; their MACs are 1/15 and 1/20 of
its; what is found is near all blocks and keeps a block on the small maps. The bars are set before the first run.
That the ratio is 400, as at the paper's sizes, is not claimed: it grows with pixels, of which there are few here.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from envs.evaluation.search.autonl import AutoNL, AutoNLConfig
from envs.evaluation.search.space import Architecture
from envs.evaluation.search.spaces.chain import BlockPlan, ChainConfig
from envs.evaluation.search.spaces.light_chain import LightChainConfig, LightChainSpace
from envs.evaluation.subject import Base, Subject
from envs.evaluation.tasks import ClassifierTask
from envs.evaluation.transform import TeachConfig, teach
from rlsuite.data.arrays import Arrays
from rlsuite.data.digits import digits
from rlsuite.errors import require
from rlsuite.experiment import Claim, Result
from rlsuite.experiment.jobs import Jobs
from rlsuite.fit import FitConfig
from rlsuite.nn.light_nonlocal import LightNonLocal, NonLocal
from rlsuite.optim.choice import OptimizerConfig, ScheduleConfig
from rlsuite.running.seeding import derive_seed

SIDE, DIGIT, CHANNELS, BATCH_SIZE = 16, 8, 16, 64
ENDS: dict[str, Any] = {"channels": 1, "size": SIDE, "outputs": 2}
BLOCKS: dict[str, Callable[[int], nn.Module | None]] = {
    "no block": lambda channels: None,
    "standard": NonLocal,
    "light": lambda channels: LightNonLocal(channels, 0.25, 1),
    "light, every fourth": lambda channels: LightNonLocal(channels, 0.25, 2),
}


def chain(strides: tuple[int, ...], corner: int) -> LightChainSpace:
    """Return a space of chains that are read at the upper left corner."""
    config = ChainConfig(
        widths=(CHANNELS,) * len(strides), strides=strides, kernels=(3,), expansions=(2,), stem=CHANNELS, corner=corner
    )
    return LightChainSpace(LightChainConfig(chain=config), **ENDS)


# The reach of a stem and three blocks is 4 pixels, of a stem and four with a stride 6: the other digit begins at 8.
FIXED, SEARCHED = chain((1, 1, 1), corner=4), chain((1, 1, 2, 1), corner=1)


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The experiment's numbers.

    Attributes:
        seeds: how many: 0, 1, ...
        classes: digits 0, 1, ... that pairs are of.
        pairs: to learn from.
        test_pairs: of digits that were not learned from.
        epochs: of each training.
        trials: trainings of the search at most.
        budget: share of all blocks' MACs.
        guessing: right answers in % without a block, at most.
        seeing: with light blocks, at least.
        near_standard: over the standard block's, at least.
        share: of the standard block's MACs, at most.
        sparse_share: with every fourth pixel, at most.
        near_all: of what is found, over all blocks', at least.
        kept: blocks on maps of 8x8 that are found, at least.
    """

    seeds: int = 3
    classes: int = 2
    pairs: int = 3000
    test_pairs: int = 1000
    epochs: int = 8
    trials: int = 3
    budget: float = 0.25
    guessing: float = 60.0
    seeing: float = 75.0
    near_standard: float = -3.0
    share: float = 1 / 15
    sparse_share: float = 1 / 20
    near_all: float = -2.0
    kept: float = 1.0

    def __post_init__(self) -> None:
        for name in ("seeds", "epochs", "trials"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require(2 <= self.classes <= 10, f"classes={self.classes}: use 2 to 10, as many as digits have")
        for name in ("pairs", "test_pairs"):
            least = 2 * BATCH_SIZE
            require(getattr(self, name) >= least, f"{name}={getattr(self, name)}: use {least} or more")
        require(0.0 < self.budget <= 1.0, f"budget={self.budget}: use a share above 0")


DEBUG = Numbers(seeds=1, pairs=128, test_pairs=128, epochs=1, trials=1, budget=1.0)


def run(numbers: Numbers, jobs: Jobs) -> Result:
    """Train all arms, search, and test the claims."""
    seeds = tuple(range(numbers.seeds))
    inputs = {name: getattr(numbers, name) for name in ("classes", "pairs", "test_pairs", "epochs")}
    fixed = jobs.grid(compare_blocks, arms=("blocks",), seeds=seeds, **inputs)["blocks"]
    inputs |= {"trials": numbers.trials, "budget": numbers.budget}
    found = jobs.grid(search_places, arms=("search",), seeds=seeds, **inputs)["search"]
    for seed, one, other in zip(seeds, fixed, found, strict=True):
        each = ", ".join(f"{arm} {a['test']:.2f} ({a['train']:.2f})" for arm, a in one.items())
        print(f"seed {seed}, right answers in % (of those learned from): {each}", flush=True)
        each = ", ".join(
            f"{arm} {a['architecture']} {a['macs']:,.0f} MACs {a['test']:.2f} ({a['train']:.2f})"
            for arm, a in other.items()
        )
        print(f"seed {seed}: {each}", flush=True)
    return Result(
        seeds=seeds,
        claims=claims(fixed, found, numbers),
        figures={"blocks": fixed, "search": found, "macs": block_macs()},
        full_scale="python scripts/reproduce.py paper=autonl classes=10 pairs=60000 epochs=60 trials=6",
    )


def claims(
    fixed: tuple[dict[str, dict[str, float]], ...], found: tuple[dict[str, Any], ...], numbers: Numbers
) -> tuple[Claim, ...]:
    """Return the claims for what each seed found."""
    macs = block_macs()
    return (
        Claim(
            statement="right answers in % without a block",
            margin=numbers.guessing,
            figures=tuple(one["no block"]["test"] for one in fixed),
            at_least=False,
        ),
        Claim(
            statement="right answers in % with light blocks",
            margin=numbers.seeing,
            figures=tuple(one["light"]["test"] for one in fixed),
        ),
        Claim(
            statement="right answers in % with light blocks over standard ones'",
            margin=numbers.near_standard,
            figures=tuple(one["light"]["test"] - one["standard"]["test"] for one in fixed),
        ),
        Claim(
            statement="MACs of a light block in the standard one's",
            margin=numbers.share,
            figures=(macs["light"] / macs["standard"],),
            at_least=False,
        ),
        Claim(
            statement="MACs of a light block with every fourth pixel in the standard one's",
            margin=numbers.sparse_share,
            figures=(macs["light, every fourth"] / macs["standard"],),
            at_least=False,
        ),
        Claim(
            statement="right answers in % of what is found over all blocks', at its budget",
            margin=numbers.near_all,
            figures=tuple(one["found"]["test"] - one["all blocks"]["test"] for one in found),
        ),
        Claim(
            statement="blocks on maps of 8x8 that are found",
            margin=numbers.kept,
            figures=tuple(float(sum(map(bool, one["found"]["architecture"][2:]))) for one in found),
        ),
    )


def block_macs() -> dict[str, int]:
    """Return the MACs of one block of each arm."""
    made = {arm: make(CHANNELS) for arm, make in BLOCKS.items()}
    return {arm: block.macs(SIDE, SIDE) for arm, block in made.items() if isinstance(block, NonLocal | LightNonLocal)}


def compare_blocks(
    arm: str, seed: int, folder: Path, *, classes: int, pairs: int, test_pairs: int, epochs: int
) -> dict[str, dict[str, float]]:
    """Train the chain with each arm's block in all places; return right answers in % ("test", "train")."""
    found = {}
    for name, make in BLOCKS.items():

        def block(place: int, plan: BlockPlan, make: Callable[[int], nn.Module | None] = make) -> nn.Module | None:
            return make(plan.outputs)

        network = FIXED.with_blocks(block)
        found[name] = trained(pair_subject(classes, pairs, test_pairs), network, epochs, seed)
    return found


def search_places(
    arm: str,
    seed: int,
    folder: Path,
    *,
    classes: int,
    pairs: int,
    test_pairs: int,
    epochs: int,
    trials: int,
    budget: float,
) -> dict[str, Any]:
    """Search for places, train what was found and the other arms."""
    subject, space = pair_subject(classes, pairs, test_pairs), SEARCHED
    macs = {one: space.cost(one)["macs"] for one in itertools.product(*(range(size) for size in space.sizes))}
    least, whole = min(macs.values()), max(macs, key=lambda one: macs[one])
    allowed = least + budget * (macs[whole] - least)
    # The search learns from half of the examples, so an epoch of it is half as long.
    config = AutoNLConfig(
        macs=allowed, trials=trials, space=space.light, search=learning(epochs, pairs // 2), seed=seed
    )
    method = AutoNL(config=config)
    method.folder = folder
    fitting = [one for one in macs if least < macs[one] <= allowed]
    random = fitting[int(np.random.default_rng(derive_seed(seed, "random arm")).integers(len(fitting)))]
    arms: dict[str, Architecture] = {
        "found": method.find(subject, space),
        "random": random,
        "largest that fits": max(fitting, key=lambda one: macs[one]),
        "all blocks": whole,
    }
    tests = {}
    for one in dict.fromkeys(arms.values()):
        tests[one] = trained(subject, space.build(one), epochs, seed)
    return {name: {"architecture": list(one), "macs": macs[one], **tests[one]} for name, one in arms.items()}


def trained(subject: Subject, network: nn.Module, epochs: int, seed: int) -> dict[str, float]:
    """Train a network from the start; return its right answers in %, "test" and, of what it learned from, "train"."""
    FIXED.draw(network, derive_seed(seed, "first weights"))
    one = replace(subject, module=network)
    teach(one, TeachConfig(fit=learning(epochs, len(subject.task.source("train"))), rounds=1), seed)
    learned = subject.task.source("train")
    again = ClassifierTask(learned, learned, num_classes=2)
    return {name: float(task.score(network, seed).mean()) for name, task in (("test", subject.task), ("train", again))}


def learning(epochs: int, examples: int) -> FitConfig:
    """Return how everything learns."""
    return FitConfig(
        steps=epochs * (examples // BATCH_SIZE),
        batch_size=BATCH_SIZE,
        optimizer=OptimizerConfig(learning_rate=3e-3),
        schedule=ScheduleConfig(kind="cosine"),
        clip_norm=5.0,
    )


def pair_subject(classes: int, pairs: int, test_pairs: int) -> Subject:
    """Return the task, with a network that is not used."""
    sources = {
        "train": glyph_pairs("train", pairs, 0, classes),
        "test": glyph_pairs("test", test_pairs, 1, classes),
    }
    task = ClassifierTask(sources["train"], sources["test"], num_classes=2)
    module = FIXED.with_blocks(lambda place, plan: None).eval()
    return Subject(module, sources["test"].tensors["input"][:1], task, Base("conv", {}))


def glyph_pairs(part: str, count: int, seed: int, classes: int) -> Arrays:
    """Return "input" (count, 1, 16, 16) in [0, 1] and "label": 1 where both are of one class, as often as not."""
    found = digits(part).tensors
    used = found["label"] < classes
    pictures, labels = found["picture"][used].float() / 255.0, found["label"][used]
    rng = np.random.default_rng(seed)
    first = rng.integers(len(labels), size=count)
    same = rng.permutation(np.arange(count) % 2)
    second = np.empty_like(first)
    of_class = [np.flatnonzero(labels.numpy() == number) for number in range(classes)]
    for place, (one, alike) in enumerate(zip(first, same, strict=True)):
        own = int(labels[one])
        other = own if alike else (own + 1 + int(rng.integers(classes - 1))) % classes
        second[place] = rng.choice(of_class[other])
    canvas: Tensor = torch.zeros(count, 1, SIDE, SIDE)
    canvas[:, :, :DIGIT, :DIGIT] = pictures[torch.from_numpy(first)]
    canvas[:, :, SIDE - DIGIT :, SIDE - DIGIT :] = pictures[torch.from_numpy(second)]
    return Arrays({"input": canvas, "label": torch.from_numpy(same).to(torch.int64)})
