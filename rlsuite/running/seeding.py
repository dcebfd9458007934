"""One seed tree: every purpose draws from a stream of its own, all grown from the run's seed."""

from __future__ import annotations

import hashlib
import zlib

import numpy as np
import torch

# Two branches for the starts of evaluations: a run's learning curve, on which recipes are chosen, and the episodes that
# a finished agent is judged on. One branch for both would make the judge replay what was chosen on.
WATCHED_ON, JUDGED_ON = "evaluation", "judgement"


def derive_seed(seed: int, purpose: str) -> int:
    """Return a seed for one purpose, such as "agent" or "environment"; equal arguments give equal seeds."""
    return int(np.random.SeedSequence([seed, zlib.crc32(purpose.encode())]).generate_state(1)[0])


def restore_generator(generator: torch.Generator, state: torch.Tensor) -> None:
    """Continue a random stream from its saved state (uint8).

    CPU and CUDA generators have states of different kinds. Where the state is of the other kind (a run goes on, or is
    evaluated, on another device) the stream starts anew, seeded by the state: reproducible, but not the same numbers.
    """
    state = state.cpu()
    if state.numel() == generator.get_state().numel():
        generator.set_state(state)
    else:
        digest = hashlib.sha256(state.numpy().tobytes()).digest()
        generator.manual_seed(int.from_bytes(digest[:8], "little") >> 1)
