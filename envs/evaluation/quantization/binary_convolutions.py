"""Convolutions of 1-bit weights, and one function that makes any of them: what cells of binary networks are built of.

    binary_convolution("xnor", 16, 32, 3, padding=1, generator=generator)

"float" is an ordinary convolution, "xnor" that of XNOR-Net (Rastegari et al. 2016, arXiv:1603.05279), "rbnn" the
rotated one (arXiv:2009.13055), whose rotations `begin_epoch` renews. None has a bias: normalization follows.

Shapes: O filters, n weights of each.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from envs.evaluation.quantization.binary import signs
from envs.evaluation.quantization.binary_layer import BinaryLayer, SignInput, StandardizedInput, scaled, without_weights
from envs.evaluation.quantization.layer import OPERATIONS
from envs.evaluation.quantization.rotated import RotatedLayer
from envs.evaluation.quantization.rules import FLOAT_BITS, InputRule
from envs.evaluation.quantization.through import through
from rlsuite.errors import require_choice

# Of He's deviation, at first, of weights whose signs count: normalization follows, so their size is free, and weights
# that learn at 1e-3 or so a minibatch have to cross 0 within some hundred of them.
LATENT = 0.1
KINDS = ("float", "xnor", "rbnn")
SCALES = ("layer", "filter")
SMALLEST_SCALE = 1e-12


class XnorLayer(nn.Module):
    """A layer whose weights are signs times the mean absolute weight.

    With g the gradient of the binarized weight, the weight's is g / n + scale g 1[|w| <= 1], n weights to a scale
    (XNOR-Net, section 3.1, as it is commonly implemented: the first term is not summed over the weights).

    Args:
        layer: of a type in OPERATIONS; it is left alone.
        input_rule: what happens to inputs before; None takes floats as they come.
        scale: "filter" for a scale each (XNOR-Net), "layer" for one (BNAS, arXiv:2009.04247, the authors' code).
    """

    def __init__(self, layer: nn.Module, input_rule: InputRule | None = None, *, scale: str = "filter") -> None:
        super().__init__()
        require_choice("scale", scale, SCALES)
        self.layer, weight, self.bias = without_weights(layer)
        self.weight, self.input_rule, self.shared = nn.Parameter(weight), input_rule, scale == "layer"
        self.weight_bits, self.input_bits = 1, FLOAT_BITS if input_rule is None else input_rule.bits

    def draw(self, generator: torch.Generator) -> None:
        """Draw the weights anew, normal with a tenth of He's deviation: see LATENT."""
        _draw_latent(self.weight, generator)

    def scale(self) -> Tensor:
        """Return the mean absolute weight, (O,), or () where the layer has one; without gradients."""
        size = self.weight.detach().abs()
        return size.mean() if self.shared else size.flatten(1).mean(1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map what the layer maps, with signs for weights."""
        weight, scale = self.weight, self.scale()
        by_weight = scale if self.shared else scale.view(-1, *[1] * (weight.dim() - 1))
        count = weight.numel() if self.shared else weight[0].numel()
        # The outputs' factor is the scale, so the first term of the gradient is divided by it.
        smooth = weight / (count * by_weight.clamp_min(SMALLEST_SCALE)) + weight.clamp(-1.0, 1.0)
        binary = through(signs(weight.detach()), smooth)
        if self.input_rule is not None:
            inputs = self.input_rule(inputs)
        return scaled(OPERATIONS[type(self.layer)](self.layer, inputs, binary), self.layer, scale, self.bias)

    def to_binary(self) -> BinaryLayer:
        """Return what is kept: signs and scales."""
        return BinaryLayer(self.layer, self.weight, self.scale(), self.bias, self.input_rule)


def binary_convolution(
    kind: str,
    inputs: int,
    outputs: int,
    kernel: int,
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
    input_bits: int = 1,
    scale: str = "filter",
    generator: torch.Generator,
) -> nn.Module:
    """Return a convolution with fresh weights, normal with He's deviation; a tenth of it with "xnor" (see LATENT).

    Args:
        kind: one of KINDS.
        inputs: channels.
        outputs: channels, O.
        kernel: its side.
        stride: as nn.Conv2d has it.
        padding: likewise, of zeros.
        dilation: likewise.
        groups: likewise.
        input_bits: 1 for signs of inputs (with "rbnn" less their example's mean), 32 for floats.
        scale: of "xnor", see XnorLayer.
        generator: of weights and rotations, on the CPU.

    Raises:
        UserError: for an unknown kind, scale or number of bits.
    """
    require_choice("kind", kind, KINDS)
    require_choice("input_bits", str(input_bits), ("1", str(FLOAT_BITS)))
    layer = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups, bias=False)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
    if kind == "float":
        return layer
    if kind == "xnor":
        with torch.no_grad():
            layer.weight.mul_(LATENT)
        return XnorLayer(layer, SignInput(centred=False) if input_bits == 1 else None, scale=scale)
    rotated = RotatedLayer(layer, SignInput(centred=True) if input_bits == 1 else StandardizedInput())
    rotated.draw_rotation(generator)
    return rotated


@torch.no_grad()
def _draw_latent(weight: Tensor, generator: torch.Generator) -> None:
    nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=generator).mul_(LATENT)


def reconstruction_error(module: nn.Module) -> Tensor:
    """Return the sum over filters of layers that learn 1-bit weights of mean((H - scale sign(H))^2), differentiable.

    CP-NAS (arXiv:2005.00057, the kernel part of its loss); BNAS's binarizations have one of the same kind.
    """
    errors = []
    for part in module.modules():
        if isinstance(part, XnorLayer | RotatedLayer):
            weight = part.weight.flatten(1) if isinstance(part, XnorLayer) else part.adjusted()
            scale = part.scale() if isinstance(part, XnorLayer) else part.scale
            errors.append((weight - signs(weight.detach()) * scale.view(-1, 1)).square().mean(1).sum())
    device = next(module.parameters()).device
    return torch.stack(errors).sum() if errors else torch.zeros((), device=device)


def pack_binary_layers(module: nn.Module) -> nn.Module:
    """Put layers of packed signs in the places of those that have learned; return the same module."""
    for path, part in list(module.named_modules()):
        if isinstance(part, XnorLayer | RotatedLayer):
            module.set_submodule(path, part.to_binary())
    return module
