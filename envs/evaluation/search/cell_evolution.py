"""Populations of cells, layer by layer, whose fitnesses learn: AutoSpace's evolution (arXiv:2103.11833).

envs/evaluation/search/autospace.py says what is evolved and why, and makes a search of it.

Shapes: L layers, P members of a population, K drawn.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from envs.evaluation.search.sampling import tournament
from envs.evaluation.search.shared_weights import begin_momentum
from envs.evaluation.search.space import Architecture
from envs.evaluation.search.spaces.chain import BlockPlan, ChainConfig, ChainNetwork
from envs.evaluation.search.spaces.graph_cell import (
    REFERENCE,
    Graph,
    GraphSpace,
    ListedChainConfig,
    ListedChainSpace,
    all_parts,
    graph_cost,
    make_part,
    parts,
    run_graph,
)
from envs.evaluation.tasks import Task
from rlsuite.data.minibatches import minibatch
from rlsuite.data.source import Source
from rlsuite.errors import UserError, require, require_finite
from rlsuite.fit import NonFiniteLossError
from rlsuite.optim.choice import OptimizerConfig, ScheduleConfig, make_optimizer, set_factor
from rlsuite.optim.clipping import clip_together
from rlsuite.optim.state import load_optimizer_tensors, optimizer_tensors
from rlsuite.records.checkpoint import read_checkpoint, resolve_checkpoint, save_checkpoint
from rlsuite.running.seeding import derive_seed

CELLS = GraphSpace()


@dataclass(frozen=True, kw_only=True)
class EvolveConfig:
    """How cells evolve.

    Attributes:
        population: P.
        drawn: K.
        rounds: of drawing, learning and writing back.
        steps: minibatches of each round.
        alone: minibatches in which the reference learns by itself, before.
        reference: whether there is one.
        contest: members that each tournament draws.
        uniform: rounds that draw all members alike, at first.
        floor: probability of such a draw afterwards.
        mutation: probability that a drawn cell is a mutant of it.
        momentum: share of the stored fitness that stays when a new one comes.
        draw_together: share of the way to the population's mean that fitnesses go in each round.
        batch_size: examples.
        optimizer: of the weights.
        fitness_rate: learning rate of Adam for fitnesses, with betas 0.5 and 0.999.
        macs: of the mixture's cells, that the budget's term counts in; 0 for no such term.
        weight: of that term.
    """

    population: int = 32
    drawn: int = 4
    rounds: int = 60
    steps: int = 30
    alone: int = 60
    reference: bool = True
    contest: int = 8
    uniform: int = 5
    floor: float = 0.1
    mutation: float = 0.5
    momentum: float = 0.5
    draw_together: float = 0.01
    batch_size: int = 64
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(name="sgd", learning_rate=0.05, weight_decay=4e-5)
    )
    fitness_rate: float = 3e-3
    macs: float = 0.0
    weight: float = 0.1

    def __post_init__(self) -> None:
        for name in ("drawn", "rounds", "steps", "contest", "batch_size"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        for name in ("alone", "uniform"):
            require(getattr(self, name) >= 0, f"{name}={getattr(self, name)}: use 0 or more")
        require(self.population > self.drawn, f"population={self.population}: use more than drawn={self.drawn}")
        for name in ("floor", "mutation", "momentum", "draw_together"):
            require(0.0 <= getattr(self, name) <= 1.0, f"{name}={getattr(self, name)}: use a share in [0, 1]")
        for name in ("macs", "weight"):
            require_finite(name, getattr(self, name), low=0.0)
        require_finite("fitness_rate", self.fitness_rate, above=0.0)


class Population:
    """The cells of one layer.

    Fitnesses are no pure measure of worth: they learn in rounds in which a cell is drawn, by small steps, so those of
    cells that were drawn often are the larger ones. The reference, which is in every round and is not drawn together
    with the others, is usually ahead of all of them.

    Args:
        size: P, all unlike each other.
        rng: of the cells.

    Attributes:
        cells: P architectures of GraphSpace.
        fitness: (P,).
        reference: fitness of the reference.
    """

    def __init__(self, size: int, rng: np.random.Generator) -> None:
        found: dict[Any, Architecture] = {}
        while len(found) < size:
            one = CELLS.sample(rng)
            found.setdefault(CELLS.canonical(one), one)
        self.cells, self.fitness, self.reference = list(found.values()), np.zeros(size), 0.0

    def draw(self, config: EvolveConfig, uniform: bool, rng: np.random.Generator) -> list[int]:
        """Return K members, no two the same, after mutation."""
        drawn: list[int] = []
        while len(drawn) < config.drawn:
            alike = uniform or rng.random() < config.floor
            one = tournament(self.fitness, 1 if alike else config.contest, rng)
            # A small population can be exhausted by its best: the next draw is uniform over the others.
            others = [place for place in range(len(self.cells)) if place not in drawn]
            drawn.append(one if one not in drawn else int(rng.choice(others)))
        taken = set(drawn)
        return [self._mutated(one, taken, rng) if rng.random() < config.mutation else one for one in drawn]

    def _mutated(self, parent: int, taken: set[int], rng: np.random.Generator) -> int:
        """Put a mutant in the place of the worst member that is not drawn; return that place, else the parent's."""
        child = CELLS.mutate(self.cells[parent], rng)
        known = {CELLS.canonical(one) for one in self.cells}
        others = [place for place in range(len(self.cells)) if place not in taken]
        if CELLS.canonical(child) in known or not others:
            return parent
        worst = min(others, key=lambda place: self.fitness[place])
        self.cells[worst], self.fitness[worst] = child, self.fitness[parent]
        taken.add(worst)  # no other mutant's place in this round
        return worst

    def write_back(self, drawn: list[int], values: np.ndarray, config: EvolveConfig) -> None:
        """Take the fitnesses (K + 1,) that were learned, the reference's last."""
        keep = config.momentum
        for place, value in zip(drawn, values[:-1], strict=True):
            self.fitness[place] = keep * self.fitness[place] + (1.0 - keep) * value
        self.reference = keep * self.reference + (1.0 - keep) * float(values[-1])
        self.fitness += config.draw_together * (self.fitness.mean() - self.fitness)

    def top(self, count: int, *, reference: bool) -> list[Graph]:
        """Return the best cells; the reference stands first where its fitness is the largest."""
        order = np.argsort(-self.fitness, kind="stable")[:count]
        found = [CELLS.graph(self.cells[place]) for place in order]
        if reference and self.reference >= self.fitness.max():
            found = [REFERENCE, *[one for one in found if one != REFERENCE]][:count]
        return found


