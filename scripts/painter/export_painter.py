"""Make a painter's weights file: ``python scripts/painter/export_painter.py run=RUN_DIR output=painter.safetensors``.

paint_image.py takes the file as weights=FILE. It holds the actor, and what made it: the run's config, steps and the
source commits that trained it, several where it was resumed with others; and the error it leaves on the run's test
pictures, painted from black canvases by the exact rasterizer. The last line printed is JSON: path, bytes, mse,
mse_black (of the empty canvases).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import rlsuite  # noqa: F401  (before torch: it sets what torch's threads read when they are loaded)
from agents.assembly import load_agent, make_evaluation_env
from agents.painter.agent import Painter
from agents.painter.weights import save_painter
from rlsuite.cli import command
from rlsuite.config.compose import script_config
from rlsuite.config.schema import to_plain
from rlsuite.errors import require
from rlsuite.records.checkpoint import read_checkpoint, resolve_checkpoint
from rlsuite.records.files import require_writable
from rlsuite.records.json_text import to_json

PICTURES = 256


@dataclass(frozen=True, kw_only=True)
class ScriptConfig:
    """What goes where.

    Attributes:
        run: run directory or checkpoint directory of agent=painter.
        output: the file.
    """

    run: tuple[str, ...] = ()
    output: str = ""

    def __post_init__(self) -> None:
        require(len(self.run) == 1, "run= is missing; name a run directory, such as run=runs/...")
        require(bool(self.output), "output= is missing; name a file, such as output=painter.safetensors")


@command(ScriptConfig)
def main(arguments: list[str]) -> int:
    """Load, measure, write and print."""
    config: ScriptConfig = script_config(ScriptConfig, arguments)
    path = Path(config.output)
    require_writable(path)
    agent, run = load_agent(config.run[0])
    require(isinstance(agent, Painter), f"run={config.run[0]} is of agent={run.agent_name}; name one of agent=painter")
    env: Any = make_evaluation_env(run, PICTURES, options={"split": "test", "renderer": "exact"})
    observation, _ = env.reset(seed=0)
    black, left = env.error.mean(), torch.zeros(PICTURES)
    for _ in range(env.max_episode_steps):
        observation, _, _, _, info = env.step(agent.act(observation, False))
        left = info["mse"]
    figures = {"mse": float(left.mean()), "mse_black": float(black)}
    checkpoint = read_checkpoint(resolve_checkpoint(config.run[0]), parts=[])
    about = {
        **figures,
        "config": to_plain(run),
        "steps": checkpoint.step,
        "updates": agent.num_updates,
        "commits": checkpoint.metadata.get("commits", ["unknown"]),
    }
    save_painter(agent, path, brush=env.options.brush, about=about)
    print(to_json({"path": str(path), "bytes": path.stat().st_size, **figures}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
