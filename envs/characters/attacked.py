"""Attacks as a noise: `attack:fgsm:0.2` is what FGSM within 0.2 makes of a picture (arXiv:1806.08990, the threat).

What is attacked is an ordinary reader of the pool's clean glyphs, taught when it is first needed: whoever redraws the
pictures was not looked through, so the attack is oblivious of it. The glyph that is to be found stays as it is.

Shapes: B pictures, W side, C classes.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn
from torch.nn import functional

from envs.characters.glyphs import Glyphs
from envs.characters.noise import Level
from envs.characters.pixels import luma
from envs.evaluation.attacks.attack import Attack
from envs.evaluation.attacks.carlini import CW2
from envs.evaluation.attacks.deepfool import DeepFool
from envs.evaluation.attacks.gradient import FGSM, PGD, PGDConfig
from envs.evaluation.attacks.least import LeastChange
from envs.evaluation.attacks.momentum import MIFGSM
from rlsuite.data.arrays import Arrays
from rlsuite.fit import FitConfig, fit
from rlsuite.nn.vision.conv_net import ConvNet, ConvNetConfig

NETWORK = ConvNetConfig(widths=(16, 32, 64), hidden=64)  # of ordinary readers of glyphs
STEPS = 300  # minibatches of 64 that the attacked one learns from
BOX = (0.0, 1.0)


def attack_of(name: str) -> Attack | LeastChange:
    """Return the attack of a noise's name; all begin at the picture, so none draws where to."""
    made = {
        "attack:fgsm": FGSM,
        "attack:mi_fgsm": MIFGSM,
        "attack:pgd": lambda: PGD(config=PGDConfig(random_start=False)),
        "attack:deepfool": DeepFool,
        "attack:cw2": CW2,
    }
    return made[name]()


class Attacks:
    """What attacks make of pictures.

    Args:
        glyphs: the pool, from which the reader that is attacked learns.
        seed: of that reader.
    """

    def __init__(self, glyphs: Glyphs, seed: int) -> None:
        self.glyphs, self.seed = glyphs, seed

    @functools.cached_property
    def reader(self) -> nn.Module:
        """The reader of clean glyphs, in evaluation mode."""
        glyphs = self.glyphs
        examples = Arrays({"glyph": glyphs.picture, "label": glyphs.label})

        def loss(module: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
            scores = module(batch["glyph"].float() / 255.0)
            return {"loss": functional.cross_entropy(scores, batch["label"])}

        with torch.enable_grad(), torch.random.fork_rng(devices=[]):  # it may be needed amid another training
            network = ConvNet(1, glyphs.picture.shape[-1], len(glyphs.names), NETWORK, self.seed)
            fit(network, loss, examples, FitConfig(steps=STEPS), seed=self.seed)
        return network.eval().requires_grad_(False)

    def scores(self, pictures: Tensor) -> Tensor:
        """Return what the reader makes of pictures (B, 3, W, W) in [0, 1], (B, C)."""
        return self.reader(luma(pictures))

    def __call__(self, picture: Tensor, level: Level, label: Tensor) -> Tensor:
        """Return pictures (B, 3, W, W) in [0, 1] of classes (B,) after an attack, whose eps is the level's strength.

        A picture whose gradient vanishes is attacked from a corner that depends on its place in the batch.
        """
        attack = attack_of(level.name)
        if isinstance(attack, LeastChange):
            return attack.least(self.scores, picture, label, BOX)
        generator = torch.Generator().manual_seed(self.seed)

        def objective(changed: Tensor) -> Tensor:
            return functional.cross_entropy(self.scores(changed), label, reduction="none")

        return attack.perturb(objective, picture, BOX, level.strength, generator)
