"""Feature map distortion (Tang et al. 2020, arXiv:2002.11022): noise of a chosen size where dropout has zeros.

Dropout puts 0 where its mask falls. The paper bounds the empirical Rademacher complexity of a network with distorted
features by the largest response of a row of the next layer's weights to them, and chooses the distortion that makes the
bound small. What the authors' code (huawei-noah/Disout) computes of it, and this does, is

    y = (x mask + e (1 - mask)) / mean(mask),    e = alpha w std(x) xi,    xi ~ N(0, 1) for each element

where w says for each channel how strongly the next layer's strongest rows take it in (`response`). alpha = 0 is
DropBlock (arXiv:1810.12890), with blocks of 1 Dropout.

Departures: a block of an even side lies where its seed says; the authors' code leaves out the wrong row and column
after its max-pooling, so that their first ones are never distorted. Features (B, C) are distorted element by element,
which the paper has and the code has not: there w is a random sign times the largest weight of any output. Blocks are
clipped to the map's smaller side.

Shapes: B batch, C channels, H and W sides of a map, b side of a block, K places of a kernel.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

POINTWISE = 0.1  # a next layer with kernels of 1x1 counts so much (the authors' code)
UNKNOWN = 0.01  # w where no next layer is known (the authors' code)
SMALLEST_KEPT = 1e-6  # of mean(mask), which is divided by


def kept_mask(
    like: Tensor, probability: Tensor | float, block: int, generator: torch.Generator | None = None
) -> Tensor:
    """Return 1 where features stay and 0 where they are distorted, of the shape of `like`.

    Args:
        like: (B, C, H, W), or (B, C).
        probability: p, about the share that is distorted; blocks overlap, so a little less is.
        block: b, side of the squares; 1 for single elements, which features (B, C) always are.
        generator: of the draws; None for torch's own.
    """
    if like.dim() == 2:
        return (torch.rand(like.shape, device=like.device, generator=generator) >= probability).to(like.dtype)
    batch, channels, height, width = like.shape
    block = min(block, height, width)
    rows, columns = height - block + 1, width - block + 1  # where a block fits
    rate = probability * (height * width / block**2 / (rows * columns))
    # Blocks are told by their first pixel: a block covers pixel i if it begins in i - b + 1, ..., i.
    seeds = torch.rand((batch, channels, rows, columns), device=like.device, generator=generator) < rate
    seeds = seeds.to(like.dtype)
    covered = functional.max_pool2d(functional.pad(seeds, [block - 1] * 4), block, stride=1)
    return 1.0 - covered


def response(weight: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Return w (C,): the mean over a kernel's places of random signs times the largest weight of any output.

    Args:
        weight: (outputs, C, ...) of the next layer.
        generator: of the signs; None for torch's own.
    """
    largest = largest_of(weight)
    signs = torch.rand(largest.shape, device=weight.device, generator=generator) < 0.5
    found = torch.where(signs, -largest, largest).mean(1)
    return found * (POINTWISE if _is_pointwise(weight) else 1.0)


def relative_size(weight: Tensor | None, alpha: float) -> float:
    """Return the standard deviation of a distortion over that of what it replaces: over draws, and over channels.

    Args:
        weight: of the next layer; None where none is known.
        alpha: the distortion's.
    """
    if weight is None:
        return alpha * UNKNOWN
    largest = largest_of(weight)
    squares = largest.square().mean(1) / largest.shape[1]  # of a mean of K terms of independent signs
    return alpha * (POINTWISE if _is_pointwise(weight) else 1.0) * float(squares.mean().sqrt())


def largest_of(weight: Tensor) -> Tensor:
    """Return the largest weight (C, K) of any output."""
    return weight.detach().amax(0).reshape(weight.shape[1], -1)


def _is_pointwise(weight: Tensor) -> bool:
    return weight.dim() == 4 and weight[0, 0].numel() == 1


class Distortion(nn.Module):
    """Distorts what passes while the module is in training mode; in evaluation mode it is the identity.

    Put it behind a layer, of an agent's encoder for example. `probability` is a buffer, so that where a schedule stands
    is saved with the weights.

    Args:
        probability: p at first; see `set_probability`.
        alpha: the distortion's size; 0 for zeros, as Dropout and DropBlock have.
        block: b.
        next_weight: gives the weights (outputs, C, ...) of the layer that takes in what passes here, as they are now;
            a linear layer behind a flattened map counts as a kernel as large as the map. None if it is not known.
        generator: of the draws; None for torch's own, which `rlsuite.fit.fit` seeds for each minibatch.
    """

    probability: Tensor

    def __init__(
        self,
        probability: float,
        alpha: float,
        block: int,
        next_weight: Callable[[], Tensor] | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.register_buffer("probability", torch.tensor(float(probability)))
        self.alpha, self.block, self.next_weight, self.generator = alpha, block, next_weight, generator

    def set_probability(self, probability: float) -> None:
        """Change p: the paper lets it grow along a line from 0 over all of the training."""
        self.probability.fill_(probability)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (B, C, H, W), or (B, C), to the same shape."""
        return self.distorted(inputs) if self.training else inputs

    def distorted(self, inputs: Tensor) -> Tensor:
        """Return what training mode makes of inputs, whatever the mode."""
        mask = kept_mask(inputs, self.probability, self.block, self.generator)
        kept = mask.mean().clamp_min(SMALLEST_KEPT)
        # Drawn also for alpha = 0, so that the same seed puts its masks in the same places.
        noise = torch.randn(inputs.shape, device=inputs.device, generator=self.generator).to(inputs.dtype)
        size = self.alpha * inputs.detach().std() * self._response(inputs)
        return (inputs * mask + noise * size * (1.0 - mask)) / kept

    def _response(self, inputs: Tensor) -> Tensor:
        """Return w with a shape that goes with the inputs'."""
        if self.next_weight is None:
            return torch.full((), UNKNOWN, device=inputs.device, dtype=inputs.dtype)
        channels = inputs.shape[1]
        found = response(as_kernels(self.next_weight(), channels), self.generator).to(inputs.dtype)
        return found.view(1, channels, *[1] * (inputs.dim() - 2))


def as_kernels(weight: Tensor, channels: int) -> Tensor:
    """Return weights with C in the second place: a linear layer's behind a flattened map as (outputs, C, H W).

    Raises:
        ValueError: if they do not take in that many channels.
    """
    if weight.shape[1] == channels:
        return weight
    if weight.dim() != 2 or weight.shape[1] % channels:
        raise ValueError(f"weights of {tuple(weight.shape)} do not take in {channels} channels")
    return weight.view(len(weight), channels, -1)
