"""Agents by name: the suite's own, those of installed packages, and those that the command line names by import path.

A run's config.yaml and its checkpoints hold a name. They are data: whatever they hold, nothing is imported that is
not registered, installed as an entry point of the group "rlsuite.agents", or named by whoever typed the command.

Every name is also one of Hydra's options of agent=; a YAML file of that name, where there is one, is what it composes.
"""

from __future__ import annotations

import dataclasses
import importlib
import re
from collections.abc import Iterable, Mapping
from importlib.metadata import entry_points
from pathlib import Path

from hydra.core.config_store import ConfigStore

from rlsuite.agent import Agent
from rlsuite.errors import UserError, near_matches

GROUP = "rlsuite.agents"
_FILES = Path(__file__).parent / "conf" / "agent"
_IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")

_registered: dict[str, str] = {}  # name -> module:Class
_former_targets: set[str] = set()
_trusted: set[str] = set()  # module:Class, of the command line


def register(agents: Mapping[str, str], former_targets: Iterable[str] = ()) -> None:
    """Make the suite's agents known, and with them those that installed packages offer.

    Args:
        agents: name -> "package.module:Class"; nothing is imported before it is asked for.
        former_targets: import paths that older runs recorded beside these names; they are read over.
    """
    offered = {point.name: f"{point.module}:{point.attr}" for point in entry_points(group=GROUP)}
    _registered.update({**offered, **agents})
    _former_targets.update(former_targets)
    for name in _registered:
        _offer(name)


def agent_names() -> list[str]:
    """Return the names of all registered agents."""
    return sorted(_registered)


def trust(name: str) -> None:
    """Let "package.module:Class" be imported as an agent: for what a command line says, never for what a file does."""
    if _IMPORT_PATH.fullmatch(name):
        _trusted.add(name)
        _offer(name)


def refuse_target(target: object) -> None:
    """Raise UserError for an import path beside an agent's name, unless it is one that older runs recorded."""
    if target is not None and not (isinstance(target, str) and target in _former_targets):
        raise UserError(
            f"agent.target={target!r}: agents are known by name, and no file's import path is followed; for an agent "
            "of your own write agent=package.module:Class on the command line"
        )


def agent_class(name: str) -> type[Agent]:
    """Return an agent's class, importing it.

    Raises:
        UserError: if there is no such agent, or it is an import path that the command line did not name.
    """
    if name in _registered:
        return _imported(name, _registered[name])
    if name in _trusted:
        return _imported(name, name)
    if _IMPORT_PATH.fullmatch(name):
        raise UserError(
            f"agent={name} is named by a file, and no file's import path is followed; if you trust that code, write "
            f"agent={name} on the command line"
        )
    raise UserError(f"unknown agent {name!r}{near_matches(name, agent_names())}")


def _offer(name: str) -> None:
    """Make a name an option of agent= that composes nothing beyond it; a YAML file of the name does so itself."""
    if not (_FILES / f"{name}.yaml").exists():
        ConfigStore.instance().store(group="agent", name=name, node={"agent": {"name": name}}, package="_global_")


def _imported(name: str, path: str) -> type[Agent]:
    module, _, attribute = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"agent={name}: {path} cannot be imported ({' '.join(str(error).split())})") from None
    is_agent = isinstance(found, type) and issubclass(found, Agent)
    if not (is_agent and dataclasses.is_dataclass(getattr(found, "Config", None))):
        raise UserError(f"agent={name}: {path} is no class derived from rlsuite.agent.Agent with a dataclass Config")
    return found
