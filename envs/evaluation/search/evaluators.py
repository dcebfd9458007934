"""What architectures are worth: read from a table, asked of a function, told by shared weights, or by training each.

A search has three splits: weights learn from one part of the training examples, architectures are compared on the
other (`halves`), and the test examples are left for whoever reports in the end.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from envs.evaluation.search.shared_weights import SharedWeights
from envs.evaluation.search.space import Architecture, Space
from envs.evaluation.search.supernet import reestimate_statistics
from envs.evaluation.subject import Subject
from envs.evaluation.tasks import Batch, ClassifierTask, Task, over_examples
from envs.evaluation.transform import TeachConfig, teach
from rlsuite.data.minibatches import minibatch
from rlsuite.data.nas_bench_201 import row_of
from rlsuite.data.source import Source, split
from rlsuite.errors import require
from rlsuite.fit import NonFiniteLossError
from rlsuite.nn.device import device_of
from rlsuite.running.seeding import derive_seed


class FunctionEvaluator:
    """Scores by a function of one architecture; nothing is learned.

    Args:
        function: from an architecture to its score, larger is better.
    """

    def __init__(self, function: Callable[[Architecture], float]) -> None:
        self.function = function

    def prepare(self, train: Sequence[Architecture]) -> None:
        """Learn nothing: there are no shared weights."""

    def score(self, judge: Sequence[Architecture]) -> list[float]:
        """Return the scores."""
        return [float(self.function(architecture)) for architecture in judge]

    def save(self, folder: Path) -> None:
        """Write nothing."""

    def load(self, folder: Path) -> None:
        """Read nothing."""


class TableEvaluator(FunctionEvaluator):
    """Reads scores from a column of NAS-Bench-201's table.

    Args:
        column: (R,) accuracies in percent, in the table's order of rows.
    """

    def __init__(self, column: np.ndarray) -> None:
        super().__init__(lambda architecture: column[row_of(architecture)])
        content = np.ascontiguousarray(column, dtype=np.float64).tobytes()
        self.description = {"table": hashlib.sha256(content).hexdigest()[:16]}


class PartTask:
    """A task whose weights learn from some of its examples, and whose architectures are compared on others.

    Args:
        task: the whole; its loss is this one's.
        weights: what source("train") gives.
        architecture: what source("test") gives, and `score` judges on.
    """

    interactive = False

    def __init__(self, task: Task, weights: Source, architecture: Source) -> None:
        self.whole, self.parts = task, {"train": weights, "test": architecture}
        self.right = isinstance(task, ClassifierTask)
        self.unit, self.box = task.unit if self.right else "negative loss", task.box

    @property
    def floor(self) -> float:
        """That of the whole task, where scores are of its unit."""
        return self.whole.floor if self.right else -np.inf

    def source(self, split: str) -> Source:
        """Return the examples of a part."""
        return self.parts[split]

    def visited(self, module: nn.Module, seed: int) -> Source:
        """Raise TypeError: candidates are compared on examples that do not depend on them."""
        raise TypeError("a part of a task is not interactive")

    def loss(self, module: nn.Module, batch: Batch) -> Tensor:
        """Return the error (B,) of each example."""
        return self.whole.loss(module, batch)

    def learned_from(self, module: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
        """Return the inputs (B, ...) that weights learn from, where normalizations' statistics are measured anew.

        Args:
            module: in training mode; its running statistics may change.
            batch: as the source gives it.
            generator: of random draws, on the CPU.
        """
        return batch["input"]

    def score(self, module: nn.Module, seed: int) -> np.ndarray:
        """Return for each example of the second part 100 or 0 (right or wrong class), else its negative loss: (E,)."""
        if self.right:

            def hit(output: Tensor, batch: Batch) -> Tensor:
                right = (output.argmax(1) == batch["label"]).double()
                return torch.where(output.isfinite().all(1), right, torch.nan)  # a network that diverged

            return 100.0 * over_examples(module, self.parts["test"], hit).numpy()
        device = device_of(module)
        source, errors = self.parts["test"], []
        with torch.no_grad():
            for index in torch.arange(len(source)).split(256):
                batch = {name: value.to(device) for name, value in source.examples(index).items()}
                errors.append(self.whole.loss(module, batch).cpu().double())
        return -torch.cat(errors).numpy()


def halves(task: Task, seed: int, share: float = 0.5) -> PartTask:
    """Return a task on its training examples alone: weights learn from 1 - share of them, the rest compares.

    Raises:
        UserError: if those that compare are all of one class: any network that says it is right then.
    """
    weights, architecture = split(task.source("train"), (1.0 - share, share), derive_seed(seed, "splits"))
    if isinstance(task, ClassifierTask):
        require(
            _has_classes(architecture), "the examples that networks are compared on are all of one class; give more"
        )
    return PartTask(task, weights, architecture)


def _has_classes(source: Source) -> bool:
    """Return whether there are two labels or more; it looks no further than it must."""
    first = None
    for index in torch.arange(len(source)).split(256):
        labels = source.examples(index)["label"]
        first = labels[0] if first is None else first
        if bool((labels != first).any()):
            return True
    return False


class SharedEvaluator:
    """Scores of networks with inherited weights.

    Args:
        shared: the weights; its task is the one that scores, on source("test").
        steps: minibatches of each round that trains.
        statistics: batches that each candidate's normalizations are measured on anew; 0 takes the shared ones.
    """

    changes = True

    def __init__(self, shared: SharedWeights, *, steps: int, statistics: int = 5) -> None:
        self.shared, self.steps, self.statistics = shared, steps, statistics
        examples = [len(shared.task.source(part)) for part in ("train", "test")]
        self.description = {
            "shared": asdict(shared.config),
            "steps": steps,
            "statistics": statistics,
            "examples": examples,
        }

    def prepare(self, train: Sequence[Architecture]) -> None:
        """Let the weights learn, if there is anything to learn in."""
        if train:
            self.shared.train(train, self.steps)

    def score(self, judge: Sequence[Architecture]) -> list[float]:
        """Return the mean score of each network."""
        return [float(self.shared.task.score(self.network(architecture), 0).mean()) for architecture in judge]

    def network(self, architecture: Architecture) -> nn.Module:
        """Return an architecture's network with inherited weights and its own statistics, in evaluation mode."""
        return self.measured(self.shared.supernet.extract(architecture))

    def measured(self, child: nn.Module) -> nn.Module:
        """Return a network of inherited weights in evaluation mode, its statistics measured anew."""
        child.eval()
        source, size = self.shared.source, self.shared.config.batch_size
        device = next(child.parameters()).device
        if self.statistics:
            seed = derive_seed(self.shared.seed, "statistics")
            generator, task, inputs = torch.Generator().manual_seed(seed), self.shared.task, []
            parts = isinstance(task, PartTask)
            for step in range(self.statistics):
                examples = source.examples(minibatch(seed, step, len(source), size))
                batch = {name: value.to(device) for name, value in examples.items()}
                inputs.append(task.learned_from(child.train(), batch, generator) if parts else batch["input"])
            reestimate_statistics(child.eval(), inputs)
        return child

    def save(self, folder: Path) -> None:
        """Write the weights."""
        self.shared.save(folder)

    def load(self, folder: Path) -> None:
        """Read them."""
        self.shared.load(folder)


