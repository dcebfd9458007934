"""What paint_image.py leaves in its folder: the picture, its strokes, a film of how they came, previews on the way."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor

from renderers.free_strokes import FreeStrokes
from renderers.stroke_files import Painting, save_strokes
from renderers.svg import save_svg
from rlsuite.records.files import write_atomically
from rlsuite.records.video import VideoWriter

FRAMES, FRAME_RATE = 240, 30
FILM_SIDE, PREVIEW_SIDE = 1280, 512


def progress_bar(what: str) -> Progress:
    """Return a progress bar that counts `what`."""
    counted = TextColumn(f"{{task.description}} {{task.completed}}/{{task.total}} {what}")
    return Progress(counted, BarColumn(), TimeElapsedColumn(), transient=True)


def write(painting: Painting, folder: Path, *, side: int, video: str, seconds: float) -> Tensor:
    """Write all files; return the picture as it was drawn at the size it was painted, (3, H, W) in [0, 1], in bytes.

    Args:
        painting: what was painted.
        folder: where.
        side: pixels of the longer side of painting.png; 0 for that at which it was painted.
        video: mp4, gif or none.
        seconds: that the painting took: the film has fewer pictures where writing it would take longer.
    """
    longer = max(painting.height, painting.width)
    scale = side / longer if side else 1.0
    film = min(scale, FILM_SIDE / longer)
    save_strokes(painting, folder / "strokes.json")
    save_svg(painting, folder / "strokes.svg")
    drawn = as_bytes(painting.draw(scale))
    Image.fromarray(drawn).save(folder / "painting.png")
    if video == "mp4":
        with VideoWriter(folder / "painting.mp4", frames_per_second=FRAME_RATE) as film_file:
            for frame in in_time(shown_frames(painting, FRAMES, film), FRAMES, seconds):
                last = frame
                film_file.add(last)
            for _ in range(FRAME_RATE):
                film_file.add(last)
    elif video == "gif":
        pictures = in_time(shown_frames(painting, FRAMES // 3, film), FRAMES // 3, seconds)
        frames = (Image.fromarray(frame) for frame in pictures)
        next(frames).save(folder / "painting.gif", save_all=True, append_images=frames, duration=80, loop=0)
    if scale != 1.0:
        drawn = as_bytes(painting.draw())
    return torch.from_numpy(drawn).permute(2, 0, 1) / 255.0


def in_time(frames: Iterable[np.ndarray], number: int, seconds: float) -> Iterator[np.ndarray]:
    """Yield a film's `number` pictures, without some where they take longer than so many seconds; never the last."""
    began, last = time.perf_counter(), None
    for index, frame in enumerate(frames):
        last = None if time.perf_counter() - began <= seconds * (index + 1) / number else frame
        if last is None:
            yield frame
    if last is not None:
        yield last


def shown_frames(painting: Painting, number: int, scale: float) -> Iterator[np.ndarray]:
    """Yield a video's frames (H, W, 3) uint8, showing a progress bar."""
    with progress_bar("frames") as progress:
        task = progress.add_task("video", total=number)
        for frame in painting.frames(number, scale):
            yield as_bytes(frame)
            progress.advance(task)


def as_bytes(picture: Tensor) -> np.ndarray:
    """Return a picture (3, H, W) in [0, 1] as (H, W, 3) uint8."""
    return (picture.clamp(0.0, 1.0) * 255.0).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


def write_preview(painting: FreeStrokes, path: Path) -> None:
    """Write the painting as it is now, small, whole or not at all; it does not end a painting if it cannot."""
    scale = min(1.0, PREVIEW_SIDE / max(painting.height, painting.width))
    made = io.BytesIO()
    Image.fromarray(as_bytes(painting.draw(scale))).save(made, "PNG")
    with contextlib.suppress(OSError):
        write_atomically(path, made.getvalue())