class EvolvingBlock(nn.Module):
    """A layer: cells side by side, with parts from one bank.

    Args:
        plan: its ends.
        drawn: K.
        reference: whether there is one.
    """

    def __init__(self, plan: BlockPlan, drawn: int, *, reference: bool) -> None:
        super().__init__()
        self.plan, self.graphs = plan, [REFERENCE] * drawn
        self.bank = nn.ModuleDict({key: make_part(*part) for key, part in all_parts(plan).items()})
        made = {key: make_part(*part) for key, part in parts(REFERENCE, plan).items()} if reference else {}
        self.reference = nn.ModuleDict(made)
        self.fitness = nn.Parameter(torch.zeros(drawn + 1))
        self.alone = False

    def weights(self) -> Tensor:
        """Return w (K + 1,): 0 for a reference that is not there."""
        fitness = self.fitness
        if not len(self.reference):
            fitness = torch.cat([fitness[:-1], fitness.new_full((1,), -torch.inf)])
        return fitness.softmax(0)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', H', W')."""
        stride, found = self.plan.stride, None
        if self.alone:
            found = run_graph(REFERENCE, self.reference, inputs, stride)
        else:
            weights = self.weights()
            terms = [w * run_graph(g, self.bank, inputs, stride) for w, g in zip(weights, self.graphs, strict=False)]
            if len(self.reference):
                terms.append(weights[-1] * run_graph(REFERENCE, self.reference, inputs, stride))
            found = torch.stack(terms).sum(0)
        return found + inputs if self.plan.keeps_shape else found

    def expected_macs(self) -> Tensor:
        """Return the mixture's mean MACs, differentiable."""
        costs = [graph_cost(graph, self.plan).macs for graph in (*self.graphs, REFERENCE)]
        return (self.weights() * torch.tensor(costs, dtype=self.fitness.dtype, device=self.fitness.device)).sum()


