"""What befalls single pictures: noise of pixels, blur, colours, patches (arXiv:1806.08990, synth.py).

Each is a function of pictures (B, C, W, W) in [0, 1], of random numbers, and of how strong it is. What goes beyond
[0, 1] is cut off by whoever calls them.

Shapes: B pictures, C channels, W side.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from envs.characters.geometry import Draw, normal
from envs.characters.superpixels import GRID, flattened

LUMA = (0.299, 0.587, 0.114)


def luma(pictures: Tensor) -> Tensor:
    """Return the grey (B, 1, H, W) of pictures (B, 1 or 3, H, W)."""
    if pictures.shape[1] == 1:
        return pictures
    # Written out: weights made of host numbers here could be no part of a CUDA graph.
    red, green, blue = pictures.split(1, dim=1)
    return red * LUMA[0] + green * LUMA[1] + blue * LUMA[2]


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
    return gaussian_blur(picture, torch.full((len(picture),), sigma, device=picture.device))


def mean(picture: Tensor, draw: Draw, side: float) -> Tensor:
    """Make each pixel the mean of a square of an odd side around it."""
    return mean_blur(picture, 2 * int(side / 2) + 1)


def median(picture: Tensor, draw: Draw, side: float) -> Tensor:
    """Make each pixel the median of a square of an odd side around it."""
    side = 2 * int(side / 2) + 1
    padded = functional.pad(picture, [side // 2] * 4, mode="replicate")
    return padded.unfold(2, side, 1).unfold(3, side, 1).flatten(-2).median(dim=-1).values


def superpixels(picture: Tensor, draw: Draw, most: float) -> Tensor:
    """Give patches their mean colour, each with a chance up to the one given."""
    chance = draw(1) * most
    return flattened(picture, draw(GRID**2) < chance)


def contrast(picture: Tensor, draw: Draw, most: float) -> Tensor:
    """Stretch values around grey by a factor from 1 / most to most, log-uniform; of half of them, each channel's."""
    share = draw(1 + picture.shape[1])
    exponent = torch.where(share[:, :1] < 0.5, share[:, 1:], share[:, 1:2]) * 2 - 1
    return 0.5 + (picture - 0.5) * torch.exp(exponent * math.log(most))[..., None, None]


def invert(picture: Tensor, draw: Draw, chance: float) -> Tensor:
    """Invert channels, each with a chance."""
    return torch.where(draw(picture.shape[1])[..., None, None] < chance, 1.0 - picture, picture)


def gray(picture: Tensor, draw: Draw, most: float) -> Tensor:
    """Take colour away, up to a share."""
    return torch.lerp(picture, luma(picture).expand_as(picture), (draw(1) * most).view(-1, 1, 1, 1))


def sharpen(picture: Tensor, draw: Draw, most: float) -> Tensor:
    """Add what a mean of the neighbours lacks, up to a share, and make it lighter or darker, from 0.75 to 1.5 times."""
    share = draw(2)
    sharper = picture * (0.75 + 0.75 * share[:, 1].view(-1, 1, 1, 1)) + 2 * (picture - mean_blur(picture, 3))
    return torch.lerp(picture, sharper, (share[:, 0] * most).view(-1, 1, 1, 1))


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
    push = gaussian_blur(push, torch.full((len(push),), 1.5, device=push.device))
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
    "mean": mean,
    "median": median,
    "superpixels": superpixels,
    "contrast": contrast,
    "invert": invert,
    "gray": gray,
    "sharpen": sharpen,
    "emboss": emboss,
    "hue": hue,
    "elastic": elastic,
}


def gaussian_blur(picture: Tensor, sigma: Tensor) -> Tensor:
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


def mean_blur(picture: Tensor, side: int) -> Tensor:
    """Return means over squares of an odd side."""
    edge = side // 2
    return functional.avg_pool2d(functional.pad(picture, (edge, edge, edge, edge), mode="replicate"), side, stride=1)
