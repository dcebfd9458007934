"""what=characters prints three tables and JSON; the plain loop it is held against does the same work."""

import json

import pytest
import torch

from agents.stroke_recognizer.extractor import Extractor, ExtractorConfig
from rlsuite.cli import run_script
from scripts import benchmark
from scripts.benchmarks import characters


def test_it_measures_strokes_teaching_and_reading(monkeypatch, capsys):
    monkeypatch.setattr(characters, "TOGETHER", 16)
    threads = torch.get_num_threads()
    arguments = ["what=characters", "rounds=1", "seconds=0.01", "num_threads=1"]
    assert run_script(benchmark.main, arguments) == 0
    torch.set_num_threads(threads)
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    ratios = {"ratio_strokes_numpy", "ratio_teaching_plain", "ratio_reading_alone"}
    assert ratios <= found.keys()
    assert all(value > 0 for value in found.values())
    assert run_script(benchmark.main, ["what=characters", "agent=ace"]) == 2
    assert "agent=ace: what=characters takes rounds, seconds and num_threads alone" in capsys.readouterr().err


@pytest.mark.parametrize("maker", [characters.ours, characters.plain])
def test_both_loops_learn(maker, monkeypatch):
    """The same extractor, and weights that move."""
    made = []

    def make(*arguments):
        made.append(Extractor(*arguments))
        return made[-1]

    monkeypatch.setattr(characters, "Extractor", make)
    monkeypatch.setattr("agents.stroke_recognizer.extraction.Extractor", make)
    batch = {
        "input": torch.rand(64, 3, 32, 32),
        "clean": torch.ones(64, 1, 32, 32),
        "label": torch.zeros(64, dtype=torch.int64),
    }
    turn = maker(batch)
    assert made[0].config == ExtractorConfig(size=32, strokes=4)
    before = made[0].head[0].weight.detach().clone()
    turn()
    assert not torch.equal(before, made[0].head[0].weight)
