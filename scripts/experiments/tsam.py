"""TSAM (arXiv:2104.03507), small: features that follow the flow fill holes that a plain shift cannot.

Drawn textures of 32x32 pan by a whole number of pixels a frame, up to 4 right and down, behind a hole of 6x6 at rest,
for five frames. One small network (6 gated 3x3 convolutions, the middle four shifted, a quarter of the channels from
each neighbour, all frames known) learns three times from the same clips: with features aligned by the flow, with the
plain temporal shift, and each frame by itself. On 64 clips of other seeds: decibels in the hole.

Then the aligned network's flow is broken: two pixels of noise, and what forth and back do not agree on is not followed.
And it is taken out of the hole and completed there, as without a simulator. Smooth filling and what was last seen at
the same pixel stand beside.

With reach_seeds=, a policy that learned to reach from clean pictures sees them behind a patch that moves: as they are,
and filled by TSAM. Its claims are not part of the committed run.

Claims: aligned features are worth 3 dB over the plain shift, in the worst seed; and with broken flow at most 0.3 dB are
lost against it. The bars were set before the first run. That the plain shift helps here is not claimed: features of
other places say nothing of a texture like this.

The first run had no "warned" network, which learns with broken flow in half of its clips. It was added because the
second claim failed: the aligned network has never seen its own features in the places of its neighbours'.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from envs.perception.inpainting.alignment import checked
from envs.perception.inpainting.classical import last_seen
from envs.perception.inpainting.clips import Panning
from envs.perception.inpainting.flow_completion import completed
from envs.perception.inpainting.network import TSAMNetConfig
from envs.perception.inpainting.tsam import TSAM, TSAMConfig
from rlsuite.data.counters import uniform
from rlsuite.data.source import Source
from rlsuite.errors import require, require_finite
from rlsuite.experiment import Claim, Result
from rlsuite.experiment.jobs import Jobs
from rlsuite.fit import FitConfig, fit
from rlsuite.metrics.pictures import decibels
from rlsuite.optim.choice import OptimizerConfig, ScheduleConfig
from rlsuite.running.seeding import derive_seed
from scripts.experiments.reaching import learned_claim, learned_share
from scripts.experiments.tsam_reaching import BEHIND, reach

ARMS = {"aligned": "aligned", "shift": "plain", "alone": "none", "warned": "aligned"}
LEARNS = ("steps", "batch_size", "width", "learning_rate", "clips", "noise")  # numbers that a job depends on
LEARNED = 0.5  # of the way from standing still to the expert that the policy must have come
REACHES = ("size", "states", "taught", "episodes", "filled")


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The experiment's numbers.

    Attributes:
        seeds: how many: 0, 1, ...
        steps: minibatches that each network learns from.
        batch_size: clips of each.
        width: channels of the network.
        learning_rate: Adam's, at most.
        clips: tested, in each seed others.
        noise: deviation of what breaks the flow, in pixels.
        aligned_bar: dB in the hole of aligned features above the plain shift, the worst seed.
        broken_bar: likewise with broken flow.
        reach_seeds: policies that reach, and see filled pictures; 0 for none.
        size: side of the pictures that they see, in pixels.
        states: pictures labelled in each of two rounds.
        taught: minibatches of each.
        episodes: scored.
        filled: minibatches that TSAM learns to fill their pictures from.
    """

    seeds: int = 3
    steps: int = 400
    batch_size: int = 4
    width: int = 24
    learning_rate: float = 2e-3
    clips: int = 64
    noise: float = 2.0
    aligned_bar: float = 3.0
    broken_bar: float = -0.3
    reach_seeds: int = 0
    size: int = 48
    states: int = 2000
    taught: int = 300
    episodes: int = 20
    filled: int = 400

    def __post_init__(self) -> None:
        for name in ("seeds", "steps", "batch_size", "clips", "size", "states", "taught", "episodes", "filled"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require(self.width >= 8, f"width={self.width}: use 8 or more")
        require(self.reach_seeds >= 0, f"reach_seeds={self.reach_seeds}: use 0 (none) or more")
        require_finite("noise", self.noise, low=0.0)
        require_finite("learning_rate", self.learning_rate, above=0.0)


DEBUG = Numbers(seeds=1, steps=2, batch_size=2, width=8, clips=4)


def run(numbers: Numbers, jobs: Jobs) -> Result:
    """Learn, measure, and test the claims."""
    seeds = tuple(range(numbers.seeds))
    found = jobs.grid(learn, arms=tuple(ARMS), seeds=seeds, **{name: getattr(numbers, name) for name in LEARNS})
    table = {arm: tuple(one["exact"] for one in results) for arm, results in found.items()}
    others = ("broken", "completed", "smooth", "last seen")
    table |= {name: tuple(one[name] for one in found["aligned"]) for name in others}
    table["warned, broken"] = tuple(one["broken"] for one in found["warned"])
    for name, values in table.items():
        print(f"{name:14} dB in the hole, by seed: {', '.join(f'{value:.2f}' for value in values)}", flush=True)
    figures: dict[str, Any] = {"hole_psnr": table}
    claimed = claims(table, numbers)
    if numbers.reach_seeds:
        inputs = {name: getattr(numbers, name) for name in REACHES}
        (reached,) = jobs.grid(reach, arms=("reach",), seeds=range(numbers.reach_seeds), **inputs).values()
        figures["returns"] = {name: tuple(one[name] for one in reached) for name in reached[0]}
        for name, values in figures["returns"].items():
            print(f"{name:10} returns, by seed: {', '.join(f'{value:.2f}' for value in values)}", flush=True)
        claimed += reach_claims(figures["returns"])
    return Result(
        seeds=seeds,
        claims=claimed,
        figures=figures,
        full_scale=(
            "python scripts/train_perceiver.py perception=inpainting/tsam data=DAVIS size=240 steps=500000 "
            "batch_size=8 tsam.network.encoder=resnet50 tsam.network.width=64 tsam.network.causal=false tsam.window=7 "
            "tsam.vgg=VGG16.safetensors tsam.perceptual=1 tsam.style=2 tsam.adversarial=1 learning_rate=2.5e-4 "
            "output=tsam.safetensors"
        ),
    )


def claims(table: dict[str, tuple[float, ...]], numbers: Numbers) -> tuple[Claim, ...]:
    """Return the claims for decibels in the hole by name and seed."""

    def above(name: str) -> float:
        return min(one - other for one, other in zip(table[name], table["shift"], strict=True))

    return (
        Claim(
            statement="dB in the hole of aligned features above the plain shift, the worst seed",
            margin=numbers.aligned_bar,
            figures=(above("aligned"),),
        ),
        Claim(
            statement=f"the same with {numbers.noise:g} pixels of noise on the flow",
            margin=numbers.broken_bar,
            figures=(above("broken"),),
        ),
        Claim(
            statement="the same of a network that learned with such flow in half of its clips",
            margin=numbers.broken_bar,
            figures=(above("warned, broken"),),
        ),
    )


def reach_claims(returns: dict[str, tuple[float, ...]]) -> tuple[Claim, ...]:
    """Return the claims for returns by what is seen and seed: it reaches; filling helps, no better than seeing does."""

    def gains(one: str, other: str) -> tuple[float, ...]:
        return tuple(first - second for first, second in zip(returns[one], returns[other], strict=True))

    shares = (
        learned_share(clean, {"still": still, "expert": expert})
        for clean, still, expert in zip(returns["clean"], returns["still"], returns["expert"], strict=True)
    )
    return (
        learned_claim(tuple(shares), LEARNED),
        Claim(
            statement="return behind a patch, filled minus as it is", margin=0.0, figures=gains(BEHIND[1], BEHIND[0])
        ),
        Claim(
            statement="return without a patch minus behind one, filled", margin=0.0, figures=gains("clean", BEHIND[1])
        ),
    )


def learn(
    arm: str,
    seed: int,
    folder: Path,
    *,
    steps: int,
    batch_size: int,
    width: int,
    learning_rate: float,
    clips: int,
    noise: float,
) -> dict[str, float]:
    """Return decibels in the hole of an arm by which flow it is given; of the aligned one also those of other ways.

    Args:
        arm: one of ARMS.
        seed: of weights and clips.
        folder: unused.
        steps: see Numbers; likewise those that follow.
        batch_size: see there.
        width: see there.
        learning_rate: see there.
        clips: see there.
        noise: see there.
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    sizes = TSAMNetConfig(width=width, shift=ARMS[arm], causal=False)
    tsam = TSAM(config=TSAMConfig(network=sizes), seed=derive_seed(seed, "weights"))
    clips_seen = Panning(seed=derive_seed(seed, "examples"))
    fit(
        tsam,
        lambda _, batch: tsam.losses(batch),
        Warned(clips_seen, noise, derive_seed(seed, "warned")) if arm == "warned" else clips_seen,
        FitConfig(
            steps=steps,
            batch_size=batch_size,
            order="random",
            optimizer=OptimizerConfig(name="adam", learning_rate=learning_rate),
            schedule=ScheduleConfig(kind="cosine", warmup=min(20, steps - 1), final=0.05),
            clip_norm=1.0,
        ),
        seed=seed,
    )
    tsam.eval()
    tested = Panning(seed=derive_seed(seed, "tested")).examples(torch.arange(clips))
    truth, known, flow = tested["frames"].float() / 255.0, tested["known"], (tested["forward"], tested["backward"])
    given = {"exact": flow}
    if ARMS[arm] == "aligned":
        given["broken"] = broken(flow, noise, seed)
    if arm == "aligned":
        given["completed"] = filled_in(flow, known)
    with torch.no_grad():
        made = {name: tsam.network(truth, known, checked(*flows)) for name, flows in given.items()}
    if arm == "aligned":
        hidden = torch.where(known, truth, 0.0)
        smooth = completed(hidden.flatten(0, 1), ~known.flatten(0, 1)).view_as(truth)
        made |= {"smooth": smooth, "last seen": last_seen(hidden, ~known)}
    return {name: hole_decibels(frames, truth, known) for name, frames in made.items()}


class Warned:
    """A source of clips, half of which have flow with noise.

    Args:
        source: of clips.
        noise: its deviation, in pixels.
        seed: of the noise, and of who has it.
    """

    def __init__(self, source: Source, noise: float, seed: int) -> None:
        self.source, self.noise, self.seed = source, noise, seed

    def __len__(self) -> int:
        return len(self.source)

    def examples(self, index: Tensor) -> dict[str, Tensor]:
        """Return the examples at index (B,)."""
        found = self.source.examples(index)
        flow = torch.stack([found["forward"], found["backward"]], dim=1)
        draws = uniform(self.seed, index, 1 + flow[0].numel())
        # Normal numbers by their distribution's inverse; 2^-54 keeps them finite.
        normal = math.sqrt(2.0) * torch.erfinv(2.0 * (draws[:, 1:] + 2.0**-54) - 1.0).float().view_as(flow)
        has = (draws[:, 0] < 0.5).view(-1, 1, 1, 1, 1, 1)
        forward, backward = (flow + self.noise * normal * has).unbind(dim=1)
        return {**found, "forward": forward, "backward": backward}


def broken(flow: tuple[Tensor, Tensor], noise: float, seed: int) -> tuple[Tensor, Tensor]:
    """Return flow forth and back with normal noise on each pixel's numbers."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "noise"))
    forward, backward = (one + noise * torch.randn(one.shape, generator=generator) for one in flow)
    return forward, backward


def filled_in(flow: tuple[Tensor, Tensor], known: Tensor) -> tuple[Tensor, Tensor]:
    """Return flow forth and back of which nothing was known in holes of the frames it begins at, completed there."""
    forward, backward = (
        completed(one.flatten(0, 1), ~known[:, part].flatten(0, 1)).view_as(one)
        for one, part in zip(flow, (slice(None, -1), slice(1, None)), strict=True)
    )
    return forward, backward


def hole_decibels(frames: Tensor, truth: Tensor, known: Tensor) -> float:
    """Return the PSNR in dB over all holes of clips (B, L, 3, H, W) together."""
    error = (frames - truth).square().mean(dim=2, keepdim=True)
    return decibels(float(error[~known].mean()))
