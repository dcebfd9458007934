"""One number for each channel of a group; the channels with the smallest are cut.

Shapes: C channels of a group.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from envs.evaluation.pruning.graph import Group
from envs.evaluation.pruning.shrink import LEAST


@torch.no_grad()
def weight_norms(module: nn.Module, group: Group) -> Tensor:
    """Return the sum of the absolute weights (C,) float64 that make each channel (Li et al. 2017, arXiv:1608.08710).

    Of channels that several layers make, the mean over these.
    """
    norms = []
    for path in group.makers:
        weight = module.get_submodule(path).weight
        assert isinstance(weight, Tensor)
        norms.append(weight.double().abs().flatten(1).sum(1).cpu())
    return torch.stack(norms).mean(0)


def draws(group: Group, generator: torch.Generator) -> Tensor:
    """Return numbers (C,) drawn uniformly: what every criterion has to beat."""
    return torch.rand(group.size, generator=generator, dtype=torch.float64)


def number_cut(size: int, ratio: float) -> int:
    """Return how many of `size` channels go: int(ratio * size), and two stay at least."""
    return max(0, min(int(ratio * size + 1e-9), size - LEAST))


def kept_channels(scores: Sequence[Tensor], ratio: float, *, remove: str = "lowest") -> list[int]:
    """Return the channels that stay, rising.

    Args:
        scores: tensors (C,); where the first have ties the next decide, and at last the index: the earlier goes.
        ratio: share that goes, rounded down.
        remove: "lowest" or, as a control, "highest".
    """
    columns = [score.tolist() for score in scores]
    order = sorted(range(len(columns[0])), key=lambda channel: tuple(column[channel] for column in columns))
    if remove == "highest":
        order.reverse()
    return sorted(order[number_cut(len(order), ratio) :])
