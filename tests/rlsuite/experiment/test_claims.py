"""Claims by hand, and the file that holds a result."""

import json
import math

import pytest

from rlsuite.errors import UserError
from rlsuite.experiment import FAILS, HOLDS, Claim, Result, write_result
from rlsuite.experiment.results import read_result


def write(path, **changes):
    claim = Claim(statement="a", margin=0.5, figures=(0.4, 0.6))
    result = Result(**{"seeds": (0, 1), "claims": (claim,), "figures": {"curve": [1.0]}, **changes})
    write_result(path, result, 1.5, paper="x", numbers={"bar": 0.5}, jobs={"a-s0": {"minutes": 2.5, "commit": "c"}})


def test_claims_compare_the_mean_with_the_bar_and_never_pass_a_nan():
    assert Claim(statement="", margin=2.0, figures=(1.0, 3.0)).verdict == HOLDS
    assert Claim(statement="", margin=2.1, figures=(1.0, 3.0)).verdict == FAILS
    assert Claim(statement="", margin=2.0, figures=(1.0, 3.0), at_least=False).verdict == HOLDS
    assert Claim(statement="", margin=1.9, figures=(1.0, 3.0), at_least=False).verdict == FAILS
    assert Claim(statement="", margin=0.0, figures=(math.nan,)).verdict == FAILS
    with pytest.raises(ValueError, match="no figure"):
        Claim(statement="nothing was run", margin=0.0, figures=())


def test_a_paper_holds_if_every_claim_does():
    good, bad = (Claim(statement="c", margin=margin, figures=(1.0,)) for margin in (1.0, 2.0))
    assert Result(seeds=(0,), claims=(good, good)).verdict == HOLDS
    assert Result(seeds=(0,), claims=(good, bad)).verdict == FAILS
    assert Result(seeds=(0,), claims=()).verdict == FAILS
    assert Result(seeds=(0,), claims=(bad,)).table() == ["does not hold here: c: 1 >= 2 (by seed: 1)"]


def test_a_result_file_says_what_was_run_with_what(tmp_path):
    path = tmp_path / "deep" / "x.json"
    write(path)
    found = json.loads(path.read_text())
    assert (found["verdict"], found["numbers"], found["minutes"]) == (HOLDS, {"bar": 0.5}, 1.5)
    assert found["claims"][0] == {
        "statement": "a",
        "margin": 0.5,
        "at_least": True,
        "figures": [0.4, 0.6],
        "mean": 0.5,
        "verdict": HOLDS,
    }
    assert {"versions", "commit", "date", "machine"} <= set(found)
    read = read_result(path)
    assert read is not None
    assert read["job_minutes"] == 2.5


def test_a_figure_that_is_not_finite_writes_nothing(tmp_path):
    for changes in (
        {"figures": {"mse": math.inf}},
        {"claims": (Claim(statement="", margin=0.0, figures=(math.nan,)),)},
    ):
        with pytest.raises(UserError, match="paper=x: a figure is not finite"):
            write(tmp_path / "x.json", **changes)
    assert not list(tmp_path.iterdir())


def test_older_files_are_read_and_damaged_ones_named(tmp_path):
    path = tmp_path / "x.json"
    assert read_result(path) is None
    older = {"verdict": HOLDS, "claims": [], "date": "2026-01-01", "commit": "c", "minutes": 3}
    path.write_text(json.dumps(older | {"training_minutes": {"a": 1.5, "b": 2.0}}))
    assert read_result(path)["job_minutes"] == 3.5  # type: ignore[index]
    path.write_text(json.dumps(older))
    assert read_result(path)["job_minutes"] == 0.0  # type: ignore[index]
    whole = path.read_text()
    for damaged in (whole[:-5], "[]", json.dumps({**older, "claims": None}), json.dumps({**older, "minutes": "x"})):
        path.write_text(damaged)
        with pytest.raises(UserError, match=r"x\.json is damaged"):
            read_result(path)
