"""A camera's count as an observation: which part of a floor is swept next.

A floor of 64 x 64 pixels is seen from above, with up to 30 discs, as in the counting experiment. It has 16 tiles; a
sweep takes all discs whose centres lie in one tile, and the return is how many six sweeps take. The policy sees a count
for each tile and sweeps where most are: true counts, those of a searched network's density map, or none (tiles at
random). The network has learned on pictures of other floors, none of which was swept.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from envs.evaluation.catalogue import EVALUATIONS
from envs.evaluation.latency import measure_latency
from envs.evaluation.probes import measure_size
from envs.evaluation.recipe import network_base
from envs.evaluation.search.nas_count import NASCountConfig
from envs.evaluation.subject import Subject
from envs.evaluation.transform import TeachConfig, apply
from envs.perception.counting.losses import SPPLoss
from envs.perception.counting.task import SCALE, CountTask
from rlsuite.fit import FitConfig
from rlsuite.methods import Method
from rlsuite.metrics.counting import count_errors
from rlsuite.nn.vision.conv_net import ConvNet, ConvNetConfig
from rlsuite.optim.choice import OptimizerConfig, ScheduleConfig
from rlsuite.running.seeding import derive_seed
from scripts.experiments.nas_count import BATCH_SIZE, LEVELS, SIDE, SPACE, Scene, discs, draw_scene

TILES, SWEEPS = 4, 6  # a side, and of an episode
See = Callable[[Scene], np.ndarray]  # a count (TILES, TILES) for each tile


def count_and_sweep(
    arm: str, seed: int, folder: Path, *, pictures: int, search_epochs: int, epochs: int, episodes: int
) -> dict[str, Any]:
    """Return the returns ("true", "count", "random"), the network's mean error of the count, its costs, the seconds."""
    torch.set_num_threads(1)
    began = time.process_time()
    subject = counting_subject(pictures, search_epochs, epochs, seed)
    assert isinstance(subject.task, CountTask)
    rng = np.random.default_rng(derive_seed(seed, "random tiles"))
    eyes: dict[str, See] = {
        "true": true_counts,
        "count": lambda scene: seen_counts(subject.module, scene),
        "random": lambda scene: rng.random((TILES, TILES)),
    }
    return {
        "scores": {name: [sweep(scene, see) for scene in floors(episodes, seed)] for name, see in eyes.items()},
        "error": count_errors(*subject.task.counts(subject.module)).absolute,
        **measure_size(subject),
        **measure_latency(subject.module, subject.example),
        "seconds": round(time.process_time() - began, 1),
    }


def floors(count: int, seed: int) -> list[Scene]:
    """Return the floors of some episodes."""
    rng = np.random.default_rng(derive_seed(seed, "floors"))
    return [draw_scene(rng) for _ in range(count)]


def sweep(scene: Scene, see: See) -> float:
    """Return how many discs an episode's sweeps take, each of the tile with the largest count that is seen."""
    taken = 0
    for _ in range(SWEEPS):
        tile = divmod(int(see(scene).argmax()), TILES)
        left = tuple(disc for disc in scene.discs if tile_of(disc.row, disc.column) != tile)
        taken += len(scene.discs) - len(left)
        scene = scene._replace(discs=left)
    return float(taken)


def tile_of(row: float, column: float) -> tuple[int, int]:
    """Return the tile that a point lies in."""
    side = SIDE // TILES
    return int(row // side), int(column // side)


def true_counts(scene: Scene) -> np.ndarray:
    """Return the discs (TILES, TILES) whose centres lie in each tile."""
    found = np.zeros((TILES, TILES))
    for disc in scene.discs:
        found[tile_of(disc.row, disc.column)] += 1
    return found


@torch.no_grad()
def seen_counts(network: nn.Module, scene: Scene) -> np.ndarray:
    """Return the sums (TILES, TILES) of the density map that a network draws of a picture."""
    density = network(torch.from_numpy(scene.picture())[None])[0, 0] / SCALE
    side = len(density) // TILES
    return density.unflatten(0, (TILES, side)).unflatten(2, (TILES, side)).sum((1, 3)).double().numpy()


def counting_subject(pictures: int, search_epochs: int, epochs: int, seed: int) -> Subject:
    """Return a network that NAS-Count found, after it has learned."""
    train, test = (discs(count, derive_seed(seed, part)) for part, count in (("train", pictures), ("test", 50)))
    learning = FitConfig(
        steps=epochs * (pictures // BATCH_SIZE),
        batch_size=BATCH_SIZE,
        optimizer=OptimizerConfig(learning_rate=3e-3),
        schedule=ScheduleConfig(kind="cosine"),
        clip_norm=5.0,
    )
    searching = dataclasses.replace(learning, steps=max(2, search_epochs * (pictures // 2 // BATCH_SIZE)))
    config = NASCountConfig(
        space=SPACE.config, levels=LEVELS, search=searching, seed=seed, teach=TeachConfig(fit=learning, rounds=1)
    )
    task = CountTask(train, test, SPPLoss(LEVELS), floor=0.0)
    numbers = ConvNetConfig(widths=(4,), hidden=0)
    module = ConvNet(1, SIDE, 1, numbers, 0).eval()  # not used
    base = network_base("conv", channels=1, size=SIDE, outputs=1, config=numbers)
    subject = Subject(module, test.tensors["input"][:1], task, base)
    return apply(Method("search/nas_count", config, EVALUATIONS["search/nas_count"]), subject, seed)
