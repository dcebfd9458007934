"""PUGAN (arXiv:2002.01136), small: a discriminator that takes generated examples as unlabeled makes a better generator.

Dense generators make scikit-learn's digits, taught by discriminators to which generated digits are negative ("gan",
"lsgan") or unlabeled with a share pi of good ones ("pu_gan", "pu_lsgan": pi 0.3; "pu_rising": 0.3 to 0.6, as the paper
has it, a step every tenth of the run). What is made is judged by the Frechet distance to all digits in the features of
a classifier, at eight checkpoints. Then two-dimensional generators learn a ring of eight Gaussians against a
discriminator that learns five times as fast, and how many of the eight they cover is counted at each checkpoint; there
"pu_tenth" is the unlabeled loss with pi 0.1, and a spread is that of the modes over the last four checkpoints.

Claims, by means over seeds: with pi 0.3 the last distance is at most 0.75 of the plain loss's, and the mean of the last
three no larger; the ring's modes at the end are no fewer. What least squares, the rising share, pi 0.1 and
the spread bring is reported, not claimed. The bars were set before the first run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from rlsuite.data.arrays import Arrays
from rlsuite.data.digits import digits
from rlsuite.errors import require
from rlsuite.experiment import Claim, Result
from rlsuite.experiment.jobs import Jobs
from rlsuite.fit import FitConfig, fit
from rlsuite.generative.adversarial import AdversarialConfig
from rlsuite.generative.networks import GenerativeConfig
from rlsuite.generative.pair import ADAM, Pair, PairConfig
from rlsuite.metrics.frechet import frechet_distance
from rlsuite.nn.vision.conv_net import ConvNet, ConvNetConfig
from rlsuite.optim.choice import OptimizerConfig
from rlsuite.running.seeding import derive_seed

ARMS = ("gan", "pu_gan", "pu_rising", "lsgan", "pu_lsgan")
RING_ARMS = ("gan", "pu_gan", "pu_tenth")
LATE = 4  # checkpoints over which the ring's modes spread
MODES, RADIUS, SPREAD = 8, 2.0, 0.05


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The experiment's numbers.

    Attributes:
        seeds: how many: 0, 1, ...
        steps: minibatches of each generator of digits.
        batch_size: examples of a minibatch.
        ring_steps: minibatches of each generator of the ring.
        checkpoints: looks at what is made, evenly over each run, the last at its end.
        reader_steps: minibatches of the classifier whose features are compared.
        last_bar: the last distance with unlabeled digits over the one with negative ones, at most.
        late_bar: the same of the mean over the last three checkpoints, at most.
        ring_bar: modes covered at the end with unlabeled points, less those with negative ones, at least.
    """

    seeds: int = 3
    steps: int = 4000
    batch_size: int = 64
    ring_steps: int = 4000
    checkpoints: int = 8
    reader_steps: int = 400
    last_bar: float = 0.75
    late_bar: float = 1.0
    ring_bar: float = 0.0

    def __post_init__(self) -> None:
        for name in ("seeds", "steps", "ring_steps", "reader_steps"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require(self.batch_size >= 2, f"batch_size={self.batch_size}: use 2 or more, for BatchNorm")
        fewest = min(self.steps, self.ring_steps)
        require(3 <= self.checkpoints <= fewest, f"checkpoints={self.checkpoints}: use 3 to {fewest}")


DEBUG = Numbers(seeds=1, steps=6, ring_steps=6, checkpoints=3, reader_steps=4)


def run(numbers: Numbers, jobs: Jobs) -> Result:
    """Teach generators of digits and of the ring, judge what they make, and test the claims."""
    seeds = tuple(range(numbers.seeds))
    shared: dict[str, Any] = {"batch_size": numbers.batch_size, "checkpoints": numbers.checkpoints}
    distances = jobs.grid(
        make_digits, arms=ARMS, seeds=seeds, steps=numbers.steps, reader_steps=numbers.reader_steps, **shared
    )
    ring = jobs.grid(make_ring, arms=RING_ARMS, seeds=seeds, steps=numbers.ring_steps, **shared)
    spreads = {arm: [spread(row["modes"]) for row in rows] for arm, rows in ring.items()}
    for arm, rows in distances.items():
        for seed, row in zip(seeds, rows, strict=True):
            print(f"{arm:9} seed {seed}: {', '.join(f'{value:.1f}' for value in row['distance'])}", flush=True)
    for arm, rows in ring.items():
        print(f"ring {arm:8} modes at the end: {[row['modes'][-1] for row in rows]}, spread {spreads[arm]}", flush=True)
    return Result(
        seeds=seeds,
        claims=claims(
            {arm: [row["distance"] for row in rows] for arm, rows in distances.items()},
            {arm: [row["modes"] for row in rows] for arm, rows in ring.items()},
            numbers,
        ),
        figures={"digits": distances, "ring": ring, "ring_spread": spreads},
        full_scale="python scripts/reproduce.py paper=pugan seeds=10 steps=100000 ring_steps=100000",
    )


def claims(
    distances: Mapping[str, list[list[float]]], modes: Mapping[str, list[list[float]]], numbers: Numbers
) -> tuple[Claim, ...]:
    """Return the claims for distances and covered modes: arm -> for each seed, one number a checkpoint."""
    last = {arm: mean([row[-1] for row in rows]) for arm, rows in distances.items()}
    late = {arm: mean([mean(row[-3:]) for row in rows]) for arm, rows in distances.items()}
    ends = {arm: mean([row[-1] for row in rows]) for arm, rows in modes.items()}
    return (
        Claim(
            statement="last Frechet distance with unlabeled digits over that with negative ones",
            margin=numbers.last_bar,
            figures=(last["pu_gan"] / last["gan"],),
            at_least=False,
        ),
        Claim(
            statement="the same, mean of the last three checkpoints",
            margin=numbers.late_bar,
            figures=(late["pu_gan"] / late["gan"],),
            at_least=False,
        ),
        Claim(
            statement="the ring's modes covered with unlabeled points, less those with negative ones",
            margin=numbers.ring_bar,
            figures=(ends["pu_gan"] - ends["gan"],),
        ),
    )


def mean(values: list[float]) -> float:
    """Return the mean of some numbers."""
    return math.fsum(values) / len(values)


def spread(modes: list[float]) -> float:
    """Return the standard deviation of the modes covered over the last checkpoints."""
    late = modes[-LATE:]
    return math.sqrt(mean([(one - mean(late)) ** 2 for one in late]))


def losses(arm: str, steps: int) -> AdversarialConfig:
    """Return an arm's losses for a run of so many steps."""
    if arm == "pu_rising":
        return AdversarialConfig(kind="pu_gan", rise="slow", rise_every=max(1, steps // 10))
    if arm == "pu_tenth":
        return AdversarialConfig(kind="pu_gan", prior=0.1, rise="fixed")
    return AdversarialConfig(kind=arm, rise="fixed")


def make_digits(
    arm: str, seed: int, folder: Path, steps: int, batch_size: int, checkpoints: int, reader_steps: int
) -> dict[str, list[float]]:
    """Return "distance" of what a generator makes at each checkpoint, and how often the bracket was "clamped"."""
    pictures = torch.cat([digits(part).tensors["picture"] for part in ("train", "test")])
    labels = torch.cat([digits(part).tensors["label"] for part in ("train", "test")])
    reader = ConvNet(1, 8, 10, ConvNetConfig(widths=(16, 32), strides=(1, 2), hidden=32), 0)
    fit(
        reader,
        lambda module, batch: {"loss": cross_entropy(module(batch["picture"]), batch["label"])},
        Arrays({"picture": pictures, "label": labels}),
        FitConfig(steps=reader_steps, batch_size=batch_size),
        seed=0,
    )
    reader.eval()
    networks = GenerativeConfig(kind="dense", latent=16)
    pair = Pair((1, 8, 8), PairConfig(networks=networks, losses=losses(arm, steps)), derive_seed(seed, "weights"))

    @torch.no_grad()
    def distance(made: Tensor) -> float:
        return float(frechet_distance(reader.features(made / 2 + 0.5), reader.features(pictures)))

    return _teach(pair, pictures / 127.5 - 1, distance, len(pictures), seed, steps, batch_size, checkpoints, "distance")


def make_ring(
    arm: str, seed: int, folder: Path, steps: int, batch_size: int, checkpoints: int
) -> dict[str, list[float]]:
    """Return the "modes" covered at each checkpoint, and how often the bracket was "clamped"."""
    stream = torch.Generator().manual_seed(derive_seed(seed, "ring"))
    centres = _centres()
    points = centres[torch.randint(MODES, (8192,), generator=stream)]
    points = points + SPREAD * torch.randn(points.shape, generator=stream)
    networks = GenerativeConfig(
        kind="dense", latent=16, width=128, discriminator_width=128, batch_norm=False, squash="none"
    )
    faster = OptimizerConfig(learning_rate=5 * ADAM.learning_rate, beta1=ADAM.beta1)
    pair = Pair(
        (2,),
        PairConfig(networks=networks, losses=losses(arm, steps), discriminator=faster),
        derive_seed(seed, "weights"),
    )
    return _teach(pair, points, covered, 2000, seed, steps, batch_size, checkpoints, "modes")


def covered(points: Tensor) -> float:
    """Return how many of the ring's Gaussians have at least a hundredth of points (M, 2) within three deviations."""
    near = torch.cdist(points, _centres()) <= 3 * SPREAD
    return float((near.sum(dim=0) >= len(points) / 100).sum())


def _centres() -> Tensor:
    angles = torch.arange(MODES) * (2 * math.pi / MODES)
    return RADIUS * torch.stack((angles.cos(), angles.sin()), dim=1)


def _teach(
    pair: Pair,
    examples: Tensor,
    judge: Callable[[Tensor], float],
    count: int,
    seed: int,
    steps: int,
    batch_size: int,
    checkpoints: int,
    name: str,
) -> dict[str, list[float]]:
    """Teach a pair, and judge `count` made examples at each checkpoint."""
    looks = {round(steps * (place + 1) / checkpoints) for place in range(checkpoints)}
    found: list[float] = []

    def look(step: int, share: float) -> None:
        if step in looks:
            made = pair.sample(count, torch.Generator().manual_seed(derive_seed(seed, f"look {step}")))
            found.append(judge(made))

    history = fit(
        pair,
        pair.turns(),
        Arrays({"input": examples}),
        FitConfig(steps=steps, batch_size=batch_size),
        seed=derive_seed(seed, "taught"),
        hooks=(look,),
    )
    return {name: found, "clamped": [record.get("discriminator/clamped", 0.0) for record in history.records]}
