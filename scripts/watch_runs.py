"""Watch runs in TensorBoard: ``python scripts/watch_runs.py runs=runs``; Ctrl-C ends it.

It prints the address at which the evaluation return is pinned above all other cards: by itself TensorBoard orders cards
by the alphabet. The event files are plain ones, so that ``tensorboard --logdir runs`` shows the same cards.
docs/tensorboard.md says what they are.
"""

from __future__ import annotations

import json
import sys
import time
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlsuite.cli import command
from rlsuite.config.compose import script_config
from rlsuite.errors import UserError, require
from rlsuite.records.cards import FIRST


@dataclass(frozen=True, kw_only=True)
class WatchConfig:
    """What is watched.

    Attributes:
        runs: the directory with run directories below it, or one run's.
        port: where the browser finds it on this machine; 0 takes a free one.
    """

    runs: tuple[str, ...] = ("runs",)
    port: int = 6006

    def __post_init__(self) -> None:
        require(len(self.runs) == 1, f"runs={','.join(self.runs)}: name one directory; TensorBoard looks below it")
        require(0 <= self.port < 65536, f"port={self.port}: use 0 (any free one) to 65535")


@command(WatchConfig)
def main(arguments: list[str]) -> int:
    """Serve until Ctrl-C."""
    script = script_config(WatchConfig, arguments)
    print(pinned(launch(Path(script.runs[0]), script.port)), flush=True)
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        return 0


def launch(folder: Path, port: int) -> str:
    """Start TensorBoard in threads of this process, for this machine alone; return its address.

    Raises:
        UserError: there is no such folder, or the port is in use.
    """
    require(folder.is_dir(), f"runs={folder}: no such directory; train something first, or choose another runs=")
    program: Any = __import__("tensorboard.program", fromlist=["program"])  # its import takes a second
    board = program.TensorBoard()
    board.configure(argv=[None, "--logdir", str(folder), "--port", str(port), "--host", "127.0.0.1"])
    try:
        return board.launch()
    except program.TensorBoardServerException as error:
        raise UserError(f"port={port}: {' '.join(str(error).split())}; choose another port=, or port=0") from None


def pinned(address: str) -> str:
    """Return the address of the cards with the evaluation return pinned above them."""
    cards = json.dumps([{"plugin": "scalars", "tag": FIRST}], separators=(",", ":"), allow_nan=False)
    return f"{address}?pinnedCards={urllib.parse.quote(cards)}#timeseries"


if __name__ == "__main__":
    sys.exit(main())
