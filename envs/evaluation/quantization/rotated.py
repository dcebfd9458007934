"""Layers of binary weights that are rotated before their signs are taken (Lin et al. 2020, arXiv:2009.13055).

What a scale cannot mend of w's binarization is |w|^2 sin^2(theta), theta the angle between w and sign(w). A rotation
makes the angle smaller. Of n weights a full one has n^2 numbers; here n = n1 n2, each filter is a matrix X of n1 x n2,
and two small rotations act on its sides (equation 9): R^T w = vec(R1^T X R2), one pair for all filters of a layer.
Training may move between w and R^T w (equation 15): w~ = w + (R^T w - w) |sin(beta)|, beta learned, one a filter.

Shapes: O filters, n weights of each, standardized; n1 the largest divisor of n up to sqrt(n), n2 = n / n1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from envs.evaluation.quantization.binary import clipped_sign, sharpened_sign, sharpness_at, signs
from envs.evaluation.quantization.binary_layer import (
    SMALLEST_DEVIATION,
    BinaryLayer,
    SignInput,
    scaled,
    without_weights,
)
from envs.evaluation.quantization.layer import OPERATIONS
from envs.evaluation.quantization.rules import InputRule
from rlsuite.errors import UserError, require

CYCLES = 3


def factors(count: int) -> tuple[int, int]:
    """Return n1 and n2 with n1 n2 = n, n1 the largest divisor up to sqrt(n)."""
    first = next(side for side in range(math.isqrt(count), 0, -1) if count % side == 0)
    return first, count // first


def random_rotation(size: int, generator: torch.Generator) -> Tensor:
    """Return an orthogonal matrix (size, size) float32, drawn uniformly (Haar) on the CPU."""
    drawn = torch.randn(size, size, generator=generator, dtype=torch.float64)
    orthogonal, upper = torch.linalg.qr(drawn)
    return (orthogonal * signs(upper.diagonal())).float()


def rotate(filters: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Return R1^T X R2 (O, n1, n2) of filters X."""
    return first.T @ filters @ second


@torch.no_grad()
def improved_rotation(
    filters: Tensor, first: Tensor, second: Tensor, cycles: int = CYCLES
) -> tuple[Tensor, Tensor, list[float]]:
    """Return rotations of which filters are nearer to their signs (section 3.2, equations 10 to 14).

    Each cycle maximizes sum_o tr(B_o^T R1^T X_o R2) over signs B, then R1, then R2, the others fixed; it never falls.

    Args:
        filters: X (O, n1, n2).
        first: R1 (n1, n1).
        second: R2 (n2, n2).
        cycles: how many.

    Returns:
        R1, R2, float32, and the objective before each cycle and after the last.
    """
    filters, first, second = filters.double(), first.double(), second.double()
    objective = [float(rotate(filters, first, second).abs().sum())]
    for _ in range(cycles):
        near = signs(rotate(filters, first, second))
        left, _, right = torch.linalg.svd((near @ second.T @ filters.mT).sum(0))
        first = right.mT @ left.mT  # V U^T: torch returns V^T
        left, _, right = torch.linalg.svd((filters.mT @ first @ near).sum(0))
        second = left @ right
        objective.append(float(rotate(filters, first, second).abs().sum()))
    return first.float(), second.float(), objective


