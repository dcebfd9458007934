"""DeepViT (arXiv:2103.11886), small: in deep transformers attention maps become copies, unless heads are mixed.

Vision transformers of 24 blocks, 48 wide, 6 heads, learn 1,200 of scikit-learn's digits (16 patches and a class token)
with plain attention ("plain-24") and with re-attention in every block ("mixed-24"); on the first seed also with mixing
that starts as the identity ("identity-24"), with larger first weights, of one over the root of the width
("plain.fan-24", "mixed.fan-24"), and with 6 blocks of either kind. On 597 digits held back the maps of blocks that
follow each other are compared: their mean cosine, and how many blocks are copies of the one before (a cosine above 0.8,
or 0.9, at more than nine tenths of heads and tokens). Two kinds of maps are measured: the softmax, and what multiplies
the values, which re-attention has mixed and normalized.

Claims, in every seed, at 24 blocks: neighbours' maps as they multiply the values are less similar by 0.2 with
re-attention; none of its blocks is a copy; and its accuracy is no more than a point below plain attention's. How the
softmaxes compare is reported. That it ends higher after long training on many pictures, the paper's table, is out of
reach here. The bars were set before the first run, of 14 epochs, in which first weights had the deviation of 0.02 that
they have in the paper's tokens of 384 numbers: of 48, scores are near zero, and all maps begin uniform, which the
BatchNorm of re-attention alone makes up for. Since then it is scaled to the width, in all arms, and epochs are 20.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from rlsuite.data.arrays import Arrays
from rlsuite.data.digits import digits
from rlsuite.errors import require
from rlsuite.experiment import Claim, Result
from rlsuite.experiment.jobs import Jobs
from rlsuite.fit import FitConfig, fit
from rlsuite.metrics.attention import attention_cosines, similar_blocks
from rlsuite.nn.vision.deep_vit import PAPER_WIDTH, DeepViT, DeepViTConfig
from rlsuite.optim.choice import GroupConfig, OptimizerConfig, ScheduleConfig
from rlsuite.running.seeding import derive_seed

LEARNED = 1200
KINDS: dict[str, dict[str, Any]] = {
    "plain": {"mixed": 0},
    "mixed": {"mixed": -1},
    "identity": {"mixed": -1, "start": "identity"},
    "plain.fan": {"mixed": 0, "deviation": PAPER_WIDTH**-0.5},
    "mixed.fan": {"mixed": -1, "deviation": PAPER_WIDTH**-0.5},
}
THRESHOLDS = (0.8, 0.9)


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The experiment's numbers.

    Attributes:
        seeds: how many: 0, 1, ...; of the claims' two networks.
        side_seeds: how many of them the other networks have.
        depth: blocks of the deep networks.
        shallow: of the others.
        width: numbers of a token; six heads share it.
        epochs: over the digits learned from, in minibatches of 64.
        similarity_bar: how much less similar neighbours' maps are.
        copies_bar: copies among re-attention's blocks, at most.
        accuracy_bar: points that re-attention gains, at least.
    """

    seeds: int = 3
    side_seeds: int = 1
    depth: int = 24
    shallow: int = 6
    width: int = 48
    epochs: int = 20
    similarity_bar: float = 0.2
    copies_bar: float = 0.0
    accuracy_bar: float = -1.0

    def __post_init__(self) -> None:
        for name in ("seeds", "side_seeds", "epochs"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require(self.side_seeds <= self.seeds, f"side_seeds={self.side_seeds}: use at most seeds={self.seeds}")
        require(self.width >= 6 and self.width % 6 == 0, f"width={self.width}: six heads share it; use a multiple of 6")
        for name in ("depth", "shallow"):
            require(getattr(self, name) >= 2, f"{name}={getattr(self, name)}: use 2 or more")
        require(self.shallow != self.depth, f"shallow={self.shallow}: use another number than depth={self.depth}")


DEBUG = Numbers(seeds=1, depth=3, shallow=2, width=12, epochs=1)


def run(numbers: Numbers, jobs: Jobs) -> Result:
    """Learn, compare maps, and test the claims."""
    seeds = tuple(range(numbers.seeds))
    deep = [f"{kind}-{numbers.depth}" for kind in ("plain", "mixed")]
    inputs: dict[str, Any] = {"width": numbers.width, "epochs": numbers.epochs}
    found = jobs.grid(classify, arms=deep, seeds=seeds, **inputs)
    side = [f"{kind}-{numbers.depth}" for kind in ("identity", "plain.fan", "mixed.fan")]
    side += [f"{kind}-{numbers.shallow}" for kind in ("plain", "mixed")]
    found |= jobs.grid(classify, arms=side, seeds=seeds[: numbers.side_seeds], **inputs)
    for arm, each in found.items():
        for name in ("accuracy", "loss", *each[0]):
            if isinstance(each[0][name], float):
                print(f"{arm:12} {name}: {', '.join(f'{one[name]:.3f}' for one in each)}", flush=True)
    return Result(
        seeds=seeds,
        claims=claims(found[deep[0]], found[deep[1]], numbers),
        figures={"found": found},
        full_scale="python scripts/reproduce.py paper=deepvit seeds=10 side_seeds=10 depth=32 width=192 epochs=200",
    )


def claims(
    plain: Sequence[Mapping[str, float]], mixed: Sequence[Mapping[str, float]], numbers: Numbers
) -> tuple[Claim, ...]:
    """Return the claims for what `classify` returns of the deep networks, by seed."""
    pairs = list(zip(plain, mixed, strict=True))
    rows = (
        (
            "similarity of neighbours' maps that re-attention takes away",
            numbers.similarity_bar,
            min(one["used cosine"] - other["used cosine"] for one, other in pairs),
            True,
        ),
        (
            "copies among blocks with re-attention",
            numbers.copies_bar,
            max(other["used copies 0.9"] for other in mixed),
            False,
        ),
        (
            "points of accuracy that re-attention gains",
            numbers.accuracy_bar,
            min(other["accuracy"] - one["accuracy"] for one, other in pairs),
            True,
        ),
    )
    return tuple(
        Claim(statement=f"{text}, the worst seed", margin=bar, figures=(figure,), at_least=at_least)
        for text, bar, figure, at_least in rows
    )


def classify(arm: str, seed: int, folder: Path, width: int, epochs: int) -> dict[str, float]:
    """Return accuracy in %, the last loss, and how similar neighbours' maps are, of one network."""
    kind, _, depth = arm.partition("-")
    config = DeepViTConfig(patch=2, width=width, heads=6, depth=int(depth), **KINDS[kind])
    network = DeepViT(1, 8, 10, config, derive_seed(seed, "network"))
    learned, held = parts()
    history = fit(network, cross_entropy, learned, teaching(len(learned), epochs), seed=seed)
    return {"loss": history.records[-1]["loss"], **judged(network.eval(), held)}


def teaching(examples: int, epochs: int) -> FitConfig:
    """Return how all networks learn: AdamW, a tenth of the steps to warm up; no decay of places, biases and norms."""
    steps = epochs * -(-examples // 64)
    spared = GroupConfig(names=("class_token", "places", "*bias", "*norm*"), weight_decay=0.0)
    optimizer = OptimizerConfig(name="adamw", learning_rate=1e-3, weight_decay=0.05, groups=(spared,))
    schedule = ScheduleConfig(kind="cosine", warmup=max(1, steps // 10))
    return FitConfig(steps=steps, batch_size=64, optimizer=optimizer, schedule=schedule, check_every=50)


def cross_entropy(module: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the mean loss over a minibatch."""
    return {"loss": functional.cross_entropy(module(batch["picture"]), batch["label"])}


@torch.no_grad()
def judged(network: DeepViT, held: Arrays) -> dict[str, float]:
    """Return accuracy in %, and of both kinds of maps the mean cosine of neighbours and the copies among blocks."""
    outputs, softmax, used = network.with_maps(held.tensors["picture"])
    found = {"accuracy": 100.0 * float((outputs.argmax(dim=1) == held.tensors["label"]).double().mean())}
    for name, maps in (("softmax", softmax), ("used", used)):
        cosines = [attention_cosines(one, other) for one, other in itertools.pairwise(maps)]
        found[f"{name} cosine"] = float(torch.stack([each.mean() for each in cosines]).mean())
        for threshold in THRESHOLDS:
            shares = torch.stack([(each > threshold).float().mean() for each in cosines])
            found[f"{name} above {threshold}"] = float(shares.mean())
            found[f"{name} copies {threshold}"] = float(similar_blocks(shares))
    return found


@functools.cache
def parts() -> tuple[Arrays, Arrays]:
    """Return the 1,200 digits that are learned, and the 597 others."""
    train, test = digits("train").tensors, digits("test").tensors
    learned = {name: value[:LEARNED] for name, value in train.items()}
    return Arrays(learned), Arrays({name: torch.cat([train[name][LEARNED:], test[name]]) for name in train})
