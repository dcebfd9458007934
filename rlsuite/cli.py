"""What every script shares: one-line errors with exit status 2, and a check that the right packages came in."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rlsuite.errors import UserError


def run_script(main: Callable[[list[str]], int | None], arguments: Sequence[str] | None = None) -> int:
    """Call `main` with the command line and return the exit status.

    UserError becomes its one line on stderr and status 2; a second Ctrl-C becomes status 130.
    """
    try:
        check_packages()
        return main(list(sys.argv[1:] if arguments is None else arguments)) or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def check_packages() -> None:
    """Refuse to run where another installed distribution shadows a package of ours.

    Raises:
        UserError: naming the package and where the wrong one lies.
    """
    root = Path(__file__).resolve().parents[1]
    for name in ("envs", "agents", "renderers"):
        module = importlib.import_module(name)
        found = Path(module.__file__ or "").resolve()
        if root not in found.parents:
            raise UserError(
                f"the package '{name}' came from {found.parent}, not from {root}; uninstall what put it there, "
                "or use a fresh virtual environment"
            )
