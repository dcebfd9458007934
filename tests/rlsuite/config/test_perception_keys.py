"""camera= and perception= on the command line and in files: names and numbers, no import paths."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from rlsuite import methods
from rlsuite.config.build import nested
from rlsuite.config.compose import compose_train, merge
from rlsuite.config.schema import differences, to_plain, train_config
from rlsuite.errors import UserError


@dataclass(frozen=True, kw_only=True)
class SmoothConfig:
    weights: str = ""
    rates: tuple[float, ...] = (0.5,)


class Smooth:
    Config = SmoothConfig


@dataclass(frozen=True, kw_only=True)
class SharpConfig:
    """Nothing to choose."""


class Sharp:
    Config = SharpConfig


CATALOGUE = {"filters/smooth": f"{__name__}:Smooth", "filters/sharp": f"{__name__}:Sharp"}


@pytest.fixture(autouse=True)
def _room(monkeypatch):
    choose = lambda names, numbers: methods.choose(CATALOGUE, names, numbers)  # noqa: E731
    monkeypatch.setitem(methods._ROOMS, "perception", methods.Room(CATALOGUE, choose))


def compose(*arguments):
    return compose_train(["agent=ppo", "env=Reacher", *arguments])[0]


def test_methods_their_order_and_numbers_come_through_yaml():
    config = compose(
        "camera.size=32", "camera.sees=[rgb,depth]", "perception=[filters/sharp,smooth]", "smooth.rates=[1]"
    )
    assert [method.name for method in config.perception] == ["filters/sharp", "filters/smooth"]
    assert config.perception[1].config.rates == (1.0,)
    assert (config.camera.size, config.camera.sees) == (32, ("rgb", "depth"))
    plain = yaml.safe_load(yaml.safe_dump(to_plain(config)))
    assert train_config(plain) == config
    assert __name__ not in yaml.safe_dump(plain)
    assert compose("camera.size=32", "perception=smooth").perception[0].name == "filters/smooth"
    old = {key: value for key, value in to_plain(compose()).items() if key not in ("camera", "perception")}
    assert train_config(old) == compose()  # a config.yaml of before
    assert not differences(to_plain(compose()), to_plain(train_config(old)))


def test_paths_of_weights_need_no_quotes():
    path = "/tmp/a file, with (signs)=1.safetensors"
    assert compose("camera.size=32", "perception=smooth", f"smooth.weights={path}").perception[0].config.weights == path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["perception=smooth"], r"perception=\['filters/smooth'\]: there are no pictures to perceive; add camera.size"),
        (["camera.every=2"], "camera: its keys are read with camera.size= alone"),
        (["camera.size=32", "smooth.rates=[1]"], "smooth is not chosen"),
        (["camera.size=32", "perception=[smooth]", "smooth.rate=1"], r"unknown key 'smooth\.rate'; did you mean"),
        (["camera.size=32", "perception=[smoth]"], "unknown method 'smoth'; did you mean 'smooth'"),
        (["camera.size=32", "perception=[smooth,smooth]"], "named twice"),
        (["camera.sizes=32"], r"unknown key 'camera\.sizes'; did you mean 'camera\.size'"),
    ],
)
def test_what_does_not_go_is_one_line(arguments, message):
    with pytest.raises(UserError, match=message):
        compose(*arguments)


def test_files_name_what_is_in_the_catalogue():
    plain = to_plain(compose("camera.size=32", "perception=smooth"))
    plain["perception"][0]["name"] = "os:system"
    with pytest.raises(UserError, match="unknown method 'os:system'"):
        train_config(plain)
    with pytest.raises(UserError, match="perception=smooth: use a list"):
        train_config(plain | {"perception": "smooth"})


def test_a_resumed_run_keeps_what_it_sees_and_may_find_its_weights_elsewhere():
    plain = to_plain(compose("camera.size=32", "perception=smooth"))
    moved = merge(plain, ["smooth.weights=there"])["perception"][0]["config"]["weights"]
    assert moved == str(Path("there").absolute())  # whatever folder it is resumed from next
    for argument in ("camera.size=64", "perception=[sharp]"):
        with pytest.raises(UserError, match="cannot change when a run is resumed"):
            merge(plain, [argument])
    with pytest.raises(UserError, match="unknown key 'smooth'"):
        train_config(merge(plain, ["smooth.rates=[1]"]))


def test_numbers_of_methods_and_dotted_keys():
    own, rest = methods.split_numbers({"smooth.a.b": 1, "smooth": 2, "other.c": 3}, CATALOGUE)
    assert (own, rest) == ({"smooth.a.b": 1}, {"smooth": 2, "other.c": 3})
    assert methods.flat_numbers({"a": {"b": 1, "c": {"d": 2}}, "e": {}}) == {"a.b": 1, "a.c.d": 2, "e": {}}
    assert nested({"a.b": 1, "a.c.d": 2, "e": 3}) == {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    with pytest.raises(UserError, match="a is a value"):
        nested({"a": 1, "a.b": 2})
    with pytest.raises(UserError, match="nothing of that kind"):
        methods.room("smell")
