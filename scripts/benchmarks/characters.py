"""Characters' speed: exact glyph strokes, teaching an extractor, and reading from picture to class.

what=characters measures all three at 32 pixels, four strokes. Strokes: batched, against the official loop of one circle
after another (arXiv:1806.08990, bezier.py) in OpenCV and in NumPy. Teaching: pictures a second of one update, ours
with the soft rasterizer, against the paper's loop written plainly: its decoder draws one stroke after another. Reading:
characters a second from bytes to class, together and one at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from agents.stroke_recognizer.extraction import Extraction, ExtractionConfig, extraction_loss
from agents.stroke_recognizer.extractor import Extractor, ExtractorConfig
from agents.stroke_recognizer.weights import Readers
from renderers.bezier import draw_exact
from renderers.neural import NeuralRenderer
from renderers.plain import draw_glyph_stroke
from renderers.strokes import GLYPH, GLYPH_SIZE
from rlsuite.errors import require_threads
from scripts.benchmarks.rounds import alternate, print_table, report

SIZE, STROKES, BATCH, TOGETHER = 32, 4, 64, 256


def measure_characters(threads: int, rounds: int, seconds: float) -> dict[str, Any]:
    """Print three tables; return medians and ratios."""
    require_threads(threads)
    if threads:
        torch.set_num_threads(threads)
    return measure_strokes(rounds) | measure_teaching(rounds, seconds) | measure_reading(rounds, seconds)


def measure_strokes(rounds: int) -> dict[str, Any]:
    """Measure exact strokes a second."""
    shapes = torch.rand(TOGETHER, 10, generator=torch.Generator().manual_seed(0))
    shapes[: TOGETHER // 2, 6:9] *= 0.3
    rows = shapes.double().numpy()

    def rate(work: Callable[[], Any]) -> Callable[[], float]:
        def measure() -> float:
            began = time.perf_counter()
            work()
            return TOGETHER / (time.perf_counter() - began)

        return measure

    contestants = {"ours": rate(lambda: draw_exact(shapes, SIZE, brush=GLYPH))}
    contestants["numpy"] = rate(lambda: [draw_glyph_stroke(row, SIZE) for row in rows])
    try:
        import cv2

        def fill(raster: Any, row: int, column: int, radius: int, value: float) -> None:
            cv2.circle(raster, (column, row), radius, value, -1)

        contestants["opencv"] = rate(lambda: [draw_glyph_stroke(row, SIZE, fill=fill) for row in rows])
    except ImportError:
        pass
    return _found("strokes", f"exact glyph strokes of {SIZE} pixels", "strokes/s", alternate(contestants, rounds))


def measure_teaching(rounds: int, seconds: float) -> dict[str, Any]:
    """Measure pictures a second while an extractor learns, from minibatches that are there already."""
    generator = torch.Generator().manual_seed(0)
    batch = {
        "input": torch.rand(BATCH, 3, SIZE, SIZE, generator=generator),
        "clean": (torch.rand(BATCH, 1, SIZE, SIZE, generator=generator) > 0.3).float(),
        "label": torch.randint(10, (BATCH,), generator=generator),
    }
    contestants = {"ours": ours(batch), "plain": plain(batch)}
    rates = alternate({name: _a_while(turn, BATCH, seconds) for name, turn in contestants.items()}, rounds)
    return _found("teaching", f"teaching an extractor, {BATCH} pictures of {SIZE} pixels", "pictures/s", rates)


def ours(batch: dict[str, Tensor]) -> Callable[[], None]:
    """Return one update as `fit` does it."""
    module = Extraction(ExtractionConfig(extractor=ExtractorConfig(size=SIZE, strokes=STROKES)), 0).train()
    module.harden(0, 1.0)
    optimizer = torch.optim.Adam(module.parameters(), 1e-3, fused=True)

    def turn() -> None:
        loss = extraction_loss(module, batch)["loss"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return turn


def plain(batch: dict[str, Tensor]) -> Callable[[], None]:
    """Return one update as the official train.py does it: the decoder draws one stroke after another."""
    extractor = Extractor(ExtractorConfig(size=SIZE, strokes=STROKES), 0).train()
    head = nn.Sequential(nn.Linear(GLYPH_SIZE * STROKES, 256), nn.ReLU(), nn.Linear(256, 10))
    decoder = NeuralRenderer(SIZE, brush=GLYPH, decoder="nearest").requires_grad_(False)
    optimizer = torch.optim.Adam([*extractor.parameters(), *head.parameters()], 3e-4)

    def turn() -> None:
        numbers = extractor(batch["input"])
        glyph = torch.ones(BATCH, SIZE, SIZE)
        for stroke in range(STROKES):
            own = numbers[:, GLYPH_SIZE * stroke : GLYPH_SIZE * (stroke + 1)]
            glyph = torch.minimum(glyph, 1.0 - decoder(own))
        loss = functional.mse_loss(glyph, batch["clean"].squeeze(1))
        loss = loss + 0.01 * functional.cross_entropy(head(numbers), batch["label"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return turn


def measure_reading(rounds: int, seconds: float) -> dict[str, Any]:
    """Measure characters read a second, from bytes to class."""
    readers = Readers({"size": SIZE, "strokes": STROKES, "network": "small", "names": "0123456789"})
    reader = readers.reader("redraw")
    pictures = torch.randint(0, 256, (TOGETHER, 3, SIZE, SIZE), dtype=torch.uint8)

    @torch.no_grad()
    def together() -> None:
        reader(pictures).argmax(1)

    @torch.no_grad()
    def alone() -> None:
        for picture in pictures[:16].split(1):
            reader(picture).argmax(1)

    contestants = {"ours": _a_while(together, TOGETHER, seconds), "alone": _a_while(alone, 16, seconds)}
    return _found("reading", f"reading characters of {SIZE} pixels", "characters/s", alternate(contestants, rounds))


def _a_while(turn: Callable[[], None], each: int, seconds: float) -> Callable[[], float]:
    def measure() -> float:
        began, turns = time.perf_counter(), 0
        while turns == 0 or time.perf_counter() - began < seconds:
            turn()
            turns += 1
        return turns * each / (time.perf_counter() - began)

    return measure


def _found(what: str, title: str, unit: str, rates: Any) -> dict[str, Any]:
    print_table(title, unit, rates)
    peers = {f"ratio_{what}_{name}": name for name in rates if name != "ours"}
    return {f"{what}_{key}" if key.startswith("median") else key: value for key, value in report(rates, peers).items()}
