"""PS-FCN: normals from pictures under any number of lights, in any order (Chen et al. 2020, arXiv:2007.13145).

An extractor that all images share sees each with its light; what it finds is fused by the maximum over images, and a
regressor makes unit normals of that. Beside it are the paper's variants: "+N", whose observations are normalized pixel
by pixel so that albedo cancels where a surface is Lambertian; UPS-FCN, which is told no lights (`lights=false`); and
fusion by the mean. `at_once` keeps a running maximum over images, so that memory does not grow with their number.

The paper's is width=64; the default learns and runs on a CPU. Images are linear; x is right, y up, z toward the camera;
lights are distant and seen orthographically. The loss counts pixels of the object only; in the official code others
add a constant.

Shapes: B batch, K images, H and W sides, F features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from envs.perception.perceiver import Perceiver, Seen, State
from envs.perception.stereo.blobs import BlobConfig, Blobs
from envs.perception.stereo.crops import CropConfig, Crops
from envs.perception.stereo.least_squares import degrees, lit
from envs.perception.stereo.sculptures import Sculptures
from envs.perception.stereo.shading import flash_lights
from rlsuite.data.arrays import kept as keep
from rlsuite.data.source import Source
from rlsuite.errors import require, require_choice
from rlsuite.metrics.masks import mean_where
from rlsuite.metrics.normals import angular_error
from rlsuite.running.seeding import derive_seed

SLOPE = 0.1
FUSIONS = ("max", "mean")
BLOBS = 20000  # different ones, where no data set is named


@dataclass(frozen=True, kw_only=True)
class PSFCNNetConfig:
    """The network's sizes and variants.

    Attributes:
        width: F of the first layer; the widest has four times as many. The paper's is 64.
        lights: each image comes with its light; without, it is UPS-FCN.
        normalized: "+N", observations normalized pixel by pixel; examples are then not made brighter.
        trained_with: K that it learns with: normalized images of other numbers are scaled to the same range.
        fusion: of features over images: max, or mean.
    """

    width: int = 16
    lights: bool = True
    normalized: bool = False
    trained_with: int = 32
    fusion: str = "max"

    def __post_init__(self) -> None:
        require(self.width >= 1, f"width={self.width}: use 1 or more")
        require(self.trained_with >= 1, f"trained_with={self.trained_with}: use 1 or more")
        require_choice("fusion", self.fusion, FUSIONS)


class PSFCNNet(nn.Module):
    """The network.

    Args:
        config: its sizes.
        seed: of the first weights (He et al. 2015, normal, biases zero).
    """

    def __init__(self, config: PSFCNNetConfig, seed: int) -> None:
        super().__init__()
        self.config, width = config, config.width
        self.extractor = nn.Sequential(
            conv(6 if config.lights else 3, width),
            conv(width, 2 * width, stride=2),
            conv(2 * width, 2 * width),
            conv(2 * width, 4 * width, stride=2),
            conv(4 * width, 4 * width),
            _up(4 * width, 2 * width),
            conv(2 * width, 2 * width),
        )
        self.regressor = nn.Sequential(
            conv(2 * width, 2 * width),
            conv(2 * width, 2 * width),
            _up(2 * width, width),
            nn.Conv2d(width, 3, 3, padding=1, bias=False),
        )
        draw(self, seed)

    def forward(self, images: Tensor, lights: Tensor | None = None, at_once: int = 0) -> Tensor:
        """Return unit normals (B, 3, H, W).

        Args:
            images: (B, K, 3, H, W), each divided by its light's strength.
            lights: (B, K, 3), unit vectors toward them; None for a network without.
            at_once: images whose features are held at a time; 0 for all.
        """
        height, width = images.shape[-2:]
        images = functional.pad(images, (0, -width % 4, 0, -height % 4))
        if self.config.normalized:
            images = normalize(images) * math.sqrt(images.shape[1] / self.config.trained_with)
        if self.config.lights:
            if lights is None:
                raise ValueError("this network is told its lights; give them, or lights=false")
            images = torch.cat([images, lights[..., None, None].expand(-1, -1, -1, *images.shape[-2:])], dim=2)
        fused: Tensor | None = None
        for part in images.split(at_once or images.shape[1], dim=1):
            found = self.extractor(part.flatten(0, 1)).unflatten(0, part.shape[:2])
            if self.config.fusion == "mean":
                found = found.sum(dim=1)
                fused = found if fused is None else fused + found
            else:
                found = found.amax(dim=1)
                fused = found if fused is None else torch.maximum(fused, found)
        assert fused is not None
        if self.config.fusion == "mean":
            fused = fused / images.shape[1]
        return functional.normalize(self.regressor(fused)[..., :height, :width], dim=1)


def normalize(images: Tensor) -> Tensor:
    """Return images (B, K, 3, H, W) divided, in each pixel and channel, by the root of their squares' sum over K.

    Under Lambert's law that cancels the albedo.
    """
    return images / (images.square().sum(dim=1, keepdim=True) + 1e-10).sqrt()


def cosine_loss(predicted: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of ``1 - n . n*`` over the object, 0-d; normals (B, 3, H, W), mask (B, 1, H, W) float."""
    return ((1.0 - (predicted * truth).sum(dim=1, keepdim=True)) * mask).sum() / mask.sum().clamp_min(1.0)


