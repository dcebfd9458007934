"""Compare painters on pictures: ``python scripts/painter/compare_painters.py data=FOLDER strokes=500 seconds=45``.

Painters with the same number of strokes and the same limit in seconds for each picture. Strokes that lie anywhere:
whole (what paint_image.py does: candidates for new strokes are random) and guessed (most are the trained painter's).
Strokes in tiles: policy (the trained painter alone, which needs a second or two), refined (its strokes improved by
gradient), gradient (the gradient search that the paper compares itself with: random strokes, evenly over the picture,
Adam with rate 0.01), planned (gradient search with all that is ours but the painter: the same plan of tiles, the same
Adam, random strokes that begin with the picture's colours) and greedy (the same plan; the best of so many random
strokes, one after another; the number of candidates is set on the first picture to use the seconds up). painters= names
some of them. Where the program `primitive` (fogleman/primitive, 2016: shape search, mode combo) is on the PATH it
paints too, as long as it takes.

Seconds are wall clock. Prints a table, and what was measured of primitive where that was done, and writes the table,
with every picture's figures, as JSON (output=). `seams` is the mean step from pixel to pixel across the edges that
finest tiles would have, divided by the mean step elsewhere.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import rlsuite  # noqa: F401  (before torch: it sets what torch's threads read when they are loaded)
from agents.painter.baselines import even_plan, greedy_strokes, random_strokes
from agents.painter.paint import paint_picture, plan_for, policy
from agents.painter.refine import RefineConfig
from agents.painter.weights import SHIPPED, load_painter
from agents.painter.whole import WholeConfig, paint_whole
from agents.painter.windows import guessed_and_random, random_shapes
from envs.painting.pictures import SUFFIXES
from renderers.photo import read_photo
from renderers.stroke_files import Painting
from rlsuite.cli import command
from rlsuite.config.compose import script_config
from rlsuite.data.pictures import load_picture
from rlsuite.errors import UserError, require, require_choice, require_threads
from rlsuite.experiment import commit
from rlsuite.metrics.pictures import decibels
from rlsuite.records.files import require_writable, write_atomically
from rlsuite.records.json_text import to_json
from rlsuite.running.threads import available_threads
from scripts.paint_image import MOST_STROKES

Drawn = tuple[Tensor, int]
PAINTERS = ("whole", "guessed", "policy", "refined", "gradient", "planned", "greedy")
# fogleman/primitive, mode combo, 2 cores of an AMD EPYC, November 2026: mean PSNR of the first twelve Kodak pictures,
# longer side 512, and its seconds, by number of shapes.
PRIMITIVE = {100: (22.8, 12), 500: (25.2, 45)}


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """What is compared.

    Attributes:
        data: the folder.
        output: the JSON file; none without.
        strokes: a picture.
        seconds: a picture.
        painters: which, by name.
        processor: count the seconds of whole and guessed as the processor's, divided by num_threads: for a machine that
            others use too.
        steps: of gradient descent on each level of tiles, for refined, planned and gradient, if the seconds allow.
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
    painters: tuple[str, ...] = PAINTERS
    processor: bool = False
    steps: int = 60
    long_side: int = 512
    smallest_tile: int = 0
    limit: int = 0
    weights: str = ""
    num_threads: int = 0

    def __post_init__(self) -> None:
        require(bool(self.data), "data= is missing; name a folder of pictures")
        require_threads(self.num_threads)
        require(self.seconds > 0, f"seconds={self.seconds}: use a number above 0")
        require(self.strokes >= 5, f"strokes={self.strokes}: use 5 or more")
        require(self.strokes <= MOST_STROKES, f"strokes={self.strokes}: use at most {MOST_STROKES}")
        require(bool(self.painters), "painters=[] paints nothing; leave it out for all")
        for painter in self.painters:
            require_choice("painters", painter, PAINTERS)
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
    torch.set_num_threads(config.num_threads or available_threads())
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
            print(to_json(rows[-1]), flush=True)
    summary = {name: averaged([row for row in rows if row["painter"] == name]) for name in painters}
    for name, figures in summary.items():
        print(f"{name:12} " + "  ".join(f"{key} {value:.2f}" for key, value in figures.items()))
    if config.strokes in PRIMITIVE and "primitive" not in summary:
        psnr, seconds = PRIMITIVE[config.strokes]
        print(
            f"primitive    psnr {psnr}  seconds {seconds} (Kodak 1 to 12 at 512 pixels, as measured in November 2026)"
        )
    if config.output:
        about = {"commit": commit(), "machine": platform.machine(), "threads": torch.get_num_threads()}
        text = to_json({"config": vars(config), **about, "mean": summary, "pictures": rows}, indent=1)
        write_atomically(Path(config.output), text + "\n")
    print(to_json(summary))
    return 0


