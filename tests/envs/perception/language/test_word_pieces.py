"""Pieces of words: cutting by hand, learning by hand, texts that come back, BERT's tokenizer where it is installed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.perception.language.tokens import SPECIAL, WordPieces, learn_pieces, read_vocabulary, words_of
from rlsuite.errors import UserError

WORDS = "schiebe den grünen würfel zum roten ring , s'il te plaît !"


def test_the_longest_piece_comes_first():
    pieces = WordPieces([*SPECIAL, "un", "##aff", "##able", "##a", "una"])
    names = lambda word: [pieces.pieces[number] for number in pieces.numbers(word)]  # noqa: E731
    assert names("unaffable") == ["[UNK]"]  # una leaves ##ffable, which no piece begins: never undone, as BERT's
    assert names("unaable") == ["una", "##able"]
    assert names("un") == ["un"]
    assert names("UN una") == ["un", "una"]
    assert names("u" * 101) == ["[UNK]"]
    assert pieces.text([pieces.first, 9, 7, pieces.last, 5]) == "unaable"


def test_the_most_frequent_neighbours_are_joined():
    # ab three times, then (ab)c twice: letters a, ##b, ##c, then ab, then abc
    pieces = learn_pieces(["abc abc ab"], len(SPECIAL) + 5)
    assert pieces.pieces[len(SPECIAL) :] == ("##b", "##c", "a", "ab", "abc")
    assert len(learn_pieces(["abc"], 100)) == len(SPECIAL) + 5
    with pytest.raises(UserError, match="size=6"):
        learn_pieces(["abc"], 6)


@given(st.lists(st.sampled_from(sorted(set(WORDS) - {" "})), min_size=1, max_size=12).map("".join))
def test_words_of_known_letters_come_back(word):
    pieces = learn_pieces([WORDS, "".join(sorted(set(WORDS) - set(" ,'!")))], 200)
    numbers = pieces.numbers(word)
    if pieces.unknown not in numbers:
        assert pieces.text(numbers) == " ".join(words_of(word))


def test_sentences_are_cut_as_berts():
    assert words_of("L'étoile, peux-tu?") == ["l", "'", "étoile", ",", "peux", "-", "tu", "?"]
    assert words_of("Würfel ÉTÉ", accents=False) == ["wurfel", "ete"]
    assert words_of("Würfel", lower=False) == ["Würfel"]
    assert words_of("a中b\u200b\tc") == ["a", "中", "b", "c"]


def test_vocabularies_are_checked():
    with pytest.raises(UserError, match=r"\[MASK\]"):
        WordPieces([*SPECIAL[:4], "a"])
    with pytest.raises(UserError, match="twice"):
        WordPieces([*SPECIAL, "a", "a"])
    with pytest.raises(UserError, match="no pieces"):
        read_vocabulary("\n", accents=False, lower=True)
    found = read_vocabulary("\r\n".join([*SPECIAL, "a", ""]), accents=False, lower=True)
    assert found.pieces[-1] == "a"
    with pytest.raises(UserError, match="3 pieces, more than 2"):
        found.batch([[1, 2, 3]], 2)
    assert found.batch([[5], [5, 6]]).tolist() == [[5, 0], [5, 6]]
