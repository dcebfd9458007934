"""TSAM's convolution: features shifted and aligned, and a gate that says how much of what comes out is to be believed.

    y = sigmoid(G(s)) * K(s)        in the encoder: s is shifted, G begins as a copy of K
    y = sigmoid(G(x)) * act(K(s))   in the decoder: its gate sees a frame's own features

Shapes: B clips, L frames, C channels, H and W sides; frames of all clips lie one after another: (B L, C, H, W).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from envs.perception.inpainting.alignment import Alignment, shifted


@dataclass(frozen=True)
class Clip:
    """What a layer has to know of the frames it sees.

    Attributes:
        length: L.
        alignment: of the clip; None where there is no flow.
    """

    length: int
    alignment: Alignment | None = None


@dataclass(frozen=True)
class Shift:
    """How a layer's features are shifted.

    Attributes:
        div: one in so many channels comes from each neighbour; 0 for none: each frame by itself.
        aligned: by the flow; without, the plain temporal shift.
        causal: see `shifted`.
        own_at_ends: see `shifted`.
    """

    div: int
    aligned: bool = True
    causal: bool = False
    own_at_ends: bool = False

    def __call__(self, features: Tensor, clip: Clip) -> Tensor:
        """Return features (B L, C, H, W), shifted."""
        if not self.div:
            return features
        frames = features.unflatten(0, (-1, clip.length))
        alignment = clip.alignment if self.aligned else None
        return shifted(frames, alignment, self.div, causal=self.causal, own_at_ends=self.own_at_ends).flatten(0, 1)


class TSAMConv(nn.Module):
    """A convolution over frames that know their neighbours.

    Args:
        conv: any convolution.
        shift: how its input is shifted.
        activation: of the features, before the gate; None for none.
        gate_shifted: whether the gate sees the shifted features, as in the encoder, or a frame's own.
    """

    def __init__(
        self, conv: nn.Conv2d, shift: Shift, *, activation: nn.Module | None = None, gate_shifted: bool = True
    ) -> None:
        super().__init__()
        self.conv, self.gate, self.shift = conv, copy.deepcopy(conv), shift
        self.activation, self.gate_shifted = activation or nn.Identity(), gate_shifted

    def forward(self, features: Tensor, clip: Clip) -> Tensor:
        """Map (B L, C, H, W) to (B L, outputs, H', W')."""
        moved = self.shift(features, clip)
        gate = torch.sigmoid(self.gate(moved if self.gate_shifted else features))
        return gate * self.activation(self.conv(moved))
