"""CP-NAS: cells of 1-bit convolutions, judged with a float network of the same shape (arXiv:2005.00057).

Every sampled architecture is trained twice, one epoch on the same minibatches: as a Child, 1-bit weights and
activations, and as a float Parent. Their weights and normalizations are their own, kept for each edge and operation. On
the same validation examples they have accuracies A_C and A_P, and every operation of the architecture is given

    z = beta (A_P - A_C) + A_C                                              (beta_P in the paper, 2)

The gap counts as room to improve: with beta above 1 a better Child of an equal Parent has a lower z. That is the sign
of the formula and of its figure, so it stays as it is; all three numbers are logged for every trial. A round is K
trials, without replacement on each edge; after T rounds e(o_k) = exp(mean z_k) / sum exp(mean z_k') is computed, and
the lowest goes on every edge, until one is left: 35 T epochs of both from K = 8, 105 for T = 3. Ours: `warm_up` rounds
before that whose scores are thrown away, since weight-free operations need no training. Of each node the two edges of
the highest last e stay, "none" never: where a node has no other edge the best other operation stands there.

What was found learns by L = L_task + L_H:

    L_H = kernels * sum over filters MSE(H, scale sign(H)) + centre / 2 * sum over examples |f - mean of its class|^2,

f what the last layer sees, means over the minibatch. Both weights are ours; tasks without classes have no second term.
Shortcuts around 1-bit convolutions stand where shapes are equal (`search.operations.OneBitStage`, our reading of the
figure). With convolution="rbnn" the rotations of its layers are renewed before every trial. No code was released: the
loop is a reconstruction, T is that of BNAS. The networks of CIFAR-10 and ImageNet (600 epochs, dropped paths, teacher)
are not here.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from torch import Tensor, nn
from torch.nn import functional

from envs.evaluation.quantization.binary_convolutions import pack_binary_layers, reconstruction_error
from envs.evaluation.quantization.rotated import RotatedLayer, improve_rotations, sharpen
from envs.evaluation.search.bandit import Arms, trial_epochs
from envs.evaluation.search.door import Search, network_of, network_task
from envs.evaluation.search.elimination import Rule, Trials, all_edges, reward_of, strongest_edges, within_budget
from envs.evaluation.search.evaluators import SharedEvaluator, halves
from envs.evaluation.search.sampling import fair_round
from envs.evaluation.search.shared_weights import SharedConfig, SharedWeights
from envs.evaluation.search.space import Architecture, Space
from envs.evaluation.search.spaces.cell import CellSpace, CellSpaceConfig
from envs.evaluation.search.spaces.cell_network import CellNetwork
from envs.evaluation.search.strategy import search
from envs.evaluation.search.supernet import Supernet
from envs.evaluation.subject import Subject
from envs.evaluation.transform import TeachConfig, teach
from rlsuite.errors import require, require_finite
from rlsuite.records.checkpoint import read_checkpoint, resolve_checkpoint, save_checkpoint
from rlsuite.running.seeding import derive_seed

OPERATIONS = (
    "none",
    "skip_connect",
    "max_pool_3x3",
    "avg_pool_3x3",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
RENEWALS = 20  # of rotations while what was found learns


@dataclass(frozen=True, kw_only=True)
class CPNASConfig:
    """A search for a network of pictures with 1-bit weights and activations.

    Attributes:
        space: of cells, of which all edges are searched, and `picks` of a node stay; its convolution is the Child's.
        kilobytes: of the network that is chosen at most; 0 for no budget.
        beta: of the gap between Parent and Child; 0 is the Child alone, 1 the Parent alone.
        tries: T.
        warm_up: rounds before the first, whose scores do not count.
        shared: how both kinds of shared weights learn; the schedule is stretched over the whole search.
        statistics: batches that each candidate's normalizations are measured on anew; 0 takes the shared ones.
        kernels: weight of the filters' error from their signs, in the loss of the network that was found.
        centre: weight of the distances from class means.
        seed: of all draws.
        teach: how the network that was found learns.
    """

    space: CellSpaceConfig = field(
        default_factory=lambda: CellSpaceConfig(
            operations=OPERATIONS,
            layout=("normal", "normal", "reduction", "normal", "reduction", "normal"),
            convolution="xnor_one_bit",
        )
    )
    kilobytes: float = 0.0
    beta: float = 2.0
    tries: int = 3
    warm_up: int = 1
    shared: SharedConfig = field(default_factory=SharedConfig)
    statistics: int = 5
    kernels: float = 1e-4
    centre: float = 1e-4
    seed: int = 0
    teach: TeachConfig = field(default_factory=TeachConfig)

    def __post_init__(self) -> None:
        for name in ("kilobytes", "beta", "kernels", "centre"):
            require_finite(name, getattr(self, name), low=0.0)
        require(self.tries >= 1, f"tries={self.tries}: use 1 or more")
        for name in ("warm_up", "statistics", "seed"):
            require(getattr(self, name) >= 0, f"{name}={getattr(self, name)}: use 0 or more")


class Found(NamedTuple):
    """What a search found.

    Attributes:
        architecture: what is left.
        trials: each trial's "path", "parent", "child" (accuracies) and "z".
        indicators: e (P, K) whenever an operation was given up, 0 where one was gone already.
        evaluator: with the shared weights.
    """

    architecture: Architecture
    trials: list[dict[str, Any]]
    indicators: list[np.ndarray]
    evaluator: ChildParentEvaluator


def mixed_score(parent: float, child: float, beta: float) -> float:
    """Return z of two accuracies in [0, 1]."""
    return beta * (parent - child) + child


def score_range(beta: float) -> tuple[float, float]:
    """Return the least and the largest z there can be."""
    return min(0.0, 1.0 - beta), max(1.0, beta)


def child_parent(
    arms: Arms, tries: int, warm_up: int, beta: float, indicators: list[np.ndarray], rng: np.random.Generator
) -> Rule:
    """The rule; its rewards are z moved to [0, 1] (`score_range`), and `indicators` is filled."""
    low, high = score_range(beta)
    for _ in range(warm_up if arms.left > 1 else 0):
        for path in fair_round(arms.alive, rng):
            yield path
    while arms.left > 1:
        arms.forget()
        for _ in range(tries):
            for path in fair_round(arms.alive, rng):
                arms.update(path, (yield path))
        powers = np.where(arms.alive, np.exp(low + (high - low) * arms.means), 0.0)
        indicators.append(powers / powers.sum(1, keepdims=True))
        arms.eliminate(indicators[-1])


class ChildParentEvaluator:
    """Trains and judges both networks of an architecture; the score is z.

    Args:
        child: of 1-bit weights.
        parent: of floats; same minibatches, same validation examples.
        beta: see CPNASConfig.

    Attributes:
        log: see Found.trials.
    """

    changes = True

    def __init__(self, child: SharedEvaluator, parent: SharedEvaluator, beta: float) -> None:
        self.child, self.parent, self.beta = child, parent, beta
        self.reward = reward_of(child.shared.task.unit)
        self.description = child.description
        self.log: list[dict[str, Any]] = []

    def prepare(self, train: Sequence[Architecture]) -> None:
        """Let both learn one epoch; rotations are renewed before, and signs' gradients sharpened."""
        shared = self.child.shared
        sharpen(shared.supernet, min(1.0, shared.step / shared.config.total))
        for path in train:
            _renew_along(shared.supernet, path)
        self.child.prepare(train)
        self.parent.prepare(train)

    def score(self, judge: Sequence[Architecture]) -> list[float]:
        """Return z of each."""
        pairs = zip(judge, self.parent.score(judge), self.child.score(judge), strict=True)
        found = []
        for path, *scores in pairs:
            parent, child = map(self.reward, scores)
            found.append(mixed_score(parent, child, self.beta))
            self.log.append({"path": list(path), "parent": parent, "child": child, "z": found[-1]})
        return found

    def save(self, folder: Path) -> None:
        """Write both networks and the log."""
        self.child.save(folder / "child")
        self.parent.save(folder / "parent")
        save_checkpoint(folder / "log", len(self.log), {"nothing": {}}, {"log": self.log})

    def load(self, folder: Path) -> None:
        """Read them."""
        self.child.load(folder / "child")
        self.parent.load(folder / "parent")
        self.log[:] = read_checkpoint(resolve_checkpoint(folder / "log")).metadata["log"]


