"""Take a picture of the painting studio: ``python scripts/screenshot_studio.py image=photo.jpg output=studio.png``.

Starts the studio, drops the picture in, paints it, and takes the page as it is then, by a headless Chromium (Debian:
``apt-get install chromium``). Nothing is fetched from the network. Extra: studio.
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from rlsuite.cli import command
from rlsuite.config.compose import script_config
from rlsuite.errors import UserError, require
from rlsuite.records.files import require_writable
from scripts.studio.browser import Browser


@dataclass(frozen=True, kw_only=True)
class ScreenshotStudioConfig:
    """What is pictured.

    Attributes:
        image: the picture that is painted.
        output: the PNG.
        strokes: of the painting.
        steps: of its refinement.
        width: of the window, in pixels.
        height: of the window, in pixels.
    """

    image: str = ""
    output: str = "studio.png"
    strokes: int = 300
    steps: int = 200
    width: int = 1100
    height: int = 760

    def __post_init__(self) -> None:
        require(bool(self.image), "image= is missing; name a picture, such as image=photo.jpg")
        require(5 <= self.strokes <= 5000, f"strokes={self.strokes}: use 5 to 5000")
        require(self.steps >= 1, f"steps={self.steps}: use 1 or more")
        for name in ("width", "height"):
            require(200 <= getattr(self, name) <= 8000, f"{name}={getattr(self, name)}: use 200 to 8000")


@command(ScreenshotStudioConfig)
def main(arguments: list[str]) -> int:
    """Serve, paint, take the picture, end."""
    script = script_config(ScreenshotStudioConfig, arguments)
    require(Path(script.image).is_file(), f"image={script.image}: there is no such file")
    require_writable(Path(script.output))
    studio = Path(__file__).with_name("paint_studio.py")
    with subprocess.Popen([sys.executable, studio, "port=0"], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        said = server.stdout.readline()
        found = re.search(r"http://\S+", said)
        try:
            if found is None:
                raise UserError("the studio does not start; try: python scripts/paint_studio.py")
            take(f"{found[0]}?steps={script.steps}", script)
        finally:
            server.terminate()
    print(f"written: {script.output}")
    return 0


def take(address: str, script: ScreenshotStudioConfig) -> None:
    """Paint on the page at an address, and write its picture."""
    page = Browser(address, (script.width, script.height))
    try:
        page.wait_for("document.readyState === 'complete' && !!document.getElementById('file')")
        page.choose_file("#file", Path(script.image))
        page.wait_for("!document.getElementById('paint').disabled")
        page.run(
            f"document.getElementById('strokes').value = {script.strokes};"
            "document.getElementById('strokes').dispatchEvent(new Event('input'));"
            "document.getElementById('paint').click()"
        )
        page.wait_for("document.querySelectorAll('#files a').length === 4", 600)
        Path(script.output).write_bytes(page.picture())
    finally:
        page.close()


if __name__ == "__main__":
    sys.exit(main())
