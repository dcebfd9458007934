"""The suite's own tasks by name, whatever family they belong to."""

from __future__ import annotations

import dataclasses
import functools
import importlib
from typing import Any, NamedTuple

from envs.task import option_default
from rlsuite.errors import UserError, near_matches


class _Entry(NamedTuple):
    """Where a task's class is, and what the name changes: defaults of its options, its time limit."""

    module: str
    kind: str
    defaults: dict[str, Any]
    limit: int | None = None


_LOCOMOTION = {
    "Ant": "ant",
    "HalfCheetah": "half_cheetah",
    "Hopper": "hopper",
    "Humanoid": "humanoid",
    "HumanoidStandup": "humanoid_standup",
    "InvertedDoublePendulum": "inverted_double_pendulum",
    "InvertedPendulum": "inverted_pendulum",
    "Pusher": "pusher",
    "Reacher": "reacher",
    "Swimmer": "swimmer",
    "Walker2d": "walker2d",
}
_FIXED_HORIZON = [f"FixedHorizon{body}" for body in ("Ant", "HalfCheetah", "Hopper", "Swimmer", "Walker2d")]
# Defaults that a fixed-horizon task's noisy relatives change (arXiv:1911.12574; the weaker ones by options).
_NOISY = {"NoisyObservation": {"observation_noise": 0.1}, "NoisyAction": {"action_noise": 0.1}}
_LONG = 1000
_ROTATE = {"target_position": "ignore"}
# Module, class, changed defaults. Each also exists as <name>Dense.
_GOALS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "FetchReach": ("fetch", "FetchReach", {}),
    "FetchPush": ("fetch", "FetchPush", {}),
    "FetchSlide": ("fetch", "FetchSlide", {}),
    "FetchPickAndPlace": ("fetch", "FetchPickAndPlace", {}),
    "HandReach": ("hand_reach", "HandReach", {}),
    "HandManipulateBlockRotateZ": ("hand_manipulate", "HandManipulateBlock", {**_ROTATE, "target_rotation": "z"}),
    "HandManipulateBlockRotateParallel": (
        "hand_manipulate",
        "HandManipulateBlock",
        {**_ROTATE, "target_rotation": "parallel"},
    ),
    "HandManipulateBlockRotateXYZ": ("hand_manipulate", "HandManipulateBlock", _ROTATE),
    "HandManipulateBlockFull": ("hand_manipulate", "HandManipulateBlock", {}),
    "HandManipulateEggRotate": ("hand_manipulate", "HandManipulateEgg", _ROTATE),
    "HandManipulateEggFull": ("hand_manipulate", "HandManipulateEgg", {}),
    "HandManipulatePenRotate": ("hand_manipulate", "HandManipulatePen", _ROTATE),
    "HandManipulatePenFull": ("hand_manipulate", "HandManipulatePen", {}),
}


def _entries() -> dict[str, _Entry]:
    entries = {name: _Entry(f"envs.locomotion.{module}", name, {}) for name, module in _LOCOMOTION.items()}
    entries["Point3D"] = _Entry("envs.locomotion.point", "Point3D", {})
    for name in _FIXED_HORIZON:
        entries[name] = _Entry("envs.locomotion.fixed_horizon", name, {})
        entries[f"{name}Long"] = _Entry("envs.locomotion.fixed_horizon", name, {}, _LONG)
    for noise, defaults in _NOISY.items():
        body = "FixedHorizonHalfCheetah"
        entries[f"{body}{noise}"] = _Entry("envs.locomotion.fixed_horizon", body, defaults)
    for name, (module, kind, defaults) in _GOALS.items():
        entries[name] = _Entry(f"envs.goals.{module}", kind, defaults)
        entries[f"{name}Dense"] = _Entry(f"envs.goals.{module}", kind, {**defaults, "reward_type": "dense"})
    return entries | {"Painting": _Entry("envs.painting.environment", "Painting", {})}


_TASKS = _entries()


def names() -> list[str]:
    """Return the names of all tasks."""
    return list(_TASKS)


@functools.cache
def task_class(name: str) -> type[Any]:
    """Return a task's class, its options' defaults those of the name: a `Task`, or `Painting`.

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
    if entry.limit is not None:
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
