"""Channels cut out of a network: its layers become smaller, with the weights of what is kept.

Masks alone make nothing smaller or faster (file, memory and latency stay as they are), so rows and columns are taken
out. What is left computes what the whole network would if nobody looked at the channels that are gone; only LayerNorm
differs, whose mean and variance are then of the channels left.

Shapes: C channels, O outputs, I inputs of a layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from envs.evaluation.pruning.graph import Coupling, Segment
from rlsuite.errors import UserError

LEAST = 2  # channels that a layer keeps, whatever the rate
Kept = Mapping[str, Sequence[int]]


class Cut(NamedTuple):
    """What one layer keeps: indices into its inputs and outputs; None for all of them."""

    inputs: Tensor | None
    outputs: Tensor | None


def cuts(coupling: Coupling, kept: Kept) -> dict[str, Cut]:
    """Return what every layer and norm keeps, where it does not keep everything, by its path.

    Args:
        coupling: of the network.
        kept: a group's name -> the channels that stay, rising; groups that are not named stay whole.
    """
    names = {number: coupling.groups[coupling.root(number)] for number in range(len(coupling.groups))}

    def of_group(number: int) -> Sequence[int] | None:
        group = names[number]
        return kept.get(group.name) if group.makers else None

    def places(segments: Sequence[Segment], repeat: int) -> Tensor | None:
        if all(of_group(segment.group) is None for segment in segments):
            return None
        parts, before = [], 0
        for segment in segments:
            size, chosen = segment.size or 0, of_group(segment.group)
            parts.append(before + torch.tensor(list(range(size) if chosen is None else chosen), dtype=torch.int64))
            before += size
        channels = torch.cat(parts)
        return (channels[:, None] * repeat + torch.arange(repeat)).flatten()

    found = {}
    for path, use in coupling.uses.items():
        inputs = places(use.segments, use.repeat)
        made = None if use.made is None else of_group(use.made)
        outputs = inputs if use.made is None else None if made is None else torch.tensor(made, dtype=torch.int64)
        if inputs is not None or outputs is not None:
            found[path] = Cut(inputs, outputs)
    return found


@torch.no_grad()
def shrink(module: nn.Module, coupling: Coupling, kept: Kept) -> nn.Module:
    """Cut channels out of a network in place, and return it; see `cuts` for the arguments."""
    for path, cut in cuts(coupling, kept).items():
        shrink_layer(module.get_submodule(path), cut)
    return module


def require_plan(coupling: Coupling, plan: Any) -> dict[str, list[int]]:
    """Return the kept channels that a plan's "kept" says, checked: a plan may come from anybody's file.

    Raises:
        UserError: if it is none, or does not fit the network.
    """
    kept = plan.get("kept") if isinstance(plan, dict) else None
    if not isinstance(kept, dict):
        raise UserError("its plan is damaged: it does not say which channels are kept")
    groups = coupling.named()
    for name, chosen in kept.items():
        whole = isinstance(chosen, list) and chosen and all(type(channel) is int for channel in chosen)
        if name not in groups or not whole:
            raise UserError(f"its plan is damaged: '{str(name)[:60]}' has no channels that can be cut so")
        if sorted(set(chosen)) != chosen or chosen[0] < 0 or chosen[-1] >= groups[name].size:
            raise UserError(f"its plan is damaged: the kept channels of '{name}' are not rising, or not there")
    return kept


def shrink_layer(part: nn.Module, cut: Cut) -> None:
    """Cut one layer, norm or gate in place; its learned tensors become new parameters."""
    for name, indices in axes_of(part, cut).items():
        tensor = getattr(part, name)
        smaller = take(tensor.detach(), indices)
        learned = isinstance(tensor, nn.Parameter)
        setattr(part, name, nn.Parameter(smaller, requires_grad=tensor.requires_grad) if learned else smaller)
    if isinstance(part, nn.Linear):
        part.out_features, part.in_features = part.weight.shape
    elif isinstance(part, nn.Conv2d) and part.groups > 1:  # one filter a channel
        part.groups = part.in_channels = part.out_channels = part.weight.shape[0]
    elif isinstance(part, nn.Conv2d):
        part.out_channels, part.in_channels = part.weight.shape[:2]
    elif isinstance(part, nn.LayerNorm):
        part.normalized_shape = (len(part.weight),)
    elif isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
        part.num_features = len(part.running_mean if part.running_mean is not None else part.weight)


def axes_of(part: nn.Module, cut: Cut) -> dict[str, tuple[Tensor | None, ...]]:
    """Return what is kept along the first axes of each tensor that a layer, norm or gate has, by its name."""
    inputs, outputs = cut
    if isinstance(part, nn.Conv2d) and part.groups > 1:
        found = {"weight": (outputs,), "bias": (outputs,)}
    elif isinstance(part, nn.Linear | nn.Conv2d):
        found = {"weight": (outputs, inputs), "bias": (outputs,)}
    else:
        assert outputs is not None
        found = dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (outputs,))
    return {name: indices for name, indices in found.items() if getattr(part, name, None) is not None}


def take(tensor: Tensor, indices: tuple[Tensor | None, ...]) -> Tensor:
    """Return what indices keep along a tensor's first axes; None keeps all."""
    for axis, index in enumerate(indices):
        tensor = tensor if index is None else tensor.index_select(axis, index.to(tensor.device))
    return tensor
