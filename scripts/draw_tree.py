"""Write the tree into docs/tour.md, a line a file, from the files' own first lines: ``python scripts/draw_tree.py``.

The line of a Python file is the first of its docstring, of a folder that of its __init__.py.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

from rlsuite.cli import command
from rlsuite.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
FLOORS = ("rlsuite", "renderers", "envs", "agents", "scripts")
BEGIN, END = "<!-- the tree, by scripts/draw_tree.py -->", "<!-- end of the tree -->"
WIDTH = 120


@command()
def main(arguments: list[str]) -> int:
    """Write docs/tour.md anew between its two marks."""
    path = ROOT / "docs" / "tour.md"
    path.write_text(with_tree(path.read_text()))
    print(f"wrote {path}")
    return 0


def with_tree(text: str) -> str:
    """Return the tour's text with the tree of today between its marks.

    Raises:
        UserError: if a mark is missing.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UserError(f"docs/tour.md has lost a mark; put '{BEGIN}' and '{END}' around where the tree stands")
    return f"{before}{BEGIN}\n\n```\n{tree()}\n```\n\n{END}{after}"


def tree() -> str:
    """Return all folders and Python files of the five floors, each with what it says of itself."""
    lines: list[str] = []
    for floor in FLOORS:
        draw(ROOT / floor, 0, lines)
    return "\n".join(lines)


def draw(folder: Path, depth: int, lines: list[str]) -> None:
    """Append a folder's line, its files' and its folders'."""
    parts = sorted(path for path in folder.iterdir() if path.name not in ("__pycache__", "__init__.py"))
    files = [path for path in parts if path.suffix == ".py"]
    folders = [path for path in parts if path.is_dir() and any(path.rglob("*.py"))]
    if not files and not folders:
        return
    lines.append(entry(f"{folder.name}/", first_line(folder / "__init__.py"), depth))
    lines.extend(entry(path.name, first_line(path), depth + 1) for path in files)
    for inner in folders:
        draw(inner, depth + 1, lines)


def entry(name: str, about: str, depth: int) -> str:
    """Return one line, cut at WIDTH."""
    start = f"{'  ' * depth}{name}".ljust(30)
    line = f"{start} {about}".rstrip()
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 2].rsplit(' ', 1)[0].rstrip(',:;')} …"


def first_line(path: Path) -> str:
    """Return the first line of a file's docstring, up to its command if it names one."""
    if not path.exists():
        return ""
    text = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n")[0]
    return text.partition(": ``")[0].rstrip(".")


if __name__ == "__main__":
    sys.exit(main())
