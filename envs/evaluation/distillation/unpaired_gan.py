"""CycleGAN, and narrow students of it: both directions at once, examples of two domains that do not belong together.

The unpaired part of arXiv:2003.03519 over CycleGAN (Zhu et al. 2017, arXiv:1703.10593): each student generator learns
from its teacher by pixels and through the teacher's discriminator, and the cycle loss stays; each student discriminator
takes its domain's teacher pictures as real. The paper does not say what anchors the triplets where no y belongs to x:
here it is a real picture of the domain, of the same minibatch. CycleGAN's identity loss, which its authors use for
paintings alone, is left out.

Shapes: B batch, C channels, H and W sides of a picture. Pictures are in [-1, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from envs.evaluation.distillation.gan_losses import pixel_loss
from envs.evaluation.distillation.portable_gan import Translation, TranslationConfig, taught_by
from rlsuite.data.source import Source
from rlsuite.fit import Turn
from rlsuite.generative.picture_pool import PicturePool
from rlsuite.generative.translators import PatchDiscriminator, Translator
from rlsuite.running.seeding import derive_seed

DIRECTIONS = (("a", "b"), ("b", "a"))


class Unpaired:
    """All pairs of an example of one source and one of another: with order="random" both are drawn by themselves.

    Args:
        first: examples with "input", domain a, and "taught" where a teacher's pictures of them are kept.
        second: of domain b.
    """

    def __init__(self, first: Source, second: Source) -> None:
        self.sources = {"a": first, "b": second}

    def __len__(self) -> int:
        return len(self.sources["a"]) * len(self.sources["b"])

    def examples(self, index: Tensor) -> dict[str, Tensor]:
        """Return "a" and "b" (B, C, H, W) each, and "taught_b" (of a) and "taught_a" (of b) where they are kept."""
        count, found = len(self.sources["b"]), {}
        places = {"a": torch.div(index, count, rounding_mode="floor"), "b": index % count}
        for domain, other in DIRECTIONS:
            examples = self.sources[domain].examples(places[domain])
            found[domain] = examples["input"]
            if "taught" in examples:
                found[f"taught_{other}"] = examples["taught"]
        return found


class UnpairedTranslation(Translation):
    """CycleGAN, or a student of one; `generators["b"]` makes pictures of domain b.

    Args:
        shapes: (C, H, W) of pictures of a and of b.
        config: see TranslationConfig; CycleGAN's is kind="lsgan", norm="instance", pool=50, cycle=10.
        seed: of the first weights.
        teacher: an UnpairedTranslation that has learned; None for CycleGAN itself.
    """

    teacher: UnpairedTranslation | None

    def __init__(
        self,
        shapes: tuple[tuple[int, int, int], tuple[int, int, int]],
        config: TranslationConfig,
        seed: int,
        teacher: UnpairedTranslation | None = None,
    ) -> None:
        super().__init__(config, teacher)
        of_a, of_b = shapes
        shape: dict[str, tuple[int, int, int]] = {"a": of_a, "b": of_b}
        self.generators = nn.ModuleDict(
            {
                to: Translator(shape[of][0], shape[to][0], config.generator, derive_seed(seed, f"generator {to}"))
                for of, to in DIRECTIONS
            }
        )
        self.discriminators = nn.ModuleDict(
            {
                to: PatchDiscriminator(shape[to][0], config.discriminator, derive_seed(seed, f"discriminator {to}"))
                for _, to in DIRECTIONS
            }
        )
        self.pools = nn.ModuleDict({to: PicturePool(shape[to], config.pool) for _, to in DIRECTIONS})

    def turns(self) -> tuple[Turn, ...]:
        """Return what fit alternates: both discriminators, where they are taught, then both generators."""
        judge = Turn(
            name="discriminators", loss=_judge, parameters=("discriminators.*",), optimizer=self.config.optimizer
        )
        make = Turn(name="generators", loss=_make, parameters=("generators.*",), optimizer=self.config.optimizer)
        return (judge, make) if self.judged else (make,)

    def taught(self, batch: dict[str, Tensor], of: str, to: str) -> Tensor | None:
        """Return the teacher's pictures of domain `to` for a batch; None without a teacher."""
        teacher = self.teacher and self.teacher.generators[to]
        return taught_by(teacher, batch[of], batch.get(f"taught_{to}"))


def _judge(module: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    assert isinstance(module, UnpairedTranslation)
    found = {}
    for of, to in DIRECTIONS:
        judge, pool = module.discriminators[to], module.pools[to]
        assert isinstance(judge, PatchDiscriminator)
        assert isinstance(pool, PicturePool)
        with torch.no_grad():
            made = module.generators[to](batch[of])
        found[to] = module.judge_losses(judge, batch[to], made, pool.exchange(made), module.taught(batch, of, to))
    return _together(found)


def _make(module: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    assert isinstance(module, UnpairedTranslation)
    found = {}
    for of, to in DIRECTIONS:
        made = module.generators[to](batch[of])
        judge, teacher_judge = (pair and pair.discriminators[to] for pair in (module, module.teacher))
        assert isinstance(judge, PatchDiscriminator)
        assert isinstance(teacher_judge, PatchDiscriminator | None)
        found[to] = module.make_losses(judge, teacher_judge, made, module.taught(batch, of, to))
        found[to]["cycle"] = pixel_loss(module.generators[of](made), batch[of])
        found[to]["loss"] = found[to]["loss"] + module.config.cycle * found[to]["cycle"]
    return _together(found)


def _together(found: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the losses of both directions by names of their own, and their sum."""
    parts = {f"{name} {to}": value for to, losses in found.items() for name, value in losses.items() if name != "loss"}
    return {"loss": torch.stack([losses["loss"] for losses in found.values()]).sum(), **parts}
