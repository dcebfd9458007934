"""The log: metrics.jsonl to the letter, resume, event files read back, and what a person sees."""

import io
import json
import math
import time

import numpy as np
import pytest
import torch
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rlsuite.errors import UserError
from rlsuite.records.monitor import Monitor, check_finite, to_floats
from rlsuite.records.progress import Progress


def lines(run_dir):
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def curve(run_dir, tag):
    events = EventAccumulator(str(run_dir), size_guidance={"scalars": 0})
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


def test_records_in_jsonl_and_tensorboard(tmp_path):
    with Monitor(tmp_path / "run", total_steps=100, console=False) as monitor:
        returned = monitor.record(10, "train", {"critic_loss": torch.tensor(0.5), "episodes": 3, "flag": True})
        monitor.record(20, "evaluate", {"return_mean": np.float64(7.25)}, {"returns": torch.tensor([1.0, math.nan])})
        monitor.image(20, "frame", np.zeros((4, 5, 3), np.uint8))
    assert returned == {"critic_loss": 0.5, "episodes": 3.0, "flag": 1.0}
    first, second = lines(tmp_path / "run")
    assert list(first) == ["step", "time_s", "kind", "critic_loss", "episodes", "flag"]
    assert (first["step"], first["kind"], first["critic_loss"], first["episodes"]) == (10, "train", 0.5, 3.0)
    assert 0 <= first["time_s"] <= second["time_s"] < 60
    assert (second["step"], second["kind"], second["return_mean"]) == (20, "evaluate", 7.25)
    assert curve(tmp_path / "run", "losses/critic_loss") == [(10, 0.5)]
    events = EventAccumulator(str(tmp_path / "run"))
    events.Reload()
    assert events.Histograms("agent/returns_evaluation")[0].histogram_value.num == 1
    assert (events.Images("frame")[0].width, events.Images("frame")[0].height) == (5, 4)


def test_not_finite_numbers(tmp_path):
    with Monitor(tmp_path, total_steps=1, console=False) as monitor:
        monitor.record(
            1,
            "train",
            {"a": math.nan, "b": torch.tensor(math.inf), "c": 1.0},
            {"h": torch.tensor([math.nan])},
        )
    text = (tmp_path / "metrics.jsonl").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    (line,) = lines(tmp_path)
    assert (line["a"], line["b"], line["c"], line["nonfinite"]) == (None, None, 1.0, ["a", "b"])


def test_reserved_names_and_wrong_shapes(tmp_path):
    with Monitor(tmp_path, total_steps=1, console=False) as monitor:
        with pytest.raises(ValueError, match="'kind' is set by the monitor"):
            monitor.record(1, "train", {"kind": 1.0})
        with pytest.raises(ValueError, match=r"'loss' has shape \(2,\)"):
            monitor.record(1, "train", {"loss": torch.ones(2)})
    assert (tmp_path / "metrics.jsonl").read_text() == ""


def test_resume_drops_what_came_after_the_checkpoint(tmp_path):
    with Monitor(tmp_path, total_steps=100, console=False) as monitor:
        for step in (10, 20, 30, 40):
            monitor.record(step, "train", {"x": float(step)})
    kept = (tmp_path / "metrics.jsonl").read_text().splitlines()[:2]
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 15, "time_s": 1.0, "ki')  # torn by a kill
    time.sleep(1.1)  # TensorBoard orders event files by the second of their creation
    with Monitor(tmp_path, total_steps=100, console=False, resume_step=20, elapsed_s=500.0) as monitor:
        assert 500 <= monitor.elapsed_s < 560
        monitor.record(25, "train", {"x": -1.0})
    assert (tmp_path / "metrics.jsonl").read_text().splitlines()[:2] == kept
    assert [line["step"] for line in lines(tmp_path)] == [10, 20, 25]
    assert lines(tmp_path)[-1]["time_s"] >= 500
    assert curve(tmp_path, "agent/x") == [(10, 10.0), (20, 20.0), (25, -1.0)]
    assert not list(tmp_path.glob("*.tmp"))
    left = (tmp_path / "metrics.jsonl.abandoned").read_text().splitlines()
    assert [json.loads(line)["step"] for line in left] == [30, 40]  # nothing is lost


