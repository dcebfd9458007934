"""BNAS: cells of binary weights, by what they learn and how well they do (Chen et al. 2020, arXiv:2009.04247).

A supernet of binary convolutions, of which 1 / C of the channels go through an edge's operations, the others past it
(PC-DARTS). While K operations are left on each edge:

  (a) L epochs of weights and architecture parameters alpha in turn, on halves of the examples, all operations mixed;
  (b) T rounds of K trials: each draws an operation for every edge without replacement, trains that network one epoch,
      and gives its validation accuracy y to all its operations, so each gets exactly T;
  (c) potential s(o_k) = 1/2 softmax(alpha)_k + 1/2 softmax(mean y)_k;
  (d) the lowest is given up on every edge.

Epochs: sum over K = 8 .. 2 of L + T K = 140 for L = 5, T = 3. Of each node the two edges of the highest last
potential stay, "none" never: where a node has no other edge the best other operation stands there. Softmax of
accuracies is nearly flat and alpha rules; `standardized` divides the means by their spread on an edge first (ours).

`rule="ucb"` is for noisy accuracies, as with 1-bit activations: no alpha; UCB_k = y_k + sqrt(2 ln N / n_k) with
y <- 0.3 y + 0.7 a; operations are drawn by softmax(UCB), and after K T trials the lowest goes.

The authors released a cell (`BNAS_XNOR_1`) and its test, not the search: it is a reconstruction, its constants, the
potential and the UCB form from memory of the conference paper (arXiv:1911.10862). Learned projections (PCNN) are not
here: the binarization is XNOR-Net's with a scale a filter and, while it learns, `reconstruction` times the error of
filters; convolution="xnor_layer" is the authors' file. Nor is the network of CIFAR-10 (auxiliary head, dropped paths).
Budgets in kilobytes are ours: operations are exchanged for smaller ones that lose least potential a kilobyte.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from torch import Tensor, nn

from envs.evaluation.quantization.binary_convolutions import pack_binary_layers, reconstruction_error
from envs.evaluation.search.bandit import Arms, trial_epochs
from envs.evaluation.search.door import Search, network_of, network_task
from envs.evaluation.search.elimination import (
    Genotype,
    Rule,
    Trials,
    all_edges,
    reward_of,
    strongest_edges,
    within_budget,
)
from envs.evaluation.search.evaluators import SharedEvaluator, halves
from envs.evaluation.search.relaxation import ARCHITECTURE, Relaxation, Relaxed
from envs.evaluation.search.sampling import fair_round, softmax_draw
from envs.evaluation.search.shared_weights import SharedConfig, SharedWeights
from envs.evaluation.search.space import Architecture, Space
from envs.evaluation.search.spaces.cell import CellSpace, CellSpaceConfig
from envs.evaluation.search.strategy import search
from envs.evaluation.search.supernet import Supernet
from envs.evaluation.subject import Subject
from envs.evaluation.transform import TeachConfig, teach
from rlsuite.data.minibatches import minibatch
from rlsuite.errors import UserError, require, require_choice, require_finite
from rlsuite.optim.choice import OptimizerConfig, make_optimizer
from rlsuite.optim.state import load_optimizer_tensors, optimizer_tensors
from rlsuite.records.checkpoint import read_checkpoint, resolve_checkpoint, save_checkpoint
from rlsuite.records.files import write_atomically
from rlsuite.running.seeding import derive_seed

OPERATIONS = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)

# The cells that the authors released: of each node its operations and the states they read.
BNAS_XNOR_1: Genotype = {
    "normal": [
        [("skip_connect", 1), ("dil_conv_3x3", 0)],
        [("skip_connect", 0), ("dil_conv_5x5", 2)],
        [("max_pool_3x3", 1), ("max_pool_3x3", 0)],
        [("dil_conv_5x5", 4), ("sep_conv_3x3", 2)],
    ],
    "reduction": [
        [("sep_conv_3x3", 1), ("dil_conv_5x5", 0)],
        [("skip_connect", 1), ("max_pool_3x3", 2)],
        [("dil_conv_5x5", 0), ("avg_pool_3x3", 3)],
        [("skip_connect", 2), ("dil_conv_3x3", 4)],
    ],
}


@dataclass(frozen=True, kw_only=True)
class BNASConfig:
    """A search for a network of pictures with binary weights.

    Attributes:
        space: of cells, of which all edges are searched, and `picks` of a node stay; convolution="xnor_one_bit" or
            "rbnn" have 1-bit activations, too.
        kilobytes: of the network that is chosen at most; 0 for no budget.
        rule: "potential" or "ucb".
        mixed_epochs: L, of weights and alpha in turn; none with "ucb".
        tries: T.
        accuracy_share: of the accuracies' half in a potential: 0 is alpha alone, 1 accuracies alone.
        standardized: whether mean accuracies are divided by their spread on an edge before the softmax.
        partial: C: 1 of so many channels goes through operations while searching.
        architecture: alpha's optimizer.
        shared: how shared weights learn; the schedule is stretched over the whole search.
        statistics: batches that each candidate's normalizations are measured on anew; 0 takes the shared ones.
        reconstruction: weight of the filters' error from their signs, in the loss of the network that was found.
        seed: of all draws.
        teach: how the network that was found learns.
    """

    space: CellSpaceConfig = field(
        default_factory=lambda: CellSpaceConfig(
            operations=OPERATIONS,
            layout=("normal", "normal", "reduction", "normal", "reduction", "normal"),
            convolution="xnor",
        )
    )
    kilobytes: float = 0.0
    rule: str = "potential"
    mixed_epochs: int = 5
    tries: int = 3
    accuracy_share: float = 0.5
    standardized: bool = False
    partial: int = 2
    architecture: OptimizerConfig = field(default_factory=lambda: replace(ARCHITECTURE, learning_rate=3e-4))
    shared: SharedConfig = field(default_factory=SharedConfig)
    statistics: int = 5
    reconstruction: float = 1e-4
    seed: int = 0
    teach: TeachConfig = field(default_factory=TeachConfig)

    def __post_init__(self) -> None:
        require_choice("rule", self.rule, ("potential", "ucb"))
        require_finite("kilobytes", self.kilobytes, low=0.0)
        require_finite("reconstruction", self.reconstruction, low=0.0)
        for name in ("tries", "partial"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        for name in ("mixed_epochs", "statistics", "seed"):
            require(getattr(self, name) >= 0, f"{name}={getattr(self, name)}: use 0 or more")
        require(0.0 <= self.accuracy_share <= 1.0, f"accuracy_share={self.accuracy_share}: use a share from 0 to 1")
        require(self.space.width % self.partial == 0, f"partial={self.partial}: use a divisor of the cells' width")


class Stage(NamedTuple):
    """What was known when an operation was given up: (P, K) each, 0 where an operation was gone already.

    Attributes:
        alpha: softmax of the architecture parameters.
        accuracy: softmax of the mean accuracies.
        potential: their sum by shares.
    """

    alpha: np.ndarray
    accuracy: np.ndarray
    potential: np.ndarray


class Found(NamedTuple):
    """What a search found.

    Attributes:
        architecture: what is left.
        trials: how many there were.
        stages: that it went through, by the rule "potential".
        evaluator: with the shared weights.
    """

    architecture: Architecture
    trials: int
    stages: list[Stage]
    evaluator: SharedEvaluator


def potential(arms: Arms, alpha: np.ndarray, *, accuracy_share: float, standardized: bool) -> Stage:
    """Return the potentials of the operations alive.

    Args:
        arms: with plain means of accuracies.
        alpha: (P, K) softmax of the architecture parameters over those alive.
        accuracy_share: see BNASConfig.
        standardized: likewise.
    """
    means = np.where(arms.alive, arms.means, np.nan)
    if standardized:
        spread = np.nanstd(means, axis=1, keepdims=True)
        means = (means - np.nanmean(means, axis=1, keepdims=True)) / np.where(spread > 0, spread, 1.0)
    weights = np.where(arms.alive, np.exp(np.nan_to_num(means)), 0.0)
    accuracy = weights / weights.sum(1, keepdims=True)
    alpha = np.where(arms.alive, alpha, 0.0)
    return Stage(alpha, accuracy, (1.0 - accuracy_share) * alpha + accuracy_share * accuracy)


def by_potential(
    arms: Arms, config: BNASConfig, alphas: list[np.ndarray], stages: list[Stage], rng: np.random.Generator
) -> Rule:
    """The rule of steps (b) to (d); `alphas` holds what (a) has found by the end of each stage, `stages` is filled."""
    while arms.left > 1:
        arms.forget()
        for _ in range(config.tries):
            for path in fair_round(arms.alive, rng):
                arms.update(path, (yield path))
        shares = {"accuracy_share": config.accuracy_share, "standardized": config.standardized}
        stages.append(potential(arms, alphas[len(stages)], **shares))
        arms.eliminate(stages[-1].potential)


def by_upper_bounds(arms: Arms, tries: int, rng: np.random.Generator) -> Rule:
    """The rule for 1-bit networks; operations never tried come first."""
    while arms.left > 1:
        for _ in range(tries * arms.left):
            path = softmax_draw(arms.upper(), arms.alive, rng)
            arms.update(path, (yield path))
        arms.eliminate(arms.upper())


class MixedEvaluator(SharedEvaluator):
    """Before the first trial of each stage weights and alpha learn in turn, all operations alive mixed.

    Args:
        shared: the weights.
        arms: the rule's; those alive are mixed.
        config: see BNASConfig.
        steps: minibatches of an epoch.
        folder: keeps what alpha was at the end of each stage; None for nowhere.

    Attributes:
        alphas: (P, K) softmax of alpha at the end of each stage so far.
        done: stages that these weights have been mixed in.
    """

    def __init__(
        self, shared: SharedWeights, arms: Arms, config: BNASConfig, *, steps: int, folder: Path | None
    ) -> None:
        super().__init__(shared, steps=steps, statistics=config.statistics)
        self.arms, self.first, self.mixed_steps = arms, arms.left, steps * config.mixed_epochs
        self.relaxation = Relaxation(shared.supernet.space.sizes, seed=derive_seed(config.seed, "alpha"))
        self.relaxation.to(next(shared.supernet.parameters()).device)
        self.optimizer = make_optimizer(dict(self.relaxation.named_parameters()), config.architecture)
        self.path = None if folder is None else folder / "alphas.json"
        self.alphas: list[np.ndarray] = []
        self.done = 0
        self.turns = 0
        if self.path is not None and self.path.exists():
            try:
                self.alphas = [np.array(each, dtype=np.float64) for each in json.loads(self.path.read_text())]
            except ValueError:
                raise UserError(f"{self.path} is damaged; choose another folder") from None

    def prepare(self, train: list[Architecture] | tuple[Architecture, ...]) -> None:  # type: ignore[override]
        """Mix where a stage begins, then let the trial's network learn."""
        if self.done <= self.first - self.arms.left:
            self.mix()
        super().prepare(train)

    def mix(self) -> None:
        """Let alpha and weights learn in turn, and keep what alpha is then."""
        self.relaxation.give_up(self.arms.alive)
        way = Relaxed(self.shared.supernet, self.relaxation)
        self.shared.train([], self.mixed_steps, through=way, before=lambda: self.turn(way))
        del self.alphas[self.done :]  # of a stage that was cut off by a kill: the same values again
        self.alphas.append(self.relaxation.mixture().detach().double().cpu().numpy())
        self.done += 1
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path, json.dumps([each.tolist() for each in self.alphas]).encode())

    def turn(self, way: Relaxed) -> None:
        """Alpha's turn: a minibatch of the architecture's half."""
        source, size = self.shared.task.source("test"), self.shared.config.batch_size
        index = minibatch(derive_seed(self.shared.seed, "alpha's minibatches"), self.turns, len(source), size)
        device = self.relaxation.choices.device
        batch = {name: value.to(device) for name, value in source.examples(index).items()}
        self.optimizer.zero_grad(set_to_none=True)
        self.shared.task.loss(way, batch).mean().backward(inputs=list(self.relaxation.parameters()))
        self.optimizer.step()
        self.turns += 1

    def save(self, folder: Path) -> None:
        """Write weights, alpha and its optimizer."""
        super().save(folder / "weights")
        parts = {"alpha": self.relaxation.state_dict(), "optimizer": optimizer_tensors({"alpha": self.optimizer})}
        save_checkpoint(folder / "alpha", self.turns, parts, {"done": self.done})

    def load(self, folder: Path) -> None:
        """Read them."""
        super().load(folder / "weights")
        checkpoint = read_checkpoint(resolve_checkpoint(folder / "alpha"))
        self.relaxation.load_state_dict(checkpoint.parts["alpha"])
        load_optimizer_tensors({"alpha": self.optimizer}, checkpoint.parts["optimizer"])
        self.turns, self.done = checkpoint.step, int(checkpoint.metadata["done"])


