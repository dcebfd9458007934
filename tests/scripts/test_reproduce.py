"""reproduce.py as a user runs it: the list, its refusals, all papers, and a paper that is added."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys

import pytest
from paths import ROOT

from rlsuite.cli import run_script
from rlsuite.experiment.frame import Experiment
from rlsuite.experiment.papers import read_papers
from scripts import reproduce

TOY = '''
"""Toy (arXiv:0000.00000), small: widths pay.

Claim: the wide arm's figure is at least `bar` above the narrow one's.
"""

from dataclasses import dataclass
from pathlib import Path

from rlsuite.experiment import Claim, Result
from rlsuite.experiment.jobs import Jobs


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The experiment's numbers.

    Attributes:
        seeds: how many: 0, 1, ...
        width: of the wide arm.
        bar: wide minus narrow, at least.
    """

    seeds: int = 2
    width: int = 8
    bar: float = 5.0


DEBUG = Numbers(seeds=1, width=2)


def measure(arm: str, seed: int, folder: Path, *, width: int) -> float:
    """Return an arm's figure."""
    return seed + (width if arm == "wide" else 1.0)


def run(numbers: Numbers, jobs: Jobs) -> Result:
    """Measure, and test the claim."""
    seeds = range(numbers.seeds)
    found = jobs.grid(measure, arms=("wide", "narrow"), seeds=seeds, width=numbers.width, in_process=True)
    gains = tuple(one - other for one, other in zip(found["wide"], found["narrow"], strict=True))
    claim = Claim(statement="wide minus narrow", margin=numbers.bar, figures=gains)
    return Result(seeds=tuple(seeds), claims=(claim,), figures=found)
