"""Sequence heads of STMC (arXiv:2002.03187): a bidirectional LSTM and a softmax over words and blank, taught by CTC.

Shapes: B videos, S steps, D numbers a step, V words; class 0 is CTC's blank, word v is class v + 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

BLANK = 0
_FIRST_BLANK = -2.0  # bias: where blank begins as likely as a word, CTC learns first to write nothing, and for long


class SequenceHead(nn.Module):
    """Steps to log-probabilities of classes.

    Args:
        size: D.
        hidden: of the LSTM, in each direction; 0 for none, a linear layer alone (the stage of frame classifiers).
        words: V.
    """

    def __init__(self, size: int, hidden: int, words: int) -> None:
        super().__init__()
        self.recurrent = nn.LSTM(size, hidden, batch_first=True, bidirectional=True) if hidden else None
        self.classify = nn.Linear(2 * hidden or size, words + 1)
        nn.init.constant_(self.classify.bias.detach()[:1], _FIRST_BLANK)

    def forward(self, steps: Tensor, lengths: Tensor) -> Tensor:
        """Return log-probabilities (B, S, V + 1) of steps (B, S, D); those after a video's length mean nothing."""
        if self.recurrent is not None:
            packed = pack_padded_sequence(steps, lengths.cpu().clamp_min(1), batch_first=True, enforce_sorted=False)
            steps, _ = pad_packed_sequence(self.recurrent(packed)[0], batch_first=True, total_length=steps.shape[1])
        return self.classify(steps).log_softmax(2)


def ctc(log_probs: Tensor, lengths: Tensor, words: Tensor, counts: Tensor) -> Tensor:
    """Return -ln p(words | video) (B,), 0 for a video too short for its words (Graves et al. 2006).

    Args:
        log_probs: (B, S, V + 1).
        lengths: (B,) int64 steps.
        words: (B, L) int64 classes from 1 on; what follows the last word is anything.
        counts: (B,) int64 words.
    """
    return functional.ctc_loss(
        log_probs.transpose(0, 1), words, lengths, counts, blank=BLANK, reduction="none", zero_infinity=True
    )


def feasible(lengths: Tensor, words: Tensor, counts: Tensor) -> Tensor:
    """Return (B,) whether CTC can write the words in so many steps: one a word, and one between equal neighbours."""
    place = torch.arange(words.shape[1] - 1, device=words.device) + 1
    repeats = ((words[:, 1:] == words[:, :-1]) & (place < counts.unsqueeze(1))).sum(1)
    return lengths >= counts + repeats
