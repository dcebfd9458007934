"""From a command line to a TrainConfig: Hydra composes the YAML, rlsuite.config.schema validates it."""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rlsuite import methods
from rlsuite.agent_registry import trust
from rlsuite.config.build import build
from rlsuite.config.schema import TrainConfig, train_config
from rlsuite.errors import UserError, near_matches, require
from rlsuite.records.yaml_file import read_yaml
from rlsuite.title import EXAMPLE

CONF = Path(__file__).parents[1] / "conf"
GROUPS = ("agent", "env", "preset")
PRESETS_OF_AGENTS = ("paper", "long")  # all of whose values are an agent's or its recipe's
RUN_KEYS = ("run_dir", "resume")
MEANINGS = ("activation", "value_min", "value_max")  # what weights mean: others would fit, and be nonsense
PATH_KEYS = ("run_dir", "resume", "output", "data", "image", "weights", "env.data", "env.renderer_weights")
PATH_KEYS += ("mask", "palette", "canvas", "print")  # a file, a number, a colour with #, a paper with @
FILES_OF_TASKS = ("xml_file", "data", "renderer_weights")
LONG_FOR = {"log=wandb": "log.wandb=true", "log=tensorboard": "log.wandb=false"}
PATH_LIST_KEYS = ("run", "runs")


def group_options(group: str) -> list[str]:
    """Return the names a config group offers; those of agents and tasks `agents` and `envs` have registered, too."""
    registered = ConfigStore.instance().repo.get(group, {})
    return sorted(
        {path.stem for path in (CONF / group).glob("*.yaml")} | {name.removesuffix(".yaml") for name in registered}
    )


def has_preset(agent: str, preset: str) -> bool:
    """Return whether an agent, or the recipe that its file names, has values for a preset."""
    if (CONF / "agent" / agent / f"{preset}.yaml").exists():
        return True
    path = CONF / "agent" / f"{agent}.yaml"
    defaults = read_yaml(path).get("defaults", []) if path.exists() else []
    recipes = [entry["override /recipe"] for entry in defaults if "override /recipe" in entry]
    return any((CONF / "recipe" / recipe / f"{preset}.yaml").exists() for recipe in recipes)


def chosen_by_preset(preset: str) -> dict[str, str]:
    """Return the agent and the task that a preset chooses, by group; those that choose none leave both to the user."""
    path = CONF / "preset" / f"{preset}.yaml"
    defaults = (read_yaml(path) or {}).get("defaults", []) if path.exists() else []
    entries = [entry for entry in defaults if isinstance(entry, dict)]
    return {
        group: str(entry[f"override /{group}"])
        for group in ("agent", "env")
        for entry in entries
        if f"override /{group}" in entry
    }


def parse(
    arguments: Sequence[str],
    example: str = EXAMPLE,
    numbers: Sequence[str] = (),
) -> list[Override]:
    """Parse a command line's key=value arguments; `example` of them is for messages, `numbers` take no path here.

    An agent that they name by import path, agent=package.module:Class, may be imported from now on.

    Raises:
        UserError: for what is not key=value, or an unknown agent, task or preset.
    """
    arguments = [LONG_FOR.get(argument, own_task(argument)) for argument in arguments]
    for argument in arguments:
        if argument.partition("=")[0] in ("", argument):
            raise UserError(f"'{argument}' is not key=value; for example: {example}")
        if argument.startswith("-"):
            raise UserError(f"'{argument}': keys have no dashes here; write {argument.lstrip('-')}")
    try:
        overrides = OverridesParser.create().parse_overrides(
            [a if a.partition("=")[0] in numbers else quote_path(a) for a in arguments]
        )
    except HydraException as error:
        raise UserError(f"cannot read the arguments: {one_line(error)}") from None
    for override in overrides:
        key = override.key_or_group
        if key in GROUPS:
            for name in choices(override):
                if key == "agent":
                    trust(name)
                if name not in group_options(key):
                    kind = {"agent": "agent", "env": "task", "preset": "preset"}[key]
                    hint = foreign_hint(name) if key == "env" else ""
                    raise UserError(f"unknown {kind} '{name}'{hint or near_matches(name, group_options(key))}")
    return overrides


def foreign_hint(name: str, *, python: bool = False) -> str:
    """Return how a task that has the look of another library's is named, as the end of a message; "" for others.

    Args:
        name: such as "Pendulum-v1" or "envpool:Hopper-v4".
        python: whether it came from Python and not from the command line.
    """
    library, colon, task = name.partition(":")
    if not colon or library not in ("gymnasium", "envpool"):
        library, task = "gymnasium", name
    if not re.search(r"-v\d+$", task):
        return ""
    whose = "Gymnasium" if library == "gymnasium" else "EnvPool"
    hint = f"; for {whose}'s own write " + (f'"{library}:{task}"' if python else f"env={library} env.id={task}")
    own = re.sub(r"-v\d+$", "", task)
    if own in group_options("env"):
        hint += ", for the suite's " + (f'"{own}"' if python else f"env={own}")
    return hint


