"""CompFeat (arXiv:2012.03400), small: do frames that went by tell what a spoiled one hides, and a map who is who?

Clips of four digits that move across one another in 48 x 48 pixels; two frames in five are blurred, noisy and behind
bars. Boxes are given, as a detector errs. Four arms learn from the same minibatches: single frames, attention of frames
to the two before ("frame"), of objects besides ("objects"), and with the correlation map ("map"). Judged on clips of
digits that none has seen: right classes in spoiled frames, and how often an object's identity changes or is lost to
another detection that claims it. In how many frames objects are without one is reported besides.

Claims, of means over the seeds: with attention of frames and objects 5 points more of the spoiled digits are right
than without; with the map identities change, or are lost, no more often than without; and none takes twice the time of
single frames. The bars were set before the first run and are not the paper's, whose figures are of YouTube-VIS 2019
(35.3 AP; its base tracker 30.3).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from envs.perception.segmentation.compfeat import CompFeat, CompFeatConfig
from envs.perception.segmentation.digit_clips import DigitClips
from envs.perception.segmentation.network import CompFeatNetConfig
from rlsuite.errors import require
from rlsuite.experiment import Claim, Result
from rlsuite.experiment.jobs import Jobs
from rlsuite.fit import FitConfig, fit
from rlsuite.metrics.tracks import identity_switches
from rlsuite.optim.choice import OptimizerConfig, ScheduleConfig
from rlsuite.running.seeding import derive_seed

SIZE = 48
ARMS: dict[str, dict[str, bool]] = {
    "single": {"frame": False, "objects": False, "map": False},
    "frame": {"frame": True, "objects": False, "map": False},
    "objects": {"frame": True, "objects": True, "map": False},
    "map": {"frame": True, "objects": True, "map": True},
}
LEARNS = ("steps", "batch_size", "learning_rate", "examples", "channels", "tested")


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The experiment's numbers.

    Attributes:
        seeds: how many: 0, 1, ...
        steps: minibatches that each arm learns from.
        batch_size: clips of each, two frames of each.
        learning_rate: the largest.
        examples: clips to learn from.
        channels: of the networks.
        tested: clips to be judged by, in each seed others.
        class_bar: points of right digits in spoiled frames, "objects" minus "single", at least.
        switch_bar: changes and losses of identity an object and clip, "map" minus "objects", at most.
        time_bar: time of a frame over that of "single", the slowest arm's, at most.
    """

    seeds: int = 3
    steps: int = 500
    batch_size: int = 16
    learning_rate: float = 1e-3
    examples: int = 3000
    channels: int = 32
    tested: int = 64
    class_bar: float = 5.0
    switch_bar: float = 0.0
    time_bar: float = 2.0

    def __post_init__(self) -> None:
        for name in ("seeds", "steps", "batch_size", "examples", "channels", "tested"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")


DEBUG = Numbers(seeds=1, steps=2, batch_size=2, examples=4, channels=8, tested=2)


def run(numbers: Numbers, jobs: Jobs) -> Result:
    """Learn, judge, and test the claims."""
    seeds = tuple(range(numbers.seeds))
    found = jobs.grid(learn, arms=tuple(ARMS), seeds=seeds, **{name: getattr(numbers, name) for name in LEARNS})
    keys = ("spoiled", "clear", "switches", "losses", "without", "milliseconds")
    figures = {key: {arm: tuple(one[key] for one in found[arm]) for arm in ARMS} for key in keys}
    for arm in ARMS:
        print(f"{arm:8}", ", ".join(f"{key} {np.mean(figures[key][arm]):.3g}" for key in keys), flush=True)
    return Result(
        seeds=seeds,
        claims=claims(figures, numbers),
        figures=figures,
        full_scale="python scripts/reproduce.py paper=compfeat seeds=10 steps=5000 channels=64 tested=500",
    )


def claims(figures: Mapping[str, Mapping[str, tuple[float, ...]]], numbers: Numbers) -> tuple[Claim, ...]:
    """Return the claims for figures by key, arm and seed."""

    def pairs(key: str, one: str, other: str) -> list[tuple[float, float]]:
        return list(zip(figures[key][one], figures[key][other], strict=True))

    times = {arm: float(np.mean(figures["milliseconds"][arm])) for arm in ARMS}
    return (
        Claim(
            statement="right digits in spoiled frames in %, with attention of frames and objects minus single frames",
            margin=numbers.class_bar,
            figures=tuple(own - other for own, other in pairs("spoiled", "objects", "single")),
        ),
        Claim(
            statement="changes and losses of identity an object and clip, with the correlation map minus without",
            margin=numbers.switch_bar,
            figures=tuple(
                (own + lost) - (other + other_lost)
                for (own, other), (lost, other_lost) in zip(
                    pairs("switches", "map", "objects"), pairs("losses", "map", "objects"), strict=True
                )
            ),
            at_least=False,
        ),
        Claim(
            statement="time of a frame over that of single frames, the slowest arm",
            margin=numbers.time_bar,
            figures=(max(times.values()) / times["single"],),
            at_least=False,
        ),
    )


def learn(
    arm: str,
    seed: int,
    folder: Path,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    examples: int,
    channels: int,
    tested: int,
) -> dict[str, float]:
    """Return right digits in "spoiled" and "clear" frames in %, what `identity_figures` does, and "milliseconds"."""
    torch.set_num_threads(1)
    network = CompFeatNetConfig(channels=channels, attention=channels, **ARMS[arm])
    config = CompFeatConfig(network=network, detection=0.0, masks=0.0, objects=8)
    perceiver = CompFeat(config=config, seed=derive_seed(seed, "weights"))
    clips = DigitClips("train", SIZE, examples, seed=derive_seed(seed, "clips"))
    learning = FitConfig(
        steps=steps,
        batch_size=batch_size,
        optimizer=OptimizerConfig(learning_rate=learning_rate),
        schedule=ScheduleConfig(kind="cosine"),
        clip_norm=5.0,
    )
    fit(perceiver, lambda _, batch: perceiver.losses(batch), clips, learning, seed=derive_seed(seed, "fit"))
    return judged(perceiver.eval(), DigitClips("test", SIZE, tested, seed=derive_seed(seed, "tested")))


@torch.no_grad()
def judged(perceiver: CompFeat, clips: DigitClips) -> dict[str, float]:
    """Follow the digits of clips from their given boxes; see `learn`. A clip's first frame is not judged by classes."""
    batch = clips.examples(torch.arange(len(clips)))
    count, times = batch["boxes"].shape[0], batch["boxes"].shape[1]
    state = perceiver.init_state(count, (clips.size, clips.size))
    right, identities, spent = [], [], 0.0
    for step in range(times):
        begun = time.process_time()
        frame, support, valid = perceiver.look(batch["frames"][:, step], state)
        boxes = batch["given"][:, step]
        objects = perceiver.network.objects(frame, boxes, support, valid)
        chance, labels = perceiver.network.told(objects)[0].softmax(dim=2).max(dim=2)
        present = torch.ones_like(labels, dtype=torch.bool)
        after, slots = perceiver.identify(frame, objects, boxes, labels, chance, present, state)
        state = {**state, **after}
        spent += time.process_time() - begun
        right.append(labels == batch["labels"])
        identities.append(torch.where(slots >= 0, state["identities"].gather(1, slots.clamp_min(0)), -1))
    seen, spoiled = torch.stack(right, dim=1)[:, 1:].float(), batch["spoiled"][:, 1:]
    told = torch.stack(identities, dim=2).flatten(0, 1)  # (clips digits, T)
    return {
        "spoiled": 100.0 * _mean(seen[spoiled]),
        "clear": 100.0 * _mean(seen[~spoiled]),
        **identity_figures(told),
        "milliseconds": 1000.0 * spent / (count * times),
    }


def identity_figures(told: Tensor) -> dict[str, float]:
    """Return how objects kept their identities (N, T) int64, negative in frames in which they had none.

    Returns:
        "switches" from one identity to another, frames without left out, and "losses", begins of such frames behind one
        with an identity, each an object; and the share of objects and frames "without" an identity in %.
    """
    known = told >= 0
    return {
        "switches": float(identity_switches(told).double().mean()),
        "losses": float((known[:, :-1] & ~known[:, 1:]).sum(dim=1).double().mean()),
        "without": 100.0 * float((~known).double().mean()),
    }


def _mean(values: Tensor) -> float:
    return float(values.mean()) if values.numel() else 0.0
