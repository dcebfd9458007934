"""What every script shares: one-line errors with exit status 2, and a check that the right packages came in."""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rlsuite.errors import NonFiniteActionError, UserError, printable

OUT_OF_MEMORY = ("bad_alloc", "can't allocate", "not enough memory", "out of memory", "storage size calculation")


def run_script(main: Callable[[list[str]], int | None], arguments: Sequence[str] | None = None) -> int:
    """Call `main` with the command line and return the exit status.

    UserError, and memory that does not suffice, become one line on stderr and status 2; a second Ctrl-C becomes
    status 130.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file's name need be no text in any encoding
    try:
        check_packages()
        return main(list(sys.argv[1:] if arguments is None else arguments)) or 0
    except (UserError, NonFiniteActionError) as error:
        return refuse(str(error))
    except BrokenPipeError:  # whoever read our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (MemoryError, RuntimeError, ValueError) as error:
        text = " ".join(str(error).split())
        if isinstance(error, MemoryError) or any(sign in text.lower() for sign in OUT_OF_MEMORY):
            return refuse(f"out of memory ({text[:160]}); use smaller sizes: num_envs, agent.batch_size, hidden_sizes")
        raise
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def refuse(message: str) -> int:
    """Print a one-line error; return the exit status of bad input."""
    print(f"error: {printable(message)}", file=sys.stderr)
    return 2


def check_packages() -> None:
    """Refuse to run where another installed distribution shadows a package of ours.

    Raises:
        UserError: naming the package and where the wrong one lies.
    """
    root = Path(__file__).resolve().parents[1]
    for name in ("envs", "agents", "renderers", "scripts"):
        module = importlib.import_module(name)
        found = Path(module.__file__ or "").resolve()
        if root not in found.parents:
            raise UserError(
                f"the package '{name}' came from {found.parent}, not from {root}; uninstall what put it there, "
                "or use a fresh virtual environment"
            )
