"""AdderNet (arXiv:1912.13200), small: distances learn nearly as well as products, with the paper's gradients.

Networks of a float convolution, two more layers, the mean over pixels and a last layer with BatchNorm on its scores
learn 400 of scikit-learn's digits and are tested on the others, the two layers being convolutions ("conv"), distances
("addernet"), distances with the function's own gradient and no local rate ("sign"), or products of signs ("binary").
Then students of the shipped painter, 32 channels wide, learn its strokes with convolutions, distances or signs in their
second and third layer; their paintings, operations and milliseconds stand beside each other.

Claims, all by means over seeds: distances come within two points of products, and lie four above each of the others;
the student with distances keeps nine tenths of what the one with convolutions gains over a black canvas. That it takes
longer on a CPU is measured. The bars were set before the first run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from envs.evaluation.latency import median_milliseconds
from envs.evaluation.probes import count_additions, count_bytes, count_macs
from envs.evaluation.quantization.addernet import AdderNet, AdderNetConfig, draw_filters
from envs.evaluation.quantization.binary_convolutions import XnorLayer, pack_binary_layers
from envs.evaluation.quantization.binary_layer import SignInput
from envs.evaluation.quantization.layer import quantizable
from envs.evaluation.recipe import network_base
from envs.evaluation.subject import Subject
from envs.evaluation.tasks import ClassifierTask
from envs.evaluation.transform import TeachConfig, teach
from rlsuite.data.arrays import Arrays
from rlsuite.data.digits import digits
from rlsuite.errors import require
from rlsuite.experiment import Claim, Result
from rlsuite.experiment.jobs import Jobs
from rlsuite.fit import FitConfig
from rlsuite.nn.vision.conv_net import ConvNet, ConvNetConfig
from rlsuite.optim.choice import GroupConfig, OptimizerConfig, ScheduleConfig
from rlsuite.running.seeding import derive_seed
from scripts.experiments.painter_subject import painter_subject

ARMS: dict[str, dict[str, Any]] = {"conv": {}, "addernet": {}, "sign": {"gradient": "sign", "eta": 0.0}, "binary": {}}
STUDENTS = ("conv", "addernet", "binary")
CLASSES = 10


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The experiment's numbers.

    Attributes:
        seeds: how many: 0, 1, ...
        width: channels of the digits' convolutions.
        examples: digits of each class to learn from.
        epochs: over them.
        batch_size: pictures of a minibatch.
        painter_width: channels of the students' second convolution.
        painter_steps: minibatches of each of a student's two rounds of learning.
        scenes: that students paint.
        states: canvases labelled in a round.
        product_bar: points that distances may lose against products.
        other_bar: points that they must lie above the sign gradient and signs.
        painting_bar: share of the gain over a black canvas that the student with distances keeps.
    """

    seeds: int = 3
    width: int = 16
    examples: int = 40
    epochs: int = 20
    batch_size: int = 64
    painter_width: int = 32
    painter_steps: int = 100
    scenes: int = 16
    states: int = 1024
    product_bar: float = 2.0
    other_bar: float = 4.0
    painting_bar: float = 0.9

    def __post_init__(self) -> None:
        counts = ("seeds", "width", "examples", "epochs", "batch_size", "painter_steps", "scenes", "states")
        for name in counts:
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require(self.painter_width >= 2, f"painter_width={self.painter_width}: use 2 or more")


DEBUG = Numbers(seeds=1, width=4, epochs=1, painter_width=4, painter_steps=2, scenes=1, states=16)


def run(numbers: Numbers, jobs: Jobs) -> Result:
    """Learn, paint, count, and test the claims."""
    seeds = tuple(range(numbers.seeds))
    inputs = {name: getattr(numbers, name) for name in ("width", "examples", "epochs", "batch_size")}
    found = jobs.grid(classify, arms=tuple(ARMS), seeds=seeds, **inputs)
    accuracy = {arm: tuple(one["accuracy"] for one in rows) for arm, rows in found.items()}
    painting = {name: getattr(numbers, name) for name in ("painter_width", "painter_steps", "scenes", "states")}
    students = jobs.grid(paint, arms=STUDENTS, seeds=seeds, **painting)
    gained = {arm: tuple(one["psnr"] - one["floor"] for one in rows) for arm, rows in students.items()}
    for arm, values in accuracy.items():
        print(f"{arm:9} % by seed: {', '.join(f'{value:.1f}' for value in values)}", flush=True)
    for arm, rows in students.items():
        one = rows[0]
        print(
            f"student {arm:9} dB above black: {', '.join(f'{value:.2f}' for value in gained[arm])}; "
            f"{one['multiplications']:,.0f} multiplications, {one['additions']:,.0f} additions, "
            f"{one['milliseconds']:.2f} ms",
            flush=True,
        )
    return Result(
        seeds=seeds,
        claims=claims(accuracy, gained, numbers),
        figures={"accuracy": accuracy, "gained": gained, "students": students},
        full_scale=(
            "python scripts/reproduce.py paper=addernet seeds=10 epochs=100 painter_width=64 painter_steps=20000 "
            "states=50000"
        ),
    )


