"""Paint a picture stroke by stroke: ``python scripts/paint_image.py photo.jpg``.

Writes a folder (output=, default painted/<name>): painting.png, strokes.json, strokes.svg (layered; opens in a browser
and in Inkscape) and painting.mp4, the painting as it grows. Weights come with the suite; another painter's go in as
weights=FILE (scripts/painter/export_painter.py). The last line printed is JSON: psnr, mse (of the exact rasterizer's
picture against the photo, at the size it was painted), strokes, seconds (of painting, without writing the files). The
first Ctrl-C ends the painting and writes what is there.
"""

from __future__ import annotations

import contextlib
import re
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import av
import psutil
import torch
from torch import Tensor

import rlsuite  # noqa: F401  (before torch: it sets what torch's threads read when they are loaded)
from agents.painter.joint import painting_bytes
from agents.painter.paint import divided_plan, paint_picture, plan_for, policy
from agents.painter.refine import Limits, RefineConfig
from agents.painter.weights import SHIPPED, PolicyPainter, load_painter
from agents.painter.whole import Clock, Report, Seen, WholeConfig, paint_whole
from agents.painter.windows import guessed_and_random, random_shapes
from renderers.free_strokes import MIXED, FreeStrokes, free_drawing_bytes
from renderers.paints import print_pixels, read_colour, read_mask, read_palette
from renderers.photo import read_photo
from renderers.sparse import BLACK
from renderers.stroke_files import Painting
from renderers.stroke_list import drawing_bytes
from renderers.strokes import BRUSHES
from rlsuite.cli import command
from rlsuite.config.compose import script_config
from rlsuite.errors import UserError, near_matches, require, require_choice, require_finite, require_threads
from rlsuite.metrics.pictures import decibels
from rlsuite.records.files import claimed, require_writable
from rlsuite.records.json_text import to_json
from scripts.painter.writing import progress_bar, write, write_preview

PREVIEW = "preview.png"
FEW_STEPS = 40  # of refinement, with which a painting is hardly begun
TILE_STEPS = 80  # of refinement, on each level of tiles
MOST_STROKES = 1_000_000
WHOLE_STEPS, MOST_STEPS = 200, 600  # of a whole picture with 5,000 strokes, and with fewer, which cost less


