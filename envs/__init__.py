"""Environments behind one contract: vectorized, on torch tensors, exactly resumable."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

if sys.platform == "linux" and "DISPLAY" not in os.environ:
    # MuJoCo chooses its OpenGL back end when it is first imported; without a screen it needs this one, which other
    # systems do not have, and macOS never sets DISPLAY.
    os.environ.setdefault("MUJOCO_GL", "egl")

import gymnasium
import torch
from hydra.core.config_store import ConfigStore

import rlsuite  # noqa: F401  (before torch: it sets how OpenMP threads wait)
from envs import catalogue
from envs.perception.catalogue import PERCEPTIONS
from envs.vector import VectorEnv
from rlsuite.config.camera import CameraConfig
from rlsuite.config.schema import MOST_ENVS
from rlsuite.errors import UserError, require, require_choice
from rlsuite.methods import Method, register

__all__ = [
    "VectorEnv",
    "evaluation_options",
    "has_goals",
    "make_vector",
    "reference_options",
    "task_names",
    "task_options",
]

_PREFIX = "rlsuite/"
_ROOM = ("nconmax", "njmax", "deterministic")  # options of the engine "warp"


def task_names() -> list[str]:
    """Return the names of the suite's own tasks."""
    return catalogue.names()


def task_options(name: str) -> dict[str, Any]:
    """Return a task's options with their defaults.

    Raises:
        UserError: If there is no such task.
    """
    return catalogue.options(name.removeprefix(_PREFIX))


def reference_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return a task's options without those of the engine: with them `make_vector` takes the engine "mujoco"."""
    return {name: value for name, value in options.items() if name not in ("engine", *_ROOM)}


