"""ABanditNAS: cells that withstand attacks, by an anti-bandit (Chen et al. 2020, arXiv:2008.00698).

Every edge of every cell is a bandit whose arms are operations, two of which defend (`defences.py`). A trial draws an
operation for each edge, trains that network one epoch on attacked examples, and gives all its operations the accuracy
on attacked validation examples. Plain upper bounds would favour operations that need no training, so trials prefer
*low lower* bounds (give the weak and the rarely tried a chance), P(k) ~ exp(-s_L(k)), and after T K trials the arm of
the *smallest upper* bound, bad even optimistically, is given up on every edge, until one is left:

    s_L = m - sqrt(2 ln N / n),    s_U = m + sqrt(2 ln N / n),    m <- (1 - lambda) m + lambda a, lambda = 0.7

N counts all trials and n those of an arm, since the start; neither is ever reset. First values take K trials more than
the paper's T (K + ... + 2). Of each node the incoming edge with the highest m stays.

The authors released networks and their test, not the search: the loop is a reconstruction from the text. Ours are the
adversarial validation (the source says validation accuracy), alpha = 1.25 eps, and one edge a node by m. Not here: the
final network of CIFAR-10 (ten cells in which a kind comes both with and without a reduction, auxiliary head, extra
denoising blocks behind cells), and the denoising filter with softmax; normalizations have torch's epsilon.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from envs.evaluation.attacks.adversarial_training import attacked_loss, one_step
from envs.evaluation.search.bandit import Arms, trial_epochs
from envs.evaluation.search.door import Search, network_of, network_task
from envs.evaluation.search.elimination import (
    Genotype,
    Rule,
    Trials,
    all_edges,
    first_values,
    reward_of,
    strongest_edges,
)
from envs.evaluation.search.evaluators import PartTask, SharedEvaluator, halves
from envs.evaluation.search.sampling import softmax_draw
from envs.evaluation.search.shared_weights import SharedConfig, SharedWeights
from envs.evaluation.search.space import Architecture, Space
from envs.evaluation.search.spaces.cell import CellSpace, CellSpaceConfig
from envs.evaluation.search.strategy import search
from envs.evaluation.search.supernet import Supernet
from envs.evaluation.subject import Subject
from envs.evaluation.tasks import Batch
from envs.evaluation.transform import TeachConfig, teach
from rlsuite.data.arrays import Arrays
from rlsuite.errors import require, require_finite
from rlsuite.running.seeding import derive_seed

OPERATIONS = (
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "full_dil_conv_3x3",
    "full_dil_conv_5x5",
    "sep_full_conv_3x3",
    "sep_full_conv_5x5",
    "gabor_3x3",
    "denoise",
)

# The first of the two cells that the authors released: of each node its operation and the state it reads.
ABANDIT_NAS_1: Genotype = {
    "a": [[("full_dil_conv_3x3", 0)], [("gabor_3x3", 1)], [("sep_full_conv_3x3", 2)], [("denoise", 1)]],
    "b": [[("avg_pool_3x3", 0)], [("gabor_3x3", 0)], [("sep_full_conv_5x5", 2)], [("full_dil_conv_3x3", 1)]],
    "c": [[("full_dil_conv_3x3", 0)], [("max_pool_3x3", 0)], [("full_dil_conv_5x5", 0)], [("sep_full_conv_5x5", 3)]],
    "d": [[("denoise", 0)], [("sep_full_conv_5x5", 1)], [("avg_pool_3x3", 2)], [("full_dil_conv_3x3", 3)]],
    "e": [[("denoise", 0)], [("sep_full_conv_5x5", 1)], [("sep_full_conv_3x3", 1)], [("avg_pool_3x3", 3)]],
    "f": [[("gabor_3x3", 0)], [("full_dil_conv_3x3", 0)], [("denoise", 1)], [("avg_pool_3x3", 2)]],
}


def anti_bandit(arms: Arms, tries: int, rng: np.random.Generator) -> Rule:
    """The rule: see the module. `arms` has the momentum lambda."""
    yield from first_values(arms, rng)
    while arms.left > 1:
        for _ in range(tries * arms.left):
            path = softmax_draw(-arms.lower(), arms.alive, rng)
            arms.update(path, (yield path))
        arms.eliminate(arms.upper())


@dataclass(frozen=True, kw_only=True)
class ABanditNASConfig:
    """A search for a network of pictures that withstands attacks.

    Attributes:
        space: of cells, of which all edges are searched, and `picks` of a node stay.
        tries: T, trials of each stage in its number of arms.
        momentum: lambda.
        eps: of attacks while searching and learning, in units of inputs (pictures: shares of full brightness).
        step_share: alpha / eps.
        shared: how shared weights learn; the schedule is stretched over the whole search.
        epochs: of the weights' part of the examples, in each trial.
        statistics: batches that each candidate's normalizations are measured on anew; 0 takes the shared ones.
        seed: of all draws.
        teach: how the network that was found learns, on attacked examples, too.
    """

    space: CellSpaceConfig = field(
        default_factory=lambda: CellSpaceConfig(
            operations=OPERATIONS,
            inputs=1,
            picks=1,
            layout=("a", "b", "c", "d", "e", "f"),
            reductions=("c", "e"),
        )
    )
    tries: int = 3
    momentum: float = 0.7
    eps: float = 8.0 / 255.0
    step_share: float = 1.25
    shared: SharedConfig = field(default_factory=SharedConfig)
    epochs: int = 1
    statistics: int = 5
    seed: int = 0
    teach: TeachConfig = field(default_factory=TeachConfig)

    def __post_init__(self) -> None:
        for name in ("tries", "epochs"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require(0.0 < self.momentum <= 1.0, f"momentum={self.momentum}: use a share above 0, up to 1")
        require_finite("eps", self.eps, above=0.0)
        require_finite("step_share", self.step_share, above=0.0)
        require(self.statistics >= 0, f"statistics={self.statistics}: use 0 (the shared ones) or more")
        require(self.seed >= 0, f"seed={self.seed}: use 0 or more")


class AttackedParts(PartTask):
    """Parts of a task whose loss is that of attacked examples, and whose scores and statistics are, too.

    Args:
        parts: as `evaluators.halves` gives them.
        eps: see ABanditNASConfig.
        step_share: likewise.
    """

    def __init__(self, parts: PartTask, *, eps: float, step_share: float) -> None:
        super().__init__(parts.whole, parts.parts["train"], parts.parts["test"])
        self.eps, self.step_share = eps, step_share

    def loss(self, module: nn.Module, batch: Batch) -> Tensor:
        """Return the error (B,) of each example, attacked."""
        return self.whole.loss(module, self.attacked(module, batch))

    def learned_from(self, module: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
        """Return attacked inputs, as PartTask has them: a network is judged under attack by their statistics."""
        return self.attacked(module, batch, generator)["input"]

    def score(self, module: nn.Module, seed: int) -> np.ndarray:
        """Return scores (E,) on attacked examples of the second part, as PartTask has them."""
        generator, source = torch.Generator().manual_seed(derive_seed(seed, "attacks")), self.parts["test"]
        device = next(module.parameters()).device
        found = []
        for index in torch.arange(len(source)).split(256):
            batch = {name: value.to(device) for name, value in source.examples(index).items()}
            found.append(self.attacked(module, batch, generator))
        attacked = Arrays({name: torch.cat([batch[name] for batch in found]) for name in found[0]})
        return PartTask(self.whole, self.parts["train"], attacked).score(module, seed)

    def attacked(self, module: nn.Module, batch: Batch, generator: torch.Generator | None = None) -> Batch:
        """Return a batch with attacked inputs."""
        options = {"eps": self.eps, "step_share": self.step_share}
        return one_step(self.whole, module, batch, generator=generator, **options)


class ABanditNAS(Search):
    """The search as a transform: what it found learns on attacked examples."""

    Config = ABanditNASConfig
    needs: ClassVar = {"convolutional": "it sees no pictures; use search/ncp"}
    config: ABanditNASConfig

    def space_of(self, subject: Subject) -> tuple[str, Any]:
        """Return the cells."""
        return "cell", self.config.space

    def find(self, subject: Subject, space: Space) -> Architecture:
        """Return what is left in the end."""
        assert isinstance(space, CellSpace)
        return searched(space, subject, self.config, self.folder).architecture

    def train(self, subject: Subject, before: Subject, seed: int) -> None:
        """Draw the first weights by the seed, and let the network learn on attacked examples."""
        self.space.draw(network_of(subject.module), derive_seed(seed, "first weights"))
        config = self.config
        losses = functools.partial(attacked_loss, subject.task, eps=config.eps, step_share=config.step_share)
        teach(subject, config.teach, seed, losses=losses)


class Found(NamedTuple):
    """What a search found: architecture, what is known of all arms in the end, shared weights, and trials' rewards."""

    architecture: Architecture
    arms: Arms
    evaluator: SharedEvaluator
    rewards: list[float]


