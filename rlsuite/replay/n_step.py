"""n-step returns as an index function over the ring: nothing is stored twice.

Shapes: B batch, n steps.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rlsuite.replay.buffer import ReplayBuffer


def n_step_return(
    buffer: ReplayBuffer, index: Tensor, n_step: int, discount: float, *, timelimit_as_done: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Sum rewards from each place until n steps, an episode's end, or the newest slot, whichever comes first.

    Args:
        buffer: the ring.
        index: (B,) flat places.
        n_step: n, at least 1.
        discount: gamma for one step.
        timelimit_as_done: cut the bootstrap at truncations too.

    Returns:
        reward (B,): sum_k gamma^k r_k over the m <= n steps taken; discount (B,): gamma^m, or 0 where the last
        step terminated; last (B,): flat place of the last step, whose next observation is bootstrapped from.
    """
    envs, total = buffer.num_envs, buffer.num_slots * buffer.num_envs
    reward_ring, terminated_ring = buffer.reward.view(-1), buffer.terminated.view(-1)
    truncated_ring = buffer.truncated.view(-1)
    newest_slot = (buffer.cursor - 1) % buffer.num_slots

    reward, last = reward_ring[index], index
    factor = torch.full_like(reward, discount)
    for _ in range(n_step - 1):
        # A transition whose environment failed has no successor: the one before it is where the sum stops.
        going = ~(terminated_ring[last] | truncated_ring[last]) & (last // envs != newest_slot)
        following = torch.where(going, (last + envs) % total, last)
        if buffer.has_invalid:
            going &= ~buffer.invalid.view(-1)[following]
            following = torch.where(going, following, last)
        reward = reward + torch.where(going, factor * reward_ring[following], torch.zeros_like(reward))
        factor = torch.where(going, factor * discount, factor)
        last = following
    done = terminated_ring[last]
    if timelimit_as_done:
        done = done | truncated_ring[last]
    return reward, factor.masked_fill(done, 0.0), last
