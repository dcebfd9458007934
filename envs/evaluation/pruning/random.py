"""Pruning by lot: what any criterion has to beat at the same shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from envs.evaluation.pruning.criteria import draws
from envs.evaluation.pruning.graph import Coupling, Group
from envs.evaluation.pruning.pruner import Pruner, PruningConfig
from envs.evaluation.subject import Subject
from rlsuite.errors import require
from rlsuite.running.seeding import derive_seed


@dataclass(frozen=True, kw_only=True)
class RandomConfig(PruningConfig):
    """Random pruning's numbers, beside those of all methods of pruning.

    Attributes:
        seed: of the lots.
    """

    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.seed >= 0, f"seed={self.seed}: use 0 or more")


class Random(Pruner):
    """Channels drawn uniformly; a layer's lots do not depend on the other layers."""

    Config = RandomConfig

    def scores(self, subject: Subject, coupling: Coupling, groups: Mapping[str, Group]) -> Mapping[str, list[Tensor]]:
        """Return lots."""
        seed = self.config.seed
        return {
            name: [draws(group, torch.Generator().manual_seed(derive_seed(seed, name)))]
            for name, group in groups.items()
        }
