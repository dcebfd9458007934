"""What a network weighs and costs: parameters, bytes of its file, multiplications, bit operations.

One multiplication with an addition is a MAC; a MAC of a-bit weights with b-bit inputs is a * b bit operations. Layers
that compute with fewer bits say so by the attributes `weight_bits` and `input_bits` (and by `mean_weight_bits` where
outputs differ in them); all others count 32 and 32. Layers that add distances in place of products say by `terms` of
how many an output is the sum, of two additions each.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from envs.evaluation.recipe import save_network
from envs.evaluation.subject import Subject
from rlsuite.nn.ensemble import EnsembleLinear

FLOAT_BITS = 32


def count_parameters(module: nn.Module) -> int:
    """Return the numbers that were learned; packed codes count as the weights they stand for."""
    packed = sum(getattr(layer, "num_weights", 0) for layer in module.modules())
    return sum(parameter.numel() for parameter in module.parameters()) + packed


def count_bytes(subject: Subject) -> int:
    """Return the size of the file the network is saved in, header and recipe included."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.safetensors"
        save_network(path, subject.module, subject.base, subject.recipe)
        return path.stat().st_size


def itemize_bytes(subject: Subject) -> dict[str, int]:
    """Return what the bytes of the file are spent on; together they are all of it.

    Returns:
        "header" (names, shapes, the recipe), "codes" (packed weights), "scales" of these, "whole numbers" that are kept
        as such (integer networks), and "floats": biases, normalizations, clipping levels and weights that stay floats.
        What a network does not have is left out.
    """
    tensors = subject.module.state_dict()
    found = {"header": 0, "codes": 0, "scales": 0, "whole numbers": 0, "floats": 0}
    for name, value in tensors.items():
        last = name.rpartition(".")[2]
        kind = {"codes": "codes", "scale": "scales"}.get(
            last, "floats" if value.is_floating_point() else "whole numbers"
        )
        found[kind] += value.numel() * value.element_size()
    found["header"] = count_bytes(subject) - sum(found.values())
    return {kind: count for kind, count in found.items() if count}


@torch.no_grad()
def layer_macs(module: nn.Module, example: Tensor) -> dict[str, int]:
    """Return the MACs of each layer that has any, by its path, for one example (1, ...).

    Matrix products and convolutions are counted as torch dispatches them; a stacked layer with one output, which is
    written as a sum, is counted by rule.
    """
    sums: dict[str, int] = {}

    def count(path: str, layer: EnsembleLinear):
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if layer.weight.shape[-1] == 1:
                sums[path] = sums.get(path, 0) + inputs[0].numel()

        return hook

    stacked = {path: part for path, part in module.named_modules() if isinstance(part, EnsembleLinear)}
    handles = [part.register_forward_hook(count(path, part)) for path, part in stacked.items()]
    try:
        with FlopCounterMode(display=False) as counter:
            module(example)
    finally:
        for handle in handles:
            handle.remove()
    counts = {path: sum(by_kind.values()) // 2 for path, by_kind in counter.get_flop_counts().items()}
    root = type(module).__name__  # the counter writes paths as "Network.body.0"
    leaves = {path for path, part in module.named_modules() if path}
    found = {path.removeprefix(f"{root}."): macs for path, macs in counts.items() if path.startswith(f"{root}.")}
    found = {path: macs for path, macs in found.items() if path in leaves and not _has_counted_part(path, found)}
    return {path: macs for path, macs in {**found, **sums}.items() if macs}


def count_macs(module: nn.Module, example: Tensor) -> int:
    """Return the MACs of a whole network for one example (1, ...), those outside its layers included."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(example)
    layers = layer_macs(module, example)
    counted = sum(macs for path, macs in layers.items() if not _written_as_sum(module, path))
    return sum(layers.values()) + max(0, counter.get_total_flops() // 2 - counted)


def count_bit_operations(module: nn.Module, example: Tensor) -> int:
    """Return the bit operations of a whole network for one example (1, ...)."""
    layers = layer_macs(module, example)
    outside = count_macs(module, example) - sum(layers.values())
    total = outside * FLOAT_BITS * FLOAT_BITS
    for path, macs in layers.items():
        layer = module.get_submodule(path)
        weight_bits = getattr(layer, "mean_weight_bits", getattr(layer, "weight_bits", FLOAT_BITS))
        total += round(macs * weight_bits * getattr(layer, "input_bits", FLOAT_BITS))
    return total


@torch.no_grad()
def count_additions(module: nn.Module, example: Tensor) -> int:
    """Return the additions and subtractions of a whole network for one example (1, ...): one a MAC, two a distance."""
    found = [count_macs(module, example)]

    def count(layer: nn.Module, _: object, output: Tensor) -> None:
        found.append(2 * int(layer.terms) * output.numel())  # type: ignore[arg-type]

    handles = [part.register_forward_hook(count) for part in module.modules() if hasattr(part, "terms")]
    try:
        module(example)
    finally:
        for handle in handles:
            handle.remove()
    return sum(found)


def measure_size(subject: Subject) -> dict[str, float]:
    """Return "parameters", "bytes", "macs" and "bit_operations" of a subject, for one example.

    Of a network that adds distances also "additions", since it has few products.
    """
    module, example = subject.module, subject.example
    found = {
        "parameters": float(count_parameters(module)),
        "bytes": float(count_bytes(subject)),
        "macs": float(count_macs(module, example)),
        "bit_operations": float(count_bit_operations(module, example)),
    }
    if any(hasattr(part, "terms") for part in module.modules()):
        found["additions"] = float(count_additions(module, example))
    return found


def _has_counted_part(path: str, found: dict[str, int]) -> bool:
    return any(other.startswith(f"{path}.") and macs for other, macs in found.items())


def _written_as_sum(module: nn.Module, path: str) -> bool:
    layer = module.get_submodule(path)
    return isinstance(layer, EnsembleLinear) and layer.weight.shape[-1] == 1
