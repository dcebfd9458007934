import json

import pytest

from rlsuite.cli import run_script
from rlsuite.errors import UserError
from scripts import tune_agent
from scripts.tune_agent import Searched, read_search

SMALL = ["agent=td3", "env=InvertedPendulum", "preset=debug", "steps=300", "evaluate.every=150", "evaluate.episodes=2"]


def test_what_is_searched_is_read():
    assert read_search("agent.discount=0.9..0.99") == Searched(key="agent.discount", low=0.9, high=0.99)
    assert read_search("agent.actor_learning_rate=1e-4..1e-2 log").log
    whole = read_search("agent.batch_size=16..64")
    assert isinstance(whole.low, int)
    assert read_search("agent.batch_size=16|32").choices == ("16", "32")
    for wrong in ("agent.discount", "agent.discount=3", "a=2..1", "a=-1..1 log", "a=x..y", "a=1||2", "a=1..2 logs"):
        with pytest.raises(UserError, match=r"search=a"):
            read_search(wrong)


def test_trials_go_on_where_the_study_stopped(tmp_path, capsys):
    pytest.importorskip("optuna")
    keys = ["search=[agent.discount=0.9..0.99,agent.batch_size=16|32]", f"run_dir={tmp_path}", "num_threads=1"]
    assert run_script(tune_agent.main, [*SMALL, *keys, "device=cpu", "trials=1"]) == 0
    assert run_script(tune_agent.main, [*SMALL, *keys, "device=cpu", "trials=2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines if line.startswith("trial")] == ["trial 0", "trial 1"]
    best = json.loads(lines[-1])
    assert 0.9 <= best["agent.discount"] <= 0.99
    assert best["agent.batch_size"] in ("16", "32")
    assert (tmp_path / "trial-001" / "config.yaml").exists()
    for other in (["env=InvertedDoublePendulum"], ["search=[agent.discount=0.5..0.9]"]):
        assert run_script(tune_agent.main, [*SMALL, *keys, "device=cpu", *other]) == 2
        said = capsys.readouterr().err
        assert said == f"error: run_dir={tmp_path} holds another search; choose another run_dir=\n"


def test_wrong_words_end_in_one_line(tmp_path, capsys):
    for wrong in (["search=[]"], ["trials=0", "search=[agent.discount=0.9..1]"], ["search=[agent.discount=1..0]"]):
        assert run_script(tune_agent.main, [*SMALL, f"run_dir={tmp_path}", *wrong]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 3


@pytest.mark.parametrize(
    ("search", "said"),
    [
        ("agent.lr=1e-4..1e-2 log", "unknown key 'agent.lr'"),
        ("agent.discount=0.9..1.5", "agent.discount=1.5"),
        ("agent.batch_size=16|many", "agent.batch_size=many"),
    ],
)
def test_a_wrong_key_or_value_is_one_line_before_any_trial(search, said, tmp_path, capsys):
    assert run_script(tune_agent.main, [*SMALL, f"run_dir={tmp_path / 'tuned'}", f"search=[{search}]"]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "tuned").exists()
