"""compare_ranks.py: the band, by hand, and (slow) two tiny runs of either side that are trained once."""

import json

import pytest

from rlsuite.cli import run_script
from scripts import compare_ranks

TINY = ["agent=ddpg", "env=InvertedPendulum", "steps=48", "seeds=2"]
TINY += ["train=['preset=debug','learning_starts=16','evaluate.episodes=2']"]


def test_the_band_is_students():
    found = compare_ranks.compared([1.0, 2.0, 3.0], [4.0, 4.0, 5.3])
    assert found["one_rank"] == {"mean": 2.0, "deviation": 1.0, "scores": [1.0, 2.0, 3.0]}
    assert found["band"] == [-0.5, 4.5]  # 2 -+ 4.303 / sqrt(3)
    assert found["inside"]
    assert not compare_ranks.compared([1.0, 2.0, 3.0], [4.0, 4.0, 5.6])["inside"]


@pytest.mark.parametrize("argument", ["ranks=1", "seeds=1", "steps=5", "agent=tdd", "env=Hoper", "train=['no.such=1']"])
def test_wrong_arguments_are_refused_in_one_line(argument, capsys):
    assert run_script(compare_ranks.main, [argument]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("error: ")


@pytest.mark.slow
def test_what_is_trained_is_not_trained_again(tmp_path, capfd):
    for _ in range(2):
        assert run_script(compare_ranks.main, [*TINY, f"folder={tmp_path}"]) in (0, 1)
        *lines, last = capfd.readouterr().out.splitlines()
        assert [line.split(":")[0] for line in lines] == [f"{r}, seed {s}" for r in ("1 rank", "2 ranks") for s in "01"]
        assert json.loads(last)["env"] == "InvertedPendulum"
    assert len(list(tmp_path.iterdir())) == 4
