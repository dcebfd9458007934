"""Part cameras: pictures a second that `envs.cameras` draws of Humanoid on the device, and what its first one costs."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from scripts.device.graphs import synchronize
from scripts.device.rows import Rows

# Pixels a side, simulations; the first row's first picture has all kernels' compilation in it.
FULL = ((64, 64), (64, 1024), (128, 256))
TINY = ((8, 2),)
SEEN = {"colors": ("rgb",), "colors, depth, ids": ("rgb", "depth", "ids")}


def measure_pictures(arm: str, seed: int, folder: Path, device: str, scale: str, seconds: float) -> None:
    """Write a row for each size and what is seen."""
    rows, tiny = Rows(folder), scale == "tiny"
    for size, count in TINY if tiny else FULL:
        for seen, fields in SEEN.items():
            name = f"Humanoid, {size} x {size}, {count} simulations, {seen}"
            turn = (size, count, fields, device, 0.2 if tiny else 1.0)
            rows.measure(name, lambda turn=turn: draw(*turn))


def draw(size: int, count: int, fields: tuple[str, ...], device: str, seconds: float) -> dict[str, float]:
    """Return the seconds of the first call, and pictures a second afterwards."""
    import mujoco_warp  # noqa: F401  (missing: said before anything is made)

    from envs import make_vector
    from envs.cameras import Cameras
    from rlsuite.config.camera import CameraConfig

    env = make_vector("rlsuite/Humanoid", count, num_threads=0 if count > 2 else 1, flat=True)
    env.reset(seed=0)
    where = torch.device(device)
    qpos = env.simulation.field("qpos").clone().to(where)
    memory = {name: value.clone().to(where) for name, value in env.simulation.memory.items()}
    began = time.perf_counter()
    cameras = Cameras(env.task, CameraConfig(size=size), where, fields=fields)
    cameras.frames(qpos, memory)
    synchronize(where)
    first, began, done = time.perf_counter() - began, time.perf_counter(), 0
    while not done or time.perf_counter() < began + seconds:
        cameras.frames(qpos, memory)
        synchronize(where)
        done += count
    rate = done / (time.perf_counter() - began)
    env.close()
    return {"first_s": round(first, 2), "pictures_per_s": round(rate, 1)}
