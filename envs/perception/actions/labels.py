"""Which events happen in clips of a rollout, by rules on a simulation's state.

An event of a clip is what holds in half of its frames or more, or happens in it. Two of them cannot be told from one
clip: whether something came back where it first lay, and whether it was tried before.

Shapes: B rollouts, F frames, C clips of T frames, O objects, K = 7 kinds of events.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rlsuite.errors import require

EVENTS = ("approach", "touch", "push", "grasp", "drop", "return", "retry")


@dataclass(frozen=True, kw_only=True)
class LabelConfig:
    """The rules' numbers, in metres and seconds where a state is.

    Attributes:
        frames: T.
        frames_per_second: of the states.
        nearer: distance by which an approach is one, at least.
        speed: at which an object that is touched is pushed, at least.
        lifted: height above which an object is lifted.
        back: distance from where it first lay at which it has come back, at most.
        moved: distance from there at which it is away, at least.
    """

    frames: int = 8
    frames_per_second: float = 10.0
    nearer: float = 0.02
    speed: float = 0.02
    lifted: float = 0.02
    back: float = 0.03
    moved: float = 0.05

    def __post_init__(self) -> None:
        require(self.frames >= 2, f"frames={self.frames}: use 2 or more")
        require(self.back < self.moved, f"back={self.back}, moved={self.moved}: what is away is further than back")


def label_rollouts(
    gripper: Tensor, objects: Tensor, height: Tensor, contact: Tensor, grasped: Tensor, config: LabelConfig
) -> Tensor:
    """Return which events happen, (B, C, O, K) bool; frames after the last whole clip are left out.

    Args:
        gripper: (B, F, d), where the gripper is.
        objects: (B, F, O, d), where objects are, without their height.
        height: (B, F, O), above where they lie.
        contact: (B, F, O) bool.
        grasped: (B, F, O) bool, contact of two fingers.
        config: the rules' numbers.
    """
    frames, clips = config.frames, gripper.shape[1] // config.frames

    def cut(values: Tensor) -> Tensor:
        return values[:, : clips * frames].unflatten(1, (clips, frames))

    step = torch.cat([torch.zeros_like(objects[:, :1]), objects[:, 1:] - objects[:, :-1]], dim=1)
    fast = step.norm(dim=-1) * config.frames_per_second > config.speed
    lifted = height > config.lifted
    distance = cut((objects - gripper.unsqueeze(2)).norm(dim=-1))
    nearer = distance[:, :, 0] - distance[:, :, -1] > config.nearer
    touch = _half(cut(contact))
    push = _half(cut(contact & fast & ~lifted))
    grasp = _half(cut(grasped & lifted))
    falls = torch.zeros_like(contact)
    falls[:, 1:] = contact[:, :-1] & ~contact[:, 1:] & (height[:, 1:] < height[:, :-1])
    drop = cut(falls).any(dim=2)
    away = (objects - objects[:, :1]).norm(dim=-1)
    was_away = cut(away.cummax(dim=1).values > config.moved)[:, :, -1]
    back = (push | grasp) & was_away & (cut(away)[:, :, -1] <= config.back)
    before = torch.cat([torch.zeros_like(push[:, :1]), push[:, :-1]], dim=1).cumsum(dim=1) > 0
    return torch.stack([nearer, touch, push, grasp, drop, back, push & before], dim=-1)


def _half(values: Tensor) -> Tensor:
    """Return what holds in half of the frames or more, (B, C, O) of (B, C, T, O) bool."""
    return 2 * values.sum(dim=2) >= values.shape[2]