class Evolution:
    """Populations, the network they stand in, and their learning.

    Args:
        chain: the layers.
        ends: channels, size and outputs.
        task: what is learned; source("train") for weights, source("test") for fitnesses (`halves`).
        config: see EvolveConfig.
        seed: of everything.
        device: where the network learns.

    Attributes:
        losses: the mean loss of the weights, round by round.
        round: rounds done.
    """

    def __init__(
        self,
        chain: ChainConfig,
        ends: dict[str, Any],
        task: Task,
        config: EvolveConfig,
        *,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self.task, self.config, self.seed, self.round, self.step = task, config, seed, 0, 0
        space = ListedChainSpace(ListedChainConfig(chain=chain), **ends)
        self.blocks = [EvolvingBlock(plan, config.drawn, reference=config.reference) for plan in space.plans()]
        self.network = ChainNetwork(space, list(self.blocks))
        space.draw(self.network, derive_seed(seed, "first weights"))
        self.network.to(device)
        rng = np.random.default_rng(derive_seed(seed, "populations"))
        self.populations = [Population(config.population, rng) for _ in self.blocks]
        learned = {name: w for name, w in self.network.named_parameters() if not name.endswith(".fitness")}
        self.weights = list(learned.values())
        self.optimizer = make_optimizer(learned, config.optimizer)
        begin_momentum(self.optimizer)
        self.losses: list[float] = []

    def run(self, folder: Path | None = None) -> None:
        """Evolve until the end; with a folder, go on from what is there, and save after each round."""
        config = self.config
        if folder is not None and (folder / "checkpoints").exists():
            self.load(folder)
        if not self.round and not self.step and config.reference:
            for block in self.blocks:
                block.alone = True
            self._learn(config.alone, None)
            for block in self.blocks:
                block.alone = False
        while self.round < config.rounds:
            rng = np.random.default_rng(derive_seed(self.seed, f"round {self.round}"))
            uniform = self.round < config.uniform
            drawn = [population.draw(config, uniform, rng) for population in self.populations]
            for block, population, places in zip(self.blocks, self.populations, drawn, strict=True):
                block.graphs = [CELLS.graph(population.cells[place]) for place in places]
                values = [*population.fitness[places], population.reference]
                block.fitness.data.copy_(torch.tensor(values, dtype=block.fitness.dtype))
            betas = (0.5, 0.999)
            fitness = torch.optim.Adam([b.fitness for b in self.blocks], lr=config.fitness_rate, betas=betas)
            self.losses.append(self._learn(config.steps, fitness))
            for block, population, places in zip(self.blocks, self.populations, drawn, strict=True):
                population.write_back(places, block.fitness.detach().cpu().double().numpy(), config)
            self.round += 1
            if folder is not None:
                self.save(folder)

    def _learn(self, steps: int, fitness: torch.optim.Optimizer | None) -> float:
        """Learn in turn: fitnesses from their half of the examples, weights from theirs; return the weights' loss."""
        config, device = self.config, self.weights[0].device
        total = config.steps * config.rounds + config.alone * config.reference
        schedule, losses = ScheduleConfig(kind="cosine"), torch.zeros((), device=device)
        self.network.train()
        for _ in range(steps):
            if fitness is not None:
                loss = self._loss("test")
                if config.macs:
                    macs = torch.stack([block.expected_macs() for block in self.blocks]).sum()
                    loss = loss + config.weight * macs / config.macs
                loss.backward(inputs=[block.fitness for block in self.blocks])
                fitness.step()
                fitness.zero_grad(set_to_none=True)
            loss = self._loss("train")
            losses += loss.detach()
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            for block in self.blocks:
                block.fitness.grad = None
            clip_together([weight.grad for weight in self.weights if weight.grad is not None], 5.0)
            set_factor(self.optimizer, schedule.factor(min(self.step, total), total))
            self.optimizer.step()
            self.step += 1
        if not bool(torch.isfinite(losses)):
            raise NonFiniteLossError(
                f"the loss became non-finite by minibatch {self.step}; use a smaller learning_rate"
            )
        return float(losses) / max(1, steps)

    def _loss(self, part: str) -> Tensor:
        source: Source = self.task.source(part)
        index = minibatch(derive_seed(self.seed, part), self.step, len(source), self.config.batch_size)
        device = self.weights[0].device
        batch = {name: value.to(device) for name, value in source.examples(index).items()}
        return self.task.loss(self.network, batch).mean()

    def save(self, folder: Path) -> None:
        """Write weights, optimizer and populations."""
        tensors = optimizer_tensors({"weights": self.optimizer})
        populations = [
            {"cells": population.cells, "fitness": population.fitness.tolist(), "reference": population.reference}
            for population in self.populations
        ]
        about = {"made": self._made(), "round": self.round, "losses": self.losses, "populations": populations}
        save_checkpoint(folder, self.step, {"network": self.network.state_dict(), "optimizer": tensors}, about)

    def load(self, folder: Path) -> None:
        """Go on from what `save` wrote.

        Raises:
            UserError: if it cannot be read, or is another search's.
        """
        checkpoint = read_checkpoint(resolve_checkpoint(folder))
        about = checkpoint.metadata
        if about.get("made") != self._made():
            raise UserError(f"{checkpoint.path} is of another search; begin in another folder")
        self.network.load_state_dict(checkpoint.parts["network"])
        load_optimizer_tensors({"weights": self.optimizer}, checkpoint.parts["optimizer"])
        for population, kept in zip(self.populations, about["populations"], strict=True):
            population.cells = [CELLS.check(tuple(cell)) for cell in kept["cells"]]
            population.fitness, population.reference = np.asarray(kept["fitness"]), kept["reference"]
        self.step, self.round, self.losses = checkpoint.step, about["round"], about["losses"]

    def _made(self) -> dict[str, Any]:
        plain = dataclasses.asdict(self.config)
        return {"seed": self.seed, "layers": len(self.blocks), "config": {key: str(plain[key]) for key in plain}}

    def learned_space(self, count: int, *, reference: bool = True) -> tuple[tuple[tuple[int, ...], ...], ...]:
        """Return for each layer its best cells, the best first, as `ListedChainConfig.cells` takes them.

        Args:
            count: cells of each layer.
            reference: whether the reference is offered where it is ahead; else evolved cells alone.
        """
        reference = reference and self.config.reference
        tops = [population.top(count, reference=reference) for population in self.populations]
        return tuple(tuple(graph.row() for graph in top) for top in tops)
