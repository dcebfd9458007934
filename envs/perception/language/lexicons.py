"""The words of the instruction grammar: English as the goal parser reads it, German, French, and a made-up language.

A source word stands beside the English one it means; each meaning has two source words, so that a translator has to
know synonyms. Everything is lower case, as uncased language models read it.
"""

from __future__ import annotations

import random
from typing import NamedTuple

VERBS = ("push", "pull", "pick", "reach", "move", "lift", "turn", "touch", "roll", "place", "bring", "grasp")
COLORS = ("red", "green", "blue", "yellow", "black", "white", "orange", "purple")
SHAPES = ("cube", "ball", "cylinder", "cone", "ring", "star", "prism", "plate")
DIRECTIONS = ("to the left", "to the right", "forward", "backward", "up")
RELATIONS = ("to", "left of", "right of", "in front of", "behind")  # to a second object


class GermanVerb(NamedTuple):
    """An imperative, the prefix that goes to the end, and the infinitive."""

    imperative: str
    prefix: str
    infinitive: str


GERMAN_VERBS = {
    "push": (GermanVerb("schiebe", "", "schieben"), GermanVerb("schubse", "", "schubsen")),
    "pull": (GermanVerb("ziehe", "", "ziehen"), GermanVerb("zerre", "", "zerren")),
    "pick": (GermanVerb("sammle", "auf", "aufsammeln"), GermanVerb("lies", "auf", "auflesen")),
    "reach": (GermanVerb("erreiche", "", "erreichen"), GermanVerb("steuere", "an", "ansteuern")),
    "move": (GermanVerb("bewege", "", "bewegen"), GermanVerb("rücke", "", "rücken")),
    "lift": (GermanVerb("hebe", "hoch", "hochheben"), GermanVerb("stemme", "", "stemmen")),
    "turn": (GermanVerb("drehe", "", "drehen"), GermanVerb("wende", "", "wenden")),
    "touch": (GermanVerb("berühre", "", "berühren"), GermanVerb("tippe", "an", "antippen")),
    "roll": (GermanVerb("rolle", "", "rollen"), GermanVerb("wälze", "", "wälzen")),
    "place": (GermanVerb("stelle", "ab", "abstellen"), GermanVerb("platziere", "", "platzieren")),
    "bring": (GermanVerb("bringe", "", "bringen"), GermanVerb("trage", "", "tragen")),
    "grasp": (GermanVerb("packe", "", "packen"), GermanVerb("ergreife", "", "ergreifen")),
}
GERMAN_COLORS = {
    "red": ("rot", "knallrot"),
    "green": ("grün", "grasgrün"),
    "blue": ("blau", "azurn"),
    "yellow": ("gelb", "golden"),
    "black": ("schwarz", "finster"),
    "white": ("weiß", "hell"),
    "orange": ("orangefarben", "kürbisfarben"),
    "purple": ("violett", "fliederfarben"),
}
GERMAN_SHAPES = {  # noun, and its gender: m, f, n
    "cube": (("würfel", "m"), ("klotz", "m")),
    "ball": (("kugel", "f"), ("ball", "m")),
    "cylinder": (("zylinder", "m"), ("walze", "f")),
    "cone": (("kegel", "m"), ("hütchen", "n")),
    "ring": (("ring", "m"), ("reif", "m")),
    "star": (("stern", "m"), ("zacken", "m")),
    "prism": (("prisma", "n"), ("keil", "m")),
    "plate": (("teller", "m"), ("scheibe", "f")),
}
GERMAN_PLACES = {
    "to the left": ("nach links", "linksherum"),
    "to the right": ("nach rechts", "rechtsherum"),
    "forward": ("nach vorn", "vorwärts"),
    "backward": ("nach hinten", "rückwärts"),
    "up": ("nach oben", "aufwärts"),
    "to": ("zu", "bis zu"),  # these ask for the dative
    "left of": ("links von", "linkerhand von"),
    "right of": ("rechts von", "rechterhand von"),
    "in front of": ("vor", "frontal vor"),
    "behind": ("hinter", "rückseitig hinter"),
}

FRENCH_VERBS = {  # imperative, infinitive
    "push": (("pousse", "pousser"), ("bouscule", "bousculer")),
    "pull": (("tire", "tirer"), ("traîne", "traîner")),
    "pick": (("ramasse", "ramasser"), ("cueille", "cueillir")),
    "reach": (("atteins", "atteindre"), ("rejoins", "rejoindre")),
    "move": (("déplace", "déplacer"), ("bouge", "bouger")),
    "lift": (("lève", "lever"), ("hisse", "hisser")),
    "turn": (("tourne", "tourner"), ("pivote", "pivoter")),
    "touch": (("touche", "toucher"), ("effleure", "effleurer")),
    "roll": (("roule", "rouler"), ("enroule", "enrouler")),
    "place": (("pose", "poser"), ("dépose", "déposer")),
    "bring": (("apporte", "apporter"), ("amène", "amener")),
    "grasp": (("saisis", "saisir"), ("attrape", "attraper")),
}
FRENCH_COLORS = {  # masculine, feminine
    "red": (("rouge", "rouge"), ("vermeil", "vermeille")),
    "green": (("vert", "verte"), ("verdoyant", "verdoyante")),
    "blue": (("bleu", "bleue"), ("azuré", "azurée")),
    "yellow": (("jaune", "jaune"), ("doré", "dorée")),
    "black": (("noir", "noire"), ("sombre", "sombre")),
    "white": (("blanc", "blanche"), ("clair", "claire")),
    "orange": (("orange", "orange"), ("abricot", "abricot")),
    "purple": (("violet", "violette"), ("mauve", "mauve")),
}
FRENCH_SHAPES = {
    "cube": (("cube", "m"), ("bloc", "m")),
    "ball": (("boule", "f"), ("balle", "f")),
    "cylinder": (("cylindre", "m"), ("rouleau", "m")),
    "cone": (("cône", "m"), ("entonnoir", "m")),
    "ring": (("anneau", "m"), ("bague", "f")),
    "star": (("étoile", "f"), ("astre", "m")),
    "prism": (("prisme", "m"), ("coin", "m")),
    "plate": (("assiette", "f"), ("disque", "m")),
}
FRENCH_PLACES = {
    "to the left": ("vers la gauche", "à gauche"),
    "to the right": ("vers la droite", "à droite"),
    "forward": ("vers l'avant", "en avant"),
    "backward": ("vers l'arrière", "en arrière"),
    "up": ("vers le haut", "en haut"),
    "to": ("jusque vers", "vers"),
    "left of": ("à gauche de", "sur la gauche de"),  # "de le" becomes "du"
    "right of": ("à droite de", "sur la droite de"),
    "in front of": ("devant", "juste devant"),
    "behind": ("derrière", "juste derrière"),
}


def made_up_words(seed: int = 20200206823) -> dict[str, tuple[str, str]]:
    """Return two words of a language that nobody speaks for each English word; equal seeds give equal words."""
    draw = random.Random(seed)
    syllables = [first + vowel for first in "bdfgklmnprstvz" for vowel in "aeiou"]
    known: set[str] = set()

    def word() -> str:
        while (found := "".join(draw.sample(syllables, 3))) in known:
            pass
        known.add(found)
        return found

    return {meaning: (word(), word()) for meaning in (*VERBS, *COLORS, *SHAPES, *DIRECTIONS, *RELATIONS)}
