"""The painter's reward, learned: a WGAN-GP critic of (picture, canvas) pairs (Learning to Paint, section 3.3).

"Real" is a picture paired with itself, "fake" a picture paired with a canvas. The reward of a bundle of strokes is how
far it raises the score of a slow copy of this network.

Shapes: B batch, W side of the canvas, P patches (1 without).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlsuite.nn.vision.blocks import TReLU, WeightNormConv2d


class Discriminator(nn.Module):
    """Five weight-normalized 5x5 convolutions of stride 2, TReLU after the first four, then the mean; 274,886 weights.

    Args:
        patches: the last convolution is 1x1 of stride 1 instead, and its outputs are scores of patches.
        width: channels of the first convolution, 16 in the paper.
    """

    def __init__(self, *, patches: bool = False, width: int = 16) -> None:
        super().__init__()
        self.patches = patches
        layers: list[nn.Module] = []
        channels = 6
        for outputs in (width, 2 * width, 4 * width, 8 * width):
            layers += [WeightNormConv2d(channels, outputs, 5, 2, 2), TReLU()]
            channels = outputs
        layers.append(WeightNormConv2d(channels, 1, 1) if patches else WeightNormConv2d(channels, 1, 5, 2, 2))
        self.layers = nn.Sequential(*layers)

    def forward(self, target: Tensor, canvas: Tensor) -> Tensor:
        """Return scores (B, P) of pictures and canvases (B, 3, W, W)."""
        scores = self.layers(torch.cat([target, canvas], dim=1)).flatten(1)
        return scores if self.patches else scores.mean(dim=1, keepdim=True)

    def loss(
        self, target: Tensor, canvas: Tensor, *, penalty: float, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return D(fake) - D(real) + penalty * (|grad| - 1)^2, and the distance D(real) - D(fake).

        The gradient is taken on random interpolates of the pairs, one share a sample (Gulrajani et al. 2017).
        """
        share = torch.rand(len(target), generator=generator, device=target.device).view(-1, 1, 1, 1)
        # Both pairs have the same picture, so only the second half is between two things.
        between = torch.lerp(target, canvas, share).requires_grad_()
        same = target.detach().requires_grad_()
        gradients = torch.autograd.grad(self(same, between).sum(), (same, between), create_graph=True)
        norm = torch.cat(gradients, dim=1).flatten(1).norm(dim=1)
        real, fake = self(target.repeat(2, 1, 1, 1), torch.cat([target, canvas])).chunk(2)
        distance = (real - fake).mean()
        return penalty * (norm - 1.0).square().mean() - distance, distance.detach()
