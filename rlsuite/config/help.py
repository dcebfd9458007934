"""The text of ``--help``: agents, tasks, and every key with its default and meaning, read from the dataclasses."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from rlsuite.config.compose import compose_train, group_options
from rlsuite.config.schema import EnvConfig, TrainConfig, differences, to_plain

_AGENT, _TASK = "ace", "Hopper"  # no file of its own: the general recipe


def help_text() -> str:
    """Return the keys of train_agent.py, with the defaults that each agent's YAML composes."""
    configs = {name: compose_train([f"agent={name}", f"env={_TASK}"])[0] for name in group_options("agent")}
    usual = configs[_AGENT]
    parts = [f"agents:  {', '.join(configs)}"]
    parts += [f"tasks:   {', '.join(group_options('env'))}"]
    parts += [f"presets: {', '.join(group_options('preset'))}", ""]
    parts += ["run_dir=<directory>: where the run is kept (default runs/<task>-<agent>-s<seed>-<time>)"]
    parts += [
        "resume=<run directory or checkpoint>: continue a run; other keys, such as steps=, may follow",
        "",
    ]
    parts += [
        f"keys of a run, with the defaults of agent={_AGENT} env={_TASK} (a task may have others):",
        *describe(TrainConfig, skip=("agent", "agent_name", "env"), values=usual),
        "",
    ]
    parts += ["keys of the environment (and its own options, such as env.reset_noise_scale):"]
    parts += [*describe(EnvConfig, "env."), ""]
    shown: dict[Any, str] = {}
    for name, config in configs.items():
        kind = type(config.agent)
        if kind in shown:
            first = shown[kind]
            parts += [f"agent={name} has the keys of agent={first}; defaults that differ from its:"]
            parts += [*_lines(configs[first], config), ""]
            continue
        shown[kind] = name
        parts += [f"keys of agent={name}:", *describe(kind, "agent.", values=config.agent)]
        others = [line for line in _lines(usual, config) if not line.startswith("  agent.")]
        parts += ["and its defaults of the keys of a run:", *others] if others else []
        parts += [""]
    return "\n".join(parts)


def _lines(old: TrainConfig, new: TrainConfig) -> list[str]:
    """Return the keys with other defaults, and these."""
    found = differences(to_plain(old), to_plain(new))
    return [
        f"  {key.replace('env.options.', 'env.')}={_text(value)}"
        for key, (_, value) in found.items()
        if key != "agent.name"
    ]


def _text(value: Any) -> str:
    return str(list(value) if isinstance(value, tuple) else value).replace(" ", "")


def describe(cls: Any, prefix: str = "", skip: tuple[str, ...] = (), values: Any = None) -> list[str]:
    """Return a line for each field of a config dataclass, nested ones included, with its default or its value."""
    meanings = attribute_docs(cls)
    lines = []
    for entry in dataclasses.fields(cls):
        if entry.name in skip:
            continue
        factory = entry.default_factory
        if isinstance(factory, type) and dataclasses.is_dataclass(factory):
            lines += describe(factory, f"{prefix}{entry.name}.", values=getattr(values, entry.name, None))
            continue
        default: Any = entry.default if entry.default is not dataclasses.MISSING else ""
        shown = getattr(values, entry.name, default)
        lines.append(f"  {prefix}{entry.name}={_text(shown)}  {meanings.get(entry.name, '')}".rstrip())
    return lines


def attribute_docs(cls: Any) -> dict[str, str]:
    """Return the meaning of each attribute from the Attributes sections of a class and its parents."""
    meanings: dict[str, str] = {}
    for owner in reversed(cls.__mro__):
        section = (owner.__doc__ or "").partition("Attributes:")[2]
        for match in re.finditer(r"^ {8}(\w+): (.*?)(?=^ {8}\w|\Z)", section, re.MULTILINE | re.DOTALL):
            meanings[match[1]] = " ".join(match[2].split())
    return meanings
