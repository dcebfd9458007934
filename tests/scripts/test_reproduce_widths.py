"""The experiments on several and on learned widths: their claims by hand, and tiny ones end to end."""

import pytest

from rlsuite.experiment import FAILS, HOLDS
from rlsuite.experiment.jobs import Jobs
from scripts.experiments import adabits, fracbits


def adabits_verdicts(**changes):
    accuracy = {f"alone-{bits}": (98.0, 97.0) for bits in adabits.WIDTHS}
    accuracy |= {f"{arm}-{bits}": (97.0, 96.5) for arm in adabits.JOINT for bits in adabits.WIDTHS}
    accuracy |= {"direct-2": (35.0, 50.0)}
    changed = {name.replace("scl", "s-cl").replace("_", "-"): values for name, values in changes.items()}
    return [claim.verdict for claim in adabits.claims(accuracy | changed, adabits.Numbers())]


def test_claims_of_adabits_by_hand():
    assert adabits_verdicts() == [HOLDS] * 4
    assert adabits_verdicts(vanilla_3=(98.0, 94.9)) == [HOLDS, FAILS, HOLDS, HOLDS]  # the worst width and seed
    assert adabits_verdicts(direct_2=(35.0, 77.0)) == [HOLDS, HOLDS, HOLDS, FAILS]
    assert adabits_verdicts(scl_2=(95.9, 97.0)) == [HOLDS, HOLDS, FAILS, HOLDS]


def fracbits_verdicts(**changes):
    accuracy = {f"{budget}-bit-{arm}": (97.0, 97.0) for budget in (3, 2) for arm in ("uniform", "random", "kernel")}
    accuracy["2-bit-uniform"] = (96.4, 96.5)
    error = {"3-bit-kernel": (0.002, 0.004), "2-bit-kernel": (0.0, 0.009)}
    changed = {name.removeprefix("x").replace("_", "-"): values for name, values in changes.items()}
    off = {name: values for name, values in changed.items() if max(values) < 1.0}
    return [claim.verdict for claim in fracbits.claims(accuracy | changed, error | off, fracbits.Numbers())]


def test_claims_of_fracbits_by_hand():
    assert fracbits_verdicts() == [HOLDS] * 3
    assert fracbits_verdicts(x3_bit_kernel=(96.0, 97.9)) == [HOLDS, FAILS, HOLDS]  # the mean decides
    assert fracbits_verdicts(x2_bit_uniform=(96.9, 96.9)) == [HOLDS, HOLDS, FAILS]
    accuracy = {f"{budget}-bit-{arm}": (97.0,) for budget in (3, 2) for arm in ("uniform", "random", "kernel")}
    error = {"3-bit-kernel": (0.012,), "2-bit-kernel": (0.0,)}
    assert fracbits.claims(accuracy, error, fracbits.Numbers())[0].verdict == FAILS


def test_the_budget_of_2_bits_is_what_uniform_widths_take():
    subject = adabits.digit_subject(0)
    found = fracbits.measured(
        subject, {**fracbits.budgets(subject, 20.0)["2-bit"], "allocation": "uniform"}, adabits.teaching(1), 0
    )
    assert found["error"] == 0.0
    assert {path: list(row["weight_bits"]) for path, row in found["table"].items()} == {
        "body.1.0": ["8"],
        "body.3.0": ["2"],
        "body.5.0": ["2"],
        "body.7.0": ["2"],
        "head": ["8"],
    }


@pytest.mark.parametrize("experiment", [adabits, fracbits])
def test_debug_experiments_end_to_end(experiment, tmp_path):
    result = experiment.run(experiment.DEBUG, Jobs(tmp_path, parallel=0))
    assert result.seeds == (0,)
    figures = result.figures
    assert "float" in figures["accuracy"]
    if experiment is adabits:
        costs = {bits: figures["costs"][bits] for bits in ("8", "4", "2")}
        assert costs["2"]["bytes"] < costs["4"]["bytes"] < costs["8"]["bytes"] <= figures["costs"]["all"]["bytes"]
        spent = {name: one["bit_operations"] for name, one in figures["battery"][0].items()}
        assert spent["2"] < spent["lowered"] <= spent["8"] + costs["8"]["bit_operations"]
    else:
        assert set(figures["ablations"]) == set(fracbits.ABLATIONS)
        assert figures["error"]["2-bit-uniform"] == (0.0,)
        assert figures["actor"][0]["bytes"] < 50_000
        painters = figures["painter"][0]
        assert list(painters) == ["float", "head of 8 bits", "free head"]
        assert list(painters["head of 8 bits"]["table"]["head"]["weight_bits"]) == ["8"]
        assert all(painters[row]["error"] < 0.01 for row in ("head of 8 bits", "free head"))
