"""Stepping: our vectorized task against the bare physics, EnvPool, and Gymnasium's SyncVectorEnv.

LearningToRun, which none of them has, is measured against OpenSim and against a plain loop over one environment.

All contestants step the same number of environments with the same uniformly random actions, resets included.
The bare physics replays the very states and controls of our last measurement, so that it solves the same
contacts: it shows what observation, reward and reset cost.
"""

from __future__ import annotations

import importlib
import importlib.util
import time
from typing import Any

import gymnasium
import numpy as np
import torch
from mujoco.batch import Batch

import envs
from envs.mujoco_vector import MujocoVectorEnv
from envs.simulation.cpu import CpuSimulation
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
    if importlib.util.find_spec("envpool") and task != "LearningToRun":
        contestants["envpool"] = _envpool(task, num_envs, num_threads, actions.numpy())
    if task == "LearningToRun":
        contestants |= _runners(actions.numpy())
    elif env.goals is None:  # Gymnasium-Robotics' own environments do not run on this MuJoCo
        # Gymnasium is several times slower: fewer steps keep its turns as long as the others'.
        contestants["gymnasium"] = _gymnasium(task, num_envs, actions.numpy()[: max(5, steps // 3)])
    rates = alternate(contestants, rounds)
    print_table(f"stepping {task}, {num_envs} environments, {num_threads} threads", "steps/s", rates)
    peers = {f"ratio_{name}": name for name in ("raw", "envpool", "gymnasium", "opensim", "plain")}
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


class _Recorder:
    """A simulation whose states and own model fields are copied before every call of its `step`.

    Attributes:
        calls: What was recorded: state rows, model fields by name, and the number of physics steps.
    """

    def __init__(self, simulation: CpuSimulation, fields: tuple[str, ...]) -> None:
        self._simulation, self._model_fields = simulation, fields
        self.calls: list[tuple[np.ndarray, dict[str, np.ndarray], int]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._simulation, name)

    def step(self, substeps: int, env_ids: torch.Tensor | None = None) -> dict[int, str]:
        fields = {name: self._simulation.model_field(name).numpy().copy() for name in self._model_fields}
        self.calls.append((self._simulation.rows.numpy().copy(), fields, substeps))
        return self._simulation.step(substeps, env_ids)


def _raw(env: MujocoVectorEnv, actions: torch.Tensor) -> Contestant:
    """mujoco.batch alone, on the states, controls and forces that a run of ours has just gone through.

    Only its steps are timed: as many calls, of as many physics steps, as ours makes.
    """
    simulation, own = env.simulation, env.task.model_fields
    batch = Batch(simulation.model, env.num_envs, simulation.num_threads)
    fields = {name: batch.expand(name) for name in own}

    def measure() -> float:
        spent = 0.0
        for action in actions:
            recorder = _Recorder(simulation, own)
            env.simulation = recorder  # type: ignore[assignment]
            env.step(action)
            env.simulation = simulation
            for rows, values, substeps in recorder.calls:
                batch.state[:] = rows
                for name, value in values.items():
                    fields[name][:] = value
                begin = time.perf_counter()
                batch.step(nstep=substeps)
                spent += time.perf_counter() - begin
        return len(actions) * env.num_envs / spent

    return measure


def _runners(actions: np.ndarray) -> dict[str, Contestant]:
    """Return the peers of LearningToRun: a plain loop, and OpenSim where it is installed, one environment each."""
    from scripts.benchmarks.runner_plain import PlainRunner

    peers: dict[str, Any] = {"plain": PlainRunner()}
    if importlib.util.find_spec("opensim"):
        from scripts.benchmarks.opensim_runner import OpenSimRunner

        peers["opensim"] = OpenSimRunner()
    steps = 60  # of one environment, at 60 to 1,000 a second

    def contestant(runner: Any) -> Contestant:
        def measure() -> float:
            runner.reset()
            begin = time.perf_counter()
            for action in actions[np.arange(steps) % len(actions), 0]:
                if runner.step(action)[1] < 0.65:
                    runner.reset()
            return steps / (time.perf_counter() - begin)

        return measure

    return {name: contestant(runner) for name, runner in peers.items()}


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
