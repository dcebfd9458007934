"""Parts of a network that runs at several widths: weights, inputs, normalizations, each with its current width.

    with at_width(module, 4):
        outputs = module(inputs)

A part has its widths, most bits first, and `bits`, the current one. Weights of fewer bits are the first bits of those
of more: codes of the most bits are kept alone, and shifted right. What a width has for itself (alpha, normalization,
the constant of its weights) is a row of the part's tensors.

Shapes: n widths, C channels or features.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from envs.evaluation.quantization.codes import pack, unpack
from envs.evaluation.quantization.layer import PackedLayer, QuantizedLayer
from envs.evaluation.quantization.through import through
from envs.evaluation.quantization.uniform import ClippedInput, UniformWeights, clamped, constant_scale, unit_codes
from rlsuite.errors import UserError, require


class AdaptiveWeights(UniformWeights):
    """Weights of several widths from the same float weights, and from the same codes.

    Args:
        widths: bits, the most first.
        fan: as UniformWeights has it, for every width.
        scheme: likewise; codes can be shifted with "modified" and "centred" alone.
    """

    def __init__(self, widths: Sequence[int], *, fan: float, scheme: str) -> None:
        super().__init__(widths[0], fan=fan, scheme=scheme)
        self.widths = tuple(widths)

    def codes(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return codes of the most bits, and the constant of every width (n,)."""
        codes = unit_codes(clamped(weight), self.widths[0], self.scheme)
        return codes, torch.stack([constant_scale(self._levels_at(codes, bits), self.fan) for bits in self.widths])

    def values(self, codes: Tensor, scale: Tensor) -> Tensor:
        """Return the values of the current width of codes of the most bits."""
        return self._levels_at(codes, self.bits) * scale[self.widths.index(self.bits)]

    def quantize(self, weight: Tensor) -> Tensor:
        """Return the weights of the current width, with gradients as UniformWeights has them."""
        smooth = 2.0 * clamped(weight) - 1.0
        levels = self.levels(unit_codes(clamped(weight.detach()), self.bits, self.scheme))
        scale = constant_scale(levels, self.fan)
        return through(levels * scale, smooth * scale)

    def pack(self, codes: Tensor) -> Tensor:
        """Return codes of the most bits as bytes, whatever the current width."""
        return pack(codes, self.widths[0])

    def unpack(self, packed: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return what pack() packed."""
        return unpack(packed, self.widths[0], shape)

    def _levels_at(self, codes: Tensor, bits: int) -> Tensor:
        own, self.bits = self.bits, bits
        levels = self.levels(codes >> (self.widths[0] - bits))
        self.bits = own
        return levels


class AdaptiveInput(ClippedInput):
    """Inputs clipped at a number of each width (switchable clipping level), or at one for all.

    Args:
        widths: bits, the most first.
        signed: whether negative inputs are kept.
        switch: an alpha for each width, (n,); else one, (1,).
    """

    def __init__(self, widths: Sequence[int], *, signed: bool, switch: bool) -> None:
        super().__init__(widths[0], signed=signed)
        self.widths = tuple(widths)
        self.alpha = nn.Parameter(torch.zeros(len(widths) if switch else 1))

    @property
    def place(self) -> int:
        """Where the current width's alpha is."""
        return self.widths.index(self.bits) if len(self.alpha) > 1 else 0

    def own_alpha(self) -> Tensor:
        """Return the current width's alpha ()."""
        return self.alpha[self.place]

    @torch.no_grad()
    def set_alpha(self, value: Tensor) -> None:
        """Set the current width's alpha."""
        self.alpha[self.place] = value


class SwitchableNorm(nn.Module):
    """A normalization of each width: statistics, scale and shift.

    Args:
        norm: what each one starts as.
        widths: bits, the most first.
    """

    def __init__(self, norm: nn.Module, widths: Sequence[int]) -> None:
        super().__init__()
        self.widths, self.bits = tuple(widths), widths[0]
        self.norms = nn.ModuleList(copy.deepcopy(norm) for _ in widths)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map what the normalization maps."""
        return self.norms[self.widths.index(self.bits)](inputs)


class SwitchableAffine(nn.Module):
    """A scale and shift of each width behind a layer that no normalization follows.

    Args:
        features: C.
        widths: bits, the most first.
    """

    def __init__(self, features: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.widths, self.bits = tuple(widths), widths[0]
        self.scale = nn.Parameter(torch.ones(len(widths), features))
        self.shift = nn.Parameter(torch.zeros(len(widths), features))

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (B, C), or (B, C, H, W), to the same shape."""
        place, shape = self.widths.index(self.bits), (-1, *[1] * (inputs.dim() - 2))
        return inputs * self.scale[place].view(shape) + self.shift[place].view(shape)


# -- the width of a whole network ----------------------------------------------------------------------------------

Part = AdaptiveWeights | AdaptiveInput | SwitchableNorm | SwitchableAffine


def parts_of(module: nn.Module) -> list[Part]:
    """Return what has several widths in a network."""
    found: list[Part] = []
    for part in module.modules():
        if isinstance(part, QuantizedLayer | PackedLayer) and isinstance(part.weight_rule, AdaptiveWeights):
            found.append(part.weight_rule)
        if isinstance(part, AdaptiveInput | SwitchableNorm | SwitchableAffine):
            found.append(part)
    return found


def widths_of(module: nn.Module) -> tuple[int, ...]:
    """Return the widths of a network, most bits first.

    Raises:
        UserError: if it has none.
    """
    parts = parts_of(module)
    require(bool(parts), "the network has one width; quantize it by quantization/adabits")
    return parts[0].widths


def set_width(module: nn.Module, bits: int) -> int:
    """Let a network run at another width, for good; return the one it had.

    Raises:
        UserError: if it never learned this width.
    """
    widths, parts = widths_of(module), parts_of(module)
    if bits not in widths:
        known = ", ".join(map(str, widths))
        raise UserError(f"bits={bits}: the network never learned this width; use one of {known}")
    before = parts[0].bits
    if bits != before:
        for part in parts:
            part.bits = bits
        for packed in _packed(module):
            packed.refresh()
    return before


@contextlib.contextmanager
def at_width(module: nn.Module, bits: int) -> Iterator[None]:
    """Let a network run at another width for a while."""
    before = set_width(module, bits)
    try:
        yield
    finally:
        set_width(module, before)


@torch.no_grad()
def copy_width(module: nn.Module, source: int, target: int) -> None:
    """Start what a width has for itself where another width has come to."""
    for part in parts_of(module):
        if isinstance(part, SwitchableNorm):
            one, other = (part.norms[part.widths.index(bits)] for bits in (source, target))
            other.load_state_dict(one.state_dict())
        elif isinstance(part, AdaptiveInput | SwitchableAffine):
            for value in part.parameters():
                if len(value) == len(part.widths):
                    value[part.widths.index(target)] = value[part.widths.index(source)]


@torch.no_grad()
def narrow(module: nn.Module, bits: int) -> nn.Module:
    """Turn a network into one of a single width, codes that it has shifted; return the same module.

    Raises:
        UserError: if it never learned this width.
    """
    set_width(module, bits)
    parts = parts_of(module)
    for layer in module.modules():
        if not isinstance(layer, QuantizedLayer | PackedLayer) or not isinstance(layer.weight_rule, AdaptiveWeights):
            continue
        rule = layer.weight_rule
        layer.weight_rule = AdaptiveWeights((bits,), fan=rule.fan, scheme=rule.scheme)
        if isinstance(layer, PackedLayer):
            codes = rule.unpack(layer.codes, layer.weight_shape) >> (rule.widths[0] - bits)
            place = rule.widths.index(bits)
            layer.codes, layer.scale = layer.weight_rule.pack(codes), layer.scale[place : place + 1].clone()
            layer.refresh()
    for part in parts:
        if isinstance(part, AdaptiveWeights):
            continue
        place = part.widths.index(bits)
        if isinstance(part, SwitchableNorm):
            part.norms = nn.ModuleList([part.norms[place]])
        else:
            for name, value in list(part.named_parameters(recurse=False)):
                if len(value) == len(part.widths):
                    setattr(part, name, nn.Parameter(value[place : place + 1].clone()))
        part.widths = (bits,)
    return module


def _packed(module: nn.Module) -> list[PackedLayer]:
    return [
        part
        for part in module.modules()
        if isinstance(part, PackedLayer) and isinstance(part.weight_rule, AdaptiveWeights)
    ]
