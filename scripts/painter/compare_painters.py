"""Compare painters on pictures: ``python scripts/painter/compare_painters.py data=FOLDER strokes=5000 seconds=60``.

Painters with the same number of strokes and the same limit in seconds for each picture: policy (the trained painter
alone, which needs a second or two), refined (the painter, its strokes improved by gradient: what paint_image.py does),
gradient (the paper's gradient search: random strokes, evenly over the picture, Adam with rate 0.01), planned (gradient
search with all that is ours but the painter: the same plan of tiles, the same Adam, random strokes that begin with the
picture's colours) and greedy (the same plan; the best of so many random strokes, one after another; the number of
candidates is set on the first picture to use the seconds up). Seconds are wall clock. Prints a table and writes it,
with every picture's figures, as JSON (output=).
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import rlsuite  # noqa: F401  (before torch: it sets what torch's threads read when they are loaded)
from agents.painter.baselines import even_plan, greedy_strokes, random_strokes
from agents.painter.paint import paint_picture, plan_for, policy
from agents.painter.refine import RefineConfig
from agents.painter.weights import SHIPPED, load_painter
from envs.painting.pictures import SUFFIXES
from renderers.photo import read_photo
from renderers.stroke_list import StrokeList
from rlsuite.cli import command
from rlsuite.config.compose import script_config
from rlsuite.errors import UserError, require
from rlsuite.experiment import commit
from rlsuite.metrics.pictures import decibels
from rlsuite.records.files import require_writable, write_atomically


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """What is compared.

    Attributes:
        data: the folder.
        output: the JSON file; none without.
        strokes: a picture.
        seconds: a picture.
        steps: of gradient descent on each level, for refined and gradient, if the seconds allow.
        long_side: pixels of the longer side.
        smallest_tile: pixels of the finest tiles; 0 for half the side of the painter's canvas.
        limit: pictures taken, in the order of their names; 0 for all.
        weights: a painter's file; default the suite's own.
        num_threads: of torch; 0 takes all cores.
    """

    data: str = ""
    output: str = ""
    strokes: int = 5000
    seconds: float = 60.0
    steps: int = 60
    long_side: int = 512
    smallest_tile: int = 0
    limit: int = 0
    weights: str = ""
    num_threads: int = 0

    def __post_init__(self) -> None:
        require(bool(self.data), "data= is missing; name a folder of pictures")
        require(self.num_threads >= 0, f"num_threads={self.num_threads}: use 0 (all cores) or more")
        require(self.seconds > 0, f"seconds={self.seconds}: use a number above 0")
        require(self.strokes >= 5, f"strokes={self.strokes}: use 5 or more")
        require(
            self.smallest_tile == 0 or self.smallest_tile >= 4,
            f"smallest_tile={self.smallest_tile}: use 4 or more, or 0 for half of the painter's canvas",
        )


@command(CompareConfig)
def main(arguments: list[str]) -> int:
    """Paint everything with every painter and print."""
    config: CompareConfig = script_config(CompareConfig, arguments)
    paths = sorted(path for path in Path(config.data).glob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise UserError(f"data={config.data} holds no picture; name a folder of pictures")
    if config.output:
        require_writable(Path(config.output))
    torch.set_num_threads(config.num_threads or os.cpu_count() or 1)
    torch.set_flush_denormal(True)
    painters = make_painters(config, read_photo(paths[0], config.long_side))
    rows: list[dict[str, Any]] = []
    for path in paths[: config.limit or None]:
        picture = read_photo(path, config.long_side)
        for name, paint in painters.items():
            began = time.perf_counter()
            painting = paint(picture)
            seconds = time.perf_counter() - began
            rows.append({"picture": path.name, "painter": name, **judged(painting, picture), "seconds": seconds})
            print(json.dumps(rows[-1]), flush=True)
    summary = {name: averaged([row for row in rows if row["painter"] == name]) for name in painters}
    for name, figures in summary.items():
        print(f"{name:10} " + "  ".join(f"{key} {value:.2f}" for key, value in figures.items()))
    if config.output:
        about = {"commit": commit(), "machine": platform.machine(), "threads": torch.get_num_threads()}
        text = json.dumps({"config": vars(config), **about, "mean": summary, "pictures": rows}, indent=1)
        write_atomically(Path(config.output), text + "\n")
    print(json.dumps(summary))
    return 0


def make_painters(config: CompareConfig, example: Tensor) -> dict[str, Callable[[Tensor], StrokeList]]:
    """Return the painters; greedy search is timed on `example` (3, H, W)."""
    painter = load_painter(config.weights or SHIPPED)

    def paint(propose: Any, picture: Tensor, steps: int, *, plain: bool = False) -> StrokeList:
        deadline = time.perf_counter() + config.seconds - RESERVE * config.seconds
        height, width = picture.shape[1:]
        levels = plan_for(painter, height, width, config.strokes, config.smallest_tile)
        refinement = RefineConfig(steps=steps) if steps else None
        if plain:
            levels = even_plan(height, width, config.strokes)
            refinement = RefineConfig(steps=steps, learning_rate=0.01)
        how: Any = {"size": painter.size, "brush": painter.brush, "refinement": refinement, "deadline": deadline}
        return paint_picture(picture, propose, levels, **how)

    paint(greedy_strokes(0, 1, painter.brush), example, 0)  # what is made once does not count
    candidates = 4
    for _ in range(2):  # the first guess is from few candidates, whose seconds are mostly other work
        began = time.perf_counter()
        paint(greedy_strokes(0, candidates, painter.brush), example, 0)
        candidates = max(1, int(candidates * 0.95 * config.seconds / (time.perf_counter() - began)))
    print(f"greedy search: {candidates} candidates a stroke")
    return {
        "policy": lambda picture: paint(policy(painter), picture, 0),
        "refined": lambda picture: paint(policy(painter), picture, config.steps),
        "gradient": lambda picture: paint(random_strokes(0, coloured=False), picture, config.steps, plain=True),
        "planned": lambda picture: paint(random_strokes(0), picture, config.steps),
        "greedy": lambda picture: paint(greedy_strokes(0, candidates, painter.brush), picture, 0),
    }


RESERVE = 0.05  # of the seconds, for what comes after refining


def judged(painting: StrokeList, picture: Tensor) -> dict[str, float]:
    """Return the figures of a painting drawn by the exact rasterizer, in bytes."""
    drawn = (painting.draw().clamp(0, 1) * 255).round() / 255
    mse = float((drawn - picture).square().mean())
    return {"psnr": decibels(mse), "mse": mse, "strokes": len(painting)}


def averaged(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return the mean figures of a painter, and its slowest picture's seconds."""
    means = {key: sum(row[key] for row in rows) / len(rows) for key in ("psnr", "mse", "strokes", "seconds")}
    return means | {"slowest": max(row["seconds"] for row in rows)}


if __name__ == "__main__":
    sys.exit(main())
