"""What a part has found so far: rows by name in a file rewritten with each, so that a kill leaves the others."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlsuite.errors import UserError
from rlsuite.records.files import write_atomically

FILE = "rows.json"


class Rows:
    """The rows of one part.

    Args:
        folder: of the part; rows that an earlier process has left there stay.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.found = folder, read_rows(folder)

    def add(self, name: str, value: Any) -> None:
        """Keep a row, over an earlier one of its name."""
        self.found[name] = _finite(value)
        write_atomically(self.folder / FILE, json.dumps(self.found, allow_nan=False))

    def measure(self, name: str, measurement: Callable[[], Any]) -> None:
        """Keep what a measurement returns, once.

        A package that is missing, or bad input, is the row. So is any other failure, which is raised as well: a failed
        capture or kernel may leave CUDA unusable in this process, and the rows to come want a fresh one.
        """
        if name in self.found:
            return
        try:
            self.add(name, measurement())
        except ImportError as error:
            self.add(name, {"missing": one_line(error)})
        except UserError as error:
            self.add(name, {"refused": one_line(error)})
        except Exception as error:
            self.add(name, {"error": one_line(error)})
            raise


def read_rows(folder: Path) -> dict[str, Any]:
    """Return the rows kept in a folder."""
    path = folder / FILE
    return json.loads(path.read_text()) if path.exists() else {}


def one_line(error: BaseException) -> str:
    """Return an error's kind and words, at most 300 characters of them."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _finite(value: Any) -> Any:
    """Return plain data with figures that are not finite as text: JSON has none, and they are a finding."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
