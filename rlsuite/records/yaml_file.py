"""YAML from a run directory: plain data only, of a size and depth that a config has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from rlsuite.errors import UserError
from rlsuite.records.files import read_text

LARGEST = 1 << 18  # bytes; a run's config has some thousands


class _PlainLoader(yaml.SafeLoader):
    """Reads what `yaml.safe_dump` writes of plain data, which has no aliases: nine lines of them name 10**9 entries."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.YAMLError(f"line {mark.line + 1} has an alias (*); write its value out")
        return super().compose_node(parent, index)


def read_yaml(path: Path) -> Any:
    """Return what a YAML file holds: dicts with str keys, lists, str, numbers, bool and None.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it cannot be read, or holds anything else.
    """
    try:
        found = yaml.load(read_text(path, LARGEST), _PlainLoader)
        _require_plain(found)
    except FileNotFoundError:
        raise
    except RecursionError:
        raise UserError(f"{path} cannot be read: it is nested too deeply") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise UserError(f"{path} cannot be read: {' '.join(str(error).split())[:200]}") from None
    return found


def _require_plain(value: Any) -> None:
    if isinstance(value, dict):
        for key, entry in value.items():
            if not isinstance(key, str):
                raise ValueError(f"its key {str(key)[:40]!r} is no word")
            _require_plain(entry)
    elif isinstance(value, list):
        for entry in value:
            _require_plain(entry)
    elif value is not None and not isinstance(value, str | bool | int | float):
        raise ValueError(f"it holds a {type(value).__name__}, {str(value)[:40]!r}; a config has words and numbers")
