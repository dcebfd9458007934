"""Paintings that wait, are painted one after the other in a thread, and are kept for whoever looks at them."""

from __future__ import annotations

import dataclasses
import itertools
import queue
import secrets
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from agents.painter.whole import Seen
from renderers.free_strokes import FreeStrokes
from renderers.photo import read_photo
from rlsuite.errors import UserError, first_line, require
from rlsuite.metrics.pictures import decibels
from scripts.paint_image import PaintConfig, require_memory, say_how, strokes_anywhere, tools
from scripts.painter.writing import write

MOST_WAITING, MOST_KEPT = 8, 20
ENDED = ("done", "stopped", "failed")


@dataclass
class Job:
    """One painting.

    Attributes:
        name: by which it is asked for; nobody can guess it.
        config: how it is painted.
        picture: (3, H, W).
        folder: its files.
        state: waiting, painting, paused, done, stopped or failed.
        said: why it failed.
        strokes: how many there are.
        psnr: dB, as the picture is looked at.
        left: seconds until it is done, as far as can be told.
        version: rises whenever there is something new to see.
        painting: as it is now.
    """

    name: str
    config: PaintConfig
    picture: Tensor
    folder: Path
    state: str = "waiting"
    said: str = ""
    strokes: int = 0
    psnr: float = 0.0
    left: float = 0.0
    version: int = 0
    painting: FreeStrokes | None = None
    going: threading.Event = field(default_factory=threading.Event)
    ending: bool = False
    idle: float = 0.0  # seconds that were paused

    def plain(self) -> dict[str, Any]:
        """Return what a page shows of it."""
        shown = {name: getattr(self, name) for name in ("name", "state", "said", "strokes", "version")}
        height, width = self.picture.shape[1:]
        return shown | {
            "psnr": round(self.psnr, 2),
            "left": round(self.left, 1),
            "height": height,
            "width": width,
            "wanted": self.config.strokes,
        }


class Studio:
    """The jobs, and the thread that paints them.

    Args:
        folder: where uploads and files are kept.
        num_threads: of torch.
    """

    def __init__(self, folder: Path, num_threads: int) -> None:
        self.folder, self.num_threads = folder, num_threads
        self.jobs: dict[str, Job] = {}
        self._waiting: queue.Queue[Job | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def begin(self, image: Path, config: PaintConfig) -> Job:
        """Read a picture and queue its painting.

        Raises:
            UserError: if it is no picture, does not fit in memory, or too many wait.
        """
        waiting = sum(job.state == "waiting" for job in self.jobs.values())
        require(waiting < MOST_WAITING, f"{waiting} paintings wait already; try again when one is done")
        picture = read_photo(image, config.long_side, enlarge=True)
        require_memory(picture, config)
        name = secrets.token_urlsafe(12)
        job = Job(name, config, picture, self.folder / name)
        job.folder.mkdir()
        job.going.set()
        for old in [each for each in self.jobs.values() if each.state in ENDED][
            : max(0, len(self.jobs) + 1 - MOST_KEPT)
        ]:
            del self.jobs[old.name]
        self.jobs[name] = job
        self._waiting.put(job)
        return job

    def pause(self, job: Job) -> None:
        """Let a painting wait where it is."""
        if job.state == "painting":
            job.going.clear()
            job.state = "paused"

    def go_on(self, job: Job) -> None:
        """Let a paused painting go on."""
        if job.state == "paused":
            job.state = "painting"
            job.going.set()

    def stop(self, job: Job) -> None:
        """End a painting with what is there."""
        job.ending = True
        if job.state == "waiting":
            job.state = "stopped"
        job.going.set()

    def close(self) -> None:
        """End everything."""
        for job in self.jobs.values():
            self.stop(job)
        self._waiting.put(None)
        self._thread.join(timeout=20)

    def _work(self) -> None:
        torch.set_num_threads(self.num_threads)
        torch.set_flush_denormal(True)
        for job in iter(self._waiting.get, None):
            if job.state != "waiting":
                continue
            job.state = "painting"
            try:
                self._paint(job)
            except UserError as error:
                job.said, job.state = str(error), "failed"
            except Exception as error:  # the studio goes on with the next picture
                job.said, job.state = first_line(error), "failed"
            job.version += 1

    def _paint(self, job: Job) -> None:
        began = time.perf_counter()

        def clock() -> float:
            return time.perf_counter() - job.idle

        def report(seen: Seen) -> None:
            job.strokes, job.psnr = seen.strokes, decibels(seen.mse)
            job.left = (clock() - began) * (1.0 - seen.share) / max(seen.share, 1e-3)
            job.painting = seen.painting()
            job.version += 1
            if not job.going.is_set():
                paused = time.perf_counter()
                job.going.wait()
                job.idle += time.perf_counter() - paused
            if job.ending:
                raise KeyboardInterrupt

        painter, brush, limits = tools(job.picture, job.config)
        painting = strokes_anywhere(
            job.picture, job.config, painter, brush, limits, report=report, clock=clock, began=began
        )
        say_how(painting, job.config)
        drawn = write(painting, job.folder, side=0, video="mp4", seconds=clock() - began)
        job.painting, job.strokes, job.left = painting, len(painting), 0.0
        job.psnr = decibels(float((drawn - job.picture).square().mean()))
        job.state = "stopped" if job.ending else "done"


def first_strokes(painting: FreeStrokes, number: int | None) -> FreeStrokes:
    """Return a painting of the first so many strokes; None: all."""
    if number is None:
        return painting
    kept = max(0, min(number, len(painting)))
    return dataclasses.replace(painting, strokes=painting.strokes[:kept], kinds=painting.kinds[:kept])


def options_from(plain: dict[str, Any]) -> dict[str, Any]:
    """Return the options that a page may set, whatever else it sends.

    Raises:
        UserError: for others.
    """
    known = {"strokes", "seconds", "refine_steps", "brush", "canvas", "palette", "opaque", "long_side", "psnr"}
    unknown = sorted(set(plain) - known)
    require(not unknown, f"unknown option {', '.join(itertools.islice(map(repr, unknown), 3))}")
    palette = str(plain.get("palette", ""))
    require(palette in ("", "0") or palette.isdigit(), f"palette={palette[:20]}: use a number of colours here")
    long_side = plain.get("long_side", 512)
    require(
        isinstance(long_side, int) and 16 <= long_side <= 1024, f"long_side={str(long_side)[:20]}: use 16 to 1024 here"
    )
    return {**plain, "palette": "" if palette == "0" else palette}
