"""Minibatches of which half are the mirror images of the other half, for tasks with a left-right symmetry.

What a body may do with its left it may do with its right: each transition tells of two (reason8.ai's solution of
"Learning to Run", arXiv:1804.00361, doubles every minibatch so). Rows 2 i and 2 i + 1 are a transition and its image,
so that a minibatch for several members, one after the other, is halved for each of them.

Of a rollout, which agents learn from as a whole, the images are N further environments beside the N there are.

Shapes: B batch, T steps, N environments, D observation, A action.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rlsuite.replay.buffer import Batch, Transition
from rlsuite.symmetry import Mirror


class MirrorImages:
    """Adds mirror images to minibatches.

    Args:
        mirror: which columns change places.
        device: of the minibatches.
    """

    def __init__(self, mirror: Mirror, device: torch.device | str) -> None:
        self._observation = torch.tensor(mirror.observation, device=device)
        self._action = torch.tensor(mirror.action, device=device)

    def doubled(self, batch: Batch) -> Batch:
        """Return a minibatch of B transitions and their B images, each after its own; places and weights are shared."""
        same = {
            name: getattr(batch, name).repeat_interleave(2, dim=0) for name in ("reward", "discount", "weight", "index")
        }
        return Batch(
            observation=_with_image(batch.observation, self._observation),
            action=_with_image(batch.action, self._action),
            next_observation=_with_image(batch.next_observation, self._observation),
            **same,
        )

    def of_rows(self, observation: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Return observations (B, D) and actions (B, A) with their images, each after its own."""
        return _with_image(observation, self._observation), _with_image(action, self._action)

    def beside(self, rollout: Transition) -> Transition:
        """Return a rollout (T, N, ...) with its mirror image beside it, (T, 2 N, ...)."""

        def both(tensor: Tensor, places: Tensor | None = None) -> Tensor:
            return torch.cat([tensor, tensor if places is None else tensor.index_select(2, places)], dim=1)

        places = {"observation": self._observation, "action": self._action, "next_observation": self._observation}
        return Transition(**{name: both(tensor, places.get(name)) for name, tensor in rollout._asdict().items()})


def _with_image(rows: Tensor, places: Tensor) -> Tensor:
    """Return rows (B, D) and their images, each after its own: (2 B, D)."""
    return torch.stack([rows, rows.index_select(1, places)], dim=1).flatten(0, 1)
