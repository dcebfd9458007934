"""AtomNAS (arXiv:1912.09640), small: channels priced by their MACs leave while a network learns scikit-learn's digits.

One oversized network (four blocks, kernels 3 and 5 side by side, expansion 4 each) learns three times, with three
prices. Arms: prices by MACs (the method), equal prices at the same three, the same network made narrower by one factor
and trained from scratch to the MACs of each network that was found, and one network of random channel counts of the
middle one's MACs: every one of these costs one training. Beside them the whole network without a price. All are judged
on the test digits; nothing is chosen by them.

Claims: what was found is not worse than the narrowed network at any of the MACs, and better on average; it is as good
as equal prices at equal MACs (read off a line between the two nearest); and the last epoch takes less time than
the first, since the network shrinks. The bars are our own choices, set before the first run. The threshold is larger
than the paper's 1e-3 because a scale has a few hundred steps here to come to 0, each of which is larger than that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from envs.evaluation.search.atomnas import found_architecture, shrinking
from envs.evaluation.search.shrinking import ShrinkConfig, Shrinking
from envs.evaluation.search.space import Architecture
from envs.evaluation.search.spaces.chain import AtomSpace, ChainConfig
from envs.evaluation.subject import Subject
from rlsuite.errors import require
from rlsuite.experiment import Claim, Result
from rlsuite.experiment.jobs import Jobs
from rlsuite.fit import FitConfig
from rlsuite.optim.choice import OptimizerConfig, ScheduleConfig
from rlsuite.running.seeding import derive_seed
from scripts.experiments.cars import BATCH_SIZE, CLASSES, SIZE, digit_subject

SPACE = AtomSpace(ChainConfig(widths=(8, 8, 16, 16), stem=8), channels=1, size=SIZE, outputs=CLASSES)


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The experiment's numbers.

    Attributes:
        seeds: how many: 0, 1, ...
        digits: to learn from, of 1,438; 0 for all.
        epochs: of each training.
        prices: rho of each.
        threshold: scales below it are dead.
        worst_margin: percent of right digits over the narrowed network's, at each of the MACs, at least.
        mean_margin: on average, at least.
        equal_margin: over equal prices' at equal MACs, at least.
        speed: time of the last epoch in that of the first, at the highest price, at most.
    """

    seeds: int = 3
    digits: int = 0
    epochs: int = 12
    prices: tuple[float, ...] = (0.01, 0.02, 0.04)
    threshold: float = 0.01
    worst_margin: float = -0.3
    mean_margin: float = 0.0
    equal_margin: float = 0.0
    speed: float = 0.6

    def __post_init__(self) -> None:
        for name in ("seeds", "epochs"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require(
            self.digits == 0 or self.digits >= 2 * BATCH_SIZE, f"digits={self.digits}: use {2 * BATCH_SIZE} or more"
        )
        good = bool(self.prices) and min(self.prices) > 0 and list(self.prices) == sorted(self.prices)
        require(good, f"prices={list(self.prices)}: use rising ones above 0")


DEBUG = Numbers(seeds=1, digits=128, epochs=1, prices=(0.5,))


def run(numbers: Numbers, jobs: Jobs) -> Result:
    """Train all arms, and test the claims."""
    seeds = tuple(range(numbers.seeds))
    inputs = {name: getattr(numbers, name) for name in ("digits", "epochs", "prices", "threshold")}
    found = jobs.grid(shrink_digits, arms=("digits",), seeds=seeds, **inputs)["digits"]
    for seed, one in zip(seeds, found, strict=True):
        for arm, networks in one["arms"].items():
            each = ", ".join(f"{network['macs']:,.0f}: {network['test']:.2f}" for network in networks)
            print(f"seed {seed}, {arm}, MACs: right answers in %: {each}", flush=True)
        print(f"seed {seed}: last epoch's time in the first's {one['speed']:.2f}", flush=True)
    return Result(
        seeds=seeds,
        claims=claims(found, numbers),
        figures={"by seed": found},
        full_scale="python scripts/reproduce.py paper=atomnas epochs=350 prices=[1e-4,1.2e-4,1.8e-4] threshold=1e-3",
    )


def claims(found: tuple[dict[str, Any], ...], numbers: Numbers) -> tuple[Claim, ...]:
    """Return the claims for what each seed found."""
    over = [
        [own["test"] - other["test"] for own, other in zip(one["arms"]["macs"], one["arms"]["narrowed"], strict=True)]
        for one in found
    ]
    return (
        Claim(
            statement="right digits in % over a narrowed network's of equal MACs, the worst of the prices",
            margin=numbers.worst_margin,
            figures=tuple(min(each) for each in over),
        ),
        Claim(
            statement="right digits in % over a narrowed network's of equal MACs, mean of the prices",
            margin=numbers.mean_margin,
            figures=tuple(float(np.mean(each)) for each in over),
        ),
        Claim(
            statement="right digits in % over equal prices' at equal MACs",
            margin=numbers.equal_margin,
            figures=tuple(over_line(one["arms"]["macs"], one["arms"]["equal"]) for one in found),
        ),
        Claim(
            statement="time of the last epoch in the first's at the highest price",
            margin=numbers.speed,
            figures=tuple(one["speed"] for one in found),
            at_least=False,
        ),
    )


def over_line(own: list[dict[str, Any]], others: list[dict[str, Any]]) -> float:
    """Return the mean of how much networks lie above the line through others, over the logarithm of MACs."""
    line = sorted((np.log(other["macs"]), other["test"]) for other in others)
    at = np.log([network["macs"] for network in own])
    told = np.interp(at, [point[0] for point in line], [point[1] for point in line])
    return float(np.mean([network["test"] for network in own] - told))


def shrink_digits(
    arm: str, seed: int, folder: Path, *, digits: int, epochs: int, prices: tuple[float, ...], threshold: float
) -> dict[str, Any]:
    """Train every arm: "arms" (MACs, parameters, right digits) and "speed"."""
    subject = digit_subject(digits)
    steps = epochs * (len(subject.task.source("train")) // BATCH_SIZE)
    optimizer = OptimizerConfig(name="sgd", learning_rate=0.1, weight_decay=1e-4)
    fit = FitConfig(
        steps=steps, batch_size=BATCH_SIZE, optimizer=optimizer, schedule=ScheduleConfig(kind="cosine"), clip_norm=5.0
    )
    config = ShrinkConfig(threshold=threshold, fit=fit)
    arms: dict[str, list[dict[str, Any]]] = {"macs": [], "equal": [], "narrowed": []}
    speed = 1.0
    for rho in prices:
        for price in ("macs", "equal"):
            learning = shrinking(subject, SPACE, replace(config, rho=rho, price=price), seed)
            learning.run(folder / f"{price}-{rho:g}")
            arms[price].append(judged(subject, learning, seed))
            if price == "macs":
                speed = learning.epochs[-1]["seconds"] / learning.epochs[0]["seconds"]
    for network in arms["macs"]:
        narrow = narrowed(network["macs"])
        arms["narrowed"].append(trained(subject, narrow, config, seed, folder))
    middle = arms["macs"][len(prices) // 2]["macs"]
    chosen = random_counts(middle, np.random.default_rng(derive_seed(seed, "random arm")))
    arms["random"] = [trained(subject, chosen, config, seed, folder)]
    arms["whole"] = [trained(subject, SPACE.largest, config, seed, folder)]
    return {"arms": arms, "speed": speed}


def trained(
    subject: Subject, architecture: Architecture, config: ShrinkConfig, seed: int, folder: Path
) -> dict[str, Any]:
    """Train one architecture from scratch, as the method trains but without a price, and judge it."""
    network = SPACE.build(architecture)
    SPACE.draw(network, derive_seed(seed, "first weights"))
    fixed = replace(config, rho=0.0, threshold=0.0)
    learning = Shrinking(network, subject.task, fixed, seed=derive_seed(seed, "shrinking"))
    learning.run(folder / "-".join(map(str, architecture)))
    return judged(subject, learning, seed)


def judged(subject: Subject, learning: Shrinking, seed: int) -> dict[str, Any]:
    """Return what a training has come to."""
    architecture = found_architecture(SPACE, learning.module)
    test = float(subject.task.score(learning.module, seed).mean())
    return {"architecture": list(architecture), "test": test, **SPACE.cost(architecture)}


def narrowed(macs: float) -> Architecture:
    """Return the widest of the networks made narrower by one factor that has so many MACs at most, one channel left."""
    found = tuple(1 for _ in SPACE.largest)
    for share in np.linspace(0.0, 1.0, 257):
        one = tuple(max(1, round(share * count)) for count in SPACE.largest)
        if SPACE.cost(one)["macs"] <= macs * 1.005:
            found = one
    return found


def random_counts(macs: float, rng: np.random.Generator) -> Architecture:
    """Return random channel counts of about so many MACs: 5 % off at most, else the nearest of 2,000."""
    best: tuple[float, Architecture] | None = None
    for _ in range(2000):
        mean = rng.uniform(0.0, 1.0)
        shares = rng.uniform(max(0.0, 2.0 * mean - 1.0), min(1.0, 2.0 * mean), size=len(SPACE.largest))
        one = tuple(max(1, round(share * count)) for share, count in zip(shares, SPACE.largest, strict=True))
        off = abs(SPACE.cost(one)["macs"] / macs - 1.0)
        if best is None or off < best[0]:
            best = off, one
        if off <= 0.05:
            break
    assert best is not None
    return best[1]
