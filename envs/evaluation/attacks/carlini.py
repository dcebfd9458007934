"""CW-2 (Carlini and Wagner 2017, arXiv:1608.04644, sections V and VI-A): the least change, by optimization.

    minimize |x' - x|^2 + c max(Z(x')_true - max_i Z(x')_i, -confidence),   x' = box's middle + half its width tanh(w)

with Adam in w, so that x' never leaves the box, and the smallest c that is enough found by bisection, each input's own.
This is the untargeted form, as in the paper's own code.

Shapes: B batch, (...) one input, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from envs.evaluation.attacks.ascend import adam_steps, ascend
from envs.evaluation.attacks.attack import Box
from envs.evaluation.attacks.least import LeastChange, Outputs, margin, of_rows
from rlsuite.errors import require, require_finite

EDGE = 0.99  # of tanh's range: nearer to its end hardly a gradient is left, and black and white inputs would stay


@dataclass(frozen=True, kw_only=True)
class CW2Config:
    """How hard it looks. The paper takes 10,000 steps, a rate of 0.01 and 20 searches from a constant of 0.001.

    Attributes:
        steps: of Adam, for each constant.
        rate: Adam's.
        searches: constants that are tried for each input, one after another.
        constant: c, the first of them; ten times as much while nothing is found.
        confidence: by how much another class has to lead.
    """

    steps: int = 100
    rate: float = 0.05
    searches: int = 5
    constant: float = 0.1
    confidence: float = 0.0

    def __post_init__(self) -> None:
        for name in ("steps", "searches"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        for name in ("rate", "constant"):
            require_finite(name, getattr(self, name), above=0.0)
        require_finite("confidence", self.confidence, low=0.0)


class CW2(LeastChange):
    """The smallest change in the Euclidean norm that Adam finds."""

    Config = CW2Config

    def least(self, outputs: Outputs, x: Tensor, label: Tensor, box: Box) -> Tensor:
        """Return the nearest inputs visited that are told wrong, and x where there are none; see LeastChange."""
        config = self.config
        enough = Nearest(outputs, x, label, config.confidence)
        enough.look(x)
        low, high = torch.zeros(len(x), device=x.device), torch.full((len(x),), torch.inf, device=x.device)
        constant = torch.full_like(low, config.constant)
        start = _outside(x, box)

        for _ in range(config.searches):
            enough.found_now.zero_()

            def objective(value: Tensor, constant: Tensor = constant) -> Tensor:
                changed = _inside(value, box)
                lead = enough.look(changed)
                size = (changed - x).flatten(1).square().sum(1)
                return -size - constant * (-lead).clamp_min(-config.confidence)

            ascend(objective, start, adam_steps(config.rate), lambda value: value, steps=config.steps)
            high = torch.where(enough.found_now, constant, high)
            low = torch.where(enough.found_now, low, constant)
            constant = torch.where(high.isinf(), 10 * constant, (low + high) / 2)
        return enough.nearest


class Nearest:
    """Remembers of all changed inputs that were looked at the nearest that are told wrong.

    Args:
        outputs: the classifier.
        x: (B, ...), the inputs themselves.
        label: (B,), their classes.
        confidence: by how much another class has to lead, more than that or, of 0, at all.

    Attributes:
        nearest: (B, ...), x where none was found.
        found_now: (B,) bool, where one was found since it was last zeroed.
    """

    def __init__(self, outputs: Outputs, x: Tensor, label: Tensor, confidence: float) -> None:
        self.outputs, self.x, self.label, self.confidence = outputs, x, label, confidence
        self.nearest = x.clone()
        self.size = torch.full((len(x),), torch.inf, device=x.device, dtype=x.dtype)
        self.found_now = torch.zeros(len(x), dtype=torch.bool, device=x.device)

    def look(self, changed: Tensor) -> Tensor:
        """Return the leads of other classes (B,), differentiable, and take note."""
        lead = margin(self.outputs(changed), self.label)
        with torch.no_grad():
            wrong = (lead > 0) & (lead >= self.confidence)
            size = (changed - self.x).flatten(1).square().sum(1)
            better = wrong & (size < self.size)
            self.nearest = torch.where(of_rows(better, changed), changed.detach(), self.nearest)
            self.size = torch.where(better, size, self.size)
            self.found_now |= wrong
        return lead


def _inside(value: Tensor, box: Box) -> Tensor:
    if box is None:
        return value
    return ((box[0] + box[1]) + (box[1] - box[0]) * torch.tanh(value)) / 2


def _outside(x: Tensor, box: Box) -> Tensor:
    if box is None:
        return x
    return torch.atanh(((2 * x - (box[0] + box[1])) / (box[1] - box[0])).clamp(-EDGE, EDGE))
