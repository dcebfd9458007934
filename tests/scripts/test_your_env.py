"""docs/your_env.md as it is written: the file, the training, and the evaluation that names the module."""

import json
import re
import sys

from paths import ROOT

from rlsuite.cli import run_script
from scripts import evaluate_agent, train_agent

QUICK = ["preset=debug", "num_threads=1", "steps=96", "learning_starts=32", "log.every=32", "evaluate.every=48"]


def test_the_page_works_as_written(tmp_path, monkeypatch, capsys):
    page = (ROOT / "docs" / "your_env.md").read_text()
    (tmp_path / "corridor.py").write_text(re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    commands = re.findall(r"^python scripts/(\w+)\.py (.*)$", page, re.MULTILINE)
    assert [script for script, _ in commands] == ["train_agent", "evaluate_agent"]
    train = [argument for argument in commands[0][1].split() if not argument.startswith("steps=")]
    assert run_script(train_agent.main, [*train, *QUICK]) == 0
    records = [json.loads(line) for line in (tmp_path / "runs/corridor/metrics.jsonl").read_text().splitlines()]
    assert -1 <= records[-2]["reward_forward"] <= 1
    assert run_script(evaluate_agent.main, commands[1][1].split()) == 0
    assert "gymnasium:corridor:Corridor-v0" in capsys.readouterr().out
    sys.modules.pop("corridor")
