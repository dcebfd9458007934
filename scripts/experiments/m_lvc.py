"""M-LVC (arXiv:2004.10290), small: what each of its parts is worth when camera frames become few bytes.

Clips of 7 frames, 64x64: still pictures on layers that shift, turn and grow at changing speed, their motion known
exactly, which stands in for the paper's FlowNet 2.0. The networks have an eighth of the paper's widths and learn step
by step, as in the paper: motion, then motion compensation, then residuals, then all together; lambda = 16. Arms learn
the same minibatches: the whole codec; "direct", which codes motion itself instead of what differs from its prediction;
"one reference", whose compensation sees the last frame alone; "unrefined", without both refinement networks. Tested on
pictures that no training has seen.

Claims, by seed: predicted motion takes at most 0.9 times the bits of motion that is coded itself, at an error at most
1.05 times as large; four references predict frames in which something comes to light better than one does, by 0.2 dB
or more; D + 16 R of the whole codec is below that of the unrefined one; true bytes are within 2 % and 64 bytes of the
estimate, and decoded frames are the encoder's own to the last bit; JPEG takes twice the bits for the same mean squared
error, its tables counted once a clip: where the codec errs more than JPEG does at its lowest quality the figure is 0,
and the claim fails. Bars were set before the first run. Beside it stands what warping the first frame along by
the true motion would give, without a residual and without bits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from envs.painting.pictures import picture_pool
from envs.perception.codec.channel import Estimate
from envs.perception.codec.clips import LENGTH, MovingClips
from envs.perception.codec.jpeg import through_jpeg
from envs.perception.codec.m_lvc import LEAST_CROP, MLVC, PICTURES, TEXTURE, MLVCConfig
from envs.perception.codec.motion_fields import UNIT, moved, to_units
from envs.perception.codec.network import MLVCNetConfig, past_of
from rlsuite.data.arrays import kept
from rlsuite.data.source import Source
from rlsuite.errors import require
from rlsuite.experiment import Claim, Result
from rlsuite.experiment.jobs import Jobs
from rlsuite.fit import FitConfig, fit
from rlsuite.metrics.flow import end_point_error
from rlsuite.metrics.pictures import decibels
from rlsuite.optim.choice import GroupConfig, OptimizerConfig, ScheduleConfig
from rlsuite.running.seeding import derive_seed
from scripts.experiments.m_lvc_streams import PIXELS, SIZE, stream_figures

ARMS = ("whole", "direct", "unrefined")
HIDDEN, SHARE = 0.1, 0.01  # a pixel that true motion does not explain, by color; the share of them in frames that count
FIRST = 4  # frames that have four different references


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The experiment's numbers.

    Attributes:
        seeds: how many: 0, 1, ...
        divisor: each width is the paper's divided by this.
        motion_steps: minibatches of one clip in which motion is learned.
        compensation_steps: likewise motion compensation.
        residual_steps: likewise residuals.
        joint_steps: likewise all together.
        learning_rate: the largest of each stage.
        clips: learned from.
        examples: clips tested, in each seed others.
        coded: how many of them are written as bytes.
        pictures: still ones to learn from; a quarter as many are tested on.
        bits_bar: motion's bits by those of motion coded directly, at most.
        error_bar: motion's error by that of motion coded directly, at most.
        references_bar: dB that four references are above one, at least.
        refinement_bar: D + 16 R by that of the unrefined codec, at most.
        share_bar: of true bytes above the estimate, less 64 bytes a clip, at most.
        jpeg_bar: JPEG's bits by M-LVC's at the same error, at least.
    """

    seeds: int = 3
    divisor: int = 8
    motion_steps: int = 100
    compensation_steps: int = 60
    residual_steps: int = 60
    joint_steps: int = 20
    learning_rate: float = 1e-3
    clips: int = 96
    examples: int = 16
    coded: int = 6
    pictures: int = PICTURES
    bits_bar: float = 0.9
    error_bar: float = 1.05
    references_bar: float = 0.2
    refinement_bar: float = 1.0
    share_bar: float = 0.02
    jpeg_bar: float = 2.0

    def __post_init__(self) -> None:
        steps = ("motion_steps", "compensation_steps", "residual_steps", "joint_steps")
        for name in ("seeds", "clips", "examples", "coded", "pictures", *steps):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require(self.coded <= self.examples, f"coded={self.coded}: use examples={self.examples} or less")


