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
    draw = _checked(count, seed, languages)
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
    habits: float = 0.8,
) -> list[str]:
    """Draw distinct instructions that a language model reads: no English, and no pairs.

    People speak of what is usual, which is how words get their company: with probability `habits` each, a thing has
    one of the two usual colors of its shape, what is done is usual for the shape, and the place for what is done.
    Words that mean the same keep the same company, and that is all that a language model can learn of meaning here.

    Args:
        count: how many.
        seed: of all draws.
        languages: in turn.
        without: meanings that are left out.
        habits: 0 for meanings that are all equally likely, as in pairs.

    Raises:
        UserError: for a language that is not known, or no count.
    """
    draw, found, seen = _checked(count, seed, languages), [], set(without)
    while len(found) < count:
        meaning = _usual(draw_meaning(draw), draw, habits)
        if meaning in seen or (meaning.reference == meaning.thing):
            continue
        seen.add(meaning)
        found.append(LANGUAGES[languages[len(found) % len(languages)]](meaning, draw))
    return found


def _usual(meaning: Meaning, draw: random.Random, habits: float) -> Meaning:
    def colored(thing: Thing) -> Thing:
        if draw.random() >= habits:
            return thing
        return Thing(COLORS[(SHAPES.index(thing.shape) + draw.choice((0, 1))) % len(COLORS)], thing.shape)

    thing, verb, place = colored(meaning.thing), meaning.verb, meaning.place
    if draw.random() < habits:
        verb = VERBS[(SHAPES.index(thing.shape) + draw.choice((0, 4))) % len(VERBS)]
    places = RELATIONS if meaning.reference else DIRECTIONS
    if draw.random() < habits:
        place = places[VERBS.index(verb) % len(places)]
    return Meaning(verb, thing, place, colored(meaning.reference) if meaning.reference else None)


def _checked(count: int, seed: int, languages: Sequence[str]) -> random.Random:
    require(count >= 1, f"count={count}: use 1 or more")
    for language in languages:
        require_choice("language", language, LANGUAGES)
    return random.Random(seed)


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
