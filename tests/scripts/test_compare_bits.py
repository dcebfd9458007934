"""compare_bits.py: its rows are evaluate_agent.py's, its table is its file's, and wrong input is one line."""

import json
from pathlib import Path

import pytest

from rlsuite.cli import run_script
from rlsuite.statistics.means import mean_interval
from scripts import compare_bits, evaluate_agent, judging, train_agent
from scripts.compare_bits import MARKS

ROOT = Path(__file__).resolve().parents[2]
FEW = ["episodes=2", "num_threads=1", "states=300"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bits") / "run"
    small = ["steps=600", "agent.actor.hidden_sizes=[16,16]", "agent.critic.hidden_sizes=[16,16]", "num_threads=1"]
    assert (
        train_agent.main(["agent=td3", "env=Reacher", "preset=debug", "device=cpu", f"run_dir={folder}", *small]) == 0
    )
    return folder


def test_rows_are_what_evaluate_agent_gives(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        judging, "measure_latency", lambda module, example: {"milliseconds/torch": 0.5}
    )  # exports take long
    file = tmp_path / "bits.json"
    assert compare_bits.main([f"runs=[{run}]", "bits=[2]", "steps=5", f"output={file}", *FEW]) == 0
    printed = capsys.readouterr().out
    found = json.loads(file.read_text())
    assert json.loads(printed.splitlines()[-1]) == found
    (policy,) = found["policies"]
    assert list(policy["rows"]) == ["before", "control", *policy["ways"]]
    assert [way[:2] for way in policy["ways"].values()] == [[2, 2], [2, 4]]
    for name, (_, _, arguments) in policy["ways"].items():
        capsys.readouterr()
        assert evaluate_agent.main([f"run={run}", *arguments, *FEW]) == 0
        alone = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
        for key in ("scores", "kept", "bytes", "bit_operations"):
            assert policy["rows"][name][key] == alone["after"][key]
            assert policy["rows"]["before"][key] == alone["before"][key]
    assert compare_bits.main([f"table={file}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "\n".join(lines) in printed
    page = tmp_path / "page.md"
    page.write_text(f"# Page\n{MARKS[0]}\nold\n{MARKS[1]}\nrest\n")
    for _ in range(2):
        assert compare_bits.main([f"table={file}", f"page={page}"]) == 0
    assert page.read_text() == "\n".join(["# Page", MARKS[0], *lines, MARKS[1], "rest", ""])
    page.write_text("# Page\n")
    assert run_script(compare_bits.main, [f"table={file}", f"page={page}"]) == 2
    assert "it has not the lines" in capsys.readouterr().err
    before = policy["rows"]["before"]
    low, high, _ = mean_interval(before["scores"])
    assert f"| Reacher | 32 x 32 | as it was | {before['score']:,.0f} [{low:,.0f}, {high:,.0f}] | 1.000 |" in lines[2]


def test_other_libraries_stand_beside(run, capsys, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(judging, "measure_latency", lambda module, example: {"milliseconds/torch": 0.5})
    assert compare_bits.main([f"runs=[{run}]", "bits=[]", "steps=1", "peers=true", *FEW]) == 0
    (policy,) = json.loads(capsys.readouterr().out.splitlines()[-1])["policies"]
    row = policy["rows"]["onnxruntime, static int8"]
    assert row["kept"] == pytest.approx(1.0, abs=0.5)  # nothing was learned by either
    assert row["bytes"] > 0 < row["milliseconds/onnxruntime"]


def test_the_page_has_the_table_of_its_file():
    """docs/evaluation.md is written by ``compare_bits.py table=docs/results/bits.json page=docs/evaluation.md``."""
    text, file = (ROOT / "docs/evaluation.md").read_text(), ROOT / "docs/results/bits.json"
    between = text.partition(MARKS[0])[2].partition(MARKS[1])
    assert between[1]
    if not file.exists():
        pytest.skip("it has not been made yet")
    assert between[0].strip() == compare_bits.table(compare_bits.read(file))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "runs= or table= is missing"),
        (["runs=[a]", "table=b"], "runs= or table= is missing"),
        (["runs=[a]", "bits=[5]"], "bits=5: use some of [1, 2, 3, 4, 8]"),
        (["runs=[a]", "steps=0"], "steps=0: use 1 or more"),
        (["runs=[a]", "seed=-1"], "seed=-1: use 0 or more"),
        (["table=none.json"], "none.json"),
    ],
)
def test_wrong_input_is_one_line(arguments, line, capsys):
    assert run_script(compare_bits.main, arguments) == 2
    (found,) = capsys.readouterr().err.strip().splitlines()
    assert line in found
