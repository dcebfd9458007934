"""DiLiGenT-MV: five objects from 20 sides under 96 known lights (arXiv:2001.06659), where the data set is given.

``mvpmsData/OBJECTPNG/`` holds ``view_01`` to ``view_20``, each with ``001.png`` to ``096.png`` (16 bits, linear),
``mask.png``, ``Normal_gt.mat`` (camera's axes), ``light_directions.txt`` and ``light_intensities.txt``; and
``Calib_Results.mat``: ``KK``, and ``Rc_i``, ``Tc_i`` from the world to camera i. Lengths are millimetres. Directions
and normals there are x right, y up, z toward the camera; here, as in `capture.py`, y is down and z forward: both are
flipped as they are read. Bear's masks have holes, which are filled.

Shapes: M views, K lights, H and W sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from envs.perception.stereo.capture import Capture
from envs.perception.stereo.diligent import read_images, read_lines, read_mat, read_table
from envs.perception.stereo.png import read_png
from rlsuite.errors import require
from rlsuite.records.files import require_inside

OBJECTS = ("bear", "buddha", "cow", "pot2", "reading")
FLIP = torch.tensor([1.0, -1.0, -1.0])


def read_diligent_mv(
    root: Path | str, name: str, views: Sequence[int] = (), lights: Sequence[int] = ()
) -> tuple[Capture, Tensor]:
    """Return photographs of an object, and its true normals (M, H, W, 3) in the cameras' axes, zero outside of masks.

    Args:
        root: the folder that holds mvpmsData, or that one.
        name: bear, buddha, cow, pot2 or reading.
        views: numbers from 1 on; all there are by default, which are 20 and need 11 GB.
        lights: numbers from 1 on; all by default.

    Raises:
        UserError: naming the file that is missing or not what it should be.
    """
    base = Path(root) / "mvpmsData" if (Path(root) / "mvpmsData").is_dir() else Path(root)
    folder = base / f"{name}PNG"
    require(folder.is_dir(), f"{folder}: there is no such folder; DiLiGenT-MV has {', '.join(OBJECTS)}")
    numbers = list(views) or list(range(1, 1 + len(list(folder.glob("view_*")))))
    require(bool(numbers), f"{folder} holds no view_01; name a folder of DiLiGenT-MV")
    calibration = folder / "Calib_Results.mat"
    parts = [_view(folder / f"view_{number:02}", lights) for number in numbers]
    sizes = {tuple(part["mask"].shape) for part in parts}
    require(len(sizes) == 1, f"{folder}: views are of different sizes {sorted(sizes)}")

    def read(key: str, shape: tuple[int, ...]) -> Tensor:
        return torch.from_numpy(np.asarray(read_mat(calibration, key), dtype=np.float32).reshape(shape))

    stacked = {key: torch.stack([part[key] for part in parts]) for key in parts[0]}
    capture = Capture(
        images=stacked["images"],
        masks=stacked["mask"],
        intrinsics=read("KK", (3, 3)),
        rotations=torch.stack([read(f"Rc_{number}", (3, 3)) for number in numbers]),
        translations=torch.stack([read(f"Tc_{number}", (3,)) for number in numbers]),
        lights=stacked["lights"],
        strengths=torch.ones(stacked["lights"].shape[:2]),
        near=False,
        white=float("inf"),
    )
    return capture, stacked["normals"]


def _view(folder: Path, lights: Sequence[int]) -> dict[str, Tensor]:
    """Return a view's "images" (K, H, W, 3) over their lights' intensities, "lights", "mask" and "normals".

    Saturated samples are set to zero: divided by intensities they would not be known any more.
    """
    count = len([line for line in read_lines(folder / "light_directions.txt") if line.strip()])
    directions, strengths = (read_table(folder / f"light_{what}.txt", count) for what in ("directions", "intensities"))
    chosen = torch.tensor(list(lights) or list(range(1, count + 1))) - 1
    require(int(chosen.min()) >= 0 and int(chosen.max()) < count, f"{folder} has {count} lights, numbered from 1 on")
    mask = fill_holes(read_png(folder / "mask.png")[0] > 0.5)
    paths = [folder / f"{int(number) + 1:03}.png" for number in chosen]
    for path in paths:
        require_inside(path, folder)
    images = read_images(paths, mask)
    images = torch.where(images.amax(dim=1, keepdim=True) < 0.99, images, 0.0) / strengths[chosen].view(-1, 3, 1, 1)
    normals = torch.from_numpy(np.ascontiguousarray(read_mat(folder / "Normal_gt.mat", "Normal_gt"))).float()
    require(tuple(normals.shape) == (*mask.shape, 3), f"{folder / 'Normal_gt.mat'} is not of the mask's size")
    return {
        "images": images.movedim(1, -1).contiguous(),
        "lights": directions[chosen] * FLIP,
        "mask": mask,
        "normals": normals * FLIP * mask.unsqueeze(-1),
    }


def fill_holes(mask: Tensor) -> Tensor:
    """Return a mask (H, W) bool with all that its outside does not reach from the border."""
    free = torch.nn.functional.pad(~mask, (1, 1, 1, 1), value=True)
    outside = torch.zeros_like(free)
    outside[0] = outside[-1] = True
    outside[:, 0] = outside[:, -1] = True
    while True:
        grown = outside.clone()
        grown[1:] |= outside[:-1]
        grown[:-1] |= outside[1:]
        grown[:, 1:] |= outside[:, :-1]
        grown[:, :-1] |= outside[:, 1:]
        grown &= free
        if torch.equal(grown, outside):
            return ~outside[1:-1, 1:-1]
        outside = grown
