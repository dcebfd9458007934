"""Where actors may be in a clip: boxes that move, from anchors that stand still (LSTR, section 3; our sizes).

An anchor is one box for all T frames ("cuboid"); the head says how likely an actor is there and, for every frame, by
how much the anchor is to move and to grow.

Shapes: B clips, A anchors a cell, T frames, D channels, h and w sides of the map, P tubelets, N actors.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from rlsuite.errors import require
from rlsuite.metrics.boxes import area
from rlsuite.metrics.videos import tubelet_iou
from rlsuite.nn.vision.suppression import greedy

POSITIVE, NEGATIVE = 0.7, 0.3


class TubeletProposals(nn.Module):
    """The head over a map whose times are averaged.

    Args:
        channels: D.
        frames: T.
        stride: pixels to a cell.
        sides: of the anchors, in pixels.
        ratios: of their heights to their widths.
    """

    shapes: Tensor

    def __init__(
        self, channels: int, frames: int, stride: int, sides: tuple[float, ...], ratios: tuple[float, ...] = (1.0,)
    ) -> None:
        super().__init__()
        require(bool(sides) and bool(ratios), "anchors: give one side and one ratio or more")
        self.frames, self.stride = frames, stride
        shapes = [(side / ratio**0.5, side * ratio**0.5) for side in sides for ratio in ratios]
        self.register_buffer("shapes", torch.tensor(shapes), persistent=False)
        self.hidden = nn.Conv2d(channels, channels, 3, padding=1)
        self.output = nn.Conv2d(channels, len(shapes) * (1 + 4 * frames), 1)
        nn.init.normal_(self.output.weight, std=0.01)
        nn.init.zeros_(self.output.bias)  # pyright: ignore[reportArgumentType]

    def anchors(self, size: tuple[int, int]) -> Tensor:
        """Return anchors (h w A, 4) in pixels, for a map of sides `size`."""
        down, across = ((torch.arange(side, device=self.shapes.device) + 0.5) * self.stride for side in size)
        middles = torch.stack(torch.meshgrid(across, down, indexing="xy"), dim=-1).view(-1, 1, 2)
        return torch.cat([middles - 0.5 * self.shapes, middles + 0.5 * self.shapes], dim=-1).flatten(0, 1)

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores' logits (B, P) and tubelets (B, P, T, 4) in pixels of maps (B, D, T', h, w); P = h w A."""
        found = self.output(torch.relu(self.hidden(maps.mean(dim=2))))
        found = found.movedim(1, 3).unflatten(3, (len(self.shapes), -1)).flatten(1, 3)  # (B, P, 1 + 4 T)
        shifts = found[..., 1:].unflatten(2, (self.frames, 4))
        return found[..., 0], moved(self.anchors((maps.shape[3], maps.shape[4])).unsqueeze(1), shifts)

    def loss(self, maps: Tensor, boxes: Tensor, present: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the 0-d loss: cross-entropy of 256 tubelets a clip, half of them positive at most, and smooth L1.

        Args:
            maps: (B, D, T', h, w).
            boxes: (B, N, T, 4), the true ones.
            present: (B, N) bool.
            generator: of which tubelets are taken; None for the global one.
        """
        if boxes.shape[1] == 0:  # one actor that is not there
            boxes, present = boxes.new_zeros(len(boxes), 1, self.frames, 4), present.new_zeros(len(boxes), 1)
        logits, tubelets = self(maps)
        anchors = self.anchors((maps.shape[3], maps.shape[4]))
        overlap = tubelet_iou(anchors.unsqueeze(1).expand(-1, self.frames, -1), boxes) * present.unsqueeze(1)
        best, which = overlap.max(dim=2)  # (B, P)
        top = (overlap == overlap.amax(dim=1, keepdim=True)) & (overlap > 0)  # each actor has one, however little
        positive = (best >= POSITIVE) | top.any(dim=2)
        negative = ~positive & (best < NEGATIVE)
        order = torch.rand(positive.shape, generator=generator, device=logits.device)
        taken = _some(positive, order, 128)
        taken_too = _some(negative, order, 256 - 128)
        losses = functional.binary_cross_entropy_with_logits(logits, positive.to(logits.dtype), reduction="none")
        told = (losses * (taken | taken_too)).sum() / (taken | taken_too).sum().clamp_min(1)
        rows = torch.arange(len(boxes), device=boxes.device).unsqueeze(1)
        wanted = shifts_to(anchors.unsqueeze(1), boxes[rows, which])
        given = shifts_to(anchors.unsqueeze(1), tubelets)
        known = (area(boxes) > 0)[rows, which].to(logits.dtype)  # (B, P, T): frames without a box ask for nothing
        away = functional.smooth_l1_loss(given, wanted, reduction="none", beta=0.1).mean(dim=3)
        away = (away * known).sum(dim=2) / known.sum(dim=2).clamp_min(1.0)
        return told + (away * taken).sum() / taken.sum().clamp_min(1)


def moved(boxes: Tensor, shifts: Tensor) -> Tensor:
    """Return boxes (..., 4) whose middles move by shares of their sides, and whose sides grow by a logarithm."""
    sides = boxes[..., 2:] - boxes[..., :2]
    middle = 0.5 * (boxes[..., :2] + boxes[..., 2:]) + shifts[..., :2] * sides
    sides = sides * shifts[..., 2:].clamp(-4.0, 4.0).exp()
    return torch.cat([middle - 0.5 * sides, middle + 0.5 * sides], dim=-1)


def shifts_to(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the shifts (..., 4) by which `moved` makes others of boxes."""
    sides, larger = boxes[..., 2:] - boxes[..., :2], (others[..., 2:] - others[..., :2]).clamp_min(1e-3)
    middle = 0.5 * (others[..., :2] + others[..., 2:] - boxes[..., :2] - boxes[..., 2:])
    return torch.cat([middle / sides, (larger / sides).log()], dim=-1)


def best_tubelets(logits: Tensor, tubelets: Tensor, count: int, overlap: float = 0.7) -> tuple[Tensor, Tensor]:
    """Return the `count` likeliest tubelets (B, count, T, 4) and their scores; weaker ones that overlap them score 0.

    Greedy non-maximum suppression among the likeliest four times as many.
    """
    scores, index = logits.sigmoid().topk(min(4 * count, logits.shape[1]), dim=1)
    rows = torch.arange(len(logits), device=logits.device).unsqueeze(1)
    found = tubelets[rows, index]
    scores, order = (scores * greedy(tubelet_iou(found, found) > overlap)).topk(min(count, scores.shape[1]), dim=1)
    return found[rows, order], scores


def _some(wanted: Tensor, order: Tensor, count: int) -> Tensor:
    """Return `count` of what is wanted (B, P) bool in each row, those of the least order; all where there are fewer."""
    ranks = torch.where(wanted, order, 2.0).argsort(dim=1).argsort(dim=1)
    return wanted & (ranks < count)
