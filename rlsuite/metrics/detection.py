"""How well objects are detected: average precision as COCO has it, with size bins, ignored regions, and miss rates.

Detections of a picture and class take, best scores first, the free object that they overlap most. An object may be
ignored (unsure, a crowd, outside of a bin of sizes): it is not missed, and what detects it counts for nothing. The
protocol of the Tiny Object Detection challenge (Yu et al. 2020, arXiv:2009.07506) also lets an ignored region absorb
every detection that lies in it, by the share of the detection inside (IoD): t or more of it at a threshold t, as the
configurations of the official code for mmdetection have it (`evaluate_tiny.py` there: 2 t / (1 + t) or more). The
earlier protocol did not, and published figures of both differ (43.55 and 47.35 for the same detector).

Shapes: D detections, G objects of a picture; R rows, one for each picture and class; A bins, T thresholds, K classes, n
detections of a class over all pictures. Boxes (x1, y1, x2, y2) in pixels; areas in pixels squared. All is float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from rlsuite.errors import near_matches, require, require_choice
from rlsuite.metrics.boxes import area, box_iod, box_iou

_LARGEST = 1e10  # COCO's bound of all areas
_RECALLS = torch.from_numpy(np.linspace(0.0, 1.0, 101))
_LOSSLESS = 1.0 - 1e-10  # a threshold of 1 asks for no more than this
_CELLS = 1 << 22  # numbers that matching holds at once


class Found(NamedTuple):
    """What was detected in a picture: boxes (D, 4), scores (D,), classes (D,) int64."""

    boxes: Tensor
    scores: Tensor
    classes: Tensor


class Objects(NamedTuple):
    """What there is in a picture.

    Attributes:
        boxes: (G, 4).
        classes: (G,) int64.
        ignored: (G,) bool, not to be judged by; None for none.
        crowd: (G,) bool, many in one box: ignored, and overlapped by IoD, as often as one likes; None for none.
        areas: (G,), such as a mask's; None for the boxes'.
    """

    boxes: Tensor
    classes: Tensor
    ignored: Tensor | None = None
    crowd: Tensor | None = None
    areas: Tensor | None = None


@dataclass(frozen=True)
class Protocol:
    """How detections are judged.

    Attributes:
        ious: T thresholds.
        bins: A names with the least and the largest area of objects, both included.
        most: detections of a picture and class, the best ones.
        regions: "iou": an ignored object is matched as others are, once; "iod": it takes all that lie in it.
        inside: false detections whose own area is outside of a bin count for nothing there.
    """

    ious: tuple[float, ...]
    bins: tuple[tuple[str, float, float], ...]
    most: int = 100
    regions: str = "iou"
    inside: bool = True

    def __post_init__(self) -> None:
        require(bool(self.ious) and all(0 < iou <= 1 for iou in self.ious), f"ious={self.ious}: use some in (0, 1]")
        require(bool(self.bins), "bins: name one or more")
        require(self.most >= 1, f"most={self.most}: use 1 or more")
        require_choice("regions", self.regions, ("iou", "iod"))


COCO = Protocol(
    tuple(np.linspace(0.5, 0.95, 10).tolist()),
    (
        ("all", 0.0, _LARGEST),
        ("small", 0.0, 32.0**2),
        ("medium", 32.0**2, 96.0**2),
        ("large", 96.0**2, _LARGEST),
    ),
)
SIZES = {"tiny": (2.0, 20.0), "tiny1": (2.0, 8.0), "tiny2": (8.0, 12.0), "tiny3": (12.0, 20.0), "small": (20.0, 32.0)}
# The official code's average precision begins at 1 pixel where the paper, and its miss rate, say 2.
TINY = Protocol(
    (0.25, 0.5, 0.75),
    (
        ("all", 1.0, _LARGEST),
        *((name, 1.0 if low == 2.0 else low**2, high**2) for name, (low, high) in SIZES.items()),
        ("reasonable", 32.0**2, _LARGEST),
    ),
    most=200,
    regions="iod",
)


class Ranked(NamedTuple):
    """The detections of a class over all pictures, best first.

    Attributes:
        picture: (n,) int64.
        rank: (n,) int64, among those of its picture and class.
        scores: (n,).
        outcome: (A, T, n) int8: 1 true, 0 false, -1 counts for nothing.
        objects: (A,) int64, how many there were to be found.
    """

    picture: Tensor
    rank: Tensor
    scores: Tensor
    outcome: Tensor
    objects: Tensor


class Judged:
    """What came of judging. Figures are shares of 1, or NaN where there was nothing to be found.

    Attributes:
        protocol: of it.
        pictures: how many, empty ones included.
        ranked: class -> its detections with their outcomes, for whoever wants to look at single ones.
    """

    def __init__(self, protocol: Protocol, pictures: int, ranked: dict[int, Ranked]) -> None:
        self.protocol, self.pictures, self.ranked = protocol, pictures, ranked

    def precision(self, size: str = "all", iou: float | None = None) -> float:
        """Return average precision at 101 recalls, a mean over classes and, without `iou`, over thresholds."""
        place, chosen = self._places(size, iou)
        return _mean([_precision(_up_to(one, None), place, chosen) for one in self.ranked.values()])

    def recall(self, size: str = "all", iou: float | None = None, most: int | None = None) -> float:
        """Return the recall of the best `most` detections of each picture and class, a mean as above."""
        place, chosen = self._places(size, iou)
        found = []
        for one in self.ranked.values():
            true = (_up_to(one, most).outcome[place, chosen] == 1).sum(1).double()
            found.append(true / one.objects[place] if one.objects[place] else torch.full_like(true, math.nan))
        return _mean(found)

    def misses(self, size: str = "all", iou: float = 0.5) -> float:
        """Return the log-average miss rate: over nine numbers of false detections a picture, 0.01 to 1 (Dollar et al.

        2012). A miss rate is taken as 1e-10 at least. Where even the first detections are more false ones a picture
        than asked for, nothing is found; the official code takes the last recall there.
        """
        place, chosen = self._places(size, iou)
        asked = torch.logspace(-2.0, 0.0, 9, dtype=torch.float64)
        rates = []
        for one in self.ranked.values():
            if not one.objects[place]:
                continue
            outcome = one.outcome[place, chosen][0]
            recall = torch.cat([torch.zeros(1), (outcome == 1).cumsum(0)]).double() / one.objects[place]
            false = (outcome == 0).cumsum(0).double() / self.pictures
            # Rounding must not decide whether one false detection in a hundred pictures is one in a hundred.
            rates.append(1.0 - recall[torch.searchsorted(false, asked + 1e-12, right=True)])
        return float(torch.cat(rates).clamp_min(1e-10).log().mean().exp()) if rates else math.nan

    def _places(self, size: str, iou: float | None) -> tuple[int, list[int]]:
        names = [name for name, *_ in self.protocol.bins]
        require(size in names, f"size={size}: there is no such bin{near_matches(size, names)}")
        chosen = [place for place, one in enumerate(self.protocol.ious) if iou is None or abs(one - iou) < 1e-6]
        require(bool(chosen), f"iou={iou}: the thresholds are {list(self.protocol.ious)}")
        return names.index(size), chosen


def judge(found: Sequence[Found], objects: Sequence[Objects], protocol: Protocol = COCO) -> Judged:
    """Return how well pictures' objects were found.

    Args:
        found: one for each picture.
        objects: likewise.
        protocol: `COCO` or `TINY`, or another.

    Raises:
        ValueError: for other numbers of pictures.
    """
    if len(found) != len(objects):
        raise ValueError(f"there are detections of {len(found)} pictures and objects of {len(objects)}")
    names = sorted({int(name) for one in objects for name in one.classes.unique()})
    return Judged(protocol, len(found), {name: _judge_class(name, found, objects, protocol) for name in names})


def miss_rate(found: Sequence[Found], objects: Sequence[Objects], low: float, high: float, iou: float = 0.5) -> float:
    """Return the challenge's miss rate of objects whose size, the root of the area, is within [low, high].

    Detections of other sizes, by more than a quarter, are left out beforehand; 1,000 a picture are taken.
    """
    kept = []
    for one in found:
        size = area(one.boxes.double()).sqrt()
        here = (size >= low / 1.25) & (size < high * 1.25)
        kept.append(Found(one.boxes[here], one.scores[here], one.classes[here]))
    protocol = Protocol((iou,), (("bin", low**2, high**2),), most=1000, regions="iod", inside=False)
    return judge(kept, objects, protocol).misses("bin", iou)


# -- one class -------------------------------------------------------------------------------------------------


def _judge_class(name: int, found: Sequence[Found], objects: Sequence[Objects], protocol: Protocol) -> Ranked:
    """Match and rank the detections of one class."""
    boxes, scores, true, flags, areas = [], [], [], [], []
    for one, other in zip(found, objects, strict=True):
        here = one.classes == name
        order = one.scores[here].double().sort(descending=True, stable=True).indices[: protocol.most]
        boxes.append(one.boxes[here][order].double())
        scores.append(one.scores[here][order].double())
        there = other.classes == name
        true.append(other.boxes[there].double())
        none = torch.zeros(len(other.boxes), dtype=torch.bool)
        crowd = none if other.crowd is None else other.crowd
        ignored = crowd | (none if other.ignored is None else other.ignored)
        flags.append(torch.stack([ignored[there], crowd[there]], dim=-1))
        areas.append((area(other.boxes.double()) if other.areas is None else other.areas.double())[there])
    width = max(1, max(len(one) for one in true))
    rows = max(1, _CELLS // (width * len(protocol.bins) * len(protocol.ious)))
    outcomes, counts = [], torch.zeros(len(protocol.bins), dtype=torch.int64)
    for begin in range(0, len(boxes), rows):
        part = slice(begin, begin + rows)
        numbers = torch.tensor([len(one) for one in true[part]])
        there = torch.arange(max(1, int(numbers.max()))) < numbers.unsqueeze(1)
        given, marks, sizes = (_padded(list(parts), there.shape[1]) for parts in (true[part], flags[part], areas[part]))
        guesses = pad_sequence(boxes[part], batch_first=True)
        outcome, to_find = _match(guesses, given, marks, sizes, there, protocol)
        counts += to_find
        outcomes += [outcome[:, :, row, : len(one)] for row, one in enumerate(boxes[part])]
    every = torch.cat(scores)
    order = every.sort(descending=True, stable=True).indices
    picture = torch.cat([torch.full((len(one),), row) for row, one in enumerate(boxes)])
    rank = torch.cat([torch.arange(len(one)) for one in boxes])
    return Ranked(picture[order], rank[order], every[order], torch.cat(outcomes, dim=2)[:, :, order], counts)


def _padded(parts: list[Tensor], length: int) -> Tensor:
    """Return (R, length, ...) of tensors of `length` rows or fewer."""
    parts[0] = torch.cat([parts[0], parts[0].new_zeros(length - len(parts[0]), *parts[0].shape[1:])])
    return pad_sequence(parts, batch_first=True)


def _match(
    boxes: Tensor, true: Tensor, flags: Tensor, areas: Tensor, there: Tensor, protocol: Protocol
) -> tuple[Tensor, Tensor]:
    """Return outcomes (A, T, R, D) of detections, best first, and how many objects there were to be found (A,).

    Args:
        boxes: (R, D, 4).
        true: (R, G, 4).
        flags: (R, G, 2), ignored and crowd.
        areas: (R, G).
        there: (R, G), False where a row has fewer objects.
        protocol: how.
    """
    low, high = (torch.tensor(values, dtype=torch.float64) for values in list(zip(*protocol.bins, strict=True))[1:])
    threshold = torch.tensor(protocol.ious, dtype=torch.float64).clamp_max(_LOSSLESS).view(-1, 1, 1)
    ignored, crowd = flags.bool().unbind(-1)
    outside = (areas < low.view(-1, 1, 1)) | (areas > high.view(-1, 1, 1))
    ignored = (ignored | outside).unsqueeze(1)  # (A, 1, R, G)
    inside = box_iod(boxes, true)
    overlap = torch.where(crowd.unsqueeze(1), inside, box_iou(boxes, true))  # (R, D, G)
    free = there.expand(len(low), len(protocol.ious), *there.shape).clone()
    places = torch.arange(there.shape[1])
    outcomes = []
    for rank in range(boxes.shape[1]):
        here = overlap[:, rank]
        fits = free & (here >= threshold)
        taken, best = _best(fits & ~ignored, here, places)
        if protocol.regions == "iod":
            absorbed = (there & (inside[:, rank] >= threshold) & ignored).any(-1) & ~taken
        else:
            absorbed, other = _best(fits & ignored, here, places)
            best, absorbed = torch.where(taken, best, other), absorbed & ~taken
        used = taken if protocol.regions == "iod" else taken | absorbed
        free &= ~(used.unsqueeze(-1) & (places == best.unsqueeze(-1)) & ~crowd)
        outcomes.append(taken.to(torch.int8) - absorbed.to(torch.int8))
    none = torch.zeros(*free.shape[:3], 0, dtype=torch.int8)
    outcome = torch.stack(outcomes, dim=-1) if outcomes else none
    if protocol.inside:
        own = area(boxes)
        away = ((own < low.view(-1, 1, 1)) | (own > high.view(-1, 1, 1))).unsqueeze(1)
        outcome = torch.where((outcome == 0) & away, torch.full_like(outcome, -1), outcome)
    return outcome, (there & ~ignored).flatten(1).sum(1)


def _best(fits: Tensor, overlap: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Return whether any object (A, T, R, G) fits, and the place of the one of most overlap, of equals the last."""
    value = torch.where(fits, overlap, -1.0)
    best = value.amax(-1, keepdim=True)
    return best.squeeze(-1) >= 0.0, torch.where(value == best, places, -1).amax(-1)


