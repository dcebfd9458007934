"""Finding the one character in a picture that anybody may bring: dark on light or light on dark, anywhere, any size.

What is done here is only what readers cannot do by themselves: it is turned to dark ink on light paper, and cut out as
large as the glyphs that they learned from. Noise is left to them.

Shapes: H, W sides of the picture, S side of what is cut out.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from envs.characters.pixels import luma
from rlsuite.errors import require

LOOK = 64  # side of the small picture that is looked at
LEAST_CONTRAST = 0.1  # between ink and paper; less is an empty picture
GAP, SHARE = 0.06, 0.25  # of the side, between two characters; of the larger one's ink, that of another character
MARGIN = 0.06  # of the square that stays blank: between fonts' (0.12) and scikit-learn's digits (none)


def single_character(picture: Tensor, name: str, size: int) -> Tensor:
    """Return the character in a picture as readers want it.

    Args:
        picture: (3, H, W) uint8.
        name: of the picture, for messages.
        size: S.

    Returns:
        (3, S, S) in [0, 1], dark ink on light paper.

    Raises:
        UserError: if there is none, or more than one.
    """
    height, width = picture.shape[1:]
    side = max(height, width)
    whole = picture.float().unsqueeze(0) / 255.0
    border = torch.cat([whole[..., 0, :], whole[..., -1, :], whole[..., :, 0], whole[..., :, -1]], dim=-1)
    ground = border.median(dim=-1).values[..., None, None]
    if float(luma(ground)) < 0.5:
        whole, ground = 1.0 - whole, 1.0 - ground
    square = ground.expand(-1, -1, side, side).clone()
    top, left = (side - height) // 2, (side - width) // 2
    square[..., top : top + height, left : left + width] = whole
    ink = _ink(square)
    contrast = _contrast(square, ink)
    require(
        contrast >= LEAST_CONTRAST,
        f"{name}: the picture is empty, or all of one grey; give one with a dark character on light paper",
    )
    count = characters_in(ink)
    require(count <= 1, f"{name}: {count} characters side by side; give one at a time")
    nearer = _cut(square, ink, ground, 4 * LOOK)  # where its edges are seen more sharply
    return _cut(nearer, _ink(nearer), ground, size).squeeze(0).clamp(0.0, 1.0)


def _ink(square: Tensor) -> Tensor:
    """Return where there is ink (LOOK, LOOK), bool, of a square picture (1, 3, side, side): what Otsu's threshold says.

    The picture is reduced and blurred first, so that grains of noise do not count.
    """
    small = functional.interpolate(luma(square), (LOOK, LOOK), mode="bilinear", align_corners=False, antialias=True)
    small = functional.avg_pool2d(functional.pad(small, (2, 2, 2, 2), mode="replicate"), 5, stride=1)[0, 0]
    level = torch.linspace(0.0, 1.0, 65)[1:-1]
    below = small.flatten().unsqueeze(0) <= level.unsqueeze(1)
    share = below.double().mean(1)
    dark = (below * small.flatten()).sum(1) / below.sum(1).clamp_min(1)
    light = (~below * small.flatten()).sum(1) / (~below).sum(1).clamp_min(1)
    between = share * (1 - share) * (light - dark).square()
    return small <= level[between.argmax()]


def _contrast(square: Tensor, ink: Tensor) -> float:
    """Return by how much the ink is darker than the paper; 0 where there is no ink."""
    if not bool(ink.any()) or bool(ink.all()):
        return 0.0
    small = functional.interpolate(luma(square), (LOOK, LOOK), mode="bilinear", align_corners=False, antialias=True)[
        0, 0
    ]
    return float(small[~ink].mean() - small[ink].mean())


def characters_in(ink: Tensor) -> int:
    """Return how many characters lie side by side: groups of columns with ink, between columns without."""
    weight = ink.sum(0).tolist()
    groups, blank = [], LOOK
    for column in weight:
        if column == 0:
            blank += 1
            continue
        if blank >= GAP * LOOK:
            groups.append(0)
        groups[-1] += column
        blank = 0
    return sum(group >= SHARE * max(groups) for group in groups) if groups else 0


def _cut(square: Tensor, ink: Tensor, ground: Tensor, size: int) -> Tensor:
    """Return the square around the ink, with a margin, (1, 3, size, size)."""
    rows, columns = (ink.any(dim=axis).nonzero().flatten() for axis in (1, 0))
    scale = square.shape[-1] / LOOK
    low = torch.stack([rows[0], columns[0]]).double() * scale
    high = (torch.stack([rows[-1], columns[-1]]).double() + 1) * scale
    edge = max(4, round(float((high - low).max()) / (1 - 2 * MARGIN)))
    corner = ((low + high) / 2 - edge / 2).round().long()
    pad = edge
    around = ground.expand(-1, -1, square.shape[2] + 2 * pad, square.shape[3] + 2 * pad).clone()
    around[..., pad:-pad, pad:-pad] = square
    top, left = (int(place) + pad for place in corner.clamp(-pad, square.shape[-1]))
    part = around[..., top : top + edge, left : left + edge]
    return functional.interpolate(part, (size, size), mode="bilinear", align_corners=False, antialias=True)
