"""The ACE experiment: its arithmetic by hand, and a tiny one end to end, continued and killed."""

import dataclasses
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from paths import ROOT

import envs
from agents.assembly import load_agent
from agents.loading import PolicyConfig, load_policy
from rlsuite.cli import run_script
from rlsuite.config.build import build
from rlsuite.config.compose import compose_train, plain_values
from rlsuite.errors import UserError
from rlsuite.experiment import FAILS, HOLDS
from rlsuite.experiment import jobs as runner
from rlsuite.experiment.jobs import Jobs
from rlsuite.experiment.processes import Progress
from rlsuite.scoring import Evaluation, evaluate
from scripts import reproduce
from scripts.experiments import ace, training_runs

TINY = ["paper=ace", "preset=debug"]


def numbers(**changes):
    return build(ace.Numbers, dataclasses.asdict(ace.Numbers()) | changes)


def measured(mean, early=0.0):
    return {"mean": mean, "std": 1.0, "interval": [mean - 1, mean + 1], "early": early}


# -- arithmetic ---------------------------------------------------------------------------------------------


def test_figures_of_an_evaluation():
    result = Evaluation(np.array([10.0, 20.0, 30.0, 40.0]), np.array([299, 300, 1000, 5]))
    figures = ace.figures_of(result, 300)
    assert figures["mean"] == 25.0
    assert figures["early"] == 0.5  # an end at step 300 is not one before step 300
    assert figures["interval"][0] < 25.0 < figures["interval"][1]


def test_an_ensemble_beside_its_members():
    members = [measured(100.0, 0.2), measured(300.0, 0.4), measured(200.0, 0.0)]
    found = ace.compare((3, 4, 5), members, [9.0, 10.0, 11.0], measured(240.0), measured(250.0, 0.1))
    assert found["A1C0_mean"] == {"mean": 200.0, "early": pytest.approx(0.2)}
    assert found["ratio_to_members"] == 1.25
    assert found["ratio_of_one_critic_to_members"] == 1.2
    # The best is the one that was best on the other episodes, not the one that is best on these.
    assert found["A1C0_best"]["seed"] == 5
    assert found["ratio_to_best"] == 1.25
    assert found["early_minus_members"] == pytest.approx(-0.1)
    assert found["A3C1"]["mean"] == 240.0
    assert found["members"][1] == {"seed": 4, "selection_mean": 10.0, **members[1]}
    with pytest.raises(UserError, match="means nothing"):
        ace.compare((0, 1), [measured(-5.0), measured(1.0)], [0.0, 1.0], measured(1.0), measured(1.0))


def test_claims_are_the_mean_over_repeats_against_the_bars():
    def repeats(*pairs):
        return [{"ratio_to_members": ratio, "early_minus_members": early} for ratio, early in pairs]

    ratio, early = ace.claims(repeats((1.0, 0.1), (1.15, -0.1), (1.2, -0.01)), numbers())
    assert (ratio.margin, ratio.figures, ratio.verdict) == (1.10, (1.0, 1.15, 1.2), HOLDS)
    assert (early.margin, early.at_least, early.verdict) == (0.0, False, HOLDS)
    ratio, early = ace.claims(repeats((1.0, 0.1), (1.15, 0.0)), numbers())
    assert (ratio.verdict, early.verdict) == (FAILS, FAILS)
    assert "A5C5" in ratio.statement


def test_the_seeds_are_disjoint_and_the_full_scale_command_composes(monkeypatch, tmp_path):
    assert numbers().seeds == tuple(range(15))
    monkeypatch.setattr(ace, "train_all", lambda runs, jobs: {name: jobs.folder / name for name in runs})
    seen = []

    def measure(folders, seeds, numbers, threads):
        seen.append([folder.name for folder in folders])
        compared = ace.compare(seeds, [measured(1.0)] * 5, [1.0] * 5, measured(1.0), measured(2.0))
        return compared | {"chosen_shares": {"A5C5": [0.2] * 5}}

    monkeypatch.setattr(ace, "measure", measure)
    result = ace.run(numbers(), Jobs(tmp_path))
    assert seen == [[f"s{5 * repeat + member}" for member in range(5)] for repeat in range(3)]
    assert result.claims[0].figures == (2.0, 2.0, 2.0)
    values = plain_values(shlex.split(result.full_scale.partition(" (")[0])[2:])
    assert values.pop("paper") == "ace"
    full = numbers(**values)
    config, _ = compose_train(full.arguments(7))
    assert (config.steps, config.seed, config.agent.actor.hidden_sizes) == (2_500_000, 7, (800, 400))
    assert config.updates_per_episode == 100  # of preset=l2r_ace


def test_ensembles_are_judged_where_the_task_says():
    """The runner trains on a shaped reward, holding its actions, and is judged on the raw one, deciding every 10 ms."""
    presets = ("preset=l2r_ace", "env.evaluation_obstacles=10", "num_envs=2")
    runner = numbers(task="LearningToRun", episodes=2, early_step=1000, overrides=presets)
    config, _ = compose_train(runner.arguments(0))
    assert config.env.options["action_repeat"] == 4
    env = ace.evaluation_env(config, runner, 1)
    assert env.max_episode_steps == 1000
    assert (env.task.action_repeat, env.task.shaping, env.task.max_obstacles) == (1, (), 10)
    env.close()
    with pytest.raises(UserError, match="LearningToRun has a time limit of 1000 steps"):
        ace.evaluation_env(config, dataclasses.replace(runner, early_step=1001), 1)