def evaluation_options(env_id: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return a run's options as the task wants them where agents are judged: the same, unless it says otherwise.

    Agents are judged on the engine "mujoco" whatever trained them: its figures are those of others.
    """
    name = env_id.removeprefix(_PREFIX)
    kind = None if ":" in name or name not in catalogue.names() else catalogue.task_class(name)
    return getattr(kind, "evaluation_options", dict)(reference_options(options))


def has_goals(env_id: str) -> bool:
    """Return whether an environment, as named to `make_vector`, is a task of the suite with goals."""
    name = env_id.removeprefix(_PREFIX)
    if ":" in name or name not in catalogue.names():
        return False
    from envs.goals.task import GoalTask

    return issubclass(catalogue.task_class(name), GoalTask)


def make_vector(
    env_id: str,
    num_envs: int,
    *,
    device: str | torch.device = "cpu",
    num_threads: int = 0,
    dtype: torch.dtype = torch.float32,
    render_mode: str | None = None,
    render_size: tuple[int, int] | None = None,
    flat: bool = False,
    camera: CameraConfig | None = None,
    perception: Sequence[Method] = (),
    engine: str = "mujoco",
    **options: Any,
) -> Any:
    """Build a vectorized environment.

    Args:
        env_id: "rlsuite/<Task>" or "<Task>"; "gymnasium:<id>" for any Gymnasium task of continuous
            actions; "envpool:<id>" for EnvPool's; "python:<name>" for a given object (envs/adapters/given.py).
        num_envs: Number of environments.
        device: Where the returned tensors live.
        num_threads: Threads that step the environments; 0 takes all CPUs.
        dtype: Of observations and rewards, torch.float32 or torch.float64.
        render_mode: "rgb_array" to allow rendering.
        render_size: height and width of the pictures of the suite's simulated bodies; None: theirs.
        flat: Give a goal task's observations as one tensor, [observation, desired goal, achieved goal], as training
            wants them, instead of a dict; the others' are one tensor always.
        camera: With a size, pictures for observations (`envs.perception.wrapper`), of the suite's simulated bodies.
        perception: What is made of them, configured perceivers.
        engine: What computes the suite's simulated bodies: "mujoco", on CPU threads, or "warp", on the device.
        **options: Options of the task (see `task_options`), and max_episode_steps (None for no limit); of the engine
            "warp" also nconmax, njmax and deterministic (`envs.simulation.gpu`).

    Returns:
        A `VectorEnv`, or for a goal task that is not flat a `envs.goal_vector.GoalVectorEnv`.

    Raises:
        UserError: If the task or an option is unknown, or num_envs is beyond all measure.
        ValueError: If num_envs is below 1.
    """
    if num_envs < 1:
        raise ValueError(f"num_envs={num_envs} must be at least 1")
    require(num_envs <= MOST_ENVS, f"{num_envs} environments, of which episodes have one each: use at most {MOST_ENVS}")
    pictures = camera is not None and camera.size > 0
    library, colon, name = env_id.partition(":")
    require_choice("env.engine", engine, ("mujoco", "warp"))
    if colon and engine == "warp":
        raise UserError(f"env.engine=warp: it computes the suite's own tasks, not {env_id}; leave it out")
    if colon and pictures:
        raise _not_drawn(camera, env_id)
    common: dict[str, Any] = {"device": device, "dtype": dtype, "render_mode": render_mode}
    if colon and library == "gymnasium":
        from envs.adapters.gymnasium_adapter import GymnasiumVectorEnv

        return GymnasiumVectorEnv(name, num_envs, **common, options=options)
    if colon and library == "envpool":
        from envs.adapters.envpool_adapter import EnvPoolVectorEnv

        return EnvPoolVectorEnv(name, num_envs, num_threads=num_threads, **common, options=options)
    if colon and library == "python":
        from envs.adapters import given

        return given.make(name, num_envs, **common, options=options)
    if colon or ("/" in env_id and not env_id.startswith(_PREFIX)):
        raise UserError(f"unknown environment '{env_id}'; write a task name, gymnasium:<id> or envpool:<id>")
    name = env_id.removeprefix(_PREFIX)
    kind = catalogue.task_class(name)
    limit = options.pop("max_episode_steps", kind.max_episode_steps)
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
        raise UserError(f"env.max_episode_steps={limit}: use a whole number of 1 or more, or null for no limit")
    room = {option: options.pop(option) for option in _ROOM if option in options} if engine == "warp" else {}
    task = catalogue.build(name, **options)
    if hasattr(task, "make_vector"):  # no simulation of bodies
        if pictures:
            raise _not_drawn(camera, env_id)
        require(engine == "mujoco", f"env.engine={engine}: {name} has no bodies to simulate; leave it out")
        return task.make_vector(num_envs, max_episode_steps=limit, **common)
    common["max_episode_steps"] = task.episode_steps(limit)
    if engine == "warp":
        require(
            not pictures,
            f"camera.size={camera.size if camera else 0}: env.engine=warp shows no pictures yet; use env.engine=mujoco",
        )
        from envs.device_vector import DeviceVectorEnv

        env = DeviceVectorEnv(task, num_envs, **common, **room)
    else:
        from envs.mujoco_vector import MujocoVectorEnv

        if render_size is not None:
            common["render_size"] = render_size
        env = MujocoVectorEnv(task, num_envs, num_threads=num_threads, **common)
    if camera is not None and pictures:
        return _with_pictures(env, camera, perception)
    if env.goals is None or flat:
        return env
    from envs.goal_vector import GoalVectorEnv

    return GoalVectorEnv(env)


def _not_drawn(camera: CameraConfig | None, env_id: str) -> UserError:
    size = camera.size if camera else 0
    return UserError(f"camera.size={size}: {env_id} is no simulation of bodies, which alone are drawn; use env=Reacher")


def _with_pictures(env: Any, camera: CameraConfig, perception: Sequence[Method]) -> VectorEnv:
    from envs.cameras import Cameras
    from envs.perception.weights import build_perceiver
    from envs.perception.wrapper import PerceptionWrapper, drawn_fields

    perceivers = [build_perceiver(method).to(env.device) for method in perception]
    cameras = Cameras(env.task, camera, env.device, drawn_fields(perceivers, camera.sees))
    return PerceptionWrapper(env, cameras, perceivers, camera)


def _register() -> None:
    """Make the tasks known, with none of them imported: to Gymnasium's `make` and `make_vec`, and to env=<Task>."""
    groups = ConfigStore.instance()
    for name in catalogue.names():
        gymnasium.register(
            id=f"{_PREFIX}{name}",
            entry_point="envs.single:make_single",
            vector_entry_point="envs.single:make_registered",
            max_episode_steps=catalogue.limit(name),
            kwargs={"task": name},
        )
        choice = {"defaults": ["_self_", {"override /family": catalogue.family(name)}], "env": {"id": _PREFIX + name}}
        groups.store(group="env", name=name, node=choice, package="_global_", provider="envs")


def _choose_perceivers(names: Sequence[str], numbers: Mapping[str, Any]) -> tuple[Method, ...]:
    from envs.perception.weights import choose_perceivers

    return choose_perceivers(names, numbers)


_register()
register("perception", PERCEPTIONS, _choose_perceivers)