DEBUG = Numbers(
    seeds=1,
    motion_steps=2,
    compensation_steps=1,
    residual_steps=1,
    joint_steps=1,
    clips=2,
    examples=2,
    coded=1,
    pictures=4,
)
STEPS = ("motion_steps", "compensation_steps", "residual_steps", "joint_steps")
LEARNS = ("divisor", *STEPS, "learning_rate", "clips", "examples", "coded", "pictures")  # what a job depends on


def run(numbers: Numbers, jobs: Jobs) -> Result:
    """Learn, measure, and test the claims."""
    seeds = tuple(range(numbers.seeds))
    found = jobs.grid(code, arms=ARMS, seeds=seeds, **{name: getattr(numbers, name) for name in LEARNS})
    for arm, results in found.items():
        for seed, one in enumerate(results):
            said = ", ".join(f"{key} {math.nan if value is None else value:.4g}" for key, value in one.items())
            print(f"{arm:10} seed {seed}: {said}", flush=True)
    return Result(
        seeds=seeds,
        claims=claims(found, numbers),
        figures=found,
        full_scale=(
            "python scripts/train_perceiver.py perception=codec/m_lvc data=VIMEO90K size=256 steps=1000000 "
            "batch_size=4 learning_rate=1e-4 m_lvc.network.divisor=1 m_lvc.motion=dis output=m_lvc.safetensors"
        ),
    )


def claims(found: Mapping[str, tuple[dict[str, Any], ...]], numbers: Numbers) -> tuple[Claim, ...]:
    """Return the claims for figures by arm and seed."""
    pairs = {arm: list(zip(found["whole"], found[arm], strict=True)) for arm in ("direct", "unrefined")}

    def ratios(arm: str, key: str) -> tuple[float, ...]:
        return tuple(one[key] / other[key] for one, other in pairs[arm])

    def of(key: str) -> tuple[float, ...]:
        return tuple(one[key] for one in found["whole"])

    gain = tuple(four - one for four, one in zip(of("four_references_db"), of("one_reference_db"), strict=True))
    return (
        Claim(
            statement="bits of predicted motion by those of motion that is coded itself",
            margin=numbers.bits_bar,
            figures=ratios("direct", "motion_bpp"),
            at_least=False,
        ),
        Claim(
            statement="error of predicted motion by that of motion that is coded itself",
            margin=numbers.error_bar,
            figures=ratios("direct", "motion_error"),
            at_least=False,
        ),
        Claim(
            statement="dB of four references above one where something comes to light",
            margin=numbers.references_bar,
            figures=gain,
        ),
        Claim(
            statement="D + 16 R of the whole codec by that of the unrefined one",
            margin=numbers.refinement_bar,
            figures=ratios("unrefined", "cost"),
            at_least=False,
        ),
        Claim(
            statement="true bytes above the estimate, less 64 bytes a clip, as a share; the worst clip",
            margin=numbers.share_bar,
            figures=(max(of("bytes_share")),),
            at_least=False,
        ),
        Claim(
            statement="clips that decode to the encoder's frames to the last bit, as a share; the worst seed",
            margin=1.0,
            figures=(min(of("exact")),),
        ),
        Claim(
            statement="JPEG's bits by M-LVC's at the same mean squared error (0: JPEG always errs less)",
            margin=numbers.jpeg_bar,
            figures=tuple(0.0 if ratio is None else ratio for ratio in of("jpeg_ratio")),
        ),
    )


