"""CompFeat's network: an encoder, two levels of refinement, and heads for what, where, which pixels, and who.

Shapes: B batch, N objects, T support frames, K classes, C channels, P bins a side, H and W sides of a picture, h and w
sides of its map (H / 4, W / 4).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from envs.perception.segmentation.attention import Refiner
from envs.perception.segmentation.correlation import CorrelationMap, CorrelationScore
from rlsuite.errors import require
from rlsuite.nn.vision.doors import FromBytes
from rlsuite.nn.vision.roi_align import roi_align

STRIDE, BINS, MASK_BINS = 4, 5, 14
REACH = 2.0  # logarithm of sizes, as a share of the picture, that the size head can say beyond 1/8


@dataclass(frozen=True, kw_only=True)
class CompFeatNetConfig:
    """Its sizes, and which parts of the paper it has.

    Attributes:
        classes: K.
        channels: C.
        attention: width of queries.
        pool: side of the squares of cells that are attended to as one; 1 for each by itself.
        embedding: width of what identities are compared by.
        frame: frames attend to the past (frame-level attention).
        objects: so do objects (object-level attention).
        map: the correlation map.
    """

    classes: int = 10
    channels: int = 64
    attention: int = 64
    pool: int = 1
    embedding: int = 128
    frame: bool = True
    objects: bool = True
    map: bool = True

    def __post_init__(self) -> None:
        for name in ("classes", "channels", "attention", "pool", "embedding"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")


class Frame(NamedTuple):
    """What is known of pictures.

    Attributes:
        encoded: (B, C, h, w), what the encoder made: what later frames attend to, and masks are made of.
        refined: (B, C, h, w), the neck's output with it.
    """

    encoded: Tensor
    refined: Tensor


class CompFeatNet(nn.Module):
    """Frames and their objects.

    Where the paper has ResNet-50 with a pyramid of five levels there are four convolutions and one level, and where it
    has anchors, a map of objects' middles: an agent's pictures are small. Both are the base detector's and not the
    paper's subject.

    Args:
        config: see CompFeatNetConfig.
        seed: of the first weights.
    """

    def __init__(self, config: CompFeatNetConfig, seed: int) -> None:
        super().__init__()
        self.config, channels = config, config.channels
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.door = FromBytes()
            self.encoder = nn.Sequential(
                *_convolution(3, channels // 2, 2), *_convolution(channels // 2, channels, 2),
                *_convolution(channels, channels, 1), *_convolution(channels, channels, 1),
            )  # fmt: skip
            self.frame_refiner = Refiner(channels, config.attention, config.pool) if config.frame else None
            self.neck = nn.Conv2d(channels, channels, 3, padding=1)
            told = nn.Conv2d(channels, 5, 1)
            self.middles = nn.Sequential(*_convolution(channels, channels, 1), told)
            told.weight.data *= 0.1
            told.bias = nn.Parameter(torch.tensor([-4.6, 0.0, 0.0, 0.0, 0.0]))  # an object is at one cell in a hundred
            self.object_refiner = Refiner(channels, config.attention, config.pool) if config.objects else None
            flat = channels * BINS * BINS
            self.body = nn.Sequential(nn.Linear(flat, config.embedding), nn.ReLU())
            self.classes = nn.Linear(config.embedding, config.classes)
            self.shifts = nn.Linear(config.embedding, 4)
            self.masks = nn.Sequential(
                *_convolution(channels, channels, 1), *_convolution(channels, channels, 1),
                *_convolution(channels, channels, 1), *_convolution(channels, channels, 1),
                nn.ConvTranspose2d(channels, channels, 2, stride=2), nn.ReLU(),
                nn.Conv2d(channels, config.classes, 1),
            )  # fmt: skip
            self.score = CorrelationScore(channels, BINS, config.embedding)
            self.map = CorrelationMap(channels, channels // 2) if config.map else None
            nn.init.zeros_(self.shifts.weight)

    def encoded(self, pictures: Tensor) -> Tensor:
        """Return what the encoder makes of pictures (B, 3, H, W): (B, C, h, w)."""
        return self.encoder(self.door(pictures))

    def frame(self, pictures: Tensor, support: Tensor, valid: Tensor) -> Frame:
        """Return what is known of pictures (B, 3, H, W) with the support's `encoded` (B, T, C, h, w), valid (B, T)."""
        encoded = self.encoded(pictures)
        refined = encoded if self.frame_refiner is None else self.frame_refiner(encoded, support, valid)
        return Frame(encoded, torch.relu(self.neck(refined)))

    def objects(self, frame: Frame, boxes: Tensor, support: Tensor, valid: Tensor) -> Tensor:
        """Return objects' features (B, N, C, P, P) in boxes (B, N, 4), in pixels."""
        batch, count = boxes.shape[:2]
        rows = torch.arange(batch, device=boxes.device).repeat_interleave(count)
        found = roi_align(frame.refined, boxes.flatten(0, 1), rows, BINS, STRIDE)
        found = found.view(batch, count, *found.shape[1:])
        if self.object_refiner is None:
            return found
        # All objects' cells are queries of one picture: its keys and values are made once.
        past = torch.relu(self.neck(support.flatten(0, 1))).view(support.shape)
        cells = found.transpose(1, 2).flatten(2, 3)  # (B, C, N P, P)
        refined = self.object_refiner(cells, past, valid, frame.refined)
        return refined.unflatten(2, (count, BINS)).transpose(1, 2)

    def told(self, objects: Tensor) -> tuple[Tensor, Tensor]:
        """Return class logits (B, N, K), and by how much boxes are to move (B, N, 4), as shares of their sides."""
        body = self.body(objects.flatten(2))
        return self.classes(body), self.shifts(body)

    def mask_logits(self, frame: Frame, boxes: Tensor) -> Tensor:
        """Return logits (B, N, K, 28, 28) of masks inside boxes (B, N, 4): of frames as they are, without attention."""
        batch, count = boxes.shape[:2]
        rows = torch.arange(batch, device=boxes.device).repeat_interleave(count)
        plain = torch.relu(self.neck(frame.encoded))
        found = self.masks(roi_align(plain, boxes.flatten(0, 1), rows, MASK_BINS, STRIDE))
        return found.view(batch, count, *found.shape[1:])

    def propose(self, frame: Frame, count: int) -> tuple[Tensor, Tensor]:
        """Return the `count` likeliest boxes (B, D, 4), in pixels, and their scores (B, D): maxima of the middles."""
        scores, boxes = proposals(self.middles(frame.refined))
        highest = nn.functional.max_pool2d(scores, 3, stride=1, padding=1)
        scores = torch.where(scores == highest, scores, torch.zeros_like(scores)).flatten(1)
        best, index = scores.topk(min(count, scores.shape[1]), dim=1)
        return boxes.flatten(2).transpose(1, 2).gather(1, index.unsqueeze(2).expand(-1, -1, 4)), best


