"""The instruction grammar and what reads it: distinct meanings, inflection by hand, every English sentence parsed."""

import itertools
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from envs.perception.language import grammar
from envs.perception.language.goal_parser import aims, parse
from envs.perception.language.grammar import Meaning, Thing, draw_monolingual, draw_pairs, english
from envs.perception.language.lexicons import COLORS, DIRECTIONS, GERMAN_SHAPES, RELATIONS, SHAPES, VERBS
from envs.perception.language.pairs import Pair, read_pairs, write_pairs
from rlsuite.errors import UserError

RED, GREEN = Thing("red", "cube"), Thing("green", "ball")


@given(st.integers(0, 2**32))
def test_parsing_undoes_saying(seed):
    meaning = grammar.draw_meaning(random.Random(seed))
    assert parse(english(meaning)) == meaning


@pytest.mark.parametrize(
    "sentence",
    [
        "",
        "push",
        "kick the red cube up",
        "push the red cube",
        "push the red cube left of",
        "push the red cube to the left the green ball",
        "push the cube red up",
        "push the red cube up the green ball",
        "push a red cube up",
        "push the red cube to the green",
    ],
)
def test_other_sentences_are_not_understood(sentence):
    assert parse(sentence) is None


def test_draws_are_the_seed_s_and_what_is_left_out_does_not_come():
    one = draw_pairs(90, 3)
    assert one == draw_pairs(90, 3) != draw_pairs(90, 4)
    meanings = {meaning for meaning, _ in one}
    assert len(meanings) == 90
    assert [pair.language for _, pair in one[:4]] == ["de", "fr", "xx", "de"]
    assert all(english(meaning) == pair.target for meaning, pair in one)
    things = (RED, GREEN)
    every = draw_pairs(20, 0, verbs=["push"], things=things)
    # two things, five directions and five relations: 20 meanings, and no more
    assert len({meaning for meaning, _ in every}) == 20
    with pytest.raises(UserError, match="ask for fewer"):
        draw_pairs(21, 0, verbs=["push"], things=things)
    left = draw_pairs(12, 0, verbs=["push"], things=things, without=frozenset(meaning for meaning, _ in every[:8]))
    assert not {meaning for meaning, _ in left} & {meaning for meaning, _ in every[:8]}
    with pytest.raises(UserError, match="language=nl"):
        draw_pairs(1, 0, ["nl"])


def test_german_is_inflected():
    """Accusative for the thing, dative for the reference, by the noun's gender."""
    endings = {"m": ("den ", "en "), "f": ("die ", "e "), "n": ("das ", "e ")}
    gender = {noun: kind for nouns in GERMAN_SHAPES.values() for noun, kind in nouns}
    draw, seen = random.Random(0), set()
    for _ in range(300):
        meaning = grammar.draw_meaning(draw)
        said = grammar.german(meaning, draw).split()
        nouns = [place for place, word in enumerate(said) if word in gender]
        assert len(nouns) == (2 if meaning.reference else 1)
        for place in nouns:
            article, color, kind = said[place - 2], said[place - 1], gender[said[place]]
            if article == "dem" or (article == "der" and kind == "f"):
                assert color.endswith("en")
                assert (article == "der") == (kind == "f")
            else:
                assert (f"{article} ", True) == (endings[kind][0], f"{color} ".endswith(endings[kind][1]))
            seen.add((article, kind))
    assert seen == {("den", "m"), ("die", "f"), ("das", "n"), ("dem", "m"), ("der", "f"), ("dem", "n")}


def test_french_is_elided_and_agrees():
    draw = random.Random(1)
    said = " | ".join(
        grammar.french(Meaning("push", Thing("green", "star"), "left of", Thing("white", "cube")), draw)
        for _ in range(60)
    )
    assert "l'étoile verte" in said
    assert "l'astre vert " in said
    assert "gauche du cube blanc" in said
    assert "la étoile" not in said
    assert "de le " not in said


def test_text_has_habits_and_no_english():
    read = draw_monolingual(600, 0, ["de"])
    assert read == draw_monolingual(600, 0, ["de"])
    assert not {word for sentence in read for word in sentence.split()} & (set(VERBS) | {"red", "blue", "left", "the"})
    # A cube is usually red or green: 0.8, and 2 of 8 in the rest.
    for habits, expected in ((0.8, 0.85), (0.0, 0.25)):
        said = " ".join(draw_monolingual(600, 0, ["de"], habits=habits)).split()
        colors = [color for color, noun in itertools.pairwise(said) if noun in ("würfel", "klotz")]
        usual = sum(color.startswith(("rot", "knallrot", "grün", "grasgrün")) for color in colors) / len(colors)
        assert abs(usual - expected) < 0.1
    unseen = frozenset(meaning for meaning, _ in draw_pairs(5, 0))
    assert len(draw_monolingual(7, 0, without=unseen)) == 7


def test_points_by_hand():
    meanings = [
        Meaning("push", RED, "to the left", None),
        Meaning("bring", RED, "to", GREEN),
        Meaning("place", RED, "in front of", GREEN),
        Meaning("turn", RED, "up", None),
        Meaning("push", Thing("blue", "ring"), "up", None),
        Meaning("push", Thing("blue", "ring"), "to", GREEN),
        None,
    ]
    found = aims(meanings, [RED, GREEN])
    assert found.understood.tolist() == [True, True, True, False, False, False, False]
    places = torch.tensor([[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]).expand(7, 2, 3)
    points = found.points(places)
    expected = torch.tensor([[1.0, 2.1, 3.0], [4.0, 5.0, 6.0], [3.9, 5.0, 6.0]])
    torch.testing.assert_close(points[:3], expected)
    assert set(DIRECTIONS) | set(RELATIONS) == {grammar.draw_meaning(random.Random(seed)).place for seed in range(200)}
    assert len(COLORS) == len(SHAPES) == 8


def test_pairs_come_back_and_others_are_refused(tmp_path):
    pairs = [Pair("schiebe den würfel", "push", "de"), Pair("ü\u2028x", "y", "xx")]
    path = tmp_path / "pairs.jsonl"
    write_pairs(path, pairs)
    assert read_pairs(path) == pairs
    for line in ('{"src": "a"}', "[1]", '{"src": 1, "tgt": "b", "lang": "de"}', "{", "[" * 100_000):
        path.write_text(f'{{"src": "a", "tgt": "b", "lang": "de"}}\n{line}\n')
        with pytest.raises(UserError, match=r"jsonl:2"):
            read_pairs(path)
    path.write_text("\n")
    with pytest.raises(UserError, match="no pair"):
        read_pairs(path)
    with pytest.raises(UserError, match="cannot be read"):
        read_pairs(tmp_path / "none.jsonl")