def code(
    arm: str,
    seed: int,
    folder: Path,
    divisor: int,
    motion_steps: int,
    compensation_steps: int,
    residual_steps: int,
    joint_steps: int,
    learning_rate: float,
    clips: int,
    examples: int,
    coded: int,
    pictures: int,
) -> dict[str, float | None]:
    """Return an arm's figures, None for what there is not.

    Args:
        arm: one of ARMS.
        seed: of weights, minibatches and what is tested.
        folder: unused.
        divisor: see Numbers; likewise those that follow.
        motion_steps: see there.
        compensation_steps: see there.
        residual_steps: see there.
        joint_steps: see there.
        learning_rate: see there.
        clips: see there.
        examples: see there.
        coded: see there.
        pictures: see there.
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    source = kept(moving(seed, pictures, "train"), clips)
    tested = moving(seed, max(2, pictures // 4), "test").examples(torch.arange(examples))
    sizes = MLVCNetConfig(divisor=divisor, prediction=arm != "direct", refinement=arm != "unrefined")
    codec = built(sizes, seed)

    def learn(perceiver: MLVC, stage: str, steps: int) -> None:
        perceiver.stage = stage
        learning = FitConfig(
            steps=steps,
            batch_size=1,
            optimizer=OptimizerConfig(name="adam", learning_rate=learning_rate, groups=(priors(learning_rate),)),
            schedule=ScheduleConfig(kind="cosine", warmup=10, final=0.05),
            clip_norm=1.0,
        )
        fit(perceiver, lambda _, batch: perceiver.losses(batch), source, learning, seed=derive_seed(seed, stage))
        perceiver.eval()

    learn(codec, "motion", motion_steps)
    found: dict[str, float | None] = {**motion_figures(codec, tested)}
    if arm == "direct":
        return found
    if arm == "whole":
        single = built(MLVCNetConfig(divisor=divisor, references=1), seed)
        same = {name: value for name, value in codec.network.state_dict().items() if name.startswith("motion_")}
        same |= {name: value for name, value in codec.network.state_dict().items() if name.startswith("prediction")}
        single.network.load_state_dict(same, strict=False)
        learn(single, "compensation", compensation_steps)
        found["one_reference_db"] = predicted_db(single, tested)
    learn(codec, "compensation", compensation_steps)
    found["four_references_db"] = predicted_db(codec, tested)
    learn(codec, "residual", residual_steps)
    learn(codec, "joint", joint_steps)
    found |= coded_figures(codec, tested)
    return found | (warped_figures(codec, tested) | stream_figures(codec, tested, coded) if arm == "whole" else {})


def priors(learning_rate: float) -> GroupConfig:
    """Return how the entropy models' densities learn: ten times as fast, since they begin ten times too wide."""
    return GroupConfig(names=("*_prior.*", "*.prior.*"), learning_rate=10.0 * learning_rate)


def built(sizes: MLVCNetConfig, seed: int) -> MLVC:
    """Return a codec with first weights; all arms of a seed begin alike where they have the same layers."""
    return MLVC(config=MLVCConfig(network=sizes, gop=LENGTH), seed=derive_seed(seed, "weights"))


def moving(seed: int, pictures: int, split: str) -> Source:
    """Return clips of a seed, of pictures of a split."""
    pool = picture_pool("skimage", TEXTURE, pictures, LEAST_CROP, split)
    return MovingClips(pool, SIZE, seed=derive_seed(seed, split))


def floats(tested: Mapping[str, Tensor]) -> list[Tensor]:
    """Return a clip's frames (B, 3, H, W) in [0, 1]."""
    return [frame.float() / 255.0 for frame in tested["frames"].unbind(dim=1)]


