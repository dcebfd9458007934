"""Which transitions are whose: bootstrap masks of members that learn from one replay, without a byte of memory.

Of bootstrapped members (Osband et al. 2016, arXiv:1602.04621; of actor-critic pairs in THU-JGeek's solution of
"Learning to Run", arXiv:1804.00361) each learns from a random share of all transitions, drawn once for each transition
and member and stored with it. Here the draw is a hash of the place in the replay and the member, so that nothing is
stored, and a minibatch is drawn among the member's own: it stays as large as it was, and critics, actors and embeddings
alike see no others, where a mask that were multiplied with the loss would leave holes. A place keeps its mask when its
transition is replaced by a newer one.

Shapes: B places.
"""

from __future__ import annotations

import torch
from torch import Tensor

_LOW = 0xFFFFFFFF  # 32 bits


def is_own(place: Tensor, member: Tensor, probability: float) -> Tensor:
    """Return whether transitions are the members', (B,) bool: each is with this probability, independently.

    Args:
        place: (B,) int64 flat places in the ring.
        member: (B,) int64, numbered from 0.
        probability: p of the Bernoulli masks.
    """
    return hashed(place, member) < int(probability * 2**32)


def hashed(place: Tensor, member: Tensor) -> Tensor:
    """Return 32 well mixed bits, int64, of each place and member: MurmurHash3's finalizer after two odd multipliers."""
    bits = (place * 0x9E3779B1 + (member + 1) * 0x85EBCA77) & _LOW
    bits = ((bits ^ (bits >> 16)) * 0x85EBCA6B) & _LOW
    bits = ((bits ^ (bits >> 13)) * 0xC2B2AE35) & _LOW
    return bits ^ (bits >> 16)


def members_of(size: int, num_members: int, device: torch.device) -> Tensor:
    """Return whose the rows of a sample are, (size,) int64: minibatches of equal size, one after the other."""
    return torch.arange(size, device=device) * num_members // size
