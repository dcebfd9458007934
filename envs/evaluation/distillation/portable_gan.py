"""A wide generator of pictures from pictures taught to a narrow one, by its discriminator too: paired examples.

Chen, Wang, Shu, Wen, Xu, Shi, Xu and Xu 2020, "Distilling portable Generative Adversarial Networks for Image
Translation" (arXiv:2003.03519). Student generator and student discriminator learn in turns (rlsuite.fit):

    D_S:  adversarial(y, G_S(x)) + real * L_GT + triplet * L_tri
    G_S:  adversarial            + pixel * L_L1 + perceptual * L_perc

With no teacher the same module is the base model, pix2pix: it makes the teacher, and the student from scratch.

    teacher = PairedTranslation(shape, wide, seed=0)
    fit(teacher, teacher.turns(), source, FitConfig(...), seed=0)
    student = PairedTranslation(shape, narrow, seed=1, teacher=teacher)
    fit(student, student.turns(), with_taught(source, teacher.generator), FitConfig(...), seed=1)

Each turn has a minibatch of its own, as fit draws them; the base models' code gives both the same one.

Shapes: B batch, C channels, H and W sides of a picture. Pictures are in [-1, 1].
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor, nn

from envs.evaluation.distillation.gan_losses import perceptual_loss, pixel_loss, teacher_as_real_loss, triplet_loss
from rlsuite.data.arrays import Arrays
from rlsuite.data.source import Source
from rlsuite.errors import require, require_choice, require_finite
from rlsuite.fit import Turn
from rlsuite.generative.adversarial import AdversarialConfig, discriminator_losses, generator_loss
from rlsuite.generative.pair import ADAM
from rlsuite.generative.translators import PatchConfig, PatchDiscriminator, Translator, TranslatorConfig
from rlsuite.optim.choice import OptimizerConfig
from rlsuite.running.seeding import derive_seed

# Least squares around 1 and -1, of scores s, are four times those around 1 and 0, CycleGAN's, of scores (1 + s) / 2.
ADVERSARIAL = {"gan": 1.0, "lsgan": 0.25}


@dataclass(frozen=True, kw_only=True)
class DistillationWeights:
    """What is learned from the teacher, and how much each part counts; 0 leaves a part out.

    The paper does not say its weights: these are choices, from pix2pix's 100 for pixels.

    Attributes:
        pixel: beta1, of L_L1. For unpaired examples 10 is CycleGAN's usual scale.
        perceptual: gamma1, of L_perc.
        real: beta2, of L_GT.
        triplet: gamma2, of L_tri.
        margin: alpha. A large one makes D_S win, and G_S falls back on pixels: "active" should fall below 1.
        teacher_taps: blocks of D_T whose features are F_T; 2 is the third.
        taps: blocks of D_S whose features are F_S; -1 is all but the last layer.
    """

    pixel: float = 100.0
    perceptual: float = 10.0
    real: float = 1.0
    triplet: float = 1.0
    margin: float = 1.0
    teacher_taps: tuple[int, ...] = (2,)
    taps: tuple[int, ...] = (-1,)

    def __post_init__(self) -> None:
        for entry in fields(self):
            if entry.name in ("teacher_taps", "taps"):
                require(bool(getattr(self, entry.name)), f"{entry.name}=[]: name a block, such as [-1] for the last")
            else:
                require_finite(entry.name, getattr(self, entry.name), low=0.0)


@dataclass(frozen=True, kw_only=True)
class TranslationConfig:
    """A generator, its discriminator, and what both minimize.

    Attributes:
        generator: the generator.
        discriminator: the discriminator; a student's need not be narrow, since nobody keeps it.
        kind: of the adversarial loss: "gan" (pix2pix's) or "lsgan" (CycleGAN's).
        adversarial: weight of the adversarial loss; 0 for a generator that learns without a discriminator.
        truth: of the mean absolute difference to y: pix2pix's 100. A student has the teacher's pictures instead.
        cycle: of CycleGAN's cycle loss, for unpaired examples.
        pool: generated pictures kept for CycleGAN's discriminators.
        weights: what is learned from a teacher.
        optimizer: of both networks.
    """

    generator: TranslatorConfig = field(default_factory=TranslatorConfig)
    discriminator: PatchConfig = field(default_factory=PatchConfig)
    kind: str = "gan"
    adversarial: float = 1.0
    truth: float = 100.0
    cycle: float = 10.0
    pool: int = 50
    weights: DistillationWeights = field(default_factory=DistillationWeights)
    optimizer: OptimizerConfig = ADAM

    def __post_init__(self) -> None:
        require_choice("kind", self.kind, ADVERSARIAL)
        for name in ("adversarial", "truth", "cycle"):
            require_finite(name, getattr(self, name), low=0.0)
        require(self.pool >= 0, f"pool={self.pool}: use 0 (none) or more")


class Translation(nn.Module):
    """What paired and unpaired translation share: a frozen teacher, and the losses of one direction.

    Args:
        config: see TranslationConfig.
        teacher: a copy is kept, in evaluation mode and without gradients; None for the base model.

    Raises:
        UserError: if features are wanted of blocks that a discriminator does not have.
    """

    def __init__(self, config: TranslationConfig, teacher: Translation | None) -> None:
        super().__init__()
        self.config = config
        for name, of in (("teacher_taps", teacher and teacher.config), ("taps", teacher and config)):
            taps, count = getattr(config.weights, name), of.discriminator.layers + 1 if of else 0
            fits = of is None or all(-count <= tap < count for tap in taps)
            require(fits, f"{name}={list(taps)}: its discriminator has {count} blocks; use {-count} to {count - 1}")
        self.teacher = None if teacher is None else copy.deepcopy(teacher).eval().requires_grad_(False)

    def train(self, mode: bool = True) -> Translation:
        """Set the mode of all but the teacher."""
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        return self

    @property
    def judged(self) -> bool:
        """Whether there is anything for a discriminator to do."""
        return self.config.adversarial > 0

    def judge_losses(
        self, judge: PatchDiscriminator, real: Tensor, made: Tensor, shown: Tensor, taught: Tensor | None
    ) -> dict[str, Tensor]:
        """Return what a discriminator minimizes ("loss"), and its parts.

        Args:
            judge: the discriminator.
            real: real pictures.
            made: the generator's, as they are now, for the triplets; detached.
            shown: the generator's that are to be called generated: the same, or out of a pool; detached.
            taught: the teacher's; None without one.
        """
        config, weights = self.config, self.config.weights
        base = AdversarialConfig(kind=config.kind)
        scores, anchors = judge.judge(real, weights.taps)
        found = discriminator_losses(base, scores, judge(shown), torch.zeros(()))
        # Halved as in both base models' code: a discriminator learns at half the generator's speed.
        found["loss"] = 0.5 * config.adversarial * ADVERSARIAL[config.kind] * found["loss"]
        if taught is None or not (weights.real or weights.triplet):
            return found
        scores, positives = judge.judge(taught, weights.taps)
        found["real"] = ADVERSARIAL[config.kind] * teacher_as_real_loss(config.kind, scores)
        found["loss"] = found["loss"] + weights.real * found["real"]
        if weights.triplet:
            negatives = judge.features(made, weights.taps)
            found["triplet"], found["active"] = triplet_loss(anchors, positives, negatives, weights.margin)
            found["loss"] = found["loss"] + weights.triplet * found["triplet"]
        return found

    def make_losses(
        self,
        judge: PatchDiscriminator,
        teacher_judge: PatchDiscriminator | None,
        made: Tensor,
        taught: Tensor | None,
        condition: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return what a generator minimizes in one direction ("loss"), and its parts, unweighted.

        Args:
            judge: the discriminator of what is made.
            teacher_judge: D_T.
            made: the generator's pictures.
            taught: the teacher's; None without one.
            condition: what both were made from, where discriminators see it too.
        """
        config, weights, found = self.config, self.config.weights, {}
        total = made.new_zeros(())
        if self.judged:
            scores = judge(beside(condition, made))
            found["adversarial"] = ADVERSARIAL[config.kind] * generator_loss(
                AdversarialConfig(kind=config.kind), scores
            )
            total = total + config.adversarial * found["adversarial"]
        if taught is not None and weights.pixel:
            found["pixel"] = pixel_loss(made, taught)
            total = total + weights.pixel * found["pixel"]
        if taught is not None and teacher_judge is not None and weights.perceptual:
            with torch.no_grad():
                wanted = teacher_judge.features(beside(condition, taught), weights.teacher_taps)
            features = teacher_judge.features(beside(condition, made), weights.teacher_taps)
            found["perceptual"] = perceptual_loss(features, wanted)
            total = total + weights.perceptual * found["perceptual"]
        return {"loss": total, **found}


