"""Exact matches and BLEU: by hand, and against sacrebleu where it is installed."""

import math
import random

import pytest

from rlsuite.metrics.translation import bleu, exact_matches


def test_exact_matches():
    assert exact_matches(["a b", "a  b ", "a"], ["a b", "a b", "a b"]).tolist() == [True, True, False]
    with pytest.raises(ValueError, match="shorter"):
        exact_matches(["a", "b"], ["a"])


def test_bleu_by_hand():
    assert bleu(["the red cube up now"], ["the red cube up now"]) == pytest.approx(100.0)
    assert bleu(["a b c"], ["a b c"]) == 0.0  # no four words in a row
    # 5 of 6 words, 3 of 5 pairs, 2 of 4 triples, 1 of 3 quadruples; one word shorter than the reference
    found = bleu(["a b c d x f"], ["a b c d e f g"])
    by_hand = 100.0 * math.exp(1 - 7 / 6) * (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25
    assert found == pytest.approx(by_hand)
    assert bleu(["The Red cube up"], ["the red cube up"]) == pytest.approx(100.0)
    assert bleu(["The Red cube up"], ["the red cube up"], lower=False) == 0.0
    assert bleu(["a a a a a"], ["a a b b b"]) == 0.0  # clipped: no a a a


def test_bleu_is_sacrebleus():
    sacrebleu = pytest.importorskip("sacrebleu")
    draw = random.Random(0)
    for _ in range(20):
        references = [" ".join(draw.choices("abcd", k=draw.randint(4, 9))) for _ in range(8)]
        said = [" ".join(draw.choices("abcd", k=draw.randint(3, 10))) for _ in range(8)]
        said[0] = references[0]
        metric = sacrebleu.BLEU(lowercase=True, tokenize="none", smooth_method="none", force=True)
        assert bleu(said, references) == pytest.approx(metric.corpus_score(said, [references]).score, abs=1e-9)
