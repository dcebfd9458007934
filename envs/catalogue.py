"""The suite's own tasks by name; a task's module is imported when the task is asked for."""

from __future__ import annotations

import dataclasses
import functools
import importlib
from typing import Any, NamedTuple

from envs.task import option_default
from rlsuite.errors import UserError, near_matches


class _Entry(NamedTuple):
    """What is known of a task before its module is imported.

    Attributes:
        module: Where its class is.
        kind: Name of the class.
        limit: Steps after which `gymnasium.make` truncates an episode: the class's `max_episode_steps`, or None where
            the class says that its episodes end by themselves.
        defaults: Options whose defaults the name changes.
        family: Tasks for which an agent may have one recipe: "general", or "long", which are a class's tasks with a
            longer limit.
    """

    module: str
    kind: str
    limit: int | None
    defaults: dict[str, Any] = {}  # noqa: RUF012 (nobody writes to it)
    family: str = "general"


# Tasks whose class has their name: its module, and the limit.
_PLAIN: dict[str, tuple[str, int | None]] = {
    "Ant": ("locomotion.ant", 1000),
    "HalfCheetah": ("locomotion.half_cheetah", 1000),
    "Hopper": ("locomotion.hopper", 1000),
    "Humanoid": ("locomotion.humanoid", 1000),
    "HumanoidStandup": ("locomotion.humanoid_standup", 1000),
    "InvertedDoublePendulum": ("locomotion.inverted_double_pendulum", 1000),
    "InvertedPendulum": ("locomotion.inverted_pendulum", 1000),
    "LearningToRun": ("learning_to_run.task", 1000),
    "Painting": ("painting.environment", None),
    "Point3D": ("locomotion.point", 30),
    "Pusher": ("locomotion.pusher", 100),
    "Reacher": ("locomotion.reacher", 50),
    "Swimmer": ("locomotion.swimmer", 1000),
    "Walker2d": ("locomotion.walker2d", 1000),
}
# Each also exists as FixedHorizon<body>Long, and one with noise (arXiv:1911.12574; weaker noise by options).
_FIXED_HORIZON = ("Ant", "HalfCheetah", "Hopper", "Swimmer", "Walker2d")
_NOISY = {"NoisyObservation": {"observation_noise": 0.1}, "NoisyAction": {"action_noise": 0.1}}
_ROTATE = {"target_position": "ignore"}
# Class, module, limit, and by task the changed defaults. Each also exists as <name>Dense.
_GOALS: list[tuple[str, str, int, dict[str, dict[str, Any]]]] = [
    ("FetchReach", "fetch", 50, {"FetchReach": {}}),
    ("FetchPush", "fetch", 50, {"FetchPush": {}}),
    ("FetchSlide", "fetch", 50, {"FetchSlide": {}}),
    ("FetchPickAndPlace", "fetch", 50, {"FetchPickAndPlace": {}}),
    ("HandReach", "hand_reach", 50, {"HandReach": {}}),
    (
        *("HandManipulateBlock", "hand_manipulate", 100),
        {
            "HandManipulateBlockRotateZ": {**_ROTATE, "target_rotation": "z"},
            "HandManipulateBlockRotateParallel": {**_ROTATE, "target_rotation": "parallel"},
            "HandManipulateBlockRotateXYZ": _ROTATE,
            "HandManipulateBlockFull": {},
        },
    ),
    (
        *("HandManipulateEgg", "hand_manipulate", 100),
        {"HandManipulateEggRotate": _ROTATE, "HandManipulateEggFull": {}},
    ),
    (
        *("HandManipulatePen", "hand_manipulate", 100),
        {"HandManipulatePenRotate": _ROTATE, "HandManipulatePenFull": {}},
    ),
]


def _entries() -> dict[str, _Entry]:
    entries = {name: _Entry(f"envs.{module}", name, limit) for name, (module, limit) in _PLAIN.items()}
    module = "envs.locomotion.fixed_horizon"
    for kind in (f"FixedHorizon{body}" for body in _FIXED_HORIZON):
        entries[kind] = _Entry(module, kind, 200)
        entries[f"{kind}Long"] = _Entry(module, kind, 1000, family="long")
    for noise, defaults in _NOISY.items():
        entries[f"FixedHorizonHalfCheetah{noise}"] = _Entry(module, "FixedHorizonHalfCheetah", 200, defaults)
    for kind, module, limit, tasks in _GOALS:
        for name, defaults in tasks.items():
            entries[name] = _Entry(f"envs.goals.{module}", kind, limit, defaults)
            dense = {**defaults, "reward_type": "dense"}
            entries[f"{name}Dense"] = _Entry(f"envs.goals.{module}", kind, limit, dense)
    return entries


_TASKS = _entries()


def names() -> list[str]:
    """Return the names of all tasks."""
    return list(_TASKS)


def limit(name: str) -> int | None:
    """Return the steps after which `gymnasium.make` truncates a task's episodes, without importing the task."""
    return _TASKS[name].limit


def family(name: str) -> str:
    """Return the family of a task, "general" or "long", without importing the task."""
    return _TASKS[name].family


@functools.cache
def task_class(name: str) -> type[Any]:
    """Return a task's class, its options' defaults those of the name: a `Task`, or a class with a `make_vector`.

    Raises:
        UserError: If there is no such task.
    """
    if name not in _TASKS:
        raise UserError(f"unknown task '{name}'{near_matches(name, _TASKS)}")
    entry = _TASKS[name]
    kind: type[Any] = getattr(importlib.import_module(entry.module), entry.kind)
    if name == entry.kind:
        return kind
    fields = [(option, type(value), value) for option, value in entry.defaults.items()]
    namespace: dict[str, Any] = {"name": name, "__doc__": kind.__doc__}
    if entry.family == "long":
        namespace["max_episode_steps"] = entry.limit
    return dataclasses.make_dataclass(name, fields, bases=(kind,), namespace=namespace, frozen=True)


def options(name: str) -> dict[str, Any]:
    """Return a task's options with their defaults."""
    return {option.name: option_default(option) for option in dataclasses.fields(task_class(name))}


def build(name: str, **given: Any) -> Any:
    """Build a task with some options.

    Raises:
        UserError: If the task or an option is unknown, or an option's value is of the wrong kind.
    """
    kind = task_class(name)
    known = [option.name for option in dataclasses.fields(kind)]
    for option in given:
        if option not in known:
            raise UserError(f"{name} has no option '{option}'{near_matches(option, known)}")
    return kind(**given)
