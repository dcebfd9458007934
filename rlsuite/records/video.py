"""Videos streamed to disk frame by frame: memory does not grow with their length."""

from __future__ import annotations

import os
import time
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import numpy as np

from rlsuite.errors import UserError
from rlsuite.records.sound import Sound

SLOWEST_PICTURE_S = 0.2  # where a processor does the work of a graphics card, clips would hold a training up


class VideoWriter:
    """Writes an mp4 (H.264). A context manager; the file has its name once it is closed.

    Args:
        path: the file; its directory is made if missing.
        frames_per_second: of playback, above 0; a fraction where it has one, such as 0.5 or 29.97.
        sound: a clip whose sound is heard beside the pictures, as far as they reach; None for none.

    Raises:
        UserError: if the file cannot be written, or a frame differs in size from the first.
    """

    def __init__(self, path: Path, *, frames_per_second: float | Fraction, sound: Path | None = None) -> None:
        self._unfinished = path.with_name(f".{os.getpid()}-{path.name}")
        try:
            if path.is_dir():
                raise IsADirectoryError("it is a folder")
            path.parent.mkdir(parents=True, exist_ok=True)
            self._container = av.open(f"file:{self._unfinished}", mode="w")  # a name with a colon is no protocol
        except (OSError, ValueError) as error:
            raise UserError(f"cannot write video {path} ({error}); choose another output=, such as film.mp4") from None
        self._rate, self._path = Fraction(frames_per_second).limit_denominator(1001), path
        self._size: tuple[int, ...] = ()
        self._stream: av.VideoStream | None = None
        self._sound_of, self._sound, self._frames = sound, None, 0

    def add(self, frame: np.ndarray) -> None:
        """Append a frame (H, W, 3) uint8; odd sizes lose a row or column, which H.264 asks for."""
        frame = np.ascontiguousarray(frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2])
        self._size = self._size or frame.shape
        if frame.shape != self._size or not frame.size:
            raise UserError(f"video {self._path}: a picture of {frame.shape[:2]} after {self._size[:2]}; keep one size")
        if self._stream is None:
            self._stream = self._container.add_stream("libx264", rate=self._rate)
            self._stream.height, self._stream.width = frame.shape[:2]
            self._stream.pix_fmt = "yuv420p"
            if self._sound_of is not None:
                self._sound = Sound(self._sound_of, self._container)
        self._write(av.VideoFrame.from_ndarray(frame, format="rgb24"))
        self._frames += 1
        if self._sound is not None:
            self._sound.write_until(float(self._frames / self._rate))

    def _write(self, frame: av.VideoFrame | None) -> None:
        """Encode a frame, or what is left where there is none; the file is opened with the first."""
        assert self._stream is not None
        try:
            self._container.mux(self._stream.encode(frame))
        except OSError as error:
            self._stream = None  # nothing more is written
            raise UserError(f"cannot write video {self._path} ({error.strerror}); choose another output=") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._stream is not None:  # what is there is kept, also of a film that was stopped
            self._write(None)
        self._container.close()
        if self._unfinished.exists():
            self._unfinished.replace(self._path)
        if self._sound is not None:
            self._sound.close()


def why_no_clip(env: Any) -> str:
    """Return why an environment's episodes cannot be filmed while training, or "" where they can."""
    try:
        env.render(0)  # what cannot be drawn is found out before the evaluation
        began = time.perf_counter()
        env.render(0)
        seconds = time.perf_counter() - began
    except Exception as error:  # drivers of screens raise errors of many kinds
        return " ".join(str(error).split())[:160]
    return f"a picture takes {seconds:.1f} seconds to draw here" if seconds > SLOWEST_PICTURE_S else ""