class TrainedEvaluator:
    """Scores of networks that each learn by themselves.

    What was found is kept, by canonical form, so that the same network never learns twice.

    Args:
        space: of the architectures.
        subject: whose task it is; its module is replaced by `put`.
        put: (a copy of the module, the network) -> the module that learns: where a network goes.
        config: how each learns.
        score: of what has learned, larger is better; None for its mean score on the task.
        seed: of first weights and learning.
    """

    def __init__(
        self,
        space: Space,
        subject: Subject,
        put: Callable[[nn.Module, nn.Module], nn.Module],
        config: TeachConfig,
        *,
        score: Callable[[nn.Module], float] | None = None,
        seed: int,
    ) -> None:
        self.space, self.subject, self.put, self.config, self.seed = space, subject, put, config, seed
        self.measure = score or (lambda module: float(subject.task.score(module, seed).mean()))
        self.known: dict[str, float] = {}
        self.description = {"candidate": asdict(config), "examples": len(subject.task.source("train"))}

    def prepare(self, train: Sequence[Architecture]) -> None:
        """Learn nothing ahead."""

    def score(self, judge: Sequence[Architecture]) -> list[float]:
        """Train what is new; return the scores, NaN where learning failed."""
        return [self._of(architecture) for architecture in judge]

    def network(self, architecture: Architecture) -> nn.Module:
        """Return the network of an architecture after it has learned."""
        network = self.space.build(architecture)
        self.space.draw(network, derive_seed(self.seed, "first weights"))
        trained = replace(self.subject, module=self.put(self.subject.copy(), network))
        teach(trained, self.config, derive_seed(self.seed, "candidate"))
        return trained.module

    def save(self, folder: Path) -> None:
        """Write nothing: the history holds the scores."""

    def load(self, folder: Path) -> None:
        """Read nothing."""

    def _of(self, architecture: Architecture) -> float:
        form = json.dumps(self.space.canonical(architecture), default=repr)
        if form not in self.known:
            try:
                self.known[form] = self.measure(self.network(architecture))
            except NonFiniteLossError:
                self.known[form] = float("nan")
        return self.known[form]