def make_painters(config: CompareConfig, example: Tensor) -> dict[str, Callable[[Tensor], Drawn]]:
    """Return the painters; greedy search is timed on `example` (3, H, W)."""
    painter = load_painter(config.weights or SHIPPED)

    def paint(propose: Any, picture: Tensor, steps: int, *, plain: bool = False) -> Drawn:
        deadline = time.perf_counter() + config.seconds - RESERVE * config.seconds
        height, width = picture.shape[1:]
        levels = plan_for(painter, height, width, config.strokes, config.smallest_tile)
        refinement = RefineConfig(steps=steps) if steps else None
        if plain:
            levels = even_plan(height, width, config.strokes)
            refinement = RefineConfig(steps=steps, learning_rate=0.01)
        how: Any = {"size": painter.size, "brush": painter.brush, "refinement": refinement, "deadline": deadline}
        return drawn(paint_picture(picture, propose, levels, **how))

    def anywhere(picture: Tensor, *, guessed: bool) -> Drawn:
        clock = (lambda: time.process_time() / torch.get_num_threads()) if config.processor else time.perf_counter
        whole = WholeConfig(strokes=config.strokes, seconds=config.seconds * (1.0 - RESERVE))
        propose = random_shapes(torch.Generator().manual_seed(whole.seed))
        if guessed:
            whole = replace(whole, canvas=painter.size)
            propose = guessed_and_random(policy(painter), whole.seed)
        return drawn(paint_whole(picture, propose, whole, painter.brush, clock=clock))

    candidates = 4
    if "greedy" in config.painters:
        paint(greedy_strokes(0, 1, painter.brush), example, 0)  # what is made once does not count
        for _ in range(2):  # the first guess is from few candidates, whose seconds are mostly other work
            began = time.perf_counter()
            paint(greedy_strokes(0, candidates, painter.brush), example, 0)
            candidates = max(1, int(candidates * 0.95 * config.seconds / (time.perf_counter() - began)))
        print(f"greedy search: {candidates} candidates a stroke")
    painters: dict[str, Callable[[Tensor], Drawn]] = {
        "whole": lambda picture: anywhere(picture, guessed=False),
        "guessed": lambda picture: anywhere(picture, guessed=True),
        "policy": lambda picture: paint(policy(painter), picture, 0),
        "refined": lambda picture: paint(policy(painter), picture, config.steps),
        "gradient": lambda picture: paint(random_strokes(0, coloured=False), picture, config.steps, plain=True),
        "planned": lambda picture: paint(random_strokes(0), picture, config.steps),
        "greedy": lambda picture: paint(greedy_strokes(0, candidates, painter.brush), picture, 0),
    }
    found = {name: painters[name] for name in config.painters}
    if (program := shutil.which("primitive")) is not None:
        found["primitive"] = lambda picture: searched(program, picture, config.strokes)
    return found


def drawn(painting: Painting) -> Drawn:
    """Return what a painting looks like, in bytes, and its number of strokes."""
    return (painting.draw().clamp(0, 1) * 255).round() / 255, len(painting)


def searched(program: str, picture: Tensor, shapes: int) -> Drawn:
    """Return what fogleman/primitive paints, mode combo."""
    side = str(max(picture.shape[1:]))
    with tempfile.TemporaryDirectory() as folder:
        image, output = f"{folder}/in.png", f"{folder}/out.png"
        Image.fromarray((picture * 255).round().byte().permute(1, 2, 0).numpy()).save(image)
        command = [program, "-i", image, "-o", output, "-n", str(shapes), "-m", "0", "-r", side, "-s", side]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        require(done.returncode == 0, f"{program}: it failed ({done.stderr.strip()[:100]}); take it off the PATH")
        painted = np.asarray(load_picture(output).resize((picture.shape[2], picture.shape[1])), np.float32)
    return torch.from_numpy(painted / 255.0).permute(2, 0, 1), shapes


RESERVE = 0.05  # of the seconds, for what comes after refining
SEAM = 20  # side of the finest of the tiles that paintings used to be made of, at 512 pixels and 5,000 strokes


def judged(drawn: Drawn, picture: Tensor) -> dict[str, float]:
    """Return the figures of a painting drawn by the exact rasterizer, in bytes."""
    painted, strokes = drawn
    mse = float((painted - picture).square().mean())
    figures = {"psnr": decibels(mse), "mse": mse, "strokes": strokes}
    return {**figures, "seams": seams(painted, SEAM) / seams(picture, SEAM)}


def seams(picture: Tensor, side: int) -> float:
    """Return the mean step between neighbours across the edges of tiles, divided by the mean step elsewhere."""
    across, elsewhere = [], []
    for axis in (1, 2):
        steps = picture.diff(dim=axis).abs().mean(dim=0).mean(dim=2 - axis)  # one for each line between pixels
        edge = torch.arange(1, len(steps) + 1) % side == 0
        across.append(steps[edge])
        elsewhere.append(steps[~edge])
    return float(torch.cat(across).mean() / torch.cat(elsewhere).mean().clamp_min(1e-9))


def averaged(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return the mean figures of a painter, and its slowest picture's seconds."""
    means = {key: sum(row[key] for row in rows) / len(rows) for key in ("psnr", "mse", "strokes", "seams", "seconds")}
    return means | {"slowest": max(row["seconds"] for row in rows)}


if __name__ == "__main__":
    sys.exit(main())
