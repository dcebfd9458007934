"""RIFE (arXiv:2011.06294), small: frames in between that are nearer the truth than the average of both around them.

The suite's shipped network learns on from its weights, with the paper's loss and without its teacher ("undistilled"),
on the same minibatches of moving pictures; three seeds. Both are tested on pictures that no training has seen, moved in
ways none has seen, beside the average of both frames, one of them, and OpenCV's optical flow; frames in the middle.
Figures count where something moves: where the two frames differ by more than 0.05.

Claim: RIFE is 2 dB or more above the average in every seed. Distillation's gain, the flow's end-point error against
the exact flow, and held-out frames of real clips (where RLSUITE_DATA names some) are reported and not claimed. Of the
gain little can be expected: the teacher is new, and its head is drawn so that at first it says what the student's last
block says; in so few minibatches it gets hardly ahead of it.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from envs.painting.pictures import picture_pool
from envs.perception.interpolation.classical import DIS, Average, DISConfig, Repeat
from envs.perception.interpolation.interpolator import InterpolatorConfig
from envs.perception.interpolation.moving import MovingPictures
from envs.perception.interpolation.network import RIFENetConfig
from envs.perception.interpolation.rife import LEAST_CROP, PICTURES, RIFE, SHIPPED, TEXTURE
from envs.perception.weights import build_perceiver, choose_perceivers
from rlsuite.errors import require
from rlsuite.experiment import Claim, Result
from rlsuite.experiment.jobs import Jobs
from rlsuite.fit import FitConfig, fit
from rlsuite.metrics.flow import end_point_error
from rlsuite.metrics.masks import mean_where
from rlsuite.optim.choice import OptimizerConfig, ScheduleConfig
from rlsuite.running.seeding import derive_seed
from scripts.experiments import rife_clips

SIZE, MOVED = 64, 0.05
ARMS = {"rife": 0.01, "undistilled": 0.0}  # weights of the teacher's flow; the paper's is 0.01, RIFE_m's half of it
NO_CUTS = -1.0
LEARNS = ("steps", "batch_size", "learning_rate", "examples", "pictures", "fresh")  # numbers that a job depends on


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The experiment's numbers.

    Attributes:
        seeds: how many: 0, 1, ...
        steps: minibatches that each arm learns on from.
        batch_size: examples of each.
        learning_rate: the largest.
        examples: tested, in each seed others.
        pictures: still ones that are moved to learn from; a quarter as many are tested on.
        made: held-out frames of each real clip; 0 for none.
        fresh: learn from first weights of a tiny network instead of the shipped ones.
        average_bar: dB above the average where something moves, in every seed.
    """

    seeds: int = 3
    steps: int = 150
    batch_size: int = 4
    learning_rate: float = 2e-4
    examples: int = 64
    pictures: int = PICTURES
    made: int = 8
    fresh: bool = False
    average_bar: float = 2.0

    def __post_init__(self) -> None:
        for name in ("seeds", "steps", "batch_size", "examples", "pictures"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require(self.made >= 0, f"made={self.made}: use 0 (no clips) or more")


DEBUG = Numbers(seeds=1, steps=2, batch_size=2, examples=4, pictures=8, made=0, fresh=True)


def run(numbers: Numbers, jobs: Jobs) -> Result:
    """Learn, measure, and test the claim."""
    seeds, weights = tuple(range(numbers.seeds)), digest(numbers.fresh)
    inputs = {name: getattr(numbers, name) for name in LEARNS}
    found = jobs.grid(learn, arms=tuple(ARMS), seeds=seeds, weights=weights, **inputs)

    def by_seed(figure: str, *others: str) -> dict[str, tuple[float, ...]]:
        own = {arm: tuple(one[figure][arm] for one in found[arm]) for arm in ARMS}
        return own | {name: tuple(one[figure][name] for one in found["rife"]) for name in others}

    psnrs = by_seed("psnr", "shipped", "average", "repeat", "dis")
    errors = by_seed("epe", "shipped", "zero", "dis")
    gain = tuple(one - other for one, other in zip(psnrs["rife"], psnrs["undistilled"], strict=True))
    for what, table in (("dB where something moves", psnrs), ("pixels of end-point error", errors)):
        for name, values in table.items():
            print(f"{name:12} {what}, by seed: {', '.join(f'{value:.3f}' for value in values)}", flush=True)
    print(f"distillation's gain in dB, by seed: {', '.join(f'{value:+.3f}' for value in gain)}", flush=True)
    figures = {"psnr": psnrs, "epe": errors, "distillation_gain": gain, "clips": real_clips(numbers, jobs, weights)}
    return Result(
        seeds=seeds,
        claims=claims(psnrs, numbers),
        figures=figures,
        full_scale=(
            "python scripts/train_perceiver.py perception=interpolation/rife data=VIMEO90K size=224 steps=240000 "
            "batch_size=64 learning_rate=3e-4 warmup=2000 rife.network.widths=[240,150,90] rife.network.context=16 "
            "output=rife.safetensors"
        ),
    )


def claims(psnrs: Mapping[str, tuple[float, ...]], numbers: Numbers) -> tuple[Claim, ...]:
    """Return the claim for the PSNRs by arm and seed."""
    above = [one - other for one, other in zip(psnrs["rife"], psnrs["average"], strict=True)]
    return (
        Claim(
            statement="dB of RIFE above the average where something moves, the worst seed",
            margin=numbers.average_bar,
            figures=(min(above),),
        ),
    )


def learn(
    arm: str,
    seed: int,
    folder: Path,
    weights: str,
    steps: int,
    batch_size: int,
    learning_rate: float,
    examples: int,
    pictures: int,
    fresh: bool,
) -> dict[str, Any]:
    """Return "psnr" in dB and "epe" in pixels by name, of an arm and of all that it is compared with.

    Args:
        arm: "rife" or "undistilled".
        seed: of minibatches and of what is tested.
        folder: unused.
        weights: digest of what it learns on from.
        steps: see Numbers; likewise those that follow.
        batch_size: see there.
        learning_rate: see there.
        examples: see there.
        pictures: see there.
        fresh: see there.
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    rife, tested = network(fresh, ARMS[arm], seed), held_out(seed, examples, pictures)
    first, second, time = tested["first"], tested["second"], tested["time"]
    cuts = InterpolatorConfig(cut_below=NO_CUTS)
    dis = DIS(config=DISConfig(cut_below=NO_CUTS))
    frames = {"average": Average(config=cuts).between(first, second, time), "dis": dis.between(first, second, time)}
    frames["repeat"] = Repeat(config=cuts).between(first, second, time)
    flows = {"zero": torch.zeros_like(tested["flow"]), "dis": dis.flow(first, second, time)}
    with torch.no_grad():
        frames["shipped"], flows["shipped"] = rife.between(first, second, time), rife.flow(first, second, time)
    pool = picture_pool("skimage", TEXTURE, pictures, LEAST_CROP, "train")
    fit(
        rife,
        lambda _, batch: rife.losses(batch),
        MovingPictures(pool, SIZE, seed=derive_seed(seed, "examples"), timed=False),
        FitConfig(
            steps=steps,
            batch_size=batch_size,
            order="random",
            optimizer=OptimizerConfig(name="adamw", learning_rate=learning_rate, weight_decay=1e-3),
            schedule=ScheduleConfig(kind="cosine", warmup=20, final=0.01),
            clip_norm=1.0,
        ),
        seed=seed,
    )
    rife.eval()
    with torch.no_grad():
        frames[arm], flows[arm] = rife.between(first, second, time), rife.flow(first, second, time)
    return {
        "psnr": {name: moving_psnr(frame, tested) for name, frame in frames.items()},
        "epe": {name: flow_error(flow, tested) for name, flow in flows.items()},
    }


def network(fresh: bool, distillation: float, seed: int) -> RIFE:
    """Return the shipped network, its teacher new, ready to learn by the paper's loss; or a tiny new one."""
    (method,) = choose_perceivers(["interpolation/rife"]) if not fresh else (None,)
    sizes = RIFENetConfig(widths=(8, 8, 8), context=2, timed=False) if method is None else method.config.network
    config = dataclasses.replace(RIFE.Config(), network=sizes, distillation=distillation, cut_below=NO_CUTS)
    rife = RIFE(config=config, seed=derive_seed(seed, "weights"))
    if method is not None:
        rife.network.load_state_dict(build_perceiver(method).network.state_dict())
    return rife


def held_out(seed: int, examples: int, pictures: int) -> dict[str, Tensor]:
    """Return tested examples, frames in [0, 1]: pictures that are in no training, in motion of this seed."""
    pool = picture_pool("skimage", TEXTURE, max(2, pictures // 4), LEAST_CROP, "test")
    found = MovingPictures(pool, SIZE, seed=derive_seed(seed, "tested"), timed=False).examples(torch.arange(examples))
    return {name: value.float() / (255.0 if value.dtype == torch.uint8 else 1.0) for name, value in found.items()}


def moving_psnr(frames: Tensor, tested: Mapping[str, Tensor]) -> float:
    """Return the PSNR in dB over all pixels, of all examples together, where the two frames differ by over 0.05."""
    moves = (tested["first"] - tested["second"]).abs().amax(dim=1, keepdim=True) > MOVED
    error = (frames.clamp(0.0, 1.0) - tested["middle"]).square().mean(dim=1, keepdim=True)
    return float(-10.0 * torch.log10(mean_where(error.flatten()[None], moves.flatten()[None])))


def flow_error(flow: Tensor, tested: Mapping[str, Tensor]) -> float:
    """Return the mean end-point error of both flows, in pixels."""
    pairs = [(flow[:, place : place + 2], tested["flow"][:, place : place + 2]) for place in (0, 2)]
    return float(torch.stack([end_point_error(*pair).mean() for pair in pairs]).mean())


def real_clips(numbers: Numbers, jobs: Jobs, weights: str) -> dict[str, Any]:
    """Return figures of held-out frames of real clips by method, {} where there are none."""
    data = rife_clips.data_folder() if numbers.made else ""
    if not data:
        print(f"no real clips: {rife_clips.VARIABLE} names none", flush=True)
        return {}
    inputs = {"data": data, "made": numbers.made, "weights": weights}
    found = jobs.grid(rife_clips.measure, arms=rife_clips.methods(), seeds=(0,), **inputs)
    figures = {method: results[0] for method, results in found.items()}
    for method, one in figures.items():
        values = ", ".join(f"{name} {value:.2f}" for name, value in one["psnr"].items())
        print(f"{method:12} dB of held-out frames: {values}", flush=True)
    return figures


def digest(fresh: bool) -> str:
    """Return what tells other shipped weights apart; UserError where there are none."""
    if fresh:
        return ""
    require(SHIPPED.is_file(), f"{SHIPPED}: there are no weights to learn on from; train some (docs/methods/rife.md)")
    return hashlib.sha256(SHIPPED.read_bytes()).hexdigest()[:12]
