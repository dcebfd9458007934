"""A curve in one line of text."""

from __future__ import annotations

import math
from collections.abc import Sequence

BARS, PLAIN = "▁▂▃▄▅▆▇█", "_.-:=+*#"  # the second where the terminal's encoding has none of the first


def sparkline(values: Sequence[float], width: int, bars: str = BARS) -> str:
    """Return a curve as `width` bars at most, from its lowest to its highest value.

    More values than bars are averaged, neighbours with neighbours; values that are not finite are left out.
    """
    finite = [value for value in values if math.isfinite(value)]
    if not finite or width < 1:
        return ""
    number = min(width, len(finite))
    edges = [len(finite) * place // number for place in range(number + 1)]
    means = [sum(finite[low:high]) / (high - low) for low, high in zip(edges, edges[1:], strict=False)]
    low, high = min(means), max(means)
    if not high - low > 0 or not math.isfinite(high - low):
        return bars[0] * number
    return "".join(bars[round((mean - low) / (high - low) * (len(bars) - 1))] for mean in means)
