"""Look at a failure a run recorded: ``python scripts/replay_failure.py RUN_DIR/failures/NAME``.

A simulator's failure is stepped again, alone; a failed update is done again on its recorded batch. ``imports=package``
lets a recorded env.id such as package:Task-v0 import its package.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from agents.assembly import task_knowledge
from envs.failures import load_failure, replay_failure
from rlsuite.cli import run_script
from rlsuite.errors import UserError
from rlsuite.records.files import read_text
from rlsuite.records.postmortem import replay_postmortem


def main(arguments: list[str]) -> int:
    """Replay the record named on the command line and print what is non-finite, as JSON."""
    if arguments and arguments[0] in ("-h", "--help"):
        print((__doc__ or "").strip())
        return 0
    named = [argument for argument in arguments if not argument.startswith("imports=")]
    if len(named) != 1:
        raise UserError("name one record: python scripts/replay_failure.py RUN_DIR/failures/NAME")
    path = Path(named[0].removesuffix(".json").removesuffix(".safetensors").removesuffix(".*"))
    try:
        kind = json.loads(read_text(path.with_suffix(".json"))).get("kind", "environment")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: no such failure record ({error}); see the failures folder of the run") from None
    if kind == "update":
        modules = [module for argument in arguments if argument not in named for module in argument[8:].split(",")]
        print(json.dumps(replay_postmortem(path, task_knowledge, modules)))
        return 0
    failure = load_failure(path)
    replay = replay_failure(failure)
    print(f"environment {failure.env_index}, seed {failure.seed}, episode {failure.episode}, {failure.message}")
    print(json.dumps(vars(replay)))
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main))
