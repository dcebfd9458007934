"""Examples of photometric stereo as networks learn from them: a few of their lights, a piece, brighter, with noise.

These are the augmentations of PS-FCN (arXiv:2007.13145) as its official code has them: some lights at random; height
and width rescaled independently, then cropped; brightness times U(1, 3), cut off at 2; uniform noise of a total width
of 0.05. For LCNet every image is multiplied by a strength of its own, which is to be found again. Rescaled normals are
made unit vectors again, which the official code leaves out.

Shapes: B examples, M of the source, K lights of it, q of them taken, H and W sides, C side of a piece.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from rlsuite.data.counters import uniform_float32
from rlsuite.data.source import Source
from rlsuite.errors import require, require_finite
from rlsuite.running.seeding import derive_seed

VIEWS = 1 << 20  # of each example
STRENGTHS = (0.2, 2.0)  # of lights, that LCNet tells


@dataclass(frozen=True, kw_only=True)
class CropConfig:
    """How examples are varied.

    Attributes:
        lights: q; those of an example, if it has fewer.
        side: C, a multiple of 4; 0 for whole pictures, and then they are not rescaled.
        rescaled: each side is first made C to H (or W) pixels long.
        brightness: a picture is made up to so many times brighter, the same factor for all its lights.
        noise: total width of the uniform noise on every number.
        strengths: every light has a strength of its own, U(0.2, 2).
    """

    lights: int = 32
    side: int = 32
    rescaled: bool = True
    brightness: float = 3.0
    noise: float = 0.05
    strengths: bool = False

    def __post_init__(self) -> None:
        require(self.lights >= 1, f"lights={self.lights}: use 1 or more")
        require(self.side >= 0 and self.side % 4 == 0, f"side={self.side}: use 0 (whole), or a multiple of 4")
        require_finite("brightness", self.brightness, low=1.0)
        require_finite("noise", self.noise, low=0.0)


class Crops:
    """A source whose examples are those of another one, each in 2^20 variations.

    Args:
        source: of "images", "lights", "normals" and "mask", as `Blobs` has them.
        config: how they are varied.
        seed: of the variations.
    """

    def __init__(self, source: Source, config: CropConfig, seed: int) -> None:
        self.source, self.config, self.seed = source, config, seed

    def __len__(self) -> int:
        return VIEWS * len(self.source)

    def examples(self, index: Tensor) -> dict[str, Tensor]:
        """Return "images" (B, q, 3, C, C), "lights" (B, q, 3), "normals", "mask", and "strengths" (B, q)."""
        config, found = self.config, dict(self.source.examples(index % len(self.source)))
        count = found["lights"].shape[1]
        lights = min(config.lights, count)
        draws = uniform_float32(derive_seed(self.seed, "views"), index, 5 + 2 * count)
        chosen = draws[:, 5 : 5 + count].argsort(dim=1)[:, :lights]
        rows = torch.arange(len(index)).unsqueeze(1)
        images, found["lights"] = found["images"][rows, chosen], found["lights"][rows, chosen]
        normals, mask = found["normals"], found["mask"]
        if config.side:
            images, normals, mask = self._piece(images, normals, mask, draws[:, :4])
        images = images * (1.0 + (config.brightness - 1.0) * draws[:, 4]).view(-1, 1, 1, 1, 1)
        if config.brightness > 1.0:
            images = images.clamp_max(2.0)
        strength = torch.ones(len(index), lights)
        if config.strengths:
            low, high = STRENGTHS
            strength = low + (high - low) * draws[:, 5 + count : 5 + count + lights]
            images = images * strength[..., None, None, None]
        if config.noise:
            noise = uniform_float32(derive_seed(self.seed, "noise"), index, images[0].numel()) - 0.5
            images = images + config.noise * noise.view_as(images)
        found |= {"images": images * mask.unsqueeze(1), "normals": normals, "mask": mask, "strengths": strength}
        return found

    def _piece(self, images: Tensor, normals: Tensor, mask: Tensor, draws: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return C x C of examples that are rescaled; draws (B, 4): both lengths and both places."""
        height, width = mask.shape[-2:]
        side = self.config.side
        require(side <= min(height, width), f"side={side}: use {min(height, width)} at most, the pictures' side")
        grids = []
        for place, length in enumerate((width, height)):
            scaled = torch.full((len(mask),), float(length))
            if self.config.rescaled:
                scaled = torch.floor(side + (length - side + 1) * draws[:, place])
            begin = torch.floor((scaled - side + 1) * draws[:, 2 + place])
            at = begin.unsqueeze(1) + torch.arange(side) + 0.5  # in pixels of the rescaled picture
            grids.append(2.0 * at / scaled.unsqueeze(1) - 1.0)
        grid = torch.stack(torch.broadcast_tensors(grids[0].unsqueeze(1), grids[1].unsqueeze(2)), dim=-1)
        stack = torch.cat([images.flatten(1, 2), normals, mask], dim=1)
        piece = functional.grid_sample(stack, grid, mode="bilinear", padding_mode="border", align_corners=False)
        images, normals, mask = piece.split([images.shape[1] * 3, 3, 1], dim=1)
        mask = (mask > 0.5).float()
        return images.unflatten(1, (-1, 3)), functional.normalize(normals, dim=1) * mask, mask
