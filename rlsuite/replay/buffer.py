"""The replay ring: transitions of N environments over T time slots, preallocated on one device.

Each observation is stored once: slot t + 1 holds the next observation of slot t, except where an episode
ended; there the true last observation lies in a small store of its own. Samplers are index functions: they
turn (slot, environment) pairs into batches.

Shapes: T slots, N environments, B batch, D observation, A action, F stored final observations, C of the observation's
columns, its last, constant within an episode (kept once an episode, see constants.py).
"""

from __future__ import annotations

from typing import NamedTuple

import psutil
import torch
from torch import Tensor

from rlsuite.errors import UserError
from rlsuite.replay.config import ReplayConfig
from rlsuite.replay.constants import EpisodeConstants


class Transition(NamedTuple):
    """One step of every environment, all tensors leading with N."""

    observation: Tensor
    action: Tensor
    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    next_observation: Tensor
    failed: Tensor


class Batch(NamedTuple):
    """A minibatch, all tensors leading with B.

    reward is the discounted sum over the n steps; discount multiplies the bootstrapped value (gamma^n, 0 where
    the episode terminated); weight is the importance weight; index the flat places in the ring, for priorities.
    """

    observation: Tensor
    action: Tensor
    reward: Tensor
    discount: Tensor
    next_observation: Tensor
    weight: Tensor
    index: Tensor


def forecast_bytes(
    capacity: int,
    num_envs: int,
    observation: Tensor,
    action: Tensor,
    *,
    prioritized: bool = False,
    hindsight: bool = False,
    constant_columns: int = 0,
) -> int:
    """Return the bytes a ring of `capacity` transitions allocates for rows like observation (N, D), action (N, A).

    The stores of final observations and of what is constant within an episode are not counted: they grow with the
    share of transitions that end one.
    """
    slots = num_slots(capacity, num_envs)
    row = (observation[0].numel() - constant_columns) * observation.element_size() + action[
        0
    ].numel() * action.element_size()
    row += 4 + 3 + 4  # reward, three flags, place of the final observation
    if prioritized:
        row += 4 + 16  # the priority, and its float64 copy and cumulative sum while sampling
    if hindsight:
        row += 16 + 8  # the episode's first and last tick, and its place in the list of whole episodes
    return slots * num_envs * row


