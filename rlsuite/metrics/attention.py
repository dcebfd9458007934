"""How alike the attention maps of a transformer's blocks are (DeepViT, arXiv:2103.11886, section 3).

Shapes: B batch, H heads, N tokens, L blocks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def attention_cosines(first: Tensor, second: Tensor) -> Tensor:
    """Return, for each head and token, the cosine (B, H, N) of two blocks' maps (B, H, N, N).

    It compares columns: how much each of the N outputs takes from one token (equation 4).
    """
    return functional.cosine_similarity(first, second, dim=-2)


def attention_similarity(maps: Sequence[Tensor], threshold: float = 0.9) -> tuple[Tensor, Tensor]:
    """Return how similar all pairs of blocks are: (L, L) each.

    Args:
        maps: (B, H, N, N) of each block. Say whether they are softmaxes or what re-attention made of them.
        threshold: of a cosine.

    Returns:
        the mean cosine, and the share of heads and tokens whose cosine is above the threshold.
    """
    count = len(maps)
    means, shares = maps[0].new_ones(count, count), maps[0].new_ones(count, count)
    for one in range(count):
        for other in range(one):
            cosines = attention_cosines(maps[one], maps[other])
            means[one, other] = means[other, one] = cosines.mean()
            shares[one, other] = shares[other, one] = (cosines > threshold).float().mean()
    return means, shares


def similar_blocks(shares: Tensor, bar: float = 0.9) -> Tensor:
    """Return how many blocks () are copies of the one before, of which they share (L - 1,) more than the bar.

    Args:
        shares: of neighbours, such as the second diagonal of what attention_similarity returns.
        bar: the paper's 0.9.
    """
    return (shares > bar).sum()


def head_cosine(maps: Sequence[Tensor], pairs: int) -> Tensor:
    """Return the mean cosine () of the first so many neighbours' maps, over heads: a penalty on blocks that are alike.

    A loss adds it times 0.1, with 12 pairs of 32 blocks (the official code; cosines along the heads as it has them).

    Args:
        maps: (B, H, N, N) of each block.
        pairs: the first block and the second are the first pair; at most L - 1.
    """
    if not 1 <= pairs < len(maps):
        raise ValueError(f"{len(maps)} blocks have 1 to {len(maps) - 1} pairs of neighbours, not {pairs}")
    cosines = [functional.cosine_similarity(maps[place], maps[place + 1], dim=1).mean() for place in range(pairs)]
    return torch.stack(cosines).mean()
