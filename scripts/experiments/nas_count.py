"""NAS-Count (arXiv:2003.00217), small: a pyramid's loss and a searched network count discs in pictures.

Pictures of 64x64 pixels show up to 30 discs of two sizes and shades on an uneven ground; they overlap, and a disc that
others cover counts all the same. A search finds a network and a loss from the training pictures alone; then networks
learn anew and count in test pictures. Arms: the found network with the found loss, with fixed poolings and with a mean
of squares alone; three random networks with fixed poolings (one search takes about as long as training them); beside
them the training pictures' mean count, and a least-squares line on each picture's mean, mean square and bright area.

The search has 200 steps for the architecture, so its rate is 1e-2 (3e-4 is for full searches: in 200 steps no number
comes beyond about 0.06, and choices stay within some 6 %). Random networks have two edges into each node and fusion
where there are two, as found ones have: of one or two they had half the MACs.

Claims: the pyramid's loss errs less than a mean of squares on the same network, and on no seed much more; the found
network errs less than random ones; both errors are far below the mean count's and the line's. Searched poolings are not
claimed to be better than fixed ones. The bars are set before the first run.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from envs.evaluation.search.nas_count import NASCountConfig, search_counting
from envs.evaluation.search.space import Architecture
from envs.evaluation.search.spaces.counting import MOST as MOST_EDGES
from envs.evaluation.search.spaces.counting import CountingConfig, CountingSpace
from envs.perception.counting.density import density_map
from envs.perception.counting.losses import SPPLoss
from envs.perception.counting.task import SCALE, CountTask
from rlsuite.data.arrays import Arrays
from rlsuite.errors import require, require_finite
from rlsuite.experiment import Claim, Result
from rlsuite.experiment.jobs import Jobs
from rlsuite.fit import FitConfig, fit
from rlsuite.metrics.counting import count_errors, grid_errors
from rlsuite.optim.choice import OptimizerConfig, ScheduleConfig
from rlsuite.running.seeding import derive_seed

SIDE, MOST, SIGMA, LEVELS, BATCH_SIZE = 64, 30, 2.0, 3, 8
SPACE = CountingSpace(
    CountingConfig(
        levels=2,
        nodes=2,
        width=8,
        extraction=("conv_1x1", "full_dil_conv_3x3", "full_dil_conv_5x5", "sep_conv_3x3", "skip_connect"),
    ),
    channels=1,
    size=SIDE,
)


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The experiment's numbers.

    Attributes:
        seeds: how many: 0, 1, ...
        pictures: to learn from.
        test_pictures: to count in.
        search_epochs: of the search, over half of the pictures.
        architecture_rate: learning rate of the architecture in it.
        epochs: of each network's training.
        random: networks drawn at random.
        loss_ratio: mean error with the pyramid's loss in that with a mean of squares, at most.
        worst_loss_ratio: on each seed, at most.
        random_ratio: mean error of the found network in random ones', at most.
        mean_ratio: the mean count's error in the found network's, at least.
        line_ratio: the line's error in the found network's, at least.
    """

    seeds: int = 3
    pictures: int = 400
    test_pictures: int = 200
    search_epochs: int = 10
    architecture_rate: float = 1e-2
    epochs: int = 12
    random: int = 3
    loss_ratio: float = 0.97
    worst_loss_ratio: float = 1.05
    random_ratio: float = 0.98
    mean_ratio: float = 3.0
    line_ratio: float = 1.3

    def __post_init__(self) -> None:
        for name in ("seeds", "search_epochs", "epochs", "random"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require_finite("architecture_rate", self.architecture_rate, above=0.0)
        for name in ("pictures", "test_pictures"):
            least = 2 * BATCH_SIZE
            require(getattr(self, name) >= least, f"{name}={getattr(self, name)}: use {least} or more")


DEBUG = Numbers(seeds=1, pictures=32, test_pictures=16, search_epochs=1, epochs=1, random=1)


def run(numbers: Numbers, jobs: Jobs) -> Result:
    """Search, train, count, and test the claims."""
    seeds = tuple(range(numbers.seeds))
    names = ("pictures", "test_pictures", "search_epochs", "architecture_rate", "epochs", "random")
    inputs = {name: getattr(numbers, name) for name in names}
    found = jobs.grid(count_discs, arms=("discs",), seeds=seeds, **inputs)["discs"]
    for seed, one in zip(seeds, found, strict=True):
        for arm, figures in one["arms"].items():
            print(
                f"seed {seed}, {arm}: " + ", ".join(f"{key} {value:.3g}" for key, value in figures.items()), flush=True
            )
        print(
            f"seed {seed}: {one['poolings']}; each level's share of the trained network's gradient {one['shares']}",
            flush=True,
        )
        print(f"seed {seed}: CPU seconds {one['seconds']}", flush=True)
    return Result(
        seeds=seeds,
        claims=claims(found, numbers),
        figures={"by seed": found},
        full_scale="python scripts/reproduce.py paper=nas_count pictures=15000 search_epochs=80"
        " architecture_rate=3e-4 epochs=500",
    )


def claims(found: tuple[dict[str, Any], ...], numbers: Numbers) -> tuple[Claim, ...]:
    """Return the claims for what each seed found."""
    errors = [{arm: figures["error"] for arm, figures in one["arms"].items()} for one in found]
    ratios = tuple(one["pyramid"] / one["mean of squares"] for one in errors)
    return (
        Claim(
            statement="count error with the pyramid's loss in that with a mean of squares",
            margin=numbers.loss_ratio,
            figures=ratios,
            at_least=False,
        ),
        Claim(
            statement="the same, the worst seed's",
            margin=numbers.worst_loss_ratio,
            figures=(max(ratios),),
            at_least=False,
        ),
        Claim(
            statement="count error of the found network in random ones'",
            margin=numbers.random_ratio,
            figures=tuple(one["pyramid"] / one["random"] for one in errors),
            at_least=False,
        ),
        Claim(
            statement="the mean count's error in the found network's",
            margin=numbers.mean_ratio,
            figures=tuple(one["mean count"] / one["pyramid"] for one in errors),
        ),
        Claim(
            statement="a line's error in the found network's",
            margin=numbers.line_ratio,
            figures=tuple(one["line"] / one["pyramid"] for one in errors),
        ),
    )


def count_discs(
    arm: str,
    seed: int,
    folder: Path,
    *,
    pictures: int,
    test_pictures: int,
    search_epochs: int,
    architecture_rate: float,
    epochs: int,
    random: int,
) -> dict[str, Any]:
    """Search and count.

    Returns:
        "arms" (error, GAME(2) and MACs of each), the "poolings" found, each level's "shares" of the gradient by what
        the trained network gets wrong in a minibatch of test pictures, and "seconds".
    """
    train, test = (
        discs(count, derive_seed(seed, part)) for part, count in (("train", pictures), ("test", test_pictures))
    )
    began = time.process_time()
    searching = FitConfig(
        steps=max(2, search_epochs * (pictures // 2 // BATCH_SIZE)),
        batch_size=BATCH_SIZE,
        optimizer=OptimizerConfig(learning_rate=3e-3),
        clip_norm=5.0,
    )
    config = NASCountConfig(space=SPACE.config, levels=LEVELS, search=searching, seed=seed)
    config = replace(config, architecture=replace(config.architecture, learning_rate=architecture_rate))
    plain = SPPLoss(LEVELS)
    found = search_counting(SPACE, CountTask(train, test, plain, floor=0.0), config, folder)
    seconds = {"search": round(time.process_time() - began, 1)}
    began = time.process_time()

    def counted(architecture: Architecture, loss: SPPLoss) -> dict[str, float]:
        return figures(architecture, trained(architecture, loss, train, epochs, seed), test)

    network = trained(found.architecture, plain, train, epochs, seed)
    arms = {
        "pyramid": figures(found.architecture, network, test),
        "mean of squares": counted(found.architecture, SPPLoss(0)),
        "found loss": counted(found.architecture, found.loss),
    }
    rng = np.random.default_rng(derive_seed(seed, "random arm"))
    drawn = [counted(random_network(rng), plain) for _ in range(random)]
    arms["random"] = {key: float(np.mean([one[key] for one in drawn])) for key in drawn[0]}
    seconds["networks"] = round(time.process_time() - began, 1)
    true, known = (part.tensors["density"].flatten(1).sum(1).double() for part in (test, train))
    arms["mean count"] = {"error": count_errors(known.mean().expand(len(true)), true).absolute}
    arms["line"] = {"error": count_errors(line(train, known, test), true).absolute}
    with torch.no_grad():
        drawn_maps = network(test.tensors["input"][:BATCH_SIZE])
    wanted = SCALE * test.tensors["density"][:BATCH_SIZE]
    shares = [round(float(each), 4) for each in plain.gradient_shares(drawn_maps, wanted)]
    poolings = [f"{one.kind} {one.window}" for one in found.loss.poolings]
    return {"arms": arms, "poolings": poolings, "shares": shares, "seconds": seconds}


def random_network(rng: np.random.Generator) -> Architecture:
    """Draw a network with as many edges as the search's: two into each node and fusion, one where there is one."""
    found = [0] * len(SPACE.sizes)
    for group in range(max(SPACE.groups) + 1):
        places = [place for place, own in enumerate(SPACE.groups) if own == group]
        for place in rng.choice(places, size=min(MOST_EDGES, len(places)), replace=False):
            found[int(place)] = 1 + int(rng.integers(SPACE.sizes[int(place)] - 1))
    return SPACE.check(tuple(found))


def trained(architecture: Architecture, loss: SPPLoss, train: Arrays, epochs: int, seed: int) -> nn.Module:
    """Train a network from the start; return it in evaluation mode."""
    network, task = SPACE.build(architecture), CountTask(train, train, loss, floor=0.0)
    SPACE.draw(network, derive_seed(seed, "first weights"))
    learning = FitConfig(
        steps=epochs * (len(train) // BATCH_SIZE),
        batch_size=BATCH_SIZE,
        optimizer=OptimizerConfig(learning_rate=3e-3),
        schedule=ScheduleConfig(kind="cosine"),
        clip_norm=5.0,
    )
    fit(
        network,
        lambda module, batch: {"loss": task.loss(module, batch).mean()},
        train,
        learning,
        seed=derive_seed(seed, "learning"),
    )
    return network.eval()


def figures(architecture: Architecture, network: nn.Module, test: Arrays) -> dict[str, float]:
    """Return a network's errors on test pictures, and its MACs."""
    task = CountTask(test, test, SPPLoss(0), floor=0.0)
    error = count_errors(*task.counts(network))
    predicted, true = task.maps(network)
    return {
        "error": error.absolute,
        "root mean square": error.root_mean_square,
        "GAME(2)": float(grid_errors(predicted[:, 0], true[:, 0], 2).mean()),
        "macs": SPACE.cost(architecture)["macs"],
    }


def line(train: Arrays, known: Tensor, test: Arrays) -> Tensor:
    """Return counts (E,) told from each picture's mean, mean square and bright area."""

    def features(part: Arrays) -> Tensor:
        pixels = part.tensors["input"].flatten(1).double()
        bright = (pixels > 0.5).double().mean(1)
        return torch.stack([torch.ones(len(pixels)).double(), pixels.mean(1), pixels.square().mean(1), bright], dim=1)

    weights = torch.linalg.lstsq(features(train), known[:, None], driver="gelsd").solution
    return (features(test) @ weights)[:, 0]


class Disc(NamedTuple):
    """A disc of a scene: its centre, radius and shade."""

    row: float
    column: float
    radius: float
    shade: float


class Scene(NamedTuple):
    """Discs in the order they are drawn on a ground that is uneven: its slopes, and noise of each pixel."""

    slope: np.ndarray
    discs: tuple[Disc, ...]
    noise: np.ndarray

    def picture(self) -> np.ndarray:
        """Return (1, 64, 64) float32 in [0, 1]."""
        rows, columns = np.mgrid[:SIDE, :SIDE]
        found = 0.25 + (self.slope[0] * rows + self.slope[1] * columns) / SIDE
        for row, column, radius, shade in self.discs:
            distance = np.hypot(rows - row, columns - column)
            cover = np.clip(radius + 0.5 - distance, 0.0, 1.0)
            found = (1.0 - cover) * found + cover * shade * (1.0 - 0.15 * distance / radius)
        return np.clip(found + self.noise, 0.0, 1.0)[None].astype(np.float32)


def draw_scene(rng: np.random.Generator) -> Scene:
    """Draw a scene of 0 to 30 discs."""
    slope = rng.uniform(-0.15, 0.15, size=2)
    centres = rng.uniform(3, SIDE - 3, size=(int(rng.integers(MOST + 1)), 2))
    found = [Disc(row, column, rng.choice([2.0, 3.5]), rng.uniform(0.5, 0.95)) for row, column in centres]
    return Scene(slope, tuple(found), rng.normal(0.0, 0.03, size=(SIDE, SIDE)))


def discs(count: int, seed: int) -> Arrays:
    """Return "input" (count, 1, 64, 64) in [0, 1] and "density" (count, 1, 32, 32) of pictures of 0 to 30 discs."""
    rng = np.random.default_rng(seed)
    pictures, densities = [], []
    for _ in range(count):
        scene = draw_scene(rng)
        pictures.append(scene.picture())
        centres = np.array([disc[:2] for disc in scene.discs]).reshape(-1, 2)
        halved = torch.from_numpy((centres - 0.5) / 2.0)
        densities.append(density_map(halved, (SIDE // 2, SIDE // 2), SIGMA / 2.0)[None])
    return Arrays({"input": torch.from_numpy(np.stack(pictures)), "density": torch.stack(densities)})
