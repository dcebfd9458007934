"""M-LVC's streams as true bytes, and how many bits JPEG takes for as much error (scripts/experiments/m_lvc.py).

Shapes: B clips, T frames of each, H and W sides.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from envs.perception.codec.clips import LENGTH
from envs.perception.codec.jpeg import JPEG, JPEGConfig
from envs.perception.codec.m_lvc import MLVC
from rlsuite.metrics.pictures import decibels

SIZE, PIXELS = 64, 64 * 64
QUALITIES = (1, 3, 6, 10, 15, 20, 30, 40, 50, 60, 70, 80, 85, 90, 95)


@torch.no_grad()
def stream_figures(codec: MLVC, tested: Mapping[str, Tensor], count: int) -> dict[str, float | None]:
    """Return figures of true streams of the first clips, first frames, headers and JPEG's tables counted.

    "bytes_share": the worst clip's bytes above the estimate and 64, as a share of the estimate; "exact": the share of
    clips whose decoded frames are the encoder's; "stream_bpp" and "stream_db"; "jpeg_ratio", None where JPEG has no
    quality with as much error; "jpeg_least_bpp" and "jpeg_least_db", of its lowest one.
    """
    shares, exact, sizes, errors = [], [], [], []
    for number in range(count):
        frames, flow = tested["frames"][number], tested["flow"][number]
        data, shown = codec.coded(frames, flow)
        exact.append(torch.equal(codec.decompress(data), shown))
        estimate = estimated_bytes(codec, frames, flow)
        shares.append((len(data) - 64.0 - estimate) / estimate)
        sizes.append(len(data))
        errors.append(squared_error(shown, frames))
    bpp, error = bits_per_pixel(sizes), sum(errors) / count
    points = jpeg_points(tested["frames"][:count])
    bits = jpeg_bits(points, error)
    return {
        "bytes_share": max(shares),
        "exact": sum(exact) / count,
        "stream_bpp": bpp,
        "stream_db": decibels(error),
        "jpeg_ratio": None if bits is None else bits / bpp,
        "jpeg_least_bpp": points[0][1],
        "jpeg_least_db": points[0][0],
    }


def estimated_bytes(codec: MLVC, frames: Tensor, flow: Tensor) -> float:
    """Return what a clip should take: the first frame's own bytes with JPEG's tables, and the entropy models' bits."""
    state = codec.init_state(1, (SIZE, SIZE))
    for number, frame in enumerate(frames.float() / 255.0):
        given = flow[number - 1 : number] if number else torch.zeros_like(flow[:1])
        _, state = codec({"rgb": frame[None], "flow": given, "phase": torch.zeros(1)}, state)
    alone = JPEG(config=JPEGConfig(quality=codec.quality)).compress(frames[:1])
    own = codec(
        {"rgb": frames[:1] / 255.0, "flow": flow[:1], "phase": torch.zeros(1)}, codec.init_state(1, (SIZE, SIZE))
    )
    return len(alone) + float(state["bits"] - own[1]["bits"]) / 8.0


def jpeg_points(clips: Tensor) -> list[tuple[float, float]]:
    """Return JPEG's dB and bits a pixel of clips (B, T, 3, H, W) uint8, for rising qualities from its lowest on."""
    points = []
    for quality in QUALITIES:
        coder = JPEG(config=JPEGConfig(quality=quality))
        streams = [coder.compress(clip) for clip in clips]
        errors = [squared_error(coder.decompress(data), clip) for data, clip in zip(streams, clips, strict=True)]
        points.append((decibels(sum(errors) / len(errors)), bits_per_pixel([len(data) for data in streams])))
    return points


def jpeg_bits(points: list[tuple[float, float]], error: float) -> float | None:
    """Return JPEG's bits a pixel at a mean squared error, between two qualities; None where none of its own errs so."""
    wanted = decibels(error)
    for (low, fewer), (high, more) in zip(points[:-1], points[1:], strict=True):
        if low <= wanted <= high:
            return fewer + (wanted - low) / (high - low) * (more - fewer)
    return None


def squared_error(shown: Tensor, frames: Tensor) -> float:
    """Return the mean squared error of bytes, in squares of 255."""
    return float((shown.float() / 255.0 - frames.float() / 255.0).square().mean())


def bits_per_pixel(sizes: list[int]) -> float:
    """Return bits a pixel of clips that take so many bytes."""
    return 8.0 * sum(sizes) / len(sizes) / (PIXELS * LENGTH)
