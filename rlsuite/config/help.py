"""The texts of ``--help``: in short, of one agent, and everything; keys, defaults and meanings from the dataclasses."""

from __future__ import annotations

import dataclasses
import re
import textwrap
from collections.abc import Sequence
from typing import Any

from rlsuite.config.compose import chosen_by_preset, compose_train, group_options
from rlsuite.config.schema import EnvConfig, EvaluateConfig, TrainConfig, differences, to_plain
from rlsuite.errors import UserError

_USUAL = ("steps", "seed", "num_envs", "device", "evaluate.every", "run_dir")
_TASK_LINES = 4
_AGENT, _TASK = "ace", "Hopper"  # no file of its own: the general recipe


def short_help(width: int = 79) -> str:
    """Return what fits on a screen of 24 lines: how it is called, the names, and the keys that are used most."""
    begin = "python scripts/train_agent.py"
    parts = [
        f"train:     {begin} agent=td3 env=Hopper steps=300000",
        f"try it:    {begin} agent=ddpg preset=debug",
        f"sweep:     {begin} -m agent=td3,sac seed=0,1,2 jobs=2",
        f"continue:  {begin} resume runs/NAME",
        "watch:     python scripts/watch_runs.py runs=runs",
        "",
        *_names("agents", group_options("agent"), width),
        *_names("presets", _presets(), width, 1),
        *_names("tasks", group_options("env"), width, _TASK_LINES),
        "",
        "keys used most, with their defaults (an agent or task may have others):",
    ]
    meanings = attribute_docs(TrainConfig) | {"evaluate.every": attribute_docs(EvaluateConfig)["every"]}
    meanings["run_dir"] = "where the run is kept; default runs/<task>-<agent>-s<seed>-<time>"
    values: dict[str, Any] = {entry.name: entry.default for entry in dataclasses.fields(TrainConfig)}
    values |= {"evaluate.every": EvaluateConfig.every, "run_dir": "..."}
    for name in _USUAL:
        line = f"  {f'{name}={_text(values[name])}':22} {meanings[name]}"
        parts.append(line if len(line) <= width else f"{line[: width - 3]}...")
    parts += ["", "more:  --help agent=td3 (its keys)    --help all (every agent, task and key)"]
    return "\n".join(parts)


def _presets() -> list[str]:
    """Return the presets, those for any agent before those that choose agent and task themselves."""
    return sorted(group_options("preset"), key=lambda name: bool(chosen_by_preset(name)))


def _names(kind: str, names: list[str], width: int, lines: int = 3) -> list[str]:
    """Return names on a few lines; what does not fit is counted."""
    wrapped = textwrap.wrap(", ".join(names), width - 11)
    if len(wrapped) > lines:
        shown = wrapped[:lines]
        left = len(names) - sum(line.count(",") for line in shown)
        while len(shown[-1]) + len(f" and {left} more") > width - 11:
            shown[-1] = shown[-1].rstrip(",").rpartition(", ")[0] + ","
            left += 1
        wrapped = [*shown[:-1], f"{shown[-1]} and {left} more"]
    return [f"{f'{kind}:' if not place else '':10} {line}" for place, line in enumerate(wrapped)]


def agent_help(arguments: Sequence[str]) -> str:
    """Return the keys of an agent with the defaults that it has for a task: ``agent=td3 env=Hopper``.

    Raises:
        UserError: if the arguments make no run.
    """
    if not any(argument.startswith("agent=") for argument in arguments):
        raise UserError("--help takes agent=<name>, with env=<task> if you like, or all; or nothing, for the short one")
    config = compose_train(arguments)[0]
    return "\n".join(
        [
            f"keys of agent={config.agent_name}, with their defaults for {config.env.name}:",
            *describe(type(config.agent), "agent.", values=config.agent),
            "",
            "keys of a run:",
            *describe(TrainConfig, skip=("agent", "agent_name", "env"), values=config),
        ]
    )


def help_text() -> str:
    """Return the keys of train_agent.py, with the defaults that each agent's YAML composes."""
    configs = {name: compose_train([f"agent={name}", f"env={_TASK}"])[0] for name in group_options("agent")}
    usual = configs[_AGENT]
    parts = [f"agents:  {', '.join(configs)}"]
    parts += [f"tasks:   {', '.join(group_options('env'))}"]
    parts += [f"presets: {', '.join(_presets())}", ""]
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
