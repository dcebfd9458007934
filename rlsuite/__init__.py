"""The ground floor: replay, rollouts, the training loop, checkpoints, networks. Imports no environment and no agent.

Importing it, before torch, sets how idle OpenMP threads wait: sleeping instead of spinning. Spinning threads take
the cores from the simulator, and on a machine that runs anything else they slow updates forty-fold
(docs/decisions.md has the figures). Set OMP_WAIT_POLICY yourself to choose otherwise.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
