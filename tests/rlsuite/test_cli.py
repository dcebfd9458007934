"""What scripts share: help, the command line, the name of the next command, and which packages came in."""

import importlib.metadata
import sys
import tomllib
from pathlib import Path

import pytest

import rlsuite.cli
from rlsuite.cli import as_started, command, run_script
from rlsuite.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]


@pytest.fixture
def installed(monkeypatch):
    """The commands of pyproject.toml, as an installed wheel has them."""
    points = [importlib.metadata.EntryPoint(name, value, "console_scripts") for name, value in COMMANDS.items()]
    points.append(importlib.metadata.EntryPoint("other", "scripts.train_agent:main", "console_scripts"))
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: points)


def test_every_script_is_an_installed_command():
    files = [path for path in (ROOT / "scripts").rglob("*.py") if "__main__" in path.read_text()]
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files}
    modules = {name for name in modules if not name.startswith(("scripts.examples", "scripts.benchmarks"))}
    assert {value.removesuffix(":main") for value in COMMANDS.values()} == modules
    assert all(name.startswith("rlsuite-") for name in COMMANDS)


def test_messages_name_the_next_command_as_this_one_was_started(installed, monkeypatch):
    text = "next: python scripts/evaluate_agent.py run=a; python scripts/painter/train_renderer.py; python scripts/x.py"
    for typed in ("scripts/train_agent.py", "/usr/bin/pytest", "other"):
        monkeypatch.setattr(sys, "argv", [typed])
        assert as_started(text) == text
    for started in ("/venv/bin/rlsuite-train", "rlsuite-paint.exe"):
        monkeypatch.setattr(sys, "argv", [started])
        assert as_started(text) == "next: rlsuite-evaluate run=a; rlsuite-train-renderer; python scripts/x.py"


def test_a_command_takes_its_arguments_or_those_of_the_command_line(monkeypatch, capsys):
    @command()
    def main(arguments: list[str]) -> int:
        if arguments == ["bad"]:
            raise UserError("use good; see python scripts/train_agent.py --help")
        return len(arguments)

    assert main(["a", "b"]) == 2
    monkeypatch.setattr(sys, "argv", ["x", "a", "b", "c"])
    assert main() == 3
    with pytest.raises(UserError):
        main(["bad"])
    monkeypatch.setattr(sys, "argv", ["x", "bad"])
    assert main() == 2
    assert capsys.readouterr().err == "error: use good; see python scripts/train_agent.py --help\n"
    assert main(["a", "-h"]) == 0
    assert capsys.readouterr().out.startswith("What scripts share")


def test_a_package_of_another_distribution_is_named(monkeypatch, capsys):
    class Distribution:
        def read_text(self, name):
            return "rlsuite\nnumpy\n"

    monkeypatch.setattr(rlsuite.cli.importlib.metadata, "distribution", lambda name: Distribution())
    assert run_script(lambda arguments: 0, []) == 2
    assert capsys.readouterr().err.startswith("error: the package 'numpy' came from ")
