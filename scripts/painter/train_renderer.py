"""Train the neural renderer: ``python scripts/painter/train_renderer.py size=32 output=renderer-32.safetensors``.

It learns to draw what the exact rasterizer draws; the painter can then learn through it with env.renderer=neural
env.renderer_weights=FILE (the soft rasterizer, the default, needs no training). The defaults are the paper's: 128
pixels, 500,000 minibatches of 64 strokes drawn anew. On two cores use steps=4000 pool=20000
learning_rates=[3e-4,1e-4] milestones=[3200]. The last line printed is JSON: path, bytes, mse (on strokes it has not
seen), variance (the error of the mean picture), seconds.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

import rlsuite  # noqa: F401  (before torch: it sets what torch's threads read when they are loaded)
from agents.assembly import choose_device
from renderers.bezier import draw_exact
from renderers.imitation import ImitationConfig, train_renderer
from renderers.neural import save_renderer
from renderers.strokes import SHAPE_SIZE
from rlsuite.cli import command
from rlsuite.config.compose import script_config
from rlsuite.errors import require, require_threads
from rlsuite.records.files import require_writable
from rlsuite.records.json_text import to_json


@dataclass(frozen=True, kw_only=True)
class ScriptConfig(ImitationConfig):
    """Where it goes.

    Attributes:
        output: the file.
        report_every: steps between two printed errors.
        num_threads: of torch; 0 takes all cores.
        run_dir: folder for the log and checkpoints; a training that was interrupted goes on from there. None if empty.
    """

    output: str = ""
    report_every: int = 500
    num_threads: int = 0
    run_dir: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.output), "output= is missing; name a file, such as output=renderer.safetensors")
        require_threads(self.num_threads)
        require(self.report_every >= 1, f"report_every={self.report_every}: use 1 or more")


@command(ScriptConfig)
def main(arguments: list[str]) -> int:
    """Train, save and print."""
    config: ScriptConfig = script_config(ScriptConfig, arguments)
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    choose_device(config.device)
    path = Path(config.output)
    require_writable(path)
    began = time.perf_counter()

    def report(step: int, error: float) -> None:
        print(f"step {step:,}/{config.steps:,} | mse {error:.5f} | {time.perf_counter() - began:.0f} s", flush=True)

    renderer, error = train_renderer(
        config, report, config.report_every, Path(config.run_dir) if config.run_dir else None
    )
    seconds = time.perf_counter() - began
    shape = torch.rand(400, SHAPE_SIZE, generator=torch.Generator().manual_seed(config.seed + 2))
    maps = draw_exact(shape, config.size, brush=config.brush, circles=config.circles)
    variance = float((maps - maps.mean(dim=0)).square().mean())
    save_renderer(renderer, path, {"mse": error, "steps": config.steps, "seed": config.seed})
    figures = {"path": str(path), "bytes": path.stat().st_size, "mse": error, "variance": variance}
    print(to_json(figures | {"seconds": round(seconds, 1)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
