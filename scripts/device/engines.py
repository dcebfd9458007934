"""Part engines: tasks on MuJoCo Warp beside MuJoCo on all cores: parity of a few steps, steps a second, repeats."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scripts.device.graphs import synchronize
from scripts.device.rows import Rows

# Task, environments whose rates are measured; the most valuable first.
FULL = {
    "Humanoid": (1024, 4096),
    "HalfCheetah": (4096,),
    "Hopper": (4096,),
    "Ant": (4096,),
    "FetchPush": (1024,),
    "LearningToRun": (1024,),
    "HandReach": (1024,),
}
TINY = {"Reacher": (2,)}
PARITY_ENVS, PARITY_STEPS = 8, 2  # environment steps: contacts part the engines for good soon after


def measure_engines(arm: str, seed: int, folder: Path, device: str, scale: str, seconds: float) -> None:
    """Write rows for each task: parity, then steps a second on the device and on the CPU's threads."""
    rows, tiny = Rows(folder), scale == "tiny"
    for task, sizes in (TINY if tiny else FULL).items():
        rows.measure(f"{task}, parity", lambda task=task: parity(task, device))
        for count in sizes:
            span = 0.1 if tiny else 2.0
            rows.measure(
                f"{task}, {count} environments",
                lambda task=task, count=count, span=span: {
                    "warp": rate(task, count, span, engine="warp", device=device),
                    "mujoco": rate(task, count, span, engine="mujoco", device="cpu"),
                },
            )
        rows.measure(f"{task}, repeats", lambda task=task, tiny=tiny: repeats(task, device, 3 if tiny else 300))


def parity(task: str, device: str) -> dict[str, Any]:
    """Return how far observations part on the two engines, from the same starts under the same actions."""
    from envs import make_vector

    seen: dict[str, list[Tensor]] = {}
    began = time.perf_counter()
    for engine, where in (("mujoco", "cpu"), ("warp", device)):
        env = make_vector(task, PARITY_ENVS, engine=engine, device=where, flat=True)
        observation, _ = env.reset(seed=0)
        seen[engine] = [observation.double().cpu()]
        for action in actions_of(env, PARITY_STEPS, where):
            seen[engine].append(env.step(action)[0].double().cpu())
        env.close()
    apart = [float((one - other).abs().max()) for one, other in zip(*seen.values(), strict=True)]
    return {"apart_by_step": apart, "seconds_with_compilation": round(time.perf_counter() - began, 1)}


def rate(task: str, count: int, span: float, *, engine: str, device: str) -> dict[str, Any]:
    """Return environment steps a second with random actions, and whether the step is a CUDA graph."""
    from envs import make_vector

    env = make_vector(task, count, engine=engine, device=device, flat=True)
    env.reset(seed=0)
    actions, where, done = actions_of(env, 4, device), torch.device(device), 0
    for action in actions:  # records, compiles
        env.step(action)
    synchronize(where)
    began = time.perf_counter()
    while not done or time.perf_counter() < began + span:
        env.step(actions[done % len(actions)])
        done += 1
        if done % 10 == 0:
            synchronize(where)
    synchronize(where)
    seconds = time.perf_counter() - began
    graphed = getattr(env, "graphed", None) is not None
    env.close()
    return {"steps_per_s": round(done * count / seconds), "in_a_cuda_graph": graphed}


def repeats(task: str, device: str, steps: int) -> dict[str, Any]:
    """Say whether two runs of the engine from the same seed end in the same bits."""
    from envs import make_vector

    ends = []
    for _ in range(2):
        env = make_vector(task, PARITY_ENVS, engine="warp", device=device, flat=True)
        env.reset(seed=0)
        ends.append([env.step(action)[0] for action in actions_of(env, steps, device)][-1])
        env.close()
    return {"steps": steps, "equal_bits": bool(torch.equal(*ends))}


def actions_of(env: Any, steps: int, device: str) -> list[Tensor]:
    """Return random actions (N, A) of `steps` steps, the same for every engine."""
    low, high = (torch.as_tensor(edge).double() for edge in (env.single_action_space.low, env.single_action_space.high))
    generator = torch.Generator().manual_seed(0)
    draws = [torch.rand(env.num_envs, len(low), generator=generator, dtype=torch.float64) for _ in range(steps)]
    return [(low + (high - low) * draw).float().to(device) for draw in draws]
