"""Figures as JSON that every reader takes: what JSON has no number for, NaN and infinities, is null."""

from __future__ import annotations

import json
import math
from typing import Any


def to_json(found: Any, *, indent: int | None = None) -> str:
    """Return plain data as JSON, null in place of each number that is not finite."""
    return json.dumps(_finite(found), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
