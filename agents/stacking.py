"""Policies of several trained agents side by side in the parameters of one.

Shapes: every parameter leads with the number of pairs.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def stack_members(states: Iterable[dict[str, Tensor]], num_pairs: Iterable[int]) -> dict[str, Tensor]:
    """Stack the policies of several actor-critics into the state of one agent with all their pairs.

    Args:
        states: a state_dict for each agent.
        num_pairs: how many pairs each holds.

    Returns:
        Parameters joined along their leading axis; normalizer statistics and embeddings one set for each
        pair, so that every member sees observations as it was trained to.
    """
    joined: dict[str, list[Tensor]] = {}
    for state, pairs in zip(states, num_pairs, strict=True):
        for name, tensor in state.items():
            if name.startswith(("normalizer.", "embedding.")):
                tensor = tensor.expand(pairs, *tensor.shape[1:])
            if name.split(".")[0] in (
                "actors",
                "critics",
                "target_actors",
                "target_critics",
                "normalizer",
                "embedding",
                "temperature",
            ):
                joined.setdefault(name, []).append(tensor)
    return {name: torch.cat(tensors) for name, tensors in joined.items()}
