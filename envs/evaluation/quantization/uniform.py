"""The core of scale-adjusted training (Jin, Yang and Liao 2019, arXiv:1912.10207): clamp, levels, scale, clip.

    u = tanh(W) / (2 max|tanh(W)|) + 1/2        weights in [0, 1]
    Q = 2 q(u) - 1                              on 2^k uniform levels of one of three schemes
    Q* = Q / sqrt(fan Var[Q])                   a constant of the layer, without gradient

    original   q(u) = round(n u) / n            n = 2^k - 1: the ends are levels, zero is none (DoReFa's)
    modified   q(u) = min(floor(2^k u), n) / 2^k         fewer bits are the first ones of more bits; the mean is off
    centred    q(u) = (min(floor(2^k u), n) + 1/2) / 2^k     the same, symmetric about zero

Inputs are clipped at a learned alpha and take the levels of "original"; alpha's gradient counts rounding as well
(CG-PACT), which PACT leaves out.

Shapes: k bits, W a layer's weights with outputs first, B batch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from envs.evaluation.quantization.rules import SMALLEST_SCALE, InputRule, WeightRule
from envs.evaluation.quantization.through import through
from rlsuite.errors import UserError, require

SCHEMES = ("original", "modified", "centred")


# -- levels of the unit interval -----------------------------------------------------------------------------------


def unit_codes(unit: Tensor, bits: int, scheme: str) -> Tensor:
    """Return the codes, int32 in [0, 2^bits), of numbers in [0, 1]."""
    if scheme == "original":
        return ((2**bits - 1) * unit).round().to(torch.int32)
    return (2**bits * unit).floor().clamp_max(2**bits - 1).to(torch.int32)


def unit_levels(codes: Tensor, bits: int, scheme: str) -> Tensor:
    """Return the numbers in [0, 1] that codes stand for, float32; the one code of 0 bits stands for 1/2."""
    if bits == 0:
        return torch.full_like(codes, 0.5, dtype=torch.float32)
    if scheme == "original":
        return codes.float() / (2**bits - 1)
    return (codes.float() + (0.5 if scheme == "centred" else 0.0)) / 2**bits


# -- weights -------------------------------------------------------------------------------------------------------


def clamped(weight: Tensor, *, detach: bool = True) -> Tensor:
    """Return weights squashed into [0, 1], both ends reached by no more than the largest one.

    Args:
        weight: W.
        detach: let no gradient through the maximum; the authors' code lets it.
    """
    squashed = weight.tanh()
    largest = squashed.abs().max().clamp_min(torch.finfo(weight.dtype).tiny)
    return squashed / (2.0 * (largest.detach() if detach else largest)) + 0.5


def constant_scale(levels: Tensor, fan: float) -> Tensor:
    """Return what gives levels (of any shape) a variance of 1 / fan, (), and 1 where fan is 0 or all are equal.

    The deviation is the unbiased one, as in the authors' code.
    """
    if not fan or levels.numel() < 2:
        return torch.ones((), dtype=levels.dtype, device=levels.device)
    deviation = levels.std()
    return torch.where(deviation > 0, 1.0 / (fan**0.5 * deviation), torch.ones_like(deviation))


def fan_of(weight: Tensor, which: str) -> float:
    """Return what the variance of a layer's weights is one over.

    Args:
        weight: (O, I, ...), of one member of a stack.
        which: "outputs" (the paper: O times the kernel's size), "larger" of that and the inputs, or "trained": the
            variance that the weights have, for networks that have learned already. The paper's makes the outputs of a
            wide layer with a narrow head several times its inputs (its own first rule), and a trained network forgets
            what it knew with any but its own.
    """
    outputs, inputs, *kernel = weight.shape
    size = torch.Size(kernel).numel()
    variance = float(weight.detach().double().var()) if weight.numel() > 1 else 0.0
    if which == "trained" and variance > 0.0:
        return 1.0 / variance
    return float(outputs * size if which == "outputs" else max(outputs, inputs) * size)


class UniformWeights(WeightRule):
    """Weights clamped, on 2^bits uniform levels, rescaled by a constant.

    Args:
        bits: of a code.
        fan: the variance becomes 1 / fan; 0 leaves the levels as they are, from -1 to 1.
        scheme: one of SCHEMES.
        detach: see `clamped`.

    Attributes:
        rounded: False leaves weights clamped and rescaled alone, for what learns before it is quantized.
    """

    def __init__(self, bits: int, *, fan: float = 0, scheme: str = "original", detach: bool = True) -> None:
        super().__init__(bits)
        self.fan, self.scheme, self.detach, self.rounded = fan, scheme, detach, True

    def codes(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return codes, and the constant ()."""
        codes = unit_codes(clamped(weight), self.bits, self.scheme)
        return codes, constant_scale(self.levels(codes), self.fan)

    def levels(self, codes: Tensor) -> Tensor:
        """Return the levels in [-1, 1] that codes stand for."""
        return 2.0 * unit_levels(codes, self.bits, self.scheme) - 1.0

    def values(self, codes: Tensor, scale: Tensor) -> Tensor:
        """Return level times constant."""
        return self.levels(codes) * scale

    def quantize(self, weight: Tensor) -> Tensor:
        """Return the weights to compute with; gradients pass the levels, go through tanh, and leave the constant."""
        smooth = 2.0 * clamped(weight, detach=self.detach) - 1.0
        if not self.rounded:
            return smooth * constant_scale(smooth.detach(), self.fan)
        codes, scale = self.codes(weight.detach())
        return through(self.values(codes, scale), smooth * scale)


# -- inputs --------------------------------------------------------------------------------------------------------


class ClippedInput(InputRule):
    """Inputs clipped at a learned number and rounded to 2^bits levels from 0, or from its negative, to it.

    Args:
        bits: of a number.
        signed: whether negative inputs are kept.
        calibrated: CG-PACT; else PACT, whose alpha learns from what is clipped alone.

    Attributes:
        alpha: () the number; its absolute value counts. 0 until it was measured (`calibrating`) or set.
        rounded: False clips alone.
        share: of the largest input that alpha is set to, while it is being measured; None otherwise.
    """

    def __init__(self, bits: int, *, signed: bool, calibrated: bool = True) -> None:
        super().__init__(bits)
        self.signed, self.calibrated, self.rounded = signed, calibrated, True
        self.share: float | None = None
        self.alpha = nn.Parameter(torch.zeros(()))

    def own_alpha(self) -> Tensor:
        """Return the alpha () in use."""
        return self.alpha

    @torch.no_grad()
    def set_alpha(self, value: Tensor) -> None:
        """Set the alpha in use."""
        self.alpha.copy_(value)

    def levels(self, unit: Tensor) -> Tensor:
        """Return the levels that numbers in [0, 1] take."""
        if not self.rounded:
            return unit
        return unit_levels(unit_codes(unit, self.bits, "original"), self.bits, "original")

    def forward(self, inputs: Tensor) -> Tensor:
        """Return clipped and rounded inputs, with gradients for them and for alpha (section 4 of the paper)."""
        if self.share is not None:
            largest = (inputs.abs() if self.signed else inputs).max()
            self.set_alpha((self.share * largest).clamp_min(SMALLEST_SCALE))
        alpha = self.own_alpha()
        limit = through(alpha.abs().clamp_min(SMALLEST_SCALE), alpha.abs())
        return clip(inputs, limit, self.levels, signed=self.signed, calibrated=self.calibrated)


def clip(
    inputs: Tensor, limit: Tensor, levels: Callable[[Tensor], Tensor], *, signed: bool, calibrated: bool
) -> Tensor:
    """Return inputs clipped at `limit`, (), and rounded.

    Gradients: 1 for inputs within the limits and 0 beyond; for the limit 1 beyond it (-1 beyond its negative), and
    within them q - x / limit where it is calibrated, else 0; for what the levels themselves depend on, theirs.

    Args:
        inputs: of any shape.
        limit: alpha.
        levels: numbers in [0, 1] to the levels they take.
        signed: clip at -limit, too; else at 0.
        calibrated: see ClippedInput.
    """
    bound = limit.detach()
    low = -bound if signed else torch.zeros_like(bound)
    relative = (inputs.detach() / bound).clamp(-1.0 if signed else 0.0, 1.0)
    found = 2.0 * levels(0.5 * relative + 0.5) - 1.0 if signed else levels(relative)
    inside = (inputs.detach() > low) & (inputs.detach() < bound)
    within = found.detach() - relative if calibrated else torch.zeros_like(relative)
    slope = torch.where(inside, within, relative)
    return through(found.detach() * bound, inputs * inside + limit * slope + found * bound)


@contextlib.contextmanager
def calibrating(module: nn.Module, share: float) -> Iterator[None]:
    """Let every alpha of a network be set to a share of the largest input that comes by, for a while."""
    rules = [part for part in module.modules() if isinstance(part, ClippedInput)]
    for rule in rules:
        rule.share = share
    try:
        yield
    finally:
        for rule in rules:
            rule.share = None


def require_calibrated(module: nn.Module) -> None:
    """Raise UserError, naming the layer, if an alpha of a network was never measured."""
    for path, part in module.named_modules():
        if isinstance(part, ClippedInput) and not bool((part.alpha != 0).all()):
            where = path.removesuffix(".input_rule")
            raise UserError(f"{where}: its alpha was never measured; calibrate on a batch, or set alpha=")


@contextlib.contextmanager
def unrounded(module: nn.Module) -> Iterator[None]:
    """Let a network clamp, clip and rescale, and round nothing, for a while."""
    rules: list[Any] = [part for part in module.modules() if isinstance(part, ClippedInput)]
    found = (getattr(part, "weight_rule", None) for part in module.modules())
    rules += [rule for rule in found if isinstance(rule, UniformWeights)]
    for rule in rules:
        rule.rounded = False
    try:
        yield
    finally:
        for rule in rules:
            rule.rounded = True


def require_finite_weights(module: nn.Module) -> None:
    """Raise UserError, naming it, if a parameter of a network is not finite."""
    for name, value in module.named_parameters():
        require(bool(torch.isfinite(value).all()), f"{name} holds NaN or infinity; quantize an intact network")
