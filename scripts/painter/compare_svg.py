"""Compare a painting's SVG with its picture: ``python scripts/painter/compare_svg.py painted/photo``.

A browser (Chromium or Chrome, headless) draws strokes.svg of a folder that paint_image.py wrote, and its screenshot is
set against painting.png. The last line printed is JSON: the mean absolute difference (of the range of a channel), and
PSNR in dB, of every folder, and their means.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from rlsuite.cli import command
from rlsuite.config.compose import script_config
from rlsuite.data.pictures import load_picture
from rlsuite.errors import UserError, require
from rlsuite.metrics.pictures import decibels
from rlsuite.records.files import require_writable
from rlsuite.records.json_text import to_json

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
_MARGIN = 200  # pixels that the window is larger than the picture: some versions count their own bars in


@dataclass(frozen=True, kw_only=True)
class CompareSvgConfig:
    """What is compared.

    Attributes:
        painting: folders that paint_image.py wrote, also without painting=.
        browser: the program; found among the usual names if empty.
        screenshot: file that the (only) screenshot is kept in; none if empty.
    """

    painting: tuple[str, ...] = ()
    browser: str = ""
    screenshot: str = ""

    def __post_init__(self) -> None:
        require(bool(self.painting), "no painting is named; write: compare_svg.py painted/photo")
        require(
            self.screenshot == "" or self.screenshot.endswith(".png"),
            f"screenshot={self.screenshot}: choose a name that ends with .png",
        )


@command(CompareSvgConfig)
def main(arguments: list[str]) -> int:
    """Draw, compare and print."""
    folders = [argument for argument in arguments if Path(argument).is_dir()]
    options = [argument for argument in arguments if argument not in folders]
    config: CompareSvgConfig = script_config(CompareSvgConfig, [*options, *(["painting=['named']"] if folders else [])])
    paintings = folders or config.painting
    require(not config.screenshot or len(paintings) == 1, "screenshot= keeps one picture; name one painting")
    found = {folder: compare(Path(folder), config) for folder in paintings}
    means = {key: round(float(np.mean([one[key] for one in found.values()])), 4) for key in ("difference", "psnr")}
    print(to_json({"paintings": found, "mean": means}))
    return 0


def compare(folder: Path, config: CompareSvgConfig) -> dict[str, float]:
    """Return `difference` and `psnr` of a folder's SVG, as the browser draws it, from its picture.

    Raises:
        UserError: if a file is missing, there is no browser, or it draws nothing.
    """
    picture_path, svg_path = folder / "painting.png", folder / "strokes.svg"
    for path in (picture_path, svg_path):
        require(path.exists(), f"{path} is missing; name a folder that paint_image.py wrote")
    painted = np.asarray(load_picture(picture_path), dtype=np.float64)
    drawn = screenshot(svg_path, painted.shape[1], painted.shape[0], find_browser(config.browser))
    if config.screenshot:
        require_writable(Path(config.screenshot), "screenshot")
        drawn.save(config.screenshot)
    error = (np.asarray(drawn, dtype=np.float64) - painted) / 255
    squared = float(np.mean(error**2))
    return {"difference": round(float(np.mean(np.abs(error))), 4), "psnr": round(decibels(squared), 2)}


def find_browser(name: str) -> str:
    """Return the browser's path.

    Raises:
        UserError: if there is none.
    """
    names = (name,) if name else BROWSERS
    paths = [path for path in map(shutil.which, names) if path]
    require(bool(paths), f"no browser: {' or '.join(names)} not found; install Chromium, or name one by browser=")
    return paths[0]


def screenshot(svg: Path, width: int, height: int, browser: str) -> Image.Image:
    """Return what the browser draws of an SVG in its own pixels, RGB of (width, height).

    Raises:
        UserError: if it fails, with its own last words.
    """
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "shot.png"
        command = [
            browser,
            "--headless",
            "--no-sandbox",  # a file of ours, and root has no sandbox
            "--disable-gpu",
            "--hide-scrollbars",
            "--force-device-scale-factor=1",
            "--force-color-profile=srgb",
            f"--user-data-dir={folder}/profile",
            f"--window-size={width + _MARGIN},{height + _MARGIN}",
            f"--screenshot={shot}",
            svg.resolve().as_uri(),
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UserError(f"browser={browser}: {error}; name another by browser=") from None
        said = done.stderr.strip().splitlines()
        require(shot.exists(), f"browser={browser}: it drew nothing ({said[-1] if said else 'it said nothing'})")
        drawn = load_picture(shot)
    require(
        drawn.width >= width and drawn.height >= height,
        f"browser={browser}: its picture has {drawn.width} x {drawn.height} pixels, fewer than the painting",
    )
    return drawn.crop((0, 0, width, height))


if __name__ == "__main__":
    sys.exit(main())
