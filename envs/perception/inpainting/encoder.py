"""What TSAM sees with: ResNet-50 whose bottlenecks begin with a TSAM convolution (arXiv:2104.03507, section 3.1).

The 7x7 convolution takes 5 channels: colors, which pixels are known, and a guidance that is zero in every published
run. The last two stages are dilated by 2 and 4 in place of their strides, so features end at an eighth of the sides.
The paper starts from ImageNet's weights; there are none here, and the first ones are drawn.

Shapes: N = B L frames of all clips, w width (the paper's 64), H and W sides, multiples of 8.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from envs.perception.inpainting.convolution import Clip, Shift, TSAMConv

CHANNELS = 5
DEPTHS = (3, 4, 6, 3)
STRIDES, DILATIONS = (1, 2, 1, 1), (1, 1, 2, 4)


class Bottleneck(nn.Module):
    """1x1 (TSAM), 3x3 and 1x1 convolutions with BatchNorm, and a shortcut (He et al. 2016).

    Args:
        inputs: channels.
        width: of the inner convolutions; four times as many come out.
        stride: of the 3x3 convolution.
        dilation: likewise.
        shift: of the first convolution.
    """

    def __init__(self, inputs: int, width: int, stride: int, dilation: int, shift: Shift) -> None:
        super().__init__()
        outputs = 4 * width
        self.first = TSAMConv(nn.Conv2d(inputs, width, 1, bias=False), shift)
        self.second = nn.Conv2d(width, width, 3, stride, dilation, dilation, bias=False)
        self.third = nn.Conv2d(width, outputs, 1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for channels in (width, width, outputs))
        changes = stride != 1 or inputs != outputs
        self.shortcut = (
            nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
            if changes
            else nn.Identity()
        )

    def forward(self, features: Tensor, clip: Clip) -> Tensor:
        """Map (N, inputs, H, W) to (N, 4 width, H / stride, W / stride)."""
        hidden = functional.relu(self.norms[0](self.first(features, clip)))
        hidden = functional.relu(self.norms[1](self.second(hidden)))
        return functional.relu(self.norms[2](self.third(hidden)) + self.shortcut(features))


class ResNetEncoder(nn.Module):
    """Frames to features of four stages.

    Args:
        width: w.
        shift: of all first convolutions; the paper's div is 8.
    """

    def __init__(self, width: int, shift: Shift) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(CHANNELS, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        )
        self.stages = nn.ModuleList()
        inputs, before = width, 1
        for place, (depth, stride, dilation) in enumerate(zip(DEPTHS, STRIDES, DILATIONS, strict=True)):
            blocks = nn.ModuleList()
            for number in range(depth):
                # A dilated stage's first block still has the dilation of the stage before.
                here = (stride, before) if number == 0 else (1, dilation)
                blocks.append(Bottleneck(inputs, width * 2**place, *here, shift))
                inputs = 4 * width * 2**place
            self.stages.append(blocks)
            before = dilation

    def forward(self, seen: Tensor, clip: Clip) -> list[Tensor]:
        """Map (N, 5, H, W) to stages of 4w, 8w, 16w and 32w channels at 1/4, 1/8, 1/8 and 1/8 of the sides."""
        hidden, found = self.stem(seen), []
        for blocks in self.stages:
            for block in cast(nn.ModuleList, blocks):
                hidden = block(hidden, clip)
            found.append(hidden)
        return found