class RotatedLayer(nn.Module):
    """A linear layer or convolution that learns 1-bit weights.

    Attributes:
        weight: the float weights that learn.
        scale: (O,) learned; the mean absolute weight of each filter at first.
        mixing: beta (O,) learned; pi / 2 at first, which is the rotated weight.
        rotation_1, rotation_2: R1 (n1, n1) and R2 (n2, n2), buffers; the identity until `draw_rotation`.
        sharpness, slope: t and k of the signs' gradient; t None for that of the clipped identity.

    Args:
        layer: of a type in OPERATIONS; it is left alone.
        input_rule: what happens to inputs before.
        rotated: whether weights are rotated; False leaves all of it out.
        detached: let no gradient through R^T w, as the authors' code, where weights then learn nothing but by weight
            decay until beta has left pi / 2; False is the paper's equation 17.

    Raises:
        UserError: if a filter has one weight, which cannot be standardized.
    """

    rotation_1: Tensor
    rotation_2: Tensor

    def __init__(
        self, layer: nn.Module, input_rule: InputRule, *, rotated: bool = True, detached: bool = False
    ) -> None:
        super().__init__()
        self.layer, weight, bias = without_weights(layer)
        count = weight[0].numel()
        require(count >= 2, "a filter of one weight has no binary form; leave its layer out by layers=")
        self.input_rule, self.rotated, self.detached = input_rule, rotated, detached
        self.weight, self.bias = nn.Parameter(weight), bias
        self.scale = nn.Parameter(weight.abs().flatten(1).mean(1))
        self.weight_bits, self.input_bits = 1, input_rule.bits
        self.sharpness: float | None = None
        self.slope = 1.0
        if rotated:
            self.mixing = nn.Parameter(torch.full_like(self.scale, math.pi / 2.0))
            for name, size in zip(("rotation_1", "rotation_2"), factors(count), strict=True):
                self.register_buffer(name, torch.eye(size, device=weight.device))

    @torch.no_grad()
    def draw(self, generator: torch.Generator) -> None:
        """Draw weights, normal with He's deviation, and rotations anew; scales and beta are as at first."""
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu", generator=generator)
        self.scale.copy_(self.weight.abs().flatten(1).mean(1))
        if self.rotated:
            self.mixing.fill_(math.pi / 2.0)
        self.draw_rotation(generator)

    def draw_rotation(self, generator: torch.Generator) -> None:
        """Draw R1 and R2 uniformly."""
        for rotation in (self.rotation_1, self.rotation_2) if self.rotated else ():
            rotation.copy_(random_rotation(len(rotation), generator))

    def improve_rotation(self, cycles: int = CYCLES) -> None:
        """Turn the rotations to what fits the weights as they are now."""
        if self.rotated:
            filters = self._filters(self.standardized().detach())
            self.rotation_1, self.rotation_2, _ = improved_rotation(filters, self.rotation_1, self.rotation_2, cycles)

    def standardized(self) -> Tensor:
        """Return the weights (O, n), each filter's mean subtracted, by its (unbiased) deviation."""
        weight = self.weight.flatten(1)
        centred = weight - weight.mean(1, keepdim=True)
        return centred / centred.std(1, keepdim=True).clamp_min(SMALLEST_DEVIATION)

    def adjusted(self) -> Tensor:
        """Return w~ (O, n), differentiable."""
        weight = self.standardized()
        if not self.rotated:
            return weight
        rotated = rotate(self._filters(weight), self.rotation_1, self.rotation_2).flatten(1)
        difference = (rotated.detach() if self.detached else rotated) - weight
        return weight + difference * self.mixing.sin().abs().unsqueeze(1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map what the layer maps, with signs for weights."""
        adjusted = self.adjusted().view_as(self.weight)
        if self.sharpness is None:
            weight = clipped_sign(adjusted)
        else:
            weight = sharpened_sign(adjusted, self.sharpness, self.slope)
        sums = OPERATIONS[type(self.layer)](self.layer, self.input_rule(inputs), weight)
        return scaled(sums, self.layer, self.scale, self.bias)

    @torch.no_grad()
    def to_binary(self) -> BinaryLayer:
        """Return what is kept: signs of w~ and scales. Rotations, beta and the float weights are needed no more."""
        return BinaryLayer(self.layer, self.adjusted().view_as(self.weight), self.scale, self.bias, self.input_rule)

    def _filters(self, weight: Tensor) -> Tensor:
        return weight.view(-1, len(self.rotation_1), len(self.rotation_2))

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *arguments: Any) -> None:
        if self.rotated and any(f"{prefix}rotation_{side}" not in state_dict for side in (1, 2)):
            raise UserError(
                f"{prefix.rstrip('.')}: its rotations R1 and R2 are not there, and its weights mean nothing beside "
                "others; load a checkpoint that has them, or begin anew"
            )
        super()._load_from_state_dict(state_dict, prefix, *arguments)  # type: ignore[arg-type]


def begin_epoch(module: nn.Module, epoch: int, epochs: int, *, cycles: int = CYCLES) -> None:
    """Renew the rotations of a network and sharpen the gradients of its signs, as epoch `epoch` of `epochs` begins.

    For training loops of one's own; RBNN's transform does both by a hook.
    """
    sharpen(module, epoch / epochs)
    improve_rotations(module, cycles)


def sharpen(module: nn.Module, share: float, first: float = 1e-2, last: float = 1e1) -> None:
    """Give signs the gradient they have when a share of the training is done (equations 20 and 21 for weights).

    Signs of inputs have k = 1 and t of 1 or more.
    """
    sharpness, slope = sharpness_at(share, first, last)
    for part in module.modules():
        if isinstance(part, RotatedLayer):
            part.sharpness, part.slope = sharpness, slope
        elif isinstance(part, SignInput):
            part.sharpness = max(sharpness, 1.0)


def improve_rotations(module: nn.Module, cycles: int = CYCLES) -> None:
    """Turn the rotations of all layers of a network to what fits their weights now."""
    for part in module.modules():
        if isinstance(part, RotatedLayer):
            part.improve_rotation(cycles)


class Angle(NamedTuple):
    """How near a layer's weights are to their signs.

    Attributes:
        before: mean cosine over filters of the standardized weights with their signs; sqrt(2 / pi) for Gaussian ones.
        after: likewise of the rotated weights, w~.
        flipped: share of the signs that the rotation turned.
    """

    before: float
    after: float
    flipped: float


@torch.no_grad()
def angle_report(module: nn.Module) -> dict[str, Angle]:
    """Return the angles of a network's layers that learn 1-bit weights, by their paths."""
    found = {}
    for path, part in module.named_modules():
        if isinstance(part, RotatedLayer):
            before, after = part.standardized(), part.adjusted()
            flipped = float((signs(before) != signs(after)).float().mean())
            found[path] = Angle(mean_cosine(before), mean_cosine(after), flipped)
    return found


def mean_cosine(weight: Tensor) -> float:
    """Return the mean over rows (O, n) of the cosine between a row and its signs."""
    cosine = weight.abs().sum(1) / (weight.shape[1] ** 0.5 * weight.norm(dim=1).clamp_min(SMALLEST_DEVIATION))
    return float(cosine.mean())
