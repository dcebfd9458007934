"""What stays the same within an episode, stored once an episode instead of at every step.

Each environment numbers its episodes; episode c's row lies at place c mod E of its own small ring. The store doubles
when a place is wanted again whose episode is still in the replay.

Shapes: N environments, E episodes kept of each, C constant columns, B batch.
"""

from __future__ import annotations

import torch
from torch import Tensor


class EpisodeConstants:
    """The constant columns of N environments' episodes.

    Args:
        num_envs: N.
        row: an example (N, C) fixing C and dtype.
        device: where everything lies.
    """

    def __init__(self, num_envs: int, row: Tensor, device: torch.device) -> None:
        self.rows = torch.zeros((2, num_envs, row.shape[1]), dtype=row.dtype, device=device)
        self.newest = torch.full((num_envs,), -1, dtype=torch.int32, device=device)  # each environment's episode

    def begin(self, began: Tensor, row: Tensor, oldest: Tensor | None) -> None:
        """Begin new episodes.

        Args:
            began: (N,) bool, where.
            row: (N, C), the constants; read where an episode began.
            oldest: (N,) the oldest episode of each environment that is still wanted; None where nothing is.
        """
        env = torch.nonzero(began).flatten()
        if len(env) == 0:
            return
        self.newest[env] += 1
        if oldest is not None:
            while int((self.newest - oldest).max()) >= len(self.rows):
                self._grow()
        self.rows[self.newest[env].long() % len(self.rows), env] = row[env].to(self.rows.device)

    def _grow(self) -> None:
        size = len(self.rows)
        grown = torch.zeros((2 * size, *self.rows.shape[1:]), dtype=self.rows.dtype, device=self.rows.device)
        env = torch.arange(self.rows.shape[1], device=self.rows.device)
        # Where an episode is just beginning, its own row is not there yet and the one before it is the newest.
        for age in range(size + 1):
            episode = (self.newest.long() - age).clamp_min(0)
            grown[episode % (2 * size), env] = self.rows[episode % size, env]
        self.rows = grown

    def at(self, episode: Tensor, env: Tensor) -> Tensor:
        """Return the constants (B, C) of episodes (B,) of environments (B,)."""
        return self.rows.flatten(0, 1).index_select(0, episode.long() % len(self.rows) * self.rows.shape[1] + env)
