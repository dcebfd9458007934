"""Long clips, a window at a time (arXiv:2104.03507: 15 frames, of which those in the middle are kept).

Shapes: T frames of a clip, L of a window, H and W sides.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from envs.perception.inpainting.alignment import Flows
from envs.perception.inpainting.network import TSAMNet
from rlsuite.errors import require

LENGTH, KEPT = 15, (3, 12)


def windows(frames: int, length: int = LENGTH, kept: tuple[int, int] = KEPT) -> Iterator[tuple[int, int, int]]:
    """Yield (start, first, end): a window's first frame, and which frames of the clip are taken from it.

    The first window keeps its beginning, the last one its end; between them each keeps `kept`, and the window moves on
    by as many frames.

    Raises:
        UserError: unless 0 <= kept[0] < kept[1] <= length.
    """
    first, last = kept
    require(0 <= first < last <= length, f"kept={list(kept)}: use a part of the {length} frames of a window")
    start, done = 0, 0
    while done < frames:
        final = start + length >= frames
        end = frames if final else start + last
        yield start, done, end
        done, start = end, start + last - first


@torch.no_grad()
def inpaint_clip(
    network: TSAMNet,
    frames: Tensor,
    known: Tensor,
    flows: Flows | None,
    length: int = LENGTH,
    kept: tuple[int, int] = KEPT,
) -> Tensor:
    """Return a clip (T, 3, H, W) with its holes filled.

    Args:
        network: in evaluation mode.
        frames: (T, 3, H, W), uint8 or in [0, 1].
        known: (T, 1, H, W) bool.
        flows: of the whole clip, a batch of one: (1, T - 1, ...).
        length: L.
        kept: see `windows`.
    """
    found = []
    for start, first, end in windows(len(frames), length, kept):
        stop = min(start + length, len(frames))
        part = None if flows is None else Flows(*(value[:, start : stop - 1] for value in flows))
        made = network(frames[None, start:stop], known[None, start:stop], part)[0]
        found.append(made[first - start : end - start])
    return torch.cat(found)
