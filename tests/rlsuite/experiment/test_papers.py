"""docs/papers.yaml, and docs/papers.md made from it and the result files."""

import json
import re

import pytest
from conftest import ROOT

from rlsuite.errors import UserError
from rlsuite.experiment import HOLDS
from rlsuite.experiment.papers import COMMAND, NOT_BUILT, NOT_RUN, document, read_papers, state

DOCS = ROOT / "docs"
PAGES = ROOT.parent / "shared" / "papers"  # a page a paper, where there are


def row(name, **changes):
    return {"name": name, "arxiv": "1234.56789", "title": "T", "room": "envs", **changes}


def test_the_suite_has_49_papers():
    papers = read_papers(DOCS / "papers.yaml")
    assert len(papers) == 49
    assert len({paper.arxiv for paper in papers.values()}) == 49
    for paper in papers.values():
        assert re.fullmatch(r"\d{4}\.\d{5}", paper.arxiv), paper
        assert paper.name == paper.name.lower()
        assert paper.room.split("/")[0] in ("rlsuite", "renderers", "envs", "agents"), paper
        assert paper.title.strip() == paper.title != ""


def test_every_experiment_has_its_row():
    """A module of scripts/experiments/ that runs something is a paper's, and the others are what several share."""
    papers = read_papers(DOCS / "papers.yaml")
    for path in (ROOT / "scripts" / "experiments").glob("*.py"):
        if re.search(r"^def run\(", path.read_text(), re.MULTILINE):
            assert path.stem in papers


def test_the_table_of_papers_is_not_stale():
    made = document(read_papers(DOCS / "papers.yaml").values(), DOCS / "results")
    assert (DOCS / "papers.md").read_text() == made, f"docs/papers.md is stale: {COMMAND}"


def test_a_row_shows_what_was_found(tmp_path):
    listed = tmp_path / "papers.yaml"
    listed.write_text(json.dumps([row("good"), row("other", title="U", room="agents")]))
    claims = [{"verdict": HOLDS}, {"verdict": "no"}]
    result = {"verdict": HOLDS, "claims": claims, "date": "2026-01-02", "commit": "0123456789abc", "minutes": 4.4}
    (tmp_path / "good.json").write_text(json.dumps(result))
    text = document(read_papers(listed).values(), tmp_path)
    good, other = (line for line in text.splitlines() if line.startswith("| `"))
    assert good == (
        "| `good` | [T](https://arxiv.org/abs/1234.56789) | `envs` | [holds](results/good.json) | 1 of 2 | 4 |"
    )
    assert other == "| `other` | [U](https://arxiv.org/abs/1234.56789) | `agents` |  |  |  |"
    assert text.endswith("Of 2 papers 1 have been run: 1 holds, 0 does not hold here.\n")
    assert state("good", tmp_path, built=True) == "holds (2026-01-02, 4.4 minutes, commit 012345678)"
    (tmp_path / "good.json").write_text(json.dumps(result | {"jobs": {"a": {"minutes": 60}, "b": {"minutes": 5}}}))
    assert state("good", tmp_path, built=True) == "holds (2026-01-02, 65 minutes of jobs, commit 012345678)"
    assert (state("other", tmp_path, built=True), state("other", tmp_path, built=False)) == (NOT_RUN, NOT_BUILT)
    (tmp_path / "good.json").write_text("{")
    assert state("good", tmp_path, built=True).endswith("good.json is damaged; run it again")
    with pytest.raises(UserError, match="damaged"):
        document(read_papers(listed).values(), tmp_path)


def test_a_wrong_list_is_one_line(tmp_path):
    listed = tmp_path / "papers.yaml"
    for rows, word in (
        ([row("a"), row("a")], "lists a 2 times"),
        ([row("a", rooom="x")], "did you mean"),
        ([row("a", arxiv=1234.5)], "use a word"),
        ([row("a-b")], "use letters, digits"),
        ("text", "cannot be read"),
        ([[1]], "cannot be read"),
        (None, "cannot be read"),
    ):
        listed.write_text(json.dumps(rows))
        with pytest.raises(UserError, match=word) as refused:
            read_papers(listed)
        assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match="cannot be read"):
        read_papers(tmp_path / "absent.yaml")


@pytest.mark.skipif(not PAGES.is_dir(), reason="the papers' pages are not beside the tree")
def test_the_list_is_that_of_the_pages():
    pages = {path.name[:10] for path in PAGES.glob("[0-9]*.md")}
    assert {paper.arxiv for paper in read_papers(DOCS / "papers.yaml").values()} <= pages
