"""76 numbers for ACE (arXiv:1712.08987): scaled, relative to the pelvis, with two remembered balls and ground contact.

Made as the authors' public code makes them: every 10 ms, though decisions may come every 40, since velocities are
finite differences.

Shapes: n environments, M = 34 numbers remembered.
"""

from __future__ import annotations

import torch
from torch import Tensor

from envs.constants import constant
from envs.learning_to_run.mirror import BODIES as BODY_NAMES
from envs.learning_to_run.mirror import RAW_NAMES, mirrored
from envs.learning_to_run.skeleton import BALL, BODIES, PELVIS_VX, PELVIS_X, PELVIS_Y

_NO_BALL = (-1000.0, 0.0, 0.0)  # so far behind that it is seen where balls behind are cut off
_SAME_BALL = 1e-4  # m; balls lie further apart
_SECONDS = 0.01
_SCALES = (2.0, 1.0, 1.0, 4.0, 8.0, 1.0, *[4.0] * 12, *[1.0] * 23)
_FEET = slice(29, 36, 2)  # heights of toes and tali
_TOUCH = (0.0, 0.1)  # m, where the two indicators of contact of each are one half
_NAMES = (
    *RAW_NAMES,
    *(f"{body}.height" for body in BODY_NAMES),
    *(f"{body}.v{axis}" for body in BODY_NAMES for axis in "xy"),
    *(f"ball{index}_{entry}" for index in (0, 1) for entry in ("x", "y", "radius")),
    *(f"{body}.touch{index}" for body in BODY_NAMES[3:] for index in (0, 1)),
)


class Map:
    """The memory is bodies' places 10 ms ago and now, and the last two balls seen, the latest first."""

    memory_size = 34
    mirror = mirrored(_NAMES)

    def start(self, raw: Tensor) -> Tensor:
        """Return the memory (n, 34) of episodes that begin; their first observation's ball is not noted."""
        balls = constant(_NO_BALL * 2, raw).expand(len(raw), 6)
        return torch.cat([raw[:, BODIES], raw[:, BODIES], balls], dim=1)

    def update(self, memory: Tensor, raw: Tensor, excitation: Tensor) -> Tensor:
        """Return the memory (n, 34) after 10 ms."""
        latest = memory[:, 28:31]
        ball = raw[:, BALL].clone()
        ahead = ball[:, 0] < 100.0
        ball[:, 0] += raw[:, PELVIS_X]
        # A ball's place is the pelvis's and the distance to it: its digits in float32 change as the pelvis moves.
        new = (ahead & ((ball[:, 0] - latest[:, 0]).abs() > _SAME_BALL)).unsqueeze(1)
        balls = torch.cat([torch.where(new, ball, latest), torch.where(new, latest, memory[:, 31:])], dim=1)
        return torch.cat([memory[:, 14:28], raw[:, BODIES], balls], dim=1)

    def observe(self, memory: Tensor, raw: Tensor) -> Tensor:
        """Return the features (n, 76)."""
        pelvis, pelvis_velocity = raw[:, PELVIS_X : PELVIS_Y + 1], raw[:, PELVIS_VX : PELVIS_VX + 2]
        own = raw / constant(_SCALES, raw)
        own[:, 1] = 0.0
        own[:, 2] -= 0.9
        own[:, 18:20] -= pelvis
        own[:, 20:22] -= pelvis_velocity
        own[:, BODIES] -= pelvis.repeat(1, 7)
        own[:, BALL] = 0.0
        heights = raw[:, 23:36:2] - 0.9
        velocity = (memory[:, 14:28] - memory[:, :14]) / _SECONDS
        velocity = velocity - velocity[:, 2:4].repeat(1, 7)
        velocity[:, 0::2] /= 8.0
        feet = raw[:, _FEET].unsqueeze(2)
        touch = (5.0 * (constant(_TOUCH, raw) - feet) + 0.5).clamp(0.0, 1.0).flatten(1)
        features = torch.cat([own, heights, velocity, _balls(memory, raw), touch], dim=1)
        size = features.abs()
        return torch.where(size > 1.0, features.sign() * size.sqrt(), features)


def _balls(memory: Tensor, raw: Tensor) -> Tensor:
    """Return the two remembered balls (n, 6), the older first; behind the last one a far one, then the one before."""
    balls = memory[:, 28:].unflatten(1, (2, 3))
    x = (balls[:, :, 0] - raw[:, PELVIS_X].unsqueeze(1)).clamp(-3.0, 8.0) / 7.0
    seen = torch.cat([x.unsqueeze(2), 5.0 * balls[:, :, 1:]], dim=2)  # (n, 2, 3): latest, before
    none = constant((8.0 / 7.0, 0.0, 0.0), raw).expand(len(raw), 3)
    after_last = torch.stack([none, seen[:, 1]], dim=1)
    ahead = (raw[:, BALL.start] < 100.0).view(-1, 1, 1)
    return torch.where(ahead, seen.flip(1), after_last).flatten(1)
