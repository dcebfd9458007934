"""What befalls a picture of a glyph, by name: noise, blur, dirt, uneven light, neighbours (arXiv:1806.08990, synth.py).

`noise=gauss:0.7+saltpepper:0.3` names two, done in this order; what stands behind the colon is how strong. All work on
a batch and draw from a function of the row alone (`EnvironmentRandom`, or a hash of the example's number), so a
picture does not depend on those beside it. The glyph that is to be found is never touched by them.

Of the official list are left out: superpixels and piecewise affine maps.

Shapes: B pictures, W side.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from envs.characters.geometry import Draw, between_neighbours, random_affine, random_perspective, resampled
from rlsuite.errors import UserError, near_matches

LUMA = (0.299, 0.587, 0.114)
CONTRAST = 0.3  # least difference of mean luma between ink and paper
CANDIDATES = 8  # colours drawn at once, of which the first with enough contrast is taken


class Level(NamedTuple):
    """A noise with its strength, as it was named."""

    name: str
    strength: float


Attacker = Callable[[Tensor, Level], Tensor]


def normal(draw: Draw, count: int) -> Tensor:
    """Return standard normal numbers (B, count) (Box and Muller 1958)."""
    half = (count + 1) // 2
    share = draw(2 * half)
    radius = (-2.0 * torch.log(1.0 - share[:, :half])).sqrt()
    angle = share[:, half:] * (2.0 * math.pi)
    return torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)[:, :count]


def gauss(picture: Tensor, draw: Draw, sigma: float) -> Tensor:
    """Add normal noise of a standard deviation, the same to all channels."""
    return picture + sigma * normal(draw, picture[0, 0].numel()).view(-1, 1, *picture.shape[2:])


def saltpepper(picture: Tensor, draw: Draw, share: float) -> Tensor:
    """Turn a share of the pixels black or white."""
    drawn = draw(picture[0, 0].numel()).view(-1, 1, *picture.shape[2:])
    return torch.where(drawn < share, (drawn < share / 2).to(picture), picture)


def dropout(picture: Tensor, draw: Draw, share: float) -> Tensor:
    """Turn a share of the pixels black."""
    return picture * (draw(picture[0, 0].numel()).view(-1, 1, *picture.shape[2:]) >= share)


def blur(picture: Tensor, draw: Draw, sigma: float) -> Tensor:
    """Blur with a Gaussian of a standard deviation in pixels."""
    return _gaussian_blur(picture, torch.full((len(picture),), sigma, device=picture.device))


def contrast(picture: Tensor, draw: Draw, most: float) -> Tensor:
    """Stretch values around grey by a factor from 1 / most to most, log-uniform."""
    factor = torch.exp((draw(1) * 2 - 1) * math.log(most)).view(-1, 1, 1, 1)
    return 0.5 + (picture - 0.5) * factor


def invert(picture: Tensor, draw: Draw, chance: float) -> Tensor:
    """Invert channels, each with a chance."""
    return torch.where(draw(picture.shape[1])[..., None, None] < chance, 1.0 - picture, picture)


def gray(picture: Tensor, draw: Draw, most: float) -> Tensor:
    """Take colour away, up to a share."""
    luma = (picture * picture.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
    return torch.lerp(picture, luma.expand_as(picture), (draw(1) * most).view(-1, 1, 1, 1))


def sharpen(picture: Tensor, draw: Draw, most: float) -> Tensor:
    """Add what a mean of the neighbours lacks, up to a share."""
    return picture + (draw(1) * most).view(-1, 1, 1, 1) * 2 * (picture - _mean_blur(picture, 3))


def emboss(picture: Tensor, draw: Draw, most: float) -> Tensor:
    """Light the picture from one side, blended in up to a share."""
    padded = functional.pad(picture, (1, 1, 1, 1), mode="replicate")
    share = draw(2)
    slope = (padded[..., 2:, 2:] - padded[..., :-2, :-2]) * 2 * share[:, 1].view(-1, 1, 1, 1)
    return torch.lerp(picture, picture + slope, (share[:, 0] * most).view(-1, 1, 1, 1))


def hue(picture: Tensor, draw: Draw, most: float) -> Tensor:
    """Turn colours by up to a share of the whole circle, and scale how strong they are by up to that share."""
    share = (draw(2) * 2 - 1) * most
    turn, strength = 2 * math.pi * share[:, :1, None], 1.0 + share[:, 1:, None]
    flat = picture.flatten(2)
    grey = (flat * flat.new_tensor(LUMA).view(1, 3, 1)).sum(1, keepdim=True)
    blue, red = 0.492 * (flat[:, 2:] - grey), 0.877 * (flat[:, :1] - grey)  # U and V
    u, v = strength * (turn.cos() * blue - turn.sin() * red), strength * (turn.sin() * blue + turn.cos() * red)
    changed = torch.cat([grey + v / 0.877, grey - 0.395 * u - 0.581 * v, grey + u / 0.492], dim=1)
    return changed.view_as(picture)


def elastic(picture: Tensor, draw: Draw, most: float) -> Tensor:
    """Push every pixel somewhere, up to a few pixels on average, its neighbours almost to the same place."""
    size = picture.shape[-1]
    push = normal(draw, 2 * size * size).view(-1, 2, size, size)
    push = _gaussian_blur(push, torch.full((len(push),), 1.5, device=push.device))
    push = push * (draw(1) * most).view(-1, 1, 1, 1) * (2.0 / size) / push.std(dim=(1, 2, 3), keepdim=True)
    line = (torch.arange(size, device=picture.device) + 0.5) * (2.0 / size) - 1.0
    down, right = torch.meshgrid(line, line, indexing="ij")
    grid = torch.stack([right, down], dim=-1) + push.permute(0, 2, 3, 1)
    return functional.grid_sample(picture, grid, padding_mode="border", align_corners=False)


PIXELS: dict[str, Callable[[Tensor, Draw, float], Tensor]] = {
    "gauss": gauss,
    "saltpepper": saltpepper,
    "dropout": dropout,
    "blur": blur,
    "contrast": contrast,
    "invert": invert,
    "gray": gray,
    "sharpen": sharpen,
    "emboss": emboss,
    "hue": hue,
    "elastic": elastic,
}
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
        for maps in (random_affine, random_perspective):
            chosen = (draw(1) < names["all"]).view(-1, 1, 1)
            moved = maps(draw, len(ink))
            still = torch.eye(3, dtype=moved.dtype, device=moved.device)
            glyph = resampled(glyph, torch.where(chosen, moved, still))
        seen = glyph
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
    """Apply every noise with a chance, at a random strength up to the official one; then dropout or salt and pepper.

    The official code shuffles their order; here it is always the same, so that a batch goes through together.
    """
    most = {"blur": 1.5, "elastic": 1.0, "sharpen": 1.0, "gray": 1.0, "contrast": 2.0, "emboss": 1.0, "invert": 0.5}
    most |= {"hue": 0.08, "gauss": 0.05}
    for name, strength in most.items():
        chosen = (draw(1) < chance).view(-1, 1, 1, 1)
        if name == "blur":
            changed = _gaussian_blur(picture, draw(1).squeeze(1) * strength)
        else:
            changed = PIXELS[name](picture, draw, strength)
        picture = torch.where(chosen, changed.clamp(0.0, 1.0), picture)
    share = draw(2)
    drawn = draw(picture[0, 0].numel()).view(-1, 1, *picture.shape[2:])
    level = torch.where(share[:, 0] < 0.5, 0.01 + 0.09 * share[:, 1], 0.03 + 0.27 * share[:, 1]).view(-1, 1, 1, 1)
    level = torch.where(draw(1).view(-1, 1, 1, 1) < chance, level, torch.zeros_like(level))
    white = (share[:, 0] >= 0.5).view(-1, 1, 1, 1) & (drawn < level / 2)
    return torch.where(drawn < level, white.to(picture), picture)


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


def _gaussian_blur(picture: Tensor, sigma: Tensor) -> Tensor:
    """Blur pictures (B, C, W, W), each with its own standard deviation (B,)."""
    reach = 5
    place = torch.arange(-reach, reach + 1, device=picture.device, dtype=picture.dtype)
    weight = torch.exp(-0.5 * (place / sigma.unsqueeze(1).clamp_min(1e-3)).square())
    weight = (weight / weight.sum(1, keepdim=True)).repeat_interleave(picture.shape[1], dim=0)
    flat = picture.flatten(0, 1).unsqueeze(0)
    flat = functional.conv2d(
        functional.pad(flat, (reach, reach, 0, 0), mode="replicate"), weight[:, None, None], groups=len(weight)
    )
    flat = functional.conv2d(
        functional.pad(flat, (0, 0, reach, reach), mode="replicate"), weight[:, None, :, None], groups=len(weight)
    )
    return flat.view_as(picture)


def _mean_blur(picture: Tensor, side: int) -> Tensor:
    edge = side // 2
    return functional.avg_pool2d(functional.pad(picture, (edge, edge, edge, edge), mode="replicate"), side, stride=1)