def claims(
    accuracy: Mapping[str, tuple[float, ...]], gained: Mapping[str, tuple[float, ...]], numbers: Numbers
) -> tuple[Claim, ...]:
    """Return the claims for accuracies in % and dB above a black canvas, by arm and seed."""
    mean = {arm: sum(values) / len(values) for arm, values in accuracy.items()}
    share = sum(gained["addernet"]) / sum(gained["conv"])
    return (
        Claim(
            statement="points of distances below products",
            margin=numbers.product_bar,
            figures=(mean["conv"] - mean["addernet"],),
            at_least=False,
        ),
        Claim(
            statement="points of distances above those with the sign gradient",
            margin=numbers.other_bar,
            figures=(mean["addernet"] - mean["sign"],),
        ),
        Claim(
            statement="points of distances above products of signs",
            margin=numbers.other_bar,
            figures=(mean["addernet"] - mean["binary"],),
        ),
        Claim(
            statement="the painter's student: share of the gain over black that distances keep of products'",
            margin=numbers.painting_bar,
            figures=(share,),
        ),
    )


def changed(arm: str, subject: Subject, seed: int) -> Subject:
    """Return a subject that has learned nothing yet, its inner layers of an arm's kind, with BatchNorm on scores."""
    transform = AdderNet(config=AdderNetConfig(**ARMS[arm]))
    plan, module = transform.plan(subject), subject.copy()
    if arm == "binary":
        for path in plan["layers"]:
            layer = quantizable(module)[path]
            module.set_submodule(path, XnorLayer(layer, SignInput(centred=False)))
        for path, part in list(module.named_modules()):
            if isinstance(part, nn.ReLU):
                module.set_submodule(path, nn.Hardtanh())
    if arm in ("conv", "binary"):
        plan["layers"] = []
    module = transform.rebuild(module, plan)
    draw_filters(module, derive_seed(seed, "filters"))
    return replace(subject, module=module)


def classify(
    arm: str, seed: int, folder: Path, width: int, examples: int, epochs: int, batch_size: int
) -> dict[str, float]:
    """Return "accuracy" in % of one network."""
    train, test = parts(seed, examples)
    task = ClassifierTask(train, test, num_classes=CLASSES)
    config = ConvNetConfig(widths=(width,) * 3, strides=(1, 1, 2), hidden=0, batch_norm=True, pool=True)
    module = ConvNet(1, 8, CLASSES, config, derive_seed(seed, "network")).eval()
    base = network_base("conv", channels=1, size=8, outputs=CLASSES, config=config)
    subject = changed(arm, Subject(module, test.tensors["input"][:1], task, base), seed)
    optimizer = OptimizerConfig(name="sgd", learning_rate=0.1, weight_decay=5e-4)
    steps = epochs * -(-len(train) // batch_size)
    fit = FitConfig(steps=steps, batch_size=batch_size, optimizer=optimizer, schedule=ScheduleConfig(kind="cosine"))
    teach(subject, TeachConfig(fit=fit, rounds=1), derive_seed(seed, "learned"))
    return {"accuracy": float(task.score(pack_binary_layers(subject.module).eval(), 0).mean())}


def parts(seed: int, examples: int) -> tuple[Arrays, Arrays]:
    """Return so many digits of each class, drawn by the seed, and all others; one mean and deviation for all pixels."""
    both = [digits(part).tensors for part in ("train", "test")]
    pictures = torch.cat([each["picture"] for each in both]).float()
    labels = torch.cat([each["label"] for each in both])
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(derive_seed(seed, "digits")))
    learned = torch.cat([order[labels[order] == label][:examples] for label in range(CLASSES)])
    others = torch.ones(len(labels), dtype=torch.bool)
    others[learned] = False
    mean, deviation = pictures[learned].mean(), pictures[learned].std()
    pictures = (pictures - mean) / deviation
    return tuple(Arrays({"input": pictures[index], "label": labels[index]}) for index in (learned, others))  # type: ignore[return-value]


def paint(
    arm: str, seed: int, folder: Path, painter_width: int, painter_steps: int, scenes: int, states: int
) -> dict[str, float]:
    """Return dB and costs of one student of the painter."""
    teacher = painter_subject(scenes=scenes, states=states, seed=seed)
    actions, size = teacher.output().shape[1], teacher.example.shape[-1]
    widths = (painter_width // 2, painter_width, 2 * painter_width)
    config = ConvNetConfig(widths=widths, hidden=0, batch_norm=True, squash="sigmoid")
    module = ConvNet(9, size, actions, config, derive_seed(seed, "network")).eval()
    base = network_base("conv", channels=9, size=size, outputs=actions, config=config)
    student = changed(arm, Subject(module, teacher.example, teacher.task, base), seed)
    teach(student, painter_teaching(arm, painter_steps), derive_seed(seed, "learned"))
    student = replace(student, module=pack_binary_layers(student.module).eval())
    return {
        "psnr": float(student.task.score(student.module, 0).mean()),
        "teacher_psnr": float(teacher.task.score(teacher.module, 0).mean()),
        "floor": student.task.floor,
        "multiplications": float(count_macs(student.module, student.example)),
        "additions": float(count_additions(student.module, student.example)),
        "bytes": float(count_bytes(student)),
        "milliseconds": milliseconds(student),
    }


@torch.no_grad()
def milliseconds(subject: Subject) -> float:
    """Return the median time of one example in torch, on as many threads as it has."""
    return median_milliseconds(lambda: subject.module(subject.example))


def painter_teaching(arm: str, steps: int) -> TeachConfig:
    """Return how students learn: SGD; errors of strokes are small, so that all but local rates are large."""
    local = (GroupConfig(names=("body.3.0.weight", "body.5.0.weight"), learning_rate=0.1),) if arm == "addernet" else ()
    optimizer = OptimizerConfig(name="sgd", learning_rate=3.0, weight_decay=1e-5, groups=local)
    schedule = ScheduleConfig(kind="cosine")
    return TeachConfig(fit=FitConfig(steps=steps, batch_size=64, optimizer=optimizer, schedule=schedule), rounds=2)
