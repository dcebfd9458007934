"""82 numbers of Stelmaszczyk and Jarosik (arXiv:1804.00361): velocities, accelerations, two balls, ground contact.

As their public code makes them: everything relative to the pelvis, many numbers by signed square roots. Of the ball
passed last and the next one, the distance enters as an importance, -x / 3 + 5 / 6 for x between -0.5 and 2.5 m and else
0, which multiplies height and radius.

Shapes: n environments, M = 76 numbers remembered.
"""

from __future__ import annotations

import torch
from torch import Tensor

from envs.constants import constant, indices
from envs.learning_to_run.mirror import RAW_NAMES, mirrored
from envs.learning_to_run.skeleton import BALL, PELVIS_VX, PELVIS_X, PELVIS_Y

_OWN = tuple(index for index in range(36) if index not in (24, 25))  # without the pelvis's second place
_PLACES = slice(22, 34)  # of head, torso, toes and tali, among the 34
_SECONDS = 0.01
_FIRST = (-2.0, 0.0, 0.1, 2.0, 0.0, 0.1)  # balls before any was seen: the last and the next
_HEIGHT, _RADIUS, _SPREAD = 0.14433756729740643, 0.1, 0.05
_CLEAR = 28.0  # m
_BODY_NAMES = [RAW_NAMES[index] for index in _OWN[22:]]
_FEET = (27, 29, 31, 33)
_MASS = ("mass.vx", "mass.vy")
_NAMES = (
    *(RAW_NAMES[index] for index in _OWN),
    *("strength_l", "strength_r"),
    *(f"ball{index}_{entry}" for index in (0, 1) for entry in ("x", "y", "radius")),
    *(name.replace(".", ".v") for name in _BODY_NAMES),
    *("tilt_acceleration", "pelvis_ax", "pelvis_ay"),
    *(f"{joint}_acceleration{side}" for side in ("_r", "_l") for joint in ("hip", "knee", "ankle")),
    *(name.replace(".", ".a") for name in (*_MASS, *_BODY_NAMES)),
    *(f"{body}.touch" for body in ("toes_l", "toes_r", "talus_l", "talus_r")),
    "clear_ahead",
)


class Map:
    """The memory is the 34 relative numbers, 12 velocities, 23 accelerations, the two balls, and the step."""

    memory_size = 76
    mirror = mirrored(_NAMES)

    def start(self, raw: Tensor) -> Tensor:
        """Return the memory (n, 76) of episodes that begin."""
        own = _relative(raw)
        empty = raw.new_zeros(len(raw), 12)
        velocity, acceleration = _changes(own, own, empty)
        balls = constant(_FIRST, raw).expand(len(raw), 6)
        return torch.cat([own, velocity, acceleration, balls, raw.new_zeros(len(raw), 1)], dim=1)

    def update(self, memory: Tensor, raw: Tensor, excitation: Tensor) -> Tensor:
        """Return the memory (n, 76) after 10 ms."""
        own = _relative(raw)
        velocity, acceleration = _changes(own, memory[:, :34], memory[:, 34:46])
        step = memory[:, 75:]
        balls = _balls(memory[:, 69:75], raw, own[:, 1:2] - memory[:, 1:2], step)
        return torch.cat([own, velocity, acceleration, balls, step + 1.0], dim=1)

    def observe(self, memory: Tensor, raw: Tensor) -> Tensor:
        """Return the features (n, 82)."""
        own, velocity, acceleration = memory[:, :34].clone(), memory[:, 34:46].clone(), memory[:, 46:69].clone()
        touch = (1.0 - 20.0 * (own[:, indices(_FEET, own)] + own[:, 2:3])).clamp(min=-1.0)
        beyond = own[:, 1:2] - _CLEAR
        clear = beyond / (1.0 + beyond.abs())
        own[:, 1] /= 100.0
        own[:, 2] = (own[:, 2] - 0.9) / 0.1
        own[:, 3:6] = _root(own[:, 3:6] - constant((0.3, 1.0, 0.3), own))
        own[:, 6:12] = _root(own[:, 6:12])
        own[:, 12:18] = _root(own[:, 12:18] / 5.0)
        centers = constant((-0.14, 0.07, -0.15, 0.61, -0.10, 0.08), own)
        spreads = constant((0.05, 0.03, 0.25, 0.02, 0.02, 0.02), own)
        fixed = indices((18, 19, 22, 23, 24, 25), own)
        own[:, 20:22] = _root(own[:, 20:22])
        own[:, fixed] = (own[:, fixed] - centers) / spreads
        own[:, 26:34:2] += 0.1
        own[:, 27:34:2] = (own[:, 27:34:2] + 0.9) / 0.3
        strength = (raw[:, 36:38] - 1.0) / 0.2
        velocity = _root(velocity)
        velocity[:, 4::2] /= 2.5
        acceleration[:, 3:9] /= 4.0
        acceleration = _root(acceleration)
        acceleration[:, 12::2] /= 0.6
        balls = memory[:, 69:75].unflatten(1, (2, 3))
        x = balls[:, :, 0]
        near = torch.where((x > -0.5) & (x < 2.5), x * (-1.0 / 3.0) + 5.0 / 6.0, 0.0)
        balls = torch.stack(
            [near, balls[:, :, 1] / _HEIGHT * near, (balls[:, :, 2] - _RADIUS) / _SPREAD * near], dim=2
        ).flatten(1)
        return torch.cat([own, strength, balls, velocity, acceleration, touch, clear], dim=1)


