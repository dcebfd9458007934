"""From CTC's probabilities to words: greedily, by prefix beam search, and the best alignment of words that are known.

Plain Python over the steps of one video: decoding is done once a video and costs little beside reading its frames.

Shapes: S steps, V words; class 0 is CTC's blank.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from envs.perception.gestures.heads import BLANK
from rlsuite.errors import require

_NEVER = -math.inf


def greedy(log_probs: Tensor) -> list[int]:
    """Return the classes of the likeliest path (S, V + 1), repeats merged and blanks left out."""
    path = [BLANK, *log_probs.argmax(1).tolist()]
    return [now for before, now in pairwise(path) if now not in (before, BLANK)]


def prefix_beam_search(log_probs: Tensor, width: int = 20) -> list[int]:
    """Return the likeliest sequence of classes, all paths that spell it counted (Hannun et al. 2014, without a model).

    Args:
        log_probs: (S, V + 1).
        width: prefixes kept after each step; one wide enough for all of them makes the search exact.
    """
    require(width >= 1, f"beam={width}: use 1 or more")
    beam: dict[tuple[int, ...], tuple[float, float]] = {(): (0.0, _NEVER)}  # ln p ending in a blank, and in a word
    for step in log_probs.double().tolist():
        after: dict[tuple[int, ...], list[float]] = defaultdict(lambda: [_NEVER, _NEVER])
        for prefix, (blank, word) in beam.items():
            whole = _add(blank, word)
            stay = after[prefix]
            stay[0] = _add(stay[0], whole + step[BLANK])
            if prefix:
                stay[1] = _add(stay[1], word + step[prefix[-1]])
            for label in range(1, len(step)):
                longer = after[(*prefix, label)]
                # A word after itself is a new one only where a blank stands between.
                before = blank if prefix and prefix[-1] == label else whole
                longer[1] = _add(longer[1], before + step[label])
        best = sorted(after.items(), key=lambda item: _add(*item[1]), reverse=True)[:width]
        beam = {prefix: (blank, word) for prefix, (blank, word) in best}
    return list(max(beam.items(), key=lambda item: _add(*item[1]))[0])


def align(log_probs: Tensor, words: Sequence[int]) -> list[int]:
    """Return the class of each step (S,) on the likeliest path that spells the words (Viterbi).

    Args:
        log_probs: (S, V + 1).
        words: classes from 1 on.

    Raises:
        UserError: if there are too few steps for them.
    """
    states = [BLANK, *(one for word in words for one in (word, BLANK))]
    needed = len(words) + sum(one == other for one, other in pairwise(words))
    require(len(log_probs) >= needed, f"{len(log_probs)} steps cannot spell {needed}; leave the video out")
    steps = log_probs.double().tolist()
    score, came = [_NEVER] * len(states), []
    for number, step in enumerate(steps):
        before, score, origin = score, [], []
        for place, label in enumerate(states):
            first = number == 0
            skips = place >= 2 and label not in (BLANK, states[place - 2])
            ways = {} if first else {at: before[at] for at in range(max(0, place - 1 - skips), place + 1)}
            at = max(ways, key=lambda one: ways[one], default=place)
            score.append(step[label] + (ways[at] if ways else 0.0 if place <= 1 else _NEVER))
            origin.append(at)
        came.append(origin)
    place = max(range(max(0, len(states) - 2), len(states)), key=lambda one: score[one])
    path = []
    for origin in reversed(came):
        path.append(states[place])
        place = origin[place]
    return path[::-1]


def _add(one: float, other: float) -> float:
    """Return ln(e^one + e^other)."""
    high, low = max(one, other), min(one, other)
    return high if low == _NEVER else high + math.log1p(math.exp(low - high))
