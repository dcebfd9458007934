"""GRED: notice attacked inputs by the gradient they cause, and move them back (Li et al. 2020, arXiv:2002.12527).

The classifier stays as it is; what it learns is the guard in front of it (`guard.py`, `sensitivity.py`). The detector
"threshold" needs clean inputs alone: suspicious is what lies above a quantile of their gradients' norms. "learned" is
the complementary one, a logistic regression over the gradient's distribution and the pixels, from clean inputs and ones
that DeepFool, PGD in Euclidean balls, FGSM and PGD bounded entry by entry have changed so that they are told wrong; its
threshold is the same quantile over other clean inputs. The paper's own detector and its numbers are not known.

A threshold needs inputs that the classifier has not learned from: it is surer of those that it has, so their quantile
lies too low and more of the others are flagged than was asked. They are the task's validation examples
(`ClassifierTask(..., validation=)`); a task without any lends training inputs, and the share flagged is then larger.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from envs.evaluation.attacks.deepfool import DeepFool
from envs.evaluation.attacks.euclidean import climb
from envs.evaluation.attacks.gradient import FGSM, PGD, PGDConfig
from envs.evaluation.defences.guard import DETECTORS, REPAIRS, Guarded
from envs.evaluation.defences.sensitivity import FLAT, features, sensitivity
from envs.evaluation.subject import Subject
from envs.evaluation.tasks import Task
from envs.evaluation.transform import TeachConfig, Transform
from rlsuite.data.arrays import Arrays
from rlsuite.data.source import Source
from rlsuite.errors import UserError, require, require_choice, require_finite
from rlsuite.fit import FitConfig, fit
from rlsuite.nn.vision.doors import FromBytes
from rlsuite.running.seeding import derive_seed

BOX = (0.0, 1.0)
AT_ONCE = 256


@dataclass(frozen=True, kw_only=True)
class GREDConfig:
    """GRED's numbers.

    Attributes:
        detector: "learned" or "threshold".
        repair: "walk" (along the gradient) or "learned" (a U-Net, which `teach` teaches).
        steps: of the walk at most.
        step: its length; 0 for 0.006 times the root of how many numbers an input has.
        false_positives: share of clean inputs that are flagged.
        clean: inputs that stay clean, at most; half of them, for training, the detector learns from, half set its
            threshold: the task's validation inputs, or training inputs where it has none, which flags more.
        attacked: training inputs for each attack.
        l2_eps: lengths of PGD's Euclidean changes that the detector learns from.
        linf_eps: sizes of FGSM's and PGD's changes of every entry.
        penalty: of the logistic regression's squared weights.
        closeness: weight of the learned repair's squared distance from the clean picture, beside the loss.
        width: channels of its U-Net at full resolution.
        teach: how the learned repair learns; the classifier does not.
        seed: of its first weights.
    """

    detector: str = "learned"
    repair: str = "walk"
    steps: int = 40
    step: float = 0.0
    false_positives: float = 0.05
    clean: int = 2000
    attacked: int = 500
    l2_eps: tuple[float, ...] = (1.0, 2.0)
    linf_eps: tuple[float, ...] = (0.1, 0.2)
    penalty: float = 0.01
    closeness: float = 0.1
    width: int = 16
    teach: TeachConfig = field(default_factory=lambda: TeachConfig(fit=FitConfig(steps=1000, batch_size=128), rounds=1))
    seed: int = 0

    def __post_init__(self) -> None:
        require_choice("detector", self.detector, DETECTORS)
        require_choice("repair", self.repair, REPAIRS)
        require(self.steps >= 0, f"steps={self.steps}: use 0 (no walk) or more")
        require_finite("step", self.step, low=0.0)
        require(0.0 < self.false_positives < 1.0, f"false_positives={self.false_positives}: use a share, such as 0.05")
        for name in ("clean", "attacked"):
            require(getattr(self, name) >= 2, f"{name}={getattr(self, name)}: use 2 or more")
        require(self.width >= 1, f"width={self.width}: use 1 or more")
        for name in ("l2_eps", "linf_eps"):
            good = all(eps > 0.0 for eps in getattr(self, name))
            require(good, f"{name}={list(getattr(self, name))}: use sizes above 0")
        require_finite("penalty", self.penalty, above=0.0)
        require_finite("closeness", self.closeness, low=0.0)


class GRED(Transform):
    """A guard in front of a classifier of pictures."""

    Config = GREDConfig
    refuses: ClassVar[Mapping[str, str]] = {
        "policy": "it acts by numbers, not by classes; GRED guards classifiers of pictures",
        "guarded": "one guard is enough",
    }
    gives: ClassVar[frozenset[str]] = frozenset({"guarded"})

    config: GREDConfig

    def examine(self, subject: Subject) -> None:
        """Raise UserError unless the network tells classes of pictures apart."""
        output = subject.output()
        if subject.example.dim() != 4 or output.dim() != 2 or output.shape[1] < 2:
            raise UserError("defences/gred: it tells no classes of pictures apart; GRED guards networks that do")
        if "label" not in subject.task.source("train").examples(torch.arange(1)):
            raise UserError("defences/gred: its task has no labels, which attacks are learned from")

    def plan(self, subject: Subject) -> dict[str, int]:
        """Return how many channels pictures have."""
        self.examine(subject)
        return {"channels": int(subject.example.shape[1])}

    def rebuild(self, module: nn.Module, plan: Any) -> nn.Module:
        """Return the network behind a guard that has not learned yet."""
        channels = plan.get("channels") if isinstance(plan, dict) else None
        if type(channels) is not int or not 1 <= channels <= 4096:
            raise UserError("its plan is damaged: it does not say how many channels pictures have")
        config = self.config
        return Guarded(
            module,
            detector=config.detector,
            repair=config.repair,
            steps=config.steps,
            step=config.step,
            channels=channels,
            width=config.width,
            seed=config.seed,
        )

    def train(self, subject: Subject, before: Subject, seed: int) -> None:
        """Let the guard learn; the classifier's weights stay."""
        guard = subject.module
        assert isinstance(guard, Guarded)
        guard.eval()
        mixture = attack_mixture(before, self.config, seed)
        teach_detector(guard, mixture, self.config)
        if self.config.repair == "learned":
            teach_rectifier(guard, mixture, self.config, seed)


