"""From canonical English to goals: a sentence to its meaning, and meanings to points among the things of a scene.

    "push the red cube to the left"              a tenth of a metre to the left of where the red cube is
    "bring the red cube to the green ball"       where the green ball is
    "place the red cube behind the green ball"   a tenth of a metre behind it

Sides are the robot's, which looks along x: left is +y, up +z; what is in front of a thing stands between it and the
robot. Verbs do not change the point, but for "turn", which asks for an orientation and not for a point: it is read and
not understood. The rules are our own; the paper ends with the translation.

Shapes: N environments, K things.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from envs.perception.language.grammar import Meaning, Thing
from envs.perception.language.lexicons import COLORS, DIRECTIONS, RELATIONS, SHAPES, VERBS

STEP = 0.1  # m
_OFFSETS = {
    "to the left": (0.0, STEP, 0.0),
    "to the right": (0.0, -STEP, 0.0),
    "forward": (STEP, 0.0, 0.0),
    "backward": (-STEP, 0.0, 0.0),
    "up": (0.0, 0.0, STEP),
    "to": (0.0, 0.0, 0.0),
    "left of": (0.0, STEP, 0.0),
    "right of": (0.0, -STEP, 0.0),
    "in front of": (-STEP, 0.0, 0.0),
    "behind": (STEP, 0.0, 0.0),
}
WITHOUT_POINT = ("turn",)


class Aims(NamedTuple):
    """What N environments are asked for, as far as it was understood.

    Attributes:
        thing: (N,) int64, the thing that the goal is measured from: the reference, where there is one.
        offset: (N, 3) metres from it.
        understood: (N,) bool.
    """

    thing: Tensor
    offset: Tensor
    understood: Tensor

    def points(self, places: Tensor) -> Tensor:
        """Return goals (N, 3) among things at places (N, K, 3); those not understood mean nothing."""
        chosen = self.thing.view(-1, 1, 1).expand(-1, 1, 3)
        return places.gather(1, chosen).squeeze(1) + self.offset.to(places)


def parse(sentence: str) -> Meaning | None:
    """Return what a canonical sentence means, None for any other."""
    words = sentence.lower().split()
    if not words or words[0] not in VERBS:
        return None
    thing, rest = _thing(words[1:4]), words[4:]
    if thing is None:
        return None
    place = " ".join(rest)
    if place in DIRECTIONS:
        return Meaning(words[0], thing, place, None)
    reference, place = _thing(rest[-3:]), " ".join(rest[:-3])
    if reference is None or place not in RELATIONS:
        return None
    return Meaning(words[0], thing, place, reference)


def aims(meanings: Sequence[Meaning | None], things: Sequence[Thing]) -> Aims:
    """Return what is aimed at among things; what speaks of others is not understood.

    Args:
        meanings: one for each of N environments, None where the sentence was none.
        things: K distinct ones.
    """
    number = {thing: place for place, thing in enumerate(things)}
    thing, offset, understood = [], [], []
    for meaning in meanings:
        if meaning is None or meaning.verb in WITHOUT_POINT or not _names(meaning) <= number.keys():
            found = (0, (0.0, 0.0, 0.0), False)
        else:
            found = (number[meaning.reference or meaning.thing], _OFFSETS[meaning.place], True)
        for values, value in zip((thing, offset, understood), found, strict=True):
            values.append(value)
    return Aims(torch.tensor(thing), torch.tensor(offset, dtype=torch.float64), torch.tensor(understood))


def _names(meaning: Meaning) -> set[Thing]:
    return {meaning.thing, meaning.reference or meaning.thing}


def _thing(words: Sequence[str]) -> Thing | None:
    if len(words) != 3 or words[0] != "the" or words[1] not in COLORS or words[2] not in SHAPES:
        return None
    return Thing(words[1], words[2])
