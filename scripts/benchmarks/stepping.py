"""Stepping: our vectorized task against the bare physics, EnvPool, and Gymnasium's SyncVectorEnv.

All contestants step the same number of environments with the same uniformly random actions, resets included.
The bare physics replays the very states and controls of our last measurement, so that it solves the same
contacts: it shows what observation, reward and reset cost.
"""

from __future__ import annotations

import importlib
import importlib.util
import time

import gymnasium
import numpy as np
import torch
from mujoco.batch import Batch

import envs
from envs.mujoco_vector import MujocoVectorEnv
from rlsuite.errors import UserError
from scripts.benchmarks.rounds import Contestant, alternate, print_table, report


def measure_stepping(
    task: str, num_envs: int, num_threads: int, rounds: int, seconds: float
) -> dict[str, float | int | str | None]:
    """Measure and print; return the JSON line's content.

    Args:
        task: one of the suite's tasks.
        num_envs: environments of every contestant.
        num_threads: threads of every contestant that has threads.
        rounds: counted rounds.
        seconds: aimed at for each measurement of ours.
    """
    env = envs.make_vector(task, num_envs, num_threads=num_threads, flat=True)
    if not isinstance(env, MujocoVectorEnv):
        raise UserError(f"env={task}: stepping is measured on the suite's own tasks")
    space = env.single_action_space
    generator = np.random.default_rng(0)
    warm_up = _actions(generator, space, num_envs, 20)
    env.reset(seed=0)
    rate = _ours(env, warm_up)()
    steps = max(10, int(seconds * rate / num_envs))
    actions = _actions(generator, space, num_envs, steps)
    contestants: dict[str, Contestant] = {"ours": _ours(env, actions), "raw": _raw(env, actions)}
    if importlib.util.find_spec("envpool"):
        contestants["envpool"] = _envpool(task, num_envs, num_threads, actions.numpy())
    if env.goals is None:  # Gymnasium-Robotics' own environments do not run on this MuJoCo
        # Gymnasium is several times slower: fewer steps keep its turns as long as the others'.
        contestants["gymnasium"] = _gymnasium(task, num_envs, actions.numpy()[: max(5, steps // 3)])
    rates = alternate(contestants, rounds)
    print_table(f"stepping {task}, {num_envs} environments, {num_threads} threads", "steps/s", rates)
    peers = {"ratio_raw": "raw", "ratio_envpool": "envpool", "ratio_gymnasium": "gymnasium"}
    return {"what": "stepping", "env": task, "num_envs": num_envs, "rounds": rounds, **report(rates, peers)}


def _actions(generator: np.random.Generator, space: gymnasium.spaces.Box, num_envs: int, steps: int) -> torch.Tensor:
    draws = generator.uniform(space.low, space.high, (steps, num_envs, *space.shape))
    return torch.as_tensor(draws, dtype=torch.float32)


def _ours(env: MujocoVectorEnv, actions: torch.Tensor) -> Contestant:
    def measure() -> float:
        begin = time.perf_counter()
        for action in actions:
            env.step(action)
        return len(actions) * env.num_envs / (time.perf_counter() - begin)

    return measure


def _raw(env: MujocoVectorEnv, actions: torch.Tensor) -> Contestant:
    """mujoco.batch alone, on the states and controls that a run of ours has just gone through; only steps are timed."""
    batch = Batch(env.simulation.model, env.num_envs, env.simulation.num_threads)

    def measure() -> float:
        states = []
        for action in actions:
            env.step(action)
            states.append(env.rows_before.numpy().copy())
        spent = 0.0
        for state in states:
            batch.state[:] = state
            begin = time.perf_counter()
            batch.step(nstep=env.task.frame_skip)
            spent += time.perf_counter() - begin
        return len(actions) * env.num_envs / spent

    return measure


def _envpool(task: str, num_envs: int, num_threads: int, actions: np.ndarray) -> Contestant:
    envpool = importlib.import_module("envpool")
    names = [f"{task}-v{version}" for version in (5, 4, 3, 2, 1)]
    name = next(name for name in names if name in envpool.list_all_envs())
    pool = envpool.make(name, env_type="gymnasium", num_envs=num_envs, num_threads=num_threads, seed=0)
    pool.reset()

    def measure() -> float:
        begin = time.perf_counter()
        for action in actions:
            pool.step(action)
        return len(actions) * num_envs / (time.perf_counter() - begin)

    return measure


def _gymnasium(task: str, num_envs: int, actions: np.ndarray) -> Contestant:
    env = gymnasium.make_vec(f"{task}-v5", num_envs=num_envs, vectorization_mode="sync")
    env.reset(seed=0)

    def measure() -> float:
        begin = time.perf_counter()
        for action in actions:
            env.step(action)
        return len(actions) * num_envs / (time.perf_counter() - begin)

    return measure