def searched(space: CellSpace, subject: Subject, config: ABanditNASConfig, folder: Path | None = None) -> Found:
    """Search, or go on with a search.

    Args:
        space: of cells; the search sees all of its edges.
        subject: whose task is learned.
        config: see ABanditNASConfig.
        folder: keeps the history; None for nowhere.
    """
    whole = all_edges(space)
    task = AttackedParts(halves(network_task(subject), config.seed), eps=config.eps, step_share=config.step_share)
    steps = config.epochs * max(1, len(task.source("train")) // config.shared.batch_size)
    kinds = len(config.space.operations)
    trials = kinds + trial_epochs(kinds, config.tries)
    supernet = Supernet(whole, seed=derive_seed(config.seed, "supernet")).to(subject.device)
    learning = replace(config.shared, total=steps * trials)
    shared = SharedWeights(supernet, task, learning, seed=derive_seed(config.seed, "shared"))
    evaluator = SharedEvaluator(shared, steps=steps, statistics=config.statistics)
    arms = Arms(whole.sizes, momentum=config.momentum)
    rule = anti_bandit(arms, config.tries, np.random.default_rng(derive_seed(config.seed, "draws")))
    description = {"method": "abandit_nas", "seed": config.seed, "eps": config.eps, "tries": config.tries}
    strategy = Trials(rule, reward_of(task.unit))
    outcome = search(whole, strategy, evaluator, budget=trials, folder=folder, description=description)
    chosen = arms.best()
    found = strongest_edges(space, chosen, arms.means)
    return Found(found, arms, evaluator, [strategy.reward_for(score) for _, score in outcome.judged])
