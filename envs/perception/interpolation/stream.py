"""A clip with more frames, made as its frames come: memory does not grow with its length.

Shapes: H and W sides of a picture; frames (3, H, W) float32 in [0, 1].
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from envs.perception.interpolation.interpolator import Interpolator, likeness, scene_likeness

MOST_HELD = 2  # frames that repeat one before: a longer rest is one that was filmed


@torch.no_grad()
def multiplied(
    frames: Iterable[Tensor], interpolator: Interpolator, factor: int, repeated_above: float = 1.0
) -> Iterator[Tensor]:
    """Yield `factor` frames for each: itself, and those in between it and the next; the last one repeats.

    Each pair is judged by itself. Across a cut nothing is made (`cut_below` of the interpolator), and what rests before
    a cut rests until it.

    Args:
        frames: of the clip.
        interpolator: what makes frames in between.
        factor: 2 or more.
        repeated_above: a frame whose likeness to the one before is above this only repeats it, as clips do whose rate
            was raised by somebody else: it is made anew from the different frames around it. 1 takes all as they are.
    """
    last: Tensor | None = None
    held: list[Tensor] = []  # frames that repeat the last one
    for frame in frames:
        if last is None:
            last = frame
            continue
        alike = float(likeness(last[None], frame[None])) if repeated_above < 1.0 else 0.0
        if repeated_above < alike and len(held) < MOST_HELD:
            held.append(frame)
            continue
        if held and (alike > repeated_above or _cut(last, frame, interpolator)):
            for following in held:  # it rests in earnest, or until a cut
                yield from _between(last, following, interpolator, factor)
                last = following
            held = []
        yield from _between(last, frame, interpolator, factor * (len(held) + 1))
        last, held = frame, []
    if last is not None:
        for following in held:
            yield from _between(last, following, interpolator, factor)
            last = following
        yield from [last] * factor


def _cut(first: Tensor, second: Tensor, interpolator: Interpolator) -> bool:
    return float(scene_likeness(first[None], second[None])) < interpolator.config.cut_below


def _between(first: Tensor, second: Tensor, interpolator: Interpolator, steps: int) -> Iterator[Tensor]:
    """Yield the first frame and all in between it and the second, at whole parts of the time."""
    yield first
    for step in range(1, steps):
        time = torch.tensor([step / steps], device=first.device)
        yield interpolator.interpolated(first[None], second[None], time)[0]
