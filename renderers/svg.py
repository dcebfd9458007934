"""A painting as SVG: every stroke an outline with a gradient of opacity, layers as Inkscape knows them.

A stroke's outline is the envelope of its circles, and its opacity runs along the line from its start to its end. SVG
has no gradient along a curve and no overwriting circles, so bent strokes of changing opacity look a little different;
docs/painting.md states by how much.
"""

from __future__ import annotations

import math
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
import torch

from renderers.free_strokes import FreeStrokes
from renderers.geometry import shapes_for_kinds
from renderers.stroke_files import Painting
from renderers.strokes import BRUSHES, GLYPH, SHAPE_SIZE, control_points, glyph_radii, shape_for_brush
from rlsuite.records.files import write_atomically

SAMPLES = 10  # points along each side of an outline
_HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:inkscape="http://www.inkscape.org/namespaces/inkscape" '
    'width="{0}" height="{1}" viewBox="0 0 {0} {1}">\n<title>{2} strokes</title>\n'
    '<clipPath id="picture"><rect width="{0}" height="{1}"/></clipPath>\n<g clip-path="url(#picture)">\n'
    '<rect width="{0}" height="{1}" fill="{3}"/>\n'
)


def save_svg(strokes: Painting, path: Path) -> None:
    """Write a painting as SVG in its own pixels."""
    ground = "#fff" if strokes.brush == GLYPH else "#000"
    if isinstance(strokes, FreeStrokes) and any(strokes.ground):
        ground = "#" + "".join(f"{round(255 * part):02x}" for part in strokes.ground)
    parts = [_HEAD.format(strokes.width, strokes.height, len(strokes), ground)]
    for number, layer in enumerate(strokes.layers, start=1):
        label = quoteattr("strokes" if isinstance(strokes, FreeStrokes) else f"{number}: tiles of {layer.side} pixels")
        parts.append(f'<g id="layer{number}" inkscape:groupmode="layer" inkscape:label={label}>\n')
        if isinstance(strokes, FreeStrokes):
            brushes = [BRUSHES[kind] for kind in strokes.kinds.tolist()]
            shapes = shapes_for_kinds(strokes.strokes[:, :SHAPE_SIZE], strokes.kinds).double().unsqueeze(0)
        else:
            brushes = [strokes.brush] * layer.strokes.shape[1]
            shapes = shape_for_brush(layer.strokes[..., :SHAPE_SIZE], strokes.brush).double()
        points = [point.numpy() for point in control_points(shapes, strokes.brush)]
        points = np.stack(points, axis=-2)  # (m, n, 3, 2)
        colours = (layer.strokes[..., SHAPE_SIZE:] * 255).round().int().tolist()
        for tile, (top, left) in enumerate(layer.places.tolist()):
            clip = f"c{number}-{tile}"
            box = f'x="{left}" y="{top}" width="{layer.side}" height="{layer.side}"'
            parts.append(f'<clipPath id="{clip}"><rect {box}/></clipPath><g clip-path="url(#{clip})">\n')
            for index, shape in enumerate(shapes[tile].tolist()):
                half = 0.125 if strokes.brush == GLYPH else 0.25  # of a pixel of the exact rasterizer's raster
                place = points[tile, index] * (layer.side - 2 * half) + (top, left) + half
                name = f"s{number}-{tile}-{index}"
                parts.append(_stroke(name, place, shape, colours[tile][index], layer.side, brushes[index]))
            parts.append("</g>\n")
        parts.append("</g>\n")
    parts.append("</g>\n</svg>\n")
    write_atomically(path, "".join(parts))


