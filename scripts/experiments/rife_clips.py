"""Held-out middle frames of real clips, by RIFE's shipped weights, DIS, the average, and ffmpeg's minterpolate.

Real data lies where RLSUITE_DATA says: video/*.mp4 (clips of which every second frame is held out) and rubberwhale
(Middlebury's frames 07 to 14, of which every second is held out, and the true flow of frame 10 to 11).

Shapes: M frames made, H and W sides.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.filter
import torch
from torch import Tensor

from envs.perception.interpolation.interpolator import Interpolator
from envs.perception.weights import build_perceiver, choose_perceivers
from rlsuite.data.clips import read_clip
from rlsuite.data.flow_files import read_flo
from rlsuite.data.pictures import read_picture
from rlsuite.data.source import VARIABLE
from rlsuite.metrics.flow import end_point_error
from rlsuite.metrics.pictures import psnr, ssim

MINTERPOLATE = "minterpolate"
METHODS = ("repeat", "average", "dis", "rife", MINTERPOLATE)
CLIPS = ("bigbuckbunny", "bikes", "carphone_pristine")
FINEST = "mi_mode=mci:mc_mode=aobmc:me_mode=bidir:vsbmc=1"


def held_out(folder: Path | str, made: int) -> dict[str, Tensor]:
    """Return scenes by name, each frames (2 M + 1, 3, H, W) uint8; M is `made` for clips, and what there is else."""
    folder = Path(folder)
    scenes = {}
    for name in CLIPS:
        path = folder / "video" / f"{name}.mp4"
        if path.is_file():
            scenes[name] = read_clip(path, count=2 * made + 1)
    stills = sorted((folder / "rubberwhale").glob("frame*.png"))
    if len(stills) >= 3:
        scenes["rubberwhale"] = torch.stack([read_picture(path) for path in stills])[: len(stills) // 2 * 2 - 1]
    return scenes


def measure(arm: str, seed: int, folder: Path, data: str, made: int, weights: str) -> dict[str, Any]:
    """Return "psnr" and "ssim" of the held-out frames, rounded to bytes, and "frames_per_second", by scene.

    Args:
        arm: the method.
        seed: unused; methods draw nothing.
        folder: unused.
        data: the folder of real data; what is not there is left out.
        made: frames made of each clip.
        weights: digest of the shipped file, so that others are measured anew.
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    make = minterpolated if arm == MINTERPOLATE else network(arm)
    found: dict[str, Any] = {"psnr": {}, "ssim": {}, "frames_per_second": {}}
    for name, frames in held_out(data, made).items():
        began = time.perf_counter()
        middles = make(frames[::2])
        found["frames_per_second"][name] = round(len(middles) / (time.perf_counter() - began), 3)
        truth = frames[1::2].float() / 255.0
        rounded = (255.0 * middles).round() / 255.0
        found["psnr"][name] = float(psnr(rounded, truth).mean())
        found["ssim"][name] = float(ssim(rounded, truth).mean())
    flow = Path(data) / "rubberwhale" / "flow10.flo"
    if arm in ("dis", "rife") and flow.is_file():
        found["rubberwhale_epe"] = true_flow_error(arm, flow)
    return found


def network(name: str) -> Callable[[Tensor], Tensor]:
    """Return what makes the middle frames (M, 3, H, W) in [0, 1] of frames (M + 1, 3, H, W) uint8, by a perceiver."""
    perceiver = perceiver_of(name)

    def make(frames: Tensor) -> Tensor:
        pictures = frames.float() / 255.0
        middle = torch.full((1,), 0.5)
        pairs = zip(pictures[:-1, None], pictures[1:, None], strict=True)
        with torch.no_grad():
            return torch.cat([perceiver.interpolated(first, second, middle) for first, second in pairs])

    return make


def perceiver_of(name: str) -> Interpolator:
    """Return an interpolator with its shipped weights."""
    found = build_perceiver(choose_perceivers([f"interpolation/{name}"])[0])
    assert isinstance(found, Interpolator)
    return found


def true_flow_error(name: str, path: Path) -> float:
    """Return the end-point error in pixels against Middlebury's flow of frame 10 to frame 11.

    Ours runs from a frame in between to both; at a time of almost 0 its second half is the flow from the first frame.
    """
    truth, known = read_flo(path)
    first, second = (read_picture(path.parent / f"frame{number}.png")[None].float() / 255.0 for number in ("10", "11"))
    height, width = truth.shape[1:]
    pads = (0, -width % 32, 0, -height % 32)
    first, second = (torch.nn.functional.pad(frame, pads, mode="replicate") for frame in (first, second))
    flow: Any = perceiver_of(name)
    with torch.no_grad():
        # RIFE has learned times from 0.1 on: twice the flow from the middle to the second frame, at the middle.
        found = 2.0 * flow.flow(first, second, torch.full((1,), 0.5))[:, 2:, :height, :width]
    return float(end_point_error(found, truth[None], known[None]))


def minterpolated(frames: Tensor) -> Tensor:
    """Return the middle frames (M, 3, H, W) in [0, 1] that ffmpeg's minterpolate makes of frames (M + 1, 3, H, W)."""
    height, width = frames.shape[2:]
    graph = av.filter.Graph()
    source = graph.add_buffer(width=width, height=height, format=av.VideoFormat("yuv444p"), time_base=Fraction(1, 10))
    chain = [source, graph.add(MINTERPOLATE, f"fps=20:{FINEST}"), graph.add("buffersink")]
    for one, other in itertools.pairwise(chain):
        one.link_to(other)
    graph.configure()
    found: dict[Fraction, Tensor] = {}

    def take() -> None:
        while True:
            try:
                frame: Any = graph.pull()
            except (av.BlockingIOError, av.EOFError):
                return
            picture = frame.to_ndarray(format="rgb24")
            found[frame.pts * frame.time_base] = torch.from_numpy(picture.copy()).permute(2, 0, 1)

    padded = [frames[0], *frames, frames[-1], frames[-1]]  # it looks at frames around, and drops the first and last
    for number, picture in enumerate(padded):
        frame = av.VideoFrame.from_ndarray(picture.permute(1, 2, 0).contiguous().numpy(), format="rgb24")
        frame = frame.reformat(format="yuv444p")
        frame.pts, frame.time_base = number, Fraction(1, 10)
        graph.push(frame)
        take()
    graph.push(None)
    take()
    wanted = [Fraction(2 * number + 3, 20) for number in range(len(frames) - 1)]
    return torch.stack([found[moment] for moment in wanted]).float() / 255.0


def methods() -> tuple[str, ...]:
    """Return the methods that can be measured here."""
    return tuple(name for name in METHODS if name != MINTERPOLATE or MINTERPOLATE in av.filter.filters_available)


def data_folder() -> str:
    """Return the folder of real data, "" where there is none."""
    folder = os.environ.get(VARIABLE, "")
    return folder if folder and held_out(folder, 1) else ""
