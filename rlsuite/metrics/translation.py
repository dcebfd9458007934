"""How good translations are: exact matches, and BLEU (Papineni et al. 2002) over a whole test set.

Shapes: S sentences.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

ORDER = 4


def exact_matches(translated: Sequence[str], references: Sequence[str]) -> Tensor:
    """Return bool (S,): which translations are the reference, word for word.

    Raises:
        ValueError: if there are not as many of both.
    """
    pairs = zip(translated, references, strict=True)
    return torch.tensor([one.split() == other.split() for one, other in pairs], dtype=torch.bool)


def bleu(translated: Sequence[str], references: Sequence[str], *, lower: bool = True) -> float:
    """Return corpus BLEU in [0, 100], one reference each, n-grams of 1 to 4 words cut at spaces, unsmoothed.

    It is sacrebleu's with tokenize="none" and smooth_method="none"; `lower` compares without regard to case, as papers
    report for IWSLT'14.

    Raises:
        ValueError: if there are not as many of both.
    """
    matched, counted = [0] * ORDER, [0] * ORDER
    length = reference_length = 0
    for one, other in zip(translated, references, strict=True):
        said, true = (text.lower().split() if lower else text.split() for text in (one, other))
        length, reference_length = length + len(said), reference_length + len(true)
        for order in range(1, ORDER + 1):
            found, wanted = ngrams(said, order), ngrams(true, order)
            matched[order - 1] += sum((found & wanted).values())
            counted[order - 1] += sum(found.values())
    if min(matched) == 0:
        return 0.0
    precision = sum(math.log(hit / count) for hit, count in zip(matched, counted, strict=True)) / ORDER
    brevity = min(0.0, 1.0 - reference_length / length)
    return 100.0 * math.exp(brevity + precision)


def ngrams(words: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    """Return how often each sequence of `order` words occurs."""
    return Counter(tuple(words[start : start + order]) for start in range(len(words) - order + 1))
