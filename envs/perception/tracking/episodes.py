"""What the second stage's features learn from: tell a target from its look-alikes in a later frame.

An episode is one clip of `moving_objects.py`: boxes around all objects of a frame give the ridge regression its
samples, and its scores of boxes in a later frame are compared with what they should be; the gradient goes through the
closed form (arXiv:2006.10336; episodes of this kind are those of Bertinetto et al. 2019, arXiv:1805.08136). The maps
under them are also asked where objects are, as a detector would be: without that the first stage has little to go by.

Shapes: B episodes, O objects (0 is the target), M boxes around each, S side of a frame, d features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from envs.perception.tracking.convolution_regression import gaussian_labels
from envs.perception.tracking.crops import Place, around, cut
from envs.perception.tracking.features import Maps, TrackingNet
from envs.perception.tracking.moving_objects import LookAlikes
from envs.perception.tracking.ridge import ridge, sample_weights, targets_of
from rlsuite.data.counters import uniform_float32
from rlsuite.metrics.boxes import box_iou

BOXES = 8  # M
SPREAD = (0.1, 0.3)  # deviations of their shifts in sides of the object, by turns; of their sides' logarithms, half
VISIBLE = 0.5  # share of an object that has to be seen
SHIFT = 0.5  # most sides of the target by which the later search area is off


class Episodes:
    """A source of episodes: two frames of a clip, and where to look in them.

    Args:
        clips: where frames come from.
        seed: of boxes and shifts.
        search: side of a search area in sides of the target.
    """

    def __init__(self, clips: LookAlikes, seed: int, search: float = 5.0) -> None:
        self.clips, self.seed, self.search = clips, seed, search

    def __len__(self) -> int:
        return len(self.clips)

    def examples(self, index: Tensor) -> dict[str, Tensor]:
        """Return examples at index (B,).

        Returns:
            "frames" (B, 2, 3, S, S), "boxes" (B, 2, O, 4) and "visible" (B, 2, O) of `LookAlikes.examples`; "centre"
            (B, 2, 2) and "side" (B, 2) of search areas; "tried" (B, 2, O, M, 4), boxes around the objects.
        """
        found = self.clips.examples(index)
        batch, _, objects, _ = found["boxes"].shape
        draws = uniform_float32(self.seed, index, 2 + 2 * objects * BOXES * 4)
        area = around(found["boxes"][:, :, 0].flatten(0, 1), self.search)
        centre, side = area.centre.view(batch, 2, 2), area.side.view(batch, 2)
        off = SHIFT * (2.0 * draws[:, :2] - 1.0) * (side[:, 1:] / self.search)
        centre = torch.stack([centre[:, 0], centre[:, 1] + off], dim=1)
        normal = torch.special.ndtri(draws[:, 2:].clamp(1e-6, 1.0 - 1e-6)).view(batch, 2, objects, BOXES, 4)
        spread = torch.tensor(SPREAD).repeat(BOXES // len(SPREAD)).unsqueeze(-1)
        boxes = found["boxes"].unsqueeze(3)
        sides = boxes[..., 2:] - boxes[..., :2]
        middle = 0.5 * (boxes[..., :2] + boxes[..., 2:]) + spread * normal[..., :2] * sides
        half = 0.5 * sides * torch.exp(0.5 * spread * normal[..., 2:])
        return {**found, "centre": centre, "side": side, "tried": torch.cat([middle - half, middle + half], dim=-1)}


def episode_losses(network: TrackingNet, detector: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return "loss" and its parts: "ridge", the mean squared error of scores in the later frame; "detector".

    Args:
        network: what learns.
        detector: maps features (B, C, h, h) to where objects are (B, 1, h, h).
        batch: of `Episodes`.
    """
    crop = network.config.crop
    frames = batch["frames"].float().flatten(0, 1) / 255.0
    place = Place(batch["centre"].flatten(0, 1), batch["side"].flatten(0, 1))
    maps = network(cut(frames, place, crop))
    boxes, visible = batch["boxes"].flatten(0, 1), batch["visible"].flatten(0, 1) >= VISIBLE
    objects, each = batch["tried"].shape[2:4]
    tried = batch["tried"].flatten(0, 1).flatten(1, 2)
    seen = network.boxes(maps, place.to_crop(tried, crop)).unflatten(0, (-1, 2))
    overlap = box_iou(tried, boxes[:, :1]).squeeze(-1)
    targets = targets_of(overlap).unflatten(0, (-1, 2))
    shown = visible.repeat_interleave(each, dim=1)
    hard = (shown & (overlap <= 0.3)).unflatten(0, (-1, 2))[:, :, each:]
    ours = shown.unflatten(0, (-1, 2))[:, :, :each]
    good, bad = sample_weights(ours[:, 0].unsqueeze(1), hard[:, 0])
    weights = torch.cat([good.squeeze(1), bad], dim=1)
    learned = ridge(seen[:, 0], targets[:, 0], weights, network.regularization)
    errors = ((seen[:, 1] @ learned.unsqueeze(-1)).squeeze(-1) - targets[:, 1]) ** 2
    good, bad = sample_weights(ours[:, 1].unsqueeze(1), hard[:, 1])
    weights = torch.cat([good.squeeze(1), bad], dim=1) * visible.view(-1, 2, objects)[:, :, 0].all(1, keepdim=True)
    parts = {
        "ridge": (weights * errors).sum() / weights.sum().clamp_min(1.0),
        "detector": _detection(network, detector, maps, place.to_crop(boxes, crop), visible),
    }
    return {"loss": parts["ridge"] + parts["detector"], **parts}


def _detection(network: TrackingNet, detector: nn.Module, maps: Maps, boxes: Tensor, visible: Tensor) -> Tensor:
    """Return the mean squared error of where objects (B, O, 4), in pixels of the crop, are said to be."""
    stride = float(network.stride)
    centres = 0.5 * (boxes[..., :2] + boxes[..., 2:]) - 0.5 * stride  # a cell's middle is half a stride inside
    sides = (boxes[..., 2:] - boxes[..., :2])[:, 0] / stride
    bumps = gaussian_labels(centres, network.cells - 1, stride, 0.25 * sides)
    wanted = (bumps * visible[..., None, None]).amax(dim=1)
    return (detector(maps.coarse).squeeze(1) - wanted).square().mean()
