"""Jobs: run once wherever they run, kept whole, gone on with after a kill."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import experiment_functions as functions

from rlsuite.errors import UserError
from rlsuite.experiment.jobs import Jobs
from rlsuite.experiment.kinds import CommandJob, FunctionJob

ARMS, SEEDS = ("one", "two"), (3,)


def test_a_grid_is_the_same_in_this_process_and_in_others(tmp_path, capsys):
    found = {}
    for parallel in (0, 2):
        jobs = Jobs(tmp_path / str(parallel), parallel)
        found[parallel] = jobs.grid(
            functions.where, arms=ARMS, seeds=SEEDS, factor=2, sizes=functions.Sizes(widths=(5,))
        )
        assert "working on" not in capsys.readouterr().out  # that went to the log
        assert [len(list(jobs.folder.glob(f"where-*{end}"))) for end in (".json", ".log")] == [2, 2]
        log = next(jobs.folder.glob("where-one-s3-*.log"))
        assert log.read_text().startswith("working on one")
    pids = {parallel: {one.pop("pid") for arm in ARMS for one in found[parallel][arm]} for parallel in found}
    assert found[0] == found[2]
    assert found[2]["two"][0] == {
        "arm": "two",
        "seed": 6,
        "widths": [5],  # a tuple has been through JSON, the dataclass has not lost its type
        "kind": "Sizes",
        "threads": 1,
        "calls": 1,
    }
    assert pids[0] == {os.getpid()}
    assert os.getpid() not in pids[2]


def test_what_is_kept_is_not_run_again_and_other_inputs_are_other_jobs(tmp_path, capsys):
    def run(**inputs):
        return Jobs(tmp_path, 0).grid(functions.where, arms=("one",), seeds=(0,), **inputs)["one"][0]["calls"]

    assert run() == 1
    capsys.readouterr()
    assert run() == 1
    assert capsys.readouterr().out == ""
    assert run(factor=3) == 1  # its folder is another
    kept = [path for path in tmp_path.glob("*.json") if "factor" not in path.read_text()]
    assert len(kept) == 1
    kept[0].write_text(kept[0].read_text()[:-9])
    assert run() == 2
    assert "is damaged; the job is run again" in capsys.readouterr().out
    kept[0].unlink()
    assert run() == 3


def test_a_result_that_a_killed_caller_did_not_keep_is_kept(tmp_path):
    job = FunctionJob(function=functions.where, arm="one", seed=0)
    folder = Jobs(tmp_path).path(job)
    folder.mkdir()
    job.run_here(folder)
    kept = Jobs(tmp_path, 1).run([job])[job.name]
    assert (kept["calls"], kept["pid"]) == (1, os.getpid())
    assert not (folder / ".result.json").exists()


def test_the_first_failure_is_one_line_and_what_was_finished_stays(tmp_path):
    for parallel in (0, 1):
        jobs = Jobs(tmp_path / str(parallel), parallel)
        with pytest.raises(UserError, match=r"fail-bad-s0.*it is bad") as refused:
            jobs.grid(functions.fail, arms=("good", "bad", "never"), seeds=(0,))
        assert "\n" not in str(refused.value)
        assert [path.name[:9] for path in jobs.folder.glob("*.json")] == ["fail-good"]
    with pytest.raises(UserError, match="status 1: RuntimeError: it broke"):
        Jobs(tmp_path, 1).grid(functions.fail, arms=("worse",), seeds=(0,))
    with pytest.raises(UserError, match="a figure is not finite"):
        Jobs(tmp_path, 0).grid(functions.infinite, arms=("a",), seeds=(0,))


def test_a_command_is_a_job(tmp_path):
    code = "import sys; open(sys.argv[1] + '/made', 'w').close(); print('hello'); print('{\"psnr\": 31.5}')"
    for parallel in (0, 2):
        jobs = Jobs(tmp_path / str(parallel), parallel)
        job = CommandJob(name="measure", words=(sys.executable, "-c", code, "{folder}"))
        silent = CommandJob(name="silent", words=(sys.executable, "-c", "print('done')"))
        assert jobs.run([job, silent]) == {"measure": {"psnr": 31.5}, "silent": None}
        assert (jobs.path(job) / "made").exists()
        with pytest.raises(UserError, match="broken ended with status 4: no luck"):
            jobs.run([CommandJob(name="broken", words=(sys.executable, "-c", "print('no luck'); exit(4)"))])
        with pytest.raises(UserError, match="cannot start no-such-program"):
            jobs.run([CommandJob(name="absent", words=("no-such-program",))])


def test_mistakes_of_an_experiments_author_are_told(tmp_path):
    jobs = Jobs(tmp_path, 0)
    with pytest.raises(TypeError, match="module's own function"):
        jobs.grid(lambda arm, seed, folder: 1, arms=("a",), seeds=(0,))
    with pytest.raises(ValueError, match="two jobs are called where-one-s0"):
        jobs.run(FunctionJob(function=functions.where, arm="one", seed=0, inputs={"factor": k}) for k in (1, 2))
    with pytest.raises(ValueError, match="folder's name"):
        jobs.grid(functions.where, arms=("a/b",), seeds=(0,))
    with pytest.raises(UserError, match="parallel=-1"):
        Jobs(tmp_path, -1)


def test_threads_of_the_caller_come_back(tmp_path):
    import torch

    torch.set_num_threads(2)
    Jobs(tmp_path, 0).grid(functions.where, arms=("one",), seeds=(0,))
    assert torch.get_num_threads() == 2


PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import experiment_functions as functions
from rlsuite.experiment.jobs import Jobs
print(Jobs(Path(sys.argv[2]), 1).grid(functions.step_by_step, arms=("a",), seeds=(0,), steps=int(sys.argv[3])))
"""


def begin(folder, word):
    words = [sys.executable, "-c", PROGRAM, str(Path(__file__).parent), str(folder), word]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


def wait_for(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_kill_ends_the_jobs_too_and_the_next_call_goes_on(tmp_path):
    first = begin(tmp_path, "40")
    try:
        wait_for(lambda: any(len(path.read_text()) >= 3 for path in tmp_path.glob("*/steps")))
    finally:
        first.kill()  # SIGKILL
        first.communicate()
    pids = {int(pid) for path in tmp_path.glob("*/pids") for pid in path.read_text().split()}
    wait_for(lambda: not any(alive(pid) for pid in pids))
    before = {path: len(path.read_text()) for path in tmp_path.glob("*/steps")}
    assert not list(tmp_path.glob("*.json"))
    assert any(0 < count < 40 for count in before.values())
    output, _ = begin(tmp_path, "40").communicate(timeout=120)
    assert output.splitlines()[-1] == "{'a': (40,)}"
    (path,) = tmp_path.glob("*/pids")
    assert len(path.read_text().split()) <= 41  # each step was made once: the half-done job went on
    assert len(list(tmp_path.glob("*.json"))) == 1


def test_records_hold_what_a_reader_needs(tmp_path):
    Jobs(tmp_path, 0).grid(functions.where, arms=("one",), seeds=(4,), factor=2)
    (path,) = tmp_path.glob("*.json")
    record = json.loads(path.read_text())
    assert record["job"] == "where-one-s4"
    assert record["about"] == {
        "function": "experiment_functions:where",
        "arm": "one",
        "seed": 4,
        "inputs": {"factor": 2},
    }
    assert record["minutes"] >= 0
    assert {"commit", "versions", "date"} <= set(record)
