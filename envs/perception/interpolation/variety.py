"""Examples of interpolation seen from other sides: mirrored, turned, backwards (as RIFE learns, arXiv:2011.06294).

Shapes: B examples, S side of a frame.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rlsuite.data.counters import uniform
from rlsuite.data.source import Source

SIDES = 1 << 20  # of an example, drawn: there are 32 different ones
COUNT = 5  # random numbers of an example
PICTURES = ("first", "middle", "second")


class Views:
    """A source whose examples are those of another one, each seen from `SIDES` sides.

    Args:
        source: M examples, as `varied` takes them.
        seed: of the sides.
    """

    def __init__(self, source: Source, seed: int) -> None:
        self.source, self.seed = source, seed

    def __len__(self) -> int:
        return SIDES * len(self.source)

    def examples(self, index: Tensor) -> dict[str, Tensor]:
        """Return the examples at index (B,)."""
        return varied(self.source.examples(index % len(self.source)), uniform(self.seed, index, COUNT))


def varied(examples: dict[str, Tensor], draws: Tensor) -> dict[str, Tensor]:
    """Return examples mirrored, turned by a quarter, with red and blue exchanged and with time reversed, or not.

    Args:
        examples: "first", "middle", "second" (B, 3, S, S), "time" (B,), and "flow" (B, 4, S, S) where it is known.
        draws: (B, 5) in [0, 1).

    Returns:
        The same keys.
    """
    mirrored, flipped, turned, recoloured, reversed_ = (draws < 0.5).unbind(dim=1)
    found = dict(examples)
    for name in PICTURES:
        found[name] = _where(recoloured, found[name].flip(1), found[name])
    for name in [*PICTURES, *(["flow"] if "flow" in found else [])]:
        found[name] = _where(mirrored, found[name].flip(3), found[name])
        found[name] = _where(flipped, found[name].flip(2), found[name])
        found[name] = _where(turned, found[name].transpose(2, 3), found[name])
    if "flow" in found:
        across, down = found["flow"][:, 0::2], found["flow"][:, 1::2]
        across, down = _where(mirrored, -across, across), _where(flipped, -down, down)
        across, down = _where(turned, down, across), _where(turned, across, down)
        flow = torch.stack([across, down], dim=2)  # (B, frame, 2, S, S)
        found["flow"] = _where(reversed_, flow.flip(1), flow).flatten(1, 2)
    first, second = found["first"], found["second"]
    found["first"], found["second"] = _where(reversed_, second, first), _where(reversed_, first, second)
    found["time"] = torch.where(reversed_, 1.0 - found["time"], found["time"])
    return found


def _where(rows: Tensor, one: Tensor, other: Tensor) -> Tensor:
    return torch.where(rows.view(-1, *[1] * (one.dim() - 1)), one, other)
