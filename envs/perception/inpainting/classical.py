"""Holes filled without learning: what TSAM has to beat.

Shapes: B batch, H and W sides of a picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from envs.perception.inpainting.flow_completion import SWEEPS, completed
from envs.perception.inpainting.inpainter import Inpainter, is_hole
from envs.perception.perceiver import Seen, State
from rlsuite.errors import require


@dataclass(frozen=True, kw_only=True)
class FillConfig:
    """Smooth filling.

    Attributes:
        sweeps: of the iteration, at each size.
    """

    sweeps: int = SWEEPS

    def __post_init__(self) -> None:
        require(self.sweeps >= 1, f"sweeps={self.sweeps}: use 1 or more")


class Fill(Inpainter):
    """Colors from the hole's border, smoothly: the Laplace equation, each picture by itself."""

    Config = FillConfig

    def forward(self, seen: Seen, state: State) -> tuple[Seen, State]:
        """Return "rgb" without holes."""
        return {"rgb": completed(seen["rgb"], is_hole(seen["hole"]), self.config.sweeps)}, state


class LastSeen(Inpainter):
    """What was last seen at the same pixel, and where nothing was yet, smooth filling. Right where nothing moves."""

    Config = FillConfig

    def init_state(self, batch: int, size: tuple[int, int]) -> State:
        """Return `picture`, what was last seen, and `ever`, where anything was."""
        return {"picture": torch.zeros(batch, 3, *size), "ever": torch.zeros(batch, 1, *size, dtype=torch.bool)}

    def forward(self, seen: Seen, state: State) -> tuple[Seen, State]:
        """Return "rgb" without holes."""
        hole = is_hole(seen["hole"])
        picture = torch.where(hole, state["picture"].to(hole.device), seen["rgb"])
        ever = ~hole | state["ever"].to(hole.device)
        return {"rgb": completed(picture, ~ever, self.config.sweeps)}, {"picture": picture, "ever": ever}


def last_seen(frames: Tensor, hole: Tensor) -> Tensor:
    """Return clips (B, L, 3, H, W) as LastSeen fills them, for holes (B, L, 1, H, W) bool."""
    filler = LastSeen(config=FillConfig())
    state, found = filler.init_state(len(frames), (frames.shape[-2], frames.shape[-1])), []
    for rgb, lost in zip(frames.unbind(dim=1), hole.float().unbind(dim=1), strict=True):
        seen, state = filler({"rgb": rgb, "hole": lost}, state)
        found.append(seen["rgb"])
    return torch.stack(found, dim=1)
