"""A density for each channel, learned without saying its form (Balle et al. 2018, arXiv:1802.01436, appendix 6.1).

Its cumulative is a small network that can only rise: softplus(H) x + b, then x + tanh(a) tanh(x), four times, and a
sigmoid. Values are whole numbers away from the channel's median, so that where nothing happens one symbol has nearly
all of the probability.

Medians and tables are computed from the weights, in float64, when they are wanted: the auxiliary loss by which
CompressAI and TensorFlow Compression learn quantiles beside the weights is not needed.

Shapes: B batch, C channels, H and W sides.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from envs.perception.codec.gdn import lower_bound
from envs.perception.codec.range_coder import Tables

FILTERS, INIT_SCALE = (3, 3, 3, 3), 10.0
LEAST = 1e-9  # probability
REACH = 64  # a table has this many values on either side of the median; others are escaped
_HALVINGS, _WIDEST = 40, 1e4


class FactorizedPrior(nn.Module):
    """Likelihoods of values that are independent of each other.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        sizes = (1, *FILTERS, 1)
        scale = INIT_SCALE ** (1.0 / (len(FILTERS) + 1))
        self.matrices, self.biases, self.factors = nn.ParameterList(), nn.ParameterList(), nn.ParameterList()
        for inputs, outputs in zip(sizes[:-1], sizes[1:], strict=True):
            start = math.log(math.expm1(1.0 / scale / outputs))
            self.matrices.append(nn.Parameter(torch.full((channels, outputs, inputs), start)))
            self.biases.append(nn.Parameter(torch.zeros(channels, outputs, 1)))
            if len(self.factors) < len(FILTERS):
                self.factors.append(nn.Parameter(torch.zeros(channels, outputs, 1)))

    @torch.no_grad()
    def draw(self, generator: torch.Generator) -> None:
        """Draw the first biases, uniform in [-1/2, 1/2]."""
        for bias in self.biases:
            bias.copy_(torch.rand(bias.shape, generator=generator) - 0.5)

    def logits(self, values: Tensor) -> Tensor:
        """Return the logits of the cumulative at values (C, 1, n), of the values' dtype."""
        for place, (matrix, bias) in enumerate(zip(self.matrices, self.biases, strict=True)):
            values = functional.softplus(matrix.to(values.dtype)) @ values + bias.to(values.dtype)
            if place < len(self.factors):
                values = values + torch.tanh(self.factors[place].to(values.dtype)) * torch.tanh(values)
        return values

    def shares(self, values: Tensor) -> Tensor:
        """Return the probabilities of [v - 1/2, v + 1/2] for v (C, 1, n)."""
        low, high = self.logits(values - 0.5), self.logits(values + 0.5)
        # The side on which sigmoids are small: their difference is exact there. At the median it is either, never 0.
        sign = torch.where(low + high > 0.0, -1.0, 1.0)
        return (torch.sigmoid(sign * high) - torch.sigmoid(sign * low)).abs()

    def bits(self, values: Tensor) -> Tensor:
        """Return what values (B, C, H, W) take, (B,) bits."""
        flat = values.transpose(0, 1).reshape(self.channels, 1, -1)
        shares = lower_bound(self.shares(flat), LEAST).view(self.channels, len(values), -1)
        return -torch.log2(shares).sum(dim=(0, 2))

    @torch.no_grad()
    def medians(self) -> Tensor:
        """Return the channels' medians, (1, C, 1, 1) float32."""
        low = torch.full((self.channels, 1, 1), -_WIDEST, dtype=torch.float64, device=self.matrices[0].device)
        high = -low
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            above = self.logits(middle) > 0.0
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        return (0.5 * (low + high)).float().view(1, -1, 1, 1)

    @torch.no_grad()
    def tables(self) -> Tables:
        """Return a table for each channel: of whole numbers away from its median."""
        away = torch.arange(-REACH, REACH + 1, dtype=torch.float64, device=self.matrices[0].device)
        shares = self.shares(self.medians().double().view(-1, 1, 1) + away).squeeze(1)
        others = (1.0 - shares.sum(dim=1, keepdim=True)).clamp_min(0.0)
        found = torch.cat([shares, others], dim=1).cpu().numpy()
        return Tables(list(found), np.full(self.channels, -REACH).tolist())
