"""Curves from run directories written by hand."""

import json

import numpy as np
import pytest
import yaml

from rlsuite.cli import run_script
from rlsuite.errors import UserError
from rlsuite.statistics.curves import left_out, make_curves
from rlsuite.statistics.runs import find_runs, read_data, read_run, read_runs, to_columns, write_data


def write_run(folder, name, returns, *, agent="ace", task="Hopper", seed=0, torn=False, pace=None, failed=None, **keys):
    """Write a run: `returns` is step -> mean return; with `pace`, evaluation i comes after i * pace train_s.

    `failed` is step -> number of failed episodes; other keys are the agent's.
    """
    path = folder / name
    path.mkdir(parents=True)
    config = {
        "agent": {"name": agent, "k": 3, **keys},
        "env": {"id": f"rlsuite/{task}"},
        "seed": seed,
        "steps": len(name),
    }
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    lines = [
        json.dumps(
            {"step": step, "time_s": 60.0 * place, "kind": "evaluate", "mean": mean, "length": 7.0}
            | ({} if pace is None else {"train_s": pace * place})
            | ({"failed": failed[step]} if failed and step in failed else {})
        )
        for place, (step, mean) in enumerate(returns.items())
    ]
    lines.insert(1, json.dumps({"step": 5, "time_s": 1.0, "kind": "train", "updates": 3}))
    (path / "metrics.jsonl").write_text("\n".join(lines) + ('\n{"step": 99, "kind": "eva' if torn else "\n"))
    return path


def test_a_group_of_few_has_the_mean_with_students_interval_on_the_steps_all_share(tmp_path):
    for seed, value in enumerate([0.0, 10.0, 20.0, 1000.0]):
        write_run(tmp_path, f"s{seed}", {100: value, 200: 2 * value, 300 + seed: 7.0}, torn=seed == 0, seed=seed)
    (curve,) = make_curves(read_runs([str(tmp_path)]))
    assert (curve.task, curve.label) == ("Hopper", "ace")
    assert curve.steps.tolist() == [100, 200]
    assert curve.center.tolist() == pytest.approx([257.5, 515.0])
    half = 3.18245 * np.std([0, 10, 20, 1000], ddof=1) / 2  # t of 3 degrees of freedom
    assert (curve.high - curve.center).tolist() == pytest.approx([half, 2 * half], rel=1e-5)
    assert (curve.low + curve.high).tolist() == pytest.approx((2 * curve.center).tolist())
    assert curve.kind == curve.last_interval.kind == "Student's t"
    assert curve.minutes.tolist() == pytest.approx([0.0, 1.0])
    assert curve.returns.tolist() == [[0, 0], [10, 20], [20, 40], [1000, 2000]]
    assert curve.last_mean == pytest.approx(515.0)
    assert curve.last_middle == pytest.approx(30.0)  # the middle half of four runs is the two in the middle
    assert curve.last_interval[:2] == pytest.approx((curve.low[-1], curve.high[-1]))


def test_a_group_of_ten_has_the_interquartile_mean_with_a_bootstrap_interval(tmp_path):
    for seed in range(10):
        write_run(tmp_path, f"s{seed}", {100: float(seed**2)}, seed=seed)
    (curve,) = make_curves(read_runs([str(tmp_path)]))
    assert (curve.kind, curve.last_interval.kind) == ("bootstrap", "bootstrap")
    assert curve.center.tolist() == [np.mean([4, 9, 16, 25, 36, 49])]
    assert 0.0 < curve.low[0] < curve.center[0] < curve.high[0] < 81.0


def test_a_seed_alone_has_no_interval(tmp_path):
    write_run(tmp_path, "s", {100: 1.0})
    (curve,) = make_curves(read_runs([str(tmp_path)]))
    assert curve.center.tolist() == [1.0]
    assert np.isnan([*curve.low, *curve.high, *curve.last_interval[:2]]).all()


