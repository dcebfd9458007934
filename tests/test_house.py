"""The house's rules, read from the code itself: which way imports run, how long a file is, what the guide promises."""

import ast
import re
from pathlib import Path

import pytest

from scripts.draw_tree import with_tree

ROOT = Path(__file__).resolve().parents[1]
FLOORS = ("rlsuite", "renderers", "envs", "agents", "scripts")  # each may import what stands before it
MODULE_PATH = re.compile(rf"^({'|'.join(FLOORS)})(\.\w+)+(:\w+)?$")
LONGEST_FILE = 400


def python_files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Return the modules a file imports, wherever in it, and those it names by strings such as "envs.painting:Task"."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found.add(node.module or "")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and MODULE_PATH.match(node.value):
            found.add(node.value)
    return found


@pytest.mark.parametrize("floor", FLOORS)
def test_imports_run_one_way(floor):
    above = FLOORS[FLOORS.index(floor) + 1 :]
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in python_files(floor)
        for module in imported(path)
        if module.split(".")[0] in above
    ]
    assert not wrong


def test_the_reader_of_imports_sees_every_kind(tmp_path):
    source = (
        'import envs.task\ndef f():\n    from agents import ace\n    return "renderers.soft:draw", "scripts and more"\n'
    )
    (tmp_path / "sample.py").write_text(source)
    assert imported(tmp_path / "sample.py") == {"envs.task", "agents", "renderers.soft:draw"}


@pytest.mark.parametrize("floor", FLOORS)
def test_a_file_holds_one_idea(floor):
    long = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in python_files(floor)}
    assert not {path: lines for path, lines in long.items() if lines > LONGEST_FILE}


def test_the_project_speaks_of_papers_not_of_cards():
    # A virtual environment may lie in the checkout: its files are others', in whatever encoding.
    texts = [
        path
        for path in ROOT.rglob("*")
        if path.suffix in (".py", ".md", ".yaml")
        and not any(part[0] == "." or part == "site-packages" for part in path.relative_to(ROOT).parts)
    ]
    word = re.compile(r"\b[Tt]he card\b|\b[Cc]ard's\b|\(card\b")
    found = {
        str(path.relative_to(ROOT))
        for path in texts
        if path != Path(__file__).resolve()
        and "runs" not in path.relative_to(ROOT).parts[:1]
        and word.search(path.read_text())
    }
    assert not found


def test_the_tour_shows_the_tree_of_today():
    text = (ROOT / "docs" / "tour.md").read_text()
    assert with_tree(text) == text, "run: python scripts/draw_tree.py"
    for path in re.findall(
        r"`((?:rlsuite|renderers|envs|agents|scripts)/[\w/]+\.py)`", text.split("## Where files went")[0]
    ):
        assert (ROOT / path).exists(), path


def test_what_scripts_say_in_json_is_json():
    """NaN is no JSON: scripts say it with to_json, which writes null, or refuse it."""
    loose = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in python_files("scripts")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "json.dumps"
        and "allow_nan=False" not in ast.unparse(node)
    ]
    assert not loose


def test_onnx_is_exported_quietly_everywhere():
    """Each export would print a dozen lines about packages that torch could use."""

    def exports(tree):
        calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
        return [call for call in calls if ast.unparse(call.func) == "torch.onnx.export"]

    for path in (path for floor in FLOORS for path in python_files(floor)):
        tree = ast.parse(path.read_text())
        quiet = [
            call
            for node in ast.walk(tree)
            if isinstance(node, ast.With) and ast.unparse(node.items[0].context_expr) == "quiet_onnx_exporter()"
            for call in exports(node)
        ]
        assert len(quiet) == len(exports(tree)), f"{path.relative_to(ROOT)}: export in `with quiet_onnx_exporter():`"
