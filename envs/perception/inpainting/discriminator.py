"""What tells filled clips from real ones, patch by patch and over time (arXiv:2104.03507; Chang et al. 2019).

Six convolutions of 5x5, each of which halves the sides and sees features of the frames before and after it, by the
plain shift: a quarter of the channels each.

Shapes: B clips, L frames, H and W sides.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from envs.perception.inpainting.convolution import Clip, Shift
from envs.perception.inpainting.decoder import SLOPE
from envs.perception.inpainting.encoder import CHANNELS
from rlsuite.nn.spectra import normalize_spectra
from rlsuite.nn.vision.blocks import draw_weights
from rlsuite.running.seeding import derive_seed

MULTIPLES = (1, 2, 4, 4, 4, 4)
PADDINGS = (1, 2, 2, 2, 2, 2)


class Discriminator(nn.Module):
    """Clips to scores of their patches.

    Args:
        width: channels of the first convolution; the paper's is 64.
        seed: of the first weights.
    """

    def __init__(self, width: int, seed: int = 0) -> None:
        super().__init__()
        self.shift = Shift(4, aligned=False)
        inputs = [CHANNELS, *(width * multiple for multiple in MULTIPLES)]
        self.convs = nn.ModuleList(
            nn.Conv2d(inputs[place], inputs[place + 1], 5, 2, padding) for place, padding in enumerate(PADDINGS)
        )
        draw_weights(self, derive_seed(seed, "discriminator"))
        normalize_spectra(self, derive_seed(seed, "spectral norm"), (f"convs.{len(PADDINGS) - 1}",))

    def forward(self, frames: Tensor, known: Tensor) -> Tensor:
        """Map clips (B, L, 3, H, W) in [0, 1] and what is known (B, L, 1, H, W) to scores (B, L, channels, h, w).

        They lie in (0, 1): as in the code, all channels of the last convolution are scores.
        """
        told = known.to(frames.dtype)
        hidden = torch.cat([frames, told, torch.zeros_like(told)], dim=2).flatten(0, 1)
        clip = Clip(frames.shape[1])
        for place, conv in enumerate(self.convs):
            hidden = conv(self.shift(hidden, clip))
            if place + 1 < len(self.convs):
                hidden = functional.leaky_relu(hidden, SLOPE)
        return torch.sigmoid(hidden).unflatten(0, frames.shape[:2])
