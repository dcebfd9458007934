"""Generators and discriminators: of vectors by dense layers, of pictures by the paper's two convolutional kinds.

"dcgan" (Radford et al. 2016) and "cnn" (the plain network of Miyato et al. 2018) are those that PUGAN
(arXiv:2002.01136) was measured with, in its public code's sizes: with the defaults below, widths at 32 pixels.

Shapes: B batch, Z latent numbers, C channels, S side of a picture, F numbers of a vector.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rlsuite.errors import require, require_choice
from rlsuite.nn.spectra import normalize_spectra
from rlsuite.running.seeding import derive_seed

KINDS = ("dense", "dcgan", "cnn")
SMALLEST = 4  # pixels a side of the first and last feature maps
CNN_WIDTHS = (512, 256, 128, 64)


@dataclass(frozen=True, kw_only=True)
class GenerativeConfig:
    """The two networks.

    Attributes:
        kind: "dense", "dcgan" or "cnn".
        latent: Z.
        width: "dense": units of both hidden layers of the generator; "dcgan": channels next to the picture.
        discriminator_width: "dense": units of both hidden layers of the discriminator.
        batch_norm: in the generator of "dense".
        squash: of what "dense" makes: "tanh" for (-1, 1), as pictures are, or "none".
        spectral_norm: in the discriminator of "cnn", instead of BatchNorm.
    """

    kind: str = "dcgan"
    latent: int = 128
    width: int = 128
    discriminator_width: int = 256
    batch_norm: bool = True
    squash: str = "tanh"
    spectral_norm: bool = False

    def __post_init__(self) -> None:
        require_choice("kind", self.kind, KINDS)
        require_choice("squash", self.squash, ("tanh", "none"))
        for name in ("latent", "width", "discriminator_width"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require(not self.spectral_norm or self.kind == "cnn", f"spectral_norm=true: it is of kind=cnn, not {self.kind}")


def make_networks(config: GenerativeConfig, shape: tuple[int, ...], seed: int) -> tuple[nn.Sequential, nn.Sequential]:
    """Return a generator, latent vectors (B, Z) to (B, *shape), and a discriminator, (B, *shape) to scores (B,).

    Args:
        config: which, and how large.
        shape: of an example: (F,) for "dense", which takes any, or (C, S, S).
        seed: of the first weights.

    Raises:
        UserError: if pictures have no side that these networks can make.
    """
    if config.kind == "dense":
        generator, discriminator = _dense(config, shape)
    else:
        side = shape[-1]
        fits = len(shape) == 3 and shape[-2] == side and side >= 2 * SMALLEST and side & (side - 1) == 0
        require(fits, f"kind={config.kind}: pictures of {shape}; use squares of 8, 16, 32, ... pixels a side")
        require(config.kind == "dcgan" or side == 32, f"kind=cnn: pictures of {side} pixels a side; use 32, or dcgan")
        make = _dcgan if config.kind == "dcgan" else _cnn
        generator, discriminator = make(config, shape[0], side)
    for place, module in (("generator", generator), ("discriminator", discriminator)):
        draw_weights(module, derive_seed(seed, place))
    if config.spectral_norm:
        normalize_spectra(discriminator, derive_seed(seed, "spectral norm"))
    return generator, discriminator


@torch.no_grad()
def draw_weights(module: nn.Module, seed: int) -> None:
    """Draw the first weights: convolutions N(0, 0.02^2), BatchNorm N(1, 0.02^2), dense layers uniform by fan-in.

    The first two are DCGAN's; the last is torch's own rule. All biases of convolutions and BatchNorm are 0.
    """
    stream = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm1d | nn.BatchNorm2d):
            centre = 1.0 if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d) else 0.0
            part.weight.normal_(centre, 0.02, generator=stream)
            if part.bias is not None:
                part.bias.zero_()
        elif isinstance(part, nn.Linear):
            bound = 1.0 / math.sqrt(part.in_features)
            for weight in part.parameters():
                weight.uniform_(-bound, bound, generator=stream)


def _dense(config: GenerativeConfig, shape: tuple[int, ...]) -> tuple[nn.Sequential, nn.Sequential]:
    features = math.prod(shape)
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise((config.latent, config.width, config.width)):
        layers += [nn.Linear(before, after), *[nn.BatchNorm1d(after)] * config.batch_norm, nn.ReLU()]
    layers += [nn.Linear(config.width, features), *[nn.Tanh()] * (config.squash == "tanh"), nn.Unflatten(1, shape)]
    judge: list[nn.Module] = [nn.Flatten()]
    for before, after in itertools.pairwise((features, config.discriminator_width, config.discriminator_width)):
        judge += [nn.Linear(before, after), nn.LeakyReLU(0.2)]
    judge += [nn.Linear(config.discriminator_width, 1), nn.Flatten(0)]
    return nn.Sequential(*layers), nn.Sequential(*judge)


def _dcgan(config: GenerativeConfig, channels: int, side: int) -> tuple[nn.Sequential, nn.Sequential]:
    """Sides of 4, 8, ... S / 2 with BatchNorm, the first of width * S / 8 channels, and back; no biases."""
    widths = [config.width * 2**place for place in range(int(math.log2(side)) - 2)]  # from the picture inwards
    layers = [nn.Unflatten(1, (config.latent, 1, 1)), nn.ConvTranspose2d(config.latent, widths[-1], 4, bias=False)]
    layers += [nn.BatchNorm2d(widths[-1]), nn.ReLU()]
    for before, after in itertools.pairwise(reversed(widths)):
        layers += [nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    layers += [nn.ConvTranspose2d(widths[0], channels, 4, 2, 1, bias=False), nn.Tanh()]
    judge = [nn.Conv2d(channels, widths[0], 4, 2, 1, bias=False), nn.LeakyReLU(0.2)]
    for before, after in itertools.pairwise(widths):
        judge += [nn.Conv2d(before, after, 4, 2, 1, bias=False), nn.BatchNorm2d(after), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers), nn.Sequential(*judge, nn.Conv2d(widths[-1], 1, 4, bias=False), nn.Flatten(0))


def _cnn(config: GenerativeConfig, channels: int, side: int) -> tuple[nn.Sequential, nn.Sequential]:
    """The plain network for 32 pixels: a dense layer to 512 x 4 x 4, three doublings; seven convolutions back."""
    first = (CNN_WIDTHS[0], SMALLEST, SMALLEST)
    layers = [nn.Linear(config.latent, math.prod(first)), nn.Unflatten(1, first)]
    for before, after in itertools.pairwise(CNN_WIDTHS):
        layers += [nn.ConvTranspose2d(before, after, 4, 2, 1), nn.BatchNorm2d(after), nn.ReLU()]
    layers += [nn.Conv2d(CNN_WIDTHS[-1], channels, 3, padding=1), nn.Tanh()]
    judge: list[nn.Module] = []
    before = channels
    for after in reversed(CNN_WIDTHS):
        halves = after != CNN_WIDTHS[0]
        judge += _judged(config, nn.Conv2d(before, after, 3, padding=1), last=not halves)
        if halves:
            judge += _judged(config, nn.Conv2d(after, after, 4, 2, 1))
        before = after
    return nn.Sequential(*layers), nn.Sequential(*judge, nn.Flatten(), nn.Linear(math.prod(first), 1), nn.Flatten(0))


def _judged(config: GenerativeConfig, layer: nn.Conv2d, last: bool = False) -> list[nn.Module]:
    plain = config.spectral_norm or last
    return [layer, *([] if plain else [nn.BatchNorm2d(layer.out_channels)]), nn.LeakyReLU(0.1)]


def latent_vectors(count: int, size: int, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Return z ~ N(0, 1), (count, Z), on the device of `like`; drawn by `generator`, or by what layers draw from."""
    return torch.randn(count, size, device=like.device, generator=generator)
