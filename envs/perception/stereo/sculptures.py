"""PS Blobby and PS Sculpture, the rendered data sets that PS-FCN learns from (arXiv:2007.13145), where they are given.

A folder holds ``train_mtrl.txt``, a line an example, ``SHAPE/MATERIAL``; ``Images/SHAPE/SHAPE_normal.png``, whose bytes
0 to 255 are -1 to 1 and whose background is black; and ``Images/SHAPE/MATERIAL/SHAPE_MATERIAL.txt``, a line an image:
its name and x, y, z toward its light.

Shapes: B examples, K lights, H and W sides.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from envs.perception.stereo.diligent import read_lines
from envs.perception.stereo.png import read_png
from rlsuite.errors import UserError, require
from rlsuite.records.files import require_inside


class Sculptures:
    """A source of rendered samples.

    Args:
        folder: of one data set.
        split: "train" or "val".
    """

    def __init__(self, folder: str, split: str = "train") -> None:
        self.root = Path(folder)
        listed = self.root / f"{split}_mtrl.txt"
        require(listed.is_file(), f"data={folder}: it holds no {listed.name}; name a folder such as PS_Blobby_Dataset")
        self.names = [line.strip() for line in read_lines(listed) if line.strip()]
        require(bool(self.names), f"{listed} names no example; give it lines such as SHAPE/MATERIAL")
        known = all(name.count("/") == 1 and ".." not in name for name in self.names)
        require(known, f"{listed}: lines are SHAPE/MATERIAL")

    def __len__(self) -> int:
        return len(self.names)

    def examples(self, index: Tensor) -> dict[str, Tensor]:
        """Return "images" (B, K, 3, H, W), "lights" (B, K, 3), "normals" (B, 3, H, W), "mask" (B, 1, H, W) float."""
        found = [self._example(self.names[place]) for place in index.tolist()]
        return {name: torch.stack([one[name] for one in found]) for name in found[0]}

    def _example(self, name: str) -> dict[str, Tensor]:
        shape, material = name.split("/")
        folder = self.root / "Images" / shape
        listed = folder / material / f"{shape}_{material}.txt"
        for path in (folder, listed):
            require_inside(path, self.root)
        rows = [line.split() for line in read_lines(listed) if line.strip()]
        try:
            lights = torch.tensor([[float(number) for number in row[1:4]] for row in rows]).view(-1, 3)
        except (ValueError, RuntimeError):
            raise UserError(f"{listed}: a line is a file's name and three numbers") from None
        for row in rows:
            require_inside(folder / material / row[0], self.root)
        images = torch.stack([read_png(folder / material / row[0]) for row in rows])
        normals = read_png(folder / f"{shape}_normal.png") * 2.0 - 1.0
        length = normals.norm(dim=0, keepdim=True)
        mask = ((length > 0.5) & (length < 1.5)).float()  # black is (-1, -1, -1), of length 1.7
        normals = normals / length.clamp_min(1e-6) * mask
        return {"images": images * mask, "lights": lights, "normals": normals, "mask": mask}