@dataclass(frozen=True, kw_only=True)
class PaintConfig:
    """How a picture is painted.

    Attributes:
        image: the picture, also as the first argument without image=.
        output: the folder; default painted/<name of the picture>, with a number where there is one already.
        strokes: at most.
        tiles: clip strokes to tiles, finer and finer ones where the error is, each level refined by itself; without,
            strokes lie anywhere and are refined all together. divide=, smallest_tile= and refine=false do so too.
        divide: d paints as the paper does, the whole picture and then each square tile of a d-th of its longer side:
            d x d tiles, or fewer where the picture is no square; 0 does not.
        long_side: pixels of the picture's longer side while it is painted; smaller ones are enlarged, to eight times
            their size at most.
        output_size: pixels of the longer side of painting.png; 0 for long_side's. The film has at most 1280.
        print: instead of output_size, a paper and dots an inch, such as A3@300.
        smallest_tile: side of the finest tiles, in pixels; 0 for half the side of the painter's canvas, 16 for the
            suite's own.
        guess: the trained painter proposes most of the candidates for a new stroke, instead of chance; in tiles it
            proposes all strokes anyway.
        brush: bezier, opaque, circle, triangle, line, or mixed (all but opaque ones, not in tiles); without it the one
            that the painter learned to paint with.
        opaque: strokes hide what is under them.
        canvas: the colour that is painted on, a name or #rrggbb; black without. Not in tiles.
        palette: the colours strokes may have: a number, for so many of the picture's own, or a text file with one a
            line. Not in tiles.
        mask: a picture, white where detail matters and black where it hardly does. Not in tiles.
        preview: write preview.png into the folder every second while painting. Not in tiles.
        smallest_stroke: thinnest radius, 0 to 1 of the largest there is: a quarter of a tile, or of the picture.
        largest_stroke: thickest radius.
        refine: improve the painter's strokes by gradient through the soft rasterizer.
        refine_steps: of gradient descent: on each level of tiles (0 for 80), or in all (0 for 200 with 5,000 strokes
            and up to 600 with fewer, or with seconds= for as many as they allow).
        seconds: paint so long, strokes in tiles no longer than refine_steps takes; 0 for no limit.
        psnr: stop when the painting is so near the picture, in dB, be it with fewer strokes; 0 for never. Not in tiles.
        video: mp4, gif or none.
        weights: a painter's file; default the suite's own.
        num_threads: of torch; 0 takes all cores.
    """

    image: str = ""
    output: str = ""
    strokes: int = 5000
    tiles: bool = False
    divide: int = 0
    long_side: int = 512
    output_size: int = 0
    print: str = ""
    smallest_tile: int = 0
    guess: bool = False
    brush: str = ""
    opaque: bool = False
    canvas: str = ""
    palette: str = ""
    mask: str = ""
    preview: bool = False
    smallest_stroke: float = 0.0
    largest_stroke: float = 1.0
    refine: bool = True
    refine_steps: int = 0
    seconds: float = 0.0
    psnr: float = 0.0
    video: str = "mp4"
    weights: str = ""
    num_threads: int = 0

    def __post_init__(self) -> None:
        require(bool(self.image), "no picture is named; write: python scripts/paint_image.py photo.jpg")
        require(self.strokes >= 5, f"strokes={self.strokes}: use 5 or more")
        require(self.strokes <= MOST_STROKES, f"strokes={self.strokes}: use at most {MOST_STROKES}")
        require(self.divide >= 0, f"divide={self.divide}: use 0 (where the error is) or more")
        require(16 <= self.long_side <= 4096, f"long_side={self.long_side}: use 16 to 4096")
        if self.print:
            print_pixels(self.print)
            require(self.output_size == 0, f"output_size={self.output_size}: print={self.print} says it already")
        require(0 <= self.output_size <= 16384, f"output_size={self.output_size}: use 0 to 16384")
        require(
            self.smallest_tile == 0 or self.smallest_tile >= 4,
            f"smallest_tile={self.smallest_tile}: use 4 or more, or 0 for half of the painter's canvas",
        )
        if self.brush:
            require_choice("brush", self.brush, (*BRUSHES, MIXED))
        require_choice("video", self.video, ("mp4", "gif", "none"))
        require(
            0.0 <= self.smallest_stroke <= self.largest_stroke <= 1.0,
            f"smallest_stroke={self.smallest_stroke}, largest_stroke={self.largest_stroke}: use 0 to 1, in this order",
        )
        require_finite("seconds", self.seconds, low=0.0)
        require_finite("psnr", self.psnr, low=0.0)
        require(self.refine_steps >= 0, f"refine_steps={self.refine_steps}: use 0 or more")
        for name in ("refine_steps", "seconds", "psnr"):
            value = getattr(self, name)
            require(self.refine or value == 0, f"{name}={value}: it is for refining; leave out refine=false")
        if self.tiled:
            which = next(
                name
                for name in ("divide", "smallest_tile", "tiles", "refine")
                if getattr(self, name) != (name == "refine")
            )
            require(self.brush != MIXED, f"brush=mixed: strokes in tiles are of one brush; leave out {which}=")
            require(
                not self.guess, "guess=true: strokes in tiles are the trained painter's already; leave out guess=true"
            )
            require(self.psnr == 0, f"psnr={self.psnr}: strokes in tiles follow a plan; leave out {which}=")
            for name in ("canvas", "palette", "mask", "preview"):
                value = getattr(self, name)
                require(not value, f"{name}={value}: it is for strokes that lie anywhere; leave out {which}=")
        if self.canvas:
            read_colour(self.canvas)
        require(
            self.divide == 0 or self.smallest_tile == 0,
            f"smallest_tile={self.smallest_tile}: divide={self.divide} names the tiles already; leave one of them out",
        )
        require_threads(self.num_threads)

    @property
    def output_side(self) -> int:
        """Pixels of the longer side of painting.png; 0 for that at which it was painted."""
        return print_pixels(self.print) if self.print else self.output_size

    @property
    def tiled(self) -> bool:
        """Whether strokes are clipped to tiles."""
        return self.tiles or self.divide > 0 or self.smallest_tile > 0 or not self.refine

    @property
    def names(self) -> list[str]:
        """Of the files to write."""
        video = [] if self.video == "none" else [f"painting.{self.video}"]
        return ["painting.png", *video, "strokes.json", "strokes.svg"]


