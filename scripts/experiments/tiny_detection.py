"""Tiny objects (arXiv:2009.07506), small: fine levels find them, and what learned at their scale learns them faster.

Frames of 320x256 hold 5 to 30 discs, bars and triangles of 3 to 20 pixels, all one class, among things of other kinds.
A small dense detector learns from tiles of 176x144, and is judged on whole frames, its tiles' detections merged, by the
challenge's protocol: AP50 in bins of sizes, what is hidden ignored. Two questions:
  - levels: the same network with its head at cells of 4 pixels ("stride4") and of 8 ("stride8");
  - matching: pictures of larger objects (10 to 60 pixels) are learned from first, as they are ("plain"), resized to the
    sizes of the frames' objects by Scale Match ("sm") or its monotone form ("msm"), or not at all ("none"); then all
    learn from few minibatches of tiles.

Claims: stride 4 is 10 points of AP50 on tiny objects above stride 8; pictures resized by Scale Match are worth 2 points
more than plain ones; and the smaller the objects, the less is found, in the challenge's bins. The bars are our own
choices, set before the first run; in the challenge, coarse levels cost 13 points (33.5 for a RetinaNet as it comes,
46.6 for one with a finer level), and Scale Match's pictures are worth 1.6 (49.76 and 51.33).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from envs.perception.detection.dense import DetectorConfig, KeepConfig
from envs.perception.detection.detector import Dense, DetectorPerceiverConfig
from envs.perception.detection.iff import IFFConfig
from envs.perception.detection.scale_match import MonotoneScaleMatch, ScaleMatch, ScaleMatched
from envs.perception.detection.scenes import SceneConfig, Scenes
from envs.perception.detection.tiles import Tiled, detect_tiles
from rlsuite.data.arrays import Arrays, in_memory, kept
from rlsuite.data.source import Source
from rlsuite.errors import require
from rlsuite.experiment import Claim, Result
from rlsuite.experiment.jobs import Jobs
from rlsuite.fit import FitConfig, fit
from rlsuite.metrics.boxes import area
from rlsuite.metrics.detection import SIZES, TINY, Found, Objects, judge, miss_rate
from rlsuite.optim.choice import OptimizerConfig, ScheduleConfig
from rlsuite.running.seeding import derive_seed

FAR = SceneConfig(height=256, width=320, fewest=5, most=30, smallest=3.0, largest=20.0, clutter=10)
NEAR = SceneConfig(height=128, width=160, fewest=1, most=6, smallest=10.0, largest=60.0, clutter=4)
TILE, OVERLAP = (176, 144), (32, 32)
LEVELS = {"stride4": 4, "stride8": 8}
FIRST = ("none", "plain", "sm", "msm")
BINS = ("tiny", "tiny1", "tiny2", "tiny3")
KEEP = KeepConfig(score=0.05, before=300, most=200)
LEARNS = ("train", "test", "batch_size", "learning_rate")


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The experiment's numbers.

    Attributes:
        seeds: how many: 0, 1, ...
        train: frames learned from, four tiles each.
        test: frames judged on.
        near: pictures of larger objects.
        steps: minibatches of tiles, where levels are compared.
        first_steps: minibatches of larger objects' pictures.
        last_steps: minibatches of tiles after them.
        batch_size: pictures of a minibatch.
        learning_rate: Adam's, falling along half a cosine.
        level_bar: points of AP50 on tiny objects, stride 4 minus stride 8, on the mean, at least.
        match_bar: points of it, Scale Match minus plain, on the mean, at least.
        order_bar: points of AP50 between a bin and the next smaller one, the least of both, on the mean, at least.
    """

    seeds: int = 3
    train: int = 80
    test: int = 40
    near: int = 250
    steps: int = 400
    first_steps: int = 200
    last_steps: int = 100
    batch_size: int = 6
    learning_rate: float = 2e-3
    level_bar: float = 10.0
    match_bar: float = 2.0
    order_bar: float = 0.0

    def __post_init__(self) -> None:
        for name in ("seeds", "train", "test", "near", "steps", "first_steps", "last_steps", "batch_size"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")


DEBUG = Numbers(seeds=1, train=2, test=2, near=4, steps=1, first_steps=1, last_steps=1, batch_size=2)


def run(numbers: Numbers, jobs: Jobs) -> Result:
    """Learn, judge, and test the claims."""
    seeds, inputs = tuple(range(numbers.seeds)), {name: getattr(numbers, name) for name in LEARNS}
    levels = jobs.grid(learn_levels, arms=("levels",), seeds=seeds, steps=numbers.steps, **inputs)["levels"]
    own = {name: getattr(numbers, name) for name in ("near", "first_steps", "last_steps")}
    matched = jobs.grid(learn_matched, arms=("matching",), seeds=seeds, **own, **inputs)["matching"]
    found = {arm: tuple(one[arm] for one in levels) for arm in LEVELS}
    found |= {arm: tuple(one[arm] for one in matched) for arm in FIRST}
    for arm, each in found.items():
        shown = "; ".join(", ".join(f"{one['AP50'][size]:.1f}" for size in BINS) for one in each)
        print(f"{arm:8} AP50 of {', '.join(BINS)}, by seed: {shown}", flush=True)
    return Result(
        seeds=seeds,
        claims=claims(found, numbers),
        figures={arm: list(each) for arm, each in found.items()},
        full_scale="python scripts/reproduce.py paper=tiny_detection seeds=10 train=794 test=816 steps=19000",
    )


def claims(found: Mapping[str, tuple[dict[str, Any], ...]], numbers: Numbers) -> tuple[Claim, ...]:
    """Return the claims for each arm's figures by seed."""

    def more(arm: str, other: str) -> tuple[float, ...]:
        pairs = zip(found[arm], found[other], strict=True)
        return tuple(one["AP50"]["tiny"] - two["AP50"]["tiny"] for one, two in pairs)

    def rises(one: Mapping[str, float]) -> float:
        return min(one["tiny2"] - one["tiny1"], one["tiny3"] - one["tiny2"])

    return (
        Claim(
            statement="points of AP50 on tiny objects, cells of 4 pixels minus cells of 8",
            margin=numbers.level_bar,
            figures=more("stride4", "stride8"),
        ),
        Claim(
            statement="points of AP50 on tiny objects, pictures resized by Scale Match minus plain ones first",
            margin=numbers.match_bar,
            figures=more("sm", "plain"),
        ),
        Claim(
            statement="points of AP50 from one bin of sizes to the next larger one, the least",
            margin=numbers.order_bar,
            figures=tuple(rises(one["AP50"]) for one in found["stride4"]),
        ),
    )


def learn_levels(
    arm: str, seed: int, folder: Path, *, steps: int, train: int, test: int, batch_size: int, learning_rate: float
) -> dict[str, Any]:
    """Return, for each of LEVELS, figures of a detector with cells of that size; see Numbers."""
    cut, tested, found = in_memory(Tiled(frames("train", train, seed), TILE, OVERLAP)), frames("test", test, seed), {}
    for name, stride in LEVELS.items():
        detector = make(stride, seed)
        learn(detector, cut, steps, batch_size, learning_rate, seed)
        found[name] = figures(detector, tested)
    return found


def learn_matched(
    arm: str,
    seed: int,
    folder: Path,
    *,
    near: int,
    first_steps: int,
    last_steps: int,
    train: int,
    test: int,
    batch_size: int,
    learning_rate: float,
) -> dict[str, Any]:
    """Return, for each of FIRST, figures of a detector that learned from larger objects first; see Numbers."""
    far, large = frames("train", train, seed), one_class(kept(Scenes(NEAR, seed=derive_seed(seed, "near")), near))
    cut, tested, target, found = in_memory(Tiled(far, TILE, OVERLAP)), frames("test", test, seed), sizes(far), {}
    matches = {"sm": ScaleMatch(target), "msm": MonotoneScaleMatch(sizes(large), target)}
    for name in FIRST:
        detector = make(4, seed)
        source: Source = large
        if name in matches:
            source = ScaleMatched(large, matches[name], derive_seed(seed, "scales"))
        if name != "none":
            learn(detector, source, first_steps, batch_size, learning_rate, derive_seed(seed, "first"))
        learn(detector, cut, last_steps, batch_size, learning_rate, seed)
        found[name] = figures(detector, tested)
    return found


def make(stride: int, seed: int) -> Dense:
    """Return a detector with cells of so many pixels, its weights as they are drawn."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    network = DetectorConfig(
        classes=1, widths=(16, 24, 24), strides=(stride,), channels=24, feedback=IFFConfig(iterations=0)
    )
    return Dense(config=DetectorPerceiverConfig(network=network, keep=KEEP), seed=derive_seed(seed, "weights"))


def learn(detector: Dense, source: Source, steps: int, batch_size: int, learning_rate: float, seed: int) -> None:
    """Fit a detector."""
    config = FitConfig(
        steps=steps,
        batch_size=batch_size,
        order="random",
        optimizer=OptimizerConfig(learning_rate=learning_rate),
        schedule=ScheduleConfig(kind="cosine", warmup=20, final=0.01),
        clip_norm=10.0,
    )
    fit(detector, lambda _, batch: detector.losses(batch), source, config, seed=seed)
    detector.eval()


def frames(part: str, count: int, seed: int) -> Arrays:
    """Return frames of tiny objects."""
    return one_class(kept(Scenes(FAR, seed=derive_seed(seed, part)), count))


def one_class(pictures: Arrays) -> Arrays:
    """Return pictures whose objects are all of class 0."""
    return Arrays(pictures.tensors | {"classes": pictures.tensors["classes"].clamp_max(0)})


def sizes(pictures: Arrays) -> Tensor:
    """Return the sizes (n,) of objects that are to be found."""
    there = (pictures.tensors["classes"] >= 0) & ~pictures.tensors["ignored"]
    return area(pictures.tensors["boxes"][there]).sqrt()


@torch.no_grad()
def figures(detector: Dense, tested: Arrays) -> dict[str, Any]:
    """Return "AP50", "AP25", "AP75" and "MR50" in points by bin of sizes, and "whole", AP50 without tiles."""

    def detect(pictures: Tensor) -> list[Found]:
        return detector.detect(pictures).found()

    merged = [detect_tiles(detect, one, TILE, OVERLAP, most=TINY.most) for one in tested.tensors["picture"]]
    rows = zip(*(tested.tensors[name] for name in ("boxes", "classes", "ignored")), strict=True)
    there = [Objects(boxes[name >= 0], name[name >= 0], ignored[name >= 0]) for boxes, name, ignored in rows]
    judged = judge(merged, there, TINY)
    found: dict[str, Any] = {
        f"AP{round(100 * iou)}": {size: 100.0 * judged.precision(size, iou) for size in BINS} for iou in TINY.ious
    }
    whole = [detect(one[None])[0] for one in tested.tensors["picture"]]
    return found | {
        "MR50": {size: 100.0 * miss_rate(merged, there, *SIZES[size]) for size in BINS},
        "whole": {size: 100.0 * judge(whole, there, TINY).precision(size, 0.5) for size in BINS},
    }
