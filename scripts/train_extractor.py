"""Teach a reader of characters: ``python scripts/train_extractor.py output=reader.safetensors``.

An extractor learns to redraw noisy glyphs in a few strokes, and three recognizers to read what it redraws
(docs/characters.md). The weights that come with the suite were made so, from fonts and scikit-learn's digits
(agents/stroke_recognizer/shipped/README.md has the command). The paper's own network at its own size: size=64
network=vgg16 learning_rate=3e-4 steps=100000. The last line printed is JSON: path, bytes, seconds, accuracy on test
glyphs by noise and way of reading.

With run_dir=FOLDER the extractor's log and checkpoints lie there, and the same command goes on from them after any
interruption, to the same bits; resume=FOLDER says that it has to.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

import rlsuite  # noqa: F401  (before torch: it sets what torch's threads read when they are loaded)
from agents.assembly import choose_device
from agents.stroke_recognizer.recognizer import WAYS
from agents.stroke_recognizer.teaching import TeachingConfig, accuracy, teach_readers
from agents.stroke_recognizer.weights import Readers, save_readers
from envs.characters.examples import NoisyGlyphs
from rlsuite.cli import command
from rlsuite.config.compose import script_config
from rlsuite.errors import require, require_choice, require_threads
from rlsuite.records.checkpoint import list_checkpoints
from rlsuite.records.files import require_writable
from rlsuite.records.json_text import to_json
from rlsuite.running.seeding import derive_seed


@dataclass(frozen=True, kw_only=True)
class ScriptConfig(TeachingConfig):
    """Where it goes.

    Attributes:
        output: the file.
        run_dir: folder for log and checkpoints; a training that was interrupted goes on from there. None if empty.
        resume: likewise, and it has to hold a training.
        num_threads: of torch; 0 takes all cores.
        device: cpu or cuda.
    """

    output: str = ""
    run_dir: str = ""
    resume: str = ""
    num_threads: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.output), "output= is missing; name a file, such as output=reader.safetensors")
        require(not (self.run_dir and self.resume), f"resume={self.resume}: leave out run_dir=, or the other")
        require_threads(self.num_threads)
        require_choice("device", self.device, ("cpu", "cuda"))


@command(ScriptConfig)
def main(arguments: list[str]) -> int:
    """Teach, save and print."""
    config: ScriptConfig = script_config(ScriptConfig, arguments)
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    choose_device(config.device)
    path = Path(config.output)
    require_writable(path)
    folder = config.resume or config.run_dir
    if config.resume:
        holds = Path(folder).is_dir() and bool(list_checkpoints(Path(folder)))
        require(holds, f"resume={folder}: there is no training to go on with; use run_dir={folder} to begin one")
    began = time.perf_counter()
    readers = teach_readers(config, Path(folder) if folder else None, config.device)
    found = accuracies(readers, config)
    save_readers(readers, path, {"accuracy": found, "steps": config.steps, "data": config.data, "seed": config.seed})
    figures = {"path": str(path), "bytes": path.stat().st_size, "accuracy": found}
    print(to_json(figures | {"seconds": round(time.perf_counter() - began, 1)}))
    return 0


def accuracies(readers: Readers, config: TeachingConfig) -> dict[str, dict[str, float]]:
    """Return shares of test glyphs read right, by noise and way of reading."""
    glyphs = config.glyphs("test")
    found: dict[str, dict[str, float]] = {}
    for noise in config.noises:
        source = NoisyGlyphs(glyphs, (noise,), derive_seed(config.seed, "test"))
        batch = source.examples(torch.arange(len(source)))
        ways = {"raw": readers.plain(), **{way: readers.reader(way) for way in WAYS}}
        found[noise] = {
            name: round(accuracy(module, batch["input"], batch["label"]), 4) for name, module in ways.items()
        }
    return found


if __name__ == "__main__":
    sys.exit(main())