def test_pairs_may_be_of_another_actor_critic(tmp_path):
    """Its values are in units of its own returns, so that critics' scores are standardized before they are added."""
    small = ("num_envs=2", "agent.critic.hidden_sizes=[8,8]", "agent.actor.hidden_sizes=[8,8]", *ace.DEBUG.overrides)
    tiny = dataclasses.replace(ace.DEBUG, learner="flash_sac", hidden_sizes=(), overrides=small)
    result = ace.run(tiny, Jobs(tmp_path, parallel=0))
    assert len(result.figures["repeats"][0]["chosen_shares"]["A2C2"]) == 2


def test_bad_numbers_are_one_line(tmp_path, capsys):
    for arguments, word in (
        (["pairs=1"], "pairs"),
        (["steps=many"], "whole number"),
        (["hidden_size=[8]"], "hidden_sizes"),
        (["task=Hoper"], "Hopper"),
        (["early_step=1001"], "time limit of 1000"),
        (["source=mixed"], "runs or snapshots"),
        (["overrides=['agent.batchsize=3']"], "agent.batch_size"),
    ):
        assert run_script(reproduce.main, ["paper=ace", f"runs={tmp_path / 'runs'}", *arguments]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert word in error
    assert {path.name for path in tmp_path.rglob("*")} <= {"runs", "ace", ".lock"}  # nothing was begun


def test_time_left_counts_what_running_runs_have_spent():
    progress = Progress(total=5, left=3, parallel=2)
    progress.durations = [10.0, 20.0]
    progress.begun = {"s3": 96.0}
    assert progress.seconds_left(100.0) == pytest.approx((3 * 15.0 - 4.0) / 2)


# -- end to end ---------------------------------------------------------------------------------------------


def run_of(folder, name):
    """Return the directory of a training run."""
    (found,) = (path for path in (folder / "ace").glob(f"{name}-*") if path.is_dir())
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished tiny experiment: its folder with runs/ and results/."""
    folder = tmp_path_factory.mktemp("ace")
    assert run_script(reproduce.main, [*TINY, f"runs={folder / 'runs'}", f"output={folder / 'results'}"]) == 0
    return folder


def test_a_tiny_experiment_writes_its_result(finished):
    result = json.loads((finished / "results" / "ace.json").read_text())
    assert result["seeds"] == [0, 1]
    assert len(result["claims"]) == 2
    (repeat,) = result["figures"]["repeats"]
    assert set(repeat) >= {"members", "A1C0_mean", "A1C0_best", "A2C1", "A2C2", "ratio_to_members", "ratio_to_best"}
    assert result["claims"][0]["figures"] == [repeat["A2C2"]["mean"] / repeat["A1C0_mean"]["mean"]]
    assert sum(repeat["chosen_shares"]["A2C2"]) == pytest.approx(1.0, abs=1e-3)
    assert result["numbers"]["pairs"] == 2
    assert set(result["jobs"]) == {"s0", "s1"}
    assert all(job["minutes"] >= 0 and job["commit"] for job in result["jobs"].values())


def test_members_and_ensemble_are_evaluated_on_the_same_episodes(finished):
    (repeat,) = json.loads((finished / "results" / "ace.json").read_text())["figures"]["repeats"]
    runs = [str(run_of(finished / "runs", name)) for name in ("s0", "s1")]
    agents = [load_agent(run)[0] for run in runs] + [load_policy(PolicyConfig(run=tuple(runs), source="runs"))[0]]
    found = []
    for agent in agents:
        env = envs.make_vector("rlsuite/InvertedPendulum", 3)  # a fresh one: nothing can be left of an earlier one
        result = evaluate(lambda observation, agent=agent: agent.act(observation, False), env, seed=ace.EVALUATION_SEED)
        found.append(float(result.returns.mean()))
        env.close()
    assert [repeat["members"][0]["mean"], repeat["members"][1]["mean"], repeat["A2C2"]["mean"]] == found


def test_snapshots_of_a_run_are_an_ensemble(finished, tmp_path):
    runs = tmp_path / "runs"
    subprocess.run(["cp", "-r", finished / "runs", runs], check=True)
    arguments = [*TINY, "source=snapshots", "repeats=2", f"runs={runs}", f"output={tmp_path}"]  # the runs are the same
    assert run_script(reproduce.main, arguments) == 0
    result = json.loads((tmp_path / "ace.json").read_text())
    assert result["seeds"] == [0, 1]
    for repeat, seed in zip(result["figures"]["repeats"], (0, 1), strict=True):
        assert [member["seed"] for member in repeat["members"]] == [seed, seed]
        agent = load_policy(PolicyConfig(run=(str(run_of(runs, f"s{seed}")),), source="snapshots", num_members=2))[0]
        env = envs.make_vector("rlsuite/InvertedPendulum", 3)
        found = evaluate(lambda observation, agent=agent: agent.act(observation, False), env, seed=ace.EVALUATION_SEED)
        env.close()
        assert repeat["A2C2"]["mean"] == float(found.returns.mean())


def test_minutes_of_training_leave_out_the_evaluation(tmp_path):
    lines = [{"time_s": 60.0}, {"time_s": 150.0, "train_s": 120.0}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert training_runs.training_minutes(tmp_path) == 2.0
    (tmp_path / "metrics.jsonl").write_text(json.dumps(lines[0]) + "\n")
    assert training_runs.training_minutes(tmp_path) == 1.0


def test_finished_runs_are_reused_and_give_the_same_result(finished, tmp_path, capsys, monkeypatch):
    def never(*_):
        raise AssertionError("a finished run was started again")

    monkeypatch.setattr(runner, "start", never)
    monkeypatch.setattr(training_runs.TrainingJob, "run_here", never)
    assert run_script(reproduce.main, [*TINY, f"runs={finished / 'runs'}", f"output={tmp_path}"]) == 0
    out = capsys.readouterr().out
    assert "A1C0-best" in out
    old, new = (json.loads((folder / "ace.json").read_text()) for folder in (finished / "results", tmp_path))
    assert new["figures"]["repeats"] == old["figures"]["repeats"]


def test_a_run_of_other_defaults_is_refused(finished, tmp_path, capsys):
    runs = tmp_path / "runs"
    subprocess.run(["cp", "-r", finished / "runs", runs], check=True)
    path = run_of(runs, "s1") / "config.yaml"
    path.write_text(path.read_text().replace("batch_size: 8", "batch_size: 9"))
    assert run_script(reproduce.main, [*TINY, f"runs={runs}", f"output={tmp_path}"]) == 2
    assert "another configuration" in capsys.readouterr().err


def test_interrupted_runs_go_on_or_start_anew(finished, tmp_path):
    job = training_runs.TrainingJob("s0", tuple(ace.DEBUG.arguments(0)))
    done = tmp_path / "s0"
    subprocess.run(["cp", "-r", run_of(finished / "runs", "s0"), done], check=True)
    assert job.is_whole(done)
    assert job.command(done) is None
    subprocess.run(["rm", "-r", done / "checkpoints" / "120", done / "checkpoints" / "latest"], check=True)
    assert not job.is_whole(done)
    assert job.command(done)[-1] == f"resume={done}"  # type: ignore[index]
    subprocess.run(["rm", "-r", done / "checkpoints"], check=True)
    assert job.command(done)[-1] == f"run_dir={done}"  # type: ignore[index]
    assert not done.exists()


def test_a_half_done_run_is_finished_and_a_lost_one_made_again(finished, tmp_path, capsys):
    runs = tmp_path / "runs"
    subprocess.run(["cp", "-r", finished / "runs", runs], check=True)
    half, lost = run_of(runs, "s0"), run_of(runs, "s1")
    subprocess.run(["rm", "-r", half / "checkpoints" / "120", half / "checkpoints" / "latest", lost], check=True)
    half.with_name(half.name + ".json").unlink()  # as a kill leaves it; the other's result is still kept
    assert run_script(reproduce.main, [*TINY, f"runs={runs}", f"output={tmp_path}"]) == 0
    assert "0 of 2 jobs are finished" in capsys.readouterr().out
    old, new = (json.loads((folder / "ace.json").read_text()) for folder in (finished / "results", tmp_path))
    assert new["figures"]["repeats"] == old["figures"]["repeats"]


def test_a_run_that_fails_ends_the_experiment_with_its_last_line(tmp_path, monkeypatch):
    script = tmp_path / "script.py"
    script.write_text("import sys; print('it broke'); sys.exit(3)")
    monkeypatch.setattr(training_runs, "SCRIPT", script)
    with pytest.raises(UserError, match=r"s0 ended with status 3: it broke .*s0-.*\.log"):
        training_runs.train_all({"s0": numbers().arguments(0)}, Jobs(tmp_path / "runs", 1))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("number", [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGKILL])
def test_a_killed_experiment_leaves_no_runs_behind(number, tmp_path):
    arguments = [*TINY, "steps=1000000", "parallel=2", f"runs={tmp_path / 'runs'}", f"output={tmp_path / 'results'}"]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "scripts" / "reproduce.py"), *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )

    def locks():
        return list((tmp_path / "runs" / "ace").glob("s?-*/.lock"))

    try:
        wait_for(lambda: len(locks()) == 2 and all(lock.read_text() for lock in locks()))
        children = [json.loads(lock.read_text())["pid"] for lock in locks()]
        process.send_signal(number)
        _, error = process.communicate(timeout=90)
        wait_for(lambda: not any(is_running(child) for child in children))
    finally:
        process.kill()
    if number == signal.SIGTERM:
        assert process.returncode == 2
        assert error.count("\n") == 1
        assert "the same command goes on" in error


def is_running(pid):
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def wait_for(condition, seconds=90.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
