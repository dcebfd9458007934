"""The ground floor: replay, rollouts, the training loop, checkpoints, networks. Imports no environment and no agent.

Importing it, before torch, sets how long idle OpenMP threads spin before they sleep. By default they spin for
milliseconds, take the cores from the simulator, and on a machine that runs anything else slow updates forty-fold
(docs/decisions.md has the figures). Set GOMP_SPINCOUNT or OMP_WAIT_POLICY yourself to choose otherwise.
"""

import os

__version__ = "0.1.0"

# Matrix products then give the same bits for every number of threads (docs/decisions.md has the price).
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")

if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
