"""What a narrow generator and its discriminator learn from a wide pair (Chen et al. 2020, arXiv:2003.03519).

G_T and D_T are the teachers, G_S and D_S the students, F_T and F_S what discriminators make of a picture before their
last layers. Means are over the batch; distances are mean absolute differences, an element, so that weights do not
depend on sizes. (The paper squares the l1 norm in places; its text and its name for it are those of the norm itself.)

Shapes: B batch, C channels, H and W sides of a picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rlsuite.generative.adversarial import LOSSES


def distances(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    """Return mean absolute differences (B,), summed over the layers (B, ...) that are compared."""
    apart = [(one - other).abs().flatten(1).mean(dim=1) for one, other in zip(first, second, strict=True)]
    return torch.stack(apart).sum(dim=0)


def pixel_loss(made: Tensor, taught: Tensor) -> Tensor:
    """Return L_L1, 0-d: how far the student's pictures (B, C, H, W) are from the teacher's."""
    return distances([made], [taught]).mean()


def perceptual_loss(made: Sequence[Tensor], taught: Sequence[Tensor]) -> Tensor:
    """Return L_perc, 0-d: how far F_T of the student's pictures is from F_T of the teacher's.

    Gradients go through D_T into the student; that D_T's own weights stay is up to the caller.
    """
    return distances(made, taught).mean()


def teacher_as_real_loss(kind: str, taught: Tensor) -> Tensor:
    """Return L_GT, 0-d: the student discriminator is to call the teacher's pictures real.

    Args:
        kind: of the adversarial loss, a key of LOSSES.
        taught: scores of the teacher's pictures.
    """
    return LOSSES[kind][0](taught).mean()


def triplet_loss(
    real: Sequence[Tensor], taught: Sequence[Tensor], made: Sequence[Tensor], margin: float
) -> tuple[Tensor, Tensor]:
    """Return L_tri: real pictures are to be nearer to the teacher's than to the student's, by a margin.

    Args:
        real: F_S of real pictures, the anchors.
        taught: F_S of the teacher's.
        made: F_S of the student's, which must not be moved by it.
        margin: alpha.

    Returns:
        The mean of [distance(real, taught) - distance(real, made) + alpha]_+, and the share of the batch where it is
        above zero: while that is 1, the discriminator has not yet told teacher and student apart.
    """
    each = (distances(real, taught) - distances(real, made) + margin).clamp_min(0.0)
    return each.mean(), (each.detach() > 0).float().mean()
