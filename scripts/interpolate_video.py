"""Give a clip more frames: ``python scripts/interpolate_video.py clip.mp4 output=smooth.mp4 factor=2``.

The sound is kept and the clip lasts as long as before; with slow=true it keeps its frame rate, lasts factor times as
long, and is silent. method=dis warps by OpenCV's optical flow (the default where OpenCV is installed), rife is a
network (the suite's weights, or rife.weights=FILE), average and repeat are what both have to beat. A method's numbers
go under its name: dis.cut_below=-1 makes frames across scene cuts, too, rife.fineness=0.5 is for 4K. Nothing that is
there is overwritten without overwrite=true. The last line printed is JSON: path, frames, frames_per_second (of the new
clip), made_per_second (frames in between, a second of work), seconds.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

import rlsuite  # noqa: F401  (before torch: it sets what torch's threads read when they are loaded)
from agents.assembly import choose_device
from envs.perception.catalogue import PERCEPTIONS
from envs.perception.interpolation.interpolator import Interpolator
from envs.perception.interpolation.stream import multiplied
from envs.perception.weights import build_perceiver, choose_perceivers
from rlsuite.cli import command, positional
from rlsuite.config.build import build
from rlsuite.config.compose import plain_values
from rlsuite.data.clips import ClipInfo, clip_frames, clip_info, require_whole
from rlsuite.errors import require, require_choice, require_finite, require_threads
from rlsuite.methods import short_name, split_numbers
from rlsuite.records.files import TEMPORARY, require_writable
from rlsuite.records.json_text import to_json
from rlsuite.records.video import VideoWriter

ROOM = "interpolation/"
METHODS = tuple(short_name(name) for name in PERCEPTIONS if name.startswith(ROOM))


@dataclass(frozen=True, kw_only=True)
class ScriptConfig:
    """What becomes of a clip.

    Attributes:
        clip: the clip, also as the first argument without clip=.
        output: the new clip, an mp4.
        factor: frames for each of the clip's, 2 to 16.
        method: dis, rife, average or repeat; default dis, or rife where OpenCV is not installed.
        slow: keep the frame rate: slow motion, without sound.
        repeated_above: frames whose likeness to the one before (SSIM at 32x32) is above this only repeat it, and are
            made anew: 0.996 for clips whose rate was raised by repeating; 1 takes all as they are.
        cut_odd: of a clip of odd sides leave out the last row or column, which H.264 cannot hold.
        overwrite: replace a file that is there.
        device: cpu, cuda or auto.
        num_threads: of torch; 0 takes all cores.
    """

    clip: str = ""
    output: str = ""
    factor: int = 2
    method: str = ""
    slow: bool = False
    repeated_above: float = 1.0
    cut_odd: bool = False
    overwrite: bool = False
    device: str = "auto"
    num_threads: int = 0

    def __post_init__(self) -> None:
        require(bool(self.clip), "no clip is named; write: python scripts/interpolate_video.py clip.mp4 output=new.mp4")
        require(bool(self.output), "output= is missing; name a file, such as output=smooth.mp4")
        require(self.output.lower().endswith(".mp4"), f"output={self.output}: name an mp4, such as output=smooth.mp4")
        require(
            self.overwrite or not os.path.lexists(self.output),
            f"output={self.output} is there already; choose another, or add overwrite=true",
        )
        require(2 <= self.factor <= 16, f"factor={self.factor}: use 2 to 16")
        if self.method:
            require_choice("method", self.method, METHODS)
        require_finite("repeated_above", self.repeated_above)
        require_threads(self.num_threads)


@command(ScriptConfig)
def main(arguments: list[str]) -> int:
    """Make the new clip."""
    values = plain_values(positional(arguments, "clip"))
    own, rest = split_numbers(values, PERCEPTIONS)
    config: ScriptConfig = build(ScriptConfig, rest)
    method = config.method or ("dis" if importlib.util.find_spec("cv2") else "rife")
    (chosen,) = choose_perceivers([ROOM + method], own)
    path, out = Path(config.clip), Path(config.output)
    info = checked(path, config)
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    torch.set_flush_denormal(True)
    require_writable(out)
    require(not (out.exists() and out.samefile(path)), f"output={out} is the clip itself; choose another")
    interpolator = build_perceiver(chosen).to(choose_device(config.device))
    assert isinstance(interpolator, Interpolator)
    if method == "rife" and not chosen.config.network.timed:
        require(
            config.factor in (2, 4, 8, 16), f"factor={config.factor}: these weights know the middle only; use 2, 4, 8"
        )
    began, temporary = time.perf_counter(), out.with_name(TEMPORARY + out.name)
    try:
        frames = write(path, temporary, interpolator, info, config)
        os.replace(temporary, out)
    finally:
        temporary.unlink(missing_ok=True)
    seconds = time.perf_counter() - began
    rate = info.frames_per_second * (1 if config.slow else config.factor)
    made = (frames - frames // config.factor) / seconds
    print(f"{out}: {frames} frames by {method}")
    figures = {"path": str(out), "frames": frames, "frames_per_second": round(float(rate), 3)}
    print(to_json(figures | {"made_per_second": round(made, 2), "seconds": round(seconds, 2)}))
    return 0


def checked(path: Path, config: ScriptConfig) -> ClipInfo:
    """Return what a clip says of itself, or raise UserError before any work."""
    info = clip_info(path)
    require(
        config.cut_odd or not (info.height % 2 or info.width % 2),
        f"{path} is {info.width} x {info.height}, and H.264 has even sides; add cut_odd=true to leave out the last "
        "row or column",
    )
    require(min(info.height, info.width) >= 2, f"{path} is {info.width} x {info.height}: too small for a clip")
    number = require_whole(path)
    require(number >= 2, f"{path} has one frame, and nothing lies in between; name a clip of two or more")
    return info


@torch.no_grad()
def write(path: Path, out: Path, interpolator: Interpolator, info: ClipInfo, config: ScriptConfig) -> int:
    """Write the new clip, showing a progress bar; return how many frames it has."""
    device = next((value.device for value in interpolator.network.parameters()), torch.device("cpu"))
    bar = Progress(
        TextColumn("{task.completed}/{task.total} frames"),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        transient=True,
    )
    sound = path if info.has_audio and not config.slow else None
    rate = info.frames_per_second * (1 if config.slow else config.factor)
    number = 0
    with bar, VideoWriter(out, frames_per_second=rate, sound=sound) as video:
        task = bar.add_task("", total=info.frames * config.factor or None)
        for frame in multiplied(read(path, device), interpolator, config.factor, config.repeated_above):
            video.add((frame * 255.0).round_().to(torch.uint8).permute(1, 2, 0).cpu().numpy())
            number += 1
            bar.update(task, completed=number)
    return number


def read(path: Path, device: torch.device) -> Iterator[Tensor]:
    """Yield a clip's frames (3, H, W) in [0, 1], of even sides."""
    for frame in clip_frames(path):
        even = np.ascontiguousarray(frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2])
        yield torch.from_numpy(even).to(device).permute(2, 0, 1).float() / 255.0


if __name__ == "__main__":
    sys.exit(main())
