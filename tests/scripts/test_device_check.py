"""device_check.py: limits, deaths and missing packages by small parts of its own; (slow) every real part on CPU."""

import functools
import json
import os
import signal
import time
from pathlib import Path

import pytest
import torch

from rlsuite.cli import run_script
from rlsuite.errors import UserError
from scripts import device_check
from scripts.device import graphs, humanoid
from scripts.device.graphs import EAGER, ROWS, TINY, compare, differences, random_batches, repeat
from scripts.device.rows import Rows, read_rows

ON_CPU = ["device=cpu", "scale=tiny"]


# Parts of the tests' own: module functions, since each runs in a process that imports this file.
def dies_once(arm, seed, folder, device, scale, seconds):
    rows = Rows(folder)
    rows.measure("first", lambda: {"device": device, "scale": scale, "seconds": seconds > 0, "bad": float("nan")})
    if "killed" not in rows.found:
        rows.add("killed", True)
        os.kill(os.getpid(), signal.SIGKILL)
    rows.measure("last", lambda: 2)


def dies_at_once(arm, seed, folder, device, scale, seconds):
    os._exit(3)


def hangs(arm, seed, folder, device, scale, seconds):
    Rows(folder).add("before", 1)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(60)


def checked(monkeypatch, tmp_path, parts, *arguments, seconds=30.0):
    """Run device_check.py with these parts; return its status and its file."""
    monkeypatch.setattr(device_check, "PARTS", {name: (function, 1.0) for name, function in parts.items()})
    monkeypatch.setattr(device_check, "TINY_SECONDS", seconds)
    names = f"parts=[{','.join(parts)}]"
    status = run_script(device_check.main, [names, *ON_CPU, f"folder={tmp_path}", *arguments])
    return status, json.loads((tmp_path / "device.json").read_text())["parts"]


def test_a_part_that_dies_goes_on_in_a_fresh_process(monkeypatch, tmp_path):
    status, found = checked(monkeypatch, tmp_path, {"dies_once": dies_once})
    assert status == 0
    first = {"device": "cpu", "scale": "tiny", "seconds": True, "bad": "nan"}
    assert found["dies_once"]["rows"] == {"first": first, "killed": True, "last": 2}
    assert found["dies_once"]["state"] == "complete"


@pytest.mark.slow
def test_a_part_that_brings_nothing_is_left_after_one_process(monkeypatch, tmp_path):
    status, found = checked(monkeypatch, tmp_path, {"dies_at_once": dies_at_once, "dies_once": dies_once})
    assert status == 1
    assert found["dies_at_once"]["state"].startswith("ended with status 3")
    assert found["dies_once"]["state"] == "complete"


@pytest.mark.slow
def test_a_part_is_cut_at_its_limit_and_keeps_its_rows(monkeypatch, tmp_path):
    status, found = checked(monkeypatch, tmp_path, {"hangs": hangs, "dies_once": dies_once}, seconds=20.0)
    assert status == 1
    assert found["hangs"]["state"] == "cut after 20 s"
    assert found["hangs"]["rows"] == {"before": 1}
    assert found["dies_once"]["state"] == "complete"


def test_a_missing_package_is_a_row_and_a_failure_is_raised_once(tmp_path):
    def absent():
        import no_such_package  # noqa: F401  # pyright: ignore[reportMissingImports]

    def refused():
        raise UserError("use another")

    rows = Rows(tmp_path)
    rows.measure("absent", absent)
    rows.measure("refused", refused)
    with pytest.raises(ZeroDivisionError):
        rows.measure("fails", lambda: 1 / 0)
    again = Rows(tmp_path)  # the next process
    again.measure("fails", lambda: 1)
    again.measure("there", lambda: 1)
    found = read_rows(tmp_path)
    assert "no_such_package" in found["absent"]["missing"]
    assert found["refused"] == {"refused": "UserError: use another"}
    assert found["fails"] == {"error": "ZeroDivisionError: division by zero"}
    assert found["there"] == 1


