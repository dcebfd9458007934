"""Compare strokes with those that people's pens made: ``RLSUITE_DATA=FOLDER python scripts/compare_pens.py``.

Omniglot's characters (Lake et al. 2015) come with what the pens did. An extractor is taught on some alphabets, or a
trained agent taken (agent=RUN), and shown drawings of alphabets that it has not learned from. Measured is the mean
distance, in pixels of the drawing, from its strokes to the nearest point of the pen's and from the pen's to the nearest
of its; beside it a tracing of the skeleton (scikit-image) of the same picture, with and without a median filter first,
and of the whole picture before it was made small. Under noise all but the last see the noisy picture.

Prints a table, and who is nearer; the last line is JSON.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import rlsuite  # noqa: F401  (before torch: it sets what torch's threads read when they are loaded)
from agents.assembly import choose_device, load_agent
from agents.stroke_recognizer.agent import ModelFreeStrokeRecognizer, StrokeRecognizer
from agents.stroke_recognizer.policy import PolicyStrokes
from agents.stroke_recognizer.teaching import NOISES, TeachingConfig, teach_strokes
from envs.characters.examples import NoisyGlyphs
from envs.characters.glyphs import Glyphs, reduced
from envs.characters.pixels import luma
from envs.evaluation.defences.squeezing import MedianFilter
from renderers.strokes import GLYPH_SIZE
from rlsuite.cli import command
from rlsuite.config.compose import script_config
from rlsuite.data.folders import PictureFile, picture_files
from rlsuite.data.pens import drawing_name, pen_files, read_pen
from rlsuite.data.source import find_data
from rlsuite.errors import require, require_threads
from rlsuite.extras import import_extra
from rlsuite.records.files import require_writable, write_atomically
from rlsuite.records.json_text import to_json
from rlsuite.running.seeding import derive_seed

SAMPLES = 64  # of a curve, before it is measured out
SPACING = 0.5  # between two points of a line, in pixels of the drawing
FOLDERS = {
    "data": "omniglot/images_background_small1.zip",
    "pictures": "omniglot/images_background_small2.zip",
    "pens": "omniglot/strokes_background_small2.zip",
}


@dataclass(frozen=True, kw_only=True)
class PenConfig:
    """What is taught and what it is shown.

    Attributes:
        data: folder or zip file of pictures that an extractor learns from, in folders alphabet/character; empty:
            Omniglot's first small background set, in the folder that RLSUITE_DATA names.
        pictures: likewise, of those that are shown: alphabets that data has, too, are left out; empty: the second.
        pens: folder or zip file of their pens.
        drawings: how many are shown, evenly from all.
        agent: run directory of a trained scribe, in place of an extractor.
        size: W, the side of what is seen.
        strokes: of an extractor.
        network: of an extractor, see train_extractor.py.
        noises: under each of which all is measured, and an extractor learns.
        steps: minibatches of 64.
        learning_rate: Adam's, falling to 0.
        seed: of everything.
        run_dir: folder for an extractor's log and checkpoints; the same command goes on from there.
        output: JSON file for the last line; none if empty.
        num_threads: of torch; 0 takes all cores.
    """

    data: str = ""
    pictures: str = ""
    pens: str = ""
    drawings: int = 200
    agent: str = ""
    size: int = 32
    strokes: int = 8
    network: str = "small"
    noises: tuple[str, ...] = NOISES[:2]
    steps: int = 2000
    learning_rate: float = 2e-3
    seed: int = 0
    run_dir: str = ""
    output: str = ""
    num_threads: int = 0

    def __post_init__(self) -> None:
        require(self.drawings >= 1, f"drawings={self.drawings}: use 1 or more")
        require_threads(self.num_threads)
        self.teaching("")  # refuses wrong numbers before anything is read

    def teaching(self, data: str) -> TeachingConfig:
        """Return how an extractor is taught."""
        return TeachingConfig(
            data=data,
            size=self.size,
            strokes=self.strokes,
            network=self.network,
            noises=self.noises,
            steps=self.steps,
            learning_rate=self.learning_rate,
            schedule="linear",
            seed=self.seed,
        )

    def folder(self, name: str) -> Path:
        """Return where one of FOLDERS lies; UserError if it is not there."""
        return Path(
            getattr(self, name) or find_data("Omniglot", [FOLDERS[name], f"omniglot/{Path(FOLDERS[name]).stem}"])
        )


@command(PenConfig)
def main(arguments: list[str]) -> int:
    """Teach, trace, measure and print."""
    config: PenConfig = script_config(PenConfig, arguments)
    import_extra("skimage.morphology", "a skeleton")
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    choose_device("cpu")
    if config.output:
        require_writable(Path(config.output))
    began = time.perf_counter()
    shown = unseen_drawings(config)
    pens = [pen_points(read_pen(config.folder("pens"), place)) for _, place in shown]
    whole = [file.read() for file, _ in shown]
    network = strokes_of_agent(config) if config.agent else strokes_taught(config)
    found = {}
    for noise in config.noises:
        lines = traced(network, whole, config.size, noise, derive_seed(config.seed, "pens"))
        found[noise] = {name: both_ways(points, pens) for name, points in lines.items()}
    print("\n".join(table(found)))
    last = {"distances": found, "drawings": len(whole), "seconds": round(time.perf_counter() - began, 1)}
    print(to_json(last))
    if config.output:
        write_atomically(Path(config.output), to_json(last, indent=2) + "\n")
    return 0


def unseen_drawings(config: PenConfig) -> list[tuple[PictureFile, str]]:
    """Return drawings of alphabets that are not learned from: the picture, and where its pen's file lies."""
    known = {alphabet(file) for file in picture_files(config.folder("data"))}
    files = [file for file in picture_files(config.folder("pictures")) if alphabet(file) not in known]
    require(
        len(files) >= config.drawings,
        f"drawings={config.drawings}: there are {len(files)} of alphabets that are not learned from; use fewer",
    )
    places = pen_files(config.folder("pens"))
    chosen = [files[number * len(files) // config.drawings] for number in range(config.drawings)]
    for file in chosen:
        name = drawing_name(file.place)
        require(name in places, f"pens={config.folder('pens')} has no {name}.txt; name those of pictures=")
    return [(file, places[drawing_name(file.place)]) for file in chosen]


def alphabet(file: PictureFile) -> str:
    """Return the name of a drawing's alphabet."""
    return drawing_name(file.place).split("/")[0]


def strokes_taught(config: PenConfig) -> nn.Module:
    """Teach an extractor; return it."""
    run_dir = Path(config.run_dir) if config.run_dir else None
    return teach_strokes(config.teaching(str(config.folder("data"))), run_dir).extractor.eval()


def strokes_of_agent(config: PenConfig) -> nn.Module:
    """Return the policy of a trained scribe, unrolled."""
    agent, _ = load_agent(Path(config.agent))
    require(
        isinstance(agent, StrokeRecognizer | ModelFreeStrokeRecognizer) and agent.size == config.size,
        f"agent={config.agent}: it writes no characters of size={config.size}; train agent=scribe env=Characters so",
    )
    return PolicyStrokes.of(agent)  # type: ignore[arg-type]


@torch.no_grad()
def traced(network: nn.Module, whole: list[Tensor], size: int, noise: str, seed: int) -> dict[str, list[np.ndarray]]:
    """Return points (m, 2) of each drawing by who found them, in pixels of the drawing.

    Args:
        network: from pictures (B, 3, W, W) to strokes.
        whole: drawings (3, H, H') uint8.
        size: W.
        noise: that befalls them.
        seed: of the noise.
    """
    glyphs = Glyphs(torch.stack([reduced(one, size) for one in whole]), torch.zeros(len(whole)).long(), ("",))
    pictures = NoisyGlyphs(glyphs, (noise,), seed).examples(torch.arange(len(whole)))["input"]
    sides = [max(one.shape[1:]) for one in whole]
    grey = luma(pictures)
    found = {"strokes": [curve_points(*one) for one in zip(network(pictures), sides, strict=True)]}
    for name, seen in (("skeleton", grey), ("median, skeleton", MedianFilter(3)(grey))):
        found[name] = [skeleton_points(*one) for one in zip(seen[:, 0].numpy(), sides, strict=True)]
    if noise == "clean":
        found["skeleton, whole"] = [skeleton_points(one.float().mean(0).numpy(), max(one.shape[1:])) for one in whole]
    return found


def measured_out(line: np.ndarray) -> np.ndarray:
    """Return points (m, 2) along a line (n, 2), SPACING apart, both of its ends among them."""
    length = np.concatenate([[0.0], np.linalg.norm(np.diff(line, axis=0), axis=1).cumsum()])
    place = np.linspace(0.0, length[-1], 1 + int(np.ceil(length[-1] / SPACING)))
    return np.stack([np.interp(place, length, line[:, axis]) for axis in (0, 1)], axis=1)


def pen_points(strokes: list[np.ndarray]) -> np.ndarray:
    """Return points (m, 2) of a pen's strokes, evenly along them."""
    return np.concatenate([measured_out(stroke) for stroke in strokes])


def curve_points(numbers: Tensor, side: int) -> np.ndarray:
    """Return points (m, 2), rows and columns in pixels of a picture, along the curves of strokes (9 k,)."""
    points = numbers.view(-1, GLYPH_SIZE)[:, :6].view(-1, 3, 2).double().numpy() * side
    time_along = np.linspace(0.0, 1.0, SAMPLES)[:, None]
    first, middle, last = (points[:, number, None] for number in range(3))
    curves = (1 - time_along) ** 2 * first + 2 * time_along * (1 - time_along) * middle + time_along**2 * last
    return np.concatenate([measured_out(curve) for curve in curves])


def skeleton_points(grey: np.ndarray, side: int) -> np.ndarray:
    """Return the skeleton's pixels (m, 2) of what is darker than Otsu's threshold, in pixels of a picture of `side`."""
    morphology: Any = import_extra("skimage.morphology", "a skeleton")
    filters: Any = import_extra("skimage.filters", "a skeleton")
    place = np.argwhere(morphology.skeletonize(grey <= filters.threshold_otsu(grey)))
    return (place + 0.5) * (side / len(grey))


def both_ways(found: list[np.ndarray], pens: list[np.ndarray]) -> dict[str, float]:
    """Return mean distances over drawings: from what was found to the pens, from these to it, and their mean."""
    ways = []
    for points, pen in zip(found, pens, strict=True):
        apart = torch.cdist(torch.from_numpy(points), torch.from_numpy(pen))
        ways.append((float(apart.amin(1).mean()), float(apart.amin(0).mean())))
    there, back = np.mean(ways, axis=0).tolist()
    return {"to_pen": round(there, 3), "from_pen": round(back, 3), "mean": round((there + back) / 2, 3)}


def table(found: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    """Return lines: distances by noise and tracer, and who is nearer by the mean of both ways."""
    lines = [f"{'pixels of the drawing':28} {'':18} {'to the pen':>10} {'from it':>10} {'mean':>10}"]
    for noise, rows in found.items():
        for name, row in rows.items():
            cells = " ".join(f"{row[key]:10.2f}" for key in ("to_pen", "from_pen", "mean"))
            lines.append(f"{noise:28} {name:18} {cells}")
        best = min(rows, key=lambda name: rows[name]["mean"])
        lines.append(f"{noise:28} nearest: {best}")
    return lines


if __name__ == "__main__":
    sys.exit(main())
