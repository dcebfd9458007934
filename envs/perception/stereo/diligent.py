"""DiLiGenT (Shi et al. 2016): objects under 96 known lights with their true normals, where the data set is given.

An object's folder holds ``filenames.txt`` (the images' names), ``light_directions.txt`` and ``light_intensities.txt``
(three numbers an image), ``mask.png`` and ``Normal_gt.mat`` (key ``Normal_gt``). Images are linear and of 16 bits: they
look dark, and are never gamma-decoded. x is right, y up, z toward the camera.

Shapes: K images, H and W sides.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from envs.perception.stereo.png import read_png
from rlsuite.errors import UserError, require
from rlsuite.extras import import_extra
from rlsuite.records.files import read_text, require_file, require_inside

LARGEST_MAT = 1 << 28


class Photos(NamedTuple):
    """Photographs of an object from one place.

    Attributes:
        images: (K, 3, H, W), linear, each divided by its light's intensity; zero outside of the mask.
        lights: (K, 3), unit vectors toward them.
        normals: (3, H, W), true ones; zero outside of the mask.
        mask: (H, W) bool.
    """

    images: Tensor
    lights: Tensor
    normals: Tensor
    mask: Tensor


def read_diligent(folder: Path | str) -> Photos:
    """Return an object of DiLiGenT.

    Raises:
        UserError: naming the file that is missing or not what it should be.
    """
    root = Path(folder)
    names = [line.strip() for line in read_lines(root / "filenames.txt") if line.strip()]
    lights, strengths = (read_table(root / f"light_{what}.txt", len(names)) for what in ("directions", "intensities"))
    for name in names:
        require_inside(root / name, root)
    mask = read_png(root / "mask.png")[0] > 0.5
    normals = read_mat(root / "Normal_gt.mat", "Normal_gt")
    require(
        normals.ndim == 3 and normals.shape == (*mask.shape, 3),
        f"{root / 'Normal_gt.mat'}: Normal_gt is {normals.shape}, not {(*mask.shape, 3)}, the mask's",
    )
    images = read_images([root / name for name in names], mask) / strengths.view(-1, 3, 1, 1)
    truth = torch.from_numpy(normals).float().permute(2, 0, 1) * mask
    return Photos(images, lights, truth.contiguous(), mask)


def cropped(photos: Photos, margin: int = 15) -> Photos:
    """Return photographs cut to the mask's box and `margin` pixels around it, as SDPS-Net evaluates."""
    rows, columns = (photos.mask.any(dim=side).nonzero().flatten() for side in (1, 0))
    require(len(rows) > 0, "the mask is empty; there is nothing to cut out")
    top, left = (max(int(place[0]) - margin, 0) for place in (rows, columns))
    part = (slice(top, int(rows[-1]) + margin + 1), slice(left, int(columns[-1]) + margin + 1))
    return Photos(photos.images[:, :, *part], photos.lights, photos.normals[:, *part], photos.mask[part])


def read_images(paths: list[Path], mask: Tensor) -> Tensor:
    """Return pictures (K, 3, H, W) float32 of the mask's (H, W) size, zero outside of it."""
    images = torch.zeros(len(paths), 3, *mask.shape)
    for number, path in enumerate(paths):
        picture = read_png(path)
        require(picture.shape[1:] == mask.shape, f"{path} is {tuple(picture.shape[1:])}, its mask {tuple(mask.shape)}")
        images[number] = picture * mask
    return images


def read_lines(path: Path) -> list[str]:
    """Return a text file's lines; UserError if it is not there."""
    require(path.is_file(), f"{path}: there is no such file; name a folder that holds it")
    return read_text(path).splitlines()


def read_table(path: Path, rows: int) -> Tensor:
    """Return a text file's numbers (rows, 3) float32; UserError if it holds others."""
    try:
        numbers = [[float(word) for word in line.split()] for line in read_lines(path) if line.strip()]
    except ValueError:
        raise UserError(f"{path}: a line is three numbers") from None
    require(len(numbers) == rows, f"{path} has {len(numbers)} lines, and there are {rows} images")
    require(all(len(row) == 3 for row in numbers), f"{path}: a line is three numbers")
    found = torch.tensor(numbers).view(rows, 3)
    require(bool(found.isfinite().all()), f"{path}: its numbers must be finite")
    return found


def read_mat(path: Path, key: str) -> np.ndarray:
    """Return an array of a MATLAB file (of version 7 or below); UserError if it is not there."""
    require(path.is_file(), f"{path}: there is no such file; name a folder that holds it")
    require_file(path, LARGEST_MAT)
    loader = import_extra("scipy.io", f"reading {path.name}")
    try:
        found = loader.loadmat(str(path), variable_names=[key])
    except Exception as error:  # scipy raises whatever a damaged file leads it to
        raise UserError(f"{path}: it cannot be read ({' '.join(str(error).split())[:100]})") from None
    require(key in found and found[key].dtype.kind in "fiu", f"{path} holds no numbers called {key}")
    return found[key]
