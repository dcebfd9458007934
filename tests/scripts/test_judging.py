"""evaluate_agent.py evaluation=[...]: a tiny run is judged, its file comes back, and wrong input is one line."""

import json
import shutil

import pytest

from envs.evaluation.recipe import load_network
from rlsuite.cli import run_script
from rlsuite.config.compose import plain_values
from rlsuite.errors import UserError
from scripts import evaluate_agent, judging, train_agent

FEW = ["episodes=2", "num_threads=1", "states=300", "l1.ratio=0.3", "l1.teach.fit.steps=20", "l1.teach.rounds=1"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judging") / "run"
    small = ["steps=600", "agent.actor.hidden_sizes=[16,16]", "agent.critic.hidden_sizes=[16,16]", "num_threads=1"]
    assert (
        train_agent.main(["agent=td3", "env=Reacher", "preset=debug", "device=cpu", f"run_dir={folder}", *small]) == 0
    )
    return folder


@pytest.fixture(scope="module")
def judged(run):
    assert evaluate_agent.main([f"run={run}", "evaluation=pruning/l1", *FEW]) == 0
    return run / "evaluations" / "l1"


def told(capsys):
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_before_control_and_after(judged):
    report = json.loads((judged / "report.json").read_text())
    assert list(report["rows"]) == ["before", "control", "after"]
    before, control, after = report["rows"].values()
    assert before["macs"] == control["macs"] > after["macs"]
    # 16 units less int(0.3 * 16) are 12.
    inputs, outputs = before["macs"] - 256 - 32, 2
    assert before["macs"] == inputs + 16 * 16 + 16 * outputs
    assert after["macs"] == 12 * inputs / 16 + 12 * 12 + 12 * outputs
    assert after["bytes"] == pytest.approx((judged / "policy.safetensors").stat().st_size, rel=0.9)
    assert (judged / "report.md").read_text().startswith("# pruning/l1 on rlsuite/Reacher")


def test_the_file_returns_what_after_returned(judged, capsys):
    report = json.loads((judged / "report.json").read_text())
    assert evaluate_agent.main([f"run={judged / 'policy.safetensors'}", "episodes=2", "num_threads=1"]) == 0
    found, after = told(capsys), report["rows"]["after"]
    assert found["mean"] == after["score"]
    assert found["returns"] == pytest.approx(after["scores"], rel=1e-8)  # printed with nine digits


def test_nothing_is_overwritten_and_a_changed_policy_can_be_changed_again(judged, run, capsys):
    written = (judged / "policy.safetensors").read_bytes()
    assert evaluate_agent.main([f"run={run}", "evaluation=pruning/l1", *FEW]) == 0
    capsys.readouterr()
    assert (judged / "policy.safetensors").read_bytes() == written
    again = run / "evaluations" / "l1-2" / "policy.safetensors"
    assert load_network(again)[2] == load_network(judged / "policy.safetensors")[2]  # the same seeds, the same plan
    assert evaluate_agent.main([f"run={again}", "evaluation=random", "random.teach.fit.steps=1", *FEW[:3]]) == 0
    found = told(capsys)["rows"]
    assert found["after"]["macs"] < found["before"]["macs"]
    assert (again.parent / "evaluations" / "random" / "policy.safetensors").exists()


WRONG = {
    "unknown name": (["evaluation=pruning/l2"], "unknown method 'pruning/l2'; did you mean 'pruning/l1'"),
    "unknown number": (["evaluation=pruning/l1", "l1.rato=0.3"], "unknown key 'l1.rato'; did you mean 'l1.ratio'"),
    "ratio": (["evaluation=pruning/l1", "l1.ratio=1"], "ratio=1: use 0 or more, and less than 1"),
    "twice": (["evaluation=[pruning/l1,l1]"], "'pruning/l1' is named twice; name each method once"),
    "none": (["evaluation=[]"], "evaluation=[]: name a method"),
    "number of another": (["evaluation=pruning/l1", "hrank.ratio=0.3"], "hrank is not chosen"),
    "state policy": (
        ["evaluation=pruning/hrank"],
        "the network is not convolutional; it has no feature maps; use prun",
    ),
    "video": (["evaluation=pruning/l1", "video=true"], "evaluation= writes no video; leave out video="),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_one_line_before_anything_is_written(run, name, capsys):
    arguments, line = WRONG[name]
    before = sorted(run.rglob("*"))
    assert run_script(evaluate_agent.main, [f"run={run}", *arguments]) == 2
    found = capsys.readouterr().err.strip().splitlines()
    assert len(found) == 1, found
    assert line in found[0]
    assert sorted(run.rglob("*")) == before


def test_what_is_quantized_is_not_pruned_afterwards(run, monkeypatch, capsys):
    class Quantizer(judging.Transform):
        gives = frozenset({"quantized"})
        Config = judging.choose(judging.EVALUATIONS, ["l1"])[0].kind.Config

    monkeypatch.setitem(judging.EVALUATIONS, "toys/quantizer", f"{__name__}:Quantizer")
    monkeypatch.setitem(globals(), "Quantizer", Quantizer)
    assert run_script(evaluate_agent.main, [f"run={run}", "evaluation=[toys/quantizer,pruning/l1]"]) == 2
    assert "prune first, as in evaluation=[pruning/l1,quantization/pams]" in capsys.readouterr().err


def test_files_that_are_no_policies_are_refused(judged, run, tmp_path, capsys):
    whole = (judged / "policy.safetensors").read_bytes()
    files = {"torn": whole[:-100], "headless": whole[:20], "empty": b"", "foreign": b"a" * 1000}
    for name, content in files.items():
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(content)
        for more in ([], ["evaluation=pruning/l1"]):
            assert run_script(evaluate_agent.main, [f"run={path}", *more]) == 2
            lines = capsys.readouterr().err.strip().splitlines()
            assert len(lines) == 1, lines
            assert str(path) in lines[0]
    assert run_script(evaluate_agent.main, [f"run={tmp_path / 'none.safetensors'}", "evaluation=pruning/l1"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    bare = tmp_path / "bare"
    shutil.copytree(run, bare)
    shutil.rmtree(bare / "checkpoints")
    assert run_script(evaluate_agent.main, [f"run={bare}", "evaluation=pruning/l1"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "checkpoint" in line


def test_arguments_are_split_between_methods_and_the_script():
    values = plain_values(["run=a", "evaluation=[hrank,l1]", "hrank.ratio=0.5", "episodes=3"])
    methods, rest = judging.split_arguments(values)
    assert [method.name for method in methods] == ["pruning/hrank", "pruning/l1"]
    assert methods[0].config.ratio == 0.5
    assert rest == {"run": ["a"], "episodes": 3}
    with pytest.raises(UserError, match="unknown method"):
        judging.split_arguments({"evaluation": "l3"})