def _renew_along(supernet: Supernet, path: Architecture) -> None:
    """Renew the rotations of the layers that a path goes through; the others' weights have not changed since."""
    elsewhere = {
        id(part)
        for slot in supernet.slots.values()
        for number, choice in slot.choices.items()
        if int(number) != path[slot.place]
        for part in choice.modules()
    }
    for part in supernet.modules():
        if isinstance(part, RotatedLayer) and id(part) not in elsewhere:
            part.improve_rotation()


class Watched(nn.Module):
    """A network of cells that keeps what its last layer saw."""

    features: Tensor

    def __init__(self, network: CellNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, pictures: Tensor) -> Tensor:
        """Map pictures (B, C, H, W) to (B, outputs)."""
        self.features = self.network.features(pictures)
        return self.network.head(self.features)


def centre_loss(features: Tensor, label: Tensor) -> Tensor:
    """Return the sum over examples of |f - mean of its class|^2 / 2 (Wen et al. 2016), means over the minibatch.

    Args:
        features: (B, F).
        label: (B,) int64.
    """
    member = functional.one_hot(label).to(features)
    counts = member.sum(0).clamp_min(1.0)
    means = (member.mT @ features) / counts.unsqueeze(1)
    return 0.5 * (features - means[label]).square().sum()


class CPNAS(Search):
    """The search as a transform; what it found is kept with a bit a weight."""

    Config = CPNASConfig
    needs: ClassVar = {"convolutional": "it sees no pictures; use search/ncp"}
    gives = frozenset({"searched", "quantized"})
    config: CPNASConfig

    def space_of(self, subject: Subject) -> tuple[str, Any]:
        """Return the cells."""
        return "cell", self.config.space

    def find(self, subject: Subject, space: Space) -> Architecture:
        """Return the cells that are left, within the budget."""
        assert isinstance(space, CellSpace)
        return searched(space, subject, self.config, self.folder).architecture

    def train(self, subject: Subject, before: Subject, seed: int) -> None:
        """Draw the first weights by the seed, and let the network learn by the loss of Child and Parent."""
        network = network_of(subject.module)
        assert isinstance(network, CellNetwork)
        self.space.draw(network, derive_seed(seed, "first weights"))
        task, config = network_task(subject), self.config

        def losses(module: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
            watched = Watched(network)
            loss = task.loss(watched, batch).mean() + config.kernels * reconstruction_error(network)
            if "label" in batch:
                loss = loss + config.centre * centre_loss(watched.features, batch["label"])
            return {"loss": loss}

        teach(subject, config.teach, seed, losses=losses, hooks=[functools.partial(_renew, network, [])])

    def finish(self, module: nn.Module) -> nn.Module:
        """Return the network with packed signs."""
        return pack_binary_layers(module)


def _renew(network: nn.Module, done: list[int], step: int, share: float) -> None:
    """Sharpen signs' gradients, and renew rotations a number of times, where there are any."""
    sharpen(network, share)
    number = int(share * RENEWALS)
    if number < RENEWALS and number not in done:
        improve_rotations(network)
        done.append(number)


def searched(space: CellSpace, subject: Subject, config: CPNASConfig, folder: Path | None = None) -> Found:
    """Search, or go on with a search.

    Args:
        space: of cells; the search sees all of its edges.
        subject: whose task is learned.
        config: see CPNASConfig.
        folder: keeps the history; None for nowhere.

    Raises:
        UserError: if no network is within the budget, or only cells are left that let nothing pass.
    """
    if config.kilobytes:
        space.require_budget("cp_nas.kilobytes", config.kilobytes, "kilobytes")
    task = halves(network_task(subject), config.seed)
    steps = max(1, len(task.source("train")) // config.shared.batch_size)
    kinds = len(config.space.operations)
    trials = trial_epochs(kinds, config.tries) + (config.warm_up * kinds if kinds > 1 else 0)
    learning = replace(config.shared, total=max(1, steps * trials))
    child_space = all_edges(space)
    floats = replace(child_space.config, convolution="float")
    parent_space = CellSpace(floats, channels=space.channels, size=space.size, outputs=space.outputs)
    roles = []
    for role, each in (("child", child_space), ("parent", parent_space)):
        supernet = Supernet(each, seed=derive_seed(config.seed, role)).to(subject.device)
        shared = SharedWeights(supernet, task, learning, seed=derive_seed(config.seed, "shared"))  # same minibatches
        roles.append(SharedEvaluator(shared, steps=steps, statistics=config.statistics))
    evaluator = ChildParentEvaluator(roles[0], roles[1], config.beta)
    arms, indicators = Arms(child_space.sizes), []
    rng = np.random.default_rng(derive_seed(config.seed, "draws"))
    rule = child_parent(arms, config.tries, config.warm_up, config.beta, indicators, rng)
    low, high = score_range(config.beta)
    strategy = Trials(rule, lambda z: min(1.0, max(0.0, (z - low) / (high - low))))
    description = {
        "method": "cp_nas",
        "seed": config.seed,
        "beta": config.beta,
        "tries": config.tries,
        "warm_up": config.warm_up,
        "convolution": config.space.convolution,
    }
    search(child_space, strategy, evaluator, budget=max(1, trials), folder=folder, description=description)
    values = np.zeros(arms.alive.shape)
    for indicator in indicators:  # of each operation its last e
        values = np.where(indicator > 0, indicator, values)
    chosen = arms.best()
    found = strongest_edges(space, chosen, values)
    require(space.valid(found), "only cells are left that let nothing pass; leave none out of space.operations")
    if config.kilobytes:
        found = within_budget(space, found, values, config.kilobytes)
    return Found(found, evaluator.log, indicators, evaluator)