@torch.no_grad()
def motion_figures(codec: MLVC, tested: Mapping[str, Tensor]) -> dict[str, float]:
    """Return what motion takes, "motion_bpp", and its mean end-point error in pixels; past frames are the true ones."""
    frames = floats(tested)
    past, bits, errors = past_of(frames[0]), [], []
    for number, frame in enumerate(frames[1:]):
        flow, channel = tested["flow"][:, number], Estimate(noisy=False)
        motion = codec.network.code_motion(channel, past, to_units(flow))
        bits.append(channel.total().mean() / PIXELS)
        errors.append(end_point_error(UNIT * motion.refined, flow).mean())
        past = past.then(frame, motion.refined)
    return {"motion_bpp": float(torch.stack(bits).mean()), "motion_error": float(torch.stack(errors).mean())}


@torch.no_grad()
def predicted_db(codec: MLVC, tested: Mapping[str, Tensor]) -> float:
    """Return the PSNR of predicted frames in which something comes to light; past frames are the true ones."""
    frames = floats(tested)
    past, errors = past_of(frames[0]), []
    for number, frame in enumerate(frames[1:]):
        flow = tested["flow"][:, number]
        motion = codec.network.code_motion(Estimate(noisy=False), past, to_units(flow))
        predicted = codec.network.compensate(past, motion.refined).frame.clamp(0.0, 1.0)
        if number + 1 >= FIRST:
            rows = comes_to_light(past.frames[0], frame, flow)
            errors.append((predicted - frame).square().mean(dim=(1, 2, 3))[rows])
        past = past.then(frame, motion.refined)
    counted = torch.cat(errors)
    require(len(counted) > 0, "in no tested frame anything comes to light; use more examples=")
    return decibels(float(counted.mean()))


def comes_to_light(last: Tensor, frame: Tensor, flow: Tensor) -> Tensor:
    """Return which frames (B,) have pixels, 1 % or more, that the last frame moved by true motion does not show."""
    off = (moved(last, to_units(flow)) - frame).abs().amax(dim=1) > HIDDEN
    return off.flatten(1).float().mean(dim=1) >= SHARE


@torch.no_grad()
def coded_figures(codec: MLVC, tested: Mapping[str, Tensor]) -> dict[str, float]:
    """Return "cost" (D + 16 R), "distortion", "bpp" and "db" of frames but the first, each after decoded ones.

    "first_bpp" is what the first frame takes of its own, without JPEG's tables.
    """
    frames, seen = floats(tested), {"phase": torch.zeros(len(tested["frames"]))}
    state = codec.init_state(len(frames[0]), (SIZE, SIZE))
    errors, first = [], torch.zeros(len(frames[0]))
    for number, frame in enumerate(frames):
        flow = tested["flow"][:, number - 1] if number else torch.zeros_like(tested["flow"][:, 0])
        made, state = codec({**seen, "rgb": frame, "flow": flow}, state)
        if number:
            errors.append((made["rgb"] - frame).square().mean())
        else:
            first = state["bits"].clone()
    error = float(torch.stack(errors).mean())
    rate = float((state["bits"] - first).mean()) / PIXELS / (len(frames) - 1)
    cost = 255.0**2 * error + codec.config.rate_weight * rate
    alone = float(first.mean()) / PIXELS
    return {"cost": cost, "distortion": 255.0**2 * error, "bpp": rate, "db": decibels(error), "first_bpp": alone}


@torch.no_grad()
def warped_figures(codec: MLVC, tested: Mapping[str, Tensor]) -> dict[str, float]:
    """Return "warped_distortion": that of the decoded first frame, warped along by true motion and nothing else."""
    frames = floats(tested)
    last, errors = through_jpeg(frames[0], codec.quality)[0], []
    for number, frame in enumerate(frames[1:]):
        last = moved(last, to_units(tested["flow"][:, number]))
        errors.append((last - frame).square().mean())
    return {"warped_distortion": 255.0**2 * float(torch.stack(errors).mean())}
