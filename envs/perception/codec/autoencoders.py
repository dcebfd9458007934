"""Pictures to few numbers and back: transforms with GDN, and the hyperprior (Balle et al. 2018, arXiv:1802.01436).

M-LVC (arXiv:2004.10290) codes the differences of motion with the first, residuals with both.

Shapes: B batch, C channels, H and W sides, multiples of 16 (of 64 with a hyperprior).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from envs.perception.codec.factorized import FactorizedPrior
from envs.perception.codec.gdn import GDN

STRIDES = 16  # of latents, in pixels
HYPER_STRIDES = 64  # of what the hyperprior codes
LEAST_DEVIATION = 1e-8


class Transform(nn.Module):
    """Analysis: four 5x5 convolutions of stride 2, GDN between them; synthesis: the same, transposed, with IGDN.

    Args:
        inputs: channels of pictures.
        width: between layers.
        latent: channels of latents.
        outputs: channels that come back.
    """

    def __init__(self, inputs: int, width: int, latent: int, outputs: int) -> None:
        super().__init__()
        self.latent = latent
        self.analysis = nn.Sequential(
            _down(inputs, width),
            GDN(width),
            _down(width, width),
            GDN(width),
            _down(width, width),
            GDN(width),
            _down(width, latent, bias=False),
        )
        self.synthesis = nn.Sequential(
            _up(latent, width),
            GDN(width, inverse=True),
            _up(width, width),
            GDN(width, inverse=True),
            _up(width, width),
            GDN(width, inverse=True),
            _up(width, outputs),
        )

    def shape(self, batch: int, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Return the latents' shape for pictures of (H, W)."""
        return batch, self.latent, size[0] // STRIDES, size[1] // STRIDES

    @torch.no_grad()
    def scale(self, gain: float, quiet: float) -> None:
        """Make first latents `gain` times as large, and what comes of them `quiet` times as large as before.

        Half a unit of noise drowns latents of pictures in [0, 1] as He's rule draws them, and what comes of noise
        drowns what they are added to. A long training mends both; a short one begins with it.
        """
        self.analysis[-1].weight.mul_(gain)  # type: ignore[operator]
        self.synthesis[0].weight.div_(gain)  # type: ignore[operator]
        self.synthesis[-1].weight.mul_(quiet)  # type: ignore[operator]


class Hyperprior(nn.Module):
    """Says of each latent of a residual how large it may be, for a few bits of its own.

    Args:
        latent: channels of the latents.
        width: of its own.
    """

    def __init__(self, latent: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.analysis = nn.Sequential(
            nn.Conv2d(latent, width, 3, padding=1), nn.ReLU(), _down(width, width), nn.ReLU(), _down(width, width)
        )
        self.synthesis = nn.Sequential(
            _up(width, width),
            nn.ReLU(),
            _up(width, width),
            nn.ReLU(),
            nn.Conv2d(width, latent, 3, padding=1),
            nn.ReLU(),
        )
        self.prior = FactorizedPrior(width)

    def shape(self, batch: int, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Return the shape of what is coded for pictures of (H, W)."""
        return batch, self.width, size[0] // HYPER_STRIDES, size[1] // HYPER_STRIDES

    def deviations(self, coded: Tensor) -> Tensor:
        """Return the latents' standard deviations, above 0."""
        return self.synthesis(coded) + LEAST_DEVIATION


def _down(inputs: int, outputs: int, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 5, stride=2, padding=2, bias=bias)


def _up(inputs: int, outputs: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(inputs, outputs, 5, stride=2, padding=2, output_padding=1)
