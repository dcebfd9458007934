"""Cameras: pictures of many simulations a second, ours with depth and ids against MuJoCo's renderer's colors alone.

By two clocks. The wall's is what a training waits for; the processor's counts the work of all of a process's threads,
which is what counts on a machine that has others to serve: software OpenGL takes several.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from envs import make_vector
from envs.cameras import Cameras
from rlsuite.config.camera import CameraConfig
from rlsuite.config.schema import TrainConfig
from scripts.benchmarks.rounds import alternate, print_table, ratio, report

FEW = 8


def measure_cameras(config: TrainConfig, size: int, rounds: int, seconds: float) -> dict[str, Any]:
    """Print a table of frames a second; return medians, ours / MuJoCo's, and what few environments cost of all."""
    env = make_vector(config.env.full_id, config.num_envs, num_threads=1, flat=True, **config.env.options)
    env.reset(seed=0)
    generator = torch.Generator().manual_seed(0)
    low, high = (torch.as_tensor(bound) for bound in (env.single_action_space.low, env.single_action_space.high))
    for _ in range(10):
        env.step(low + (high - low) * torch.rand(config.num_envs, len(low), generator=generator))
    qpos = env.simulation.field("qpos").clone()
    memory = {name: value.clone() for name, value in env.simulation.memory.items()}
    cameras = Cameras(env.task, CameraConfig(size=size), config.device, fields=("rgb", "depth", "ids"))
    draw = opengl(cameras, env, qpos, memory, size)
    few = {name: value[:FEW] for name, value in memory.items()}

    def some() -> None:
        cameras.frames(qpos[:FEW], few)

    found: dict[str, Any] = {}
    for name, clock in {"": time.perf_counter, "processor_": time.process_time}.items():
        contestants = {
            "ours": rate(lambda: cameras.frames(qpos, memory), config.num_envs, seconds, clock),
            f"ours_{FEW}": rate(some, FEW, seconds, clock),
            "mujoco": rate(draw, min(FEW, config.num_envs), seconds, clock),
        }
        rates = alternate(contestants, rounds)
        title = f"cameras: {config.env.name}, {size}x{size}, {config.num_envs} environments"
        print_table(title, f"frames/s of {'processor' if name else 'wall clock'} time", rates)
        found |= {name + key: value for key, value in report(rates, {"ratio_mujoco": "mujoco"}).items()}
        # What the few's frames cost of all's: their number over their rate, against the same of all.
        found[f"{name}cost_of_{FEW}"] = ratio(rates, f"ours_{FEW}") * FEW / config.num_envs
    env.close()
    return found


def opengl(cameras: Cameras, env: Any, qpos: Tensor, memory: dict[str, Tensor], size: int) -> Callable[[], Any]:
    """Return a function that draws a few frames with MuJoCo's renderer, from the same view."""
    import mujoco  # after `envs`, which chooses what it draws with where there is no screen

    model, data = cameras.model, mujoco.MjData(cameras.model)  # pyright: ignore[reportAttributeAccessIssue]
    renderer = mujoco.Renderer(model, size, size)
    shown, places = env.task.shown(cameras.facts, qpos[:FEW], {name: value[:FEW] for name, value in memory.items()})

    def draw() -> None:
        for row, marks in zip(shown, places, strict=True):
            data.qpos[:] = row.numpy()
            for mocap, place in zip(cameras.mocap.tolist(), marks, strict=True):
                data.mocap_pos[mocap] = place.numpy()
            mujoco.mj_kinematics(model, data)  # pyright: ignore[reportAttributeAccessIssue]
            mujoco.mj_comPos(model, data)  # pyright: ignore[reportAttributeAccessIssue]
            mujoco.mj_camlight(model, data)  # pyright: ignore[reportAttributeAccessIssue]
            renderer.update_scene(data, cameras.view)
            renderer.render()

    return draw


def rate(work: Callable[[], Any], frames: int, seconds: float, clock: Callable[[], float]) -> Callable[[], float]:
    """Return a contestant that measures frames a second by a clock."""

    def measure() -> float:
        began, done = clock(), 0
        while clock() < began + seconds or not done:
            work()
            done += frames
        return done / (clock() - began)

    return measure
