"""Where pictures enter a network, and where other modules may be hung into it.

Shapes: B batch, C channels, H and W sides of a picture.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlsuite.errors import require


class FromBytes(nn.Module):
    """Lets pictures in: bytes become floats in [0, 1], floats pass as they are.

    Scaling is part of the network, so that whoever attacks or measures it sees one box of inputs: [0, 1].
    """

    def forward(self, pictures: Tensor) -> Tensor:
        """Map (B, C, H, W) uint8, or floats in [0, 1], to floats in [0, 1].

        Raises:
            TypeError: for integers other than bytes, whose range nobody knows.
        """
        if pictures.dtype == torch.uint8:
            return pictures.float() / 255.0
        if not pictures.is_floating_point():
            raise TypeError(f"pictures are {pictures.dtype}: give uint8, or floats in [0, 1]")
        return pictures


class Site(nn.Module):
    """A named place in a network that passes its input on: where quantizers, distortions and meters hang.

    It has no weights: a state_dict knows nothing of it until something hangs there.

    Args:
        kind: what passes: "input" of a block, its "branch" before the sum, what the shortcut adds there ("skip"), or
            the "sum".
        channels: C of what passes.
    """

    KINDS = ("input", "branch", "skip", "sum")

    def __init__(self, kind: str, channels: int) -> None:
        super().__init__()
        if kind not in self.KINDS:
            raise ValueError(f"a site is one of {', '.join(self.KINDS)}, not {kind!r}")
        self.kind, self.channels = kind, channels
        self.hung = nn.ModuleDict()

    def hang(self, name: str, module: nn.Module) -> None:
        """Let `module` (a map from (B, C, H, W) to the same shape) see what passes, after what hangs there already.

        Raises:
            ValueError: if a module of this name hangs there.
        """
        if name in self.hung:
            raise ValueError(f"a module called {name!r} hangs at this site already; take it down first")
        self.hung[name] = module

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the input, through all that hangs here."""
        for module in self.hung.values():
            inputs = module(inputs)
        return inputs


def sites(module: nn.Module, kind: str = "") -> dict[str, Site]:
    """Return a network's sites by their paths, in the order in which they were made; `kind` asks for one kind only."""
    found = {path: part for path, part in module.named_modules() if isinstance(part, Site)}
    return {path: site for path, site in found.items() if kind in ("", site.kind)}


def sides(size: int | tuple[int, int]) -> tuple[int, int]:
    """Return (H, W) of a size that is one number for square pictures, or both.

    Raises:
        UserError: unless both are 1 or more.
    """
    height, width = (size, size) if isinstance(size, int) else size
    require(min(height, width) >= 1, f"size={size}: use sides of 1 pixel or more")
    return height, width