def _stroke(name: str, place: np.ndarray, shape: list[float], colour: list[int], side: int, brush: str) -> str:
    start, end = shape[8], shape[9]
    paint = f"#{colour[0]:02x}{colour[1]:02x}{colour[2]:02x}"
    if brush == "triangle":
        corners = np.array(shape[:6]).reshape(3, 2) * (side - 0.5) + (place[0] - np.array(shape[:2]) * (side - 0.5))
        outline = "M" + "L".join(f"{column:.2f} {row:.2f}" for row, column in corners) + "Z"
        return f'<path d="{outline}" fill="{paint}" fill-opacity="{start:.3f}"/>\n'
    if brush == GLYPH:
        return _glyph_stroke(place, glyph_radii(torch.tensor(shape), side).numpy() / 4)
    radii = np.array(shape[6:8]) * side / 4 + 0.45
    outline = _outline(place, radii)
    length = math.dist(place[0], place[2])
    if abs(start - end) < 0.02 or length < 0.5:  # circles in one place overwrite each other: the last one is seen
        opacity = end if length < 0.5 else (start + end) / 2
        return f'<path d="{outline}" fill="{paint}" fill-opacity="{opacity:.3f}"/>\n'
    (row_0, column_0), (row_2, column_2) = place[0], place[2]
    # A point is painted last by the circle whose rear edge just leaves it: the gradient is ahead by the radius.
    back = radii.mean() / length
    shift_row, shift_column = (row_2 - row_0) * back, (column_2 - column_0) * back
    line = (
        f'x1="{column_0 - shift_column:.2f}" y1="{row_0 - shift_row:.2f}" '
        f'x2="{column_2 - shift_column:.2f}" y2="{row_2 - shift_row:.2f}"'
    )
    stops = f'<stop stop-color="{paint}" stop-opacity="{start:.3f}"/>'
    stops += f'<stop offset="1" stop-color="{paint}" stop-opacity="{end:.3f}"/>'
    gradient = f'<linearGradient id="{name}" gradientUnits="userSpaceOnUse" {line}>{stops}</linearGradient>'
    return f'{gradient}<path d="{outline}" fill="url(#{name})"/>\n'


def _glyph_stroke(place: np.ndarray, radii: np.ndarray) -> str:
    """Return a stroke of ink: its envelope, and circles for where one is wider than the way it goes."""
    time = np.linspace(0.0, 1.0, SAMPLES)[:, None]
    weights = np.concatenate([(1 - time) ** 2, 2 * time * (1 - time), time**2], axis=1)
    circles = "".join(
        f'<circle cx="{column:.2f}" cy="{row:.2f}" r="{radius:.2f}"/>'
        for (row, column), radius in zip(weights @ place, weights @ radii, strict=True)
    )
    return f'<g fill="#000"><path d="{_outline(place, radii)}"/>{circles}</g>\n'


def _outline(place: np.ndarray, radii: np.ndarray) -> str:
    """Return the envelope of circles of two or three radii as an SVG path; its self-crossings are filled."""
    time = np.linspace(0.0, 1.0, SAMPLES)[:, None]
    curve = (1 - time) ** 2 * place[0] + 2 * time * (1 - time) * place[1] + time**2 * place[2]
    speed = 2 * ((1 - time) * (place[1] - place[0]) + time * (place[2] - place[1]))
    rate = np.linalg.norm(speed, axis=1)
    along, back = time[:, 0], 1 - time[:, 0]
    if len(radii) == 2:
        radius = radii[0] + along * (radii[1] - radii[0])
        growth = np.full_like(radius, radii[1] - radii[0])
    else:
        radius = back**2 * radii[0] + 2 * along * back * radii[1] + along**2 * radii[2]
        growth = 2 * (back * (radii[1] - radii[0]) + along * (radii[2] - radii[1]))
    thicker = int(radii[-1] > radii[0])
    if rate.max() < 1e-6 or abs(radii[-1] - radii[0]) >= np.linalg.norm(place[2] - place[0]):
        return _circle(place[2 * thicker], radii[-thicker])  # one end's circle holds all others
    rate = np.maximum(rate, 1e-6)
    along = speed / rate[:, None]
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    # The edge leans where the radius changes: sin(theta) = R' / |B'|.
    lean = np.clip(-growth / rate, -0.95, 0.95)[:, None]
    rise = np.sqrt(1 - lean**2)
    one = curve + radius[:, None] * (lean * along + rise * across)
    other = curve + radius[:, None] * (lean * along - rise * across)
    text = lambda point: f"{point[1]:.2f} {point[0]:.2f}"  # noqa: E731
    begin, end = f"{radii[0]:.2f}", f"{radii[-1]:.2f}"
    large = int(lean[-1, 0] < 0), int(lean[0, 0] > 0)
    path = f"M{text(one[0])}" + "".join(f"L{text(point)}" for point in one[1:])
    path += f"A{end} {end} 0 {large[0]} 1 {text(other[-1])}" + "".join(f"L{text(point)}" for point in other[-2::-1])
    return path + f"A{begin} {begin} 0 {large[1]} 1 {text(one[0])}Z"


def _circle(centre: np.ndarray, radius: float) -> str:
    row, column = centre
    arc = f"a{radius:.2f} {radius:.2f} 0 1 0"
    return f"M{column - radius:.2f} {row:.2f}{arc} {2 * radius:.2f} 0{arc} {-2 * radius:.2f} 0Z"
