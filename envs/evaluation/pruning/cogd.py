"""Pruning by soft masks that CoGD keeps in step with their filters (Zhuo et al. 2020, arXiv:2006.09142, section 3).

A mask and its filter are multiplied, and the mask is drawn to zero: once it is there the filter learns nothing more. So
after every step of the masks, one that is small while its filter is not goes back towards what it was
(`rlsuite.optim.cogradient`); the rest is structure learning as in GAL (`soft_mask.py`). Channels whose mask is zero are
cut, or of every layer a share with the smallest masks, and the network learns on.

The paper says of the coupling sum_i g_i dA_ij / dx_j; of a mask and its filter W_j that is <dG / dW_j, dW_j> / m_j,
over the differences of masks. Our own, since the authors' code of pruning was not released: thresholds are shares of a
layer's means, and beta is the coupled one cut to [0, 0.1].
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from envs.evaluation.pruning.criteria import weight_norms
from envs.evaluation.pruning.graph import Coupling, Group, couple
from envs.evaluation.pruning.pruner import Pruner, PruningConfig
from envs.evaluation.pruning.shrink import LEAST, shrink
from envs.evaluation.pruning.soft_mask import STARTS, Student
from envs.evaluation.subject import Subject
from envs.evaluation.transform import TeachConfig, teach
from rlsuite.data.minibatches import minibatch
from rlsuite.errors import require, require_choice, require_finite
from rlsuite.fit import FitConfig, Turn
from rlsuite.optim.choice import OptimizerConfig, ScheduleConfig
from rlsuite.optim.cogradient import Cogradient, CogradientConfig
from rlsuite.optim.proximal import Fista
from rlsuite.running.seeding import derive_seed


@dataclass(frozen=True, kw_only=True)
class CoGDConfig(PruningConfig):
    """CoGD's numbers, beside those of all methods of pruning; `teach` is the learning behind the cut.

    Attributes:
        choose: "zeros" (channels go whose mask has become zero, all but two; `ratio` 0 still leaves a layer whole) or
            "share" (of every layer the share `ratio`, with the smallest masks).
        start: of the masks: "normal" (as in the code of the paper's base method) or "ones"; see soft_mask.py.
        sparsity: weight of the masks' l1 norm.
        imitation: weight of the squared difference from the teacher's outputs, beside the adversarial loss.
        mask_rate: learning rate of the masks.
        mask_every: minibatches between two steps of them.
        accelerate: FISTA; false leaves its extrapolation out.
        cogradient: when and how far masks are sent back; kind "off" is the base method.
        learn: how weights learn beside the masks. Its schedule also scales the masks' rate. Gradients are clipped (our
            own): random masks make large ones, of which networks without normalization die.
        seed: of minibatches and of the discriminator.
    """

    choose: str = "zeros"
    start: str = "normal"
    sparsity: float = 0.6
    imitation: float = 1.0
    mask_rate: float = 0.01
    mask_every: int = 200
    accelerate: bool = True
    cogradient: CogradientConfig = field(default_factory=CogradientConfig)
    learn: TeachConfig = field(
        default_factory=lambda: TeachConfig(
            fit=FitConfig(
                steps=20_000,
                batch_size=128,
                clip_norm=1.0,
                optimizer=OptimizerConfig(name="sgd", learning_rate=0.01, momentum=0.9, weight_decay=2e-4),
                schedule=ScheduleConfig(kind="step", milestones=(6000, 12_000, 18_000), factors=(0.1, 0.01, 0.001)),
            ),
            rounds=1,
        )
    )
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.schedule == "together", f"schedule={self.schedule}: masks learn together; use together")
        require_choice("choose", self.choose, ("zeros", "share"))
        require_choice("start", self.start, STARTS)
        for name in ("sparsity", "imitation"):
            require_finite(name, getattr(self, name), low=0.0)
        require_finite("mask_rate", self.mask_rate, above=0.0)
        require(self.mask_every >= 1, f"mask_every={self.mask_every}: use 1 or more")
        require(self.seed >= 0, f"seed={self.seed}: use 0 or more")


class CoGD(Pruner):
    """Channels by masks that have learned which are wanted."""

    Config = CoGDConfig

    config: CoGDConfig
    learned: Mapping[str, Tensor]  # the whole network after it has learned with masks, which are in its weights
    said: Mapping[str, float]

    def scores(self, subject: Subject, coupling: Coupling, groups: Mapping[str, Group]) -> Mapping[str, list[Tensor]]:
        """Let masks learn, and return them; the filters' weights decide ties."""
        module = subject.copy()
        self.learned, self.said = module.state_dict(), {"zero_masks": 0.0, "sent_back": 0.0}
        if not groups:
            return {}
        outputs, seed = subject.output().numel(), derive_seed(self.config.seed, "student")
        student = Student(module, coupling, groups, outputs, self.config.start, seed)
        steps = MaskSteps(student, subject, self.config)
        self._learn(subject, student, steps)
        masks = [mask.detach().double().cpu() for mask in student.masks]
        network = student.fold()
        self.learned = {name: value.clone() for name, value in network.state_dict().items()}
        zeros = sum(int((mask == 0).sum()) for mask in masks)
        self.said = {"zero_masks": float(zeros), "sent_back": steps.sent_back()}
        return {
            name: [mask, weight_norms(network, group)]
            for mask, (name, group) in zip(masks, groups.items(), strict=True)
        }

    def plan(self, subject: Subject) -> dict[str, Any]:
        """Return what stays; "zero_masks" of all channels, and "sent_back", the share of masks that went back."""
        return {**super().plan(subject), **self.said}

    def keep(self, scores: list[Tensor], ratio: float) -> list[int]:
        """Return the channels of a group that stay, rising."""
        if self.config.choose == "share":
            return super().keep(scores, ratio)
        masks = scores[0]
        wanted = max(min(LEAST, len(masks)), int((masks > 0).sum()))
        order = sorted(range(len(masks)), key=lambda channel: (-float(masks[channel]), -float(scores[1][channel])))
        return sorted(order[:wanted])

    def train(self, subject: Subject, before: Subject, seed: int) -> None:
        """Take the weights that have learned beside the masks, cut them, and let them learn their task."""
        whole = before.copy()
        whole.load_state_dict(self.learned)
        subject.module.load_state_dict(shrink(whole, couple(whole), self.kept).state_dict())
        teach(subject, self.config.teach, seed)

    def _learn(self, subject: Subject, student: Student, steps: MaskSteps) -> None:
        config, teacher = self.config, subject.module

        @torch.no_grad()
        def wanted(batch: Mapping[str, Tensor]) -> Tensor:
            return teacher(batch["input"])

        turns = [
            Turn(
                name="discriminator",
                loss=lambda module, batch: student.discriminator_loss(batch["input"], wanted(batch)),
                parameters=("discriminator.*",),
                optimizer=config.learn.fit.optimizer,
            ),
            Turn(
                name="student",
                loss=lambda module, batch: student.imitation_loss(batch["input"], wanted(batch), config.imitation),
                parameters=("network.*",),
                optimizer=config.learn.fit.optimizer,
            ),
        ]
        seed = derive_seed(config.seed, "masks")
        teach(replace(subject, module=student), config.learn, seed, hooks=[steps], losses=turns)


