"""Paint in a browser: ``python scripts/paint_studio.py``, then open the address that is printed.

Drop a picture and watch it painted stroke by stroke; choose strokes, seconds, brush, palette and canvas; paint with the
pointer where detail matters; pause, stop early, go back to any stroke; take PNG, SVG, JSON and film with you. It serves
this machine alone (127.0.0.1), needs no network and keeps nothing when it ends. Extra: studio.
"""

from __future__ import annotations

import socket
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rlsuite.cli import command
from rlsuite.config.compose import script_config
from rlsuite.errors import UserError, require, require_threads
from rlsuite.extras import require_extras
from rlsuite.running.threads import available_threads


@dataclass(frozen=True, kw_only=True)
class StudioConfig:
    """Where it is served.

    Attributes:
        port: of 127.0.0.1; 0 for any that is free.
        num_threads: of torch; 0 takes all cores.
    """

    port: int = 8420
    num_threads: int = 0

    def __post_init__(self) -> None:
        require(0 <= self.port < 65536, f"port={self.port}: use 0 (any) to 65535")
        require_threads(self.num_threads)


@command(StudioConfig)
def main(arguments: list[str]) -> int:
    """Serve until Ctrl-C."""
    config = script_config(StudioConfig, arguments)
    require_extras("paint_studio.py", "starlette", "uvicorn")
    import uvicorn

    from scripts.studio.jobs import Studio
    from scripts.studio.server import make_app

    with socket.socket() as listener, tempfile.TemporaryDirectory(prefix="rlsuite-studio-") as folder:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", config.port))
        except OSError as error:
            raise UserError(f"port={config.port}: {error.strerror}; use another port=, or 0 for any") from None
        studio = Studio(Path(folder), config.num_threads or available_threads())
        print(f"the studio is at http://127.0.0.1:{listener.getsockname()[1]}/ (Ctrl-C ends it)", flush=True)
        server = uvicorn.Server(uvicorn.Config(make_app(studio), log_level="warning"))
        server.run(sockets=[listener])
        studio.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
