"""The text of ``--help``: agents, tasks, and every key with its default and meaning, read from the dataclasses."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from rlsuite.compose import CONF, group_options
from rlsuite.config import EnvConfig, TrainConfig, load_agent_class


def help_text(introduction: str) -> str:
    """Return the whole help of train_agent.py."""
    import yaml

    parts = [introduction.strip(), ""]
    parts += [f"agents:  {', '.join(group_options('agent'))}"]
    parts += [f"tasks:   {', '.join(group_options('env'))}"]
    parts += [f"presets: {', '.join(group_options('preset'))}", ""]
    parts += ["run_dir=<directory>: where the run is kept (default runs/<task>-<agent>-s<seed>-<time>)"]
    parts += [
        "resume=<run directory or checkpoint>: continue a run; other keys, such as steps=, may follow",
        "",
    ]
    parts += [
        "keys of a run:",
        *describe(TrainConfig, skip=("agent", "agent_name", "agent_target", "env")),
        "",
    ]
    parts += ["keys of the environment (and its own options, such as env.reset_noise_scale):"]
    parts += [*describe(EnvConfig, "env."), ""]
    shown: set[Any] = set()
    for name in group_options("agent"):
        target = yaml.safe_load((CONF / "agent" / f"{name}.yaml").read_text())["agent"]["target"]
        config = load_agent_class(target).Config
        if config not in shown:
            parts += [f"keys of agent={name}:", *describe(config, "agent."), ""]
            shown.add(config)
    return "\n".join(parts)


def describe(cls: Any, prefix: str = "", skip: tuple[str, ...] = ()) -> list[str]:
    """Return a line for each field of a config dataclass, nested ones included."""
    meanings = attribute_docs(cls)
    lines = []
    for entry in dataclasses.fields(cls):
        if entry.name in skip:
            continue
        factory = entry.default_factory
        if isinstance(factory, type) and dataclasses.is_dataclass(factory):
            lines += describe(factory, f"{prefix}{entry.name}.")
            continue
        default: Any = entry.default if entry.default is not dataclasses.MISSING else ""
        if isinstance(default, tuple):
            default = list(default)
        lines.append(f"  {prefix}{entry.name}={str(default).replace(' ', '')}  {meanings.get(entry.name, '')}".rstrip())
    return lines


def attribute_docs(cls: Any) -> dict[str, str]:
    """Return the meaning of each attribute from the Attributes sections of a class and its parents."""
    meanings: dict[str, str] = {}
    for owner in reversed(cls.__mro__):
        section = (owner.__doc__ or "").partition("Attributes:")[2]
        for match in re.finditer(r"^ {8}(\w+): (.*?)(?=^ {8}\w|\Z)", section, re.MULTILINE | re.DOTALL):
            meanings[match[1]] = " ".join(match[2].split())
    return meanings
