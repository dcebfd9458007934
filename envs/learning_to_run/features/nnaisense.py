"""430 numbers of NNAISENSE, winner of the challenge (arXiv:1804.00361): eight steps of history, activations, balls.

As their public code's "new_8" with a memory of eight: 33 numbers now and their seven last changes, the distances of the
tali, the way of toes and tali to the next ball's beginning and end, and activations of eight steps. Activations are not
shown by the challenge: they are integrated from the excitations, here as the runner itself does. Their filter for stale
places is left out. The agent is meant to standardize what it sees and cut it at 5.

Shapes: n environments, 8 steps, the latest first; 20 balls.
"""

from __future__ import annotations

import torch
from torch import Tensor

from envs.constants import constant, indices
from envs.learning_to_run.mirror import RAW_NAMES, mirrored
from envs.learning_to_run.muscles import START, activated
from envs.learning_to_run.obstacles import MOST
from envs.learning_to_run.path_points import MUSCLES
from envs.learning_to_run.skeleton import BALL, PELVIS_X, SIZE

_STEPS = 8
_SUBSTEPS, _SUBSTEP = 10, 0.001
_FAR = 3.0  # m, the distance to a ball that is not there
_NEVER = 1e6  # m, the place of a ball that was not seen yet
# Numbers that enter as they are, and places that enter relative to the pelvis; in the order of the original.
_PLAIN = (0, 6, 9, 7, 10, 8, 11, 25, 19, 3, 12, 15, 13, 16, 14, 17, 5, 21, 20, 4, 27, 23, 29, 31, 33, 35)
_RELATIVE = (22, 26, 28, 30, 32, 34, 18)
_TALI = ((32, 34), (33, 35))  # x and y: left, right
_TOES_R, _TOES_L, _TALUS_R, _TALUS_L = (30, 31), (28, 29), (34, 35), (32, 33)
_HISTORY = _STEPS * SIZE
_ACTIVE = _STEPS * 2 * len(MUSCLES)


def _with_changes(name: str) -> list[str]:
    head, dot, tail = name.partition(".")
    return [name, *(f"{head}{dot or '.'}{tail}d{step}" for step in range(1, _STEPS))]


NAMES = (
    *("strength_l", "strength_r", "ball_x", "ball_y", "ball_radius", "no_ball"),
    *(name for index in (*_PLAIN, *_RELATIVE) for name in _with_changes(RAW_NAMES[index])),
    *(f"tali{kind}_{axis}{side}" for kind in ("", "_change") for axis in "xy" for side in ("_l", "_r")),
    *(f"{body}{side}.ball_{axis}" for body in ("toes", "talus") for axis in "xy" for side in ("_r", "_l")),
    *(f"{muscle}{side}.activation{step}" for step in range(_STEPS) for side in ("_r", "_l") for muscle in MUSCLES),
)


