"""Instructions by a template grammar: 250,000 meanings, said in English and in three source languages.

English is canonical, one sentence a meaning, which `goal_parser.py` reads. The others have synonyms, inflection (case
and gender in German, gender and elision in French, case suffixes in a made-up language), polite phrases and several
word orders; the made-up language has the verb last and the adjective behind its noun. All draws are from generators
of a given seed.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from envs.perception.language import lexicons as words
from envs.perception.language.lexicons import COLORS, DIRECTIONS, RELATIONS, SHAPES, VERBS
from envs.perception.language.pairs import Pair
from rlsuite.errors import require, require_choice


class Thing(NamedTuple):
    """What an instruction speaks of."""

    color: str
    shape: str


class Meaning(NamedTuple):
    """An instruction: what to do with a thing, and in which direction, or where beside a reference."""

    verb: str
    thing: Thing
    place: str
    reference: Thing | None


THINGS = tuple(itertools.starmap(Thing, itertools.product(COLORS, SHAPES)))


def draw_meaning(draw: random.Random, verbs: Sequence[str] = VERBS, things: Sequence[Thing] = THINGS) -> Meaning:
    """Draw an instruction, each of the ten directions and relations equally often; a reference is another thing."""
    thing, reference = draw.sample(things, 2)
    place = draw.choice(DIRECTIONS + RELATIONS)
    return Meaning(draw.choice(verbs), thing, place, reference if place in RELATIONS else None)


def english(meaning: Meaning) -> str:
    """Return the canonical sentence."""
    said = f"{meaning.verb} the {meaning.thing.color} {meaning.thing.shape} {meaning.place}"
    return f"{said} the {meaning.reference.color} {meaning.reference.shape}" if meaning.reference else said


def german(meaning: Meaning, draw: random.Random) -> str:
    """Say it in German: an imperative, one with the place in front, or a question with the verb at the end."""

    def noun_phrase(thing: Thing, dative: bool) -> str:
        noun, gender = draw.choice(words.GERMAN_SHAPES[thing.shape])
        color = draw.choice(words.GERMAN_COLORS[thing.color])
        if dative:
            return f"{'der' if gender == 'f' else 'dem'} {color}en {noun}"
        article, ending = {"m": ("den", "en"), "f": ("die", "e"), "n": ("das", "e")}[gender]
        return f"{article} {color}{ending} {noun}"

    verb, thing = draw.choice(words.GERMAN_VERBS[meaning.verb]), noun_phrase(meaning.thing, dative=False)
    place = draw.choice(words.GERMAN_PLACES[meaning.place])
    if meaning.reference:
        place = f"{place} {noun_phrase(meaning.reference, dative=True)}"
    please = draw.choice(("", "bitte"))
    orders = (
        (please, verb.imperative, thing, place, verb.prefix),
        (verb.imperative, please, thing, place, verb.prefix),
        (place, verb.imperative, please, thing, verb.prefix),
        ("kannst du", please, thing, place, verb.infinitive),
    )
    return _joined(draw.choice(orders))


def french(meaning: Meaning, draw: random.Random) -> str:
    """Say it in French: an imperative, one with the place in front, or a question with an infinitive."""

    def noun_phrase(thing: Thing) -> str:
        noun, gender = draw.choice(words.FRENCH_SHAPES[thing.shape])
        color = draw.choice(words.FRENCH_COLORS[thing.color])[gender == "f"]
        article = "l'" if noun[0] in "aeéo" else "la " if gender == "f" else "le "
        return f"{article}{noun} {color}"

    imperative, infinitive = draw.choice(words.FRENCH_VERBS[meaning.verb])
    thing, place = noun_phrase(meaning.thing), draw.choice(words.FRENCH_PLACES[meaning.place])
    if meaning.reference:
        place = f"{place} {noun_phrase(meaning.reference)}".replace(" de le ", " du ")
    please = draw.choice(("", "s'il te plaît"))
    orders = (
        (please, imperative, thing, place),
        (imperative, thing, place, please),
        (place, please, imperative, thing),
        ("peux-tu", please, infinitive, thing, place),
    )
    return _joined(draw.choice(orders))


_MADE_UP = words.made_up_words()


def made_up(meaning: Meaning, draw: random.Random) -> str:
    """Say it in a language whose verb comes last, nouns before their colors, cases as suffixes on both."""

    def noun_phrase(thing: Thing, suffix: str) -> str:
        noun, color = draw.choice(_MADE_UP[thing.shape]), draw.choice(_MADE_UP[thing.color])
        # The color agrees with the noun: two genders, told by the noun's last vowel.
        return f"{noun}{suffix} {color}{suffix}{'n' if noun[-1] in 'ao' else 'x'}"

    thing = noun_phrase(meaning.thing, "")
    place = draw.choice(_MADE_UP[meaning.place])
    if meaning.reference:
        place = f"{noun_phrase(meaning.reference, 'je')} {place}"
    verb, please = draw.choice(_MADE_UP[meaning.verb]), draw.choice(("", "wehe"))
    orders = ((please, place, thing, verb), (place, thing, verb, please), (thing, place, please, verb))
    return _joined(draw.choice(orders))


LANGUAGES: dict[str, Callable[[Meaning, random.Random], str]] = {"de": german, "fr": french, "xx": made_up}


def draw_pairs(
    count: int,
    seed: int,
    languages: Sequence[str] = tuple(LANGUAGES),
    *,
    without: frozenset[Meaning] = frozenset(),
    verbs: Sequence[str] = VERBS,
    things: Sequence[Thing] = THINGS,
) -> list[tuple[Meaning, Pair]]:
    """Draw distinct meanings, each with a pair of sentences, the languages in turn.

    Args:
        count: how many.
        seed: of all draws.
        languages: the source languages.
        without: meanings that are left out.
        verbs: what may be asked for.
        things: of what; any by default.

    Raises:
        UserError: for a language that is not known, or no count.
    """
    require(count >= 1, f"count={count}: use 1 or more")
    for language in languages:
        require_choice("language", language, LANGUAGES)
    draw = random.Random(seed)
    drawn = _distinct(draw, without, verbs, things)
    found = []
    for place, meaning in enumerate(itertools.islice(drawn, count)):
        language = languages[place % len(languages)]
        said = LANGUAGES[language](meaning, draw)
        found.append((meaning, Pair(source=said, target=english(meaning), language=language)))
    return found


def draw_monolingual(
    count: int,
    seed: int,
    languages: Sequence[str] = tuple(LANGUAGES),
    *,
    without: frozenset[Meaning] = frozenset(),
) -> list[tuple[str, str]]:
    """Draw what a language model learns from: an instruction, and the same said again, each word drawn anew.

    A model that sees two sentences at a time, as BERT does, learns from repetitions which words mean the same. It sees
    one language at a time, no English and no pairs.
    """
    draw = random.Random(seed)
    found = []
    for place, meaning in enumerate(itertools.islice(_distinct(draw, without, VERBS, THINGS), count)):
        say = LANGUAGES[languages[place % len(languages)]]
        found.append((say(meaning, draw), say(meaning, draw)))
    return found


def _distinct(
    draw: random.Random, without: frozenset[Meaning], verbs: Sequence[str], things: Sequence[Thing]
) -> Iterator[Meaning]:
    """Draw meanings that are not in `without`, none twice."""
    seen = set(without)
    tries = 0
    while True:
        meaning = draw_meaning(draw, verbs, things)
        tries = tries + 1 if meaning in seen else 0
        require(tries < 10_000, "so many distinct instructions cannot be drawn; ask for fewer, or give more things")
        if meaning not in seen:
            seen.add(meaning)
            yield meaning


def _joined(parts: Sequence[str]) -> str:
    return " ".join(part for part in parts if part)
