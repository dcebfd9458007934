"""What a detector shows an agent: where objects are, as a map of their middles.

`detection/dense` says what its head says first, `detection/iff` what it says after its own predictions have come back
(`iff.py`); both are one class, and `feedback.iterations` is what differs.

Shapes: B batch, H and W sides of a picture, M objects, N detections.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from envs.perception.detection.annotated import AnnotatedPictures
from envs.perception.detection.camera_scenes import camera_scenes
from envs.perception.detection.dense import DenseDetector, Detections, DetectorConfig, KeepConfig
from envs.perception.detection.iff import IFFConfig
from envs.perception.detection.losses import detection_losses, make_targets
from envs.perception.detection.scenes import KINDS, Mirrored, SceneConfig, Scenes
from envs.perception.perceiver import Perceiver, Seen, State
from rlsuite.data.arrays import kept as keep
from rlsuite.data.source import Source
from rlsuite.errors import UserError, require, require_finite

FRAMES = 1000  # of a task's cameras
LARGEST_SHARE = 0.375  # of a scene's side, that an object has at most
SPREAD, LEAST_SPREAD = 0.2, 0.8  # of a middle's blot: a share of the box's sides, and pixels


@dataclass(frozen=True, kw_only=True)
class DetectorPerceiverConfig:
    """A detector's numbers.

    Attributes:
        weights: a file that train_perceiver.py wrote.
        network: its sizes.
        keep: which detections are kept.
        gamma: of the focal loss; FoveaBox's 1.5.
        alpha: of the focal loss; FoveaBox's 0.4.
        beta: where the boxes' smooth L1 loss turns straight; FoveaBox's 0.11.
        positive: share of a box's sides, around its middle, that is learned as an object.
    """

    weights: str = ""
    network: DetectorConfig = field(default_factory=lambda: DetectorConfig(feedback=IFFConfig(iterations=0)))
    keep: KeepConfig = field(default_factory=KeepConfig)
    gamma: float = 1.5
    alpha: float = 0.4
    beta: float = 0.11
    positive: float = 0.4

    def __post_init__(self) -> None:
        require_finite("gamma", self.gamma, low=0.0)
        require_finite("beta", self.beta, above=0.0)
        require(0 < self.alpha < 1, f"alpha={self.alpha}: use a share above 0 and below 1")
        require(0 < self.positive <= 1, f"positive={self.positive}: use a share above 0, up to 1")


@dataclass(frozen=True, kw_only=True)
class IFFPerceiverConfig(DetectorPerceiverConfig):
    """The numbers of a detector with feedback.

    Attributes:
        network: its sizes.
    """

    network: DetectorConfig = field(default_factory=DetectorConfig)


class Dense(Perceiver):
    """Objects by a dense detector: "objects", a blot at each middle, as bright as its score.

    Args:
        config: see DetectorPerceiverConfig.
        seed: of the first weights.
    """

    Config = DetectorPerceiverConfig
    outputs = ("objects",)
    network: DenseDetector

    def __init__(self, *, config: DetectorPerceiverConfig, seed: int = 0) -> None:
        super().__init__(config=config)
        self.network = DenseDetector(config.network, seed)

    def forward(self, seen: Seen, state: State) -> tuple[Seen, State]:
        """Return "objects"."""
        size = (seen["rgb"].shape[2], seen["rgb"].shape[3])
        return {"objects": middle_map(self.detect(seen["rgb"]), size)}, state

    def detect(self, pictures: Tensor) -> Detections:
        """Return what is detected in pictures (B, 3, H, W), uint8 or in [0, 1]."""
        return self.network.detect(pictures, self.config.keep)

    def source(self, data: str, size: int, seed: int, clips: Sequence[Tensor] = (), kept: int = 0) -> Source:
        """Return examples with boxes: self-made scenes, or tiles of the pictures of data, a file of COCO's annotations.

        "Reacher:target,fingertip" is what a task's cameras see, with the boxes of those bodies. With kept, examples and
        their mirror images. A file's classes are one where the network knows no more.
        """
        classes = self.config.network.classes
        if clips:
            raise UserError("env=: a clip has no boxes; leave it out, and learn from self-made scenes")
        if not data:
            require(classes >= len(KINDS), f"classes={classes}: scenes have {len(KINDS)}; use as many or more")
            source: Source = Scenes(SceneConfig(height=size, width=size, largest=LARGEST_SHARE * size), seed=seed)
        elif ":" in data and not Path(data).exists():
            task, _, bodies = data.partition(":")
            named = [name for name in bodies.split(",") if name]
            require(0 < len(named) <= classes, f"data={data}: use up to {classes} bodies, or more network.classes")
            source = camera_scenes(task, named, size, kept or FRAMES, seed)
        else:
            real = AnnotatedPictures(data, tile=(size, size), overlap=(size // 6, size // 6), merged=classes == 1)
            require(
                len(real.names) <= classes, f"{data} has {len(real.names)} classes; use as many with network.classes="
            )
            source = real
        return Mirrored(keep(source, kept)) if kept else source

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return FoveaBox's losses of "picture" (B, 3, H, W), "boxes" (B, M, 4), "classes" (B, M), "ignored" (B, M)."""
        config, pictures = self.config, batch["picture"]
        cells = self.network.cells((pictures.shape[2], pictures.shape[3]), pictures.device)
        targets = make_targets(cells, batch["boxes"], batch["classes"], batch["ignored"], config.positive)
        passes = self.network.passes(pictures)
        found = detection_losses(passes[-1], targets, config.gamma, config.alpha, config.beta)
        loss = found["classes"] + found["boxes"]
        if weight := config.network.feedback.first_loss:
            for maps in passes[:-1]:
                early = detection_losses(maps, targets, config.gamma, config.alpha, config.beta)
                loss = loss + weight * (early["classes"] + early["boxes"])
        return {"loss": loss, **found}

    def metrics(self, predicted: Seen, truth: Seen) -> dict[str, Tensor]:
        """Return "error", the mean distance of both maps; boxes are judged by rlsuite.metrics.detection."""
        return {"error": (predicted["objects"] - truth["objects"]).abs().flatten(1).mean(1)}


class IFFDetector(Dense):
    """Objects by a dense detector whose head looks again at features that its own predictions have cleaned."""

    Config = IFFPerceiverConfig


def middle_map(detections: Detections, size: tuple[int, int]) -> Tensor:
    """Return a map (B, 1, H, W) in [0, 1]: at each pixel the brightest blot, scores at the middles of boxes."""
    boxes, scores = detections.boxes, detections.scores
    middle, sides = 0.5 * (boxes[..., :2] + boxes[..., 2:]), boxes[..., 2:] - boxes[..., :2]
    spread = (SPREAD * sides).clamp_min(LEAST_SPREAD)
    across, down = (
        torch.exp(-0.5 * ((torch.arange(side, device=boxes.device) + 0.5 - middle[..., axis : axis + 1]) / width) ** 2)
        for axis, side, width in ((0, size[1], spread[..., :1]), (1, size[0], spread[..., 1:]))
    )
    blots = scores[..., None, None] * down.unsqueeze(-1) * across.unsqueeze(-2)
    return blots.amax(dim=1, keepdim=True) if blots.shape[1] else blots.new_zeros(len(blots), 1, *size)