def _up_to(one: Ranked, most: int | None) -> Ranked:
    if most is None:
        return one
    here = one.rank < most
    return Ranked(one.picture[here], one.rank[here], one.scores[here], one.outcome[:, :, here], one.objects)


def _precision(one: Ranked, place: int, chosen: list[int]) -> Tensor:
    """Return average precision of one class at thresholds, NaN where there is nothing to be found."""
    outcome = one.outcome[place, chosen]
    if not one.objects[place]:
        return torch.full((len(chosen),), math.nan, dtype=torch.float64)
    if not outcome.shape[1]:
        return torch.zeros(len(chosen), dtype=torch.float64)
    true, false = (outcome == 1).cumsum(1).double(), (outcome == 0).cumsum(1).double()
    recall = true / one.objects[place]
    precision = true / (true + false + np.spacing(1))
    precision = precision.flip(1).cummax(1).values.flip(1)  # never lower at a lower recall
    where = torch.searchsorted(recall, _RECALLS.expand(len(chosen), -1).contiguous())
    return torch.cat([precision, precision.new_zeros(len(chosen), 1)], dim=1).gather(1, where).mean(1)


def _mean(values: list[Tensor]) -> float:
    """Return the mean of what is not NaN; NaN of nothing."""
    every = torch.cat(values) if values else torch.zeros(0)
    every = every[~every.isnan()]
    return float(every.mean()) if len(every) else math.nan
