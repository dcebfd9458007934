"""Which layers of a network get how many bits, and how a plan that a file holds is checked against the network."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import nn

from envs.evaluation.quantization.codes import LARGEST_BITS
from envs.evaluation.quantization.layer import quantizable
from envs.evaluation.quantization.rules import FLOAT_BITS, require_bits
from rlsuite.errors import UserError, require


class Bits(NamedTuple):
    """Bits of a layer's weights and of what it takes in; 32 for floats."""

    weights: int
    inputs: int


@dataclass(frozen=True, kw_only=True)
class LayerBits:
    """Layers that have bits of their own.

    Attributes:
        names: patterns of their paths, such as body.*; a layer belongs to the first entry that names it.
        weights: bits of a weight; 32 leaves floats.
        inputs: bits of what they take in; 32 leaves floats.
    """

    names: tuple[str, ...]
    weights: int
    inputs: int

    def __post_init__(self) -> None:
        require(bool(self.names), "names=[]: name the layers, such as body.*")
        require_bits("weights", self.weights, 1)
        require_bits("inputs", self.inputs, 1)


@dataclass(frozen=True, kw_only=True)
class PlacesConfig:
    """Layers that are not quantized as the others are.

    Attributes:
        first: bits of the first layer's weights and inputs; 32 leaves it alone, as most papers do.
        last: likewise of the last.
        layers: others by their names, which count before first and last.
    """

    first: int = FLOAT_BITS
    last: int = FLOAT_BITS
    layers: tuple[LayerBits, ...] = ()

    def __post_init__(self) -> None:
        require_bits("first", self.first, 1)
        require_bits("last", self.last, 1)


def bits_of_layers(
    module: nn.Module,
    usual: Bits,
    places: PlacesConfig,
    *,
    lowest: int = 1,
    first_inputs: int = 0,
    last_inputs: int = 0,
) -> dict[str, Bits]:
    """Return the bits of every layer that does not stay as it is, by its path.

    Args:
        module: the network.
        usual: of layers that `places` says nothing of.
        places: of the others.
        lowest: the fewest bits that the method has.
        first_inputs: bits of what the first layer takes in, where its weights have some; 0 for as many.
        last_inputs: likewise of the last.

    Raises:
        UserError: if there is no layer, a pattern names none, one would have too few bits, or none is left.
    """
    paths = list(quantizable(module))
    require(bool(paths), "the network has no layer that can be quantized")
    found = dict.fromkeys(paths, usual)
    for path, bits, inputs in ((paths[-1], places.last, last_inputs), (paths[0], places.first, first_inputs)):
        found[path] = Bits(bits, bits if bits == FLOAT_BITS else inputs or bits)
    for entry in reversed(places.layers):
        named = _matching(paths, entry)
        require(
            bool(named),
            f"names={list(entry.names)}: there is no such layer; some are: {', '.join(paths[:5]) or 'none'}",
        )
        found.update(dict.fromkeys(named, Bits(entry.weights, entry.inputs)))
    for path, bits in found.items():
        for value in bits:
            require_bits(f"bits of {path}", value, lowest)
    found = {path: bits for path, bits in found.items() if bits != (FLOAT_BITS, FLOAT_BITS)}
    if not found and usual != (FLOAT_BITS, FLOAT_BITS):
        raise UserError(
            f"places.first={places.first}, places.last={places.last}: no layer is left to quantize; set these to "
            f"{usual.weights}"
        )
    return found


def named_layers(module: nn.Module, places: PlacesConfig) -> set[str]:
    """Return the paths of the layers that `places.layers` names, whatever bits it gives them."""
    paths = list(quantizable(module))
    return {path for entry in places.layers for path in _matching(paths, entry)}


def _matching(paths: list[str], entry: LayerBits) -> list[str]:
    return [path for path in paths if any(fnmatch.fnmatchcase(path, pattern) for pattern in entry.names)]


def bits_of_plan(module: nn.Module, plan: Any, *, lowest: int = 1) -> dict[str, Bits]:
    """Return the bits by path that a plan's "layers" say, checked: a plan may come from anybody's file.

    Raises:
        UserError: if it is none, or does not fit the network.
    """
    layers = plan.get("layers") if isinstance(plan, dict) else None
    if not isinstance(layers, dict):
        raise UserError("its plan is damaged: there are no layers in it")
    known = quantizable(module)
    for path, bits in layers.items():
        whole = isinstance(bits, list | tuple) and len(bits) == 2 and all(type(value) is int for value in bits)
        if path not in known or not whole:
            raise UserError(f"its plan is damaged: '{str(path)[:60]}' is no layer that can be quantized so")
        for value in bits:
            if not (lowest <= value <= LARGEST_BITS or value == FLOAT_BITS):
                raise UserError(f"its plan is damaged: '{path}' has {value} bits")
    return {path: Bits(*bits) for path, bits in layers.items()}