def test_what_a_curve_cannot_hold_is_said_and_costs_no_other_group(tmp_path):
    write_run(tmp_path, "short", {100: 1.0, 200: 2.0})
    write_run(tmp_path, "long", {100: 1.0, 200: 2.0, 300: 3.0}, seed=1)
    for step in (150, 250):
        write_run(tmp_path, f"odd{step}", {step: 1.0}, agent="ddpg", seed=step)
    runs = read_runs([str(tmp_path)])
    assert [(curve.label, curve.steps.tolist()) for curve in make_curves(runs)] == [("ace", [100, 200])]
    ace, ddpg = left_out(runs)
    assert ace.startswith("ace on Hopper is drawn to step 200 of 300, for ")
    assert ace.endswith("/short")
    assert "ddpg on Hopper is left out: no step is common" in ddpg
    assert "/odd150 (to 150), " in ddpg
    assert left_out([run for run in runs if run.name.endswith("long")]) == []


def test_groups_are_made_by_task_and_keys_and_a_repeated_step_counts_once(tmp_path):
    write_run(tmp_path, "a", {100: 1.0})
    write_run(tmp_path, "b", {100: 2.0}, agent="ddpg")
    write_run(tmp_path, "c", {100: 3.0}, task="Ant")
    curves = make_curves(read_runs([str(tmp_path)], ["agent.name", "agent.k"]))
    assert {(curve.task, curve.label) for curve in curves} == {
        ("Hopper", "ace, k=3"),
        ("Hopper", "ddpg, k=3"),
        ("Ant", "ace, k=3"),
    }
    text = (tmp_path / "a" / "metrics.jsonl").read_text()
    again = json.dumps({"step": 100, "time_s": 9.0, "kind": "evaluate", "mean": 5.0})
    (tmp_path / "a" / "metrics.jsonl").write_text(text + again + "\n")
    (curve,) = make_curves([read_run(tmp_path / "a")])
    assert curve.returns.tolist() == [[5.0]]


def test_minutes_leave_evaluations_out_where_the_log_can_tell(tmp_path):
    write_run(tmp_path, "new0", {100: 1.0, 200: 1.0}, pace=30.0)
    write_run(tmp_path, "new1", {100: 1.0, 200: 1.0}, pace=90.0, seed=1)
    write_run(tmp_path, "old", {100: 1.0, 200: 1.0}, agent="old")
    runs = {run.name.rpartition("/")[2]: run for run in read_runs([str(tmp_path)])}
    assert [runs[name].with_evaluation for name in ("new0", "new1", "old")] == [False, False, True]
    new, old = make_curves(list(runs.values()))
    assert new.minutes.tolist() == pytest.approx([0.0, 1.0])
    assert old.minutes.tolist() == pytest.approx([0.0, 1.0])  # the wall clock of everything