def own_task(argument: str) -> str:
    """Return env=Hopper for env=Hopper-v5: the suite's tasks of Gymnasium's names are those of its version 5."""
    if not argument.startswith("env="):
        return argument
    known = group_options("env")
    words = [(word, word.removesuffix("-v5")) for word in argument[4:].split(",")]
    return f"env={','.join(short if short in known else word for word, short in words)}"


def quote_path(argument: str) -> str:
    """Quote the value of a key that takes a path, or paths with commas: Hydra's grammar has uses for = ( { and ~.

    Raises:
        UserError: if the path is empty.
    """
    key, _, value = argument.partition("=")
    if not _is_path(key, value) or value == "null" or value[:1] in ("'", '"', "["):
        return argument
    if not value:
        raise UserError(f"{key}= is empty; name a path, or leave it out")

    if key in PATH_LIST_KEYS:
        whole = "," not in value or Path(value).exists()  # a comma may be of the name
        return f"{key}=[{','.join(_quoted(part) for part in ([value] if whole else value.split(',')))}]"
    return quoted(key, value)


def _is_path(key: str, value: str) -> bool:
    if key == "env.xml_file":  # several are a sweep, unless they are one name
        return "," not in value or Path(value).expanduser().exists()
    return key in (*PATH_KEYS, *PATH_LIST_KEYS) or key.endswith(".weights")


def quoted(key: str, value: object) -> str:
    """Return key='value' as Hydra reads a text that means nothing but itself."""
    return f"{key}={_quoted(str(value))}"


def _quoted(text: str) -> str:
    text = re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + ("\\'" if found[2] else ""), text)
    return f"'{text}'"


def plain_values(arguments: Sequence[str]) -> dict[str, Any]:
    """Return a script's key=value arguments as plain data, one value for each key.

    Raises:
        UserError: for several values, which only sweeps take.
    """
    overrides = parse(arguments)
    for override in overrides:
        if override.is_sweep_override():
            raise UserError(f"{override.key_or_group}= takes one value here")
    return {override.key_or_group: override.value() for override in overrides}


def choices(override: Override) -> list[str]:
    """Return the values an argument stands for: several where it is a sweep."""
    if override.is_sweep_override():
        return [str(value) for value in override.sweep_string_iterator()]
    return [str(override.value())]


def expand(overrides: Sequence[Override]) -> list[list[str]]:
    """Return the argument lists of a sweep's runs: every combination of the swept values."""
    parts = [[f"{override.key_or_group}={value}" for value in _texts(override)] for override in overrides]
    return [list(combination) for combination in itertools.product(*parts)]


def _texts(override: Override) -> list[str]:
    if override.is_sweep_override():
        return [str(value) for value in override.sweep_string_iterator()]
    return [override.get_value_element_as_str()]


def compose_train(arguments: Sequence[str]) -> tuple[TrainConfig, dict[str, Any]]:
    """Compose one run's config from its arguments.

    Returns:
        The config, and the keys that are about this run and not about training: run_dir, resume.

    Raises:
        UserError: one line naming what is wrong and how to mend it.
    """
    overrides = parse(arguments)
    if any(override.is_sweep_override() for override in overrides):
        raise UserError("several values for one key are a sweep; add -m")
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            composed = compose("train", hydra_arguments(overrides))
            plain: dict[str, Any] = OmegaConf.to_container(composed, resolve=True)  # type: ignore[assignment]
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(f"cannot compose the configuration: {one_line(error)}") from None
    return from_composed(plain, _chosen(overrides, "preset", "none"))


def from_composed(plain: dict[str, Any], preset: str) -> tuple[TrainConfig, dict[str, Any]]:
    """Turn what Hydra composed, as plain data, into a validated TrainConfig and the run keys."""
    agent = plain["agent"]["name"]
    trust(agent)  # here, too: a cluster's launcher composes in one process and trains in another
    if preset in PRESETS_OF_AGENTS and not has_preset(agent, preset):
        made = [name for name in group_options("agent") if has_preset(name, preset)]
        raise UserError(f"preset={preset} is not made for agent={agent}; it is for {', '.join(made)}")
    for group, name in chosen_by_preset(preset).items():
        found = agent if group == "agent" else str(plain["env"].get("id", "")).rpartition("/")[2]
        if found != name:
            raise UserError(f"{group}={found}: preset={preset} is for {group}={name}, which it chooses; leave it out")
    run = {key: plain.pop(key, None) for key in RUN_KEYS}
    for key, value in run.items():
        require(value is None or isinstance(value, str), f"{key}={value}: use one path; {key}=./... where it begins so")
    plain["perception"] = _take_perception(plain)
    if "data" in plain:  # of tasks that read some: short for env.data
        plain["env"] = {**plain["env"], "data": plain.pop("data")}
    plain["env"] |= {key: _fixed(key, plain["env"][key]) for key in FILES_OF_TASKS if key in plain["env"]}
    return train_config(plain), run


