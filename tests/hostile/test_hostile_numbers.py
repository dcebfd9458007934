"""Every numeric key of every script and agent, with what is no number, or none that makes sense: one line, at once."""

import copy
import dataclasses
import importlib
import tomllib
import typing

import pytest
from paths import ROOT

from rlsuite.agent_registry import agent_class, agent_names
from rlsuite.config.compose import compose_train, script_config
from rlsuite.config.schema import to_plain, train_config
from rlsuite.errors import UserError

SCRIPTS = [
    entry.partition(":")[0]
    for entry in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"].values()
]
NEEDED = {
    "scripts.evaluate_agent": ["run=x"],
    "scripts.export_agent": ["run=x", "output=x.safetensors"],
    "scripts.export_policy": ["run=x"],
    "scripts.paint_image": ["image=x"],
    "scripts.plot_curves": ["runs=x"],
    "scripts.screenshot_studio": ["image=x"],
    "scripts.screenshot_tensorboard": ["runs=x"],
    "scripts.painter.compare_svg": ["runs=x", "images=x"],
    "scripts.painter.export_painter": ["run=x", "output=x"],
    "scripts.painter.make_gallery": ["image=x"],
    "scripts.painter.compare_painters": ["data=x"],
    "scripts.tune_agent": ['search="a=1..2"'],
}
NO_NUMBERS = ("abc", "[1,2]", "{a: 1}")
NO_WHOLE_NUMBERS = ("1.5", "nan", "inf", "true")
SENSELESS = ("-1", "0", "-1e30", "1e30", "nan", "inf", "-inf", "99999999999999999999", "null", "''")
TASKS = {"sher": "FetchReach", "her": "FetchReach", "painter": "Painting", "painter_ddpg": "Painting"}
AGENTS = (
    "ace",
    "dqn",
    "painter",
    "painter_ddpg",
    "pombu",
    "ppo",
    "scribe",
    "scribe_ddpg",
    "sher",
    "td3",
    "trpo",
)  # one of each class
TASKS |= {"pombu": "FixedHorizonHalfCheetah", "scribe": "Characters", "scribe_ddpg": "Characters"}


def keys_of(module):
    return getattr(importlib.import_module(module).main, "keys", None)


def numeric_fields(config):
    hints = typing.get_type_hints(config)
    return [
        (field.name, hints[field.name]) for field in dataclasses.fields(config) if hints[field.name] in (int, float)
    ]


def refused(make, *arguments):
    """Whether it is refused with one line; anything else that is raised fails the test."""
    said = None
    try:
        make(*arguments)
    except UserError as error:
        said = str(error)
    assert said is None or ("\n" not in said and "Error" not in said.split(":")[0]), said
    return said is not None


@pytest.mark.parametrize("module", [name for name in SCRIPTS if isinstance(keys_of(name), type)])
def test_scripts(module):
    config, needed = keys_of(module), NEEDED.get(module, [])
    for name, kind in numeric_fields(config):
        wrong = NO_NUMBERS + (NO_WHOLE_NUMBERS if kind is int else ("nan",))
        assert [value for value in wrong if not refused(script_config, config, [*needed, f"{name}={value}"])] == [], (
            name
        )
        if name == "num_threads":
            assert refused(script_config, config, [*needed, "num_threads=1000000"]), module
        for value in SENSELESS:
            refused(script_config, config, [*needed, f"{name}={value}"])


def leaves(plain, path=()):
    for key, value in plain.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield (*path, key), value


def changed(plain, path, value):
    found = copy.deepcopy(plain)
    node = found
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return found


@pytest.mark.parametrize("agent", AGENTS)
def test_trainings(agent):
    config, _ = compose_train([f"agent={agent}", f"env={TASKS.get(agent, 'Hopper')}"])
    plain = to_plain(config)
    for path, value in leaves(plain):
        if path[:2] == ("env", "options"):  # the task's own, which it reads when it is built
            continue
        wrong = ["abc", [1, 2], {"a": 1}, float("nan"), *([1.5, float("inf")] if isinstance(value, int) else [])]
        assert [one for one in wrong if not refused(train_config, changed(plain, path, one))] == [], path
        for odd in (-1, 0, 1.5, -1e30, 1e30, float("inf"), 10**20, None, ""):
            refused(train_config, changed(plain, path, odd))


def test_the_lists_name_what_is_there():
    assert set(NEEDED) <= set(SCRIPTS)
    assert {agent_class(name) for name in agent_names() if ":" not in name} == {agent_class(name) for name in AGENTS}