'''.lstrip()


def error_line(capsys):
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1, captured.err
    return captured.err


def test_without_a_paper_all_are_listed_with_their_state(capsys):
    assert run_script(reproduce.main, []) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert len(lines) == 49
    assert lines["sher"].startswith("holds (2026-")
    for name, shown in lines.items():
        found = ROOT / "docs" / "results" / f"{name}.json"
        built = (ROOT / "scripts" / "experiments" / f"{name}.py").exists()
        if found.exists():
            assert shown.startswith(json.loads(found.read_text())["verdict"])
        else:
            assert shown == ("not run" if built else "not built")


def test_bad_input_is_one_line(capsys, tmp_path):
    papers = read_papers(ROOT / "docs" / "papers.yaml")
    unbuilt = next((name for name in papers if not reproduce.is_built(name)), None)
    cases = [
        (["paper=shar"], "unknown paper 'shar'; did you mean 'sher'"),
        (["paper=nothing_like_it"], "reproduce.py lists them"),
        (["paper=sher", "sedes=3"], "paper=sher has no key 'sedes'; did you mean 'seeds'"),
        (["paper=sher", "seeds=three"], "seeds=three: use a whole number"),
        (["paper=sher", "seeds=1"], "use 2 or more"),
        (["paper=sher", "parallel=two"], "parallel=two: use a whole number"),
        (["paper=sher", "parallel=-3"], "parallel=-3: use 0"),
        (["paper=sher", "preset=paper"], "preset=paper: use debug"),
        (["paper=sher", "missing=true"], "missing=true needs paper=all"),
        (["missing=true"], "missing=true needs paper=all"),
        (["paper=all", "missing=perhaps"], "missing=perhaps: use true or false"),
        (["paper=all", "seeds=3"], "seeds= needs paper=<name>"),
        (["seeds=3"], "seeds= needs paper=<name>"),
        (["missin=true"], "did you mean 'missing'"),
        (["sher"], "is not key=value"),
        (["paper=sher", f"output={ROOT / 'docs' / 'results'}", "seeds=4"], "for the committed numbers alone"),
    ]
    for arguments, word in [*cases, *[([f"paper={unbuilt}"], "has no experiment yet")] * (unbuilt is not None)]:
        assert run_script(reproduce.main, arguments) == 2, arguments
        assert word in error_line(capsys), arguments


@pytest.mark.parametrize("name", [name for name in read_papers(ROOT / "docs/papers.yaml") if reproduce.is_built(name)])
def test_every_experiment_documents_its_numbers(name, capsys):
    experiment = reproduce.load(name, read_papers(ROOT / "docs" / "papers.yaml"))
    assert "arXiv:" + read_papers(ROOT / "docs" / "papers.yaml")[name].arxiv in experiment.about
    assert experiment.numbers({}) == experiment.committed
    assert experiment.numbers({}, debug=True) == experiment.debug != experiment.committed
    assert run_script(reproduce.main, [f"paper={name}", "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for field in dataclasses.fields(experiment.committed):
        shown = lines[: lines.index("of preset=debug:")]
        group = dataclasses.is_dataclass(getattr(experiment.committed, field.name))
        found = [line for line in shown if line.startswith(f"  {field.name}{'.' if group else '='}")]
        assert len(found) == 1 or (group and found), f"paper={name}: {field.name} is not shown"
        for line in found:
            assert len(line.split("  ")) >= 3, f"paper={name}: {line} is not explained in Attributes:"


def test_committed_numbers_are_those_of_the_result_file():
    """The four papers that stood first: docs/results was made with these numbers, whatever ran where."""
    papers = read_papers(ROOT / "docs" / "papers.yaml")
    for name in ("ace", "sher", "pombu", "painting"):
        experiment: Experiment = reproduce.load(name, papers)
        numbers = json.loads(json.dumps(dataclasses.asdict(experiment.committed)))
        found = json.loads((ROOT / "docs" / "results" / f"{name}.json").read_text())
        old = found.get("numbers") or found["figures"]["numbers"]
        for key in old.keys() - {"parallel", "runs"}:
            assert numbers[key] == old[key], (name, key)
        assert numbers.keys() - old.keys() <= {"dynamics", "learner"}, name  # what was not to be chosen then


def test_all_runs_what_there_is_and_a_failure_stops_nothing(tmp_path, monkeypatch, capfd):
    """A script stands in for the subprocess: it fails for one paper."""
    docs, experiments = tmp_path / "docs", tmp_path / "experiments"
    experiments.mkdir()
    (docs / "results").mkdir(parents=True)
    names = ("one", "two", "three", "unbuilt")
    rows = [{"name": name, "arxiv": "1234.56789", "title": "T", "room": "envs"} for name in names]
    (docs / "papers.yaml").write_text(json.dumps(rows))
    for name in names[:3]:
        (experiments / f"{name}.py").write_text("")
    done = {"verdict": "holds", "claims": [], "date": "2026-01-01", "commit": "c", "minutes": 1}
    (docs / "results" / "three.json").write_text(json.dumps(done))
    fake = tmp_path / "fake.py"
    fake.write_text("import sys; print('ran', *sys.argv[1:], flush=True); sys.exit('paper=one' in sys.argv)")
    monkeypatch.setattr(reproduce, "DOCS", docs)
    monkeypatch.setattr(reproduce, "EXPERIMENTS", experiments)
    monkeypatch.setattr(reproduce, "__file__", str(fake))
    assert run_script(reproduce.main, ["paper=all", "preset=debug", f"runs={tmp_path / 'r'}"]) == 1
    out = capfd.readouterr().out
    told = [line for line in out.splitlines() if line.startswith("ran")]
    assert told == [f"ran paper={name} preset=debug parallel=-1 runs={tmp_path / 'r'}" for name in names[:3]]
    assert out.splitlines()[-1] == "2 of 3 experiments ran; failed: one"
    (experiments / "one.py").unlink()
    assert run_script(reproduce.main, ["paper=all", "missing=true"]) == 0
    told = [line for line in capfd.readouterr().out.splitlines() if line.startswith("ran")]
    assert told == ["ran paper=two parallel=-1 runs=runs/reproduced"]


def test_a_toy_paper_is_one_file(tmp_path):
    """As docs/contributing.md says, in a copy of the tree: the file, beside its row in docs/papers.yaml."""
    tree = tmp_path / "tree"
    for name in ("rlsuite", "envs", "agents", "renderers", "scripts", "docs"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__", "pictures", "shipped"))
    with (tree / "docs" / "papers.yaml").open("a") as rows:
        rows.write('- name: toy\n  arxiv: "0000.00000"\n  title: Toy\n  room: envs\n')
    (tree / "scripts" / "experiments" / "toy.py").write_text(TOY)

    def call(*arguments):
        return subprocess.run(
            [sys.executable, str(tree / "scripts" / "reproduce.py"), *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(tree)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    assert "toy: holds" in call("paper=toy")
    found = json.loads((tree / "docs" / "results" / "toy.json").read_text())
    assert found["claims"][0]["figures"] == [7.0, 7.0]
    assert len(found["jobs"]) == 4
    assert "`toy`" in (tree / "docs" / "papers.md").read_text()
    assert "toy: does not hold here" in call("paper=toy", "preset=debug")
    assert json.loads((tree / "docs" / "results" / "toy.json").read_text()) == found
    assert (tmp_path / "runs" / "reproduced" / "toy" / "debug-result.json").exists()
