"""What every script shares: --help, one-line errors with exit status 2, and a check that the right packages came in.

A script is a file that is typed (``python scripts/train_agent.py``) and an installed command (``rlsuite-train``).
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import io
import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rlsuite.errors import NonFiniteActionError, UserError, printable

# Arguments that name a module of the user's, which may lie in the current folder.
_NAMES_MODULE = re.compile(r"imports=|(agent|env\.id)=.*\w:\w")
OUT_OF_MEMORY = ("bad_alloc", "can't allocate", "not enough memory", "out of memory", "storage size calculation")


def command(
    keys: type | Callable[[], str] | None = None,
    *,
    more: Callable[[], str] | None = None,
    answers_help: bool = False,
) -> Callable[[Callable[[list[str]], int]], Callable[..., int]]:
    """Make a script's ``main(arguments)`` its command.

    With -h or --help it prints the script's docstring and its keys. Called without arguments it takes those of the
    command line and is run by `run_script`: what the file does when it is typed, and what an installed command calls.

    Args:
        keys: the dataclass of the script's keys, or what returns the text about them.
        more: returns what --help says below the keys.
        answers_help: whether the script reads --help itself, since its answer depends on the other arguments.
    """

    def decorate(main: Callable[[list[str]], int]) -> Callable[..., int]:
        @functools.wraps(main)
        def called(arguments: list[str] | None = None) -> int:
            if arguments is None:
                return run_script(called)
            if not answers_help and ("--help" in arguments or "-h" in arguments):
                said = [(main.__globals__["__doc__"] or "").strip(), *_about(keys), *([more()] if more else [])]
                print(as_started("\n\n".join(said)))
                return 0
            return main(arguments)

        called.keys = keys  # pyright: ignore[reportAttributeAccessIssue]  (tests try wrong values of all of them)
        return called

    return decorate


def _about(keys: type | Callable[[], str] | None) -> list[str]:
    if keys is None:
        return []
    if not isinstance(keys, type):
        return [keys()]
    from rlsuite.config.help import describe

    return ["\n".join(describe(keys))]


def as_started(text: str) -> str:
    """Return `text` with scripts called as this one was: by file, or by the names of the installed commands."""
    commands = {
        entry.module: entry.name
        for entry in importlib.metadata.entry_points(group="console_scripts")
        if entry.name.startswith("rlsuite-")
    }
    if Path(sys.argv[0]).stem not in commands.values():
        return text

    def name(found: re.Match[str]) -> str:
        return commands.get(f"scripts.{found[1].replace('/', '.')}", found[0])

    return re.sub(r"python scripts/([\w/]+)\.py", name, text)


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
        given = list(sys.argv[1:] if arguments is None else arguments)
        if any(_NAMES_MODULE.match(argument) for argument in given) and os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())  # the last place that is searched: it hides no installed module
        return main(given) or 0
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


def positional(arguments: Sequence[str], key: str) -> list[str]:
    """Return the arguments with the first one read as the value of `key` where it is no key=value and no flag.

    No key has a slash: ./a=b is a path.
    """
    word, equals, _ = arguments[0].partition("=") if arguments else ("", "", "")
    if arguments and (not equals or "/" in word) and not arguments[0].startswith("-"):
        return [f"{key}={arguments[0]}", *arguments[1:]]
    return list(arguments)


def typed(path: str | Path) -> str:
    """Return how a path is typed, as a first argument or behind key=, so that shell and script read it as it is.

    A relative one begins with ./ where it could be read as something else: a=b, -x, [x], null.
    """
    text = str(path)
    plain = re.match(r"[\w/.]", text) and "=" not in text and text != "null"
    return shlex.quote(text if plain or text.startswith("/") else f"./{text}")


def refuse(message: str) -> int:
    """Print a one-line error, those of torchrun's other ranks marked as theirs; return the exit status of bad input."""
    rank = os.environ.get("RANK", "0")
    print(f"{'' if rank == '0' else f'rank {rank}: '}error: {printable(as_started(message))}", file=sys.stderr)
    return 2


def check_packages() -> None:
    """Refuse to run where another installed distribution shadows a package of ours.

    Raises:
        UserError: naming the package and where the wrong one lies.
    """
    root = Path(__file__).resolve().parents[1]
    try:
        names = (importlib.metadata.distribution("rlsuite").read_text("top_level.txt") or "").split()
    except importlib.metadata.PackageNotFoundError:  # a checkout that is on the path, and not installed
        return
    for name in names:
        spec = importlib.util.find_spec(name)
        found = Path(spec.origin or "").resolve() if spec is not None else Path()
        # An environment may lie inside the checkout: what is installed there is not ours either.
        if root not in found.parents or "site-packages" in found.relative_to(root).parts:
            raise UserError(
                f"the package '{name}' came from {found.parent}, not from {root}; uninstall what put it there, "
                "or use a fresh virtual environment"
            )
