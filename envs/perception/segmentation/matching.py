"""Detections get identities: the base tracker's rule with CompFeat's map beside it.

Shapes: B pictures, D detections, M slots of memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rlsuite.errors import require_finite


@dataclass(frozen=True, kw_only=True)
class MatchConfig:
    """Weights of the terms beside log p (MaskTrack R-CNN's configuration; the map's is our choice).

    Attributes:
        score: of the logarithm of a detection's score.
        overlap: of the overlap of boxes.
        label: for equal classes; a new object counts as one of an equal class, as it does in the base tracker.
        map: of the likeness that the correlation map shows; 0 leaves it out.
    """

    score: float = 1.0
    overlap: float = 2.0
    label: float = 10.0
    map: float = 2.0

    def __post_init__(self) -> None:
        for name in ("score", "overlap", "label", "map"):
            require_finite(name, getattr(self, name), low=0.0)


def match(
    logits: Tensor,
    scores: Tensor,
    overlap: Tensor,
    alike: Tensor,
    likeness: Tensor,
    present: Tensor,
    known: Tensor,
    config: MatchConfig,
) -> Tensor:
    """Return each detection's slot (B, D) int64: M for a new object, -1 for none.

    A detection without a slot is not there, or lost its slot to one that claimed it with more right: the base tracker
    drops such ones, too.

    Args:
        logits: (B, D, 1 + M), the first of a new object.
        scores: (B, D) in (0, 1].
        overlap: (B, D, M) of boxes.
        alike: (B, D, M) bool, equal classes.
        likeness: (B, D, M) of correlation maps.
        present: (B, D) bool, which detections there are.
        known: (B, M) bool, which slots are taken.
        config: the weights.
    """
    slots = known.shape[1]
    others = config.overlap * overlap + config.label * alike.to(overlap.dtype) + config.map * likeness
    values = logits.log_softmax(dim=2) + config.score * scores.clamp_min(1e-6).log().unsqueeze(2)
    values = values + torch.cat([torch.full_like(others[..., :1], config.label), others], dim=2)
    taken = torch.cat([torch.ones_like(known[:, :1]), known], dim=1)
    values = values.masked_fill(~taken.unsqueeze(1), -torch.inf)
    chosen = values.argmax(dim=2)
    # The strongest claim on each slot; among equal ones the first detection's.
    claims = torch.where(
        torch.nn.functional.one_hot(chosen, 1 + slots).bool() & present.unsqueeze(2), values, -torch.inf
    )
    winner = claims.argmax(dim=1).gather(1, chosen)  # (B, D): who wins the slot that each detection chose
    wins = winner == torch.arange(scores.shape[1], device=scores.device)
    slot = torch.where(chosen == 0, slots, chosen - 1)
    return torch.where(present & (wins | (chosen == 0)), slot, -1)