class PairedTranslation(Translation):
    """pix2pix, or a student of one: x and y of one scene; discriminators see x beside the picture.

    Examples have "input" x (B, C, H, W) and "target" y (B, C', H, W), and may have "taught", G_T(x).

    Args:
        channels: (C, C').
        config: see TranslationConfig.
        seed: of the first weights.
        teacher: a PairedTranslation that has learned; None for pix2pix itself.
    """

    teacher: PairedTranslation | None

    def __init__(
        self,
        channels: tuple[int, int],
        config: TranslationConfig,
        seed: int,
        teacher: PairedTranslation | None = None,
    ) -> None:
        super().__init__(config, teacher)
        self.generator = Translator(*channels, config.generator, derive_seed(seed, "generator"))
        self.discriminator = PatchDiscriminator(sum(channels), config.discriminator, derive_seed(seed, "discriminator"))

    def turns(self) -> tuple[Turn, ...]:
        """Return what fit alternates: the discriminator, where there is one to teach, then the generator."""
        names = ("discriminator", "generator")[not self.judged :]
        losses = {"discriminator": _judge, "generator": _make}
        return tuple(
            Turn(name=name, loss=losses[name], parameters=(f"{name}.*",), optimizer=self.config.optimizer)
            for name in names
        )


def _judge(module: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    assert isinstance(module, PairedTranslation)
    source = batch["input"]
    taught = taught_by(module.teacher and module.teacher.generator, source, batch.get("taught"))
    with torch.no_grad():
        made = beside(source, module.generator(source))
    taught = None if taught is None else beside(source, taught)
    return module.judge_losses(module.discriminator, beside(source, batch["target"]), made, made, taught)


def _make(module: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    assert isinstance(module, PairedTranslation)
    source, teacher = batch["input"], module.teacher
    made = module.generator(source)
    taught = taught_by(teacher and teacher.generator, source, batch.get("taught"))
    found = module.make_losses(module.discriminator, teacher and teacher.discriminator, made, taught, source)
    if teacher is None and module.config.truth:
        found["truth"] = pixel_loss(made, batch["target"])
        found["loss"] = found["loss"] + module.config.truth * found["truth"]
    return found


def beside(condition: Tensor | None, pictures: Tensor) -> Tensor:
    """Return what a discriminator sees: pictures, behind the channels of what they were made from."""
    return pictures if condition is None else torch.cat((condition, pictures), dim=1)


@torch.no_grad()
def taught_by(teacher: nn.Module | None, pictures: Tensor, kept: Tensor | None) -> Tensor | None:
    """Return what a teacher makes of pictures: kept ones where there are, None without a teacher."""
    if teacher is None:
        return None
    return teacher(pictures) if kept is None else kept


@torch.no_grad()
def with_taught(source: Source, teacher: nn.Module, name: str = "input", *, at_once: int = 64) -> Arrays:
    """Return a source's examples with what a teacher makes of each, "taught", computed once and kept.

    Examples never change (rlsuite/data/source.py), so this is what the teacher would make of them each time.

    Args:
        source: examples.
        teacher: a generator, on the device of the examples.
        name: of what it takes.
        at_once: examples of a pass.
    """
    mode = teacher.training
    teacher.eval()
    parts: list[Mapping[str, Tensor]] = []
    for index in torch.arange(len(source)).split(at_once):
        examples = source.examples(index)
        parts.append({**examples, "taught": teacher(examples[name])})
    teacher.train(mode)
    return Arrays({key: torch.cat([part[key] for part in parts]) for key in parts[0]})
