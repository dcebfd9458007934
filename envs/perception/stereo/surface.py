"""A mesh through oriented points: Poisson reconstruction on a grid (Kazhdan 2005), solved by Fourier's transform.

The indicator function of the object has the points' normals for its gradient: its Laplacian is the divergence of the
normals, spread over a grid. Its level through the points is the surface (marching cubes, of scikit-image). The paper's
screened Poisson, of octrees, also pulls the level to each point; here that is left to `refine.py`, which follows, and
the box is a periodic one with room around the object. 64 cells a side stand for a depth of 6.

Shapes: P points, N cells a side, V vertices, F faces.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from envs.perception.stereo.capture import Capture
from envs.perception.stereo.hull import hull_field
from rlsuite.errors import require
from rlsuite.extras import import_extra

ROOM = 0.2  # of the box, around the points


class Mesh(NamedTuple):
    """A surface of triangles.

    Attributes:
        vertices: (V, 3).
        faces: (F, 3) int64, counterclockwise seen from outside.
    """

    vertices: Tensor
    faces: Tensor

    def normals(self) -> Tensor:
        """Return unit normals (V, 3) of vertices: their faces', by area."""
        corners = self.vertices[self.faces]
        across = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        total = torch.zeros_like(self.vertices)
        for corner in range(3):
            total.index_add_(0, self.faces[:, corner], across)
        return functional.normalize(total, dim=1)

    def edges(self) -> Tensor:
        """Return the edges (E, 2) int64, each once."""
        pairs = torch.cat([self.faces[:, [0, 1]], self.faces[:, [1, 2]], self.faces[:, [2, 0]]])
        return pairs.sort(dim=1).values.unique(dim=0)


def poisson(points: Tensor, normals: Tensor, cells: int = 64, blur: float = 1.2) -> Mesh:
    """Return the surface through points (P, 3) with outward unit normals (P, 3).

    Args:
        points: the points.
        normals: theirs.
        cells: N.
        blur: standard deviation of what a point is spread to, in cells.

    Raises:
        UserError: if there are fewer than 10 points, or scikit-image is missing.
    """
    require(len(points) >= 10, f"{len(points)} points make no surface; give more seeds, or views")
    low, high = points.amin(dim=0), points.amax(dim=0)
    side = float((high - low).max()) / (1.0 - 2.0 * ROOM)
    corner = 0.5 * (low + high) - 0.5 * side
    at = (points - corner) * (cells / side) - 0.5  # in cells; their middles are whole numbers
    density = _spread(at, torch.ones(len(points), 1), cells)[..., 0]
    weight = 1.0 / _between(_blurred(density, 3.0), at).clamp_min(1e-6)  # where points crowd each counts less
    field = _spread(at, normals * weight.unsqueeze(1), cells).movedim(-1, 0)
    waves = 2.0 * math.pi * torch.fft.fftfreq(cells)
    grid = torch.stack(torch.meshgrid(waves, waves, waves, indexing="ij"))
    square = grid.square().sum(dim=0)
    smooth = torch.exp(-0.5 * blur**2 * square)
    divergence = (1j * grid * torch.fft.fftn(field, dim=(1, 2, 3))).sum(dim=0)
    potential = -divergence * smooth / square.clamp_min(1e-12)
    potential[0, 0, 0] = 0.0
    indicator = torch.fft.ifftn(potential).real  # grows outward
    level = float(_between(indicator, at).median())
    return marching_cubes(indicator, level, corner, side / cells)


def marching_cubes(field: Tensor, level: float, corner: Tensor, cell: float) -> Mesh:
    """Return where a field (N, N, N), which grows outward, is at a level; `corner` (3,) is the first cell's.

    The largest of its pieces: others are what a few stray points made.
    """
    measure = import_extra("skimage.measure", "a mesh")
    values = field.numpy()
    require(bool(values.min() < level < values.max()), "the field nowhere has this level; there is no surface")
    vertices, faces, _, _ = measure.marching_cubes(values, level)
    mesh = Mesh(
        corner + cell * (torch.from_numpy(vertices.copy()).float() + 0.5), torch.from_numpy(faces.copy()).long()
    )
    corners = mesh.vertices[mesh.faces].double()
    volume = torch.linalg.det(corners - mesh.vertices.mean(dim=0).double()).sum()
    return _largest(Mesh(mesh.vertices, mesh.faces.flip(1)) if float(volume) < 0 else mesh)


def hull_mesh(capture: Capture, cells: int = 64) -> Mesh:
    """Return the visual hull's surface."""
    size, middle = capture.size(), capture.middle()
    side = size * 1.5
    at = (torch.arange(cells) + 0.5) / cells - 0.5
    grid = middle + side * torch.stack(torch.meshgrid(at, at, at, indexing="ij"), dim=-1)
    field = hull_field(capture, grid.view(-1, 3)).view(cells, cells, cells)
    return marching_cubes(-field, 0.0, middle - 0.5 * side, side / cells)


def _largest(mesh: Mesh) -> Mesh:
    """Return the connected piece with the most faces; labels sink along edges until none changes."""
    label, edges = torch.arange(len(mesh.vertices)), mesh.edges()
    while True:
        least = torch.minimum(label[edges[:, 0]], label[edges[:, 1]])
        after = label.scatter_reduce(0, edges.flatten(), least.repeat_interleave(2), "amin")
        after = after[after]
        if torch.equal(after, label):
            break
        label = after
    kept = label[mesh.faces[:, 0]] == label[mesh.faces[:, 0]].mode().values
    used, index = mesh.faces[kept].flatten().unique(return_inverse=True)
    return Mesh(mesh.vertices[used], index.view(-1, 3))


def _corners(at: Tensor, cells: int) -> tuple[Tensor, Tensor]:
    """Return flat indices (P, 8) of the cells around places (P, 3), and how much of each place is theirs (P, 8)."""
    base = at.floor()
    part = at - base
    steps = torch.from_numpy(np.indices((2, 2, 2)).reshape(3, 8).T.copy())
    index = (base.long().unsqueeze(1) + steps) % cells
    share = torch.where(steps.bool(), part.unsqueeze(1), 1.0 - part.unsqueeze(1)).prod(dim=2)
    return (index[..., 0] * cells + index[..., 1]) * cells + index[..., 2], share


def _spread(at: Tensor, values: Tensor, cells: int) -> Tensor:
    index, share = _corners(at, cells)
    grid = torch.zeros(cells**3, values.shape[1])
    grid.index_add_(0, index.flatten(), (share.unsqueeze(2) * values.unsqueeze(1)).flatten(0, 1))
    return grid.view(cells, cells, cells, -1)


def _between(grid: Tensor, at: Tensor) -> Tensor:
    index, share = _corners(at, len(grid))
    return (grid.flatten()[index] * share).sum(dim=1)


def _blurred(grid: Tensor, cells: float) -> Tensor:
    waves = 2.0 * math.pi * torch.fft.fftfreq(len(grid))
    one = torch.exp(-0.5 * cells**2 * waves**2)
    kernel = one.view(-1, 1, 1) * one.view(1, -1, 1) * one
    return torch.fft.ifftn(torch.fft.fftn(grid) * kernel).real.clamp_min(0.0)
