"""Agents: one file each; a module with act, update and all of its state. Importing any of them registers all names.

From Python: ``from agents import train, resume, load`` (agents/api.py).
"""

from typing import TYPE_CHECKING, Any

import rlsuite  # noqa: F401  (before torch: it sets how OpenMP threads wait)
from agents import catalogue  # noqa: F401

if TYPE_CHECKING:
    from agents.api import Trained, load, resume, train

__all__ = ["Trained", "load", "resume", "train"]


def __getattr__(name: str) -> Any:
    """Import the interface when it is asked for: registering names must stay quick."""
    if name in __all__:
        from agents import api

        return getattr(api, name)
    raise AttributeError(f"module 'agents' has no attribute '{name}'")
