"""Scale Match: pictures to learn from first are made as small as what is to be found later (arXiv:2009.07506).

A detector for tiny objects that learned from large ones first has learned little of use. Scale Match (SM; Yu et al.
2020, "Scale Match for Tiny Person Detection") draws, for every picture of the source, a size from the histogram of the
target's, and resizes the picture so that its objects' mean size, the geometric one, is that. Monotone Scale Match (MSM)
draws nothing: the mean size's place among the source's sizes becomes the same place among the target's, so that larger
stays larger.

Shapes: n sizes (roots of areas, in pixels), b bins, M objects of a picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from envs.perception.detection.tiles import padded
from rlsuite.data.counters import uniform
from rlsuite.data.source import Source
from rlsuite.errors import require
from rlsuite.metrics.boxes import area

_ROUNDING = 1e-6  # of cumulated shares, and of sizes at a bin's end


@dataclass(frozen=True, kw_only=True)
class ScaleMatchConfig:
    """How sizes are matched.

    Attributes:
        bins: b, the first and the last of which hold the tails.
        smallest: scale of a picture.
        largest: likewise.
        default: scale of pictures without objects, or whose objects would all be gone.
        tries: draws for a scale in between, before the last one is cut to the range.
        least: pixels of a box's sides; smaller ones are left out.
    """

    bins: int = 100
    smallest: float = 0.1
    largest: float = 1.0
    default: float = 0.25
    tries: int = 5
    least: float = 2.0

    def __post_init__(self) -> None:
        require(self.bins >= 3, f"bins={self.bins}: use 3 or more, two of which hold the tails")
        require(
            0 < self.smallest < self.largest, f"smallest={self.smallest}, largest={self.largest}: use a rising range"
        )
        require(self.default > 0 and self.tries >= 1, f"default={self.default}, tries={self.tries}: use positive ones")


def histogram(sizes: Tensor, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Return shares (b,) and edges (b + 1,) of sizes (n,): equal bins in the middle, 1/b of all in each tail.

    Raises:
        UserError: if there are fewer than two different sizes.
    """
    values = np.sort(sizes[sizes > 0].double().numpy())
    require(
        len(values) >= 2 and values[0] < values[-1], f"{len(values)} sizes to match: two or more, and different ones"
    )
    first, last = int(len(values) / bins), int(len(values) * (1 - 1 / bins))
    counts, edges = np.histogram(values[first:last], bins=bins - 2)
    counts = np.array([first, *counts, len(values) - last])
    edges = np.clip(edges, values[0], values[-1])  # those of equal sizes lie half a pixel outside of them
    return counts / len(values), np.array([values[0], *edges, values[-1]])


class ScaleMatch:
    """Sizes drawn from the target's histogram.

    Args:
        target: (n,) sizes.
        config: see ScaleMatchConfig.
    """

    def __init__(self, target: Tensor, config: ScaleMatchConfig | None = None) -> None:
        self.config = config or ScaleMatchConfig()
        shares, self.edges = histogram(target, self.config.bins)
        self.cumulated = np.cumsum(shares)

    def size(self, mean: float, draws: np.ndarray) -> float:
        """Return a size to make of a picture's mean size, from two numbers in [0, 1)."""
        place = int(np.searchsorted(self.cumulated + _ROUNDING, draws[0]))
        return float(self.edges[place] + draws[1] * (self.edges[place + 1] - self.edges[place]))

    def scale(self, sizes: Tensor, draws: Tensor) -> float:
        """Return the scale of a picture.

        Args:
            sizes: (M,) of its objects.
            draws: (tries, 2) numbers in [0, 1).
        """
        config, sizes = self.config, sizes[sizes > 0]
        if not len(sizes):
            return config.default
        mean, scale = float(sizes.double().log().mean().exp()), config.default
        for pair in draws.double().numpy():
            scale = self.size(mean, pair) / mean
            if config.smallest < scale < config.largest:
                break
        return min(max(scale, config.smallest), config.largest)


class MonotoneScaleMatch(ScaleMatch):
    """Sizes whose place among the target's is that of the mean size among the source's.

    Args:
        source: (n,) sizes of what is resized.
        target: (n,) sizes.
        config: see ScaleMatchConfig.
    """

    def __init__(self, source: Tensor, target: Tensor, config: ScaleMatchConfig | None = None) -> None:
        super().__init__(target, config)
        values = np.sort(source[source > 0].double().numpy())
        require(len(values) >= 1, "there are no sizes of the source; give some")
        places = np.minimum((self.cumulated * len(values)).astype(int), len(values) - 1)
        self.source = np.array([values[0], *values[places]])
        self.source[-1] = max(self.source[-1], values[-1])

    def size(self, mean: float, draws: np.ndarray) -> float:
        """Return the size; nothing is drawn."""
        place = int(np.searchsorted(self.source[1:] + _ROUNDING, mean))
        place = min(place, len(self.source) - 2)
        low, high = self.source[place], self.source[place + 1]
        share = (mean - low) / (high - low) if high > low else 0.0
        return float(self.edges[place] + share * (self.edges[place + 1] - self.edges[place]))


class ScaleMatched:
    """A source of another's pictures, resized; in a minibatch all are as large as the largest, with zeros around.

    Args:
        source: "picture" (B, 3, H, W), "boxes" (B, M, 4), "classes" (B, M), "ignored" (B, M).
        match: which scales.
        seed: of what is drawn; an example is resized in one way.
    """

    def __init__(self, source: Source, match: ScaleMatch, seed: int) -> None:
        self.source, self.match, self.seed = source, match, seed

    def __len__(self) -> int:
        return len(self.source)

    def examples(self, index: Tensor) -> dict[str, Tensor]:
        """Return the examples at index (B,)."""
        whole, tries = self.source.examples(index), self.match.config.tries
        draws = uniform(self.seed, index, 2 * tries).view(-1, tries, 2)
        pictures, boxes, classes = [], [], []
        for row in range(len(index)):
            there = (whole["classes"][row] >= 0) & ~whole["ignored"][row]
            scale = self.match.scale(area(whole["boxes"][row][there]).sqrt(), draws[row])
            box, name = self._resized(whole["boxes"][row], whole["classes"][row], scale)
            if bool(there.any()) and not bool((name[there] >= 0).any()):
                scale = self.match.config.default
                box, name = self._resized(whole["boxes"][row], whole["classes"][row], scale)
            pictures.append(resize(whole["picture"][row], scale))
            boxes.append(box)
            classes.append(name)
        found = torch.stack(classes)
        return {
            "picture": padded(pictures),
            "boxes": torch.stack(boxes),
            "classes": found,
            "ignored": whole["ignored"] & (found >= 0),
        }

    def _resized(self, boxes: Tensor, classes: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        boxes = boxes * scale
        large = (boxes[:, 2:] - boxes[:, :2]).amin(1) >= self.match.config.least
        return boxes * large.unsqueeze(1), torch.where(large, classes, -1)


def resize(picture: Tensor, scale: float) -> Tensor:
    """Return a picture (C, H, W) uint8 at another scale, smoothed where it shrinks."""
    size = [max(1, round(scale * side)) for side in picture.shape[1:]]
    found = functional.interpolate(picture[None].float(), size=size, mode="bilinear", antialias=scale < 1)[0]
    return found.round().clamp(0, 255).to(torch.uint8)
