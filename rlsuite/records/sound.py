"""The sound of a clip, carried into a new one beside new pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av

TAKEN = ("aac", "mp3", "ac3", "eac3", "alac", "flac", "opus")  # what an mp4 holds; other sound is encoded anew


class Sound:
    """Packets of a clip's first sound track, in time.

    Args:
        path: the clip; it has sound.
        container: where the packets go, opened for writing, before anything is written to it.
    """

    def __init__(self, path: Path, container: Any) -> None:
        self._source = av.open(str(path))
        self._track = self._source.streams.audio[0]
        self._container = container
        if self._track.codec_context.name in TAKEN:
            self._stream = container.add_stream_from_template(self._track)
            self._packets = self._copied()
        else:
            self._stream = container.add_stream("aac", rate=self._track.codec_context.sample_rate)
            self._packets = self._encoded()
        self._waiting: Any = None

    def write_until(self, seconds: float) -> None:
        """Write what is heard before a time; a track that is damaged ends there."""
        while True:
            if self._waiting is None:
                self._waiting = next(self._packets, None)
            packet = self._waiting
            if packet is None or (packet.pts or 0) * packet.time_base > seconds:
                return
            self._container.mux(packet)
            self._waiting = None

    def close(self) -> None:
        """Close the clip that the sound comes from."""
        self._source.close()

    def _copied(self) -> Iterator[Any]:
        try:
            for packet in self._source.demux(self._track):
                if packet.dts is not None:
                    packet.stream = self._stream
                    yield packet
        except (av.FFmpegError, OSError, ValueError):
            return

    def _encoded(self) -> Iterator[Any]:
        context = self._stream.codec_context
        resampler = av.AudioResampler(format="fltp", layout="stereo", rate=self._track.codec_context.sample_rate)
        context.layout = "stereo"
        try:
            for frame in self._source.decode(self._track):
                for part in resampler.resample(frame):
                    yield from self._stream.encode(part)
        except (av.FFmpegError, OSError, ValueError):
            pass
        yield from self._stream.encode(None)
