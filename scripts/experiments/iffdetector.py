"""iffDetector (arXiv:2006.12708), small: a detector whose own predictions clean its features finds more.

Self-made scenes of 96x96: up to six reddish discs, greenish bars and bluish triangles on textured ground, among rings,
crosses and stripes of any colour. A small backbone and FoveaBox's head at stride 8 learn from 500 pictures and their
mirror images, and are judged on 300 others. Four arms learn equally long:
  - plain: the head alone;
  - feedback: the head looks again at features into which its predictions came back (IFF as in FoveaBox);
  - features: a control that runs the same layers as often, but what comes back is, before the last layer, no
    prediction, as many channels of it through as many weights;
  - deeper: a plain head with towers twice as deep, which costs what looking twice costs.

Claims: feedback finds a point of AP50 more than plain and loses at most 0.3 to either control, and after training it
takes away from the background: the mean size of features there, over what it was before the feedback, is below 1. Where
a control does as well, the gain is computation's and not feedback's. The bars are our own choices, set before the first
run; the official code reports 37.6 AP on COCO for FoveaBox with feedback, which has about 36.6 without.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from envs.evaluation.probes import count_macs, count_parameters
from envs.perception.detection.dense import DetectorConfig
from envs.perception.detection.detector import Dense, DetectorPerceiverConfig
from envs.perception.detection.iff import IFFConfig
from envs.perception.detection.scenes import Mirrored, SceneConfig, Scenes
from rlsuite.data.arrays import Arrays, kept
from rlsuite.errors import require
from rlsuite.experiment import Claim, Result
from rlsuite.experiment.jobs import Jobs
from rlsuite.fit import FitConfig, fit
from rlsuite.metrics.detection import COCO, Found, Judged, Objects, judge
from rlsuite.optim.choice import OptimizerConfig, ScheduleConfig
from rlsuite.running.seeding import derive_seed

NONE = IFFConfig(iterations=0)
ARMS = {
    "plain": DetectorConfig(feedback=NONE),
    "feedback": DetectorConfig(feedback=IFFConfig()),
    "features": DetectorConfig(feedback=IFFConfig(source="features")),
    "deeper": DetectorConfig(feedback=NONE, tower=4),
}
LEARNS = ("train", "test", "epochs", "batch_size", "learning_rate")
AT_ONCE = 50


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The experiment's numbers.

    Attributes:
        seeds: how many: 0, 1, ...
        train: pictures learned from.
        test: pictures judged on.
        epochs: of all arms; each picture is seen once in one, as it is or mirrored.
        batch_size: pictures of a minibatch.
        learning_rate: Adam's, falling along half a cosine.
        gain_bar: points of AP50, feedback minus plain, on the mean, at least.
        control_bar: points of AP50, feedback minus each control, on the mean, at least.
        background_bar: mean size of background features after feedback over before, at most.
    """

    seeds: int = 3
    train: int = 500
    test: int = 300
    epochs: int = 14
    batch_size: int = 8
    learning_rate: float = 2e-3
    gain_bar: float = 1.0
    control_bar: float = -0.3
    background_bar: float = 1.0

    def __post_init__(self) -> None:
        for name in ("seeds", "train", "test", "epochs", "batch_size"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")


DEBUG = Numbers(seeds=1, train=8, test=4, epochs=1, batch_size=4)


def run(numbers: Numbers, jobs: Jobs) -> Result:
    """Learn, judge, and test the claims."""
    seeds = tuple(range(numbers.seeds))
    found = jobs.grid(learn, arms=ARMS, seeds=seeds, **{name: getattr(numbers, name) for name in LEARNS})
    for arm, each in found.items():
        points = ", ".join(f"{one['AP50']:.1f} ({one['AP']:.1f})" for one in each)
        print(f"{arm:9} AP50 (AP): {points}; {each[0]['macs'] / 1e6:.1f} million MACs", flush=True)
    return Result(
        seeds=seeds,
        claims=claims(found, numbers),
        figures={arm: list(each) for arm, each in found.items()},
        full_scale="python scripts/reproduce.py paper=iffdetector seeds=10 train=20000 test=2000 epochs=12",
    )


def claims(found: Mapping[str, tuple[dict[str, Any], ...]], numbers: Numbers) -> tuple[Claim, ...]:
    """Return the claims for each arm's figures by seed."""

    def more(arm: str) -> tuple[float, ...]:
        return tuple(one["AP50"] - other["AP50"] for one, other in zip(found["feedback"], found[arm], strict=True))

    return (
        Claim(
            statement="points of AP50, predictions fed back minus a plain head",
            margin=numbers.gain_bar,
            figures=more("plain"),
        ),
        Claim(
            statement="points of AP50, predictions fed back minus features fed back",
            margin=numbers.control_bar,
            figures=more("features"),
        ),
        Claim(
            statement="points of AP50, predictions fed back minus a deeper head of as many MACs",
            margin=numbers.control_bar,
            figures=more("deeper"),
        ),
        Claim(
            statement="mean size of background features after the feedback over before",
            margin=numbers.background_bar,
            figures=tuple(one["diagnosis"]["background"] for one in found["feedback"]),
            at_least=False,
        ),
    )


def learn(
    arm: str,
    seed: int,
    folder: Path,
    *,
    train: int,
    test: int,
    epochs: int,
    batch_size: int,
    learning_rate: float,
) -> dict[str, Any]:
    """Return "AP50" and "AP" in points, "macs", "parameters", the last "loss" and, with feedback, "diagnosis".

    Args:
        arm: one of ARMS.
        seed: of scenes, first weights and minibatches, the same for every arm.
        folder: unused.
        train: see Numbers; likewise those that follow.
        test: see there.
        epochs: see there.
        batch_size: see there.
        learning_rate: see there.
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    config = DetectorPerceiverConfig(network=ARMS[arm])
    detector = Dense(config=config, seed=derive_seed(seed, "weights"))
    pictures, tested = (
        kept(Scenes(SceneConfig(), seed=derive_seed(seed, part)), count)
        for part, count in (("train", train), ("test", test))
    )
    history = fit(
        detector,
        lambda _, batch: detector.losses(batch),
        Mirrored(pictures),
        FitConfig(
            steps=epochs * max(1, train // batch_size),
            batch_size=min(batch_size, train),
            optimizer=OptimizerConfig(learning_rate=learning_rate),
            schedule=ScheduleConfig(kind="cosine", warmup=20, final=0.01),
            clip_norm=10.0,
        ),
        seed=seed,
    )
    detector.eval()
    judged = judge_pictures(detector, tested)
    example = tested.tensors["picture"][:1]
    return {
        "AP50": 100.0 * judged.precision(iou=0.5),
        "AP": 100.0 * judged.precision(),
        "macs": count_macs(detector.network, example),
        "parameters": count_parameters(detector.network),
        "loss": history.records[-1]["loss"],
        "diagnosis": diagnosis(detector, tested) if arm in ("feedback", "features") else {},
    }


def judge_pictures(detector: Dense, tested: Arrays) -> Judged:
    """Return how well a detector finds the objects of pictures, by COCO's protocol."""
    found: list[Found] = []
    with torch.no_grad():
        for index in torch.arange(len(tested)).split(AT_ONCE):
            found += detector.detect(tested.tensors["picture"][index]).found()
    return judge(found, objects_of(tested), COCO)


def objects_of(tested: Arrays) -> list[Objects]:
    """Return pictures' objects as metrics want them."""
    rows = zip(*(tested.tensors[name] for name in ("boxes", "classes", "ignored")), strict=True)
    return [Objects(boxes[name >= 0], name[name >= 0], ignored[name >= 0]) for boxes, name, ignored in rows]


@torch.no_grad()
def diagnosis(detector: Dense, tested: Arrays) -> dict[str, Any]:
    """Return `IFF.diagnose`'s figures over tested pictures, spectra as lists."""
    network, pictures = detector.network, tested.tensors["picture"]
    (features,) = network.levels(pictures)
    cells = network.cells((pictures.shape[2], pictures.shape[3]))
    found = network.head.diagnose(features, in_boxes(cells.middles, tested).view(-1, *features.shape[2:]))
    return {name: value.tolist() for name, value in found.items()}


def in_boxes(middles: Tensor, tested: Arrays) -> Tensor:
    """Return which cells (B, P) bool have their middle in a box."""
    boxes = tested.tensors["boxes"].unsqueeze(2)
    inside = (middles >= boxes[..., :2]) & (middles <= boxes[..., 2:])
    return (inside.all(-1) & (tested.tensors["classes"] >= 0).unsqueeze(-1)).any(1)
