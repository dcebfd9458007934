import sys
from dataclasses import dataclass, field

import pytest

from rlsuite import methods
from rlsuite.errors import UserError, require


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Numbers:
    bits: int = 8
    widths: tuple[int, ...] = (1, 2)
    inner: Inner = Inner()

    def __post_init__(self):
        require(self.bits >= 1, f"bits={self.bits}: use 1 or more")


class Rounded:
    Config = Numbers

    def __init__(self, value, config, *, seed=0):
        self.value, self.config, self.seed = value, config, seed


@dataclass(frozen=True, kw_only=True)
class Outer:
    inner: Inner = Inner()
    steps: int = 10


@dataclass(frozen=True, kw_only=True)
class OwnNumbers:
    outer: Outer = field(default_factory=lambda: Outer(inner=Inner(rate=0.25), steps=20))


class Own:
    Config = OwnNumbers


HERE = f"{__name__}:Rounded"
CATALOGUE = {"rounding/near": HERE, "rounding/far": HERE, "other/absent": "no_such_module:Absent"}


def test_a_method_is_chosen_by_either_name_with_its_numbers():
    near, far = methods.choose(CATALOGUE, ("near", "rounding/far"), {"near.bits": 4, "far.inner.rate": 1})
    assert (near.name, near.short_name, near.config) == ("rounding/near", "near", Numbers(bits=4))
    assert far.config == Numbers(inner=Inner(rate=1.0))
    built = near.build(3, seed=7)
    assert (built.value, built.config.bits, built.seed) == (3, 4, 7)
    assert methods.choose(CATALOGUE, ()) == ()


def test_a_group_given_in_part_keeps_the_methods_own_numbers():
    catalogue = {"own": f"{__name__}:Own"}

    def outer(overrides):
        return methods.choose(catalogue, ("own",), overrides)[0].config.outer

    assert outer({"own.outer.steps": 3}) == Outer(inner=Inner(rate=0.25), steps=3)
    assert outer({"own.outer.inner.rate": 0.75}) == Outer(inner=Inner(rate=0.75), steps=20)
    assert outer({"own.outer": Outer()}) == Outer()
    with pytest.raises(UserError, match=r"unknown key 'own\.outer\.step'"):
        outer({"own.outer.step": 3})


def test_modules_of_methods_not_named_are_not_imported():
    methods.choose(CATALOGUE, ("near",))
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        methods.choose(CATALOGUE, ("absent",))
    assert "no_such_module" not in sys.modules


@pytest.mark.parametrize(
    ("names", "overrides", "words"),
    [
        (("neer",), {}, "unknown method 'neer'; did you mean 'near'?"),
        (("rounding/neer",), {}, "did you mean 'rounding/near'"),
        (("near", "rounding/near"), {}, "'rounding/near' is named twice"),
        (("near",), {"near.bit": 4}, "unknown key 'near.bit'; did you mean 'near.bits'"),
        (("near",), {"near.bits": "many"}, "near.bits=many: use a whole number"),
        (("near",), {"near.bits": 0}, "bits=0: use 1 or more"),
        (("near",), {"far.bits": 4}, "far is not chosen (near is)"),
        ((), {"far.bits": 4}, "far is not chosen (none is)"),
        (("near",), {"near.bits": 4, "near.bits.deep": 4}, "bits is a value, not a group"),
        (("near",), {"near": 4}, "near.<key>=<value>"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(names, overrides, words):
    with pytest.raises(UserError) as refused:
        methods.choose(CATALOGUE, names, overrides)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_plain_data_holds_names_and_numbers_and_no_paths():
    chosen = methods.choose(CATALOGUE, ("far", "near"), {"near.widths": [3]})
    plain = methods.to_plain(chosen)
    assert plain[1] == {"name": "rounding/near", "config": {"bits": 8, "widths": [3], "inner": {"rate": 0.5}}}
    assert __name__ not in str(plain)
    assert methods.from_plain(CATALOGUE, plain) == chosen


@pytest.mark.parametrize(
    ("plain", "words"),
    [
        ({"name": "near", "config": {}}, "unknown method 'near'"),  # files hold whole names
        ({"name": "os:system", "config": {}}, "unknown method 'os:system'"),
        ({"name": "rounding/near", "config": {"bit": 1}}, "unknown key 'near.bit'"),
        ({"name": "rounding/near", "config": 3}, "group of keys"),
        ({"name": "rounding/near", "target": "os:system"}, "its name and its config"),
        ("rounding/near", "its name and its config"),
    ],
)
def test_foreign_plain_data_is_refused(plain, words):
    with pytest.raises(UserError) as refused:
        methods.from_plain(CATALOGUE, [plain])
    assert words in str(refused.value)


def test_short_names_are_unique_over_all_catalogues():
    assert methods.short_names(CATALOGUE, {"third/new": HERE})["new"] == "third/new"
    with pytest.raises(ValueError, match="'rounding/near' and 'third/near'"):
        methods.short_names(CATALOGUE, {"third/near": HERE})
