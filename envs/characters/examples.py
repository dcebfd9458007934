"""Noisy pictures beside their clean glyphs, as examples to learn from.

Shapes: B examples asked for, W side.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from envs.characters.attacked import Attacks
from envs.characters.glyphs import Glyphs, drawer_at
from envs.characters.noise import befall, parse_noise
from rlsuite.data.counters import uniform
from rlsuite.running.seeding import derive_seed


class NoisyGlyphs:
    """A source of examples, each always the same: which glyph, which noise and what of it follow from its number.

    Args:
        glyphs: the pool.
        noises: as parse_noise reads them; each example has one of them, every one as likely.
        seed: of all that is drawn.
        length: examples; 0 for one of every glyph, in the pool's order.
    """

    def __init__(self, glyphs: Glyphs, noises: tuple[str, ...], seed: int, length: int = 0) -> None:
        self.glyphs, self.noises, self.seed = glyphs, tuple(map(parse_noise, noises)), seed
        self.in_order = length == 0
        self.length = length or len(glyphs.label)
        self.attacks = Attacks(glyphs, derive_seed(seed, "attacked"))

    def __len__(self) -> int:
        return self.length

    def examples(self, index: Tensor) -> dict[str, Tensor]:
        """Return "input" (B, 3, W, W) and "clean" (B, 1, W, W), floats in [0, 1], and "label" (B,) at index (B,)."""
        draws = uniform(derive_seed(self.seed, "choice"), index, 4)
        glyph, *beside = (draws[:, :3] * len(self.glyphs.label)).long().unbind(1)
        glyph = index if self.in_order else glyph
        kind = (draws[:, 3] * len(self.noises)).long()
        ink = [1.0 - self.glyphs.picture[pick].float() / 255.0 for pick in (glyph, *beside)]
        noisy, clean = ink[0].new_empty(len(index), 3, *ink[0].shape[2:]), torch.empty_like(ink[0])
        for number, levels in enumerate(self.noises):
            rows = (kind == number).nonzero().squeeze(1)
            if len(rows):
                draw = drawer_at(derive_seed(self.seed, "noise"), index[rows])
                attack = functools.partial(self.attacks, label=self.glyphs.label[glyph[rows]])
                noisy[rows], clean[rows] = befall(ink[0][rows], (ink[1][rows], ink[2][rows]), levels, draw, attack)
        return {"input": noisy, "clean": clean, "label": self.glyphs.label[glyph]}