class Map:
    """The memory is 8 raw observations, 8 activations, the balls seen so far (x, y, radius), and their number."""

    memory_size = _HISTORY + _ACTIVE + 3 * MOST + 1
    mirror = mirrored(NAMES)

    def start(self, raw: Tensor) -> Tensor:
        """Return the memory (n, M) of episodes that begin."""
        count = len(raw)
        activation = raw.new_full((count, _ACTIVE), START)
        balls = constant((_NEVER, 0.0, 0.0), raw).repeat(MOST).expand(count, -1)
        memory = torch.cat([raw.repeat(1, _STEPS), activation, balls, raw.new_zeros(count, 1)], dim=1)
        return _noted(memory, raw)

    def update(self, memory: Tensor, raw: Tensor, excitation: Tensor) -> Tensor:
        """Return the memory (n, M) after 10 ms under excitations (n, 18)."""
        latest = memory[:, _HISTORY : _HISTORY + 2 * len(MUSCLES)]
        for _ in range(_SUBSTEPS):
            latest = activated(latest, excitation, _SUBSTEP)
        history = torch.cat([raw, memory[:, : _HISTORY - SIZE]], dim=1)
        active = torch.cat([latest, memory[:, _HISTORY : _HISTORY + _ACTIVE - 2 * len(MUSCLES)]], dim=1)
        return _noted(torch.cat([history, active, memory[:, _HISTORY + _ACTIVE :]], dim=1), raw)

    def observe(self, memory: Tensor, raw: Tensor) -> Tensor:
        """Return the features (n, 430)."""
        history = memory[:, :_HISTORY].unflatten(1, (_STEPS, SIZE))
        none = (raw[:, BALL.start] >= 100.0).unsqueeze(1)
        ball = torch.cat([torch.where(none, _FAR, raw[:, BALL.start : BALL.start + 1]), raw[:, BALL.start + 1 :]], 1)
        chosen = history[:, :, indices((*_PLAIN, *_RELATIVE), raw)].transpose(1, 2)  # (n, 33, 8)
        now = chosen[:, :, :1].clone()
        now[:, len(_PLAIN) :] -= raw[:, PELVIS_X].view(-1, 1, 1)
        changes = torch.cat([now, chosen[:, :, :-1] - chosen[:, :, 1:]], dim=2).flatten(1)
        apart = [history[:, :2, left] - history[:, :2, right] for left, right in _TALI]  # (n, 2): now and before
        tali = [sign * gap[:, 0] for gap in apart for sign in (1.0, -1.0)]
        tali += [sign * (gap[:, 0] - gap[:, 1]) for gap in apart for sign in (1.0, -1.0)]
        balls = memory[:, _HISTORY + _ACTIVE : -1].unflatten(1, (MOST, 3))
        reach = []
        for bodies, side in (((_TOES_R, _TOES_L), -1.0), ((_TALUS_R, _TALUS_L), 1.0)):
            ways = [_way(raw[:, x], raw[:, y], balls, side) for x, y in bodies]
            reach += [way[axis] for axis in (0, 1) for way in ways]
        return torch.cat(
            [
                *(raw[:, 36:38], ball, none.to(raw), changes, torch.stack([*tali, *reach], dim=1)),
                memory[:, _HISTORY : _HISTORY + _ACTIVE],
            ],
            dim=1,
        )


def _noted(memory: Tensor, raw: Tensor) -> Tensor:
    """Return the memory with the ball that is seen now appended, if it is another one than the last."""
    start = _HISTORY + _ACTIVE
    count = memory[:, -1].long()
    ball = raw[:, BALL].clone()
    ahead = ball[:, 0] < 100.0
    ball[:, 0] += raw[:, PELVIS_X]
    balls = memory[:, start:-1].unflatten(1, (MOST, 3))
    rows = torch.arange(len(memory), device=memory.device)
    last = balls[rows, (count - 1).clamp(min=0)]
    new = ahead & (count < MOST) & ((count == 0) | ((ball - last).abs() > 1e-4).any(dim=1))
    place = count.clamp(max=MOST - 1)
    noted = balls.clone()
    noted[rows, place] = torch.where(new.unsqueeze(1), ball, balls[rows, place])
    return torch.cat([memory[:, :start], noted.flatten(1), (count + new).to(memory).unsqueeze(1)], dim=1)


def _way(x: Tensor, y: Tensor, balls: Tensor, side: float) -> tuple[Tensor, Tensor]:
    """Return how far a point (n,) is from the first ball's beginning (side -1) or end (1) ahead, and below its top."""
    edge, top = balls[:, :, 0] + side * balls[:, :, 2], balls[:, :, 1] + balls[:, :, 2]
    ahead = (x.unsqueeze(1) < edge) & (balls[:, :, 0] < _NEVER)
    order = torch.where(ahead, balls[:, :, 0] - balls[:, :, 2], _NEVER)
    first = order.argmin(dim=1, keepdim=True)
    there = ahead.any(dim=1)
    ways = edge.gather(1, first)[:, 0] - x, top.gather(1, first)[:, 0] - y
    return torch.where(there, ways[0], _FAR), torch.where(there, ways[1], _FAR)