@pytest.mark.parametrize("torn", ['{"step": 1', '{"step": 10, "time_s": 1.0}', "7\n", '{"kind": "train"}\n', "\n"])
def test_torn_lines(tmp_path, torn):
    good = '{"step": 5, "time_s": 1.0, "kind": "train"}\n'
    (tmp_path / "metrics.jsonl").write_text(good + torn)
    with Monitor(tmp_path, total_steps=100, console=False, resume_step=50) as monitor:
        monitor.record(60, "train", {})
    assert [line["step"] for line in lines(tmp_path)] == [5, 60]


def test_records_are_on_disk_at_once_and_events_after_flush(tmp_path):
    monitor = Monitor(tmp_path, total_steps=10, console=False)
    monitor.record(1, "train", {"x": 2.0})
    assert len(lines(tmp_path)) == 1
    monitor.flush()
    assert curve(tmp_path, "agent/x") == [(1, 2.0)]
    monitor.close()
    monitor.close()


def test_a_new_run_does_not_mix_with_an_earlier_log(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match=r"metrics\.jsonl is the log of an earlier run.*resume="):
        Monitor(tmp_path, total_steps=1)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write to run_dir .*choose another"):
        Monitor(tmp_path / "file" / "run", total_steps=1, console=False)


class FullDisk:
    """Stands in for an open file: its first writes pass, then the disk is full."""

    def __init__(self, file, writes=0):
        self.file, self.writes = file, writes

    def write(self, data):
        if self.writes <= 0:
            raise OSError(28, "No space left on device")
        self.writes -= 1
        return self.file.write(data)

    flush = close = lambda self: self.write("")

    def __getattr__(self, name):
        return getattr(self.file, name)


def test_full_disk_is_one_line(tmp_path):
    monitor = Monitor(tmp_path, total_steps=1, console=False)
    plain, monitor._file = monitor._file, FullDisk(monitor._file)
    with pytest.raises(UserError, match=r"cannot write the log in .*No space left on device"):
        monitor.record(1, "train", {"x": 1.0})
    with pytest.raises(KeyError), monitor:  # the first error is the one that is seen
        raise KeyError
    plain.close()


@pytest.mark.parametrize("writes", [0, 1, 3])
def test_a_full_disk_ends_tensorboard_and_not_the_run(tmp_path, capsys, writes):
    with Monitor(tmp_path, total_steps=1) as monitor:
        events = monitor._writers[0]
        events._records._writer = events._file = FullDisk(events._file, writes)
        for step in range(5):
            monitor.record(step, "train", {"x": 1.0}, {"h": torch.ones(3)})
            monitor.image(step, "frame", np.zeros((4, 5, 3), np.uint8))
            monitor.flush()
    assert len(lines(tmp_path)) == 5
    assert capsys.readouterr().out.count("TensorBoard is off: ") == 1


def test_its_file_removed_ends_tensorboard_and_not_the_run(tmp_path, capsys):
    with Monitor(tmp_path, total_steps=1) as monitor:
        monitor.record(1, "train", {"x": 1.0})
        for path in tmp_path.glob("events.*"):
            path.unlink()
        for step in (2, 3):
            monitor.record(step, "train", {"x": 1.0})
            monitor.flush()
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3]
    assert capsys.readouterr().out.count("TensorBoard is off: ") == 1
    with Monitor(tmp_path, total_steps=1, console=False, resume_step=3) as monitor:  # back with the next process
        monitor.record(4, "train", {"x": 5.0})
    assert curve(tmp_path, "agent/x") == [(4, 5.0)]


def test_a_folder_that_cannot_be_made_ends_tensorboard_and_not_the_run(tmp_path):
    (tmp_path / "tensorboard").write_text("a file")  # of an older run, which goes on there
    with Monitor(tmp_path, total_steps=1, console=False, resume_step=0) as monitor:
        monitor.record(1, "train", {"x": 1.0})
    assert len(lines(tmp_path)) == 1


def test_tensors_are_fetched_in_one_transfer(monkeypatch):
    calls = []
    tolist = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: calls.append(1) or tolist(self))
    monkeypatch.setattr(torch.Tensor, "item", None)
    scalars = {
        "a": torch.tensor(1.5),
        "b": 2,
        "c": torch.tensor([3]),
        "d": torch.tensor(2**40 + 1),
        "e": torch.tensor(0.1),
    }
    assert to_floats(scalars) == {
        "a": 1.5,
        "b": 2.0,
        "c": 3.0,
        "d": float(2**40 + 1),
        "e": float(np.float32(0.1)),
    }
    assert len(calls) == 1
    assert to_floats({}) == {}


