"""A classifier behind a guard: is this input attacked, and if it is, from where was it moved?

Detection and guided recovery of Li et al. 2020 (arXiv:2002.12527; v1 calls it GRED, v2 GCD). Repair is either

- a walk: along the gradient of the loss for the class that the network says, until it says another; then two half steps
  more, away from the border. It goes back over the border that a small attack has just crossed.
- learned: a U-Net that sees the input and its gradient, and returns what to add. For attacks that went further.

The paper's principle is its abstract's; lengths of steps, features and networks are our own.

A clean input that is flagged by mistake is damaged by its repair, so `inspect` returns both answers.

Shapes: B batch, C classes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from envs.evaluation.attacks.least import of_rows
from envs.evaluation.defences.sensitivity import FEATURES, Logistic, directions, features, slopes
from rlsuite.nn.vision.doors import FromBytes
from rlsuite.nn.vision.u_net import UNet, UNetConfig

STEP = 0.006  # of the walk, times the root of how many numbers an input has
DETECTORS = ("threshold", "learned")
REPAIRS = ("walk", "learned")


class Verdict(NamedTuple):
    """What a guard says of inputs (B, ...).

    Attributes:
        score: (B,) of the detector; above the guard's threshold it is suspicious.
        flagged: (B,) bool.
        label: (B,) what the network says of the input as it came.
        repaired: (B, ...) the input after repair where it was flagged, else as it came.
        repaired_label: (B,) what the network says of that.
    """

    score: Tensor
    flagged: Tensor
    label: Tensor
    repaired: Tensor
    repaired_label: Tensor


class Guarded(nn.Module):
    """A classifier with a guard in front, as one module: an attack on it is an attack on both.

    For such attacks gradients pass a repair as if it were not there (BPDA, Athalye, Carlini and Wagner 2018,
    arXiv:1802.00420, section 4.1).

    Args:
        network: pictures (B, channels, H, W) in [0, 1] to (B, C).
        detector: a name of DETECTORS.
        repair: a name of REPAIRS.
        steps: of the walk at most.
        step: its length; 0 for 0.006 times the root of how many numbers an input has.
        channels: of pictures, for the learned repair.
        width: of its U-Net.
        seed: of its first weights.
    """

    threshold: Tensor
    centre: Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        detector: str = "learned",
        repair: str = "walk",
        steps: int = 40,
        step: float = 0.0,
        channels: int = 1,
        width: int = 16,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.network, self.door = network, FromBytes()
        self.detector, self.repair, self.steps, self.step = detector, repair, steps, step
        self.logistic = Logistic(len(FEATURES))
        self.register_buffer("threshold", torch.zeros(()))
        self.register_buffer("centre", torch.zeros(()))
        if repair == "learned":
            self.rectifier = UNet(2 * channels, 8, channels, UNetConfig(width=width, levels=2), seed)
            for parameter in self.rectifier.head.parameters():
                nn.init.zeros_(parameter)  # it begins by changing nothing

    def forward(self, inputs: Tensor) -> Tensor:
        """Map pictures (B, channels, H, W), uint8 or in [0, 1], to the outputs (B, C) for them after repair."""
        x = self.door(inputs)
        flagged = self.suspicion(x).detach() > self.threshold
        repaired = torch.where(of_rows(flagged, x), self.mend(x, flagged), x.detach())
        return self.network(x + (repaired - x.detach()))

    @torch.no_grad()
    def inspect(self, inputs: Tensor) -> Verdict:
        """Return what the guard says of pictures, both answers kept: whoever asks may also abstain."""
        x = self.door(inputs)
        score = self.suspicion(x)
        flagged = score > self.threshold
        repaired = torch.where(of_rows(flagged, x), self.mend(x, flagged), x)
        return Verdict(score, flagged, self.network(x).argmax(1), repaired, self.network(repaired).argmax(1))

    def suspicion(self, x: Tensor, *, differentiable: bool = False) -> Tensor:
        """Return the detector's score (B,) of pictures in [0, 1]: the gradient's log norm, or the learned one."""
        if self.detector == "threshold":
            norm = slopes(self.network, x, differentiable=differentiable).flatten(1).norm(dim=1)
            return norm.clamp_min(1e-12).log()
        return self.logistic(features(self.network, x, self.centre, differentiable=differentiable))

    def mend(self, x: Tensor, wanted: Tensor) -> Tensor:
        """Return pictures after repair, those that are not wanted (B,) as they came; without gradients."""
        if self.repair == "walk":
            return walk(self.network, x.detach(), wanted, steps=self.steps, step=self.step)
        with torch.no_grad():
            return self.rectified(x.detach())

    def rectified(self, x: Tensor) -> Tensor:
        """Return what the learned repair makes of pictures."""
        slope = directions(self.network, x.detach())
        slope = slope / of_rows(slope.flatten(1).std(1, correction=0).clamp_min(1e-12), slope)
        return (x + self.rectifier(torch.cat([x, slope], dim=1))).clamp(0.0, 1.0)


def walk(
    outputs: Callable[[Tensor], Tensor], x: Tensor, wanted: Tensor, *, steps: int = 40, step: float = 0.0
) -> Tensor:
    """Return pictures (B, ...) moved over the nearest border between classes, as the gradient sees it.

    Args:
        outputs: the classifier.
        x: pictures in [0, 1].
        wanted: (B,) bool, which to move; the others come back as they are, and so do those that meet no border.
        steps: at most; with 0 everything comes back.
        step: length of one; 0 for STEP times the root of how many numbers a picture has.
    """
    length = step or STEP * x[0].numel() ** 0.5
    found = x.clone()
    with torch.no_grad():
        said = outputs(x).argmax(1)
    rows = wanted.nonzero().flatten()
    place = x[rows]
    for _ in range(steps):
        if not len(rows):
            break
        way = directions(outputs, place, said[rows])
        place = (place + length * way).clamp(0.0, 1.0)
        with torch.no_grad():
            over = outputs(place).argmax(1) != said[rows]
        beyond = functools.reduce(lambda at, _: (at + 0.5 * length * way).clamp(0.0, 1.0), range(2), place)
        found[rows[over]] = beyond[over]
        rows, place = rows[~over], place[~over]
    return found


def hidden_objective(guard: Guarded, label: Tensor, weight: float) -> Callable[[Tensor], Tensor]:
    """Return what an attack climbs that knows of the detector: the network's loss minus the detector's score.

    Gradients go through the gradient that the detector looks at (a double backward).

    Args:
        guard: whose detector is to be kept quiet.
        label: (B,) the true classes.
        weight: of the score.
    """

    def objective(x: Tensor) -> Tensor:
        loss = nn.functional.cross_entropy(guard.network(x), label, reduction="none")
        return loss - weight * guard.suspicion(x, differentiable=torch.is_grad_enabled())

    return objective
