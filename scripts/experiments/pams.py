"""PAMS (arXiv:2011.04212), small: super-resolution in 8 and 4 bits, learned ranges of activations against dynamic ones.

A float EDSR learns to double the size of scikit-learn's two sample pictures (left halves to learn from, right halves to
be tested on). Then for 8 and 4 bits each: every activation's range is the largest of its picture ("dynamic"), or
learned ("pams"), or learned with the float network's feature maps as teachers besides ("pams+skt"), all from the float
weights and on the same minibatches.

Claims: with 8 bits PAMS stays close to float in every seed, and is close before it has learned anything; with 4 bits
learned ranges beat dynamic ones in every seed. What the feature maps add is reported and not claimed. Figures are the
mean over both pictures of the PSNR of the luma, rounded to whole grey levels, borders left out. The bars are our own
choices, set before the first run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from envs.evaluation.probes import count_bit_operations, count_bytes
from envs.evaluation.quantization.pams import PAMS, PAMSConfig
from envs.evaluation.recipe import network_base
from envs.evaluation.subject import Subject
from envs.evaluation.tasks import DenseTask
from envs.evaluation.transform import TeachConfig, apply, teach
from rlsuite.data.arrays import Arrays
from rlsuite.errors import UserError, require
from rlsuite.experiment import Claim, Result
from rlsuite.experiment.jobs import Jobs
from rlsuite.fit import FitConfig
from rlsuite.methods import Method
from rlsuite.metrics.pictures import psnr
from rlsuite.nn.vision.edsr import EDSR, EDSRConfig
from rlsuite.optim.choice import OptimizerConfig, ScheduleConfig
from rlsuite.running.seeding import derive_seed

SCALE, PATCH = 2, 24  # of the pictures that come in
LUMA = (65.738 / 256, 129.057 / 256, 25.064 / 256)  # of ITU-R BT.601, as super-resolution is measured
ARMS = {
    "dynamic": {"max_scale": "largest", "structure_weight": 0.0},
    "pams": {"structure_weight": 0.0},
    "pams+skt": {},
}


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The experiment's numbers.

    Attributes:
        seeds: how many: 0, 1, ...
        width: channels of the network; the paper's has 64.
        blocks: of the network; the paper's has 16.
        float_steps: minibatches that the float network learns from.
        steps: minibatches of each quantized one.
        batch_size: patches of a minibatch.
        eight_bits_bar: dB that 8 bits may cost, in every seed.
        step_0_bar: dB that 8 bits may cost before any learning, in every seed.
        four_bits_bar: dB by which learned ranges must beat dynamic ones at 4 bits, in every seed.
    """

    seeds: int = 3
    width: int = 24
    blocks: int = 4
    float_steps: int = 1200
    steps: int = 400
    batch_size: int = 8
    eight_bits_bar: float = 0.15
    step_0_bar: float = 0.3
    four_bits_bar: float = 0.2

    def __post_init__(self) -> None:
        for name in ("seeds", "width", "blocks", "float_steps", "steps", "batch_size"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")


DEBUG = Numbers(seeds=1, width=8, blocks=1, float_steps=10, steps=5, batch_size=4)


def run(numbers: Numbers, jobs: Jobs) -> Result:
    """Learn, quantize, measure, and test the claims."""
    seeds = tuple(range(numbers.seeds))
    inputs = {name: getattr(numbers, name) for name in ("width", "blocks", "float_steps", "steps", "batch_size")}
    found = jobs.grid(enlarge, arms=("edsr",), seeds=seeds, **inputs)["edsr"]
    figures = {arm: tuple(one["psnr"][arm] for one in found) for arm in found[0]["psnr"]}
    for arm, values in figures.items():
        print(f"{arm:16} dB by seed: {', '.join(f'{value:.2f}' for value in values)}", flush=True)
    return Result(
        seeds=seeds,
        claims=claims(figures, numbers),
        figures={"psnr": figures, "costs": found[0]["costs"]},
        full_scale=(
            "python scripts/reproduce.py paper=pams width=64 blocks=16 float_steps=300000 steps=30000 batch_size=16"
        ),
    )


def claims(psnrs: Mapping[str, tuple[float, ...]], numbers: Numbers) -> tuple[Claim, ...]:
    """Return the claims for the PSNRs by arm and seed."""

    def minus(one: str, other: str) -> tuple[float, ...]:
        return tuple(a - b for a, b in zip(psnrs[one], psnrs[other], strict=True))

    return (
        Claim(
            statement="8 bits: dB lost by PAMS, the worst seed",
            margin=numbers.eight_bits_bar,
            figures=(max(minus("float", "8-pams")),),
            at_least=False,
        ),
        Claim(
            statement="8 bits: dB lost by PAMS before any learning, the worst seed",
            margin=numbers.step_0_bar,
            figures=(max(minus("float", "8-start")),),
            at_least=False,
        ),
        Claim(
            statement="4 bits: dB of PAMS above dynamic ranges, the worst seed",
            margin=numbers.four_bits_bar,
            figures=(min(minus("4-pams", "4-dynamic")),),
        ),
    )


def enlarge(
    arm: str, seed: int, folder: Path, width: int, blocks: int, float_steps: int, steps: int, batch_size: int
) -> dict[str, Any]:
    """Return "psnr" in dB and "costs" of the float network of one seed and of all that come from it, by their names."""
    learning = teaching(float_steps, batch_size, 1e-3)
    subject = float_subject(seed, EDSRConfig(width=width, blocks=blocks, scale=SCALE), learning)
    subjects: dict[str, Subject] = {"float": subject}
    found = {"bicubic": subject.task.floor}
    for bits in (8, 4):
        for name, changes in ARMS.items():
            config = PAMSConfig(bits=bits, teach=teaching(steps, batch_size, 1e-4), **changes)
            if name == "pams":
                found[f"{bits}-start"] = score(started(subject, config, seed))
            method = Method("quantization/pams", config, "envs.evaluation.quantization.pams:PAMS")
            subjects[f"{bits}-{name}"] = apply(method, subject, derive_seed(seed, "quantized"))
    found |= {name: score(each) for name, each in subjects.items()}
    costs = {
        name: {"bytes": count_bytes(each), "bit_operations": count_bit_operations(each.module, each.example)}
        for name, each in subjects.items()
    }
    return {"psnr": found, "costs": costs}


def float_subject(seed: int, config: EDSRConfig, learning: TeachConfig) -> Subject:
    """Return a float EDSR that has learned."""
    train, test = halves()
    small = test.tensors["input"]
    bicubic = functional.interpolate(small, scale_factor=float(SCALE), mode="bicubic", align_corners=False)
    floor = float(luma_psnr(bicubic, test.tensors["target"]).mean())
    task = DenseTask(train, test, metric=luma_psnr, unit="dB", floor=floor)
    module = EDSR(3, PATCH, 3, config, derive_seed(seed, "edsr")).eval()
    base = network_base("edsr", channels=3, size=PATCH, outputs=3, config=config)
    subject = Subject(module, small[:1, :, :PATCH, :PATCH].clone(), task, base)
    teach(subject, learning, derive_seed(seed, "float"))
    return subject


def started(subject: Subject, config: PAMSConfig, seed: int) -> Subject:
    """Return the quantized network with measured ranges, before it learns."""
    transform = PAMS(config=config)
    module = transform.rebuild(subject.copy(), transform.plan(subject))
    changed = dataclasses.replace(subject, module=module)
    transform.calibrate(changed, derive_seed(seed, "quantized"))
    return changed


def teaching(steps: int, batch_size: int, learning_rate: float) -> TeachConfig:
    """Return how all networks learn."""
    return TeachConfig(
        fit=FitConfig(
            steps=steps,
            batch_size=batch_size,
            order="random",
            optimizer=OptimizerConfig(learning_rate=learning_rate),
            schedule=ScheduleConfig(kind="cosine", final=0.1),
        ),
        rounds=1,
    )


def score(subject: Subject) -> float:
    """Return the mean PSNR of the test pictures."""
    return float(subject.task.score(subject.module, 0).mean())


def luma_psnr(output: Tensor, target: Tensor) -> Tensor:
    """Return the PSNR (B,) of the luma, both pictures in whole grey levels, SCALE pixels off at every border."""

    def luma(pictures: Tensor) -> Tensor:
        levels = (pictures.clamp(0.0, 1.0) * 255.0).round() / 255.0
        shade = (levels * levels.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
        return shade[..., SCALE:-SCALE, SCALE:-SCALE]

    return psnr(luma(output), luma(target))


class Patches:
    """Every patch of some pictures in eight positions (mirrored, turned): example i is always the same one.

    Args:
        small: (N, 3, H, W) pictures in [0, 1].
        large: (N, 3, SCALE H, SCALE W) the same, SCALE times as large.
    """

    def __init__(self, small: Tensor, large: Tensor) -> None:
        self.small, self.large = small, large
        self.rows, self.columns = (side - PATCH + 1 for side in small.shape[-2:])

    def __len__(self) -> int:
        return 8 * len(self.small) * self.rows * self.columns

    def examples(self, index: Tensor) -> dict[str, Tensor]:
        """Return "input" (B, 3, PATCH, PATCH) and "target", SCALE times as large."""
        position, place = index % 8, index // 8
        picture, row, column = (
            place // (self.rows * self.columns),
            place // self.columns % self.rows,
            place % self.columns,
        )
        return {
            "input": _cut(self.small, picture, row, column, PATCH, position),
            "target": _cut(self.large, picture, SCALE * row, SCALE * column, SCALE * PATCH, position),
        }


def _cut(pictures: Tensor, picture: Tensor, row: Tensor, column: Tensor, size: int, position: Tensor) -> Tensor:
    """Return patches (B, 3, size, size), each mirrored and turned as the three bits of its position say."""
    steps = torch.arange(size)
    rows = torch.where((position & 1 > 0)[:, None], size - 1 - steps, steps) + row[:, None]
    columns = torch.where((position & 2 > 0)[:, None], size - 1 - steps, steps) + column[:, None]
    found = pictures[picture[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    return torch.where((position & 4 > 0)[:, None, None, None], found.transpose(2, 3), found).contiguous()


def halves() -> tuple[Patches, Arrays]:
    """Return patches of the sample pictures' left halves to learn from, and the right halves whole.

    Raises:
        UserError: if scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_sample_images
    except ImportError:
        raise UserError("the sample pictures come with scikit-learn; pip install 'rlsuite[vision]'") from None
    found: Any = load_sample_images()
    whole = torch.stack([torch.from_numpy(picture.copy()) for picture in found.images]).permute(0, 3, 1, 2)
    height, width = whole.shape[-2] // SCALE * SCALE, whole.shape[-1] // (2 * SCALE) * SCALE
    parts = []
    for large in (whole[..., :height, :width].float() / 255.0, whole[..., :height, width : 2 * width].float() / 255.0):
        small = functional.interpolate(
            large, scale_factor=1 / SCALE, mode="bicubic", antialias=True, align_corners=False
        )
        parts.append(((small.clamp(0.0, 1.0) * 255.0).round() / 255.0, large))
    (small, large), (test_small, test_large) = parts
    return Patches(small, large), Arrays({"input": test_small, "target": test_large})
