"""What hides pixels: a patch over the picture, or parts of the scene that are in the way.

They say where as "hole", which inpainters after them read: perception=[inpainting/patch,inpainting/tsam].

Shapes: B batch, H and W sides of a picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from envs.perception.perceiver import Perceiver, Seen, State
from rlsuite.data.counters import uniform_float32
from rlsuite.errors import require, require_finite


@dataclass(frozen=True, kw_only=True)
class PatchConfig:
    """A rectangle that hides a part of each picture.

    Attributes:
        share: of the picture that it hides.
        speed: pixels that it moves at most from one camera frame to the next; 0 for a dead patch of the sensor.
        seed: of where it is.
    """

    share: float = 0.2
    speed: float = 2.0
    seed: int = 0

    def __post_init__(self) -> None:
        require(0.0 < self.share < 1.0, f"share={self.share}: use more than 0 and less than 1")
        require_finite("speed", self.speed, low=0.0)


class Patch(Perceiver):
    """A black rectangle, of the picture's proportions, that swings to and fro.

    Where it begins is a hash of `seed` and of the episode's first picture, so that every episode has its own and
    nothing is drawn.
    """

    Config = PatchConfig
    outputs = ("rgb", "hole")

    def init_state(self, batch: int, size: tuple[int, int]) -> State:
        """Return no frames: `age` counts them; `phase` says where the patch began, in turns."""
        return {"age": torch.zeros(batch, dtype=torch.int64), "phase": torch.zeros(batch, 2)}

    def forward(self, seen: Seen, state: State) -> tuple[Seen, State]:
        """Return "rgb" with zeros in the hole, and "hole"."""
        rgb, age, phase = seen["rgb"], state["age"], state["phase"]
        height, width = rgb.shape[2:]
        bytes_ = (255.0 * rgb).round().long().flatten(1)
        places = torch.arange(1, bytes_.shape[1] + 1, device=rgb.device)
        began = uniform_float32(self.config.seed, (bytes_ * places).sum(dim=1).cpu(), 2).to(rgb.device)
        age, phase = age.to(rgb.device), phase.to(rgb.device)
        phase = torch.where((age == 0).unsqueeze(1), began, phase)
        age = age + (seen["phase"] == 0.0).long()
        corners = []
        for axis, side in enumerate((height, width)):
            part = round(side * math.sqrt(self.config.share))
            room = side - part
            # A cosine over the room moves by room / 2 times its angle at most; the two axes have periods of their own.
            step = (1.0, 0.7)[axis] * self.config.speed / max(math.pi * room, 1.0)
            turns = phase[:, axis] + step * (age - 1)
            corner = (room * (0.5 + 0.5 * torch.cos(2.0 * math.pi * turns))).round()
            pixels = torch.arange(side, device=rgb.device)
            corners.append((pixels >= corner.unsqueeze(1)) & (pixels < corner.unsqueeze(1) + part))
        rows, columns = corners
        hole = (rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(1)
        return _hidden(rgb, hole), {"age": age, "phase": phase}


@dataclass(frozen=True, kw_only=True)
class HiddenConfig:
    """Parts of the scene that are in the way.

    Attributes:
        geoms: numbers of the model's geometries, as `ids` has them.
    """

    geoms: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        require(bool(self.geoms) and min(self.geoms) >= 0, f"geoms={list(self.geoms)}: name some by number, 0 or more")


class Hidden(Perceiver):
    """Pixels that show certain geometries become a hole: a gripper or a cable, past which an agent is to see."""

    Config = HiddenConfig
    inputs = ("rgb", "ids")
    outputs = ("rgb", "hole")

    def forward(self, seen: Seen, state: State) -> tuple[Seen, State]:
        """Return "rgb" with zeros in the hole, and "hole"."""
        geoms = torch.tensor(self.config.geoms, device=seen["ids"].device)
        return _hidden(seen["rgb"], torch.isin(seen["ids"], geoms)), state


def _hidden(rgb: Tensor, hole: Tensor) -> Seen:
    return {"rgb": torch.where(hole, 0.0, rgb), "hole": hole.float()}
