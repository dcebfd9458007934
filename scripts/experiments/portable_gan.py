"""Portable GANs (arXiv:2003.03519), small: a narrow generator taught by a wide one and by its discriminator.

Pictures of Reacher's scenes, 48 x 48, are made from which geometry is where: x is ids in colors, y what a camera
renders. A pix2pix generator of width 16 learns that, and six of width 4, with the same examples, first weights and,
where they have a discriminator, minibatches: from the true pictures ("scratch"), from the teacher's pixels alone
("pixel", no discriminator), from its features, too ("perceptual"), also with its pictures as real ones ("as_real"),
with triplets, which is the whole method ("full"), and that with a fifth of the weights of what makes the student's
discriminator strong ("gentle"). What they make of test scenes is judged by a segmentation network that knows real
pictures (as the paper's FCN score), by the distance to the real picture, and by a policy that was taught on real
pictures, in turn, by a scripted expert: what it still earns when it sees what a generator makes of ids, beside standing
still and the expert.

Claims, by means over seeds: segmented from made pictures, ids agree better (mean IoU over classes) for "full" than
"scratch", and within 5 points of the teacher's; a student has at least ten times fewer parameters. And the policy
comes half of the way from standing still to the expert on real pictures, without which no return tells anything.
Distances, times, returns and the terms that networks minimized at last are reported. The bars were set before the first
run, that of the policy before it was taught this way.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

import envs
from envs.cameras import Cameras
from envs.catalogue import build
from envs.evaluation.distillation.portable_gan import (
    DistillationWeights,
    PairedTranslation,
    TranslationConfig,
    with_taught,
)
from envs.evaluation.latency import median_milliseconds
from envs.evaluation.policy_task import PolicyTask
from envs.evaluation.probes import count_macs, count_parameters
from envs.evaluation.transform import teach
from envs.perception.translation import id_colors
from envs.perception.weights import choose_perceivers, save_perceiver
from rlsuite.config.camera import CameraConfig
from rlsuite.data.arrays import Arrays
from rlsuite.errors import require
from rlsuite.experiment import Claim, Result
from rlsuite.experiment.jobs import Jobs
from rlsuite.fit import FitConfig, fit
from rlsuite.generative.translators import PatchConfig, Translator, TranslatorConfig
from rlsuite.methods import Method
from rlsuite.metrics.masks import class_iou
from rlsuite.nn.vision.u_net import UNet, UNetConfig
from rlsuite.optim.choice import OptimizerConfig, ScheduleConfig
from rlsuite.running.seeding import JUDGED_ON, derive_seed
from scripts.experiments.reaching import (
    ends_of_the_scale,
    learned_claim,
    learned_share,
    reach_learning,
    reach_student,
    reaching_task,
)

STUDENTS = ("scratch", "pixel", "perceptual", "as_real", "full", "gentle")
GENTLE = 0.2  # of "real" and "triplet" there
SIZE, WIDE, NARROW = 48, 16, 0.25
BASE = TranslationConfig(
    generator=TranslatorConfig(width=WIDE, levels=4),
    discriminator=PatchConfig(width=8, layers=2),
    optimizer=OptimizerConfig(learning_rate=1e-3, beta1=0.5),
)


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The experiment's numbers.

    Attributes:
        seeds: how many: 0, 1, ...
        scenes: that are learned from.
        test_scenes: others, which are judged.
        teacher_steps: minibatches of 8 of the teacher; 50 are an epoch.
        student_steps: of each student.
        reader_steps: of the segmentation network.
        states: pictures labelled in each of the policy's two rounds.
        policy_steps: minibatches of 64 of each of them.
        episodes: by which the policy is scored.
        scratch_bar: points of mean IoU of "full" above "scratch", at least.
        teacher_bar: points of mean IoU of "full" below the teacher, at most.
        learned_bar: how much of the way from standing still to the expert the policy comes on real pictures, at least.
        size_bar: parameters of the teacher's generator over a student's, at least.
    """

    seeds: int = 3
    scenes: int = 400
    test_scenes: int = 100
    teacher_steps: int = 750
    student_steps: int = 500
    reader_steps: int = 400
    states: int = 2400
    policy_steps: int = 300
    episodes: int = 16
    scratch_bar: float = 0.0
    teacher_bar: float = 5.0
    learned_bar: float = 0.5
    size_bar: float = 10.0

    def __post_init__(self) -> None:
        for name in ("seeds", "teacher_steps", "student_steps", "reader_steps", "states", "policy_steps", "episodes"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        for name in ("scenes", "test_scenes"):
            require(getattr(self, name) >= 8, f"{name}={getattr(self, name)}: use 8 or more")


DEBUG = Numbers(
    seeds=1,
    scenes=16,
    test_scenes=8,
    teacher_steps=3,
    student_steps=3,
    reader_steps=3,
    states=64,
    policy_steps=2,
    episodes=2,
)


def run(numbers: Numbers, jobs: Jobs) -> Result:
    """Teach generators, judge what they make, and test the claims."""
    seeds = tuple(range(numbers.seeds))
    inputs = {name: value for name, value in asdict(numbers).items() if name != "seeds" and not name.endswith("_bar")}
    rows = jobs.grid(translate, arms=("u_net",), seeds=seeds, **inputs)["u_net"]
    for name in rows[0]:
        parts = [f"{key} {[round(row[name][key], 3) for row in rows]}" for key in rows[0][name]]
        print(f"{name:8} {', '.join(parts)}", flush=True)
    return Result(
        seeds=seeds,
        claims=claims(rows, numbers),
        figures={"rows": rows},
        full_scale="python scripts/reproduce.py paper=portable_gan seeds=10 scenes=4000 teacher_steps=20000 "
        "student_steps=20000",
    )


def claims(rows: tuple[Mapping[str, Mapping[str, float]], ...], numbers: Numbers) -> tuple[Claim, ...]:
    """Return the claims for each seed's rows: name -> "iou", "parameters", "return", ..."""
    teacher, scratch, full = ([row[name]["iou"] for row in rows] for name in ("teacher", "scratch", "full"))
    return (
        Claim(
            statement="points of mean IoU of the distilled student above the one from scratch",
            margin=numbers.scratch_bar,
            figures=tuple(ours - other for ours, other in zip(full, scratch, strict=True)),
        ),
        Claim(
            statement="points of mean IoU of the distilled student below its teacher",
            margin=numbers.teacher_bar,
            figures=tuple(other - ours for ours, other in zip(full, teacher, strict=True)),
            at_least=False,
        ),
        Claim(
            statement="parameters of the teacher's generator over the student's",
            margin=numbers.size_bar,
            figures=tuple(row["teacher"]["parameters"] / row["full"]["parameters"] for row in rows),
        ),
        learned_claim(tuple(learned_share(row["real"]["return"], row["ends"]) for row in rows), numbers.learned_bar),
    )


def student_config(arm: str) -> TranslationConfig:
    """Return what a student minimizes: "scratch", or from "pixel" to "full" each with one part more, or "gentle"."""
    weights = DistillationWeights()
    if arm == "pixel":
        weights = replace(weights, perceptual=0.0)
    if arm == "as_real":
        weights = replace(weights, triplet=0.0)
    if arm == "gentle":
        weights = replace(weights, real=GENTLE, triplet=GENTLE)
    return replace(
        BASE,
        generator=BASE.generator.scaled(NARROW),
        adversarial=0.0 if arm in ("pixel", "perceptual") else 1.0,
        weights=weights,
    )


def translate(
    arm: str,
    seed: int,
    folder: Path,
    scenes: int,
    test_scenes: int,
    teacher_steps: int,
    student_steps: int,
    reader_steps: int,
    states: int,
    policy_steps: int,
    episodes: int,
) -> dict[str, dict[str, float]]:
    """Return "iou" (points), "distance", "return", and of networks "parameters", "macs", "milliseconds", by name.

    Of networks also the means of what they minimized over the last minibatches, such as "discriminator/active"; and the
    returns at the "ends" of the scale, standing "still" and the "expert".

    The generators' files, for perception=[translation/from_ids], are left in the folder.
    """
    train, test = draw_scenes(scenes, seed, "train"), draw_scenes(test_scenes, seed, "test")
    classes = train.tensors["ids"].unique()
    read = taught_reader(train, classes, reader_steps, seed)
    earns, ends = taught_policy(states, policy_steps, episodes, seed)

    @torch.no_grad()
    def judged(made: Tensor) -> dict[str, float]:
        truth = torch.searchsorted(classes, test.tensors["ids"]).flatten().unsqueeze(0)
        guess = read(made / 2 + 0.5).argmax(dim=1).flatten().unsqueeze(0)
        iou = 100.0 * float(class_iou(guess, truth, len(classes)).nanmean())
        return {"iou": iou, "distance": float((made - test.tensors["target"]).abs().mean())}

    rows = {"ends": ends, "real": {**judged(test.tensors["target"]), "return": earns(())}}
    teacher, source = None, train
    for name in ("teacher", *STUDENTS):
        config = student_config(name) if teacher else BASE
        of = None if name == "scratch" else teacher
        own = "student" if teacher else name  # all students begin alike
        network = PairedTranslation((3, 3), config, derive_seed(seed, f"weights {own}"), of)
        steps = student_steps if teacher else teacher_steps
        learning = FitConfig(steps=steps, batch_size=8, schedule=ScheduleConfig(kind="linear", final=0.1))
        history = fit(network, network.turns(), source, learning, seed=derive_seed(seed, own))
        generator = network.eval().generator.requires_grad_(False)
        if teacher is None:
            teacher, source = network, with_taught(train, generator)
        example = test.tensors["input"][:1]
        rows[name] = {
            **judged(generator(test.tensors["input"])),
            "return": earns((saved(folder / f"{name}.safetensors", generator, config.generator),)),
            "parameters": float(count_parameters(generator)),
            "macs": float(count_macs(generator, example)),
            "milliseconds": median_milliseconds(functools.partial(generator, example)),
            **{key: value for key, value in history.records[-1].items() if "/" in key},
        }
    return rows


def draw_scenes(count: int, seed: int, part: str) -> Arrays:
    """Return "input" (ids in colors) and "target" (what is rendered), (M, 3, S, S) in [-1, 1], and "ids"."""
    stream = torch.Generator().manual_seed(derive_seed(seed, f"scenes {part}"))
    share = torch.rand(count, 4, generator=stream)
    far, around = 0.2 * share[:, 2].sqrt(), 2 * math.pi * share[:, 3]  # targets uniform in Reacher's disc
    angles = (2 * share[:, :2] - 1) * torch.tensor([math.pi, 3.0])
    qpos = torch.cat((angles, torch.stack((far * around.cos(), far * around.sin()), dim=1)), dim=1)
    cameras = Cameras(build("Reacher"), CameraConfig(size=SIZE), fields=("rgb", "ids"))
    seen = cameras.frames(qpos)
    return Arrays(
        {"input": id_colors(seen["ids"]), "target": seen["rgb"].float() / 127.5 - 1.0, "ids": seen["ids"].squeeze(1)}
    )


def taught_reader(train: Arrays, classes: Tensor, steps: int, seed: int) -> UNet:
    """Return a network from real pictures in [0, 1] to scores of classes, rare ones weighing more."""
    labels = torch.searchsorted(classes, train.tensors["ids"])
    weights = labels.flatten().bincount().float().rsqrt()
    reader = UNet(3, SIZE, len(classes), UNetConfig(width=8, levels=3), derive_seed(seed, "reader"))
    fit(
        reader,
        lambda module, batch: {"loss": cross_entropy(module(batch["picture"]), batch["label"], weight=weights)},
        Arrays({"picture": train.tensors["target"] / 2 + 0.5, "label": labels}),
        FitConfig(
            steps=steps,
            batch_size=8,
            optimizer=OptimizerConfig(learning_rate=4e-3),
            schedule=ScheduleConfig(kind="cosine"),
        ),
        seed=derive_seed(seed, "reader"),
    )
    return reader.eval()


def taught_policy(states: int, steps: int, episodes: int, seed: int) -> tuple[Any, dict[str, float]]:
    """Return what tells, for perceivers, the mean return of a policy taught on rendered pictures; and the ends."""

    def task(perception: tuple[Method, ...]) -> PolicyTask:
        make = functools.partial(_reacher, perception=perception)
        return reaching_task(make, states=states, episodes=episodes, seed=derive_seed(seed, "task"))

    subject = reach_student(task(()), derive_seed(seed, "policy"))
    teach(subject, reach_learning(steps), derive_seed(seed, "taught"))
    starts = derive_seed(seed, JUDGED_ON)
    return (
        lambda perception: float(task(perception).score(subject.module, starts).mean()),
        ends_of_the_scale(episodes, starts),
    )


def _reacher(num_envs: int, perception: tuple[Method, ...]) -> envs.VectorEnv:
    camera = CameraConfig(size=SIZE)
    return envs.make_vector("Reacher", num_envs, num_threads=1, flat=True, camera=camera, perception=perception)


def saved(path: Path, generator: Translator, config: TranslatorConfig) -> Method:
    """Write a generator as a perceiver's file; return the perceiver that reads it."""
    numbers = {f"from_ids.network.{name}": value for name, value in asdict(config).items()}
    (method,) = choose_perceivers(["translation/from_ids"], numbers)
    perceiver = method.build()
    perceiver.network.load_state_dict(generator.state_dict())
    save_perceiver(path, perceiver, method)
    (method,) = choose_perceivers(["translation/from_ids"], {"from_ids.weights": str(path)})
    return method