def num_slots(capacity: int, num_envs: int) -> int:
    """Return T: slots for `capacity` transitions, and the one that holds only the newest next observation."""
    return -(-capacity // num_envs) + 1


def free_bytes(device: torch.device) -> int:
    """Return the memory left on `device`."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available


def choose_device(config: ReplayConfig, needed: int, agent_device: torch.device) -> torch.device:
    """Choose where the ring lies, and refuse before anything is allocated if it cannot fit.

    Raises:
        UserError: naming the bytes needed and free.
    """
    device = agent_device if config.device == "auto" else torch.device(config.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError("replay.device=cuda: torch sees no CUDA device; use replay.device=auto or cpu")
    if config.device == "auto" and device.type == "cuda" and 2.5 * needed > free_bytes(device):
        device = torch.device("cpu")
    free = free_bytes(device)
    if needed > free:
        raise UserError(
            f"replay.capacity={config.capacity} needs {needed} bytes ({needed / 2**30:.1f} GiB) on {device} and "
            f"{free} are free; use replay.capacity={int(config.capacity * 0.8 * free / needed)} or less"
        )
    return device


class ReplayBuffer:
    """A ring of transitions.

    Args:
        capacity: transitions kept over all environments (rounded up to whole slots).
        observation: an example (N, D) fixing N, shape and dtype.
        action: an example (N, A).
        device: where everything lies.
        constant_columns: C.
    """

    def __init__(
        self,
        capacity: int,
        observation: Tensor,
        action: Tensor,
        *,
        device: torch.device | str,
        constant_columns: int = 0,
    ) -> None:
        self.num_envs = observation.shape[0]
        self.num_slots = num_slots(capacity, self.num_envs)
        self.device = torch.device(device)
        slots, envs = self.num_slots, self.num_envs

        def ring(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros((slots, envs, *shape), dtype=dtype, device=self.device)

        self.varying = observation.shape[1] - constant_columns  # columns kept at every step
        self.constants: EpisodeConstants | None = None
        if constant_columns:
            self.constants = EpisodeConstants(envs, observation[:, self.varying :], self.device)
            observation = observation[:, : self.varying]
            self.episode = ring(dtype=torch.int32)  # of each slot's observation, as the constants number them
        self.observation = ring(*observation.shape[1:], dtype=observation.dtype)
        self.action = ring(*action.shape[1:], dtype=action.dtype)
        self.reward = ring()
        self.terminated = ring(dtype=torch.bool)
        self.truncated = ring(dtype=torch.bool)
        self.invalid = ring(dtype=torch.bool)
        # Place in final_observation where an episode ended, else -1.
        self.final_place = ring(dtype=torch.int32).fill_(-1)
        self.final_observation = torch.zeros(
            (max(64, envs), *observation.shape[1:]), dtype=observation.dtype, device=self.device
        )
        self.finals_written = 0  # ever; place = number % F
        self.finals_expired = 0  # ever overwritten in the ring
        self.has_invalid = False
        self.cursor = 0  # slot the next transition goes to
        self.count = 0  # slots filled

    def __len__(self) -> int:
        """Return the number of transitions that can be sampled."""
        return self.count * self.num_envs

    def add(self, transition: Transition) -> None:
        """Store one step of every environment."""
        transition = Transition(*(tensor.to(self.device) for tensor in transition))
        slot, following = self.cursor, (self.cursor + 1) % self.num_slots
        if self.constants is not None:
            transition = self._without_constants(transition, self.constants)
        if self.count == self.num_slots - 1:
            # The following slot's observation is about to be overwritten, so its transition is gone.
            self._expire(following)
        self.observation[slot] = transition.observation
        self.action[slot] = transition.action
        self.reward[slot] = transition.reward
        self.terminated[slot] = transition.terminated
        self.truncated[slot] = transition.truncated
        self.invalid[slot] = transition.failed
        self.observation[following] = transition.next_observation
        self._store_finals(slot, transition)
        if bool(transition.failed.any()):
            self.has_invalid = True
        self.cursor = following
        self.count = min(self.count + 1, self.num_slots - 1)

    def _without_constants(self, transition: Transition, constants: EpisodeConstants) -> Transition:
        """Store the constants of episodes that begin with this transition; return it without them."""
        slot = self.cursor
        before = (slot - 1) % self.num_slots
        began = self.terminated[before] | self.truncated[before] if self.count else torch.ones_like(self.invalid[0])
        oldest = self.episode[(slot - self.count) % self.num_slots] if self.count else None
        constants.begin(began, transition.observation[:, self.varying :], oldest)
        self.episode[slot] = constants.newest
        return transition._replace(
            observation=transition.observation[:, : self.varying],
            next_observation=transition.next_observation[:, : self.varying],
        )

    def _expire(self, slot: int) -> None:
        """Free the final observations that belong to `slot`."""
        places = self.final_place[slot]
        self.finals_expired += int((places >= 0).sum())
        places.fill_(-1)

    def _store_finals(self, slot: int, transition: Transition) -> None:
        ended = (transition.terminated | transition.truncated).nonzero().squeeze(-1)
        if ended.numel() == 0:
            return
        while self.finals_written + ended.numel() - self.finals_expired > self.final_observation.shape[0]:
            self._grow_finals()
        place = (self.finals_written + torch.arange(ended.numel(), device=self.device)) % len(self.final_observation)
        self.final_observation[place] = transition.next_observation[ended]
        self.final_place[slot, ended] = place.to(torch.int32)
        self.finals_written += ended.numel()

    def _grow_finals(self) -> None:
        """Double the store of final observations; the live ones keep their order and get new places."""
        size = len(self.final_observation)
        live = self.finals_written - self.finals_expired
        order = (self.finals_expired + torch.arange(live, device=self.device)) % size
        grown = self.final_observation.new_zeros((2 * size, *self.final_observation.shape[1:]))
        grown[:live] = self.final_observation[order]
        new_place = torch.full((size,), -1, dtype=torch.int32, device=self.device)
        new_place[order] = torch.arange(live, dtype=torch.int32, device=self.device)
        held = self.final_place >= 0
        self.final_place[held] = new_place[self.final_place[held].long()]
        self.final_observation, self.finals_written, self.finals_expired = grown, live, 0

    def flat_index(self, age: Tensor, env: Tensor) -> Tensor:
        """Return flat places of transitions by age (0 = oldest stored slot) and environment."""
        slot = (self.cursor - self.count + age) % self.num_slots
        return slot * self.num_envs + env

    def observation_at(self, index: Tensor) -> Tensor:
        """Return the observations (B, D) of the transitions at flat places (B,)."""
        return self._with_constants(self.observation.flatten(0, 1).index_select(0, index), index)

    def next_observation_at(self, index: Tensor) -> Tensor:
        """Return the true next observations (B, D) of the transitions at flat places (B,)."""
        return self._with_constants(self._varying_next(index), index)

    def _with_constants(self, varying: Tensor, index: Tensor) -> Tensor:
        if self.constants is None:
            return varying
        return torch.cat([varying, self.constants.at(self.episode.view(-1)[index], index % self.num_envs)], dim=1)

    def _varying_next(self, index: Tensor) -> Tensor:
        envs = self.num_envs
        following = (index + envs) % (self.num_slots * envs)
        stored = self.observation.flatten(0, 1).index_select(0, following)
        place = self.final_place.view(-1)[index]
        if stored.is_cuda:  # no host sync: gather for all rows, keep where an episode ended
            ended = (place >= 0).view(-1, *[1] * (stored.dim() - 1))
            return torch.where(ended, self.final_observation.index_select(0, place.clamp_min(0)), stored)
        ended = (place >= 0).nonzero().squeeze(-1)  # few rows: cheaper than gathering for all
        stored[ended] = self.final_observation[place[ended].long()]
        return stored

    def mark_interrupted(self) -> None:
        """Turn the newest transitions into truncated ones: their episodes will not go on.

        For environments whose state cannot be restored: a resumed run starts new episodes there.
        """
        if self.count == 0:
            return
        slot = (self.cursor - 1) % self.num_slots
        open_ended = ~(self.terminated[slot] | self.truncated[slot])
        shape = Transition(
            observation=self.observation[slot],
            action=self.action[slot],
            reward=self.reward[slot],
            terminated=torch.zeros_like(open_ended),
            truncated=open_ended,
            next_observation=self.observation[self.cursor].clone(),
            failed=self.invalid[slot],
        )
        self._store_finals(slot, shape)
        self.truncated[slot] |= open_ended

    def state(self) -> dict[str, Tensor]:
        """Return what a bit-exact resume needs: views of the slots in use, so that saving copies no ring."""
        used = self.count + 1  # until the ring is full it is filled from slot 0; full, all of it is in use
        tensors = {name: getattr(self, name)[:used] for name in _RINGS}
        tensors["final_observation"] = self.final_observation
        if self.constants is not None:
            tensors |= {
                "episode": self.episode[:used],
                "constants": self.constants.rows,
                "newest": self.constants.newest,
            }
        tensors["numbers"] = torch.tensor(
            [self.cursor, self.count, self.finals_written, self.finals_expired, int(self.has_invalid), self.num_slots]
        )
        return tensors

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Put back what state() returned.

        Raises:
            ValueError: if it was saved from a ring of another size.
        """
        if tensors["numbers"].shape != (6,):
            raise ValueError("the replay's numbers are not six")
        slots, count = int(tensors["numbers"][5]), int(tensors["numbers"][1])
        for name in _RINGS:
            wanted = (count + 1, *getattr(self, name).shape[2:])
            found = tensors[name].shape
            if slots != self.num_slots or (found[0], *found[2:]) != wanted or found[1] != self.num_envs:
                raise ValueError("the replay was saved with another replay.capacity, num_envs or sizes")
        places, held = tensors["final_place"], len(tensors["final_observation"])
        if int(places.min()) < -1 or int(places.max()) >= held:
            raise ValueError("the replay names a final observation that it does not hold")
        cursor, _, written, expired, *_ = tensors["numbers"].tolist()
        if not (0 <= cursor < slots and 0 <= count < slots and 0 <= expired <= written):
            raise ValueError("the replay's numbers are out of range")
        self.cursor, self.count, self.finals_written, self.finals_expired, has_invalid, _ = tensors["numbers"].tolist()
        self.has_invalid = bool(has_invalid)
        for name in _RINGS:
            getattr(self, name)[: self.count + 1].copy_(tensors[name])
        self.final_observation = tensors["final_observation"].to(self.device).clone()
        if self.constants is not None:
            self.episode[: self.count + 1].copy_(tensors["episode"])
            self.constants.rows = tensors["constants"].to(self.device).clone()
            self.constants.newest.copy_(tensors["newest"])


_RINGS = ("observation", "action", "reward", "terminated", "truncated", "invalid", "final_place")
