"""evaluate_agent.py evaluation=[...]: a tiny run is judged, its file comes back, and wrong input is one line."""

import importlib.util
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
    assert report["notes"][0] == "before: the agent's own layers, copied exactly."
    assert all(list((judged / row).glob("events.out.tfevents.*")) for row in report["rows"])  # TensorBoard


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


def test_what_a_vote_taught_is_said_and_the_vote_stands_beside_it(tmp_path, capsys):
    small = ["agent=ace", "env=InvertedPendulum", "preset=debug", "steps=200", "device=cpu", "num_threads=1"]
    assert train_agent.main([*small, f"run_dir={tmp_path / 'run'}"]) == 0
    few = ["episodes=2", "num_threads=1", "states=64", "pams.teach.fit.steps=2", "pams.calibration=1"]
    assert evaluate_agent.main([f"run={tmp_path / 'run'}", "evaluation=quantization/pams", *few]) == 0
    report = told(capsys)
    said = "before: the first actor, which the vote of all actors taught; agent: what the agent itself earns."
    assert report["notes"][0] == said
    assert list(report["rows"]) == ["before", "control", "after", "agent"]
    assert "bytes" not in report["rows"]["agent"]
    assert len(report["rows"]["agent"]["scores"]) == 2


def test_the_control_learns_as_often_as_the_policy(run, monkeypatch):
    taught = []
    monkeypatch.setattr(judging, "measure_latency", lambda *_: {})
    monkeypatch.setattr(judging, "teach", lambda subject, teaching, seed: taught.append((teaching.fit.steps, seed)))
    arguments = ["evaluation=[pruning/l1,random]", "random.teach.fit.steps=7", "random.ratio=0.5", *FEW]
    assert evaluate_agent.main([f"run={run}", *arguments]) == 0
    assert [steps for steps, _ in taught] == [20, 7]
    assert taught[0][1] != taught[1][1]


def test_one_episode_has_no_interval_and_its_last_line_is_json(run, monkeypatch, capsys):
    monkeypatch.setattr(judging, "measure_latency", lambda *_: {})
    assert evaluate_agent.main([f"run={run}", "evaluation=pruning/l1", *FEW[1:], "episodes=1"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1], parse_constant=pytest.fail)
    assert [row["interval"] for row in found["rows"].values()] == [[None, None]] * 3


def test_a_policy_with_goals_is_judged_on_what_it_reads(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(judging, "measure_latency", lambda *_: {})
    few = ["num_threads=1", "states=64", "l1.teach.fit.steps=2", "l1.teach.rounds=1"]
    assert evaluate_agent.main(["pretrained=FetchReach-sher", "evaluation=pruning/l1", "episodes=2", *few]) == 0
    report = told(capsys)
    assert report["notes"][0] == "before: the agent's own layers, copied exactly."
    assert report["rows"]["before"]["score"] > report["floor"] + 20  # it reaches; random actions do not
    path = next(tmp_path.rglob("policy.safetensors"))
    assert evaluate_agent.main([f"run={path}", "episodes=2", "num_threads=1"]) == 0
    assert told(capsys)["mean"] == report["rows"]["after"]["score"]
    again = ["evaluation=random", "random.teach.fit.steps=1", "episodes=2", *few[:2]]
    assert evaluate_agent.main([f"run={path}", *again]) == 0
    assert told(capsys)["rows"]["before"]["score"] == report["rows"]["after"]["score"]


WRONG = {
    "unknown name": (["evaluation=pruning/l2"], "unknown method 'pruning/l2'; did you mean 'pruning/l1'"),
    "unknown number": (["evaluation=pruning/l1", "l1.rato=0.3"], "unknown key 'l1.rato'; did you mean 'l1.ratio'"),
    "ratio": (["evaluation=pruning/l1", "l1.ratio=1"], "ratio=1: use 0 or more, and less than 1"),
    "bits": (["evaluation=quantization/pams", "pams.bits=0"], "bits=0: use 2 to 16, or 32 for floats"),
    "number misspelled": (["evaluation=quantization/pams", "pams.bitts=4"], "'pams.bitts'; did you mean 'pams.bits'"),
    "name misspelled": (["evaluation=quantization/pamz"], "'quantization/pamz'; did you mean 'quantization/pams'"),
    "order": (["evaluation=[quantization/pams,pruning/l1]"], "prune first, as in evaluation=[pruning/l1,quantization/"),
    "order of pictures'": (["evaluation=[quantization/pams,pruning/hrank]"], "it has no feature maps; use pruning/l1"),
    "rank's ratio": (["evaluation=pruning/hrank", "hrank.ratio=1"], "ratio=1: use 0 or more, and less than 1"),
    "light on states": (["evaluation=attacks/harmonic"], "it changes the light in pictures; use attacks/pgd"),
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


def test_without_onnxruntime_the_extra_is_named(run, monkeypatch, capsys, tmp_path):
    assert judging.lacking() == ()
    monkeypatch.setattr(judging, "find_spec", lambda name: None)
    assert "pip install 'rlsuite[export]'" in judging.lacking()[0]
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None if name.startswith("onnx") else find(name))
    arguments = ["evaluation=quantization/brelu", f"output={tmp_path / 'int8.onnx'}"]
    assert run_script(evaluate_agent.main, [f"run={run}", *arguments]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "output= needs onnx, onnxruntime, not installed here" in line
    assert "[export]" in line


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
