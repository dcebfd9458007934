"""52 numbers of reason8.ai, third of the challenge (arXiv:1804.00361): relative to the pelvis, places repaired.

The challenge's server often repeated the places of bodies of the step before: a coordinate that did not change is
replaced by the last one, moved as the center of mass has moved. Velocities of bodies are finite differences of the
repaired places; of the ball there are its distance within 10 m, height, radius, and whether there is one.

Shapes: n environments, M = 39 numbers remembered.
"""

from __future__ import annotations

import torch
from torch import Tensor

from envs.constants import constant, indices
from envs.learning_to_run.mirror import RAW_NAMES, mirrored
from envs.learning_to_run.skeleton import BALL, MASS_X, MASS_Y, PELVIS_X

_BODIES = (*range(22, 24), *range(26, 36))  # head, torso, toes, tali: the pelvis's second place is left out
_KEPT = tuple(index for index in range(38) if index not in (PELVIS_X, 24, 25))
_CENTERED = (MASS_X, *_BODIES[0::2])
_RATE = 100.0  # steps a second
_NAMES = (
    *(RAW_NAMES[index] for index in _KEPT),
    "step",
    *(RAW_NAMES[index].replace(".", ".v") for index in _BODIES),
    *("ball_x", "ball_y", "ball_radius", "ball_there"),
)


class Map:
    """The memory is bodies' places as seen, repaired, and repaired 10 ms ago; the center of mass; the step."""

    memory_size = 39
    mirror = mirrored(_NAMES)

    def start(self, raw: Tensor) -> Tensor:
        """Return the memory (n, 39) of episodes that begin."""
        bodies = raw[:, indices(_BODIES, raw)]
        return torch.cat([bodies, bodies, bodies, raw[:, MASS_X : MASS_Y + 1], raw.new_zeros(len(raw), 1)], dim=1)

    def update(self, memory: Tensor, raw: Tensor, excitation: Tensor) -> Tensor:
        """Return the memory (n, 39) after 10 ms."""
        seen, repaired = memory[:, :12], memory[:, 12:24]
        mass = raw[:, MASS_X : MASS_Y + 1]
        bodies = raw[:, indices(_BODIES, raw)]
        moved = repaired + (mass - memory[:, 36:38]).repeat(1, 6)
        return torch.cat([bodies, torch.where(bodies == seen, moved, bodies), repaired, mass, memory[:, 38:] + 1.0], 1)

    def observe(self, memory: Tensor, raw: Tensor) -> Tensor:
        """Return the features (n, 52)."""
        state = raw.clone()
        repaired = memory[:, 12:24]
        state[:, indices(_BODIES, raw)] = repaired
        state[:, indices(_CENTERED, raw)] -= raw[:, PELVIS_X : PELVIS_X + 1]
        velocity = (repaired - memory[:, 24:36]) * _RATE
        there = raw[:, BALL.start : BALL.start + 1] < 100.0
        ball = torch.cat([raw[:, BALL], torch.ones_like(raw[:, :1])], dim=1)
        ball[:, 0].clamp_(-10.0, 10.0)
        ball = torch.where(there, ball, constant((-1.0, 0.0, 0.0, 0.0), raw))
        return torch.cat([state[:, indices(_KEPT, raw)], memory[:, 38:] / 1000.0, velocity, ball], dim=1)
