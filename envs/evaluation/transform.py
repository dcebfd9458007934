"""What is done to a network: decided, built in, taught, and finished; and how several of them follow each other."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from envs.evaluation.subject import Step, Subject
from rlsuite.data.joined import Joined
from rlsuite.data.source import Source
from rlsuite.errors import UserError, require
from rlsuite.fit import FitConfig, Hook, Loss, Turn, fit
from rlsuite.methods import Method, to_plain
from rlsuite.optim.choice import OptimizerConfig, ScheduleConfig
from rlsuite.running.seeding import derive_seed


@dataclass(frozen=True, kw_only=True)
class TeachConfig:
    """How a changed network learns again.

    Attributes:
        fit: each round of it.
        rounds: of learning; from the second on a policy also learns where the student itself went (DAgger). Tasks whose
            examples do not depend on the network have one, of all the steps.
    """

    fit: FitConfig = field(default_factory=lambda: FitConfig(steps=1000, batch_size=256))
    rounds: int = 2

    def __post_init__(self) -> None:
        require(self.rounds >= 1, f"rounds={self.rounds}: use 1 or more")


def teach_by_cosine(steps: int, batch_size: int) -> TeachConfig:
    """Return how a network learns again by Adam, its rate falling along a cosine from 1e-3 to a hundredth of that."""
    optimizer, schedule = OptimizerConfig(learning_rate=1e-3), ScheduleConfig(kind="cosine", final=0.01)
    return TeachConfig(fit=FitConfig(steps=steps, batch_size=batch_size, optimizer=optimizer, schedule=schedule))


class Transform:
    """A change of a network: five steps, of which a concrete one writes those that differ.

    Reading a saved network repeats `rebuild` and `finish` on the untouched one and loads tensors into the result, so
    these two use no data and no random numbers, and work on tensors of torch's device "meta".

    Attributes:
        Config: its numbers, a frozen dataclass with a field `teach`, a TeachConfig.
        needs: traits a network must have -> what to use otherwise.
        refuses: traits it must not have -> what to do instead.
        gives: traits it has afterwards.
        folder: where a search keeps its history and goes on from it; None keeps none.
    """

    Config: ClassVar[type]
    needs: ClassVar[Mapping[str, str]] = {}
    refuses: ClassVar[Mapping[str, str]] = {}
    gives: ClassVar[frozenset[str]] = frozenset()

    folder: Path | None = None

    def __init__(self, *, config: Any) -> None:
        self.config = config

    def examine(self, subject: Subject) -> None:
        """Raise UserError, naming the part, if a network as it comes is none that this can change: before any work."""

    def plan(self, subject: Subject) -> Any:
        """Return what is decided by looking at the network and its data, as plain data; None where there is nothing."""
        return None

    def rebuild(self, module: nn.Module, plan: Any) -> nn.Module:
        """Return the network with the change built in; it may be the same object. Structure alone."""
        raise NotImplementedError

    def train(self, subject: Subject, before: Subject, seed: int) -> None:
        """Let the changed network (subject.module) learn what it is for. `before` is the network as it was."""
        teach(subject, self.config.teach, seed)

    def decided(self, module: nn.Module, plan: Any) -> Any:
        """Return the plan with what the learned network has decided about its structure, such as widths of layers.

        It is what a file keeps, so `rebuild` must make the structure of both.
        """
        return plan

    def finish(self, module: nn.Module) -> nn.Module:
        """Return the network as it is kept, such as with codes for float weights."""
        return module

    def figures(self, subject: Subject) -> dict[str, float]:
        """Return what a report says of every network, before and after, where this is applied: columns of its own."""
        return {}


def apply(method: Method, subject: Subject, seed: int, folder: Path | None = None) -> Subject:
    """Return a new subject with one transform applied; the old one is left as it is.

    Args:
        method: a transform.
        subject: what it is applied to.
        seed: of learning.
        folder: where a search keeps what it has done, and goes on from it; other transforms keep nothing.

    Raises:
        UserError: if the network is not such as the transform needs.
    """
    transform: Transform = method.build()
    transform.folder = folder
    check_traits([method], subject.traits)
    plan = transform.plan(subject)
    module = transform.rebuild(subject.copy(), copy.deepcopy(plan))
    changed = Subject(module, subject.example, subject.task, subject.base, subject.recipe, subject.gained)
    transform.train(changed, subject, seed)
    plan = transform.decided(module, plan)
    step = Step(method.name, to_plain([method])[0]["config"], plan)
    return Subject(
        transform.finish(module).eval(),
        subject.example,
        subject.task,
        subject.base,
        (*subject.recipe, step),
        subject.gained | transform.gives,
    )


def check_traits(methods: Sequence[Method], traits: frozenset[str]) -> None:
    """Raise UserError, naming the fix, if one of several transforms could not follow those before it."""
    for method in methods:
        kind: type[Transform] = method.kind
        for trait, otherwise in kind.needs.items():
            if trait not in traits:
                raise UserError(f"{method.name}: the network is not {trait}; {otherwise}")
        for trait, otherwise in kind.refuses.items():
            if trait in traits:
                raise UserError(f"{method.name}: the network is {trait}; {otherwise}")
        traits |= kind.gives


def teach(
    subject: Subject,
    config: TeachConfig,
    seed: int,
    *,
    optimizer: OptimizerConfig | None = None,
    hooks: Sequence[Hook] = (),
    losses: Loss | Sequence[Turn] | None = None,
) -> None:
    """Let a network learn its task, in place: the one loop of all transforms and of the control beside them.

    Args:
        subject: whose module learns.
        config: how.
        seed: of minibatches and visited states.
        optimizer: in place of config.fit's, such as one with groups of its own.
        hooks: as `rlsuite.fit.fit` takes them; a share done counts over all rounds.
        losses: in place of the task's mean loss, as `rlsuite.fit.fit` takes them.
    """
    task, module = subject.task, subject.module

    def task_loss(network: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"loss": task.loss(network, batch).mean()}

    source: Source = task.source("train")
    rounds = config.rounds if task.interactive else 1
    steps = config.fit.steps * config.rounds // rounds
    fit_config = replace(config.fit, steps=steps, optimizer=optimizer or config.fit.optimizer)
    for number in range(rounds):
        if number:
            module.eval()
            source = Joined([source, task.visited(module, derive_seed(seed, f"round {number}"))])
        fit(
            module,
            task_loss if losses is None else losses,
            source,
            fit_config,
            seed=derive_seed(seed, f"fit {number}"),
            hooks=[_over_rounds(hook, number, rounds, steps) for hook in hooks],
        )
    module.eval()


def _over_rounds(hook: Hook, number: int, rounds: int, steps: int) -> Hook:
    return lambda step, share: hook(step + number * steps, (number + share) / rounds)
