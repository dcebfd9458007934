"""A module as an experiment: its numbers, its help, and where its result goes."""

import dataclasses
import json
import types
from dataclasses import dataclass

import pytest

from rlsuite.errors import UserError
from rlsuite.experiment import FAILS, HOLDS, Claim, Result
from rlsuite.experiment.frame import Experiment, digest, reproduce
from rlsuite.records.run_lock import RunLock


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The toy's numbers.

    Attributes:
        seeds: how many.
        bar: of the mean figure, at least.
        sizes: of nothing.
    """

    seeds: int = 3
    bar: float = 0.5
    sizes: tuple[int, ...] = (8, 8)


def run(numbers, jobs):
    figures = tuple(0.4 + 0.1 * seed for seed in range(numbers.seeds))
    claim = Claim(statement="figures reach the bar", margin=numbers.bar, figures=figures)
    return Result(seeds=tuple(range(numbers.seeds)), claims=(claim,), full_scale="toy.py size=9")


def module(**changes):
    made = types.ModuleType("scripts.experiments.toy", "Toy (arXiv:0000.00000), small: figures grow.")
    made.__file__ = "toy.py"
    for name, value in {"Numbers": Numbers, "DEBUG": Numbers(seeds=1), "run": run, **changes}.items():
        setattr(made, name, value)
    return made


def toy():
    return Experiment.of(module())


def call(tmp_path, numbers, **changes):
    folders = {"jobs_folder": tmp_path / "jobs", "results": tmp_path / "docs"}
    return reproduce(toy(), numbers, parallel=0, **{**folders, **changes})


def test_numbers_are_the_committed_ones_with_overrides():
    assert toy().numbers({}) == Numbers()
    assert toy().numbers({"bar": 1, "sizes": [4]}) == Numbers(bar=1.0, sizes=(4,))
    assert toy().numbers({"bar": 1}, debug=True) == Numbers(seeds=1, bar=1.0)
    for overrides, word in (
        ({"baar": 1}, "paper=toy has no key 'baar'; did you mean 'bar'"),
        ({"seeds": "many"}, "seeds=many: use a whole number"),
        ({"seeds": 1.5}, "seeds=1.5: use a whole number"),
        ({"sizes": 3}, "sizes=3: use a list"),
    ):
        with pytest.raises(UserError, match=word):
            toy().numbers(overrides)


def test_help_shows_the_documentation_the_numbers_and_those_of_debug():
    text = toy().help()
    assert text.startswith("Toy (arXiv:0000.00000), small: figures grow.")
    assert "  bar=0.5  of the mean figure, at least." in text
    assert "  sizes=[8,8]  of nothing." in text
    assert text.endswith("of preset=debug:\n  seeds=1")


def test_a_module_with_a_part_missing_or_a_reserved_number_is_told():
    for part in ("Numbers", "DEBUG", "run", "__doc__"):
        with pytest.raises(UserError, match=f"toy.py has no {part}"):
            Experiment.of(module(**{part: None}))
    with pytest.raises(UserError, match="a number cannot be called bar"):
        Experiment.of(module(), ("paper", "bar"))


def test_the_committed_numbers_alone_write_the_docs(tmp_path, capsys):
    path = call(tmp_path, Numbers())
    assert path == tmp_path / "docs" / "toy.json"
    out = capsys.readouterr().out
    assert f"toy: {HOLDS}" in out
    assert "full scale: toy.py size=9" in out
    committed = path.read_text()
    assert json.loads(committed)["numbers"] == {"seeds": 3, "bar": 0.5, "sizes": [8, 8]}
    other = call(tmp_path, Numbers(bar=0.9))
    assert other.parent == tmp_path / "jobs"
    assert json.loads(other.read_text())["verdict"] == FAILS
    assert json.loads(other.read_text())["numbers"]["bar"] == 0.9
    assert call(tmp_path, Numbers(bar=0.8)) != other  # neither replaces the other
    assert call(tmp_path, Numbers(seeds=1)).name == "debug-result.json"
    assert path.read_text() == committed
    assert list((tmp_path / "docs").iterdir()) == [path]


def test_output_takes_any_numbers_but_not_into_the_docs(tmp_path):
    path = call(tmp_path, Numbers(bar=0.9), output=tmp_path / "mine")
    assert path == tmp_path / "mine" / "toy.json"
    for folder in (tmp_path / "docs", tmp_path / "mine" / ".." / "docs"):
        with pytest.raises(UserError, match="for the committed numbers alone"):
            call(tmp_path, Numbers(bar=0.9), output=folder)
    assert call(tmp_path, Numbers(), output=tmp_path / "docs") == tmp_path / "docs" / "toy.json"


def test_a_second_call_on_the_same_jobs_is_refused_before_it_runs(tmp_path):
    with RunLock(tmp_path / "jobs"), pytest.raises(UserError, match=r"in use by .*choose another runs="):
        call(tmp_path, Numbers())
    assert call(tmp_path, Numbers()).exists()


def test_where_the_result_cannot_go_nothing_is_run(tmp_path):
    (tmp_path / "file").write_text("")
    ran = []
    experiment = dataclasses.replace(toy(), run=lambda numbers, jobs: ran.append(1))
    for output in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(UserError, match="cannot be written"):
            reproduce(experiment, Numbers(), jobs_folder=tmp_path / "jobs", parallel=0, results=tmp_path, output=output)
    assert not ran


def test_sets_of_numbers_have_their_own_names():
    names = {digest(numbers) for numbers in (Numbers(), Numbers(bar=0.6), Numbers(sizes=(8,)), Numbers(seeds=2))}
    assert len(names) == 4
    assert digest(Numbers()) == digest(Numbers(sizes=(8, 8)))