def test_what_does_not_fit_into_the_time_is_left_out_and_the_committed_file_left(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs/results").mkdir(parents=True)
    status, found = checked(monkeypatch, tmp_path, {"dies_once": dies_once}, "minutes=0.001")
    assert status == 1
    assert found["dies_once"] == {"state": "left out: the time was up"}
    assert list((tmp_path / "docs/results").iterdir()) == []


def test_the_full_parts_fit_into_eight_minutes():
    assert sum(seconds for _, seconds in device_check.PARTS.values()) <= 60 * 8
    assert next(iter(device_check.PARTS)) == "versions"


def test_differences_see_a_changed_weight_a_nan_and_a_missing_tensor():
    one = {"a": torch.zeros(3), "b": torch.ones(2), "empty": torch.zeros(0)}
    assert differences(one, {name: value.clone() for name, value in one.items()})["equal"]
    changed = one | {"b": torch.tensor([1.0, 1.25])}
    assert differences(one, changed) == {"largest_difference": 0.25, "in": "b", "equal": False}
    broken = one | {"a": torch.tensor([0.0, float("nan"), 0.0])}
    assert differences(one, broken) == {"largest_difference": float("inf"), "in": "a", "equal": False}
    assert differences(one, {"a": one["a"]}) == {"differ_in": ["b", "empty"]}


@pytest.mark.parametrize("name", [*ROWS][:2])
def test_a_graphed_update_is_the_eager_one(name, monkeypatch):
    monkeypatch.setattr(graphs, "COMPARED", 6)
    monkeypatch.setattr(graphs, "ROUNDS", 1)
    found = compare((*ROWS[name], *TINY, "device=cpu"), 0.01)
    assert found["weights"]["equal"]
    assert found["moments"]["equal"]
    assert found["weights_after_1"]["equal"]
    again = repeat((*ROWS[name], *TINY, "device=cpu"), 0.01)
    assert again["weights"]["equal"]
    assert again["updates_per_s"] > 0
    assert found["graphs"] == (1 if name == "sac, batch 256" or name.startswith("ace") else 2)


def test_minibatches_are_the_same_on_every_call_and_within_the_limits():
    first, second = (random_batches(4, torch.device("cpu")) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
        assert one.action.abs().max() <= 0.4
    assert not torch.equal(first[0].observation, first[1].observation)


class Deadline(float):
    """A moment that has come once it has been asked for a hundred times: a busy machine makes no other test of it."""

    asked = 0

    def __lt__(self, now):
        self.asked += 1
        return self.asked > 100


def test_training_stops_by_the_clock(tmp_path, monkeypatch):
    rows = Rows(tmp_path)
    monkeypatch.setattr(humanoid, "TINY", (*humanoid.TINY, "steps=100000", "evaluate.every=400"))
    humanoid.train(rows, tmp_path, "cpu", "tiny", Deadline(0.0))
    found = read_rows(tmp_path)
    assert found["speed"]["ended_by"] == "clock"
    assert 0 < found["speed"]["steps"] < 100_000
    assert found["final_return"]["episodes"] == 4


def test_a_training_whose_recording_failed_goes_on_eagerly(tmp_path, monkeypatch):
    def fails(agent, batch):
        raise RuntimeError("no capture")

    monkeypatch.setattr(humanoid, "TINY", (*humanoid.TINY, "steps=300"))
    with monkeypatch.context() as broken:
        broken.setattr("rlsuite.running.training.update_on", lambda device, agent: functools.partial(fails, agent))
        with pytest.raises(RuntimeError):
            humanoid.measure_humanoid("humanoid", 0, tmp_path, "cpu", "tiny", 60.0)
        assert "no capture" in read_rows(tmp_path)["training"]["error"]
        humanoid.measure_humanoid("humanoid", 0, tmp_path, "cpu", "tiny", 60.0)  # the next process
    found = read_rows(tmp_path)
    assert found["speed"]["steps"] == 300
    assert found["speed"]["updates"] > 0
    assert not found["speed"]["updates_in_cuda_graphs"]
    assert "seconds_after_training" in found[humanoid.EAGERLY]


WRONG = ["parts=[]", "parts=graphs", "parts=[graph,graph]", "device=tpu", "scale=big", "minutes=0", "output=x.txt"]


@pytest.mark.parametrize("argument", [*WRONG, "part=graph"])
def test_wrong_device_arguments_are_refused_in_one_line(argument, capsys):
    assert run_script(device_check.main, [argument]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("error: ")


@pytest.mark.slow
def test_all_parts_on_a_processor(tmp_path):
    began = time.monotonic()
    run_script(device_check.main, [*ON_CPU, f"folder={tmp_path}"])
    assert time.monotonic() - began < 120
    found = json.loads((tmp_path / "device.json").read_text())
    assert {name: part["state"] for name, part in found["parts"].items()} == dict.fromkeys(
        device_check.PARTS, "complete"
    )
    assert set(found["parts"]["graph"]["rows"]) == {*ROWS, *(f"{name}{EAGER}" for name in ROWS)}
    assert all(row["weights"]["equal"] for row in found["parts"]["graph"]["rows"].values())
    assert Path(tmp_path / "humanoid" / found["parts"]["humanoid"]["rows"]["weights"]["file"]).exists()