def _fixed(key: str, value: Any) -> Any:
    """Return an option that is a relative path as an absolute one: a run may be resumed from another folder.

    A plain word may be one of the suite's models, or a set of pictures; with it stays what the task makes of it.
    """
    if not isinstance(value, str) or not value:
        return value
    is_path = value.startswith((".", "~")) or key == "renderer_weights" or (key == "data" and "/" in value)
    return _absolute(value) if is_path else value


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))


def _take_perception(plain: dict[str, Any]) -> tuple[methods.Method, ...]:
    """Take what perception= names, and its numbers (rife.weights), out of composed data; return it configured."""
    named = plain.pop("perception", None) or []
    names = [str(name) for name in (named if isinstance(named, list | tuple) else [named])]
    room = methods.room("perception")
    shorts = {methods.short_name(name) for name in room.catalogue}
    numbers = methods.flat_numbers({key: plain.pop(key) for key in list(plain) if key in shorts})
    for key, value in numbers.items():
        if key.endswith(".weights") and isinstance(value, str) and value:
            numbers[key] = _absolute(value)
    return room.choose(names, numbers)


def hydra_arguments(overrides: Sequence[Override]) -> list[str]:
    """Let Hydra take any key as new or known: which keys exist is decided by the dataclasses."""
    arguments = []
    for override in overrides:
        text = override.input_line or ""
        if _is_path(override.key_or_group, ""):
            text = text.replace("${", "\\${")  # Hydra's values may refer to others
        plain_value = override.key_or_group not in GROUPS and not text.startswith(("+", "~", "hydra"))
        arguments.append(f"++{text}" if plain_value else text)
    return arguments


def script_config(cls: Any, arguments: Sequence[str]) -> Any:
    """Build a script's own config dataclass from key=value arguments; ``key=a,b`` gives a list.

    Raises:
        UserError: for an unknown key or a bad value.
    """
    plain: dict[str, Any] = {}
    example = f"{dataclasses.fields(cls)[0].name}=..."
    numbers = [entry.name for entry in dataclasses.fields(cls) if entry.type in ("int", int)]
    for override in parse(arguments, example, numbers):
        value = choices(override) if override.is_sweep_override() else override.value()
        plain[override.key_or_group] = value
    return build(cls, plain)


def merge(plain: dict[str, Any], arguments: Sequence[str]) -> dict[str, Any]:
    """Put key=value arguments over a stored config, as resume does.

    Raises:
        UserError: for keys that would change what is resumed.
    """
    for override in parse(arguments):
        key = override.key_or_group
        if key == "agent" and override.value() == plain.get("agent", {}).get("name"):
            continue  # a resumed run of an agent that is not the suite's needs it to be said again
        fixed = (*GROUPS, "run_dir", "seed", "agent.name", "agent.target", "perception")
        if key in fixed or key.startswith(("env.", "camera.")):
            raise UserError(f"{key}= cannot change when a run is resumed; leave it out, or start a new run")
        if override.is_sweep_override():
            raise UserError(f"several values for {key}= are a sweep; resume= continues one run")
        if moved := _moved_weights(plain, key):
            moved["weights"] = _absolute(str(override.value()))
            continue
        node = plain
        *parents, last = key.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise UserError(f"unknown key '{key}': {parent} is a value, not a group of keys")
        if last in MEANINGS and node.get(last, override.value()) != override.value():
            raise UserError(
                f"{key}={override.value()}: the run's weights were learned with {node[last]}; leave it out, or start "
                "a new run"
            )
        node[last] = override.value()
    return plain


def _moved_weights(plain: dict[str, Any], key: str) -> dict[str, Any] | None:
    """Return the numbers of the perceiver whose weights file a key says, such as rife.weights; None for another key.

    A file may have been moved; that it holds the same weights, the environments' state will tell.
    """
    for entry in plain.get("perception") or ():
        if key == f"{methods.short_name(str(entry['name']))}.weights":
            return entry["config"]
    return None


def read_config(run_dir: Path) -> dict[str, Any]:
    """Return the plain data of a run's config.yaml.

    Raises:
        UserError: if there is none or it cannot be read.
    """
    path = run_dir / "config.yaml"
    try:
        plain = read_yaml(path)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; {run_dir} is not a run directory") from None
    if not isinstance(plain, dict) or "agent" not in plain or "env" not in plain:
        raise UserError(f"{path} is not the config of a run: it names no agent and env")
    return plain


def one_line(error: BaseException) -> str:
    """Return an exception's text on one line."""
    return " ".join(str(error).split())


def _chosen(overrides: Sequence[Override], group: str, default: str) -> str:
    for override in overrides:
        if override.key_or_group == group:
            default = str(override.value())
    return default
