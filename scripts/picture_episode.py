"""Take pictures of an episode: ``python scripts/picture_episode.py run=runs/runner output=episode.jpg``.

The agent plays one episode as evaluate_agent.py plays its first, and moments of it, evenly apart, stand side by side.
The last line printed is JSON: path, return, and at which of the episode's steps the pictures were taken.
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from agents.assembly import make_evaluation_env, prepare_torch
from agents.loading import PolicyConfig, load_policy
from rlsuite.cli import command, positional
from rlsuite.config.compose import script_config
from rlsuite.errors import require
from rlsuite.records.files import require_writable
from rlsuite.records.json_text import to_json
from rlsuite.running.seeding import JUDGED_ON, derive_seed
from rlsuite.scoring import evaluate
from scripts.painter.make_gallery import side_by_side


@dataclass(frozen=True, kw_only=True)
class PictureConfig(PolicyConfig):
    """What is pictured.

    Attributes:
        output: the file; .jpg or .png.
        pictures: how many, at most: fewer of an episode of fewer steps.
        panel: pixels of each picture's side.
        seed: of the episode, as evaluate_agent.py has it.
        num_threads: threads of simulator and torch; 0 takes all cores.
    """

    output: str = ""
    pictures: int = 6
    panel: int = 240
    seed: int = 0
    num_threads: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.output), "output= is missing; name a file, such as output=episode.jpg")
        suffix = Path(self.output).suffix.lower()
        require(suffix in (".jpg", ".png"), f"output={self.output}: use a name that ends with .jpg or .png")
        require(1 <= self.pictures <= 100, f"pictures={self.pictures}: use 1 to 100")
        require(16 <= self.panel <= 2048, f"panel={self.panel}: use 16 to 2048")
        require(self.seed >= 0, f"seed={self.seed}: use 0 or more")
        require(self.num_threads >= 0, f"num_threads={self.num_threads}: use 0 (all cores) or more")


@command(PictureConfig)
def main(arguments: list[str]) -> int:
    """Play, put moments side by side, and write."""
    script: PictureConfig = script_config(PictureConfig, positional(arguments, "run"))
    output = Path(script.output)
    require_writable(output)
    agent, config, _ = load_policy(script)
    prepare_torch(dataclasses.replace(config, num_threads=script.num_threads))
    size = (script.panel, script.panel)
    env = make_evaluation_env(config, 1, num_threads=script.num_threads, render_mode="rgb_array", render_size=size)
    frames: list[np.ndarray] = []

    def play(steps: range) -> tuple[int, float]:
        """Play the episode, keep the frames before `steps` of it; return how many it has, and its return."""
        seed = derive_seed(script.seed, JUDGED_ON)
        found = evaluate(
            lambda observation: agent.act(observation, False), env, seed=seed, on_frame=frames.append, frame_steps=steps
        )
        return int(found.lengths[0]), float(found.returns[0])

    length, _ = play(range(0))  # which moments are evenly apart, its length tells
    chosen = range(0, length, -(-length // script.pictures))
    length, earned = play(chosen)
    env.close()
    side_by_side([Image.fromarray(frame) for frame in frames], script.panel).save(output, quality=88)
    print(to_json({"path": str(output), "return": round(earned, 3), "length": length, "steps": list(chosen)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
