"""The temporal multi-cue module of STMC (arXiv:2002.03187): each cue by itself, and all together, over time.

Block l, of C channels, for N cues:

    intra  f_{l,n} = ReLU(conv_k(f_{l-1,n}))                               C / N channels each
    inter  o_l     = ReLU([conv_k(o_{l-1}), conv_1([f_{l,1}, ..., f_{l,N}])])    C / 2 channels of each

and then every stream is max-pooled by 2. o_0 are all cues side by side. Frames after a video's end are zeros wherever
a convolution looks, so what is computed of a video does not depend on those it is padded beside.

Shapes: B videos, T steps, D numbers of a cue a step.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from rlsuite.errors import require


class TemporalBlock(nn.Module):
    """One block.

    Args:
        cue_sizes: channels of each cue that come in.
        inter_size: channels of the inter path that come in.
        channels: C, a multiple of N and of 2.
        kernel: k, odd.
    """

    def __init__(self, cue_sizes: Sequence[int], inter_size: int, channels: int, kernel: int) -> None:
        super().__init__()
        count = len(cue_sizes)
        require(channels % count == 0 == channels % 2, f"channels={channels}: use a multiple of 2 and of {count} cues")
        require(kernel % 2 == 1, f"kernel={kernel}: use an odd number")
        self.intra = nn.ModuleList(_convolution(size, channels // count, kernel) for size in cue_sizes)
        self.inter = _convolution(inter_size, channels // 2, kernel)
        self.mix = _convolution(channels, channels // 2, 1)

    def forward(self, cues: Sequence[Tensor], inter: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the streams (B, channels, T // 2) of each cue (B, D, T), and the inter path's."""
        cues = [functional.relu(layer(cue)) for layer, cue in zip(self.intra, cues, strict=True)]
        inter = functional.relu(torch.cat([self.inter(inter), self.mix(torch.cat(cues, 1))], 1))
        return [functional.max_pool1d(cue, 2) for cue in cues], functional.max_pool1d(inter, 2)


class TemporalMultiCue(nn.Module):
    """Blocks one after the other.

    Args:
        cue_sizes: D of each of N cues.
        channels: C of every block.
        kernel: k.
        blocks: how many; the paper has two.
    """

    def __init__(self, cue_sizes: Sequence[int], channels: int, kernel: int, blocks: int) -> None:
        super().__init__()
        between = [channels // len(cue_sizes)] * len(cue_sizes)
        self.blocks = nn.ModuleList(
            TemporalBlock(between if number else cue_sizes, channels if number else sum(cue_sizes), channels, kernel)
            for number in range(blocks)
        )

    def forward(self, cues: Sequence[Tensor], lengths: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """Return the intra streams (B, S, C / N), the inter one (B, S, C), and their lengths (B,); S is T // 2^blocks.

        Args:
            cues: (B, T, D) each.
            lengths: (B,) int64, how many steps of each video there are.
        """
        streams = [cue.mT for cue in cues]
        inter = torch.cat(streams, 1)
        streams, inter = _cut([*streams, inter], lengths)
        for block in self.blocks:
            streams, inter = block(streams, inter)
            lengths = lengths // 2
            streams, inter = _cut([*streams, inter], lengths)
        return [stream.mT for stream in streams], inter.mT, lengths


def _cut(streams: Sequence[Tensor], lengths: Tensor) -> tuple[list[Tensor], Tensor]:
    """Return streams (B, D, T), the last one apart, with zeros after each video's end."""
    there = torch.arange(streams[0].shape[2], device=lengths.device) < lengths.unsqueeze(1)
    kept = [torch.where(there.unsqueeze(1), stream, 0.0) for stream in streams]
    return kept[:-1], kept[-1]


def _convolution(inputs: int, outputs: int, kernel: int) -> nn.Conv1d:
    layer = nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer
