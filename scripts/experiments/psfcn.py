"""PS-FCN and LCNet (arXiv:2007.13145), small: normals that highlights do not mislead, and lights told from pictures.

A quarter of the paper's widths learns on random blobs of one material each (Blinn and Phong's, attached shadows, random
lights), and is tested on new blobs that shine, beside Lambertian least squares: fused by the maximum, by the mean (seed
0 alone), and "+N" on observations that are normalized. +N and the plain network are then tested on the same shapes
under a checkered albedo, which no training has shown. LCNet tells each light's direction; it is compared with always
answering the mean of all lights.

Claims. The maximum's error is so much below that of least squares on the mean of seeds; on checkers, +N's is below the
plain network's; LCNet's median error is below half of the mean light's. Maximum against mean, the error of strengths,
normals behind LCNet's lights, and flashes of a simulated hand (`envs/flashes.py`) are reported and not claimed.

The first full run, of 1200 minibatches for all networks, fell short of the first claim (21.5 % for 25): networks of
normals now see 1800, LCNet, which was far inside its bar, a third of that. No bar was changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import envs
from envs.cameras import Cameras
from envs.perception.stereo.blobs import BlobConfig, Blobs
from envs.perception.stereo.crops import CropConfig, Crops
from envs.perception.stereo.lcnet import LCNet, LCNetConfig, light_loss, strength_error
from envs.perception.stereo.least_squares import least_squares, lit
from envs.perception.stereo.psfcn import PSFCNNet, PSFCNNetConfig, cosine_loss
from envs.perception.stereo.shading import flash_lights
from rlsuite.config.camera import CameraConfig
from rlsuite.data.arrays import kept
from rlsuite.errors import require
from rlsuite.experiment import Claim, Result
from rlsuite.experiment.jobs import Jobs
from rlsuite.fit import FitConfig, fit
from rlsuite.metrics.normals import angles, angular_error
from rlsuite.optim.choice import OptimizerConfig, ScheduleConfig
from rlsuite.running.seeding import derive_seed

SIZE, SIDE, LIGHTS = 32, 16, 16
COUNTS = (8, 16, 32)  # of lights that one trained network is given
SHINES = BlobConfig(lights=LIGHTS, specular_low=0.4, specular_high=0.8)


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The experiment's numbers.

    Attributes:
        seeds: how many: 0, 1, ...
        steps: minibatches of each network of normals; LCNet has a third of them.
        batch_size: blobs of each.
        blobs: to learn from; a tenth as many are tested on.
        learns_with: lights of each example that networks of normals learn with.
        width: of the first layers; the paper's is 64.
        task: whose flashes are looked at by seed 0's network; "" for none.
        frames: of the task.
        below_bar: how much lower in % the maximum's error is than that of least squares, on the mean, at least.
        checkers_bar: degrees by which +N is better than the plain network on checkers, on the mean, more than.
        lights_bar: LCNet's median error over that of the mean light, on the mean, at most.
    """

    seeds: int = 3
    steps: int = 1800
    batch_size: int = 8
    blobs: int = 400
    learns_with: int = 12
    width: int = 16
    task: str = "HandReach"
    frames: int = 8
    below_bar: float = 25.0
    checkers_bar: float = 0.0
    lights_bar: float = 0.5

    def __post_init__(self) -> None:
        for name in ("seeds", "steps", "batch_size", "learns_with", "width", "frames"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require(self.blobs >= 10, f"blobs={self.blobs}: use 10 or more")


DEBUG = Numbers(seeds=1, steps=2, batch_size=2, blobs=20, learns_with=4, width=2, task="", frames=1)


def run(numbers: Numbers, jobs: Jobs) -> Result:
    """Learn, measure, and test the claims."""
    seeds = tuple(range(numbers.seeds))
    names = ("steps", "batch_size", "blobs", "learns_with", "width", "task", "frames")
    inputs = {name: getattr(numbers, name) for name in names}
    found = jobs.grid(learn, arms=("max", "normalized"), seeds=seeds, **inputs)
    found |= jobs.grid(learn, arms=("mean",), seeds=(0,), **inputs)
    lights = tuple(one["lights"] for one in found["max"])
    for arm, results in found.items():
        for one in results:
            shown = ", ".join(f"{name} {value:.2f}" for name, value in one.items() if isinstance(value, float))
            print(f"{arm:10} degrees: {shown}", flush=True)
    for one in lights:
        print("lights: " + ", ".join(f"{name} {value:.3f}" for name, value in one.items()), flush=True)
    return Result(
        seeds=seeds,
        claims=claims(found, lights, numbers),
        figures={arm: list(results) for arm, results in found.items()},
        full_scale=(
            "python scripts/train_perceiver.py perception=stereo/psfcn data=PS_SCULPTURE psfcn.network.width=64 "
            "size=128 steps=79000 batch_size=32 learning_rate=1e-3 output=psfcn.safetensors"
        ),
    )


def claims(found: Mapping[str, Any], lights: Any, numbers: Numbers) -> tuple[Claim, ...]:
    """Return the claims for errors by arm and seed."""
    below = tuple(100.0 * (1.0 - one["shining"] / one["least squares"]) for one in found["max"])
    pairs = zip(found["max"], found["normalized"], strict=True)
    return (
        Claim(
            statement="% by which PS-FCN's error is below that of least squares",
            margin=numbers.below_bar,
            figures=below,
        ),
        Claim(
            statement="degrees by which +N's error on checkers is below the plain network's",
            margin=numbers.checkers_bar,
            figures=tuple(plain["checkers"] - other["checkers"] for plain, other in pairs),
        ),
        Claim(
            statement="LCNet's median error over that of always answering the mean light",
            margin=numbers.lights_bar,
            figures=tuple(one["median"] / one["mean light"] for one in lights),
            at_least=False,
        ),
    )


def learn(
    arm: str,
    seed: int,
    folder: Path,
    steps: int,
    batch_size: int,
    blobs: int,
    learns_with: int,
    width: int,
    task: str,
    frames: int,
) -> dict[str, Any]:
    """Return mean errors in degrees of a network of normals on "shining" blobs and others, and of least squares.

    With "max" goes LCNet: its errors are "lights" (see `tell`), and "behind LCNet" is what the network makes of shining
    blobs by LCNet's lights.

    Args:
        arm: "max", "mean" or "normalized".
        seed: of weights, blobs and minibatches.
        folder: unused.
        steps: see Numbers; likewise those that follow.
        batch_size: see there.
        blobs: see there.
        learns_with: see there.
        width: see there.
        task: see there.
        frames: see there.
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    fusion, normalized = ("mean" if arm == "mean" else "max"), arm == "normalized"
    config = PSFCNNetConfig(width=width, normalized=normalized, trained_with=learns_with, fusion=fusion)
    network = PSFCNNet(config, derive_seed(seed, "network"))
    brightness = 1.0 if normalized else 2.0
    crops = CropConfig(lights=learns_with, side=SIDE, rescaled=False, brightness=brightness, noise=0.02)

    def loss(_: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"loss": cosine_loss(network(batch["images"], batch["lights"]), batch["normals"], batch["mask"])}

    fit(network, loss, crops_of(blobs, crops, seed), schedule(steps, batch_size), seed=seed)
    network.eval()
    shining = tested(seed, blobs // 10, SHINES)
    found: dict[str, Any] = {"shining": error(network, shining), "least squares": error(None, shining)}
    for count in COUNTS:
        found[f"{count} lights"] = error(network, tested(seed, blobs // 10, replace(SHINES, lights=count)))
    checkers = tested(seed, blobs // 10, replace(SHINES, checkers=4))
    found |= {"checkers": error(network, checkers), "least squares, checkers": error(None, checkers)}
    if arm == "max":
        lights = learn_lights(seed, max(steps // 3, 1), batch_size, blobs, width)
        found["lights"] = tell(lights, seed, blobs // 10)
        directions, _ = lights.estimate(shining["images"], shining["mask"])
        found["behind LCNet"] = error(network, shining | {"lights": directions})
    if task and arm != "mean" and seed == 0:
        flashes = flashes_of(task, frames)
        found |= {"simulated": error(network, flashes), "least squares, simulated": error(None, flashes)}
    return found


def learn_lights(seed: int, steps: int, batch_size: int, blobs: int, width: int) -> LCNet:
    """Return an LCNet that has learned from `steps` minibatches; for the others see `learn`."""
    network = LCNet(LCNetConfig(width=width, size=SIZE, angles=12), derive_seed(seed, "lights"))
    crops = CropConfig(lights=LIGHTS, side=0, rescaled=False, brightness=2.0, noise=0.02, strengths=True)

    def loss(_: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        found = network(batch["images"], batch["mask"])
        return {"loss": light_loss(found, batch["lights"], batch["strengths"])}

    fit(network, loss, crops_of(blobs, crops, seed), schedule(steps, batch_size), seed=seed)
    return network.eval()


def tell(network: LCNet, seed: int, count: int) -> dict[str, float]:
    """Return errors of directions in degrees, "median" and "mean"; the "mean light"'s; and those of "strengths".

    The blobs are new ones, of all kinds that were learned from; the mean light is that of the tested ones.
    """
    plain = kept(Blobs(count, SIZE, BlobConfig(lights=LIGHTS), derive_seed(seed, "tested")), count)
    strong = CropConfig(lights=LIGHTS, side=0, brightness=1.0, noise=0.0, strengths=True)
    test = Crops(plain, strong, derive_seed(seed, "strengths")).examples(torch.arange(count))
    directions, strengths = network.estimate(test["images"], test["mask"])
    away = angles(directions, test["lights"], dim=-1)
    mean = functional.normalize(test["lights"].mean(dim=(0, 1), keepdim=True), dim=-1)
    guessed = angles(mean.expand_as(test["lights"]), test["lights"], dim=-1)
    return {
        "median": float(away.median()),
        "mean": float(away.mean()),
        "mean light": float(guessed.median()),
        "mean light, mean": float(guessed.mean()),
        "strengths": float(strength_error(strengths, test["strengths"]).mean()),
        "strengths all alike": float(strength_error(torch.ones_like(strengths), test["strengths"]).mean()),
    }


def crops_of(blobs: int, crops: CropConfig, seed: int) -> Crops:
    """Return what networks learn from."""
    plain = Blobs(blobs, SIZE, BlobConfig(), derive_seed(seed, "blobs"))
    return Crops(kept(plain, blobs), crops, derive_seed(seed, "crops"))


def schedule(steps: int, batch_size: int) -> FitConfig:
    """Return how they learn: Adam from 1e-3, halved three times."""
    milestones = (steps // 2, 3 * steps // 4, 7 * steps // 8)
    return FitConfig(
        steps=steps,
        batch_size=batch_size,
        order="random",
        optimizer=OptimizerConfig(name="adam", learning_rate=1e-3),
        schedule=ScheduleConfig(kind="step", milestones=milestones, factors=(0.5, 0.25, 0.125)),
    )


def tested(seed: int, count: int, config: BlobConfig) -> dict[str, Tensor]:
    """Return blobs that no training has seen; of one seed always the same shapes."""
    return Blobs(count, SIZE, config, derive_seed(seed, "tested")).examples(torch.arange(count))


def flashes_of(task: str, frames: int) -> dict[str, Tensor]:
    """Return flashes of a task at its episodes' begin, joints moved a little at random, and its true normals."""
    env = envs.make_vector(task, frames, num_threads=1, flat=True)
    env.reset(seed=0)
    cameras = Cameras(env.task, CameraConfig(size=2 * SIZE), fields=("flashes", "ids", "normals"))
    start = env.simulation.field("qpos")
    qpos = start + 0.1 * torch.randn(start.shape, generator=torch.Generator().manual_seed(0))
    seen = cameras.frames(qpos, env.simulation.memory)
    env.close()
    images, mask = lit(seen)
    lights = flash_lights().unsqueeze(0).expand(frames, -1, -1)
    return {"images": images, "lights": lights, "normals": seen["normals"], "mask": mask}


@torch.no_grad()
def error(network: PSFCNNet | None, test: dict[str, Tensor]) -> float:
    """Return the mean error in degrees of a network, or without one of least squares."""
    images, lights = test["images"], test["lights"]
    found = least_squares(images, lights)[0] if network is None else network(images, lights)
    return float(angular_error(found, test["normals"], test["mask"][:, 0] > 0).nanmean())
