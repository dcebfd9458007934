"""Train an agent: ``python scripts/train_agent.py agent=ace env=Humanoid steps=1000000``.

``--help`` names agents, tasks and the usual keys, ``--help agent=td3`` an agent's, ``--help all`` every key. ``-m``
runs sweeps, such as ``-m seed=0,1,2 env=Hopper,Walker2d jobs=2``. ``resume RUN_DIR`` continues a run to its configured
steps; ``imports=package`` with it, where the run's environment is a package's (``env.id=package:Task-v0``): nothing is
imported because a file names it. ``resume=auto run_dir=RUN_DIR`` continues that run, or begins it where it is not there
yet. ``torchrun --nproc-per-node=2 scripts/train_agent.py ...`` trains one agent in two processes (docs/scaling.md).

This file is the door: it says what is going to run before it imports torch, which takes seconds.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path

from rlsuite.cli import command, positional
from rlsuite.errors import require
from rlsuite.records.files import claimed
from rlsuite.running.signals import GracefulStop
from rlsuite.title import EXAMPLE, default_run_dir, fitted, title, title_of_sweep, value_of


@command(answers_help=True)
def main(arguments: list[str]) -> int:
    """Run what the command line asks for; return the exit status."""
    if not arguments or "--help" in arguments or "-h" in arguments:
        return show_help([argument for argument in arguments if argument not in ("--help", "-h")])
    with GracefulStop() as stop:  # from the very start: a signal while things are set up is not lost either
        if "-m" in arguments or "--multirun" in arguments:
            arguments = [argument for argument in arguments if argument not in ("-m", "--multirun")]
            with place(arguments, Path(time.strftime("multirun/%Y%m%d-%H%M%S"))) as folder:
                print(title_of_sweep(arguments, folder), flush=True)
                from scripts.train_sweep import sweep

                return sweep(arguments, stop, folder)
        if arguments[0] == "resume":
            arguments = positional(arguments[1:], "resume")
            require(bool(value_of(arguments, "resume")), "resume: name the run, such as resume runs/NAME")
        refuse_words(arguments)
        resumed = value_of(arguments, "resume")
        new = resumed in ("", "auto")
        with place(arguments, default_run_dir(arguments)) if new else contextlib.nullcontext() as folder:
            if leads():
                print(title(arguments, folder) if folder else fitted("continuing", resumed), flush=True)
            from scripts.train_run import dispatch

            return dispatch(arguments, stop, folder)


def refuse_words(arguments: list[str]) -> None:
    """Raise UserError for what is no key=value, before a title speaks of a run that nobody has asked for."""
    for word in arguments:
        hint = f"for example: {EXAMPLE}"
        if (Path(word) / "config.yaml").exists():
            hint = f"to go on with that run: resume {word}"
        require("=" in word, f"'{word}' is not key=value; {hint}")


def place(arguments: list[str], default: Path) -> contextlib.AbstractContextManager[Path]:
    """Give the folder of a new run or sweep: what run_dir= says, or a new one of the default's name."""
    given = value_of(arguments, "run_dir")
    if given or not leads():
        return contextlib.nullcontext(Path(given or default))
    return claimed(default)


def leads() -> bool:
    """Say whether this is rank 0: torchrun's others are silent, and take the folder that rank 0 chose."""
    return os.environ.get("RANK", "0") == "0"


def show_help(arguments: list[str]) -> int:
    """Print what can be typed: in short, everything, or of what `arguments` name."""
    import agents  # noqa: F401  (they make themselves known by name)
    import envs  # noqa: F401
    from rlsuite.cli import as_started
    from rlsuite.config.help import agent_help, help_text, short_help

    if arguments == ["all"]:
        print(as_started(f"{__doc__}\n{help_text()}"))
    elif arguments:
        print(as_started(agent_help(arguments)))
    else:
        print(as_started(short_help()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
