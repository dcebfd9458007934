"""Agents by name: the suite's own, those of installed packages, and those that the command line names by import path.

A run's config.yaml and its checkpoints hold a name. They are data: whatever they hold, nothing is imported that is
not registered, installed as an entry point of the group "rlsuite.agents", or named by whoever typed the command.
"""

from __future__ import annotations

import dataclasses
import importlib
import re
from collections.abc import Iterable, Mapping
from importlib.metadata import entry_points

from rlsuite.agent import Agent
from rlsuite.errors import UserError, near_matches

GROUP = "rlsuite.agents"
_IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")

_registered: dict[str, str] = {}  # name -> module:Class
_former_targets: set[str] = set()
_trusted: set[str] = set()  # module:Class, of the command line


def register(agents: Mapping[str, str], former_targets: Iterable[str] = ()) -> None:
    """Make agents known.

    Args:
        agents: name -> "package.module:Class"; nothing is imported before it is asked for.
        former_targets: import paths that older runs recorded beside these names; they are read over.
    """
    _registered.update(agents)
    _former_targets.update(former_targets)


def agent_names() -> list[str]:
    """Return the names of all registered and installed agents."""
    return sorted({*_registered, *(point.name for point in entry_points(group=GROUP))})


def is_import_path(name: str) -> bool:
    """Say whether an agent's name has the form "package.module:Class"."""
    return _IMPORT_PATH.fullmatch(name) is not None


def trust(name: str) -> None:
    """Let an agent of the form "package.module:Class" be imported: the command line names it."""
    if is_import_path(name):
        _trusted.add(name)


def refuse_target(target: object) -> None:
    """Raise UserError for an import path beside an agent's name, unless it is one that older runs recorded."""
    if target is not None and target not in _former_targets:
        raise UserError(
            f"agent.target={target}: an agent is known by its name, no file's import path is followed; for an agent "
            "of your own add agent=package.module:Class on the command line"
        )


def agent_class(name: str) -> type[Agent]:
    """Return an agent's class, importing it.

    Raises:
        UserError: if there is no such agent, or it is named by an import path that the command line did not name.
    """
    if name in _registered:
        return _imported(name, _registered[name])
    for point in entry_points(group=GROUP):
        if point.name == name:
            return _imported(name, f"{point.module}:{point.attr}")
    if name in _trusted:
        return _imported(name, name)
    if is_import_path(name):
        raise UserError(
            f"agent={name} is named by a file, and no file's import path is followed; if you trust that code, add "
            f"agent={name} on the command line"
        )
    raise UserError(f"unknown agent '{name}'{near_matches(name, agent_names())}")


def _imported(name: str, path: str) -> type[Agent]:
    module, _, attribute = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"agent={name}: {path} cannot be imported ({' '.join(str(error).split())})") from None
    if not (isinstance(found, type) and issubclass(found, Agent) and dataclasses.is_dataclass(found.Config)):
        raise UserError(f"agent={name}: {path} is no class derived from rlsuite.agent.Agent with a dataclass Config")
    return found
