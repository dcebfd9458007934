"""Agents: one file each; a module with act, update and all of its state."""

import rlsuite  # noqa: F401  (before torch: it sets how OpenMP threads wait)
