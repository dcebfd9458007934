"""Painting a whole picture with strokes that may lie anywhere: add where the error is, refine all together, prune.

Three parts. Growing: rounds of new strokes, few and coarse at first, then ever more and finer ones, put where the error
is (agents/painter/windows.py) and refined together with all others (agents/painter/joint.py). Swapping: the strokes
without which the error would rise least make room for new ones. Settling: nothing but refinement. From the end of
growing on the rate of refinement falls, to almost nothing at the end. How far a painting has come is counted in steps
or in seconds, whichever limit is nearer.

While strokes are few the picture is looked at in a quarter or half of its size: a step then costs a sixteenth or a
quarter.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from agents.painter.joint import JointConfig, JointPainting
from agents.painter.refine import NO_LIMITS, Limits
from agents.painter.windows import Proposal, best_strokes, worst_windows
from renderers.free_strokes import MIXED, FreeStrokes
from renderers.sparse import BLACK, Colour
from rlsuite.errors import require, require_finite
from rlsuite.metrics.pictures import decibels

Clock = Callable[[], float]


@dataclass(frozen=True)
class Seen:
    """How far a painting has come.

    Attributes:
        strokes: how many there are.
        share: of the whole that is done, in steps or seconds.
        mse: mean squared error before the last step, as the picture is looked at.
        painting: makes the painting as it is now.
    """

    strokes: int
    share: float
    mse: float
    painting: Callable[[], FreeStrokes]


Report = Callable[[Seen], None]

MIXTURE = ["bezier", "triangle", "circle", "line"]  # what brush=mixed paints with
_FIRST_STROKES, _FIRST_SHARE = 20, 0.1  # of the first round
_LARGEST_WINDOW, _WINDOW = 0.6, 2.5  # sides: at most, and of one that n strokes cover the picture with, times sqrt(n)
_WINDOW_RATIO = 8.0  # of the largest to the smallest
_QUARTER, _HALF = 200, 2000  # strokes from which on the picture is looked at closer
_LAST_RATE = 0.02
_ROUND_STEPS = 10
_SPARE = 1.5  # windows for each stroke that is added
_CANDIDATES, _FEWEST = 4_000, 4  # in all windows of a round, and in one
_CLOSE, _LOOK_EVERY = 0.5, 25  # dB from psnr= at which the exact picture is drawn, and steps between such looks


@dataclass(frozen=True, kw_only=True)
class WholeConfig:
    """How a whole picture is painted.

    Attributes:
        strokes: at most.
        steps: of refinement at most; 0 for as many as the seconds allow.
        seconds: at most; 0 for as many as the steps take.
        psnr: stop when it is reached, in dB, by the exact rasterizer; 0 for never.
        candidates: strokes proposed for a window, of which the best is taken; fewer where windows are many.
        canvas: side of the windows' canvas in pixels.
        rounds: of growing, and of swapping.
        grown: share of the whole after which all strokes are there.
        fine: share after which the picture is looked at in full size, however few the strokes.
        settled: share after which no more strokes are swapped.
        swapped: share of the strokes that a round of swapping replaces.
        seed: of the windows.
        joint: how strokes are refined.
        ground: the colour that is painted on; red, green and blue in [0, 1].
    """

    strokes: int = 5000
    steps: int = 0
    seconds: float = 0.0
    psnr: float = 0.0
    candidates: int = 32
    canvas: int = 20
    rounds: int = 20
    grown: float = 0.3
    fine: float = 0.7
    settled: float = 0.8
    swapped: float = 0.1
    seed: int = 0
    joint: JointConfig = field(default_factory=JointConfig)
    ground: Colour = BLACK

    def __post_init__(self) -> None:
        for name in ("strokes", "candidates", "canvas", "rounds"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require(self.steps >= 0, f"steps={self.steps}: use 0 (no limit) or more")
        require_finite("seconds", self.seconds, low=0.0)
        require_finite("psnr", self.psnr, low=0.0)
        require(self.steps > 0 or self.seconds > 0, "steps=0, seconds=0: give one of them, or there is no end")
        require(
            len(self.ground) == 3 and all(0.0 <= part <= 1.0 for part in self.ground),
            f"ground={self.ground}: use red, green and blue from 0 to 1",
        )
        require(
            0.0 < self.grown <= self.settled < 1.0,
            f"grown={self.grown}, settled={self.settled}: use shares above 0 and below 1, in this order",
        )


def paint_whole(
    picture: Tensor,
    propose: Proposal,
    config: WholeConfig,
    brush: str = "bezier",
    limits: Limits = NO_LIMITS,
    *,
    importance: Tensor | None = None,
    report: Report = lambda seen: None,
    clock: Clock = time.perf_counter,
    began: float | None = None,
) -> FreeStrokes:
    """Paint a picture; a painting that is interrupted (KeyboardInterrupt) is returned as far as it has come.

    Colours are chosen freely while the painting grows, and are the nearest of a palette's (`limits.palette`) from then
    on, while shapes go on being refined.

    Args:
        picture: (3, H, W) in [0, 1].
        propose: strokes for windows (agents/painter/windows.py).
        config: how, and until when.
        brush: of the strokes, or "mixed".
        limits: of the strokes.
        importance: (1, H, W), where detail matters: what a pixel's squared error counts; None where all count alike.
        report: called after every step; it may raise KeyboardInterrupt to end the painting.
        clock: what tells the seconds.
        began: when they began; None for now.
    """
    began = clock() if began is None else began
    artist = _Artist(picture, propose, config, brush, limits, importance, report, clock, began)
    try:
        artist.paint()
    except (_ReachedError, KeyboardInterrupt) as end:
        if isinstance(end, KeyboardInterrupt) and len(artist.painting.strokes) == 0:
            raise
    return artist.made(artist.best())


class _ReachedError(Exception):
    """The painting is as good as was asked for."""


class _Artist:
    def __init__(
        self,
        picture: Tensor,
        propose: Proposal,
        config: WholeConfig,
        brush: str,
        limits: Limits,
        importance: Tensor | None,
        report: Report,
        clock: Clock,
        began: float,
    ) -> None:
        self.propose, self.config, self.report = propose, config, report
        self.final, self.limits = limits, dataclasses.replace(limits, palette=None)
        self.brush, self.clock, self.began = brush, clock, began
        self.brushes = MIXTURE if brush == MIXED else [brush]
        self.generator = torch.Generator().manual_seed(config.seed)
        self.painting = JointPainting(picture, config.joint, self.limits, config.ground, importance)
        self.weighted = importance is not None
        self.error, self.least, self.kept = math.inf, math.inf, None
        self.added = 0  # step of the last round

    def paint(self) -> None:
        config = self.config
        first = min(config.strokes, max(_FIRST_STROKES, round(_FIRST_SHARE * config.strokes)))
        growth = config.strokes / first
        for index in range(config.rounds):
            end = config.grown * (index + 1) / config.rounds
            if index == 0 or index + 1 == config.rounds or self.in_time(end):
                wanted = round(first * growth ** (index / max(1, config.rounds - 1)))
                self.add(wanted - len(self.painting.strokes))
            self.refine(end)
        for index in range(config.rounds):
            end = config.grown + (config.settled - config.grown) * (index + 1) / config.rounds
            if self.in_time(end):
                self.add(config.strokes - len(self.painting.strokes), round(config.swapped * config.strokes))
            self.refine(end)
        self.refine(1.0)

    def in_time(self, end: float) -> bool:
        """Say whether a round that ends at this share is worth its work: some steps follow the last one."""
        return self.painting.steps - self.added >= _ROUND_STEPS and self.progress() < end

    def progress(self) -> float:
        """Return which share of the painting is done."""
        config = self.config
        share = self.painting.steps / config.steps if config.steps else 0.0
        if config.seconds:
            share = max(share, (self.clock() - self.began) / config.seconds)
        return min(1.0, share)

    def add(self, number: int, swapped: int = 0) -> None:
        """Add strokes where the error is, and so many more for those that are worth least."""
        if number + swapped <= 0:
            return
        self.judge()
        self.look()
        painting, config = self.painting, self.config
        canvas = painting.drawn()
        if swapped:
            order = painting.worth().argsort(descending=True, stable=True)
            painting.keep(order[: len(order) - swapped].sort().values)
        number += swapped
        between = math.sqrt(
            max(1, len(painting.strokes)) * (len(painting.strokes) + number)
        )  # strokes, before and after
        largest = min(_LARGEST_WINDOW, _WINDOW / math.sqrt(between))
        sides = largest / _WINDOW_RATIO, largest
        windows = worst_windows(
            canvas,
            painting.target,
            round(_SPARE * number),
            sides,
            config.canvas,
            self.generator,
            painting.importance if self.weighted else None,
        )
        candidates = max(min(_FEWEST, config.candidates), min(config.candidates, _CANDIDATES // len(windows.side)))
        painting.add(*best_strokes(windows, self.propose, candidates, number, self.brushes, self.limits))
        self.added = painting.steps

    def refine(self, end: float) -> None:
        """Move all strokes until a share of the whole is done."""
        config = self.config
        while (progress := self.progress()) < end and len(self.painting.strokes):
            self.look()
            falling = max(0.0, (progress - config.grown) / (1.0 - config.grown))
            rate = _LAST_RATE + (1.0 - _LAST_RATE) * 0.5 * (1.0 + math.cos(math.pi * falling))
            settling = progress > config.settled
            if progress > config.grown and self.painting.limits is not self.final:
                self.limits = self.painting.limits = self.final
                self.painting.strokes = self.final(self.painting.strokes)
            before = self.painting.strokes
            self.error = self.painting.step(rate)
            if settling and self.error < self.least:
                self.least, self.kept = self.error, before
            seen = Seen(len(before), progress, self.error, lambda: self.made(self.painting.strokes))
            self.report(seen)
            if settling and self.painting.steps % _LOOK_EVERY == 0:
                self.judge()

    def look(self) -> None:
        """Look at the picture in the size that so many strokes need."""
        number, progress = len(self.painting.strokes), self.progress()
        early = 4 if number < _QUARTER and progress < self.config.grown else 2
        self.painting.look(early if number < _HALF and progress < self.config.fine else 1)

    def judge(self) -> None:
        """Raise _ReachedError where the painting is as good as was asked for."""
        wanted = self.config.psnr
        if wanted and decibels(self.error) > wanted - _CLOSE:
            self.kept = None
            drawn = (self.painting.exact() * 255).round() / 255
            if decibels(float((drawn - self.painting.picture).square().mean())) >= wanted:
                raise _ReachedError

    def best(self) -> Tensor:
        """Return the best strokes since the painting began to settle, or the last ones."""
        return self.final(self.painting.strokes) if self.kept is None else self.kept

    def made(self, strokes: Tensor) -> FreeStrokes:
        """Return the painting of these strokes."""
        height, width = self.painting.picture.shape[1:]
        about = {"steps": self.painting.steps}
        return FreeStrokes(height, width, strokes, self.painting.kinds, self.brush, about, self.config.ground)
