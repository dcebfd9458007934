"""Videos of a scripted gripper that pushes and carries two blocks, and the states that they were drawn from.

Seen from above; what is higher looks larger. A rollout is a chain of deeds: go to a block and touch, push or carry it,
or wander. Blocks that were moved are brought back where they first lay in half of the deeds on them. Where everything
is at every frame follows from the draws alone, so rollouts are made for all seeds at once.

Shapes: B rollouts, D deeds, F frames (16 a deed), O = 2 blocks, S side of a picture. Lengths in units of the picture's
side; 10 frames a second.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rlsuite.data.counters import uniform_float32
from rlsuite.errors import require

OBJECTS, DEED, HALF = 2, 16, 8  # frames of a deed: half to get there
BLOCK, GRIPPER, LIFT = 0.07, 0.055, 0.5  # half sides; how much larger what is lifted looks
KINDS = ("wander", "touch", "push", "carry")
_DRAWS = 7
COLOURS = torch.tensor([[0.85, 0.25, 0.2], [0.2, 0.4, 0.9], [0.95, 0.95, 0.95]])  # of the blocks, and of the gripper


@dataclass(frozen=True)
class Rollouts:
    """What happened.

    Attributes:
        gripper: (B, F, 2), where it is.
        blocks: (B, F, O, 2), where they are.
        height: (B, F, O), of the blocks, 0 on the table to 1.
        contact: (B, F, O) bool, the gripper touches.
        grasped: (B, F, O) bool, from both sides.
    """

    gripper: Tensor
    blocks: Tensor
    height: Tensor
    contact: Tensor
    grasped: Tensor

    def boxes(self) -> Tensor:
        """Return boxes (B, F, 1 + O, 4) of the gripper and the blocks, as shares of the picture's side."""
        sides = torch.cat([torch.full_like(self.height[..., :1], GRIPPER), BLOCK * (1.0 + LIFT * self.height)], dim=-1)
        middles = torch.cat([self.gripper.unsqueeze(2), self.blocks], dim=2)
        return torch.cat([middles - sides.unsqueeze(-1), middles + sides.unsqueeze(-1)], dim=-1)

    def frames(self, size: int) -> Tensor:
        """Return pictures (B, F, 3, S, S) uint8; the gripper is a ring, darker while it grasps."""
        pixels = (torch.arange(size) + 0.5) / size
        boxes = self.boxes()
        batch, times = boxes.shape[:2]
        squares = ((pixels.view(1, -1) * 8).floor() + (pixels.view(-1, 1) * 8).floor()) % 2
        picture = 0.35 + 0.1 * squares
        picture = picture.expand(batch, times, 3, size, size)
        width = 1.0 / size
        for thing in (1, 2, 0):
            low, high = boxes[:, :, thing, :2, None], boxes[:, :, thing, 2:, None]
            across, down = (torch.minimum(pixels - low[:, :, axis], high[:, :, axis] - pixels) for axis in (0, 1))
            depth = torch.minimum(across.unsqueeze(2), down.unsqueeze(3)) / width  # pixels inside the border
            share = (depth + 0.5).clamp(0.0, 1.0)
            colour = COLOURS[thing - 1].view(1, 1, 3, 1, 1)
            if thing == 0:
                share = share * (2.0 - depth).clamp(0.0, 1.0)  # hollow: what it holds can be seen
                colour = colour * torch.where(self.grasped.any(dim=2), 0.1, 1.0).view(batch, times, 1, 1, 1)
            picture = torch.lerp(picture, colour.expand_as(picture), share.unsqueeze(2))
        return (picture * 255.0).round().to(torch.uint8)


def rollouts(index: Tensor, seed: int, deeds: int = 6) -> Rollouts:
    """Return the rollouts at index (B,), D deeds long; example i is always the same.

    Raises:
        UserError: if there are no deeds.
    """
    require(deeds >= 1, f"deeds={deeds}: use 1 or more")
    batch = len(index)
    draws = uniform_float32(seed, index, (deeds + 1) * _DRAWS).view(batch, deeds + 1, _DRAWS)
    rows = torch.arange(batch)
    home = torch.stack([0.2 + 0.6 * draws[:, 0, :2], 0.2 + 0.6 * draws[:, 0, 2:4]], dim=1)  # (B, O, 2)
    away = 0.3 * torch.nn.functional.normalize(home[:, 1] - home[:, 0] + 1e-3, dim=1)
    home[:, 1] = torch.where((home[:, 1] - home[:, 0]).norm(dim=1, keepdim=True) < 0.3, home[:, 0] + away, home[:, 1])
    home = home.clamp(0.12, 0.88)
    blocks, gripper = home.clone(), 0.1 + 0.8 * draws[:, 0, 4:6]
    found: dict[str, list[Tensor]] = {name: [] for name in ("gripper", "blocks", "height", "contact", "grasped")}
    for deed in range(1, deeds + 1):
        own = draws[:, deed]
        kind = (own[:, 0] * len(KINDS)).long()
        which = (own[:, 1] * OBJECTS).long()
        start, first = blocks[rows, which], home[rows, which]
        moved = (start - first).norm(dim=1) > 0.05
        angle = 2.0 * torch.pi * own[:, 2]
        goal = start + (0.2 + 0.15 * own[:, 3]).unsqueeze(1) * torch.stack([angle.cos(), angle.sin()], dim=1)
        goal = torch.where((moved & (own[:, 4] < 0.5)).unsqueeze(1), first, goal.clamp(0.12, 0.88))
        goal = torch.where((kind >= 2).unsqueeze(1), goal, start)
        behind = torch.nn.functional.normalize(start - goal + 1e-6 * (own[:, 5:] - 0.5), dim=1)
        place = torch.where((kind == 3).unsqueeze(1), start, start + (BLOCK + GRIPPER) * behind)
        place = torch.where((kind == 0).unsqueeze(1), 0.1 + 0.8 * own[:, 5:], place)
        there = (torch.arange(1, HALF + 1) / HALF).view(1, -1, 1)
        coming = gripper.unsqueeze(1) + there * (place - gripper).unsqueeze(1)  # (B, 8, 2)
        shift = there * (goal - start).unsqueeze(1)
        doing = place.unsqueeze(1) + shift
        carries, works = kind == 3, kind > 0
        arch = torch.tensor([0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.0])
        still = torch.zeros(batch, HALF)
        height = torch.cat([still, carries.unsqueeze(1) * arch], dim=1)
        touches = works.unsqueeze(1) & torch.ones(1, HALF, dtype=torch.bool)
        touches[:, -1] &= ~carries  # let go of
        contact = torch.cat([still.bool(), touches], dim=1)
        mine = torch.nn.functional.one_hot(which, OBJECTS).bool().unsqueeze(1)  # (B, 1, O)
        moving = torch.cat([torch.zeros_like(shift), shift], dim=1).unsqueeze(2) * mine.unsqueeze(3)
        found["gripper"].append(torch.cat([coming, doing], dim=1))
        found["blocks"].append(blocks.unsqueeze(1) + moving)
        found["height"].append(height.unsqueeze(2) * mine)
        found["contact"].append(contact.unsqueeze(2) & mine)
        found["grasped"].append((contact & carries.unsqueeze(1)).unsqueeze(2) & mine)
        gripper, blocks = found["gripper"][-1][:, -1], found["blocks"][-1][:, -1]
    return Rollouts(**{name: torch.cat(parts, dim=1) for name, parts in found.items()})
