"""Which transitions of a ring belong to which episode: whole ones only, at wrap-around, truncation and failure.

A transition of an episode that has not ended yet, or that a failed simulation cut short, belongs to none and is not
learned from. Time is counted in ticks: the k-th slot ever written has tick k, and lies at slot k mod T.

Shapes: T slots, N environments, E transitions of whole episodes, n places.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rlsuite.replay.buffer import ReplayBuffer, Transition

_OPEN = -1


class Episodes:
    """First and last tick of the episode of every place in a ring.

    Args:
        buffer: the ring. Call `added` after each of its `add`.
    """

    def __init__(self, buffer: ReplayBuffer) -> None:
        self.buffer = buffer
        shape, device = (buffer.num_slots, buffer.num_envs), buffer.device
        self.first = torch.full(shape, _OPEN, dtype=torch.int64, device=device)
        self.last = torch.full(shape, _OPEN, dtype=torch.int64, device=device)
        self.began = torch.zeros(buffer.num_envs, dtype=torch.int64, device=device)  # tick of each running episode
        self.ticks = 0  # slots ever written
        self._whole: Tensor | None = None

    @property
    def oldest(self) -> int:
        """Tick of the oldest stored slot."""
        return self.ticks - self.buffer.count

    def added(self, transition: Transition) -> Tensor:
        """Take note of the slot just written.

        Returns:
            (n,) flat places of the transitions whose episodes this step completed.
        """
        tick, slots = self.ticks, self.buffer.num_slots
        self.ticks += 1
        self.last[tick % slots] = _OPEN
        # The slot after it holds only the newest next observation; what was there is gone.
        self.last[self.ticks % slots] = _OPEN
        ended = (transition.terminated | transition.truncated).to(self.buffer.device)
        failed = transition.failed.to(self.buffer.device)
        completed = self._complete((ended & ~failed).nonzero().squeeze(-1), tick)
        self.began[ended] = self.ticks
        self._whole = None
        return completed

    def _complete(self, envs: Tensor, tick: int) -> Tensor:
        """Write first and last tick of the episodes of environments (m,) that end with `tick`."""
        first = self.began[envs].clamp_min(self.oldest)  # what a ring shorter than the episode has lost is lost
        lengths = tick + 1 - first
        env = envs.repeat_interleave(lengths)
        ends = lengths.cumsum(0)
        offset = torch.arange(len(env), device=env.device) - (ends - lengths).repeat_interleave(lengths)
        ticks = first.repeat_interleave(lengths) + offset
        places = ticks % self.buffer.num_slots * self.buffer.num_envs + env
        self.first.view(-1)[places] = first.repeat_interleave(lengths)
        self.last.view(-1)[places] = tick
        return places

    def interrupt(self) -> None:
        """End all running episodes at the newest slot: they will not go on."""
        if self.ticks:
            self._complete((self.began < self.ticks).nonzero().squeeze(-1), self.ticks - 1)
            self.began.fill_(self.ticks)
            self._whole = None

    def whole(self) -> Tensor:
        """Return the flat places (E,) of all transitions of whole episodes."""
        if self._whole is None:
            self._whole = (self.last.view(-1) >= 0).nonzero().squeeze(-1)
        return self._whole

    def place(self, tick: Tensor, index: Tensor) -> Tensor:
        """Return the flat places (n,) at ticks (n,) in the environments of the places `index` (n,)."""
        envs = self.buffer.num_envs
        return tick % self.buffer.num_slots * envs + index % envs

    def tick_of(self, index: Tensor) -> Tensor:
        """Return the ticks (n,) of stored flat places (n,)."""
        slot = index // self.buffer.num_envs
        # The newest tick that lies at this slot.
        return self.ticks - 1 - (self.ticks - 1 - slot) % self.buffer.num_slots

    def bounds(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return the first and last tick (n,) still stored of the episodes of places (n,)."""
        return self.first.view(-1)[index].clamp_min(self.oldest), self.last.view(-1)[index]

    def state(self) -> dict[str, Tensor]:
        """Return what a bit-exact resume needs."""
        used = self.buffer.count + 1
        return {
            "episode_first": self.first[:used],
            "episode_last": self.last[:used],
            "episode_began": self.began,
            "episode_ticks": torch.tensor(self.ticks),
        }

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Put back what state() returned; the ring's own state comes first."""
        used = self.buffer.count + 1
        self.first[:used].copy_(tensors["episode_first"])
        self.last[:used].copy_(tensors["episode_last"])
        self.began.copy_(tensors["episode_began"])
        self.ticks = int(tensors["episode_ticks"])
        self._whole = None
