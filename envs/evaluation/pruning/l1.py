"""Pruning by small weights: channels whose weights' absolute sum is least go (Li et al. 2017, arXiv:1608.08710).

For linear layers (policies of plain layers, hidden units) as for convolutions. It looks at no data.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from envs.evaluation.pruning.criteria import weight_norms
from envs.evaluation.pruning.graph import Coupling, Group
from envs.evaluation.pruning.pruner import Pruner
from envs.evaluation.subject import Subject


class L1(Pruner):
    """The criterion of section 3 of the paper, for the layers of any network that can be followed."""

    def scores(self, subject: Subject, coupling: Coupling, groups: Mapping[str, Group]) -> Mapping[str, list[Tensor]]:
        """Return the weights' absolute sums."""
        return {name: [weight_norms(subject.module, group)] for name, group in groups.items()}
