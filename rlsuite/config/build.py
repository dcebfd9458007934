"""From plain data, as YAML and command lines give it, to frozen dataclasses: names and types are checked here."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any

from rlsuite.errors import UserError, near_matches

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
            public = [f"{path}{name}" for name in known if name != "agent_name"]  # which is said as agent=
            message = near_matches(f"{path}{key}", public)
            raise UserError(f"unknown key '{path}{key}'{message}")
        values[key] = _convert(value, hints[key], f"{path}{key}")
    return cls(**values)


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
