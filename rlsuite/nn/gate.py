"""A scale on each unit of a layer: what says how much a unit counts, and whether it may go.

Shapes: B batch, H units.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Gate(nn.Module):
    """Units (B, H) times a learned scale each, 1 at first.

    Args:
        units: H.
    """

    def __init__(self, units: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(units))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the scaled units (B, H)."""
        return inputs * self.weight


def gated(layers: nn.Sequential) -> nn.Sequential:
    """Return plain layers (`rlsuite.nn.plain.mlp`) with a gate behind every hidden layer's activation.

    Raises:
        ValueError: for layers with normalization, whose units are not on their own.
    """
    if any(isinstance(layer, nn.LayerNorm) for layer in layers):
        raise ValueError("a unit in front of LayerNorm changes all others; use layers without it")
    found: list[nn.Module] = []
    for place in range(0, len(layers) - 1, 2):
        linear, activation = layers[place], layers[place + 1]
        assert isinstance(linear, nn.Linear)
        found += [linear, activation, Gate(linear.out_features).to(linear.weight.device)]
    return nn.Sequential(*found, layers[-1])


@torch.no_grad()
def ungated(layers: nn.Sequential) -> nn.Sequential:
    """Return what `gated` returned as plain layers again, each gate a part of the weights behind it."""
    found: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, Gate):
            continue
        if isinstance(layer, nn.Linear) and found:
            gate = layers[len(found) // 2 * 3 - 1]
            assert isinstance(gate, Gate)
            layer.weight.mul_(gate.weight)
        found.append(layer)
    return nn.Sequential(*found)
