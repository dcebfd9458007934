"""Terms that teams of the challenge added to its reward in training, by name (arXiv:1804.00361).

All are functions of the 41 numbers before and after 10 ms. Terms that take the place of the distance, `feet` and `sj`,
subtract it.

Shapes: n environments.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from envs.learning_to_run.skeleton import (
    BALL,
    HEAD_X,
    HEAD_Y,
    KNEE_L,
    KNEE_R,
    MASS_X,
    PELVIS_VX,
    PELVIS_X,
    TALUS_L_X,
    TALUS_R_X,
)
from rlsuite.errors import UserError, near_matches


class Step(NamedTuple):
    """What terms may look at.

    Attributes:
        before: (n, 41) the numbers 10 ms ago.
        now: (n, 41) the numbers.
        fallen: (n,) bool.
        spread: (n,) the largest distance of the feet since they crossed, m, this step left out.
    """

    before: Tensor
    now: Tensor
    fallen: Tensor
    spread: Tensor


def _lean(step: Step, slack: float) -> Tensor:
    return (step.now[:, PELVIS_X] - step.now[:, HEAD_X] - slack).clamp(0.0, 0.3)


def _straight_knees(step: Step) -> Tensor:
    return (step.now[:, KNEE_R] - 0.1).clamp(min=0.0) + (step.now[:, KNEE_L] - 0.1).clamp(min=0.0)


def _gain(step: Step, column: int) -> Tensor:
    return step.now[:, column] - step.before[:, column]


def _sj(step: Step) -> Tensor:
    """Stelmaszczyk and Jarosik: speed, standing, the head not behind, bent knees; in place of the distance."""
    now = step.now
    behind = (now[:, HEAD_X] - now[:, PELVIS_X]).clamp(max=0.0)
    earned = now[:, PELVIS_VX] * 0.01 + 0.01 + 0.1 * behind - 0.02 * _straight_knees(step)
    return earned - _gain(step, PELVIS_X)


def _ball(step: Step) -> Tensor:
    """reason8: a toe or talus in the next ball's box, half a radius wider on all sides."""
    x, height, radius = step.now[:, BALL].unbind(1)
    x = x + step.now[:, PELVIS_X]
    inside = torch.zeros_like(step.fallen)
    for column in range(28, 36, 2):  # x of toes and tali, each followed by its y
        near = (step.now[:, column] - x).abs() <= 1.5 * radius
        inside |= near & (step.now[:, column + 1] <= height + 1.5 * radius)
    return -0.5 * inside.to(step.now)


def _straight(step: Step) -> Tensor:
    now = step.now
    ahead = (now[:, MASS_X] - now[:, PELVIS_X]).abs() - 0.2
    return 0.015 * (now[:, HEAD_Y] - 1.4) - 0.025 * ahead.clamp(min=0.0)


def _feet(step: Step) -> Tensor:
    gains = [_gain(step, column) for column in (PELVIS_X, TALUS_L_X, TALUS_R_X, HEAD_X)]
    return (gains[0] + gains[1] + gains[2] + gains[3]) * 0.25 - gains[0]


def _crossed(step: Step) -> Tensor:
    """Return bool (n,): whether one foot has passed the other."""
    return _feet_apart(step.before) * _feet_apart(step.now) < 0.0


def _feet_apart(raw: Tensor) -> Tensor:
    return raw[:, TALUS_L_X] - raw[:, TALUS_R_X]


def _bend(step: Step) -> Tensor:
    most = math.pi / 4.0
    return 0.1 * ((-step.now[:, KNEE_R]).clamp(max=most) + (-step.now[:, KNEE_L]).clamp(max=most))


def _head_ahead(step: Step) -> Tensor:
    ahead = step.now[:, HEAD_X] - step.now[:, PELVIS_X]
    return torch.where(ahead >= 0.46, -(0.2 + (ahead - 0.37) / 3.0), 0.0)


TERMS: dict[str, Callable[[Step], Tensor]] = {
    "lean": lambda step: -0.05 * _lean(step, 0.15),  # PKU
    "knee": lambda step: -0.03 * _straight_knees(step),  # PKU
    "lean_starter": lambda step: -0.03 * _lean(step, 0.3),  # the starter code
    "knee_starter": lambda step: -0.02 * _straight_knees(step),
    "sj": _sj,
    "fall": lambda step: -0.2 * step.fallen.to(step.now),  # reason8
    "fall_hard": lambda step: -2.0 * step.fallen.to(step.now),  # NNAISENSE, as all that follow but "ball"
    "ball": _ball,
    "head_high": lambda step: 0.01 * (step.now[:, HEAD_Y] > 1.4).to(step.now),
    "straight": _straight,
    "feet": _feet,
    "step": lambda step: torch.where(_crossed(step), 0.5 * step.spread, 0.0),
    "bend": _bend,
    "smallsteps": lambda step: (_feet_apart(step.now).abs() - 0.6).clamp(min=0.0) * (-1.0 / 3.0),
    "headpelvis": _head_ahead,
}


class Shaping:
    """The sum of some terms.

    Args:
        names: Of `TERMS`.

    Attributes:
        memory_size: Numbers that the terms remember.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._terms = [TERMS[name] for name in names]
        self.memory_size = int("step" in names)

    @staticmethod
    def check(names: Sequence[str]) -> None:
        """Raise UserError if a term is unknown."""
        for name in names:
            if name not in TERMS:
                close = near_matches(name, TERMS, only_close=True)
                raise UserError(f"env.shaping: unknown term '{name}'{close}; use some of {', '.join(TERMS)}")

    def start(self, raw: Tensor) -> Tensor:
        """Return the memory (n, size) of episodes that begin with raw observations (n, 41)."""
        return raw.new_zeros(len(raw), self.memory_size)

    def update(self, memory: Tensor, before: Tensor, raw: Tensor, low: Tensor) -> tuple[Tensor, Tensor]:
        """Return what 10 ms add to the reward, (n,), and the memory (n, size).

        Args:
            memory: (n, size).
            before: (n, 41) the numbers 10 ms ago.
            raw: (n, 41) the numbers.
            low: (n,) bool, who has fallen.
        """
        spread = memory[:, 0] if self.memory_size else raw.new_zeros(len(raw))
        step = Step(before, raw, low, spread)
        added = raw.new_zeros(len(raw))
        for term in self._terms:
            added = added + term(step)
        if self.memory_size:
            widest = torch.maximum(spread, _feet_apart(raw).abs())
            memory = torch.where(_crossed(step), 0.0, widest).unsqueeze(1)
        return added, memory
