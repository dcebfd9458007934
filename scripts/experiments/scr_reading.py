"""What a reader of characters withstands: noise, attacks that do not know of it, and attacks that do.

Used by the scr experiment (scripts/experiments/scr.py). An attack is oblivious if it was made on the plain reader, and
what it made is then shown to all; adaptive if it was made through the very module it is shown to.

Shapes: B pictures, W side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from agents.stroke_recognizer.recognizer import WAYS
from agents.stroke_recognizer.teaching import TeachingConfig, accuracy, teach_readers
from agents.stroke_recognizer.weights import Readers, load_readers, save_readers
from envs.characters.examples import NoisyGlyphs
from envs.evaluation.attacks.attack import Attack, Objective
from envs.evaluation.attacks.carlini import CW2, CW2Config
from envs.evaluation.attacks.deepfool import DeepFool, DeepFoolConfig
from envs.evaluation.attacks.gradient import FGSM, PGD, PGDConfig
from envs.evaluation.defences.squeezing import BitDepth, MedianFilter
from rlsuite.errors import require, require_finite
from rlsuite.running.seeding import derive_seed

BOX = (0.0, 1.0)
WEIGHTS = "reader.safetensors"  # in its job's folder


@dataclass(frozen=True, kw_only=True)
class AttackNumbers:
    """How readers are attacked.

    Attributes:
        fgsm_eps: of FGSM.
        pgd_steps: of PGD.
        pgd_eps: of PGD through each way of reading; the last is the one that no defence should survive.
        pictures: attacked by PGD, and by DeepFool through strokes.
        tested: test pictures otherwise, at most.
        cw2_steps: of Adam for each constant.
        cw2_pictures: attacked by CW-2.
        cw2_through: of these by CW-2 through strokes, at most.
    """

    fgsm_eps: float = 0.2
    pgd_steps: int = 50
    pgd_eps: tuple[float, ...] = (0.1, 0.2, 0.5)
    pictures: int = 64
    tested: int = 359
    cw2_steps: int = 50
    cw2_pictures: int = 64
    cw2_through: int = 64

    def __post_init__(self) -> None:
        for name in ("pgd_steps", "pictures", "tested", "cw2_steps", "cw2_pictures", "cw2_through"):
            require(getattr(self, name) >= 1, f"attacks.{name}={getattr(self, name)}: use 1 or more")
        require_finite("attacks.fgsm_eps", self.fgsm_eps, low=0.0)
        require(bool(self.pgd_eps), "attacks.pgd_eps=[]: name one or more, such as [0.2,0.5]")
        for eps in self.pgd_eps:
            require_finite("attacks.pgd_eps", eps, low=0.0)


def measure(
    arm: str, seed: int, folder: Path, *, teaching: TeachingConfig, attacks: AttackNumbers, noises: tuple[str, ...]
) -> dict[str, Any]:
    """Teach readers and find what they withstand.

    Returns:
        "noise": noise -> way -> accuracy; "oblivious" and "adaptive": attack -> way -> accuracy; "norms": attack ->
        way -> median Euclidean size of the least changes.
    """
    if (folder / WEIGHTS).exists():
        readers = load_readers(folder / WEIGHTS)
    else:
        readers = teach_readers(replace(teaching, seed=seed), folder / "extractor")
        save_readers(readers, folder / WEIGHTS, {"seed": seed})
    return withstands(readers, teaching, attacks, noises, seed)


def ways_of(readers: Readers) -> dict[str, nn.Module]:
    """Return modules from pictures (B, 1, W, W) to scores, by name: the plain reader, behind filters, and ours."""
    plain = readers.plain()
    return {
        "raw": plain,
        "bits": nn.Sequential(BitDepth(1), plain),
        "median": nn.Sequential(MedianFilter(3), plain),
        **{way: readers.reader(way) for way in WAYS},
    }


def withstands(
    readers: Readers, teaching: TeachingConfig, attacks: AttackNumbers, noises: tuple[str, ...], seed: int
) -> dict[str, Any]:
    """Return what `measure` does, of readers that are taught."""
    glyphs, ways = teaching.glyphs("test"), ways_of(readers)
    found: dict[str, Any] = {"noise": {}, "oblivious": {}, "adaptive": {}, "norms": {}}
    for noise in noises:
        source = NoisyGlyphs(glyphs, (noise,), derive_seed(seed, "test noise"))
        batch = source.examples(spread(len(source), attacks.tested))
        found["noise"][noise] = accuracies(ways, batch["input"], batch["label"])
    chosen = spread(len(glyphs.label), attacks.tested)
    x, label = glyphs.picture[chosen].float() / 255.0, glyphs.label[chosen]
    chosen = spread(len(x), attacks.pictures)
    few, few_label = x[chosen], label[chosen]

    # Oblivious: made on the plain reader.
    raw = ways["raw"]
    changed = attacked(FGSM(), raw, x, label, attacks.fgsm_eps, seed)
    found["oblivious"]["fgsm"] = accuracies(ways, changed, label)
    changed = DeepFool().least(raw, x, label, BOX)
    found["oblivious"]["deepfool"] = accuracies(ways, changed, label)
    found["norms"]["deepfool"] = {"raw": norm(changed - x)}
    chosen = spread(len(x), attacks.cw2_pictures)
    own, own_label = x[chosen], label[chosen]
    cw2 = CW2(config=CW2Config(steps=attacks.cw2_steps))
    changed = cw2.least(raw, own, own_label, BOX)
    found["oblivious"]["cw2"] = accuracies(ways, changed, own_label)
    found["norms"]["cw2"] = {"raw": norm(changed - own)}
    pgd = PGD(config=PGDConfig(steps=attacks.pgd_steps))
    for eps in attacks.pgd_eps:
        changed = attacked(pgd, raw, few, few_label, eps, seed)
        found["oblivious"][f"pgd {eps:g}"] = accuracies(ways, changed, few_label)

    # Adaptive: made through the module it is shown to.
    through = {name: way for name, way in ways.items() if name != "raw"}
    found["adaptive"]["fgsm"] = {
        name: accuracy(way, attacked(FGSM(), way, x, label, attacks.fgsm_eps, seed), label)
        for name, way in through.items()
    }
    for eps in attacks.pgd_eps:
        found["adaptive"][f"pgd {eps:g}"] = {
            name: accuracy(through[name], attacked(pgd, through[name], few, few_label, eps, seed), few_label)
            for name in ("median", *WAYS)
        }
    deepfool = DeepFool(config=DeepFoolConfig(steps=10))
    changed = deepfool.least(ways["redraw"], few, few_label, BOX)
    found["adaptive"]["deepfool"] = {"redraw": accuracy(ways["redraw"], changed, few_label)}
    found["norms"]["deepfool"]["redraw"] = norm(changed - few)
    chosen = spread(len(own), attacks.cw2_through)
    own, own_label = own[chosen], own_label[chosen]
    changed = cw2.least(ways["redraw"], own, own_label, BOX)
    found["adaptive"]["cw2"] = {"redraw": accuracy(ways["redraw"], changed, own_label)}
    found["norms"]["cw2"]["redraw"] = norm(changed - own)
    return found


def spread(count: int, most: int) -> Tensor:
    """Return so many places of `count`, or all, evenly: data sets may be sorted by class."""
    number = min(count, most)
    return torch.arange(number) * count // number


def attacked(attack: Attack, module: nn.Module, x: Tensor, label: Tensor, eps: float, seed: int) -> Tensor:
    """Return pictures changed so that a module's cross-entropy rises, 128 of them at a time."""
    generator = torch.Generator().manual_seed(derive_seed(seed, f"{type(attack).__name__} {eps:g}"))
    parts = []
    for part, own in zip(x.split(128), label.split(128), strict=True):
        parts.append(attack.perturb(_cross_entropy(module, own), part, BOX, eps, generator))
    return torch.cat(parts)


def _cross_entropy(module: nn.Module, label: Tensor) -> Objective:
    return lambda changed: functional.cross_entropy(module(changed), label, reduction="none")


def accuracies(ways: Mapping[str, nn.Module], pictures: Tensor, label: Tensor) -> dict[str, float]:
    """Return what share of pictures each way reads right."""
    return {name: accuracy(way, pictures, label) for name, way in ways.items()}


def norm(change: Tensor) -> float:
    """Return the median Euclidean norm of changes (B, ...)."""
    return float(change.flatten(1).norm(dim=1).median())
