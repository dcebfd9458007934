"""MNIST read through strokes: the bars that `python scripts/reproduce.py paper=scr data=mnist` is held against.

The plain reader has to fail under oblivious FGSM and CW-2 while the redrawn digit is read, and few digits may be lost
where nothing is wrong with them; under CW-2 a median filter is to do no better. Used by the scr experiment
(scripts/experiments/scr.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agents.stroke_recognizer.teaching import NOISES
from rlsuite.errors import require_finite
from rlsuite.experiment import Claim


@dataclass(frozen=True, kw_only=True)
class MnistBars:
    """Bars on accuracies, of means over seeds.

    Attributes:
        clean: of clean digits after redrawing, at least.
        attacked: after redrawing under oblivious FGSM, and under CW-2, at least.
        fgsm_plain: of the plain reader under that FGSM, at most: else the attack shows nothing.
        cw2_plain: of the plain reader under that CW-2, at most.
        cw2_over_median: after redrawing under that CW-2 minus behind a median filter, at least.
    """

    clean: float = 0.97
    attacked: float = 0.85
    fgsm_plain: float = 0.60
    cw2_plain: float = 0.05
    cw2_over_median: float = 0.0

    def __post_init__(self) -> None:
        require_finite("mnist.cw2_over_median", self.cw2_over_median)
        for name in ("clean", "attacked", "fgsm_plain", "cw2_plain"):
            require_finite(f"mnist.{name}", getattr(self, name), low=0.0)


def mnist_claims(reading: list[dict[str, Any]], bars: MnistBars) -> tuple[Claim, ...]:
    """Return the claims for what was read of MNIST, by seed (see scr_reading.measure)."""

    def of(kind: str, name: str, way: str) -> tuple[float, ...]:
        return tuple(one[kind][name][way] for one in reading)

    found = [Claim(statement="clean: redrawn", margin=bars.clean, figures=of("noise", NOISES[0], "redraw"))]
    for attack, most in (("fgsm", bars.fgsm_plain), ("cw2", bars.cw2_plain)):
        found += [
            Claim(
                statement=f"oblivious {attack}: redrawn",
                margin=bars.attacked,
                figures=of("oblivious", attack, "redraw"),
            ),
            Claim(
                statement=f"oblivious {attack}: raw",
                margin=most,
                figures=of("oblivious", attack, "raw"),
                at_least=False,
            ),
        ]
    lead = tuple(
        redrawn - filtered
        for redrawn, filtered in zip(of("oblivious", "cw2", "redraw"), of("oblivious", "cw2", "median"), strict=True)
    )
    found.append(
        Claim(statement="oblivious cw2: redrawn minus median-filtered", margin=bars.cw2_over_median, figures=lead)
    )
    return tuple(found)
