"""Architectures as numbers that learn: softmax over choices, edges' weights, gates, thresholds, partial channels.

Liu et al. 2019 (DARTS, arXiv:1806.09055, section 2.2) for the mixture, Xu et al. 2020 (PC-DARTS, arXiv:1907.05737) for
partial channels and edges' weights, Li et al. 2020 (AutoNL, arXiv:2004.01961, section 4) for thresholds.

The architecture learns from examples of its own, with its own optimizer: `turns` for `rlsuite.fit.fit`.

Shapes: B batch, P places, K choices, C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from envs.evaluation.search.space import Architecture
from envs.evaluation.search.supernet import Supernet
from envs.evaluation.tasks import Task
from rlsuite.data.source import Source
from rlsuite.fit import Turn
from rlsuite.optim.choice import OptimizerConfig

# Of DARTS: betas, decay; the rate is PC-DARTS's.
ARCHITECTURE = OptimizerConfig(learning_rate=6e-4, weight_decay=1e-3, beta1=0.5)


class Relaxation(nn.Module):
    """What is learned about each choice.

    Args:
        sizes: the number of choices at each place.
        groups: of each place: those of one group share a softmax over edges' weights, such as those that enter one
            node. () for no such weights.
        seed: of the first values, which are near 0.

    Attributes:
        choices: (P, K) numbers whose softmax over choices weighs them.
        edges: (P,) numbers whose softmax over a group weighs the group's places.
        alive: (P, K) bool, what has not been given up.
    """

    choices: nn.Parameter
    alive: Tensor

    def __init__(self, sizes: Sequence[int], groups: Sequence[int] = (), *, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.choices = nn.Parameter(1e-3 * torch.randn(len(sizes), max(sizes), generator=generator))
        alive = torch.arange(max(sizes))[None] < torch.tensor(list(sizes))[:, None]
        self.register_buffer("alive", alive)
        self.groups = tuple(groups)
        if self.groups:
            self.edges = nn.Parameter(1e-3 * torch.randn(len(sizes), generator=generator))

    def mixture(self) -> Tensor:
        """Return the weights (P, K) of the choices: softmax over those alive, 0 for others."""
        return self.choices.masked_fill(~self.alive, -torch.inf).softmax(1)

    def scales(self) -> Tensor | None:
        """Return the weights (P,) of the places: softmax over their group; None without groups."""
        if not self.groups:
            return None
        group = torch.tensor(self.groups, device=self.edges.device)
        same = group[:, None] == group[None]
        shared = self.edges[None].expand(len(group), -1).masked_fill(~same, -torch.inf).softmax(1)
        return shared.diagonal()

    def give_up(self, keep: np.ndarray) -> None:
        """Keep only some choices (P, K) bool; those given up never come back."""
        self.alive &= torch.from_numpy(np.asarray(keep, dtype=bool)).to(self.alive.device)

    def strongest(self) -> Architecture:
        """Return the choice of the largest weight at each place, of equal ones the first."""
        return tuple(self.mixture().argmax(1).tolist())


class Relaxed(nn.Module):
    """A supernet whose paths are mixed as a relaxation says: maps inputs (B, ...) to outputs."""

    def __init__(self, supernet: Supernet, relaxation: Relaxation) -> None:
        super().__init__()
        self.supernet, self.relaxation = supernet, relaxation

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the mixture's outputs."""
        return self.supernet(
            inputs,
            mixture=self.relaxation.mixture(),
            used=self.relaxation.alive.tolist(),
            scales=self.relaxation.scales(),
        )


def turns(
    task: Task,
    weights_source: Source,
    architecture_source: Source,
    *,
    weights: OptimizerConfig,
    architecture: OptimizerConfig = ARCHITECTURE,
    penalty: Any = None,
) -> list[Turn]:
    """Return how a Relaxed module learns, for `rlsuite.fit.fit`: the architecture first, then the weights.

    Args:
        task: whose loss both lower.
        weights_source: examples that weights learn from.
        architecture_source: others, that the architecture learns from.
        weights: the weights' optimizer.
        architecture: the architecture's.
        penalty: module -> 0-d tensor, added to the architecture's loss, such as expected MACs; None for none.
    """

    def own(module: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        loss = task.loss(module, batch).mean()
        return {"loss": loss if penalty is None else loss + penalty(module)}

    def plain(module: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"loss": task.loss(module, batch).mean()}

    return [
        Turn(
            name="architecture",
            loss=own,
            optimizer=architecture,
            parameters=("relaxation.*",),
            source=architecture_source,
        ),
        Turn(name="weights", loss=plain, optimizer=weights, parameters=("supernet.*",), source=weights_source),
    ]


class PartialChannels(nn.Module):
    """Lets 1 of `share` channels through an operation and the others past it, and mixes the order of channels.

    Args:
        inner: an operation of C / share channels.
        share: a divisor of C.
        stride: of the operation; what goes past it is then pooled (largest of 2 x 2).
    """

    def __init__(self, inner: nn.Module, share: int, stride: int) -> None:
        super().__init__()
        self.inner, self.share, self.stride = inner, share, stride

    @property
    def absent(self) -> bool:
        """Whether nothing stands here now, so that the whole edge is left out."""
        return getattr(self.inner, "absent", False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H', W')."""
        through = inputs.shape[1] // self.share
        past = inputs[:, through:]
        if self.stride > 1:
            past = functional.max_pool2d(past, self.stride, ceil_mode=True)
        return shuffle(torch.cat([self.inner(inputs[:, :through]), past], dim=1), self.share)


def shuffle(inputs: Tensor, groups: int) -> Tensor:
    """Return channels (B, C, H, W) in the order first of each group, second of each group, and so on."""
    batch, channels, height, width = inputs.shape
    return inputs.view(batch, groups, channels // groups, height, width).transpose(1, 2).reshape(inputs.shape)


class _Above(torch.autograd.Function):
    """1 where a value exceeds its threshold, with a sigmoid's gradient."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, threshold: Tensor) -> Tensor:  # type: ignore[override]
        soft = torch.sigmoid(value - threshold)
        ctx.save_for_backward(soft)
        return (value > threshold).to(value.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        (soft,) = ctx.saved_tensors
        slope = gradient * soft * (1.0 - soft)
        return slope, -slope


def above(value: Tensor, threshold: Tensor) -> Tensor:
    """Return 1 where value > threshold, else 0; gradients are those of sigmoid(value - threshold). Equal shapes."""
    found: Tensor = _Above.apply(value, threshold)  # type: ignore[assignment]
    return found