def test_check_finite():
    bad = torch.ones(3, 4)
    bad[1, 2] = math.inf
    values = {
        "a": 1.0,
        "b": math.nan,
        "c": bad,
        "d": torch.ones(2, 2),
        "e": torch.tensor(-math.inf),
        "f": torch.tensor(3),
    }
    assert check_finite(values) == ["b", "c", "e"]
    assert check_finite({}) == []


# What a person sees ------------------------------------------------------------------------------------

TRAIN = {
    "episodes": 12,
    "return_mean": 1234.56,
    "steps_per_second": 14300.0,
    "steps_per_second_act": 9100.5,
    "steps_per_second_update": 160.25,
    "critic_loss": 0.0123456,
    "unlisted": 5.0,
}


def terminal():
    return Console(file=io.StringIO(), force_terminal=True, width=80, height=40, color_system=None, record=True)


def plain():
    return Console(file=io.StringIO(), force_terminal=False, width=40)


def test_plain_lines():
    console = plain()
    progress = Progress(1_000_000, start_step=10_000, start_elapsed_s=100.0, console=console, line_interval_s=0)
    progress.update(20_000, 110.0, "train", TRAIN)
    progress.update(20_000, 111.0, "evaluate", {"return_mean": 99.5, "return_low": math.nan})
    progress.note("saved checkpoint [20000]")
    progress.close()
    assert console.file.getvalue() == (  # type: ignore[attr-defined]
        "step 20,000/1,000,000 (2.0 %) | train | episodes 12 | return 1,234.6 | steps/s: step 14,300"
        " | steps/s: step + act 9,100.5 | steps/s: step + act + update 160.2 | critic_loss 0.01235"
        " | left 16m20s\n"
        "step 20,000/1,000,000 (2.0 %) | evaluate | return_mean 99.5 | return_low nan\n"
        "saved checkpoint [20000]\n"
    )


def test_plain_lines_are_rationed_and_the_last_is_shown():
    console = plain()
    progress = Progress(100, console=console, line_interval_s=60)
    for step in (10, 20, 30):
        progress.update(step, step, "train", {})
    progress.update(30, 31, "evaluate", {"mean": 1})
    progress.close()
    progress.close()
    shown = [line.split(" | ")[:2] for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    assert [(fields[0].split()[1], fields[1]) for fields in shown] == [
        ("10/100", "train"),
        ("30/100", "evaluate"),
        ("30/100", "train"),
    ]


def test_table():
    console = terminal()
    progress = Progress(1_000_000, console=console)
    progress.update(10_000, 1_850.0, "train", TRAIN | {"episodes": 6})
    progress.update(20_000, 3_700.0, "train", {name: TRAIN[name] for name in TRAIN if name != "return_mean"})
    progress.update(20_000, 3_700.0, "evaluate", {"return_mean": 99.5})
    progress.note("saved checkpoint 20000")
    progress.close()
    drawn = console.file.getvalue()  # type: ignore[attr-defined]
    assert "saved checkpoint 20000" in drawn
    console = terminal()
    console.print(progress.table())
    rows = dict(line.rsplit("  ", 1) for line in console.export_text().splitlines() if line.strip())
    rows = {key.strip(): value.strip() for key, value in rows.items()}
    assert rows == {
        "steps": "20,000/1,000,000 (2.0 %)",
        "episodes": "12",
        "return": "1,234.6",
        "steps/s: step": "14,300",
        "steps/s: step + act": "9,100.5",
        "steps/s: step + act + update": "160.2",
        "critic_loss": "0.01235",
        "evaluate: return_mean": "99.5",
        "time": "1h01m40s",
        "time left": "50h21m40s",
    }


def test_time_left_counts_this_process_only():
    progress = Progress(1_000, start_step=400, start_elapsed_s=5_000.0, console=plain())
    assert progress.time_left_s() is None
    progress.update(600, 5_010.0, "train", {})
    assert progress.time_left_s() == 20.0
    progress.update(1_200, 5_020.0, "train", {})
    assert progress.time_left_s() == 0.0


@pytest.mark.parametrize("console", [True, False])
def test_monitor_prints_lines_where_there_is_no_terminal(tmp_path, capsys, console):
    with Monitor(tmp_path, total_steps=100, console=console) as monitor:
        monitor.record(50, "train", {"return_mean": 3})
        monitor.note("half-way")
    printed = capsys.readouterr().out
    assert ("step 50/100 (50.0 %) | train | return 3 | left " in printed) == console
    assert ("half-way" in printed) == console
    assert console or printed == ""