def test_a_data_file_gives_the_same_curves_without_the_runs(tmp_path):
    runs = [
        read_run(write_run(tmp_path, f"{task}{seed}", {100: 1.5 * seed, 300: 2.0}, task=task, seed=seed, pace=9.0))
        for task in ("Ant", "Hopper")
        for seed in range(3)
    ]
    path = tmp_path / "deep" / "data.json"
    write_data(runs, path)
    assert len(path.read_text().splitlines()) == 2 + len(runs)
    again = read_data(path)
    assert [to_columns(run) for run in again] == [to_columns(run) for run in runs]
    first = json.loads(path.read_text())[1]
    assert (first["label"], first["env"], first["seed"], len(first["config"])) == ("ace", "Ant", 1, 12)
    assert (first["step"], first["seconds"], first["mean"]) == ([100, 300], [0.0, 9.0], [1.5, 2.0])
    assert first["length"] == [7.0, 7.0]
    for one, other in zip(make_curves(runs), make_curves(read_runs([str(path)])), strict=True):
        assert (one.task, one.label) == (other.task, other.label)
        for name in ("steps", "minutes", "returns", "center", "low", "high"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    for text in ("{", '[{"run": "a"}]', "3"):
        path.write_text(text)
        with pytest.raises(UserError, match="no data file"):
            read_data(path)
    with pytest.raises(UserError, match="does not exist"):
        read_runs([str(tmp_path / "none.json")])


def test_what_cannot_be_plotted_is_one_line(tmp_path):
    with pytest.raises(UserError, match="no run directory"):
        find_runs([str(tmp_path)])
    path = write_run(tmp_path, "empty", {})
    with pytest.raises(UserError, match="no evaluation yet"):
        read_run(path)
    runs = [read_run(write_run(tmp_path, f"far{step}", {step: 1.0})) for step in (100, 200)]
    with pytest.raises(UserError, match="no step is common"):
        make_curves(runs)
    (path / "config.yaml").write_text("[")
    with pytest.raises(UserError, match="cannot be read"):
        read_run(path)


def test_the_script_draws_a_picture_with_profiles_and_writes_the_figures(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    from PIL import Image

    from scripts import plot_curves

    for agent, gain in {"ace": 2.0, "ddpg": 1.0}.items():
        for task in ("Hopper", "Ant"):
            for seed in range(2):
                write_run(
                    tmp_path / "runs",
                    f"{agent}{task}{seed}",
                    {100: gain, 200: gain + seed},
                    agent=agent,
                    task=task,
                    seed=seed,
                )
    output, data = tmp_path / "pictures" / "curves.png", tmp_path / "data.json"
    assert run_script(plot_curves.main, [f"runs={tmp_path / 'runs'}", f"output={output}"]) == 0
    printed = capsys.readouterr().out
    assert "interval" in printed
    # ace on Hopper: 2 and 3; Student's t of one degree of freedom.
    assert "2 2.5 [-3.9, 8.9] Student's t 2.5" in " ".join(printed.split())
    few = "ace: Ant 2, Hopper 2; ddpg: Ant 2, Hopper 2"
    assert f"P(A > B) is not said of fewer than 4 seeds ({few})" in printed
    assert "performance profile: Ant at step 200, Hopper at step 200" in printed
    assert "8 runs include their evaluations" in printed
    assert "P(ace > ddpg)" not in printed  # two seeds are too few
    picture = np.asarray(Image.open(output).convert("RGB"))
    assert picture.shape[1] > 2.5 * picture.shape[0]  # three panels
    assert len(json.loads(output.with_suffix(".json").read_text())) == 8
    assert run_script(plot_curves.main, [f"runs={tmp_path / 'runs'}", f"output={output}", f"data={data}"]) == 0
    assert data.read_text() == output.with_suffix(".json").read_text()
    again = tmp_path / "again.png"  # from the data file alone: the same picture
    assert run_script(plot_curves.main, [f"runs={data}", f"output={again}"]) == 0
    assert again.read_bytes() == output.read_bytes()
    assert not again.with_suffix(".json").exists()
    assert run_script(plot_curves.main, [f"runs={data}", f"output={again}", "x=minutes"]) == 0
    assert again.read_bytes() != output.read_bytes()
    capsys.readouterr()
    assert run_script(plot_curves.main, [f"runs={data}", "x=hours"]) == 2
    assert "minutes" in capsys.readouterr().err
    assert run_script(plot_curves.main, [f"runs={tmp_path / 'runs'}", "output=curves.gif"]) == 2
    assert "png" in capsys.readouterr().err


def lines_of(folder):
    from scripts import plot_curves

    return plot_curves.improvements(make_curves(read_runs([str(folder)])))


def test_improvement_of_one_group_over_another_by_hand(tmp_path):
    for agent, gain in {"ace": 2.0, "ddpg": 1.0}.items():
        for task in ("Hopper", "Ant"):
            for seed in range(4):
                write_run(tmp_path, f"{agent}{task}{seed}", {100: gain + seed}, agent=agent, task=task, seed=seed)
    (line,) = lines_of(tmp_path)
    # Of 2, 3, 4, 5 against 1, 2, 3, 4 ten of sixteen pairs are above and three level, on both tasks.
    assert line.startswith("P(ace > ddpg) = 0.72, 95 % score interval [0.")
    assert "exact two-sided p = 0." in line
    assert line.endswith("(Ant at step 100, 4 and 4 seeds; Hopper at step 100, 4 and 4 seeds)")


def test_improvement_is_told_at_equal_steps_and_with_every_seed(tmp_path):
    for seed in range(5):  # at 100 steps ddpg is above, at its own end ace is
        write_run(tmp_path, f"a{seed}", {100: 1.0 + seed / 10, 200: 9.0}, seed=seed)
    for seed in range(4):
        write_run(tmp_path, f"d{seed}", {50: 0.0, 100: 2.0 + seed / 10}, agent="ddpg", seed=seed)
    for seed in range(4):
        write_run(tmp_path, f"walker{seed}", {100: 3.0 + seed}, task="Walker2d", seed=seed)
    (line,) = lines_of(tmp_path)
    assert line.startswith("P(ace > ddpg) = 0.00, ")
    assert "p = 0.016" in line  # 2 of 9 over 4 ways
    assert line.endswith("(Hopper at step 100, 5 and 4 seeds; without Walker2d)")


def test_improvement_that_cannot_be_told_is_said_to_be(tmp_path):
    for seed in range(5):
        write_run(tmp_path, f"a{seed}", {100: 1.0}, seed=seed)
    for seed in range(3):
        write_run(tmp_path, f"d{seed}", {100: 1.0}, agent="ddpg", seed=seed)
    for seed in range(4):
        write_run(tmp_path, f"t{seed}", {100: 3.0 + seed}, agent="td3", task="Ant", seed=seed)
    assert lines_of(tmp_path) == [
        "td3 and ace are not compared: they have no task with a common step",
        "P(A > B) is not said of fewer than 4 seeds (ddpg: Hopper 3)",
    ]


def test_runs_of_one_seed_count_once_and_it_is_said(tmp_path):
    for name, seed, value in (("a", 0, 1.0), ("b", 0, 3.0), ("c", 1, 8.0)):
        write_run(tmp_path, name, {100: value}, seed=seed)
    runs = read_runs([str(tmp_path)])
    (curve,) = make_curves(runs)
    assert curve.seeds == (0, 1)
    assert curve.returns.tolist() == [[2.0], [8.0]]
    (line,) = left_out(runs)
    assert line.startswith("ace on Hopper: 3 runs of 2 seeds; averaged into one are ")


def test_runs_of_differing_configs_are_no_seeds_of_one_thing(tmp_path, capsys):
    for seed, discount in enumerate((0.99, 0.99, 0.95)):
        write_run(tmp_path, f"dir/s{seed}", {100: 1.0 + seed}, seed=seed, discount=discount)
    runs = read_runs([str(tmp_path / "dir")])
    curves = make_curves(runs)
    assert {curve.label: curve.seeds for curve in curves} == {"ace, discount=0.99": (0, 1), "ace, discount=0.95": (2,)}
    assert "ace on Hopper: configs differ in agent.discount, so that it is split by that" in capsys.readouterr().out
    # Two data files whose runs only seem alike.
    for place, paths in enumerate((["s0", "s1"], ["s2"])):
        write_data(read_runs([str(tmp_path / "dir" / path) for path in paths]), tmp_path / f"{place}.json")
    both = read_runs([str(tmp_path / f"{place}.json") for place in (0, 1)])
    assert len({run.label for run in both}) == 2
    assert all(run.label.startswith("ace [config ") for run in both)


def test_what_changes_no_learning_may_differ(tmp_path):
    for seed in range(2):
        path = write_run(tmp_path, f"s{'x' * seed}", {100: 1.0}, seed=seed)  # steps= differ, too
        config = yaml.safe_load((path / "config.yaml").read_text())
        more = {
            "device": ["cpu", "cuda"][seed],
            "log": {"every": seed + 1},
            "replay": {"device": ["auto", "cpu"][seed]},
        }
        (path / "config.yaml").write_text(yaml.safe_dump(config | more))
    assert [curve.label for curve in make_curves(read_runs([str(tmp_path)]))] == ["ace"]
    for seed in range(2):  # but where rates fall along the run, its length is part of the recipe
        write_run(tmp_path / "falling", f"s{'x' * seed}", {100: 2.0}, seed=seed, final_learning_rate_share=0.1)
    assert len(make_curves(read_runs([str(tmp_path / "falling")]))) == 2


def test_copies_of_a_run_are_refused(tmp_path):
    write_run(tmp_path, "runs/a", {100: 1.0, 200: 2.0})
    write_run(tmp_path, "copies/b", {100: 1.0, 200: 2.0})
    with pytest.raises(UserError, match=r"copies/b and runs/a are copies of one run"):
        read_runs([str(tmp_path)])


def test_failed_episodes_travel_to_the_data_file_and_are_told(tmp_path):
    write_run(tmp_path, "runs/a", {100: 1.0, 200: 2.0, 300: None}, failed={200: 3, 300: 10})
    runs = read_runs([str(tmp_path / "runs")])
    write_data(runs, tmp_path / "data.json")
    for found in (runs, read_runs([str(tmp_path / "data.json")])):
        assert found[0].spread["failed"].tolist() == [0.0, 3.0]
        failed, unmeasured = left_out(found)
        assert failed == "ace on Hopper: evaluation episodes whose simulation failed are in no mean: 3 of runs/a"
        assert unmeasured == "ace on Hopper: evaluations without a whole episode are not drawn: 1 of runs/a"


def test_small_numbers_come_back_from_a_data_file(tmp_path):
    write_run(tmp_path, "runs/a", {100: 1e-5, 200: -123456.789012345})
    write_data(read_runs([str(tmp_path / "runs")]), tmp_path / "data.json")
    assert read_data(tmp_path / "data.json")[0].returns.tolist() == [1e-5, -123456.789]


def test_a_run_counts_once_however_it_is_named(tmp_path):
    write_run(tmp_path, "runs/a", {100: 1.0})
    write_run(tmp_path, "runs/b", {100: 2.0}, seed=1)
    runs = read_runs([str(tmp_path / "runs")])
    write_data(runs, tmp_path / "data.json")
    again = [
        str(tmp_path),
        str(tmp_path / "runs" / "a"),
        str(tmp_path / "runs" / ".." / "runs"),
        str(tmp_path / "data.json"),
    ]
    assert len(read_runs(again)) == len(runs) == 2


def test_runs_without_an_evaluation_are_left_out_with_a_word(tmp_path, capsys):
    write_run(tmp_path, "a", {100: 1.0})
    write_run(tmp_path, "b", {})
    assert len(read_runs([str(tmp_path)])) == 1
    assert "left out, as they have no evaluation yet" in capsys.readouterr().out


def test_what_cannot_be_plotted_is_refused_in_one_line(tmp_path):
    write_run(tmp_path, "a", {100: 1.0})
    for key in ("agent.kk", ""):
        with pytest.raises(UserError, match=f"by={key}: no run has this key"):
            read_runs([str(tmp_path)], ["agent.name", key])
    (tmp_path / "empty.json").write_text("[]")
    for paths in ([], [str(tmp_path / "empty.json")]):
        with pytest.raises(UserError, match="there is no run in it"):
            read_runs(paths)
    columns = to_columns(read_run(tmp_path / "a")) | {"mean": [None]}
    (tmp_path / "null.json").write_text(json.dumps([columns]))
    with pytest.raises(UserError, match="is no data file"):
        read_runs([str(tmp_path / "null.json")])


def test_the_interval_of_success_rates_does_not_leave_what_they_can_be(tmp_path):
    paths = [write_run(tmp_path, f"s{seed}", {100: -5.0}, seed=seed) for seed in range(2)]
    for path, rate in zip(paths, (0.4, 0.9), strict=True):
        log = path / "metrics.jsonl"
        log.write_text(log.read_text().replace('"length": 7.0', f'"length": 7.0, "success_rate": {rate}'))
    (curve,) = make_curves(read_runs([str(tmp_path)]), "success")
    assert (curve.low.tolist(), curve.center.tolist(), curve.high.tolist()) == ([0.0], [0.65], [1.0])
    assert curve.last_interval == (0.0, 1.0, "Student's t")


def test_a_single_evaluation_is_a_marker_and_tasks_without_success_have_no_panel(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    from PIL import Image

    from scripts import plot_curves

    for seed, rate in enumerate((0.4, 0.9)):
        path = write_run(tmp_path / "runs", f"push{seed}", {100: -5.0}, seed=seed, task="FetchPush")
        log = path / "metrics.jsonl"
        log.write_text(log.read_text().replace('"length": 7.0', f'"length": 7.0, "success_rate": {rate}'))
        write_run(tmp_path / "runs", f"hop{seed}", {100: 5.0, 200: 6.0}, seed=seed, task="Hopper")
    output = tmp_path / "curves.png"
    assert run_script(plot_curves.main, [f"runs={tmp_path / 'runs'}", f"output={output}", "y=success"]) == 0
    printed = capsys.readouterr().out
    assert "no panel for Hopper: no run there has success in its evaluations" in printed
    picture = np.asarray(Image.open(output).convert("RGB")).astype(int)
    assert picture.shape[1] < 2 * picture.shape[0]  # one panel
    blue = (np.abs(picture - [31, 119, 180]).sum(axis=2) < 30)[: picture.shape[0] * 3 // 4]  # above the legend
    assert blue.sum() > 30  # markers; a line through one point would be none


def test_groups_are_summed_up_over_tasks_by_shares_of_the_best(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    from scripts import plot_curves

    for task, scale in {"Hopper": 10.0, "Ant": 1000.0}.items():
        for seed in range(2):
            write_run(tmp_path / "runs", f"a{task}{seed}", {100: scale}, agent="ace", task=task, seed=seed)
            write_run(tmp_path / "runs", f"d{task}{seed}", {100: scale / 4}, agent="ddpg", task=task, seed=seed)
    assert run_script(plot_curves.main, [f"runs={tmp_path / 'runs'}", f"output={tmp_path / 'curves.png'}"]) == 0
    printed = capsys.readouterr().out
    assert "ace: interquartile mean 1.000 of the best group's, over all tasks and seeds" in printed
    assert "ddpg: interquartile mean 0.250 of the best group's, over all tasks and seeds" in printed


def test_runs_evaluated_at_different_steps_are_interpolated_and_it_is_said(tmp_path):
    write_run(tmp_path, "s0", {step: step / 100 for step in range(100, 1001, 100)}, seed=0)
    write_run(tmp_path, "s1", {128: 0.0, 384: 256.0, 896: 256.0, 1024: 0.0}, seed=1)
    runs = read_runs([str(tmp_path)])
    (curve,) = make_curves(runs)
    assert curve.interpolated
    assert curve.steps.tolist() == [128, 384, 896]  # of the run with fewest, where both are
    assert dict(zip(curve.seeds, curve.returns.tolist(), strict=True)) == {
        0: pytest.approx([1.28, 3.84, 8.96]),
        1: [0.0, 256.0, 256.0],
    }
    assert left_out(runs)[0].endswith("runs were evaluated at different steps; values between are interpolated")


def test_runs_that_share_no_stretch_are_left_out(tmp_path):
    write_run(tmp_path, "s0", {100: 1.0, 200: 2.0}, seed=0)
    write_run(tmp_path, "s1", {300: 1.0, 400: 2.0}, seed=1)
    with pytest.raises(UserError, match="no step is common"):
        make_curves(read_runs([str(tmp_path)]))
