"""LCNet: the lights of pictures, told from the pictures and the mask alone (Chen et al. 2020, arXiv:2007.13145).

Each image's direction is one of 36 x 36 classes of two angles, and its strength one of 20 classes, told from the
image's own features and from what all images have in common. With its answers in place of calibrated lights, a network
of normals works without calibration: it learns behind true lights (PS-FCN plugged in, as the repository UPS-GCNet has
it) or, as SDPS-Net's second network, behind LCNet's answers (`behind="estimated"`).

The paper trains both networks one after the other, and so does `Uncalibrated`: LCNet in the first `lights_first` of the
minibatches, then the network of normals alone.

Shapes: B batch, K images, H and W sides, A classes of an angle, E of a strength.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from envs.perception.perceiver import Perceiver, Seen, State
from envs.perception.stereo.blobs import BlobConfig
from envs.perception.stereo.crops import STRENGTHS, CropConfig
from envs.perception.stereo.least_squares import degrees, lit
from envs.perception.stereo.psfcn import PSFCNNet, PSFCNNetConfig, conv, cosine_loss, draw, examples
from rlsuite.data.source import Source
from rlsuite.errors import require, require_choice
from rlsuite.running.seeding import derive_seed

LEARNS_BEHIND = ("known", "estimated")  # no "true": a command line would take it for yes or no


class Lights(NamedTuple):
    """Lights, as classes or as logits of them.

    Attributes:
        azimuth: of ``atan(x / z)``: (..., A) logits, or (...) int64.
        elevation: of ``atan(y / sqrt(x^2 + z^2))``, likewise.
        strength: (..., E) logits, or (...) int64.
    """

    azimuth: Tensor
    elevation: Tensor
    strength: Tensor


def to_classes(lights: Tensor, strengths: Tensor, angles: int, levels: int) -> Lights:
    """Return the classes of directions (..., 3), z > 0, and strengths (...) in [0.2, 2]; A and E of them.

    Angles from -90 to 90 degrees are cut into A equal parts; what lies beyond belongs to the outermost.
    """
    x, y, z = lights.unbind(dim=-1)
    low, high = STRENGTHS
    found = [
        (torch.rad2deg(torch.atan2(x, z)) + 90.0) / 180.0 * angles,
        (torch.rad2deg(torch.atan2(y, (x**2 + z**2).sqrt())) + 90.0) / 180.0 * angles,
    ]
    sides = [share.floor().long().clamp(0, angles - 1) for share in found]
    level = ((strengths - low) / (high - low) * levels).floor().long().clamp(0, levels - 1)
    return Lights(sides[0], sides[1], level)


def from_classes(classes: Lights, angles: int, levels: int) -> tuple[Tensor, Tensor]:
    """Return the directions (..., 3) and strengths (...) in the middle of classes."""
    theta, phi = (torch.deg2rad((side + 0.5) * 180.0 / angles - 90.0) for side in classes[:2])
    low, high = STRENGTHS
    directions = torch.stack([phi.cos() * theta.sin(), phi.sin(), phi.cos() * theta.cos()], dim=-1)
    return directions, (classes.strength + 0.5) * (high - low) / levels + low


def strength_error(found: Tensor, truth: Tensor) -> Tensor:
    """Return the mean relative error (B,) of strengths (B, K), once one factor for all is fitted by least squares.

    Strengths are known up to such a factor only.
    """
    factor = (found * truth).sum(dim=1) / found.square().sum(dim=1).clamp_min(1e-12)
    return ((factor.unsqueeze(1) * found - truth).abs() / truth).mean(dim=1)


@dataclass(frozen=True, kw_only=True)
class LCNetConfig:
    """Its sizes.

    Attributes:
        width: of the first layer; the paper's is 64.
        size: side that images are resized to; the paper's is 128.
        angles: A.
        levels: E.
    """

    width: int = 16
    size: int = 64
    angles: int = 36
    levels: int = 20

    def __post_init__(self) -> None:
        require(self.size >= 16 and self.size % 16 == 0, f"size={self.size}: use a multiple of 16")
        for name in ("width", "angles", "levels"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")


class LCNet(nn.Module):
    """The network.

    Where its features are fewer than 8 x 8 (images below 128), their mean stands for the 1 x 1 that the paper's
    strides lead to.

    Args:
        config: its sizes.
        seed: of the first weights.
    """

    def __init__(self, config: LCNetConfig, seed: int) -> None:
        super().__init__()
        self.config, width = config, config.width
        self.extractor = nn.Sequential(
            conv(4, width, stride=2),
            conv(width, 2 * width, stride=2),
            conv(2 * width, 2 * width),
            conv(2 * width, 2 * width, stride=2),
            conv(2 * width, 2 * width),
            conv(2 * width, 4 * width, stride=2),
            conv(4 * width, 4 * width),
        )
        self.classifier = nn.Sequential(
            conv(8 * width, 4 * width),
            conv(4 * width, 4 * width, stride=2),
            conv(4 * width, 4 * width, stride=2),
            conv(4 * width, 4 * width, stride=2),
            nn.AdaptiveAvgPool2d(1),
        )
        self.heads = nn.ModuleList(
            nn.Sequential(conv(4 * width, width, size=1), nn.Conv2d(width, count, 1))
            for count in (config.angles, config.angles, config.levels)
        )
        draw(self, seed)

    def forward(self, images: Tensor, mask: Tensor) -> Lights:
        """Return logits (B, K, A), (B, K, A) and (B, K, E).

        Args:
            images: (B, K, 3, H, W), as they were taken.
            mask: (B, 1, H, W) float, where the object is.
        """
        batch, count = images.shape[:2]
        inputs = torch.cat([images, mask.unsqueeze(1).expand(-1, count, -1, -1, -1)], dim=2).flatten(0, 1)
        side = (self.config.size, self.config.size)
        if inputs.shape[-2:] != side:
            inputs = functional.interpolate(inputs, side, mode="bilinear", align_corners=False)
        local = self.extractor(inputs).unflatten(0, (batch, count))
        common = local.amax(dim=1, keepdim=True).expand_as(local)
        found = self.classifier(torch.cat([local, common], dim=2).flatten(0, 1))
        return Lights(*(head(found).flatten(1).unflatten(0, (batch, count)) for head in self.heads))

    @torch.no_grad()
    def estimate(self, images: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the likeliest directions (B, K, 3) and strengths (B, K)."""
        classes = Lights(*(logits.argmax(dim=-1) for logits in self(images, mask)))
        return from_classes(classes, self.config.angles, self.config.levels)


