"""Which optimizer, with which numbers for which weights, and how its learning rate changes over a training."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from rlsuite.errors import require, require_choice, require_finite
from rlsuite.optim.mixing import MixingConfig, mix_steps

OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop")
SCHEDULES = ("constant", "cosine", "linear", "step", "inverse_sqrt")


@dataclass(frozen=True, kw_only=True)
class GroupConfig:
    """Weights that have numbers of their own.

    Attributes:
        names: patterns of parameter names, such as *.bias; a weight belongs to the first group that names it.
        learning_rate: theirs; null for the optimizer's.
        weight_decay: theirs; null for the optimizer's.
    """

    names: tuple[str, ...]
    learning_rate: float | None = None
    weight_decay: float | None = None

    def __post_init__(self) -> None:
        require(bool(self.names), "names=[]: name the weights of the group, such as *.bias")
        for name in ("learning_rate", "weight_decay"):
            if (value := getattr(self, name)) is not None:
                require_finite(name, value, low=0.0)


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """The optimizer.

    Attributes:
        name: "sgd", "adam" (weight_decay is then a part of the gradient), "adamw" (and here apart from it) or
            "rmsprop".
        learning_rate: the largest; a schedule scales it.
        weight_decay: how strongly weights are drawn to zero.
        momentum: of sgd and rmsprop.
        beta1: of adam and adamw, the mean's memory.
        beta2: of adam and adamw, the square's memory; of rmsprop, too.
        epsilon: added to the root of the square, not used by sgd.
        groups: weights with numbers of their own.
        mixing: whether weights become mixtures of where the last steps led.
    """

    name: str = "adam"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    momentum: float = 0.9
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    groups: tuple[GroupConfig, ...] = ()
    mixing: MixingConfig = field(default_factory=MixingConfig)

    def __post_init__(self) -> None:
        require_choice("optimizer", self.name, OPTIMIZERS)
        require_finite("learning_rate", self.learning_rate, above=0.0)
        require_finite("weight_decay", self.weight_decay, low=0.0)
        require_finite("epsilon", self.epsilon, above=0.0)
        for name in ("momentum", "beta1", "beta2"):
            value = getattr(self, name)
            require(0.0 <= value < 1.0, f"{name}={value}: use 0 or more, and less than 1")


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """How the learning rate changes, as a factor on every group's.

    Attributes:
        kind: "constant", "cosine" (half a wave from 1 to `final`, arXiv:1608.03983), "linear" (a line from 1 to
            `final`), "step" or "inverse_sqrt" (behind the warm-up, the root of `warmup` over the minibatch's number,
            arXiv:1706.03762).
        warmup: minibatches in which the factor also rises from 1 / warmup to 1.
        final: the factor at the end of "cosine" and "linear".
        milestones: minibatches done at which each factor of "step" begins.
        factors: of "step"; 1 before the first milestone.
    """

    kind: str = "constant"
    warmup: int = 0
    final: float = 0.0
    milestones: tuple[int, ...] = ()
    factors: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        require_choice("schedule", self.kind, SCHEDULES)
        require(self.warmup >= 0, f"warmup={self.warmup}: use 0 or more")
        require_finite("final", self.final, low=0.0)
        require(
            len(self.factors) == len(self.milestones) and list(self.milestones) == sorted(self.milestones),
            f"milestones={list(self.milestones)}: use rising ones, as many as factors={list(self.factors)}",
        )
        require(
            bool(self.factors) == (self.kind == "step"),
            f"schedule={self.kind}: milestones and factors are for schedule=step, which needs them",
        )
        for factor in self.factors:
            require_finite("factors", factor, low=0.0)

    def factor(self, step: int, steps: int) -> float:
        """Return the factor on the learning rates of a minibatch, where `step` of `steps` are done."""
        rising = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        done = step / steps
        if self.kind == "cosine":
            return rising * (self.final + (1.0 - self.final) * 0.5 * (1.0 + math.cos(math.pi * done)))
        if self.kind == "linear":
            return rising * (1.0 + (self.final - 1.0) * done)
        if self.kind == "inverse_sqrt":
            return rising * math.sqrt(max(self.warmup, 1) / max(self.warmup, step + 1))
        passed = sum(step >= milestone for milestone in self.milestones)
        return rising * self.factors[passed - 1] if passed else rising


def matching(parameters: Mapping[str, nn.Parameter], patterns: Sequence[str]) -> dict[str, nn.Parameter]:
    """Return the parameters whose names match one of the patterns, in their order.

    Raises:
        UserError: if a pattern matches none.
    """
    for pattern in patterns:
        require(
            any(fnmatch.fnmatchcase(name, pattern) for name in parameters),
            f"names={pattern}: no weight that learns is called so; some are: {', '.join(list(parameters)[:5])}",
        )
    return {
        name: value
        for name, value in parameters.items()
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    }


def make_optimizer(parameters: Mapping[str, nn.Parameter], config: OptimizerConfig) -> torch.optim.Optimizer:
    """Return an optimizer of named parameters, fused where torch has it so.

    There is one group for each of the config's, and one for the rest. Each keeps its own rate under "base_rate", for
    `set_factor`.

    Raises:
        UserError: if a group names no parameter.
    """
    rest, groups = dict(parameters), []
    for group in config.groups:
        found = {name: value for name, value in matching(parameters, group.names).items() if name in rest}
        rest = {name: value for name, value in rest.items() if name not in found}
        rate = config.learning_rate if group.learning_rate is None else group.learning_rate
        decay = config.weight_decay if group.weight_decay is None else group.weight_decay
        groups.append({"params": list(found.values()), "lr": rate, "base_rate": rate, "weight_decay": decay})
    rate = config.learning_rate
    groups.append({"params": list(rest.values()), "lr": rate, "base_rate": rate, "weight_decay": config.weight_decay})
    groups = [group for group in groups if group["params"]]
    shared: dict[str, Any] = {"lr": rate, "weight_decay": config.weight_decay}
    betas, epsilon = (config.beta1, config.beta2), config.epsilon
    match config.name:
        case "sgd":
            made = torch.optim.SGD(groups, momentum=config.momentum, fused=True, **shared)
        case "rmsprop":
            made = torch.optim.RMSprop(groups, momentum=config.momentum, alpha=config.beta2, eps=epsilon, **shared)
        case "adamw":
            made = torch.optim.AdamW(groups, betas=betas, eps=epsilon, fused=True, **shared)
        case _:
            made = torch.optim.Adam(groups, betas=betas, eps=epsilon, fused=True, **shared)
    return mix_steps(made, config.mixing)


def set_factor(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Let the next steps of an optimizer that make_optimizer() made have every group's own rate times a factor."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_rate"] * factor
