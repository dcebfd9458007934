"""What an on-policy agent learns from: the last T steps of N environments, learned from once and forgotten.

Shapes: T steps, N environments, D observation, A action.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rlsuite.replay.buffer import Transition


class RolloutBuffer:
    """T slots that are filled, taken and filled again.

    Args:
        length: T.
        observation: an example (N, D) fixing N, sizes, dtype and device.
        action: an example (N, A).
    """

    def __init__(self, length: int, observation: Tensor, action: Tensor) -> None:
        def slots(example: Tensor) -> Tensor:
            return torch.zeros((length, *example.shape), dtype=example.dtype, device=observation.device)

        number = torch.zeros(len(observation))
        flag = number.bool()
        self.transitions = Transition(
            observation=slots(observation),
            action=slots(action),
            reward=slots(number),
            terminated=slots(flag),
            truncated=slots(flag),
            next_observation=slots(observation),
            failed=slots(flag),
        )
        self.length, self.count = length, 0

    def __len__(self) -> int:
        """Return how many transitions are held."""
        return self.count * self.transitions.reward.shape[1]

    @property
    def full(self) -> bool:
        """Whether all T slots are filled."""
        return self.count == self.length

    def add(self, transition: Transition) -> None:
        """Store one step of every environment; take() comes first where the buffer is full."""
        if self.full:
            raise ValueError("the rollout is full; take() it first")
        for slots, tensor in zip(self.transitions, transition, strict=True):
            slots[self.count] = tensor
        self.count += 1

    def take(self) -> Transition:
        """Return the T steps, every tensor (T, N, ...), and begin anew; they are views, valid until the next add."""
        if not self.full:
            raise ValueError(f"the rollout holds {self.count} of {self.length} steps")
        self.count = 0
        return self.transitions

    def fresh_observations(self) -> None:
        """Relabel nothing."""

    def mark_interrupted(self) -> None:
        """Turn the newest transitions into truncated ones: their episodes will not go on."""
        if self.count:
            newest = self.count - 1
            self.transitions.truncated[newest] |= ~self.transitions.terminated[newest]

    def state(self) -> dict[str, Tensor]:
        """Return what a bit-exact resume needs: the slots filled so far."""
        filled = {name: tensor[: self.count] for name, tensor in self.transitions._asdict().items()}
        return filled | {"count": torch.tensor(self.count)}

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Put back what state() returned.

        Raises:
            ValueError: if it was saved from a buffer of other sizes.
        """
        count = int(tensors["count"])
        for name, slots in self.transitions._asdict().items():
            if not 0 <= count < self.length or tensors[name].shape != slots[:count].shape:
                raise ValueError("the rollout was saved with another agent.rollout_length, num_envs or sizes")
            slots[:count].copy_(tensors[name])
        self.count = count
