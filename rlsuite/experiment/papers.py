"""The suite's papers: docs/papers.yaml lists them, docs/results/*.json holds what was found, docs/papers.md both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rlsuite.config.build import build
from rlsuite.errors import UserError, require
from rlsuite.experiment.claims import FAILS, HOLDS
from rlsuite.experiment.results import read_result

NOT_BUILT, NOT_RUN = "not built", "not run"
COMMAND = "python scripts/reproduce.py document=true"


@dataclass(frozen=True, kw_only=True)
class Paper:
    """A row of docs/papers.yaml.

    Attributes:
        name: paper= of reproduce.py, and the module's name in scripts/experiments/.
        arxiv: its number there, such as "1712.08987".
        title: its title.
        room: the folder its method lives in, or will.
    """

    name: str
    arxiv: str
    title: str
    room: str

    def __post_init__(self) -> None:
        require(self.name.isidentifier(), f"name={self.name}: it names a module; use letters, digits and _")


def read_papers(path: Path) -> dict[str, Paper]:
    """Return the papers by name, in the file's order.

    Raises:
        UserError: if the file cannot be read, a row is wrong, or two have one name.
    """
    try:
        rows: list[dict[str, Any]] = yaml.safe_load(path.read_text())
        papers = [build(Paper, row, f"{path.name}: ") for row in rows]
    except (OSError, yaml.YAMLError, TypeError, AttributeError) as error:
        raise UserError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    for name, count in Counter(paper.name for paper in papers).items():
        require(count == 1, f"{path} lists {name} {count} times")
    return {paper.name: paper for paper in papers}


def state(name: str, results: Path, *, built: bool) -> str:
    """Return a paper's state in a few words: its verdict with date and minutes, NOT_RUN, or NOT_BUILT.

    Args:
        name: the paper's.
        results: docs/results.
        built: whether there is an experiment for it.
    """
    try:
        found = read_result(results / f"{name}.json")
    except UserError as error:
        return str(error)
    if found is None:
        return NOT_RUN if built else NOT_BUILT
    took = f"{found['job_minutes']:.0f} minutes of jobs" if found["job_minutes"] else f"{found['minutes']} minutes"
    return f"{found['verdict']} ({found['date']}, {took}, commit {found['commit'][:9]})"


def document(papers: Iterable[Paper], results: Path) -> str:
    """Return docs/papers.md: a row for each paper, from docs/papers.yaml and the result files alone.

    A paper whose page docs/methods/<name>.md is there is linked to it.

    Raises:
        UserError: if a result file is damaged.
    """
    lines = [
        f"<!-- made by: {COMMAND} -->",
        "# Papers",
        "",
        "Each is reproduced small by `python scripts/reproduce.py paper=<name>`, against bars set before the first",
        "run; `paper=<name> --help` says what is run and claimed. Figures, seeds, versions and commits stand in the",
        "linked files. Where no verdict stands, nothing has been run yet.",
        "",
        "| paper | title | room | here | claims that hold | minutes |",
        "|---|---|---|---|---|---|",
    ]
    counts = Counter()
    for paper in papers:
        found = read_result(results / f"{paper.name}.json")
        cells = ["", "", ""]
        if found is not None:
            counts[found["verdict"]] += 1
            held = sum(claim["verdict"] == HOLDS for claim in found["claims"])
            minutes = found["job_minutes"] or found["minutes"]
            verdict = f"[{found['verdict']}](results/{paper.name}.json)"
            cells = [verdict, f"{held} of {len(found['claims'])}", f"{minutes:.0f}"]
        counts["papers"] += 1
        title = f"[{paper.title}](https://arxiv.org/abs/{paper.arxiv})"
        page = results.parent / "methods" / f"{paper.name}.md"
        name = f"[`{paper.name}`](methods/{page.name})" if page.is_file() else f"`{paper.name}`"
        lines.append(f"| {' | '.join([name, title, f'`{paper.room}`', *cells])} |")
    total = counts.pop("papers")
    verdicts = ", ".join(f"{counts[verdict]} {verdict}" for verdict in (HOLDS, FAILS))
    return "\n".join([*lines, "", f"Of {total} papers {sum(counts.values())} have been run: {verdicts}."]) + "\n"
