"""Beam search: the best of K growing translations, their log-probabilities divided by a power of their length.

Shapes: B sentences, K hypotheses of each, V vocabulary, T pieces.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from envs.perception.language.transformer import Begun, Projected
from rlsuite.errors import require


class Steps(Protocol):
    """What translates piece by piece; `transformer.Transformer` and `fused.FusedTransformer` do."""

    def step(self, pieces: Tensor, place: int, past: list[Projected], begun: Begun) -> tuple[Tensor, list[Projected]]:
        """Return logits (B, K, V) and what to remember."""
        ...


@torch.no_grad()
def beam_search(
    network: Steps,
    begun: Begun,
    *,
    first: int,
    last: int,
    pad: int,
    longest: int,
    beam: int = 5,
    length_penalty: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Return the best translation of each sentence.

    Of the 2 K best continuations, those that end and are among the K best are candidates; the best K that do not end
    go on. A sentence is done once K candidates have been seen. What has not ended by then has to.

    Args:
        network: in evaluation mode.
        begun: of the sentences.
        first: the piece that translations begin with; it is not returned.
        last: the piece they end with.
        pad: what fills up shorter ones; it is never said, and neither is `first`.
        longest: T, pieces of a translation at most, the end counted.
        beam: K.
        length_penalty: the power; 0 compares log-probabilities as they are, more favors longer translations.

    Returns:
        Pieces (B, T) int64 with their ends, padded; and scores (B,).
    """
    require(beam >= 1, f"beam={beam}: use 1 or more")
    count, device = len(begun.mask), begun.mask.device
    said = torch.full((count, beam, longest), pad, device=device)
    score = torch.full((count, beam), -torch.inf, device=device)
    score[:, 0] = 0.0
    pieces = torch.full((count, beam), first, device=device)
    best, best_score = torch.full((count, longest), pad, device=device), torch.full((count,), -torch.inf, device=device)
    candidates = torch.zeros(count, dtype=torch.int64, device=device)
    offset = torch.arange(count, device=device).unsqueeze(1) * beam
    past: list[Projected] = []
    for place in range(longest):
        logits, past = network.step(pieces, place, past, begun)
        log_probs = logits.log_softmax(-1)
        log_probs[..., [pad, first]] = -torch.inf
        if place == longest - 1:
            log_probs[..., :last] = -torch.inf
            log_probs[..., last + 1 :] = -torch.inf
        vocabulary = log_probs.shape[-1]
        total = (score.unsqueeze(-1) + log_probs).flatten(1)
        top, index = total.topk(min(2 * beam, total.shape[1]), dim=1)
        parent, piece = index // vocabulary, index % vocabulary

        ends = (piece == last) & (torch.arange(top.shape[1], device=device) < beam) & top.isfinite()
        ends &= (candidates < beam).unsqueeze(1)
        candidates += ends.sum(1)
        ended = torch.where(ends, top / (place + 1) ** length_penalty, -torch.inf)
        found, which = ended.max(1)
        whole = said.gather(1, parent.gather(1, which[:, None])[..., None].expand(-1, -1, longest)).squeeze(1)
        whole[:, place] = last
        better = found > best_score
        best, best_score = torch.where(better[:, None], whole, best), torch.where(better, found, best_score)
        if bool((candidates >= beam).all()):
            break

        # The K best that do not end, in their order: those that end are sorted behind all others.
        order = (piece == last).to(torch.int8).argsort(dim=1, stable=True)[:, :beam]
        score, parent, pieces = top.gather(1, order), parent.gather(1, order), piece.gather(1, order)
        score = torch.where(pieces == last, -torch.inf, score)
        if order.shape[1] < beam:  # a vocabulary smaller than the beam
            missing = beam - order.shape[1]
            score = torch.nn.functional.pad(score, (0, missing), value=-torch.inf)
            parent = torch.nn.functional.pad(parent, (0, missing))
            pieces = torch.nn.functional.pad(pieces, (0, missing), value=last)
        said = said.gather(1, parent[..., None].expand(-1, -1, longest))
        said[..., place] = pieces
        rows = (parent + offset).flatten()
        past = [(keys[rows], values[rows]) for keys, values in past]
    return best, best_score
