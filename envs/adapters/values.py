"""What an environment of another library returns, checked: observation, reward, ends of episodes, terms of its info.

Whatever is wrong is a ValueError that says what was returned; who called adds whose it is.

Shapes: N environments, D observation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

OLD_INTERFACE = (
    "that is the interface of Gym before 0.26; return (observation, info) from reset and (observation, reward, "
    "terminated, truncated, info) from step"
)


# What nearly all environments return, by which whole columns are taken as they are; all else is looked at one by one.
_NUMBERS = frozenset({float, int, bool, np.float64, np.float32, np.int64, np.int32, np.bool_})
_FLAGS = frozenset({bool, np.bool_})


class Step(NamedTuple):
    """One environment's step: observation, and numbers and flags as Python's own."""

    observation: np.ndarray
    reward: float
    terminated: bool
    truncated: bool
    info: Mapping[Any, Any]


def checked_reset(returned: Any, read: Callable[[Any], np.ndarray]) -> np.ndarray:
    """Return the observation of what reset() returned, as `read` has it.

    Raises:
        ValueError: If it is no pair of observation and info, or the observation is not what `read` takes.
    """
    if not isinstance(returned, tuple | list) or len(returned) != 2 or not isinstance(returned[1], Mapping | None):
        raise ValueError(f"its reset returned {described(returned)}; {OLD_INTERFACE}")
    return read(returned[0])


def checked_step(returned: Any, read: Callable[[Any], np.ndarray]) -> Step:
    """Return what step() returned, each part what it should be.

    Raises:
        ValueError: If a part is missing, has another shape than declared, or is no number.
    """
    if not isinstance(returned, tuple | list) or len(returned) != 5:
        raise ValueError(f"its step returned {described(returned)}; {OLD_INTERFACE}")
    observation, reward, terminated, truncated, info = returned
    # What nearly all return comes first, everywhere: this runs at every step.
    return Step(
        read(observation),
        reward if isinstance(reward, float) else _number(reward, "reward"),
        terminated if isinstance(terminated, bool) else bool(_number(terminated, "terminated")),
        truncated if isinstance(truncated, bool) else bool(_number(truncated, "truncated")),
        info if isinstance(info, dict | Mapping) else {},
    )


class Steps(NamedTuple):
    """N environments' steps, column by column: reward (N,) float64, flags (N,) bool."""

    observation: tuple[Any, ...]
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    info: tuple[Mapping[Any, Any], ...]


def plain_steps(returned: Sequence[Any]) -> Steps | None:
    """Return what N calls of step() returned as columns, the observations unread; None where they need a closer look.

    One look at the types of each column instead of one at each value of each environment: nearly all environments
    return tuples of five with numbers, flags and dicts. Of what does not pass, `checked_step` says what is wrong with
    it, or reads it.
    """
    if set(map(type, returned)) != {tuple} or set(map(len, returned)) != {5}:
        return None
    observation, reward, terminated, truncated, info = zip(*returned, strict=True)
    if not (
        _NUMBERS.issuperset(map(type, reward))
        and _FLAGS.issuperset(map(type, terminated))
        and _FLAGS.issuperset(map(type, truncated))
        and set(map(type, info)) == {dict}
    ):
        return None
    try:
        rewards = np.array(reward, dtype=np.float64)
    except OverflowError:  # a whole number that no float64 holds
        return None
    return Steps(observation, rewards, np.array(terminated, dtype=bool), np.array(truncated, dtype=bool), info)


def plain_observations(values: Sequence[Any], size: int) -> np.ndarray | None:
    """Return N observations as one array (N, D) of numbers; None where they need a closer look (`observation_of`)."""
    if set(map(type, values)) != {np.ndarray}:
        return None
    try:
        array = np.array(values)
    except ValueError:  # of differing shapes
        return None
    return array if array.shape == (len(values), size) and array.dtype.kind in "fiub" else None


def observation_of(value: Any, size: int) -> np.ndarray:
    """Return an observation as an array (D,) of numbers."""
    try:
        array = np.asarray(value)
    except Exception:  # ragged lists, foreign arrays on other devices
        raise ValueError(f"its observation is {described(value)}; use a vector of {size} numbers") from None
    if array.dtype.kind not in "fiub":
        raise ValueError(f"its observation is {described(value)}; use a vector of {size} numbers")
    if array.shape != (size,):
        raise ValueError(f"its observation has shape {array.shape}; its observation space says ({size},)")
    return array


def _number(value: Any, name: str) -> float:
    """Return a number or an array of one as a float; one too large for it is infinite."""
    array = np.asarray(value)
    if array.size != 1:
        raise ValueError(f"its {name} has shape {array.shape}; use one number")
    try:
        if array.dtype.kind not in "fiubO":
            raise TypeError
        return float(array.item())
    except OverflowError:
        return float("inf")
    except (TypeError, ValueError):
        raise ValueError(f"its {name} is {described(value)}; use one number") from None


def info_columns(infos: Sequence[Mapping[Any, Any]]) -> dict[str, np.ndarray]:
    """Return each named number of N infos as an array (N,) float64, NaN where an environment does not tell it.

    Whatever is no finite real number, or an array of one, is left out.
    """
    columns: dict[str, np.ndarray] = {}
    for name in dict.fromkeys(name for info in infos for name in info):
        if isinstance(name, str):
            column = _info_column([info.get(name) for info in infos])
            if column is not None:
                columns[name] = column
    return columns


def _info_column(values: list[Any]) -> np.ndarray | None:
    """Return the numbers among N values, NaN elsewhere; None where there is none."""
    numbers, kinds = values, set(map(type, values))
    if int in kinds or not kinds <= _NUMBERS:  # a whole number may be more than a float64 holds
        numbers = [math.nan if number is None else number for number in map(_info_number, values)]
    column = np.array(numbers, dtype=np.float64)
    if math.isfinite(column.sum()):  # then each of them is
        return column
    finite = np.isfinite(column)
    return np.where(finite, column, np.nan) if finite.any() else None


def _info_number(value: Any) -> float | None:
    if isinstance(value, float):  # numpy's float64 among them: nearly all
        return value if math.isfinite(value) else None
    if isinstance(value, np.ndarray):
        if value.size != 1 or value.dtype.kind not in "fiub":
            return None
        value = value.item()
    if not isinstance(value, bool | int | float | np.bool_ | np.integer | np.floating):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def described(value: Any) -> str:
    """Return in a few words what a value is: never a page of numbers."""
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple):
        return f"an array of shape {shape} and dtype {getattr(value, 'dtype', '?')}"
    text = " ".join(repr(value).split())
    return f"{type(value).__name__} {text if len(text) <= 40 else text[:40] + '...'}"
