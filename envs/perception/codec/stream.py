"""Clips as bytes and back, by M-LVC: true bytes, and decoded frames that are the encoder's own, bit for bit.

    "MLVC", version, index of lambda, JPEG's quality, frames from one that is coded by itself to the next (1 byte each),
    H, W (2 bytes each), T (4), digest of the weights (4), checksum of the decoded frames (4);
    what all JPEG frames share, then each frame's own bytes, each part with its length before it

A decoder computes what its encoder did, in floating point: on another kind of processor, or with another version of
torch, it may not get the same numbers. The checksum says so; nothing wrong is ever returned.

Shapes: T frames, H and W sides.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from envs.perception.codec.channel import FarTables, Reader, Writer
from envs.perception.codec.jpeg import decode_jpeg, encode_jpeg, shared_bytes
from envs.perception.codec.network import MULTIPLE, MLVCNet, Past, past_of
from envs.perception.codec.packing import pack, unpack
from envs.perception.codec.range_coder import DamagedError
from rlsuite.errors import UserError, require

MAGIC, VERSION = b"MLVC", 1
_HEADER = struct.Struct("<4sBBBBHHI4sI")
LONGEST_SIDE = 8192

Estimator = Callable[[int, Tensor, Tensor], Tensor]  # number of a frame, it, the last decoded one -> field, all padded


class Settings(NamedTuple):
    """What a stream's header says of how it was coded.

    Attributes:
        rate: index of lambda.
        quality: of JPEG.
        gop: frames from one that is coded by itself to the next.
        weights: four bytes that tell weights apart.
    """

    rate: int
    quality: int
    gop: int
    weights: bytes


def padded(pictures: Tensor) -> Tensor:
    """Return pictures or fields (B, C, H, W) with their border repeated, to sides that the networks take."""
    height, width = pictures.shape[2:]
    return functional.pad(pictures, (0, -width % MULTIPLE, 0, -height % MULTIPLE), mode="replicate")


@torch.no_grad()
def write_stream(net: MLVCNet, frames: Tensor, estimate: Estimator, settings: Settings) -> tuple[bytes, Tensor]:
    """Return a clip as bytes, and its frames (T, 3, H, W) uint8 as they will be decoded.

    Args:
        net: in evaluation mode.
        frames: (T, 3, H, W) uint8.
        estimate: the field of a frame (1, 2, H', W').
        settings: kept in the header.

    Raises:
        UserError: if there are no frames, or they are too large.
    """
    require(frames.dim() == 4 and len(frames) >= 1, "there are no frames to compress; give (T, 3, H, W) uint8")
    height, width = frames.shape[2:]
    require(max(height, width) <= LONGEST_SIDE, f"frames are {height} x {width}; use sides of {LONGEST_SIDE} or less")
    known, device = net.tables(), next(net.parameters()).device
    parts, decoded = [shared_bytes(height, width, settings.quality)], []
    past: Past | None = None
    for number, frame in enumerate(frames):
        if past is None or number % settings.gop == 0:
            shared, own = encode_jpeg(frame, settings.quality)
            past = past_of(padded(decode_jpeg(shared, own).to(device).unsqueeze(0) / 255.0))
        else:
            writer, current = Writer(known), padded(frame.to(device).unsqueeze(0) / 255.0)
            past = past.then(*net(writer, past, current, estimate(number, current, past.frames[0])))
            own = writer.encoder.finish()
        parts.append(own)
        decoded.append(_bytes(past.frames[0], height, width))
    pictures = torch.stack(decoded)
    head = (MAGIC, VERSION, settings.rate, settings.quality, settings.gop, height, width, len(frames), settings.weights)
    return _HEADER.pack(*head, _checksum(pictures)) + pack(parts), pictures


@torch.no_grad()
def read_stream(net: MLVCNet, data: bytes, weights: bytes) -> Tensor:
    """Return a stream's frames, (T, 3, H, W) uint8.

    Args:
        net: in evaluation mode, with the weights that it was written with.
        data: what write_stream returned.
        weights: four bytes that tell weights apart.

    Raises:
        UserError: if it is no such stream, damaged, written with other weights, or decodes to other frames here.
    """
    require(data[:4] == MAGIC and len(data) > _HEADER.size, "this is no M-LVC stream; name one that m_lvc wrote")
    _, version, _, quality, gop, height, width, count, made_with, checksum = _HEADER.unpack(data[: _HEADER.size])
    require(
        version == VERSION, f"the stream has version {version}, this suite reads {VERSION}; use the suite that wrote it"
    )
    require(made_with == weights, "the stream was written with other weights; name them, as m_lvc.weights=FILE")
    shared, *parts = unpack(data[_HEADER.size :])
    sizes = gop >= 1 and len(parts) == count >= 1 and 1 <= min(height, width) <= max(height, width) <= LONGEST_SIDE
    require(sizes and 1 <= quality <= 95, "the stream is cut off or damaged; fetch it again")
    known, device = net.tables(), next(net.parameters()).device
    decoded = []
    past: Past | None = None
    for number, own in enumerate(parts):
        if past is None or number % gop == 0:
            picture = decode_jpeg(shared, own)
            require(tuple(picture.shape[1:]) == (height, width), "the stream is damaged; fetch it again")
            past = past_of(padded(picture.to(device).unsqueeze(0) / 255.0))
        else:
            past = past.then(*_decoded(net, known, past, own))
        decoded.append(_bytes(past.frames[0], height, width))
    pictures = torch.stack(decoded)
    require(
        _checksum(pictures) == checksum,
        "the stream does not decode to what was encoded; fetch it again, or decode it on the kind of processor, and "
        "with the version of torch, that encoded it",
    )
    return pictures


def _decoded(net: MLVCNet, known: FarTables, past: Past, own: bytes) -> tuple[Tensor, Tensor]:
    try:
        reader = Reader(known, own)
        found = net(reader, past)
        reader.decoder.finish()
        return found
    except DamagedError as error:
        raise UserError(f"{error}; fetch the stream again") from None


def _bytes(frame: Tensor, height: int, width: int) -> Tensor:
    return (255.0 * frame[0, :, :height, :width]).round().to(torch.uint8).cpu()


def _checksum(pictures: Tensor) -> int:
    return zlib.crc32(pictures.contiguous().numpy().tobytes())