def _relative(raw: Tensor) -> Tensor:
    """Return 34 numbers (n, 34): angles less the tilt, rates less its rate, places and velocities less the pelvis's."""
    own = raw[:, indices(_OWN, raw)]
    own[:, 6:12] -= raw[:, 0:1]
    own[:, 12:18] -= raw[:, 3:4]
    own[:, 18:20] -= raw[:, PELVIS_X : PELVIS_Y + 1]
    own[:, 20:22] -= raw[:, PELVIS_VX : PELVIS_VX + 2]
    own[:, _PLACES] -= raw[:, PELVIS_X : PELVIS_Y + 1].repeat(1, 6)
    return own


def _changes(own: Tensor, before: Tensor, velocity_before: Tensor) -> tuple[Tensor, Tensor]:
    """Return velocities (n, 12) of bodies, relative to the pelvis's, and changes of velocities (n, 23) in 10 ms."""
    now, then = (part[:, _PLACES] + part[:, 1:3].repeat(1, 6) for part in (own, before))
    velocity = (now - then) / _SECONDS - own[:, 4:6].repeat(1, 6)
    change = own - before
    pelvis = change[:, 4:6]
    joints = change[:, 12:18] - change[:, 3:4]
    bodies = velocity - velocity_before - pelvis.repeat(1, 6)
    return velocity, torch.cat([change[:, 3:6], joints, change[:, 20:22] - pelvis, bodies], dim=1)


def _balls(balls: Tensor, raw: Tensor, moved: Tensor, step: Tensor) -> Tensor:
    """Return the last and the next ball (n, 6) after the pelvis has moved (n, 1), at steps (n, 1) counted from 0."""
    last, following = balls[:, :3], balls[:, 3:]
    seen = raw[:, BALL].clone()
    none = seen[:, 0] == 100.0
    new = (seen[:, 1:] != following[:, 1:]).any(dim=1, keepdim=True)
    shift = torch.cat([moved, torch.zeros_like(moved), torch.zeros_like(moved)], dim=1)
    found = seen.clone()
    found[:, 0] = torch.where(none, -2.0, seen[:, 0])
    later = torch.cat([torch.where(new, following, last) - shift, torch.where(new, found, following - shift)], dim=1)
    # What the first step shows is taken as the next ball, whatever it is.
    return torch.where(step == 0.0, torch.cat([last, seen], dim=1), later)


def _root(value: Tensor) -> Tensor:
    return value.sign() * value.abs().sqrt()
