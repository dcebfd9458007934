"""Self-made pictures with the statistics of photographs: the dead leaves model.

Leaves of random shape, colour and shading fall on each other; their sizes follow a power law with exponent 3, so that
the pictures look alike at every scale, as photographs do (Lee, Mumford & Huang 2001).
"""

from __future__ import annotations

import math

import numpy as np


def dead_leaves(side: int, random: np.random.Generator) -> np.ndarray:
    """Return a picture (side, side, 3) uint8."""
    canvas = np.zeros((side, side, 3), np.float32)
    bare = np.ones((side, side), bool)
    palette = _palette(random)
    smallest, largest = side / random.uniform(10, 50), side / 2
    rows, columns = np.mgrid[0:side, 0:side].astype(np.float32)
    for _ in range(2000):  # from the front to the back, until nothing is bare
        low, high = smallest**-2, largest**-2
        radius = (low - random.uniform() * (low - high)) ** -0.5
        centre = random.uniform(-0.2 * side, 1.2 * side, 2)
        reach = int(1.5 * radius) + 2
        top, left = (max(0, int(place) - reach) for place in centre)
        window = (slice(top, max(top, int(centre[0]) + reach)), slice(left, max(left, int(centre[1]) + reach)))
        if not bare[window].any():
            continue
        angle = random.uniform(0, math.pi)
        across = rows[window] - centre[0], columns[window] - centre[1]
        u = (math.cos(angle) * across[0] + math.sin(angle) * across[1]) / radius
        v = (math.cos(angle) * across[1] - math.sin(angle) * across[0]) / (radius * random.uniform(0.3, 1.0))
        kind = random.integers(3)
        inside = (u * u + v * v < 1) if kind == 0 else (np.maximum(abs(u), abs(v)) < 0.9)
        if kind == 2:
            inside = (v > -0.6) & (v < 1.2 - 2 * abs(u))
        inside &= bare[window]
        shade = 1.0 + random.normal(0, 0.25) * u + random.normal(0, 0.15) * v
        if random.uniform() < 0.3:  # a pattern
            shade = shade + random.uniform(0.05, 0.25) * np.sin(random.uniform(3, 25) * (u + random.normal() * v))
        colour = np.clip(palette[random.integers(len(palette))] + random.normal(0, 0.06, 3), 0, 1)
        canvas[window][inside] = (shade[..., None] * colour)[inside]
        bare[window] &= ~inside
        if not bare.any():
            break
    canvas[bare] = palette[0]
    canvas = _blur(canvas, random.uniform(0.0, 1.5)) + random.normal(0, random.uniform(0, 0.02), canvas.shape)
    return (np.clip(canvas, 0, 1) * 255).astype(np.uint8)


def _palette(random: np.random.Generator) -> np.ndarray:
    """Return 8 colours (8, 3) around a common mean: a scene's colours are alike, and rarely vivid."""
    mean, spread = random.uniform(0.2, 0.7) + random.normal(0, 0.1, 3), random.uniform(0.03, 0.2)
    grey = random.normal(0, 0.25, (8, 1))
    return np.clip(mean + grey + random.normal(0, spread, (8, 3)) * random.uniform(0.2, 1.0), 0.02, 0.98)


def _blur(picture: np.ndarray, width: float) -> np.ndarray:
    """Blur with a Gaussian of `width` pixels, rows and columns in turn."""
    if width < 0.3:
        return picture
    reach = math.ceil(3 * width)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    kernel /= kernel.sum()
    for axis in (0, 1):
        pad = [(reach, reach) if index == axis else (0, 0) for index in range(3)]
        padded = np.pad(picture, pad, mode="edge")
        windows = np.lib.stride_tricks.sliding_window_view(padded, len(kernel), axis=axis)
        picture = windows @ kernel
    return picture
