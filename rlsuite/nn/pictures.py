"""A convolutional network where a policy or a value otherwise has a stacked perceptron of one member.

Shapes: R rows, C channels, H and W sides of a picture, O outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlsuite.nn.vision.conv_net import ConvNet, ConvNetConfig

_ROWS = 512  # at once where no gradient is wanted: a rollout of pictures would take gigabytes


class PictureNet(nn.Module):
    """Pictures (1, R, C, H, W) to numbers (1, R, O), as EnsembleMLP(1, ...) maps vectors.

    Args:
        shape: (C, H, W).
        outputs: O.
        config: of the convolutions.
        seed: of the first weights.
    """

    def __init__(self, shape: tuple[int, ...], outputs: int, config: ConvNetConfig, seed: int) -> None:
        super().__init__()
        channels, height, width = shape
        self.network = ConvNet(channels, (height, width), outputs, config, seed)

    def forward(self, pictures: Tensor) -> Tensor:
        """Map (1, R, C, H, W), bytes or floats in [0, 1], to (1, R, O)."""
        rows = pictures[0]
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or len(rows) <= _ROWS:
            return self.network(rows).unsqueeze(0)
        return torch.cat([self.network(part) for part in rows.split(_ROWS)]).unsqueeze(0)

    @torch.no_grad()
    def scale_last(self, gain: float) -> None:
        """Multiply the last layer's weights."""
        self.network.head.weight.mul_(gain)
