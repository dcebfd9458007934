"""Curves from run directories written by hand."""

import json

import numpy as np
import pytest
import yaml

from rlsuite.cli import run_script
from rlsuite.curves import find_runs, make_curves, read_run, to_records
from rlsuite.errors import UserError


def write_run(folder, name, returns, *, agent="ace", task="Hopper", torn=False):
    path = folder / name
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(
        yaml.safe_dump({"agent": {"name": agent, "k": 3}, "env": {"id": f"rlsuite/{task}"}})
    )
    lines = [
        json.dumps({"step": step, "time_s": 60.0 * place, "kind": "evaluate", "mean": mean})
        for place, (step, mean) in enumerate(returns.items())
    ]
    lines.insert(1, json.dumps({"step": 5, "time_s": 1.0, "kind": "train", "updates": 3}))
    (path / "metrics.jsonl").write_text("\n".join(lines) + ('\n{"step": 99, "kind": "eva' if torn else "\n"))
    return path


def test_a_group_has_the_interquartile_mean_on_the_steps_all_share(tmp_path):
    for seed, value in enumerate([0.0, 10.0, 20.0, 1000.0]):
        write_run(tmp_path, f"s{seed}", {100: value, 200: 2 * value, 300 + seed: 7.0}, torn=seed == 0)
    (curve,) = make_curves([read_run(path) for path in find_runs([str(tmp_path)])])
    assert (curve.task, curve.label) == ("Hopper", "ace")
    assert curve.steps.tolist() == [100, 200]
    # The middle half of four runs is the two in the middle.
    assert curve.center.tolist() == pytest.approx([15.0, 30.0])
    assert (curve.low <= curve.center).all()
    assert (curve.center <= curve.high).all()
    assert curve.minutes == pytest.approx(2.0)
    assert json.loads(json.dumps(to_records([curve])))[0]["returns"] == [[0, 0], [10, 20], [20, 40], [1000, 2000]]


def test_groups_are_made_by_task_and_keys_and_a_repeated_step_counts_once(tmp_path):
    write_run(tmp_path, "a", {100: 1.0})
    write_run(tmp_path, "b", {100: 2.0}, agent="ddpg")
    write_run(tmp_path, "c", {100: 3.0}, task="Ant")
    runs = [read_run(path) for path in find_runs([str(tmp_path)])]
    curves = make_curves(runs, ["agent.name", "agent.k", "agent.none"])
    assert {(curve.task, curve.label) for curve in curves} == {
        ("Hopper", "ace, k=3, none=None"),
        ("Hopper", "ddpg, k=3, none=None"),
        ("Ant", "ace, k=3, none=None"),
    }
    text = (tmp_path / "a" / "metrics.jsonl").read_text()
    again = json.dumps({"step": 100, "time_s": 9.0, "kind": "evaluate", "mean": 5.0})
    (tmp_path / "a" / "metrics.jsonl").write_text(text + again + "\n")
    (curve,) = make_curves([read_run(tmp_path / "a")])
    assert curve.returns.tolist() == [[5.0]]


def test_what_cannot_be_plotted_is_one_line(tmp_path):
    with pytest.raises(UserError, match="no run directory"):
        find_runs([str(tmp_path)])
    path = write_run(tmp_path, "empty", {})
    with pytest.raises(UserError, match="no evaluation yet"):
        read_run(path)
    runs = [read_run(write_run(tmp_path, f"far{step}", {step: 1.0})) for step in (100, 200)]
    with pytest.raises(UserError, match="no common step"):
        make_curves(runs)
    (path / "config.yaml").write_text("[")
    with pytest.raises(UserError, match="cannot be read"):
        read_run(path)


def test_the_script_draws_a_picture_with_profiles_and_writes_the_figures(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    import plot_curves
    from PIL import Image

    for agent, gain in {"ace": 2.0, "ddpg": 1.0}.items():
        for task in ("Hopper", "Ant"):
            for seed in range(2):
                write_run(
                    tmp_path / "runs", f"{agent}{task}{seed}", {100: gain, 200: gain + seed}, agent=agent, task=task
                )
    output = tmp_path / "pictures" / "curves.png"
    output.parent.mkdir()
    assert run_script(plot_curves.main, [f"runs={tmp_path / 'runs'}", f"output={output}"]) == 0
    picture = np.asarray(Image.open(output).convert("RGB"))
    assert picture.shape[1] > 2.5 * picture.shape[0]  # three panels
    assert len(json.loads(output.with_suffix(".json").read_text())) == 4
    assert run_script(plot_curves.main, [f"runs={tmp_path / 'runs'}", "output=curves.gif"]) == 2
    assert "png" in capsys.readouterr().err
