"""judge_searches.py: its table and page, what sweeping by counts earns, critics scored on stored transitions."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from envs.evaluation.search.spaces.code import CriticSpace
from rlsuite.errors import UserError
from rlsuite.records.pages import put_between
from scripts import judge_searches
from scripts.experiments import searched_critics, sweeping
from scripts.experiments.nas_count import SIDE, Disc, Scene
from scripts.judge_searches import MARKS, JudgeSearchesConfig, judged, table

BEGIN, END = MARKS
COSTS = {"macs": 10.0, "bytes": 40.0, "milliseconds/torch": 0.1, "seconds": 1.0}


class FakeJobs:
    """Gives every job a result without running it."""

    def __init__(self):
        self.asked = []

    def grid(self, function, *, arms, seeds, **inputs):
        self.asked.append((function.__name__, tuple(arms), inputs))
        scores = {"scores": [-8.0, -10.0], "floor": -40.0}
        if function.__name__ == "search_critics":
            critic = {"arguments": ["agent.critic.hidden_sizes=[32]"], "error": 0.5, "macs": 5.0, "bytes": 20.0}
            found = {"tau": 0.4, "critics": dict.fromkeys(("chosen", "own", "smallest"), critic)}
        elif function.__name__ == "count_and_sweep":
            found = {"scores": {"true": [10.0, 8.0], "count": [9.0, 9.0], "random": [3.0, 5.0]}, **COSTS}
        else:
            found = {**scores, **COSTS, "one_bit_macs": 4.0, "eps 0.031": [-20.0], "eps 0.063": [-30.0]}
        return {arm: (found,) * len(seeds) for arm in arms}


def test_every_use_has_a_row(monkeypatch, tmp_path):
    trained = []

    def train_all(runs, jobs):
        trained.append(dict(runs))
        return {name: tmp_path / name for name in runs}

    monkeypatch.setattr(judge_searches, "train_all", train_all)
    monkeypatch.setattr(judge_searches, "judge_run", lambda run, episodes, seed: [-9.0, -11.0])
    rows = judged(JudgeSearchesConfig(), FakeJobs())
    uses = [row["use"] for row in rows]
    assert {use: uses.count(use) for use in dict.fromkeys(uses)} == {
        "actor": 2,
        "encoder": 8,
        "critic": 3,
        "sweeping": 3,
    }
    assert [list(runs) for runs in trained] == [["teacher"], ["critic-chosen", "critic-smallest"]]
    assert trained[1]["critic-chosen"][-1] == "agent.critic.hidden_sizes=[32]"
    counts = {row["network"]: row["kept"] for row in rows if row["use"] == "sweeping"}
    assert counts == {"true counts": 1.0, "`nas_count`": 1.0, "no counts": pytest.approx(4 / 9)}
    lines = table(rows)
    assert len({line.count("|") for line in lines}) == 1
    (one,) = [line for line in lines if "`cp_nas`" in line]
    assert "-20.00 / -30.00" in one
    assert "10 (4)" in one
    json.dumps(rows, allow_nan=False)


def test_the_table_is_written_between_its_marks(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nbehind\n")
    put_between(page, MARKS, "\n| new |\n")
    put_between(page, MARKS, "\n| newer |\n")
    assert page.read_text() == f"before\n{BEGIN}\n\n| newer |\n\n{END}\nbehind\n"
    page.write_text("nothing")
    with pytest.raises(UserError, match="it has not the lines"):
        put_between(page, MARKS, "")
    text = (Path(__file__).parents[2] / JudgeSearchesConfig().page).read_text()
    assert text.count(BEGIN) == text.count(END) == 1


def test_sweeps_take_the_fullest_tiles():
    places = [(5, 5), (6, 40), (7, 41), (8, 42), (60, 60), (61, 61)]
    discs = tuple(Disc(row, column, 2.0, 0.9) for row, column in places)
    scene = Scene(np.zeros(2), discs, np.zeros((SIDE, SIDE)))
    assert sweeping.true_counts(scene).sum() == 6
    assert sweeping.true_counts(scene)[0, 2] == 3
    assert sweeping.sweep(scene, sweeping.true_counts) == 6
    assert sweeping.sweep(scene, lambda scene: np.eye(4)) == 1  # the first tile for ever

    class Exact(torch.nn.Module):
        def forward(self, pictures):
            return torch.zeros(1, 1, 32, 32).index_put_(
                (torch.tensor([0]), torch.tensor([0]), torch.tensor([3]), torch.tensor([20])), torch.tensor([300.0])
            )

    assert np.allclose(sweeping.seen_counts(Exact(), scene), np.eye(4)[0:1].T @ np.eye(4)[2:3] * 3)


def test_larger_critics_tell_targets_better_than_a_constant():
    generator = torch.Generator().manual_seed(0)
    replay = {
        "observation": torch.randn(600, 3, generator=generator),
        "action": torch.randn(600, 2, generator=generator),
    }
    replay["target"] = replay["observation"][:, 0] * replay["action"][:, 0]
    space = CriticSpace((16, 64, 16), 2, inputs=(3, 2))
    code = space.of_values({"width": 64, "depth": 2, "block": 0})
    error = searched_critics.held_out_error(space, code, replay, 300, 0)
    assert error < 0.5
    assert error == searched_critics.held_out_error(space, code, replay, 300, 0)


def test_numbers_that_mean_nothing_are_refused():
    for wrong in ({"labels": 2}, {"steps": 0}, {"size": 4}, {"teacher_steps": 10}):
        with pytest.raises(UserError, match=next(iter(wrong))):
            JudgeSearchesConfig(**wrong)
