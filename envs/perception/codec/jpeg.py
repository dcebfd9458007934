"""JPEG: what codes M-LVC's first frames, and what M-LVC has to beat.

Of the 880 to 1,260 bytes of a 64x64 JPEG 570 are tables that depend on nothing but the quality. They are cut off and
kept once a stream (the standard's "abbreviated format", ITU-T T.81, B.4 and B.5); each picture keeps its own bytes.

Shapes: B batch, H and W sides.
"""

from __future__ import annotations

import functools
import io
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from envs.perception.codec.packing import pack, unpack
from envs.perception.perceiver import Perceiver, Seen, State
from rlsuite.data.pictures import decode_picture
from rlsuite.errors import require
from rlsuite.metrics.pictures import psnr

START, SCAN = b"\xff\xd8", b"\xff\xda"


@dataclass(frozen=True, kw_only=True)
class JPEGConfig:
    """JPEG's numbers.

    Attributes:
        quality: 1 to 95, as libjpeg counts it. Colors are not subsampled.
    """

    quality: int = 85

    def __post_init__(self) -> None:
        require(1 <= self.quality <= 95, f"quality={self.quality}: use 1 to 95")


def encode_jpeg(picture: Tensor, quality: int) -> tuple[bytes, bytes]:
    """Return a picture (3, H, W) uint8 as bytes: what all pictures of its size and quality share, and its own."""
    file = io.BytesIO()
    pixels = np.ascontiguousarray(picture.cpu().permute(1, 2, 0).numpy())
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=0, optimize=False, progressive=False)
    whole = file.getvalue()
    place = whole.index(SCAN)  # segments before it hold no such pair: their bytes are fixed by quality and size
    return whole[:place], whole[place:]


def decode_jpeg(shared: bytes, own: bytes) -> Tensor:
    """Return the picture (3, H, W) uint8.

    Raises:
        UserError: if it is no picture.
    """
    require(shared.startswith(START) and own.startswith(SCAN), "a frame is no JPEG; the stream is damaged")
    return decode_picture(io.BytesIO(shared + own), "a frame")


@functools.lru_cache(maxsize=64)
def shared_bytes(height: int, width: int, quality: int) -> bytes:
    """Return what all pictures of a size and quality share."""
    return encode_jpeg(torch.zeros(3, height, width, dtype=torch.uint8), quality)[0]


def through_jpeg(frames: Tensor, quality: int) -> tuple[Tensor, Tensor]:
    """Return frames (B, 3, H, W) in [0, 1] as they are decoded, and how many bits of their own they take, (B,)."""
    coded = [encode_jpeg(frame, quality) for frame in (255.0 * frames.detach()).round().to(torch.uint8)]
    decoded = torch.stack([decode_jpeg(*parts) for parts in coded]).to(frames.device)
    return decoded.float() / 255.0, torch.tensor([8.0 * len(own) for _, own in coded], device=frames.device)


class JPEG(Perceiver):
    """Every camera frame through JPEG, each by itself. It has no motion, no delay and nothing to learn."""

    Config = JPEGConfig

    def init_state(self, batch: int, size: tuple[int, int]) -> State:
        """Return the last frame, how many frames of the episode were coded, and their bits, without the tables."""
        blank = torch.zeros(batch, 3, *size)
        return {"shown": blank, "coded": torch.zeros(batch, dtype=torch.int64), "bits": torch.zeros(batch)}

    def forward(self, seen: Seen, state: State) -> tuple[Seen, State]:
        """Return "rgb" as it was decoded; see Perceiver."""
        rgb, fresh = seen["rgb"], seen["phase"] == 0.0
        shown, bits = state["shown"].to(rgb.device).clone(), state["bits"].to(rgb.device).clone()
        rows = fresh.nonzero().squeeze(1)
        if len(rows):
            shown[rows], more = through_jpeg(rgb[rows], self.config.quality)
            bits[rows] += more
        return {"rgb": shown}, {"shown": shown, "coded": state["coded"] + fresh.long().to(state["coded"]), "bits": bits}

    def metrics(self, predicted: Seen, truth: Seen) -> dict[str, Tensor]:
        """Return "psnr" in dB."""
        return {"psnr": psnr(predicted["rgb"], truth["rgb"])}

    def compress(self, frames: Tensor) -> bytes:
        """Return a clip (T, 3, H, W) uint8 as bytes: the tables once, then each frame with its length.

        Raises:
            UserError: if there are no frames.
        """
        require(frames.dim() == 4 and len(frames) >= 1, "there are no frames to compress; give (T, 3, H, W) uint8")
        coded = [encode_jpeg(frame, self.config.quality) for frame in frames]
        parts = [coded[0][0], *(own for _, own in coded)]
        return pack(parts)

    def decompress(self, data: bytes) -> Tensor:
        """Return the clip (T, 3, H, W) uint8.

        Raises:
            UserError: if the bytes are not what `compress` wrote.
        """
        parts = unpack(data)
        require(len(parts) >= 2, "the stream holds no frame; fetch it again")
        return torch.stack([decode_jpeg(parts[0], own) for own in parts[1:]])
