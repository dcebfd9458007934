"""Agents: one file each; a module with act, update and all of its state. Importing any of them registers all names."""

import rlsuite  # noqa: F401  (before torch: it sets how OpenMP threads wait)
from agents import catalogue  # noqa: F401
