"""Methods by name: a catalogue says where each one's class is, its frozen `Config` holds its numbers.

A catalogue maps names to classes, such as ``{"quantization/pams": "package.module:PAMS"}``. What follows the last slash
is the method's short name: it is unique, and the key of its numbers on a command line (``pams.bits=4``). Files hold
names and numbers, never import paths.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from rlsuite.config.build import build as build_config
from rlsuite.errors import UserError, near_matches

Catalogue = Mapping[str, str]


@dataclass(frozen=True)
class Method:
    """A configured method, not yet built.

    Attributes:
        name: its whole name, a key of its catalogue.
        config: an instance of its class's `Config`.
        target: where its class is, "module:Class"; from the catalogue.
    """

    name: str
    config: Any
    target: str = dataclasses.field(repr=False)

    @property
    def short_name(self) -> str:
        """What follows the name's last slash."""
        return short_name(self.name)

    @property
    def kind(self) -> Any:
        """The method's class; its module is imported now."""
        return find_class(self.target)

    def build(self, *arguments: Any, **keywords: Any) -> Any:
        """Return an instance of the method's class, made with these arguments and ``config=``."""
        return self.kind(*arguments, config=self.config, **keywords)


class Room(NamedTuple):
    """A key of the command line that takes methods, such as perception=.

    Attributes:
        catalogue: what it takes.
        choose: names and overrides -> configured methods.
    """

    catalogue: Catalogue
    choose: Callable[[Sequence[str], Mapping[str, Any]], tuple[Method, ...]]


_ROOMS: dict[str, Room] = {}


def register(key: str, catalogue: Catalogue, choose: Callable[..., tuple[Method, ...]]) -> None:
    """Let a key of the command line, and of config.yaml, name the methods of a catalogue from now on."""
    _ROOMS[key] = Room(catalogue, choose)


def room(key: str) -> Room:
    """Return what a key names.

    Raises:
        UserError: if nobody has registered it.
    """
    if key not in _ROOMS:
        raise UserError(f"{key}=: nothing of that kind is known here")
    return _ROOMS[key]


def split_numbers(values: Mapping[str, Any], catalogue: Catalogue) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return which of key -> value are numbers of a catalogue's methods ("pams.bits"), and the others."""
    shorts = {short_name(name) for name in catalogue}
    own = {key: value for key, value in values.items() if key.partition(".")[0] in shorts and "." in key}
    return own, {key: value for key, value in values.items() if key not in own}


def flat_numbers(numbers: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested numbers as one mapping with dotted keys."""
    found: dict[str, Any] = {}
    for key, value in numbers.items():
        deeper = isinstance(value, Mapping) and value
        found |= flat_numbers(value, f"{prefix}{key}.") if deeper else {f"{prefix}{key}": value}
    return found


def short_name(name: str) -> str:
    """Return what follows a name's last slash."""
    return name.rpartition("/")[2]


def short_names(*catalogues: Catalogue) -> dict[str, str]:
    """Return short name -> whole name over all catalogues.

    Raises:
        ValueError: if two methods have one short name: they could not be told apart on a command line.
    """
    found: dict[str, str] = {}
    for name in (name for catalogue in catalogues for name in catalogue):
        if (other := found.setdefault(short_name(name), name)) != name:
            raise ValueError(f"'{other}' and '{name}' have one short name; give one of them another")
    return found


def choose(
    catalogue: Catalogue, names: Sequence[str], overrides: Mapping[str, Any] | None = None
) -> tuple[Method, ...]:
    """Return methods by their names, in that order, with some of their numbers changed.

    The modules of the methods named, and no others, are imported for their `Config`.

    Args:
        catalogue: name -> "module:Class".
        names: whole or short names.
        overrides: "short.key" (deeper keys with more dots) -> value, each of a method named.

    Raises:
        UserError: for an unknown name, one named twice, an unknown key, a value of the wrong kind or out of range, or a
            key of a method that is not named.
    """
    chosen = [_whole(catalogue, name) for name in names]
    if twice := [name for place, name in enumerate(chosen) if name in chosen[:place]]:
        raise UserError(f"'{twice[0]}' is named twice; name each method once")
    numbers: dict[str, dict[str, Any]] = {short_name(name): {} for name in chosen}
    for key, value in (overrides or {}).items():
        owner, _, rest = key.partition(".")
        if owner not in numbers:
            named = ", ".join(numbers) or "none"
            raise UserError(f"{key}={value}: {owner} is not chosen ({named} is); choose it too, or leave this out")
        _put(numbers[owner], rest, value, key)
    return tuple(_configured(catalogue, name, numbers[short_name(name)]) for name in chosen)


def to_plain(methods: Sequence[Method]) -> list[dict[str, Any]]:
    """Return methods as plain data, for config.yaml and manifests: names and numbers."""
    plain = [{"name": method.name, "config": dataclasses.asdict(method.config)} for method in methods]
    return json.loads(json.dumps(plain))  # tuples become lists, as they will in a file


def from_plain(catalogue: Catalogue, plain: Sequence[Mapping[str, Any]]) -> tuple[Method, ...]:
    """Return the methods that to_plain() wrote.

    Raises:
        UserError: if the data is something else, or names a method or a key that is not known.
    """
    found = []
    for entry in plain:
        if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str) or set(entry) - {"name", "config"}:
            raise UserError(f"{entry}: a method is written as its name and its config")
        name, config = entry["name"], entry.get("config") or {}
        if name not in catalogue:
            raise UserError(f"unknown method '{name}'{near_matches(name, catalogue)}")
        if not isinstance(config, Mapping):
            raise UserError(f"{name}: config={config}: this is a group of keys")
        found.append(_configured(catalogue, name, config))
    return tuple(found)


def _whole(catalogue: Catalogue, name: str) -> str:
    if name in catalogue:
        return name
    by_short = short_names(catalogue)
    if name in by_short:
        return by_short[name]
    known = catalogue if "/" in name else by_short
    raise UserError(f"unknown method '{name}'{near_matches(name, known)}")


def _put(numbers: dict[str, Any], path: str, value: Any, key: str) -> None:
    """Set numbers["a"]["b"] = value for the path "a.b"."""
    *parents, last = path.split(".")
    for parent in parents:
        numbers = numbers.setdefault(parent, {})
        if not isinstance(numbers, dict):
            raise UserError(f"unknown key '{key}': {parent} is a value, not a group of keys")
    if not last:
        raise UserError(f"{key}={value}: say which of its numbers, as in {key.rstrip('.')}.<key>=<value>")
    numbers[last] = value


def _configured(catalogue: Catalogue, name: str, numbers: Mapping[str, Any]) -> Method:
    target = catalogue[name]
    return Method(name, build_config(find_class(target).Config, numbers, f"{short_name(name)}."), target)


def find_class(target: str) -> Any:
    """Return the class that a catalogue's "module:Class" names; its module is imported now."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)
