"""VGG-16's first three stages of features (Simonyan and Zisserman 2015, arXiv:1409.1556), from a user's own file.

Perceptual and style losses compare them. There are no weights here and nothing is downloaded: the file is a
safetensors file of the usual names ("features.0.weight", ...), as torchvision's `vgg16` has them.

Shapes: N pictures, H and W sides.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from rlsuite.errors import UserError

WIDTHS = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512)  # 0: the largest of 2x2
TAKEN = (8, 15, 22)  # relu2_2, relu3_3, relu4_3


class VGGFeatures(nn.Module):
    """Pictures to the features after relu2_2, relu3_3 and relu4_3. They have no gradient of their own."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for width in WIDTHS:
            layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU()] if width else [nn.MaxPool2d(2)]
            inputs = width or inputs
        self.features = nn.Sequential(*layers)
        self.requires_grad_(False)

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Map pictures (N, 3, H, W) in [0, 1] (as they are: the paper's code does not normalize) to three features."""
        found = []
        for place, layer in enumerate(self.features):
            pictures = layer(pictures)
            if place in TAKEN:
                found.append(pictures)
        return found


def load_vgg(path: str) -> VGGFeatures:
    """Return VGG-16's features with weights from a file.

    Raises:
        UserError: if the file cannot be read, or lacks a layer.
    """
    vgg = VGGFeatures()
    try:
        found = load_file(str(Path(path)))
        wanted = {name: found[name] for name in vgg.state_dict()}
        vgg.load_state_dict(wanted)
    except KeyError as error:
        raise UserError(f"tsam.vgg={path}: it lacks {error}; name a safetensors file of VGG-16's weights") from None
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"tsam.vgg={path}: {reason}; name a safetensors file of VGG-16's weights") from None
    if not all(bool(torch.isfinite(value).all()) for value in vgg.state_dict().values()):
        raise UserError(f"tsam.vgg={path}: it holds numbers that are not finite; name another file")
    return vgg.eval()
