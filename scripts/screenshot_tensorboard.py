"""Take pictures of TensorBoard: ``python scripts/screenshot_tensorboard.py runs=multirun/NAME output=pictures``.

Writes cards.png (the evaluation return pinned first), interval.png (the tab Custom Scalars) and hparams.png, taken by a
headless Chromium (Debian: ``apt-get install chromium``). Nothing is fetched from the network.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rlsuite.cli import command
from rlsuite.config.compose import script_config
from rlsuite.errors import UserError, require
from rlsuite.records.files import require_writable
from scripts.watch_runs import launch, pinned

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@dataclass(frozen=True, kw_only=True)
class ScreenshotConfig:
    """What is pictured.

    Attributes:
        runs: the directory with run directories below it.
        output: where the pictures go.
        width: of the window, in pixels.
        height: of the window, in pixels.
        seconds: how long a page may take to draw itself.
    """

    runs: tuple[str, ...] = ("runs",)
    output: str = "pictures"
    width: int = 1400
    height: int = 900
    seconds: float = 30.0

    def __post_init__(self) -> None:
        require(len(self.runs) == 1, f"runs={','.join(self.runs)}: name one directory; TensorBoard looks below it")
        for name in ("width", "height"):
            require(200 <= getattr(self, name) <= 8000, f"{name}={getattr(self, name)}: use 200 to 8000")
        require(0 < self.seconds <= 600, f"seconds={self.seconds}: use more than 0, up to 600")


@command(ScreenshotConfig)
def main(arguments: list[str]) -> int:
    """Serve, take the pictures, end."""
    script = script_config(ScreenshotConfig, arguments)
    browser = find_browser()
    folder = Path(script.output)
    require_writable(folder / "cards.png")
    address = launch(Path(script.runs[0]), 0)
    pages = {"cards": pinned(address), "interval": f"{address}#custom_scalars", "hparams": f"{address}#hparams"}
    for name, page in pages.items():
        take(browser, page, folder / f"{name}.png", script)
        print(folder / f"{name}.png", flush=True)
    return 0


def find_browser() -> str:
    """Return the path of a Chromium.

    Raises:
        UserError: there is none.
    """
    for name in BROWSERS:
        if found := shutil.which(name):
            return found
    raise UserError("no Chromium is installed; on Debian: apt-get install chromium")


def take(browser: str, page: str, path: Path, script: ScreenshotConfig) -> None:
    """Write a picture of a page.

    Raises:
        UserError: the browser wrote none.
    """
    path.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as profile:
        flags = ["--headless=new", "--hide-scrollbars", "--no-first-run", f"--user-data-dir={profile}"]
        flags.append("--disable-3d-apis")  # charts are then drawn by the page itself, not by a thread it does not await
        flags += ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium's sandbox refuses to be run by root
        flags += [f"--window-size={script.width},{script.height}", f"--screenshot={path.resolve()}"]
        # Time that the page believes to pass: it draws as soon as its data have come.
        flags.append(f"--virtual-time-budget={round(script.seconds * 1000)}")
        try:
            limit = 60 + 4 * script.seconds
            said = subprocess.run([browser, *flags, page], capture_output=True, text=True, timeout=limit).stderr
        except subprocess.TimeoutExpired:
            said = "it did not end"
    if not path.exists():
        raise UserError(f"{browser} took no picture of {page}: {' '.join(said.split())[-200:]}")


if __name__ == "__main__":
    sys.exit(main())
