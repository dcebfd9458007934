"""Every strategy and every search killed by signal 9, in a trial, a generation, a rebuild: it ends in the same bytes.

Searches run in processes of their own, forked from one that has imported everything and computed nothing.
"""

import dataclasses
import json
import multiprocessing
import signal

import killed_search
import pytest
from killed_search import CONFIGS, STRATEGIES

from envs.evaluation.catalogue import EVALUATIONS
from envs.evaluation.transform import apply
from rlsuite.errors import UserError
from rlsuite.methods import Method

QUICK = ("search/atomnas", "search/cars", "search/autonl")  # one network that shrinks, shared weights, relaxed ones
NUMBERS = {
    "search/cars": {"seed": 1},
    "search/bnas": {"kilobytes": 50.0},
    "search/abandit_nas": {"eps": 0.5},
    "search/cp_nas": {"kilobytes": 50.0},
    "search/ncp": {"macs": 1e9},
    "search/assessor": {"macs": 1e9},
    "search/autospace": {"macs": 1e9},
    "search/autonl": {"macs": 1e9},
    "search/atomnas": {"macs": 1e9},
    "search/nas_count": {"price": 1.0},
}


@pytest.fixture(scope="module")
def processes():
    context = multiprocessing.get_context("forkserver")
    modules = {kind.partition(":")[0] for name, kind in EVALUATIONS.items() if name.startswith("search/")}
    context.set_forkserver_preload(["torch", *sorted(modules), "envs.perception.counting.task"])
    return context


def run(processes, name, folder, event="", number=0):
    """Return what a run has found and its exit code."""
    output = folder.with_suffix(".json")
    process = processes.Process(target=killed_search.run, args=(name, str(folder), event, number, str(output)))
    process.start()
    process.join()
    return (json.loads(output.read_text()) if process.exitcode == 0 else None), process.exitcode


def kept(folder):
    """Return what must be the same to the byte: histories, and what an alpha was."""
    names = ("history.jsonl", "alphas.json", "search.json")
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.name in names}


def check(processes, name, tmp_path, moments):
    """Kill a search at the moments, one after the other, let it end, and compare it with one that was left alone.

    A moment's share is of how often its event passes in a whole run, 0 for the first time after the last kill.
    """
    whole, code = run(processes, name, tmp_path / "whole")
    assert code == 0
    killed = tmp_path / "killed"
    for event, share in moments:
        number = max(1, round(share * whole["counts"][event]))
        assert run(processes, name, killed, event, number)[1] == -signal.SIGKILL, (event, number)
    again, code = run(processes, name, killed)
    assert code == 0
    assert again["found"] == whole["found"]
    assert kept(killed) == kept(tmp_path / "whole")
    return whole


@pytest.mark.parametrize("name", STRATEGIES)
def test_resume_of_strategies_after_a_kill(processes, name, tmp_path):
    check(processes, name, tmp_path, [("score", 0.3), ("write", 0.4)])
    history = (tmp_path / "whole" / "history.jsonl").read_bytes()
    assert history.count(b"\n") >= 3


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CONFIGS]
)
def test_resume_of_searches_after_a_kill_in_a_trial_and_in_the_rebuild(processes, name, tmp_path):
    whole = check(processes, name, tmp_path, [("step", 0.4), ("rebuild", 0.0)])
    assert whole["counts"]["step"] > 10


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("moment", [("step", 0.15), ("step", 0.65), ("step", 0.97), ("write", 0.3), ("write", 0.6)])
def test_resume_of_searches_after_a_kill_anywhere(processes, name, moment, tmp_path):
    check(processes, name, tmp_path, [moment])


@pytest.mark.parametrize("name", CONFIGS)
def test_resume_of_another_budget_or_space_is_refused(name, tmp_path):
    subject, config = killed_search.subject_of(name), CONFIGS[name]
    ends = {"channels": 1, "size": [8, 8], "outputs": 2}
    searching = Method(name, config, EVALUATIONS[name]).build()
    searching.folder = tmp_path
    searching.claim(ends)
    searching.claim(ends)  # its own
    for change in (NUMBERS[name], {"seed": 7}):
        with pytest.raises(UserError, match=f"of another search.*{next(iter(change))}"):
            apply(Method(name, dataclasses.replace(config, **change), EVALUATIONS[name]), subject, 1, tmp_path)
    with pytest.raises(UserError, match=r"of another search.*\(ends differ\)"):
        searching.claim({**ends, "outputs": 3})
    name = "search/cars" if name != "search/cars" else "search/ncp"
    other = Method(name, CONFIGS[name], EVALUATIONS[name]).build()
    other.folder = tmp_path
    with pytest.raises(UserError, match="another search"):
        other.claim(ends)
    (tmp_path / "search.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        searching.claim(ends)