class MaskSteps:
    """A hook of the fit: every so many minibatches the masks go a step, and CoGD looks at them."""

    def __init__(self, student: Student, subject: Subject, config: CoGDConfig) -> None:
        self.student, self.teacher, self.config = student, subject.module, config
        self.source = subject.task.source("train")
        self.optimizers = [
            Fista(config.sparsity, nonnegative=True, accelerate=config.accelerate) for _ in student.names
        ]
        self.cogradients = [Cogradient(config.cogradient) for _ in student.names]
        self.factor, self.done = 1.0, 0

    def sent_back(self) -> float:
        """Return the share of masks, over all steps, that were sent back."""
        asked = sum(each.asked for each in self.cogradients)
        return float(sum(float(each.fired) for each in self.cogradients)) / max(1, asked)

    def __call__(self, step: int, share: float) -> None:
        """Go a step where one is due; each minibatch at most once, since a round's end is the next one's beginning."""
        if step % self.config.mask_every or step <= self.done:
            return
        self.done = step
        fit = self.config.learn.fit
        steps = fit.steps * self.config.learn.rounds
        factor = fit.schedule.factor(min(int(share * steps), steps - 1), steps)
        if fit.schedule.kind == "step" and factor != self.factor:
            for optimizer in self.optimizers:
                optimizer.restart()
        self.factor = factor
        rate = self.config.mask_rate * factor
        masks = list(self.student.masks)
        makers = [self.student.makers(name) for name in self.student.names]
        gradients = self._gradients(masks, [weight for several in makers for weight in several], step)
        of_masks, of_makers = gradients[: len(masks)], list(gradients[len(masks) :])
        for mask, gradient, weights, optimizer, back in zip(
            masks, of_masks, makers, self.optimizers, self.cogradients, strict=True
        ):
            own, of_makers = of_makers[: len(weights)], of_makers[len(weights) :]
            old = mask.detach().clone()
            dense = torch.cat([weight.detach().flatten(1) for weight in weights], 1)
            pull = functools.partial(_pull, torch.cat([one.flatten(1) for one in own], 1), old)
            new = back.after(optimizer.step(old, gradient, rate), old, dense, dense.abs().sum(1), pull, rate)
            with torch.no_grad():
                mask.copy_(new)

    def _gradients(self, masks: list[nn.Parameter], weights: list[nn.Parameter], step: int) -> tuple[Tensor, ...]:
        """Return the student's gradients with respect to masks and to the filters behind them."""
        fit, device = self.config.learn.fit, masks[0].device
        seed = derive_seed(self.config.seed, "mask minibatches")
        index = minibatch(seed, step, len(self.source), fit.batch_size, fit.order)
        inputs = self.source.examples(index)["input"].to(device)
        with torch.no_grad():
            wanted = self.teacher(inputs)
        loss = self.student.imitation_loss(inputs, wanted, self.config.imitation)["loss"]
        return torch.autograd.grad(loss, [*masks, *weights])


def _pull(gradient: Tensor, mask: Tensor, step: Tensor) -> Tensor:
    """Return sum_i g_i dA_ij (C,) of each mask, where dG / dA (C, ...) is g times the mask."""
    alive = mask > 0
    return torch.where(alive, (gradient * step).sum(1) / torch.where(alive, mask, 1.0), 0.0)
