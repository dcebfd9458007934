"""run_benchmark.py: what it runs, a page from runs of seconds, pieces, and the page's figures against numpy."""

import json
import shutil
import time

import numpy as np
import pytest

from rlsuite.cli import run_script
from rlsuite.errors import UserError
from rlsuite.experiment.jobs import Jobs
from rlsuite.running.signals import GracefulStop
from rlsuite.statistics.runs import Run, read_data
from scripts import run_benchmark
from scripts.run_benchmark import RunBenchmarkConfig, final_return, training_runs

SMALL = ["tasks=Hopper", "steps=300", "preset=debug", "parallel=0"]


def run_of(seed, *returns):
    steps = np.arange(1, len(returns) + 1)
    return Run(
        name=f"r{seed}",
        label="sac",
        task="Hopper",
        seed=seed,
        steps=steps,
        returns=np.array(returns),
        seconds=60.0 * steps,
        with_evaluation=False,
        spread={},
    )


def test_the_committed_benchmark_is_ninety_runs_seed_by_seed():
    runs = training_runs(RunBenchmarkConfig())
    assert len(runs) == 5 * 6 * 3
    assert [name.rpartition("-")[2] for name in runs] == ["s0"] * 30 + ["s1"] * 30 + ["s2"] * 30
    words = runs["Humanoid-flash-sac-s2"]
    assert {"agent=flash_sac", "env=Humanoid", "steps=100000", "seed=2", "num_threads=1", "device=cpu"} <= set(words)
    assert RunBenchmarkConfig().committed
    assert RunBenchmarkConfig(parallel=1, minutes=3.0, document=True).committed
    assert not RunBenchmarkConfig(steps=10).committed


def test_a_cell_is_the_mean_of_last_evaluations_with_student_t():
    runs = [run_of(0, 5.0, 100.0), run_of(1, 5.0, 200.0), run_of(2, 5.0, 330.0)]
    values = np.array([100.0, 200.0, 330.0])
    half = 4.302652730 * values.std(ddof=1) / np.sqrt(3)  # Student's t, 2 degrees of freedom
    assert final_return(runs, 3) == f"{values.mean():.1f} ({values.mean() - half:.1f} to {values.mean() + half:.1f})"
    assert final_return(runs[:1], 3) == "100.0 [1]"
    assert final_return(runs[:1], 1) == "100.0"
    assert run_benchmark.minutes(runs, 3) == "2.0"


def test_a_page_grows_piece_by_piece(tmp_path, capsys):
    folder = f"folder={tmp_path}"
    assert run_script(run_benchmark.main, ["agents=sac", "seeds=2", *SMALL, folder, "document=true"]) == 0
    page = tmp_path / "benchmark.md"
    assert "Partial: 0 of 2 runs" in page.read_text()
    assert "| Hopper | - |" in page.read_text()
    assert run_script(run_benchmark.main, ["agents=sac", "seeds=1", *SMALL, folder]) == 0
    assert "Partial" not in page.read_text()
    assert "[1]" not in page.read_text()
    # The finished run belongs to the larger benchmark, too, and is not trained again.
    assert run_script(run_benchmark.main, ["agents=sac", "seeds=2", *SMALL, folder, "document=true"]) == 0
    text = page.read_text()
    assert "Partial: 1 of 2 runs" in text
    (run,) = read_data(tmp_path / "benchmark.json")
    assert (run.task, run.label, run.seed, int(run.steps[-1])) == ("Hopper", "sac", 0, 300)
    assert f"| Hopper | {final_return([run], 2)} |" in text
    assert "[1]" in text
    assert "versions: " in text
    assert "torch" in text
    capsys.readouterr()


def test_what_the_data_holds_is_finished_even_if_its_folder_is_gone(tmp_path, monkeypatch, capsys):
    words = ["agents=sac", "seeds=1", *SMALL, f"folder={tmp_path}"]
    assert run_script(run_benchmark.main, words) == 0
    page, data = tmp_path / "benchmark.md", tmp_path / "benchmark.json"
    first = page.read_text(), data.read_text()
    for path in tmp_path.glob("Hopper-*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    trained = []
    monkeypatch.setattr(run_benchmark, "train_all", lambda named, jobs: trained.append(list(named)))
    assert run_script(run_benchmark.main, words) == 0
    assert (page.read_text(), data.read_text()) == first
    (line,) = json.loads(data.read_text())
    data.write_text(json.dumps([{**line, "config": "of older defaults"}]))
    assert run_script(run_benchmark.main, words) == 0
    assert trained == [[], ["Hopper-sac-s0"]]
    assert "to be trained again, as their configuration has changed since: Hopper-sac-s0" in capsys.readouterr().out
    data.write_text("[{}]")  # damaged: refused, and left as it is
    assert run_script(run_benchmark.main, words) == 2
    assert data.read_text() == "[{}]"


def test_a_planned_stop_is_no_error_and_another_is(tmp_path, monkeypatch, capsys):
    def waits_for_the_signal(named, jobs):
        with GracefulStop() as stop:
            ends = time.monotonic() + 10
            while not stop.requested and time.monotonic() < ends:
                time.sleep(0.01)
        raise UserError("stopped")

    monkeypatch.setattr(run_benchmark, "train_all", waits_for_the_signal)
    run_benchmark.train_for(0.002, {}, Jobs(tmp_path))
    assert "after minutes=0.002: stopped" in capsys.readouterr().out

    def fails(named, jobs):
        raise UserError("a run failed")

    monkeypatch.setattr(run_benchmark, "train_all", fails)
    with pytest.raises(UserError, match="a run failed"):
        run_benchmark.train_for(5.0, {}, Jobs(tmp_path))


WRONG = ["agents=[]", "tasks=[Hopper,Hopper]", "seeds=0", "steps=0", "parallel=-1", "minutes=-1", "step=3"]


@pytest.mark.parametrize("argument", [*WRONG, "agents=acer", "tasks=Hoper", "preset=nothing"])
def test_wrong_benchmark_arguments_are_refused_in_one_line(argument, tmp_path, capsys):
    assert run_script(run_benchmark.main, [argument, f"folder={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("error: ")