def light_loss(found: Lights, lights: Tensor, strengths: Tensor) -> Tensor:
    """Return the sum of three cross-entropies, 0-d, each of weight 1; lights (B, K, 3), strengths (B, K)."""
    angles, levels = found.azimuth.shape[-1], found.strength.shape[-1]
    truth = to_classes(lights, strengths, angles, levels)
    pairs = zip(found, truth, strict=True)
    parts = [functional.cross_entropy(logits.flatten(0, -2), classes.flatten()) for logits, classes in pairs]
    return parts[0] + parts[1] + parts[2]


@dataclass(frozen=True, kw_only=True)
class UncalibratedConfig:
    """The two networks' numbers.

    Attributes:
        weights: a file that train_perceiver.py wrote.
        lights: LCNet's sizes.
        normals: those of the network behind it.
        behind: which lights the second learns with: "known", the true ones, or "estimated".
        lights_first: share of the minibatches in which LCNet learns; in the rest the other one does.
        crops: how examples are varied; each light has a strength of its own.
        blobs: what they learn from where no data set is named.
    """

    weights: str = ""
    lights: LCNetConfig = field(default_factory=LCNetConfig)
    normals: PSFCNNetConfig = field(default_factory=PSFCNNetConfig)
    behind: str = "estimated"
    lights_first: float = 0.5
    crops: CropConfig = field(default_factory=lambda: CropConfig(side=64))
    blobs: BlobConfig = field(default_factory=lambda: BlobConfig(lights=64, cone=90.0))

    def __post_init__(self) -> None:
        require_choice("behind", self.behind, LEARNS_BEHIND)
        require(0.0 < self.lights_first < 1.0, f"lights_first={self.lights_first}: use more than 0, and less than 1")
        require(self.normals.lights, "normals.lights=false: the second network is told lights; use stereo/psfcn")


class Uncalibrated(Perceiver):
    """Normals from a camera's flashes whose directions and strengths nobody told.

    Args:
        config: see UncalibratedConfig.
        seed: of the first weights.
    """

    Config = UncalibratedConfig
    inputs = ("flashes", "ids")
    outputs = ("normals",)
    lights: LCNet
    normals: PSFCNNet

    def __init__(self, *, config: UncalibratedConfig, seed: int = 0) -> None:
        super().__init__(config=config)
        lights = LCNet(config.lights, derive_seed(seed, "lights"))
        normals = PSFCNNet(config.normals, derive_seed(seed, "network"))
        self.network: nn.Module = nn.ModuleDict({"lights": lights, "normals": normals})
        self._share = 1.0

    def perceive(self, images: Tensor, mask: Tensor) -> Tensor:
        """Return normals (B, 3, H, W) of images (B, K, 3, H, W) under lights that LCNet tells; mask (B, 1, H, W)."""
        lights, normals = self.network.get_submodule("lights"), self.network.get_submodule("normals")
        assert isinstance(lights, LCNet)
        directions, strengths = lights.estimate(images, mask)
        return normals(images / strengths[..., None, None, None], directions) * mask

    def forward(self, seen: Seen, state: State) -> tuple[Seen, State]:
        """Return "normals", zero where nothing is."""
        return {"normals": self.perceive(*lit(seen))}, state

    def source(self, data: str, size: int, seed: int, clips: Sequence[Tensor] = (), kept: int = 0) -> Source:
        """Return examples as PSFCN does, every light with a strength of its own."""
        crops = replace(self.config.crops, strengths=True)
        return examples(data, size, seed, clips, kept, self.config.blobs, crops)

    def progress(self, share: float) -> None:
        """Take note of which share of a training is done: it says which network learns."""
        self._share = share

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the loss of the network whose turn it is; "lights" and "normals" say which it was."""
        images, mask = batch["images"], batch["mask"]
        lights, normals = self.network.get_submodule("lights"), self.network.get_submodule("normals")
        assert isinstance(lights, LCNet)
        nothing = torch.zeros((), device=images.device)
        if self._share < self.config.lights_first:
            loss = light_loss(lights(images, mask), batch["lights"], batch["strengths"])
            return {"loss": loss, "lights": loss.detach(), "normals": nothing}
        if self.config.behind == "estimated":
            found = self.perceive(images, mask)
        else:
            found = normals(images / batch["strengths"][..., None, None, None], batch["lights"])
        loss = cosine_loss(found, batch["normals"], mask)
        return {"loss": loss, "lights": nothing, "normals": loss.detach()}

    def metrics(self, predicted: Seen, truth: Seen) -> dict[str, Tensor]:
        """Return "degrees" (B,), the mean angle to the true normals where they are not zero."""
        return {"degrees": degrees(predicted, truth)}
