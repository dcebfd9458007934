"""What befalls a picture of a glyph, by name: noise, blur, dirt, uneven light, neighbours (arXiv:1806.08990, synth.py).

`noise=gauss:0.7+saltpepper:0.3` names two, done in this order; what stands behind the colon is how strong. All work on
a batch and draw from a function of the row alone (`EnvironmentRandom`, or a hash of the example's number), so a
picture does not depend on those beside it. The glyph that is to be found is never touched by them.

The official code blurs and presses 64 pixels; what it says in pixels is halved where there are half as many.

Shapes: B pictures, W side.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from envs.characters.geometry import Draw, between_neighbours, moved
from envs.characters.pixels import LUMA, PIXELS, gauss, gaussian_blur, mean, median
from rlsuite.errors import UserError, near_matches

CONTRAST = 0.3  # least difference of mean luma between ink and paper
CANDIDATES = 8  # colours drawn at once, of which the first with enough contrast is taken


class Level(NamedTuple):
    """A noise with its strength, as it was named."""

    name: str
    strength: float


Attacker = Callable[[Tensor, Level], Tensor]


# Strength where none is named. Of light and clutter it is the chance; of all, that of each noise in it.
STRENGTHS = {
    "clean": 1.0,
    "light": 1.0,
    "clutter": 1.0,
    "all": 0.5,
    "gauss": 0.3,
    "saltpepper": 0.15,
    "dropout": 0.1,
    "blur": 1.0,
    "mean": 3.0,
    "median": 3.0,
    "superpixels": 1.0,
    "contrast": 2.0,
    "invert": 0.5,
    "gray": 1.0,
    "sharpen": 1.0,
    "emboss": 1.0,
    "hue": 0.08,
    "elastic": 1.0,
}
WITHIN = ("fgsm", "mi_fgsm", "pgd")  # attacks of envs/characters/attacked.py, whose strength is eps
LEAST = ("deepfool", "cw2")  # those that take as much as they need
EPS = 0.2


def parse_noise(text: str) -> tuple[Level, ...]:
    """Return the noises that a text such as gauss:0.7+saltpepper:0.3, or attack:fgsm:0.2, names.

    Raises:
        UserError: if one is unknown, or its strength no number of 0 or more.
    """
    found = []
    for part in text.split("+"):
        name, colon, number = part.partition(":")
        if name == "attack":
            attack, colon, number = number.partition(":")
            if attack not in (*WITHIN, *LEAST):
                raise UserError(f"noise={text}: there is no attack '{attack}'{near_matches(attack, (*WITHIN, *LEAST))}")
            if attack in LEAST and colon:
                raise UserError(f"noise={text}: attack:{attack} takes as much as it needs; leave out :{number}")
            name = f"attack:{attack}"
        elif name not in STRENGTHS:
            raise UserError(f"noise={text}: there is no '{name}'{near_matches(name, STRENGTHS)}")
        try:
            strength = float(number) if colon else STRENGTHS.get(name, EPS)
        except ValueError:
            strength = math.nan
        if not (math.isfinite(strength) and strength >= 0.0):
            raise UserError(f"noise={text}: '{number}' is no strength; use a number of 0 or more, such as gauss:0.3")
        found.append(Level(name, strength))
    return tuple(found)


def befall(
    ink: Tensor,
    neighbours: tuple[Tensor, Tensor],
    levels: tuple[Level, ...],
    draw: Draw,
    attack: Attacker | None = None,
) -> tuple[Tensor, Tensor]:
    """Return noisy pictures and the clean glyphs in them.

    Args:
        ink: (B, 1, W, W) in [0, 1], 1 where there is ink.
        neighbours: two others like it, for noises that put the glyph between them.
        levels: see parse_noise.
        draw: random numbers.
        attack: what attacks make of pictures in [0, 1], where there are attacks among the noises.

    Returns:
        The picture (B, 3, W, W) in [0, 1], and the glyph (B, 1, W, W), 0 where there is ink.
    """
    names = {level.name: level.strength for level in levels}
    glyph = seen = ink
    if "all" in names:
        glyph = seen = moved(glyph, draw, names["all"])
    if "clutter" in names or "all" in names:
        together, alone = between_neighbours(glyph, *neighbours, draw)
        chosen = (draw(1) < names.get("clutter", names.get("all", 0.0))).view(-1, 1, 1, 1)
        seen, glyph = torch.where(chosen, together, seen), torch.where(chosen, alone, glyph)
    tinted = bool(names.keys() & {"light", "clutter", "all"})
    picture = coloured(seen, draw) if tinted else (1.0 - seen).expand(-1, 3, -1, -1)
    for level in levels:
        if level.name in PIXELS:
            picture = PIXELS[level.name](picture, draw, level.strength)
        elif level.name == "all":
            picture = _some_of_all(picture, draw, level.strength)
        elif level.name.startswith("attack:"):
            assert attack is not None, f"{level.name} needs somebody to attack"
            picture = attack(picture.clamp(0.0, 1.0), level)
    return picture.clamp(0.0, 1.0), 1.0 - glyph


def _some_of_all(picture: Tensor, draw: Draw, chance: float) -> Tensor:
    """Apply every noise with half of a chance, at a random strength up to the official one; then dropout or pepper.

    The official code takes none to six of its twelve, and shuffles them; here their order is always the same, so that
    a batch goes through together.
    """
    half = picture.shape[-1] / 64  # of what is told in the official code's pixels
    most = {"superpixels": 1.0, "blur": 3.0 * half, "elastic": 3.5 * half, "gray": 1.0, "contrast": 2.0, "emboss": 1.0}
    most |= {"invert": 0.5, "hue": 0.08, "gauss": 0.05}
    for name in ("sharpen", *most, "sharpen"):
        chosen = (draw(1) < chance / 2).view(-1, 1, 1, 1)
        if name == "blur":
            changed = _some_blur(picture, draw, most[name])
        elif name == "gauss":
            changed = _some_gauss(picture, draw, most[name])
        else:
            changed = PIXELS[name](picture, draw, most.get(name, 1.0))
        picture = torch.where(chosen, changed.clamp(0.0, 1.0), picture)
    share = draw(2)
    drawn = draw(picture[0, 0].numel()).view(-1, 1, *picture.shape[2:])
    level = torch.where(share[:, 0] < 0.5, 0.01 + 0.09 * share[:, 1], 0.03 + 0.27 * share[:, 1]).view(-1, 1, 1, 1)
    level = torch.where(draw(1).view(-1, 1, 1, 1) < chance, level, torch.zeros_like(level))
    white = (share[:, 0] >= 0.5).view(-1, 1, 1, 1) & (drawn < level / 2)
    return torch.where(drawn < level, white.to(picture), picture)


def _some_blur(picture: Tensor, draw: Draw, sigma: float) -> Tensor:
    """Blur by a Gaussian up to a standard deviation, by a mean, or by a median, each as likely.

    Means and medians are over 3 pixels a side, or 5 where there are 64; the official code draws 2 to 7 and 3 to 9.
    """
    share, side = draw(2), 3 if picture.shape[-1] < 64 else 5
    kind = (share[:, 0] * 3).long().view(-1, 1, 1, 1)
    smooth = gaussian_blur(picture, share[:, 1] * sigma)
    smooth = torch.where(kind == 1, mean(picture, draw, side), smooth)
    return torch.where(kind == 2, median(picture, draw, side), smooth)


def _some_gauss(picture: Tensor, draw: Draw, sigma: float) -> Tensor:
    """Add normal noise up to a standard deviation; of half of the pictures to each channel its own."""
    share = draw(2)
    own = torch.cat([gauss(picture[:, :1], draw, 1.0) - picture[:, :1] for _ in range(picture.shape[1])], dim=1)
    added = torch.where((share[:, 0] < 0.5).view(-1, 1, 1, 1), own, own[:, :1])
    return picture + (share[:, 1] * sigma).view(-1, 1, 1, 1) * added


def coloured(ink: Tensor, draw: Draw) -> Tensor:
    """Return ink (B, 1, W, W) in a random colour on paper of another, both under uneven light: (B, 3, W, W).

    A channel is a constant in [0, 1) plus up to 1, either way, times the light; a fifth of the pictures is grey. The
    official rule draws until every pixel and channel differs by 0.3, where a bracket looks misplaced; here it is the
    mean luma.
    """
    light = uneven_light(draw, ink.shape[-1])
    share = draw(12 * CANDIDATES).view(-1, CANDIDATES, 2, 3, 2)
    constant, slope = share[..., 0], share[..., 1] * 2 - 1  # (B, candidates, ink or paper, channel)
    grey = (draw(1) < 0.2).view(-1, 1, 1, 1)
    constant, slope = (torch.where(grey, part[..., :1].expand_as(part), part) for part in (constant, slope))
    luma = torch.tensor(LUMA, device=ink.device)
    base, rise = ((part[:, :, 0] - part[:, :, 1]) @ luma for part in (constant, slope))  # (B, candidates)
    flat = light.flatten(1)
    gap = (base.unsqueeze(2) + rise.unsqueeze(2) * flat.unsqueeze(1)).abs().mean(2)
    enough = (gap >= CONTRAST).to(gap)
    best = (enough * 10 + gap * (1 - enough)).argmax(1)  # the first that will do, or else the strongest
    rows = torch.arange(len(ink), device=ink.device)
    colour = constant[rows, best][..., None, None] + slope[rows, best][..., None, None] * light.unsqueeze(1)
    return torch.lerp(colour[:, 1], colour[:, 0], ink).clamp(0.0, 1.0)


def uneven_light(draw: Draw, size: int) -> Tensor:
    """Return harmonic fields cosh(y) sin(x) over turned, stretched and shifted grids, each in [0, 1]: (B, 1, W, W)."""
    share = draw(5)
    line = torch.linspace(-1.0, 1.0, size, device=share.device)
    down, right = torch.meshgrid(line, line, indexing="ij")
    cos = share[:, 0].view(-1, 1, 1)
    sin = (1.0 - cos.square()).sqrt()
    stretch, shift = 5.0 * share[:, 1:3], 5.0 * share[:, 3:]
    x = (cos * right - sin * down) * stretch[:, 0].view(-1, 1, 1) + shift[:, 0].view(-1, 1, 1)
    y = (sin * right + cos * down) * stretch[:, 1].view(-1, 1, 1) + shift[:, 1].view(-1, 1, 1)
    field = torch.cosh(y) * torch.sin(x)
    low, high = field.amin((1, 2), keepdim=True), field.amax((1, 2), keepdim=True)
    return ((field - low) / (high - low).clamp_min(1e-6)).unsqueeze(1)