class BNAS(Search):
    """The search as a transform; what it found is kept with a bit a weight."""

    Config = BNASConfig
    needs: ClassVar = {"convolutional": "it sees no pictures; use search/ncp"}
    gives = frozenset({"searched", "quantized"})
    config: BNASConfig

    def space_of(self, subject: Subject) -> tuple[str, Any]:
        """Return the cells."""
        return "cell", self.config.space

    def find(self, subject: Subject, space: Space) -> Architecture:
        """Return the cells of the highest potential, within the budget."""
        assert isinstance(space, CellSpace)
        return searched(space, subject, self.config, self.folder).architecture

    def train(self, subject: Subject, before: Subject, seed: int) -> None:
        """Draw the first weights by the seed, and let the network learn."""
        self.space.draw(network_of(subject.module), derive_seed(seed, "first weights"))
        task, weight = subject.task, self.config.reconstruction

        def losses(module: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
            return {"loss": task.loss(module, batch).mean() + weight * reconstruction_error(module)}

        teach(subject, self.config.teach, seed, losses=losses)

    def finish(self, module: nn.Module) -> nn.Module:
        """Return the network with packed signs."""
        return pack_binary_layers(module)


def searched(space: CellSpace, subject: Subject, config: BNASConfig, folder: Path | None = None) -> Found:
    """Search, or go on with a search.

    Args:
        space: of cells; the search sees all of its edges.
        subject: whose task is learned.
        config: see BNASConfig.
        folder: keeps the history; None for nowhere.

    Raises:
        UserError: if no network is within the budget, or only cells are left that let nothing pass.
    """
    if config.kilobytes:
        space.require_budget("bnas.kilobytes", config.kilobytes, "kilobytes")
    whole, by_alpha = all_edges(space), config.rule == "potential"
    task = halves(network_task(subject), config.seed)
    steps = max(1, len(task.source("train")) // config.shared.batch_size)
    mixed = config.mixed_epochs if by_alpha else 0
    kinds = len(config.space.operations)
    epochs, trials = trial_epochs(kinds, config.tries, between=mixed), trial_epochs(kinds, config.tries)
    supernet = Supernet(whole, seed=derive_seed(config.seed, "supernet"), affine=False, partial=config.partial)
    supernet.to(subject.device)
    learning = replace(config.shared, total=max(1, steps * epochs))
    shared = SharedWeights(supernet, task, learning, seed=derive_seed(config.seed, "shared"))
    arms = Arms(whole.sizes, momentum=None if by_alpha else 0.7)
    rng, stages = np.random.default_rng(derive_seed(config.seed, "draws")), []
    if by_alpha:
        evaluator: SharedEvaluator = MixedEvaluator(shared, arms, config, steps=steps, folder=folder)
        assert isinstance(evaluator, MixedEvaluator)
        rule = by_potential(arms, config, evaluator.alphas, stages, rng)
    else:
        evaluator = SharedEvaluator(shared, steps=steps, statistics=config.statistics)
        rule = by_upper_bounds(arms, config.tries, rng)
    description = {"method": "bnas", "seed": config.seed, "rule": config.rule, "tries": config.tries, "mixed": mixed}
    strategy = Trials(rule, reward_of(task.unit))
    search(whole, strategy, evaluator, budget=max(1, trials), folder=folder, description=description)
    values = np.zeros(arms.alive.shape) if by_alpha else arms.means
    for stage in stages:  # of each operation its last potential
        values = np.where(stage.potential > 0, stage.potential, values)
    chosen = arms.best()
    found = strongest_edges(space, chosen, values)
    require(space.valid(found), "only cells are left that let nothing pass; leave none out of space.operations")
    if config.kilobytes:
        found = within_budget(space, found, values, config.kilobytes)
    return Found(found, trials, stages, evaluator)