class Mixture(NamedTuple):
    """What a guard learns from.

    Attributes:
        clean: (M, channels, H, W) in [0, 1], what the detector learns from.
        held: (K, channels, H, W) in [0, 1], clean as well, what sets its threshold.
        attacked: (N, channels, H, W), those that are told wrong.
        originals: (N, channels, H, W), what they were.
        labels: (N,) their true classes.
    """

    clean: Tensor
    held: Tensor
    attacked: Tensor
    originals: Tensor
    labels: Tensor


def attack_mixture(subject: Subject, config: GREDConfig, seed: int) -> Mixture:
    """Return training inputs, clean and attacked by all that the config names, drawn without repetition for each.

    Raises:
        UserError: if no attack made the network err.
    """
    source, module, door = subject.task.source("train"), subject.module, FromBytes()
    device = next(module.parameters()).device
    generator = torch.Generator().manual_seed(derive_seed(seed, "gred"))
    attacks = {
        "deepfool": lambda x, label, objective: DeepFool().least(module, x, label, BOX),
        **{f"l2 {eps:g}": functools.partial(_euclidean, eps=eps, generator=generator) for eps in config.l2_eps},
        **{
            f"{kind} {eps:g}": functools.partial(_bounded, kind=kind, eps=eps, generator=generator)
            for kind in ("fgsm", "pgd")
            for eps in config.linf_eps
        },
    }
    order = torch.randperm(len(source), generator=generator)[: config.clean]
    half = max(1, len(order) // 2)
    clean = door(source.examples(order[:half])["input"].to(device))
    held = door(_held_out(subject.task, config.clean - config.clean // 2, order[half:], seed)["input"].to(device))
    changed: list[Tensor] = []
    originals: list[Tensor] = []
    labels: list[Tensor] = []
    for attack in attacks.values():
        chosen = torch.randperm(len(source), generator=generator)[: config.attacked]
        for index in chosen.split(AT_ONCE):
            batch = source.examples(index)
            x, label = door(batch["input"].to(device)), batch["label"].to(device)

            def objective(at: Tensor, label: Tensor = label) -> Tensor:
                return functional.cross_entropy(module(at), label, reduction="none")

            found = attack(x, label, objective).detach()
            with torch.no_grad():
                moved = (module(x).argmax(1) == label) & (module(found).argmax(1) != label)
            changed.append(found[moved])
            originals.append(x[moved])
            labels.append(label[moved])
    made = Mixture(clean, held, torch.cat(changed), torch.cat(originals), torch.cat(labels))
    if not len(made.attacked):
        raise UserError("defences/gred: no attack made the network err; raise gred.linf_eps or gred.l2_eps")
    return made


@torch.no_grad()
def teach_detector(guard: Guarded, mixture: Mixture, config: GREDConfig) -> None:
    """Set the statistics, weights and threshold of a guard's detector."""
    norms = _in_parts(functools.partial(sensitivity, guard.network), mixture.clean)
    guard.centre.copy_(norms.clamp_min(FLAT).log().median())
    if config.detector == "learned":
        look = functools.partial(features, guard.network, centre=guard.centre)
        clean, attacked = (_in_parts(look, part) for part in (mixture.clean, mixture.attacked))
        positive = torch.arange(len(clean) + len(attacked), device=clean.device) >= len(clean)
        guard.logistic.learn(torch.cat([clean, attacked]), positive, config.penalty)
    scores = _in_parts(guard.suspicion, mixture.held)
    guard.threshold.copy_(scores.quantile(1.0 - config.false_positives))


def teach_rectifier(guard: Guarded, mixture: Mixture, config: GREDConfig, seed: int) -> None:
    """Let the learned repair learn from attacked inputs; the classifier's own weights do not move."""
    rows = {"input": mixture.attacked, "original": mixture.originals, "label": mixture.labels}
    source = Arrays({name: value.cpu() for name, value in rows.items()})
    network = guard.network
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    network.requires_grad_(False)

    def loss(rectifier: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        made = guard.rectified(batch["input"])
        error = functional.cross_entropy(network(made), batch["label"])
        away = functional.mse_loss(made, batch["original"])
        return {"loss": error + config.closeness * away, "away": away}

    fit(guard.rectifier, loss, source, config.teach.fit, seed=derive_seed(seed, "rectifier"))
    for parameter in learning:
        parameter.requires_grad_(True)
    guard.eval()


def _held_out(task: Task, count: int, otherwise: Tensor, seed: int) -> dict[str, Tensor]:
    """Return examples that set a threshold: `count` for validation at most, or training ones at an index."""
    validation: Source | None = getattr(task, "validation", None)
    if validation is None:
        return task.source("train").examples(otherwise)
    generator = torch.Generator().manual_seed(derive_seed(seed, "gred validation"))
    return validation.examples(torch.randperm(len(validation), generator=generator)[:count])


def _euclidean(x: Tensor, label: Tensor, objective: Any, *, eps: float, generator: torch.Generator) -> Tensor:
    return climb(objective, x, BOX, eps, generator)


def _bounded(x: Tensor, label: Tensor, objective: Any, *, kind: str, eps: float, generator: torch.Generator) -> Tensor:
    attack = FGSM() if kind == "fgsm" else PGD(config=PGDConfig(steps=20, step_share=0.125))
    return attack.perturb(objective, x, BOX, eps, generator)


def _in_parts(measure: Any, inputs: Tensor) -> Tensor:
    return torch.cat([measure(part).detach() for part in inputs.split(AT_ONCE)])
