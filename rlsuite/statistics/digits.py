"""Numbers for files and tables: rounded to significant digits, so that small ones do not become 0."""

from __future__ import annotations

import math

DIGITS = 9  # of a number in a file: more than a float32 has


def significant(value: float, digits: int = DIGITS) -> float:
    """Return the number rounded to so many significant digits; rounding again changes nothing."""
    return float(f"{float(value):.{digits}g}")


def bracketed(low: float | None, high: float | None, form: str) -> str:
    """Return " [low, high]" for a table, each in this form; "" where there is no interval: None or NaN."""
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return ""
    return f" [{low:{form}}, {high:{form}}]"


def shown(value: float, decimals: int = 1) -> str:
    """Return a number for a table: so many decimals, or four significant digits where that would hide it."""
    text = f"{value:.{decimals}f}"
    return text if abs(value) >= 10.0 ** (1 - decimals) or value == float(text) else f"{value:.4g}"
