"""Convolutions of 1-bit weights for cells: names of `search.operations.CONVOLUTIONS`.

| name | weights | inputs |
|---|---|---|
| xnor | signs, a scale a filter (XNOR-Net, arXiv:1603.05279) | floats |
| xnor_layer | signs, a scale a layer (BNAS's code, arXiv:2009.04247) | floats |
| xnor_one_bit | as xnor | signs |
| rbnn | rotated signs (RBNN, arXiv:2009.13055) | signs, less their example's mean |

Scales are kept beside the bits, so costs count them; the probes see them once they are packed.
"""

from __future__ import annotations

import functools

import torch
from torch import nn

from envs.evaluation.quantization.binary_convolutions import binary_convolution
from envs.evaluation.search.operations import Convolution


def _make(inputs: int, outputs: int, kernel: int, *, kind: str, **options: int | str) -> nn.Module:
    generator = torch.Generator().manual_seed(0)  # a space draws anew
    return binary_convolution(kind, inputs, outputs, kernel, generator=generator, **options)  # type: ignore[arg-type]


def _scale_a_filter(inputs: int, outputs: int, kernel: int, groups: int) -> int:
    return outputs


def _scale_a_layer(inputs: int, outputs: int, kernel: int, groups: int) -> int:
    return 1


XNOR = Convolution(functools.partial(_make, kind="xnor", input_bits=32), 1, 32, _scale_a_filter)
XNOR_LAYER = Convolution(functools.partial(_make, kind="xnor", input_bits=32, scale="layer"), 1, 32, _scale_a_layer)
XNOR_ONE_BIT = Convolution(functools.partial(_make, kind="xnor", input_bits=1), 1, 1, _scale_a_filter)
RBNN = Convolution(functools.partial(_make, kind="rbnn", input_bits=1), 1, 1, _scale_a_filter)
