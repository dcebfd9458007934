"""Configuration: every agent and preset goes to plain data and back; bad values are named in one line."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml

from rlsuite.config.build import build
from rlsuite.config.compose import compose_train, group_options
from rlsuite.config.schema import TrainConfig, changes, differences, to_plain, train_config
from rlsuite.errors import UserError, near_matches

PRESETS = {"none": group_options("agent"), "debug": group_options("agent"), "paper": ["ace", "ddpg"]}
PLAIN = {"agent": {"name": "ddpg"}, "env": {"id": "rlsuite/Hopper"}}


@pytest.mark.parametrize(("agent", "preset"), [(agent, preset) for preset in PRESETS for agent in PRESETS[preset]])
def test_config_survives_yaml(agent, preset):
    config, run = compose_train([f"agent={agent}", f"preset={preset}", "env=Hopper", "steps=1e5"])
    plain = yaml.safe_load(yaml.safe_dump(to_plain(config)))
    assert train_config(plain) == config
    assert (config.agent_name, config.steps) == (agent, 100_000)
    assert isinstance(config.steps, int)
    assert run == {"run_dir": None, "resume": None}


def test_the_config_is_frozen_to_its_leaves():
    config = train_config(PLAIN)
    for part, name in ((config, "steps"), (config.agent.critic, "block"), (config.replay, "capacity")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(part, name, 1)


def test_flat_environment_options_are_gathered_and_win():
    env = {"id": "rlsuite/Hopper", "options": {"frame_skip": 4, "ctrl_cost_weight": 1.0}, "frame_skip": 2}
    assert train_config(PLAIN | {"env": env}).env.options == {"frame_skip": 2, "ctrl_cost_weight": 1.0}


@pytest.mark.parametrize(
    ("env", "full_id", "name"),
    [
        ({"id": "rlsuite/Hopper"}, "rlsuite/Hopper", "Hopper"),
        ({"id": "Pendulum-v1", "adapter": "gymnasium"}, "gymnasium:Pendulum-v1", "Pendulum-v1"),
    ],
)
def test_environment_ids(env, full_id, name):
    config = train_config(PLAIN | {"env": env})
    assert (config.env.full_id, config.env.name) == (full_id, name)


OUT_OF_RANGE = [
    ("steps", 0),
    ("num_envs", 0),
    ("seed", -1),
    ("num_threads", -1),
    ("train_ratio", -0.5),
    ("train_ratio", float("nan")),
    ("updates_per_episode", -1),
    ("learning_starts", -1),
    ("warmup_episodes", -1),
    ("device", "gpu"),
    ("replay.device", "gpu"),
    ("replay.n_step", 0),
    ("replay.capacity", 15),
    ("checkpoint.every", 0),
    ("checkpoint.keep", 0),
    ("evaluate.every", -1),
    ("evaluate.episodes", 0),
    ("log.every", 0),
]


def with_value(key, value):
    plain = dict(PLAIN)
    group, dot, name = key.rpartition(".")
    return train_config(plain | ({group: {name: value}} if dot else {key: value}))


@pytest.mark.parametrize(("key", "value"), OUT_OF_RANGE)
def test_values_out_of_range_are_refused_by_name(key, value):
    with pytest.raises(UserError, match=rf"^{key}={value}: use "):
        with_value(key, value)


MORE_OUT_OF_RANGE = [
    ("checkpoint.keep_agents", -1),
    ("train_ratio", float("inf")),
    ("replay.priority_exponent", float("nan")),
    ("replay.importance_exponent", -1.0),
]


@pytest.mark.parametrize(("key", "value"), MORE_OUT_OF_RANGE)
def test_more_values_out_of_range_are_refused_by_name(key, value):
    with pytest.raises(UserError, match=rf"^{key}={value}: use "):
        with_value(key, value)


def test_changes_name_the_key_and_both_values():
    old = {"a": 1, "b": {"c": None, "d": [1, 2]}, "gone": 3}
    new = {"a": 1, "b": {"c": 0.5, "d": [3], "newer": 1}}
    assert changes(old, new) == ["b.c=0.5 (it was None)", "b.d=[3] (it was [1, 2])"]
    assert set(differences(old, new)) == {"b.c", "b.d", "b.newer"}


@pytest.mark.parametrize("key", ["priority_exponent", "importance_exponent"])
def test_exponents_of_uniform_sampling_are_refused(key):
    with pytest.raises(UserError, match=rf"^replay\.{key}=0\.7: .* use replay\.prioritized=true"):
        train_config(PLAIN | {"replay": {key: 0.7}})
    train_config(PLAIN | {"replay": {key: 0.7, "prioritized": True}})


OUT_OF_RANGE_OF_AGENT = [
    {"target_noise": -1.0},
    {"target_noise_clip": -1.0},
    {"critic_weight_decay": -1.0},
    {"actor_learning_rate": float("inf")},
    {"reward_scale": float("nan")},
    {"actor": {"activation": "reluu"}},
    {"actor": {"initialization": "glorot"}},
    {"actor": {"hidden_sizes": [0]}},
    {"critic": {"activation": "reluu"}},
    {"critic": {"block": "group_norm"}},
    {"critic": {"layout": "stacked"}},
    {"critic": {"loss": "huber"}},
    {"critic": {"loss": "categorical", "num_atoms": 1}},
    {"critic": {"loss": "categorical"}},
    {"critic": {"loss": "categorical", "value_min": 0.0}, "reward_scaling": "returns"},
    {"reward_scaling": "returns", "reward_scale": 2.0},
    {"reward_scaling": "returns", "discount": 1.0},
    {"critic": {"value_max": 6.0}},
    {"actor": {"log_std": "tanh"}},
    {"learning_rate_decay_start": 0.5},
    {"critic": {"loss": "categorical", "value_min": 1.0, "value_max": 0.0}},
    {"exploration": {"std": -1.0}},
    {"exploration": {"hold": 0}},
    {"exploration": {"episode_multipliers": []}},
]


@pytest.mark.parametrize("agent", OUT_OF_RANGE_OF_AGENT, ids=str)
def test_agent_values_out_of_range_are_refused(agent):
    with pytest.raises(UserError, match=r"^agent\."):
        train_config(PLAIN | {"agent": PLAIN["agent"] | agent})


@dataclass(frozen=True, kw_only=True)
class Inner:
    size: int = 1
    sizes: tuple[int, ...] = (1,)


@dataclass(frozen=True, kw_only=True)
class Outer:
    flag: bool = False
    ratio: float = 1.0
    name: str = ""
    limit: int | None = 3
    inner: Inner = field(default_factory=Inner)
    extra: dict[str, Any] = field(default_factory=dict)
    rates: tuple[float, ...] = ()
    words: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("plain", "expected"),
    [
        ({"ratio": 2}, Outer(ratio=2.0)),
        ({"limit": None}, Outer(limit=None)),
        ({"limit": 4.0}, Outer(limit=4)),
        ({"inner": {"size": 1e3, "sizes": [4, 5]}}, Outer(inner=Inner(size=1000, sizes=(4, 5)))),
        ({"inner": Inner(size=7)}, Outer(inner=Inner(size=7))),
        ({"extra": {"a": 1}}, Outer(extra={"a": 1})),
    ],
)
def test_plain_data_becomes_the_declared_types(plain, expected):
    built = build(Outer, plain)
    assert built == expected
    assert type(built.ratio) is float
    assert type(built.inner.size) is int


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ({"flag": 1}, "flag=1: use true or false"),
        ({"ratio": "fast"}, "ratio=fast: use a number"),
        ({"ratio": True}, "ratio=True: use a number"),
        ({"name": 3}, "name=3: use a word"),
        ({"limit": "x"}, "limit=x: use a whole number"),
        ({"inner": {"size": 1.5}}, "inner.size=1.5: use a whole number"),
        ({"inner": {"size": float("inf")}}, "inner.size=inf: use a whole number"),
        ({"inner": {"size": float("nan")}}, "inner.size=nan: use a whole number"),
        ({"inner": {"size": True}}, "inner.size=True: use a whole number"),
        ({"inner": {"sizes": 3}}, r"inner.sizes=3: use a list such as \[256,256\]"),
        ({"rates": "big"}, r"rates=big: use a list such as \[0.05,0.1\]"),
        ({"words": 3}, r"words=3: use a list such as \[a,b\]"),
        ({"inner": {"sizes": [1, "x"]}}, "inner.sizes=x: use a whole number"),
        ({"inner": 3}, "inner=3: this is a group of keys"),
        ({"inner": {"sise": 3}}, "unknown key 'inner.sise'; did you mean 'inner.size'"),
    ],
)
def test_wrong_types_and_unknown_keys_are_named(plain, message):
    with pytest.raises(UserError, match=f"^{message}"):
        build(Outer, plain)


@pytest.mark.parametrize("plain", [{"extra": 3}, {"extra": "abc"}])
def test_a_mapping_of_the_wrong_type_is_named(plain):
    with pytest.raises(UserError, match=r"^extra="):
        build(Outer, plain)


def test_every_key_of_a_run_has_its_meaning_in_the_help():
    from rlsuite.config.help import describe

    lines = describe(TrainConfig, skip=("agent", "agent_name", "env"))
    bare = [line for line in lines if "  " not in line.strip()]
    assert bare == []
    assert any(line.strip().startswith("replay.capacity=1000000  ") for line in lines)


def test_near_matches():
    assert near_matches("humanoit", ["Humanoid", "Ant"]) == "; did you mean 'Humanoid'?"
    assert near_matches("zzz", ["b", "a"]) == "; known: a, b"
    assert near_matches("zzz", []) == ""
