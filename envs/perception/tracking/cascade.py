"""One look of a cascaded tracker: what of a search area may be the target, and how good each of it is.

Cascaded Regression Tracking (arXiv:2006.10336): the first stage scores every place and drops the many that are easy;
boxes around what is left are scored by a ridge regression that has learned from such hard ones alone. The paper's
fusion weight is not known to us; half of each score is our choice, as is the motion prior, without which nothing but
looks would tell one look-alike from another. A candidate's box is that of its peak, with the sides that the target had:
the regression's targets are 1 from an overlap of 0.7 on (`ridge.targets_of`), so it says which candidate is the target
and not which of the boxes around it fits best. Without a first stage nothing but its scores says where boxes lie; there
the mean of the best ones that overlap the winner is taken.

Shapes: B crops, K candidates, M boxes of each, d features; boxes (x1, y1, x2, y2) in pixels of the frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from envs.perception.tracking.candidates import jitter_table, jittered, peaks, strewn, strewn_table
from envs.perception.tracking.convolution_regression import projected, score_maps
from envs.perception.tracking.crops import Place, cut
from envs.perception.tracking.features import Maps, TrackingNet, TrackingNetConfig
from rlsuite.errors import require, require_choice, require_finite
from rlsuite.metrics.boxes import box_iou

NEIGHBOURHOOD = 2.2  # sides of the target, the window around a peak in which there is no other
BEST = 3  # boxes of a candidate whose mean is its score; of the second stage alone, whose mean is the box
TOGETHER = 0.5  # IoU with the winner from which they are: those around another object are not averaged with it
STREWN, REACH = 200, 2.0  # boxes of the second stage alone, and how far they lie, in sides of the target
STAGES = ("both", "first", "second")


@dataclass(frozen=True, kw_only=True)
class CascadeConfig:
    """A tracker's numbers.

    Attributes:
        network: sizes of the network that sees.
        stages: both; the first alone; or the second alone, on 200 boxes strewn around the last place.
        easy: teach the second stage easy negatives, too: boxes strewn over the search area.
        prior: weight of the motion prior; 0 for none.
        projected: channels that the first stage's features are projected to; the family's are 64.
        memory: samples of the first stage; the family's are 250.
        search: side of the search area in sides of the target.
        newton_steps: of the first stage in the first frame, each with
        steps: conjugate gradient steps.
        later_steps: conjugate gradient steps of a later update.
        every: frames between two updates.
        candidates: K at most.
        jitters: M.
        frames: of which positives are remembered beside the first one's.
        negatives: that are remembered.
        found: least score of the first stage.
        fusion: weight of the second stage's score, from 0 to 1.
        uncertain: share of the winner's score from which a runner-up makes it uncertain.
        lost_after: frames not found after which the whole frame is searched.
        accepted: least score of what is found so.
    """

    network: TrackingNetConfig = field(default_factory=TrackingNetConfig)
    stages: str = "both"
    easy: bool = False
    prior: float = 0.2
    projected: int = 16
    memory: int = 100
    search: float = 5.0
    newton_steps: int = 6
    steps: int = 10
    later_steps: int = 5
    every: int = 10
    candidates: int = 8
    jitters: int = 16
    frames: int = 20
    negatives: int = 200
    found: float = 0.25
    fusion: float = 0.5
    uncertain: float = 0.8
    lost_after: int = 10
    accepted: float = 0.5

    def __post_init__(self) -> None:
        require_choice("stages", self.stages, STAGES)
        for name in ("projected", "newton_steps", "steps", "later_steps", "every", "candidates", "frames"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require(self.jitters >= BEST, f"jitters={self.jitters}: use {BEST} or more")
        most = self.candidates * self.jitters
        require(self.negatives >= most, f"negatives={self.negatives}: use {most} (candidates * jitters) or more")
        require(self.memory > 30, f"memory={self.memory}: use more than 30, which the first frame gives")
        require(self.lost_after >= 1, f"lost_after={self.lost_after}: use 1 or more")
        require_finite("search", self.search, above=1.0)
        for name in ("prior", "fusion", "found", "uncertain", "accepted"):
            require(0.0 <= getattr(self, name) <= 1.0, f"{name}={getattr(self, name)}: use 0 to 1")


@dataclass(frozen=True)
class Look:
    """What one look gives.

    Attributes:
        boxes: (B, K, 4), the candidates' boxes.
        scores: (B, K), fused; -1 where there is no candidate.
        first: (B, K), the first stage's scores; where it is left out, the fused ones.
        there: (B, K) bool.
        samples: (B, K, M, 4), the boxes that the second stage saw or would have seen.
        features: (B, K, M, d); zeros where it did not look.
        ran: (B,) bool, whether it looked.
        evaluations: (B,) int64, boxes that it scored.
        score_maps: (B, G, G), the first stage's.
        maps: of features.
        projected: (B, Q, h, h), features as the first stage has them.
    """

    boxes: Tensor
    scores: Tensor
    first: Tensor
    there: Tensor
    samples: Tensor
    features: Tensor
    ran: Tensor
    evaluations: Tensor
    score_maps: Tensor
    maps: Maps
    projected: Tensor


class Cascade:
    """Both stages as functions of a frame and of what was learned of the target.

    Args:
        network: what sees.
        config: the tracker's numbers.
        seed: of the jitters, which are the same in every look.
    """

    def __init__(self, network: TrackingNet, config: CascadeConfig, seed: int = 0) -> None:
        self.network, self.config = network, config
        self.table = jitter_table(config.jitters, seed)
        self.strewn = strewn_table(STREWN, REACH)

    def look(self, frames: Tensor, place: Place, last: Tensor, learned: Mapping[str, Tensor], *, prior: float) -> Look:
        """Look at frames (B, 3, H, W) for targets whose last boxes were `last` (B, 4).

        Args:
            frames: see there.
            place: of the search areas.
            last: see there; its sides are those of the boxes that are tried.
            learned: "filter" (B, Q, 4, 4), "projection" (B, Q, C) and "ridge" (B, d) of each target.
            prior: weight of the motion prior.
        """
        config, network, size = self.config, self.network, self.network.config.crop
        maps = network(cut(frames, place, size))
        seen = projected(maps.coarse.unsqueeze(1), learned["projection"])
        scores = score_maps(seen, learned["filter"]).squeeze(1)
        here = place.to_crop(last.unsqueeze(1), size).squeeze(1)
        sides, middle = here[:, 2:] - here[:, :2], 0.5 * (here[:, 2:] + here[:, :2])
        alone = config.stages == "second"
        if alone:
            samples = strewn(middle, sides, self.strewn.to(sides)).unsqueeze(2)
            first = torch.zeros(samples.shape[:2], device=sides.device)
            there = torch.ones_like(first, dtype=torch.bool)
            ran = there[:, 0]
        else:
            window = NEIGHBOURHOOD * sides / network.stride
            first, places, there = peaks(scores, window, config.candidates, config.found)
            samples = jittered(places * network.stride, sides.unsqueeze(1), self.table.to(sides))
            ran = (there.sum(dim=1) > 1) & (config.stages == "both")
        features, second = self._second(maps, samples, ran, there, learned["ridge"])
        boxes, fused = samples[:, :, 0], first
        if alone:
            fused = second.squeeze(-1)
            best = fused.topk(BEST, dim=1).indices.unsqueeze(-1).expand(-1, -1, 4)
            boxes = boxes.scatter(1, best[:, :1], mean_of_one(boxes.gather(1, best)).unsqueeze(1))
        else:
            both = (1.0 - config.fusion) * first + config.fusion * second.topk(BEST, dim=2).values.mean(dim=2)
            fused = torch.where(ran.unsqueeze(1), both, first)
        if prior:
            shift = (0.5 * (boxes[..., :2] + boxes[..., 2:]) - middle.unsqueeze(1)).square().sum(-1)
            likely = torch.exp(-shift / (2.0 * 0.25 * sides.prod(dim=1, keepdim=True)))
            fused = fused * (1.0 - prior + prior * likely)
        asked = torch.where(ran, there.sum(dim=1) * samples.shape[2], 0)
        return Look(
            place.to_frame(boxes, size),
            torch.where(there, fused, -1.0),
            fused if alone else first,
            there,
            place.to_frame(samples.flatten(1, 2), size).view_as(samples),
            features,
            ran,
            asked,
            scores,
            maps,
            seen.squeeze(1),
        )

    def _second(self, maps: Maps, samples: Tensor, ran: Tensor, there: Tensor, ridge: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (B, K, M, d) and scores (B, K, M) of boxes in crops that have more than one candidate."""
        batch, count, each = samples.shape[:3]
        features = torch.zeros(batch, count, each, self.network.config.features, device=samples.device)
        rows = torch.nonzero(ran).flatten()
        if len(rows):
            most = int(there[rows].sum(dim=1).max())  # the others' boxes are not looked at
            asked = samples[rows, :most].flatten(1, 2)
            features[rows, :most] = self.network.boxes(maps[rows], asked).unflatten(1, (most, each))
        return features, (features @ ridge[:, None, :, None]).squeeze(-1)

    def around(self, place: Place, boxes: Tensor) -> Tensor:
        """Return jittered boxes (B, M, 4) around boxes (B, 4), in pixels of the crop."""
        here = place.to_crop(boxes.unsqueeze(1), self.network.config.crop)
        return jittered(0.5 * (here[..., :2] + here[..., 2:]), here[..., 2:] - here[..., :2], self.table.to(here))[:, 0]


def mean_of_one(boxes: Tensor) -> Tensor:
    """Return the mean box (B, 4) of those of (B, n, 4) that overlap the first one, which is always among them."""
    near = (box_iou(boxes, boxes[:, :1]) >= TOGETHER).to(boxes)  # (B, n, 1)
    near[:, 0] = 1.0
    return (boxes * near).sum(dim=1) / near.sum(dim=1)