@command(PaintConfig)
def main(arguments: list[str]) -> int:
    """Paint one picture."""
    # A picture's name may hold what the key=value grammar has other uses for, so it goes another way.
    named = [argument for argument in arguments if not _is_option(argument)]
    require(len(named) <= 1, f"one picture at a time, not {len(named)}: {' '.join(named)}")
    options = [argument for argument in arguments if argument not in named]
    twice = [option for option in options if named and option.startswith("image=")]
    require(not twice, f"two pictures are named, {' '.join(named + twice)}; leave one out")
    config: PaintConfig = script_config(PaintConfig, [*options, *(["image='named'"] if named else [])])
    image = Path(named[0] if named else config.image)
    began = time.perf_counter()
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    torch.set_flush_denormal(True)
    picture = read_photo(image, config.long_side, enlarge=True)
    with claimed(Path("painted") / image.stem, "output") if not config.output else made(Path(config.output)) as folder:
        return paint_into(folder, picture, config, began)


def made(folder: Path) -> contextlib.AbstractContextManager[Path]:
    """Give the folder that output= names, made where it is missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"output={folder}: cannot be made ({error.strerror}); choose another folder") from None
    return contextlib.nullcontext(folder)


def paint_into(folder: Path, picture: Tensor, config: PaintConfig, began: float) -> int:
    """Paint the picture, write what it becomes, and print how good it is; `began` is when the command did."""
    for name in config.names:
        require_writable(folder / name)
    require_memory(picture, config)
    painting = paint(picture, config, began, folder)
    seconds = time.perf_counter() - began
    try:
        drawn = write(painting, folder, side=config.output_side, video=config.video, seconds=seconds)
        for name in {"painting.mp4", "painting.gif"}.difference(config.names):
            if (folder / name).is_file():  # of the painting that was here before
                (folder / name).unlink()
    except (OSError, av.FFmpegError) as error:
        raise UserError(f"output={folder}: cannot be written ({error}); choose another folder") from None
    mse = float((drawn - picture).square().mean())
    figures = {"psnr": round(decibels(mse), 3), "mse": mse, "strokes": len(painting)}
    print(f"{folder}: {', '.join(config.names)}")
    print(to_json({**figures, "seconds": round(seconds, 2)}))
    return 0


def _is_option(argument: str) -> bool:
    """Say whether an argument is key=value and no picture; UserError where it is neither."""
    key, equals, _ = argument.partition("=")
    known = PaintConfig.__dataclass_fields__
    if not equals or key in known or Path(argument).is_file() or not re.fullmatch(r"[\w.+~-]+", key):
        return bool(equals) and key in known
    raise UserError(f"unknown key '{key}'{near_matches(key, known)}")


def require_memory(picture: Tensor, config: PaintConfig) -> None:
    """Raise UserError where painting, or drawing painting.png, would not fit into memory, before anything is done."""
    free, longer = psutil.virtual_memory().available, max(picture.shape[1:])
    key = "print" if config.print else "output_size" if config.output_size else "long_side"
    needs = [(key, config.output_side or longer, drawing_bytes if config.tiled else free_drawing_bytes)]
    if not config.tiled:
        share = picture[0].numel() / longer**2
        needs.append(("long_side", longer, lambda side: painting_bytes(round(share * side * side))))
    for key, side, forecast in needs:
        fits = side
        while fits > 16 and forecast(fits) >= 0.8 * free:
            fits = int(0.95 * fits)
        require(
            forecast(side) < 0.9 * free,
            f"{key}={side}: so large a picture takes {forecast(side) / 1e9:.1f} GB and {free / 1e9:.1f} are free; use "
            f"{fits} or less",
        )


def paint(picture: Tensor, config: PaintConfig, began: float, folder: Path | None = None) -> Painting:
    """Return the painting of a picture (3, H, W), showing a progress bar."""
    painter, brush, limits = tools(picture, config)
    if config.tiled:
        painting = paint_tiles(picture, config, painter, brush, limits, began)
    else:
        painting = paint_anywhere(picture, config, painter, brush, limits, began, folder)
    say_how(painting, config)
    return painting


def say_how(painting: Painting, config: PaintConfig) -> None:
    """Note with a painting how it was made."""
    painting.about |= {"strokes": len(painting), "weights": config.weights or SHIPPED.name, "refined": config.refine}


def tools(picture: Tensor, config: PaintConfig) -> tuple[PolicyPainter, str, Limits]:
    """Return the painter, the brush and what strokes may be."""
    painter = load_painter(config.weights or SHIPPED)
    brush = config.brush or painter.brush
    palette = read_palette(config.palette, picture) if config.palette else None
    limits = Limits(config.smallest_stroke, config.largest_stroke, config.opaque, palette)
    if brush == "triangle":
        unused = config.smallest_stroke > 0.0 or config.largest_stroke < 1.0
        require(not unused, "smallest_stroke, largest_stroke: triangles have no radius; leave them out")
    return painter, brush, limits


def paint_anywhere(
    picture: Tensor,
    config: PaintConfig,
    painter: PolicyPainter,
    brush: str,
    limits: Limits,
    began: float,
    folder: Path | None,
) -> Painting:
    """Paint with strokes that may lie anywhere, showing a progress bar."""
    shown = time.perf_counter()
    with progress_bar("% done") as progress:
        task = progress.add_task("painting", total=100)

        def report(seen: Seen) -> None:
            nonlocal shown
            now = time.perf_counter()
            left = (now - began) * (1.0 - seen.share) / max(seen.share, 1e-3)
            said = f"painting, {seen.strokes} strokes, {decibels(seen.mse):.1f} dB, {left:.0f} s left,"
            progress.update(task, completed=int(100 * seen.share), description=said)
            if config.preview and folder is not None and now - shown >= 1.0:
                write_preview(seen.painting(), folder / PREVIEW)
                shown = time.perf_counter()

        painting = strokes_anywhere(picture, config, painter, brush, limits, report=report, began=began)
    if painting.about["steps"] < FEW_STEPS:
        print(
            f"only {painting.about['steps']} steps of refinement fitted in; more seconds= paint better", file=sys.stderr
        )
    return painting


def strokes_anywhere(
    picture: Tensor,
    config: PaintConfig,
    painter: PolicyPainter,
    brush: str,
    limits: Limits,
    *,
    report: Report,
    began: float,
    clock: Clock = time.perf_counter,
) -> FreeStrokes:
    """Paint with strokes that may lie anywhere; the studio does, too. See `paint_whole`."""
    few = round(WHOLE_STEPS * max(1.0, (5000 / config.strokes) ** 0.5))
    steps = config.refine_steps or (0 if config.seconds else min(MOST_STEPS, few))
    ground = read_colour(config.canvas) if config.canvas else BLACK
    whole = WholeConfig(strokes=config.strokes, steps=steps, seconds=config.seconds, psnr=config.psnr, ground=ground)
    importance = read_mask(config.mask, *picture.shape[1:]) if config.mask else None
    propose = random_shapes(torch.Generator().manual_seed(whole.seed))
    if config.guess:
        whole = replace(whole, canvas=painter.size)
        propose = guessed_and_random(policy(painter, None, limits), whole.seed)
    return paint_whole(
        picture, propose, whole, brush, limits, importance=importance, report=report, clock=clock, began=began
    )


def paint_tiles(
    picture: Tensor, config: PaintConfig, painter: PolicyPainter, brush: str, limits: Limits, began: float
) -> Painting:
    """Paint with strokes that are clipped to tiles."""
    height, width = picture.shape[1:]
    if config.divide:
        levels = divided_plan(height, width, config.strokes, config.divide)
    else:
        levels = plan_for(painter, height, width, config.strokes, config.smallest_tile)
    with progress_bar("strokes") as progress:
        task = progress.add_task("painting", total=None)

        def report(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        return paint_picture(
            picture,
            policy(painter, brush, limits),
            levels,
            size=painter.size,
            brush=brush,
            refinement=RefineConfig(steps=config.refine_steps or TILE_STEPS) if config.refine else None,
            limits=limits,
            report=report,
            deadline=began + config.seconds if config.seconds else None,
        )


if __name__ == "__main__":
    sys.exit(main())
