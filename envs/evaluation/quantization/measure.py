"""What data says about a network's layers: what they take in, and which of them a normalization follows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from envs.evaluation.quantization.layer import quantizable
from envs.evaluation.subject import BATCH_NORMALIZATIONS, Subject
from rlsuite.errors import UserError, require
from rlsuite.nn.ensemble import EnsembleBatchNorm, EnsembleLayerNorm

MEASURED_ON = 1024  # examples
NORMALIZATIONS = (*BATCH_NORMALIZATIONS, nn.LayerNorm, nn.GroupNorm, EnsembleBatchNorm, EnsembleLayerNorm)
Found = TypeVar("Found")


@torch.no_grad()
def measure_inputs(subject: Subject, paths: Iterable[str], measure: Callable[[Tensor], Found]) -> dict[str, Found]:
    """Return what `measure` makes of the inputs (B, ...) of some layers, by path, over examples to learn from.

    Raises:
        UserError: if there are no examples, or the network does not call a layer.
    """
    source = subject.task.source("train")
    require(len(source) >= 1, "there are no examples to measure on; give the task some")
    found: dict[str, Found] = {}
    handles = []
    for path in (paths := list(paths)):

        def note(_: nn.Module, inputs: tuple[Tensor, ...], path: str = path) -> None:
            found[path] = measure(inputs[0])

        handles.append(subject.module.get_submodule(path).register_forward_pre_hook(note))
    try:
        index = torch.arange(len(source))[:: max(1, len(source) // MEASURED_ON)]
        device = next(subject.module.parameters()).device
        subject.module(source.examples(index)["input"].to(device))
    finally:
        for handle in handles:
            handle.remove()
    if missing := [path for path in paths if path not in found]:
        raise UserError(f"{missing[0]}: the network does not call this layer; leave it out by places.layers")
    return found


@torch.no_grad()
def followed_by_normalization(module: nn.Module, example: Tensor) -> frozenset[str]:
    """Return the paths of the layers whose outputs go straight into a normalization.

    Args:
        module: the network.
        example: (1, ...) an input of it.
    """
    return frozenset(normalization_behind(module, example, quantizable(module)))


@torch.no_grad()
def normalization_behind(module: nn.Module, example: Tensor, layers: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """Return the normalizations that layers' outputs go straight into, by the layers' paths.

    Args:
        module: the network.
        example: (1, ...) an input of it.
        layers: of it, by path.
    """
    outputs: list[tuple[str, Tensor]] = []  # kept, so that no two have one identity
    found: dict[str, nn.Module] = {}

    def seen(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        found.update({path: norm for path, output in outputs if output is inputs[0]})

    handles = [part.register_forward_pre_hook(seen) for part in module.modules() if isinstance(part, NORMALIZATIONS)]
    for path, layer in layers.items():

        def made(_: nn.Module, __: tuple[Tensor, ...], output: Tensor, path: str = path) -> None:
            outputs.append((path, output))

        handles.append(layer.register_forward_hook(made))
    try:
        module(example)
    finally:
        for handle in handles:
            handle.remove()
    return found