def conv(channels: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    """Return a convolution and a leaky ReLU."""
    return nn.Sequential(nn.Conv2d(channels, outputs, size, stride, size // 2), nn.LeakyReLU(SLOPE))


def _up(channels: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.ConvTranspose2d(channels, outputs, 4, 2, 1, bias=False), nn.LeakyReLU(SLOPE))


def draw(network: nn.Module, seed: int) -> None:
    """Draw the weights of all convolutions as the official code does: normal, by their fan-in; biases zero."""
    generator = torch.Generator().manual_seed(seed)
    for part in network.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(part.weight, generator=generator)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


@dataclass(frozen=True, kw_only=True)
class PSFCNConfig:
    """PS-FCN's numbers.

    Attributes:
        weights: a file that train_perceiver.py wrote.
        network: its sizes and variants.
        crops: how examples are varied while it learns.
        blobs: what it learns from where no data set is named.
    """

    weights: str = ""
    network: PSFCNNetConfig = field(default_factory=PSFCNNetConfig)
    crops: CropConfig = field(default_factory=CropConfig)
    blobs: BlobConfig = field(default_factory=lambda: BlobConfig(lights=64, cone=90.0))


class PSFCN(Perceiver):
    """Normals from a camera's flashes, by PS-FCN.

    Args:
        config: see PSFCNConfig.
        seed: of the first weights.
    """

    Config = PSFCNConfig
    inputs = ("flashes", "ids")
    outputs = ("normals",)
    network: PSFCNNet
    rig: Tensor

    def __init__(self, *, config: PSFCNConfig, seed: int = 0) -> None:
        super().__init__(config=config)
        self.network = PSFCNNet(config.network, derive_seed(seed, "network"))
        self.register_buffer("rig", flash_lights(), persistent=False)

    def forward(self, seen: Seen, state: State) -> tuple[Seen, State]:
        """Return "normals", zero where nothing is."""
        images, mask = lit(seen)
        return {"normals": self.network(images, self.rig.unsqueeze(0).expand(len(images), -1, -1)) * mask}, state

    def source(self, data: str, size: int, seed: int, clips: Sequence[Tensor] = (), kept: int = 0) -> Source:
        """Return examples of "images", "lights", "normals" and "mask": pieces of blobs, or of what `data` names.

        That is a folder laid out as PS Blobby and PS Sculpture are (`sculptures.py`).
        """
        crops = self.config.crops
        if self.config.network.normalized:
            crops = replace(crops, brightness=1.0)
        return examples(data, size, seed, clips, kept, self.config.blobs, crops)

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the loss (the paper's equation of cosines), and the mean error in "degrees"."""
        found = self.network(batch["images"], batch["lights"])
        error = angular_error(found.detach(), batch["normals"], batch["mask"][:, 0] > 0)
        loss = cosine_loss(found, batch["normals"], batch["mask"])
        return {"loss": loss, "degrees": mean_where(error.unsqueeze(0), error.isfinite().unsqueeze(0))[0].nan_to_num()}

    def metrics(self, predicted: Seen, truth: Seen) -> dict[str, Tensor]:
        """Return "degrees" (B,), the mean angle to the true normals where they are not zero."""
        return {"degrees": degrees(predicted, truth)}


def examples(
    data: str, size: int, seed: int, clips: Sequence[Tensor], kept: int, blobs: BlobConfig, crops: CropConfig
) -> Source:
    """Return what photometric stereo learns from; see `Perceiver.source`.

    Raises:
        UserError: for clips, whose lights nobody knows, or a folder that holds no such data.
    """
    require(not clips, "env=: pictures of a task do not tell their lights; leave it out, or use data=")
    source: Source = Sculptures(data) if data else Blobs(kept or BLOBS, size, blobs, derive_seed(seed, "blobs"))
    return Crops(keep(source, kept) if kept else source, crops, derive_seed(seed, "crops"))
