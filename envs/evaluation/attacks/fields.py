"""Harmonic fields over a picture: smooth as uneven light, and invisible to edge detectors (arXiv:1807.10590).

The real part of an analytic function of z = u + iv is harmonic: its Laplacian is 0 everywhere. What keeps it so: a
similarity w = s e^(i theta) z + c before the function (turning and scaling both axes alike), mixes of real and
imaginary part, sums, and affine maps of values, such as those to [-1, 1]. Scaling the axes apart, or enlarging a field
by interpolation, would not. The paper's principle is its abstract's; families and ranges are our own.

Shapes: B pictures, C channels, H and W sides, K fields (terms of each channel's), P numbers of a light.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from rlsuite.errors import require, require_choice

SCALE = (-0.4, 1.4)  # of log s: below, rounding shows once a field is stretched; above, pixels are too coarse for it
COLOURS = ("gray", "rgb", "rgb3")
PER_FIELD = 5  # log s, theta, real and imaginary part of c, phase


def _power(exponent: int) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda w, near: w**exponent


# Functions of w, and of 1 - z / p, where the pole p lies outside the picture: so its real part is above 0, and log has
# no cut there.
FAMILIES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sin": lambda w, near: torch.sin(w),
    "exp": lambda w, near: torch.exp(w),
    **{f"power{exponent}": _power(exponent) for exponent in range(2, 7)},
    "log": lambda w, near: torch.log(near),
    "pole": lambda w, near: 1.0 / near,
}


@dataclass(frozen=True, kw_only=True)
class FieldConfig:
    """Which fields.

    Attributes:
        families: sin, exp, power2 to power6, log (log(w - p), with a pole p outside the picture), pole (1 / (w - p)).
        terms: functions that are summed into a field, 1 to 3, each drawn from the families.
        colour: "gray" (one field for all channels: light), "rgb" (one field, with a weight in [-1, 1] for each
            channel) or "rgb3" (a field for each channel).
        multiplicative: pictures times 1 + eps * field, as light acts, instead of plus.
    """

    families: tuple[str, ...] = ("sin", "exp", "power2", "power3")
    terms: int = 1
    colour: str = "gray"
    multiplicative: bool = False

    def __post_init__(self) -> None:
        require(bool(self.families), "families=[]: name one or more, such as [sin,exp]")
        for name in self.families:
            require_choice("families", name, FAMILIES)
        require(1 <= self.terms <= 3, f"terms={self.terms}: use 1, 2 or 3")
        require_choice("colour", self.colour, COLOURS)


class Light(NamedTuple):
    """Fields by their numbers.

    `family` (B, K) int64 are places among the config's families; `numbers` (B, P) are PER_FIELD for each of the K
    functions and, for colour="rgb", C weights behind them.
    """

    family: Tensor
    numbers: Tensor

    def rows(self, count: int) -> Light:
        """Return one light shown to so many pictures."""
        return Light(self.family.expand(count, -1), self.numbers.expand(count, -1))


class Fields:
    """Fields for pictures of one size.

    Args:
        config: which.
        shape: (C, H, W) of the pictures; H or W is 2 or more.
    """

    def __init__(self, config: FieldConfig, shape: tuple[int, int, int]) -> None:
        self.config, self.shape = config, shape
        self.channels, height, width = shape
        require(max(height, width) >= 2, f"pictures of {height}x{width}: a field needs two pixels or more")
        self.functions = config.terms * (self.channels if config.colour == "rgb3" else 1)
        self.weights = self.channels if config.colour == "rgb" else 0
        step = 2.0 / (max(height, width) - 1)  # the longer side spans [-1, 1], the other as its pixels have it
        down = (torch.arange(height, dtype=torch.float64) - (height - 1) / 2) * step
        right = (torch.arange(width, dtype=torch.float64) - (width - 1) / 2) * step
        self.grid = torch.complex(*torch.broadcast_tensors(right[None, :], -down[:, None]))

    def draw(self, count: int, generator: torch.Generator) -> Light:
        """Return so many lights, every number uniform in its range."""
        family = torch.randint(len(self.config.families), (count, self.functions), generator=generator)
        share = torch.rand((count, self.functions, PER_FIELD), generator=generator)
        low = torch.tensor([SCALE[0], 0.0, -1.0, -1.0, 0.0])
        high = torch.tensor([SCALE[1], 2 * math.pi, 1.0, 1.0, 2 * math.pi])
        weights = torch.rand((count, self.weights), generator=generator) * 2 - 1
        return Light(family, torch.cat([(low + (high - low) * share).flatten(1), weights], dim=1))

    def bounded(self, numbers: Tensor) -> Tensor:
        """Return numbers (B, P) put back into their ranges; angles have none."""
        of_fields, weights = self._split(numbers)
        scale, angle, shift, phase = of_fields.split((1, 1, 2, 1), dim=-1)
        of_fields = torch.cat([scale.clamp(*SCALE), angle, shift.clamp(-1.0, 1.0), phase], dim=-1)
        return torch.cat([of_fields.flatten(1), weights.clamp(-1.0, 1.0)], dim=1)

    def walk(self, light: Light, deviation: float, generator: torch.Generator) -> Light:
        """Return lights that have drifted by a step of a random walk: moving shadows."""
        step = torch.randn(light.numbers.shape, generator=generator).to(light.numbers)
        return Light(light.family, self.bounded(light.numbers + deviation * step))

    def values(self, light: Light) -> Tensor:
        """Return fields (B, C, H, W) that span [-1, 1] (of colour "rgb": times the weights), differentiable."""
        numbers, weights = self._split(light.numbers)
        log_scale, angle, real, imaginary, phase = numbers.unsqueeze(-1).unsqueeze(-1).unbind(2)
        z = self.grid.to(numbers.device, torch.complex64 if numbers.dtype == torch.float32 else torch.complex128)
        w = torch.polar(log_scale.exp(), angle) * z + torch.complex(real, imaginary)
        near = 1.0 - z / torch.polar(1.5 + torch.exp(-log_scale), angle)  # 1 - z / p; |p| > 1.5 > |z|
        field = w.real.new_zeros(w.shape)
        for place, name in enumerate(self.config.families):
            chosen = light.family == place
            value = FAMILIES[name](w[chosen], near[chosen])
            turned = phase[chosen].cos() * value.real + phase[chosen].sin() * value.imag
            field = field.index_put((chosen,), turned)
        whole = stretched(field).unflatten(1, (-1, self.config.terms))
        whole = stretched(whole.sum(2)) if self.config.terms > 1 else whole.squeeze(2)
        if self.weights:
            return whole * weights[:, :, None, None]
        return whole.expand(-1, self.channels, -1, -1)

    def lit(self, pictures: Tensor, light: Light, eps: float, box: tuple[float, float] | None = (0.0, 1.0)) -> Tensor:
        """Return pictures (B, C, H, W) under lights of amplitude eps, clipped to the box.

        Where clipping bites, edges appear that the field has not: `multiplicative` avoids it on black ground.
        """
        change = eps * self.values(light).to(pictures)
        changed = pictures * (1.0 + change) if self.config.multiplicative else pictures + change
        return changed if box is None else changed.clamp(*box)

    def _split(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Return those of functions (B, K, PER_FIELD), and weights (B, C or 0)."""
        count = self.functions * PER_FIELD
        return numbers[:, :count].unflatten(1, (self.functions, PER_FIELD)), numbers[:, count:]


def stretched(field: Tensor) -> Tensor:
    """Return fields (..., H, W) with their smallest value at -1 and their largest at 1."""
    low, high = field.amin((-2, -1), keepdim=True), field.amax((-2, -1), keepdim=True)
    return 2.0 * (field - low) / (high - low).clamp_min(torch.finfo(field.dtype).tiny) - 1.0
