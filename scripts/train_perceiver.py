"""Train a perceiver: ``python scripts/train_perceiver.py perception=interpolation/rife output=rife.safetensors``.

It learns from still pictures that move (scikit-image's and self-made ones; data=FOLDER for your own), from clips
(data=FOLDER of video files, or of folders of numbered PNG or JPEG frames, a folder a clip, as Vimeo-90k and DAVIS are
laid out), or from what a task's cameras see (env=Reacher). Its numbers go under its short name, such as
rife.network.widths=[240,150,90]. With run_dir= a training that was interrupted goes on where it was, to the same bits.
What takes perception= takes the file as rife.weights=FILE. The last line printed is JSON: path, bytes, steps, loss (of
the last record) and its parts, seconds.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch

import rlsuite  # noqa: F401  (before torch: it sets what torch's threads read when they are loaded)
from agents.assembly import choose_device
from envs.perception.catalogue import PERCEPTIONS
from envs.perception.perceiver import Perceiver
from envs.perception.recording import record
from envs.perception.weights import save_perceiver
from rlsuite.cli import command
from rlsuite.config.build import build
from rlsuite.config.compose import plain_values
from rlsuite.errors import require, require_threads
from rlsuite.fit import FitConfig, fit
from rlsuite.methods import Method, choose, split_numbers, to_plain
from rlsuite.optim.choice import OptimizerConfig, ScheduleConfig
from rlsuite.records.files import require_writable
from rlsuite.records.json_text import to_json
from rlsuite.running.seeding import derive_seed

CHECK_EVERY, SAVE_EVERY = 50, 200  # minibatches between two records, two checkpoints


@dataclass(frozen=True, kw_only=True)
class ScriptConfig:
    """What learns from what.

    Attributes:
        perception: the perceiver, such as interpolation/rife.
        output: the file.
        overwrite: replace a file that is there.
        data: folder of pictures, of clips or of folders of frames; default what the perceiver takes without.
        env: a task of the suite whose cameras are to be learned from, instead of data; actions are drawn at random.
        frames: with env, steps of 8 environments that are recorded.
        size: side of the pictures that it learns from, in pixels.
        steps: minibatches.
        batch_size: examples of each.
        learning_rate: the largest, after `warmup` minibatches.
        warmup: see there.
        schedule: how it falls to `final` of it: cosine or linear.
        final: see there.
        weight_decay: how strongly weights are drawn to zero.
        clip_norm: gradients are scaled down to this norm; 0 leaves them alone.
        kept: examples that are kept in memory and learned from again and again; 0 for new ones always.
        seed: of first weights and examples.
        run_dir: folder for the log and checkpoints; none if empty.
        device: cpu, cuda or auto.
        num_threads: of torch; 0 takes all cores.
    """

    perception: str = ""
    output: str = ""
    overwrite: bool = False
    data: str = ""
    env: str = ""
    frames: int = 400
    size: int = 64
    steps: int = 5000
    batch_size: int = 6
    learning_rate: float = 8e-4
    warmup: int = 200
    schedule: str = "cosine"
    final: float = 0.01
    weight_decay: float = 1e-3
    clip_norm: float = 1.0
    kept: int = 0
    seed: int = 0
    run_dir: str = ""
    device: str = "auto"
    num_threads: int = 0

    def __post_init__(self) -> None:
        require(bool(self.perception), "perception= is missing; name one, such as perception=interpolation/rife")
        require(bool(self.output), "output= is missing; name a file, such as output=rife.safetensors")
        require(
            self.overwrite or not Path(self.output).exists(),
            f"output={self.output} is there already; choose another, or add overwrite=true",
        )
        require(not (self.data and self.env), "data= and env= are both given; leave one of them out")
        require(self.frames >= 6, f"frames={self.frames}: use 6 or more")
        require(64 <= self.size <= 4096, f"size={self.size}: use 64 to 4096")
        require_threads(self.num_threads)


@command(ScriptConfig)
def main(arguments: list[str]) -> int:
    """Train, save and print."""
    values = plain_values(arguments)
    own, rest = split_numbers(values, PERCEPTIONS)
    config: ScriptConfig = build(ScriptConfig, rest)
    (method,) = choose(PERCEPTIONS, [config.perception], own)
    require(method.kind.losses is not Perceiver.losses, f"perception={method.name} learns nothing; name one that does")
    learning = fit_config(config)
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    torch.set_flush_denormal(True)
    path, began = Path(config.output), time.perf_counter()
    require_writable(path)
    perceiver = method.build(seed=derive_seed(config.seed, "weights")).to(choose_device(config.device))
    clips = record(config.env, config.size, config.frames, derive_seed(config.seed, "episodes")) if config.env else []
    source = perceiver.source(config.data, config.size, derive_seed(config.seed, "examples"), clips, config.kept)
    history = fit(
        perceiver,
        lambda module, batch: cast(Perceiver, module).losses(batch),
        source,
        learning,
        seed=config.seed,
        hooks=[lambda _, share: perceiver.progress(share)],
        run_dir=Path(config.run_dir) if config.run_dir else None,
        about=made_with(config, method),
        console=bool(config.run_dir),
    )
    last = {name: value for name, value in history.records[-1].items() if name not in ("step", "learning_rate")}
    save_perceiver(path, perceiver, method, {**made_with(config, method), "steps": history.steps, "losses": last})
    figures = {"path": str(path), "bytes": path.stat().st_size, "steps": history.steps, **last}
    print(to_json(figures | {"seconds": round(time.perf_counter() - began, 1)}))
    return 0


def fit_config(config: ScriptConfig) -> FitConfig:
    """Return how it learns."""
    return FitConfig(
        steps=config.steps,
        batch_size=config.batch_size,
        order="random",
        optimizer=OptimizerConfig(name="adamw", learning_rate=config.learning_rate, weight_decay=config.weight_decay),
        schedule=ScheduleConfig(kind=config.schedule, warmup=config.warmup, final=config.final),
        clip_norm=config.clip_norm,
        check_every=CHECK_EVERY,
        save_every=SAVE_EVERY,
    )


def made_with(config: ScriptConfig, method: Method) -> dict[str, object]:
    """Return what a fit that goes on must have been begun with, beside what `fit` itself knows."""
    own = ("data", "env", "frames", "size", "kept", "seed")
    return {"method": to_plain([method]), **{name: getattr(config, name) for name in own}}


if __name__ == "__main__":
    sys.exit(main())
