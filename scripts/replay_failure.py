"""Look at a failure a run recorded: ``python scripts/replay_failure.py RUN_DIR/failures/NAME``.

A simulator's failure is stepped again, alone; a failed update is done again on its recorded batch. Of an environment of
another library, which does not show its state, what was recorded is printed. ``imports=package`` lets a recorded env.id
such as package:Task-v0 import its package; ``agent=package.module:Class`` likewise the agent of a failed update.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from agents.assembly import environment_facts
from envs.failures import load_failure, replay_failure
from rlsuite.agent_registry import trust
from rlsuite.cli import command
from rlsuite.errors import UserError
from rlsuite.records.files import read_text
from rlsuite.records.json_text import to_json
from rlsuite.records.postmortem import replay_postmortem


@command()
def main(arguments: list[str]) -> int:
    """Replay the record named on the command line and print what is non-finite, as JSON."""
    named = [argument for argument in arguments if not argument.startswith(("imports=", "agent="))]
    if len(named) != 1:
        raise UserError("name one record: python scripts/replay_failure.py RUN_DIR/failures/NAME")
    path = Path(named[0].removesuffix(".json").removesuffix(".safetensors").removesuffix(".*"))
    try:
        kind = json.loads(read_text(path.with_suffix(".json"))).get("kind", "environment")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: no such failure record ({error}); see the failures folder of the run") from None
    if kind == "update":
        modules = [module for text in values_of(arguments, "imports") for module in text.split(",")]
        for name in values_of(arguments, "agent"):
            trust(name)
        print(to_json(replay_postmortem(path, environment_facts, modules)))
        return 0
    failure = load_failure(path)
    replay = replay_failure(failure)
    print(f"environment {failure.env_index}, seed {failure.seed}, episode {failure.episode}, {failure.message}")
    if failure.seen:
        print(f"action: {failure.action.tolist()}")
    for name, value in failure.seen.items():
        print(f"{name}: {value.tolist()}")
    if failure.trace:
        print(failure.trace.rstrip())
    print(to_json(vars(replay)))
    return 0


def values_of(arguments: list[str], key: str) -> list[str]:
    """Return what stands behind key= on the command line."""
    return [argument.partition("=")[2] for argument in arguments if argument.startswith(f"{key}=")]


if __name__ == "__main__":
    sys.exit(main())