def proposals(found: Tensor) -> tuple[Tensor, Tensor]:
    """Return scores (B, 1, h, w) and boxes (B, 4, h, w), in pixels, of the middles' map (B, 5, h, w).

    Channels are the score's logit, the middle's shift from its cell's, in cells, and the logarithms of width and height
    over an eighth of the picture's.
    """
    height, width = found.shape[2:]
    across = (torch.arange(width, device=found.device, dtype=found.dtype) + 0.5).view(1, 1, width)
    down = (torch.arange(height, device=found.device, dtype=found.dtype) + 0.5).view(1, height, 1)
    x, y = (across + found[:, 1]) * STRIDE, (down + found[:, 2]) * STRIDE
    size = found[:, 3:].clamp(-REACH, REACH).exp() / 8.0
    half_width, half_height = 0.5 * size[:, 0] * width * STRIDE, 0.5 * size[:, 1] * height * STRIDE
    boxes = torch.stack([x - half_width, y - half_height, x + half_width, y + half_height], dim=1)
    return found[:, :1].sigmoid(), boxes


def shifted(boxes: Tensor, shifts: Tensor) -> Tensor:
    """Return boxes (..., 4) whose corners are moved by shares (..., 4) of their sides."""
    sides = boxes[..., 2:] - boxes[..., :2]
    return boxes + shifts * torch.cat([sides, sides], dim=-1)


def _convolution(channels: int, outputs: int, stride: int) -> tuple[nn.Module, ...]:
    norm = nn.GroupNorm(math.gcd(outputs, 8), outputs)
    return nn.Conv2d(channels, outputs, 3, stride=stride, padding=1), norm, nn.ReLU()
