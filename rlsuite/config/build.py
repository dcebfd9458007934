"""From plain data, as YAML and command lines give it, to frozen dataclasses: names and types are checked here."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from rlsuite.errors import UserError, near_matches

# What Stable-Baselines3, CleanRL and rsl_rl call our keys.
ELSEWHERE = {
    "buffer_size": "capacity",
    "clip_range": "clip",
    "gae_lambda": "trace_decay",
    "gamma": "discount",
    "lam": "trace_decay",
    "lr": "learning_rate",
    "max_grad_norm": "gradient_norm",
    "n_envs": "num_envs",
    "n_epochs": "passes",
    "n_steps": "rollout_length",
    "net_arch": "hidden_sizes",
    "num_learning_epochs": "passes",
    "num_steps": "rollout_length",
    "policy_frequency": "policy_delay",
    "policy_noise": "target_noise",
    "noise_clip": "target_noise_clip",
    "tau": "target_rate",
    "total_timesteps": "steps",
    "update_epochs": "passes",
    "vf_coef": "value_weight",
}
# What a list of a kind looks like, for messages.
_LIKE = {int: " such as [256,256]", float: " such as [0.05,0.1]", str: " such as [a,b]", bool: " such as [true,false]"}


def build(cls: Any, plain: Mapping[str, Any], path: str = "") -> Any:
    """Build a frozen dataclass from plain data, checking names and types.

    Args:
        cls: the dataclass.
        plain: its fields; nested dataclasses as mappings or ready-made.
        path: dotted prefix for messages.

    Raises:
        UserError: one line, naming the key and what would be accepted.
    """
    known = {entry.name: entry for entry in dataclasses.fields(cls) if entry.init}
    hints = typing.get_type_hints(cls)
    values = {}
    for key, value in plain.items():
        if key not in known:
            held = {name: plain.get(name) for name in known if name != "agent_name"}  # which is said as agent=
            public = [f"{path}{name}" for name in held]
            meant = [f"{path}{name}" for name in _named(ELSEWHERE.get(key, key), held)]
            close = f"; did you mean {' or '.join(map(repr, meant[:3]))}?" if meant else ""
            raise UserError(f"unknown key '{path}{key}'{close or near_matches(f'{path}{key}', public)}")
        values[key] = _convert(value, hints[key], f"{path}{key}")
    return cls(**values)


def _named(name: str, held: Mapping[str, Any]) -> list[str]:
    """Return the keys, also those within groups, that are called so, or end so, as in agent.discount: the nearest."""
    ranks: dict[tuple[int, bool], list[str]] = {}
    for key in _keys(held):
        last = key.rpartition(".")[2]
        if last == name or last.endswith(f"_{name}"):
            ranks.setdefault((key.count("."), last != name), []).append(key)
    return ranks[min(ranks)] if ranks else []


def _keys(held: Any) -> Iterator[str]:
    if dataclasses.is_dataclass(held):
        held = {entry.name: getattr(held, entry.name) for entry in dataclasses.fields(held)}
    for key, value in held.items() if isinstance(held, Mapping) else ():
        yield key
        yield from (f"{key}.{inner}" for inner in _keys(value))


def _convert(value: Any, hint: Any, path: str) -> Any:
    origin = typing.get_origin(hint)
    if hint is Any or (isinstance(hint, type) and dataclasses.is_dataclass(hint) and isinstance(value, hint)):
        return value
    if origin in (typing.Union, types.UnionType):
        return _convert_union(value, typing.get_args(hint), path)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise UserError(f"{path}={value}: this is a group of keys; use {path}.<key>=<value>")
        return build(hint, value, f"{path}.")
    if origin is tuple:
        if isinstance(value, str) and typing.get_args(hint)[0] is str:
            value = [value]
        if not isinstance(value, list | tuple):
            raise UserError(f"{path}={value}: use a list{_LIKE.get(typing.get_args(hint)[0], '')}")
        return tuple(_convert(entry, typing.get_args(hint)[0], path) for entry in value)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise UserError(f"{path}={value}: this is a group of keys; use {path}.<key>=<value>")
        return dict(value)
    if hint is bool and isinstance(value, bool):
        return value
    if hint is int and isinstance(value, int | float) and not isinstance(value, bool) and not value % 1:
        return int(value)
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if hint is str and isinstance(value, str):
        return value
    wanted = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}
    raise UserError(f"{path}={value}: use {wanted.get(hint, hint)}")


def _convert_union(value: Any, options: tuple[Any, ...], path: str) -> Any:
    if value is None and type(None) in options:
        return None
    error = UserError(f"{path}={value}: not understood")
    for option in (option for option in options if option is not type(None)):
        try:
            return _convert(value, option, path)
        except UserError as refused:
            error = refused
    raise error


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values of dotted keys ("fit.steps") as nested mappings.

    Raises:
        UserError: if a key is said to be a value and a group.
    """
    found: dict[str, Any] = {}
    for key, value in values.items():
        *parents, last = key.split(".")
        node = found
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise UserError(f"{key}={value}: {parent} is a value, not a group of keys")
        node[last] = value
    return found
