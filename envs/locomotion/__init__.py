"""The eleven MuJoCo tasks of Gymnasium v5, written once over simulation fields."""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any

from envs.locomotion.task import Task, option_default
from rlsuite.errors import UserError, near_matches

# Task name to module; the class has the task's name.
_MODULES = {
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


def names() -> list[str]:
    """Return the names of all tasks."""
    return list(_MODULES)


def task_class(name: str) -> type[Task]:
    """Return a task's class.

    Raises:
        UserError: If there is no such task.
    """
    if name not in _MODULES:
        raise UserError(f"unknown task '{name}'{near_matches(name, _MODULES)}")
    module = importlib.import_module(f"envs.locomotion.{_MODULES[name]}")
    return getattr(module, name)


def options(name: str) -> dict[str, Any]:
    """Return a task's options with their defaults."""
    return {option.name: option_default(option) for option in dataclasses.fields(task_class(name))}


def build(name: str, **given: Any) -> Task:
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
