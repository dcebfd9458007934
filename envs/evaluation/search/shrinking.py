"""A network that shrinks while it learns: a price on every atom, and those that are worth less go (AtomNAS).

    loss = task + rho sum_i c_i |scale_i|,   c_i = an atom's MACs / the mean MACs of all atoms        (section 3.2)

rho rises from 0 at first. After each epoch an atom is dead whose scale is below the threshold both in the weights and
in their running average; when the dead ones amount to enough MACs, they are cut out of weights, average and optimizer.
In the end the average decides alone, becomes the network, and its normalizations are measured anew. Prices are those of
the first network and never change (so the authors' code).

Shapes: H atoms of a group.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from envs.evaluation.search.atoms import (
    Atoms,
    Tensors,
    counts,
    cut_axes,
    cut_module,
    cut_optimizer,
    cut_tensors,
    cut_to,
    find_atoms,
    fold_constants,
    survivors,
)
from envs.evaluation.search.supernet import reestimate_statistics
from envs.evaluation.tasks import Task
from rlsuite.data.counters import counted_seed
from rlsuite.data.minibatches import minibatch
from rlsuite.errors import UserError, require, require_choice, require_finite
from rlsuite.fit import FitConfig, NonFiniteLossError
from rlsuite.nn.gate import Gate
from rlsuite.optim.choice import GroupConfig, OptimizerConfig, ScheduleConfig, make_optimizer, set_factor
from rlsuite.optim.clipping import clip_together
from rlsuite.optim.state import load_optimizer_tensors, optimizer_tensors
from rlsuite.records.checkpoint import read_checkpoint, resolve_checkpoint, save_checkpoint
from rlsuite.running.seeding import derive_seed

PRICES = ("macs", "equal")


@dataclass(frozen=True, kw_only=True)
class ShrinkConfig:
    """How a network learns and shrinks.

    Attributes:
        rho: price of an atom of mean cost; 1e-4 to 1.8e-4 in the paper, whose trainings are far longer.
        rise: share of the training in which rho rises from 0 (25 of 350 epochs in the paper).
        price: "macs", or "equal" for all atoms.
        threshold: scales below it are dead.
        least: cut when dead atoms have this share of the first network's atoms' MACs (1e6 MACs in the paper).
        average: memory of the running average of the weights, for minibatches of `average_batch` examples; shorter at
            first: (1 + t) / (10 + t).
        average_batch: see average.
        statistics: batches that normalizations are measured on in the end.
        fit: minibatches and optimizer; nothing is held out. Its decay is not for normalizations and gates.
    """

    rho: float = 1e-3
    rise: float = 0.25
    price: str = "macs"
    threshold: float = 1e-3
    least: float = 0.01
    average: float = 0.9999
    average_batch: int = 4096
    statistics: int = 10
    fit: FitConfig = field(
        default_factory=lambda: FitConfig(
            steps=1000,
            batch_size=64,
            optimizer=OptimizerConfig(learning_rate=2e-3, weight_decay=1e-5),
            schedule=ScheduleConfig(kind="cosine"),
        )
    )

    def __post_init__(self) -> None:
        for name in ("rho", "threshold", "least"):
            require_finite(name, getattr(self, name), low=0.0)
        require_choice("price", self.price, PRICES)
        require(0.0 <= self.rise <= 1.0, f"rise={self.rise}: use a share in [0, 1]")
        require(0.0 <= self.average < 1.0, f"average={self.average}: use 0 or more, and less than 1")
        for name in ("average_batch", "statistics"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        unused = not (self.fit.held_out or self.fit.patience or self.fit.deadline_s)
        require(unused, "fit: held_out, patience and deadline_s are not for a network that shrinks; leave them 0")


class Price:
    """What the atoms of a network cost, fixed when it is made.

    Args:
        groups: of atoms.
        module: whose they are.
        price: one of PRICES.

    Attributes:
        normalizer: the mean MACs of an atom.
        shares: c of each group's atoms, by the name of its scales.
    """

    def __init__(self, groups: Sequence[Atoms], module: nn.Module, price: str = "macs") -> None:
        sizes = counts(module)
        self.normalizer = sum(group.macs * sizes[group.scale] for group in groups) / max(1, sum(sizes.values()))
        self.shares = {group.scale: group.macs / self.normalizer if price == "macs" else 1.0 for group in groups}

    def __call__(self, weights: Tensors) -> Tensor:
        """Return the sum over atoms of c |scale|, for weights by their names."""
        return sum(
            (self.shares[name] * weights[name].abs().sum() for name in self.shares if name in weights),
            torch.zeros((), device=next(iter(weights.values())).device),
        )


class Shrinking:
    """One training of a network that shrinks, in place.

    Args:
        module: learns; it has atoms (`atoms.find_atoms`).
        task: what; from its source("train").
        config: see ShrinkConfig.
        seed: of minibatches and of what layers draw.

    Attributes:
        step: minibatches done.
        epochs: for each: atoms' MACs left, and CPU seconds.
    """

    def __init__(self, module: nn.Module, task: Task, config: ShrinkConfig, *, seed: int) -> None:
        self.module, self.task, self.config, self.seed = module, task, config, seed
        self.groups = find_atoms(module)
        if not self.groups:
            raise UserError("the network has no atoms; use inverted residual blocks or gated layers")
        self.price = Price(self.groups, module, config.price)
        self.whole = self._macs(counts(module))
        self.optimizer_config = _without_decay(module, config.fit.optimizer)
        self._begin()
        self.source = task.source("train")
        self.per_epoch = max(1, len(self.source) // config.fit.batch_size)
        self.average = {name: value.clone() for name, value in module.state_dict().items()}
        self.step, self.epochs = 0, []

    def run(self, folder: Path | None = None) -> None:
        """Learn and shrink until the end; with a folder, go on from what is there, and save after each epoch."""
        total = self.config.fit.steps
        if folder is not None and (folder / "checkpoints").exists():
            self.load(folder)
        while self.step < total:
            began = time.process_time()
            self._learn(min(self.per_epoch, total - self.step))
            self.shrink(final=self.step >= total)
            self.epochs.append({"macs": self._macs(counts(self.module)), "seconds": time.process_time() - began})
            if folder is not None:
                self.save(folder)
        self.module.load_state_dict(self.average)
        device = next(self.module.parameters()).device
        seed, size = derive_seed(self.seed, "statistics"), self.config.fit.batch_size
        index = (minibatch(seed, step, len(self.source), size) for step in range(self.config.statistics))
        reestimate_statistics(self.module, (self.source.examples(each)["input"].to(device) for each in index))
        self.module.eval()

    def _learn(self, steps: int) -> None:
        config = self.config
        fit, device = config.fit, next(self.module.parameters()).device
        losses = torch.zeros((), device=device)
        self.module.train()
        state, weights = self.module.state_dict(), dict(self.module.named_parameters())
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            for _ in range(steps):
                torch.manual_seed(counted_seed(derive_seed(self.seed, "layers"), self.step))
                seed = derive_seed(self.seed, "minibatches")
                index = minibatch(seed, self.step, len(self.source), fit.batch_size, fit.order)
                batch = {name: value.to(device) for name, value in self.source.examples(index).items()}
                rising = min(1.0, (self.step + 1) / max(1.0, config.rise * fit.steps))
                loss = self.task.loss(self.module, batch).mean()
                losses += loss.detach()
                self.optimizer.zero_grad(set_to_none=True)
                (loss + config.rho * rising * self.price(weights)).backward()
                if fit.clip_norm:
                    clip_together([w.grad for w in weights.values() if w.grad is not None], fit.clip_norm)
                set_factor(self.optimizer, fit.schedule.factor(self.step, fit.steps))
                self.optimizer.step()
                self._remember(state)
                self.step += 1
        if not bool(torch.isfinite(losses)):
            raise NonFiniteLossError(
                f"the loss became non-finite by minibatch {self.step}; use a smaller learning_rate"
            )

    @torch.no_grad()
    def _remember(self, state: dict[str, Tensor]) -> None:
        """Let the average follow the weights and the statistics."""
        memory = self.config.average ** (self.config.fit.batch_size / self.config.average_batch)
        memory = min(memory, (1 + self.step) / (10 + self.step))
        for name, value in state.items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1.0 - memory)
            else:
                self.average[name].copy_(value)

    def shrink(self, *, final: bool = False) -> int:
        """Cut dead atoms out, if they are enough or this is the end; return the MACs that went."""
        state = self.module.state_dict()
        scales = [self.average[group.scale] for group in self.groups]
        dead = [scale.abs() < self.config.threshold for scale in scales]
        amount = sum(group.macs * int(each.sum()) for group, each in zip(self.groups, dead, strict=True))
        if not final:
            dead = [
                each & (state[group.scale].abs() < self.config.threshold)
                for group, each in zip(self.groups, dead, strict=True)
            ]
            if amount < self.config.least * self.whole:
                return 0
        kept = survivors(self.groups, scales, dead, self.module)
        if all(len(keep) == len(scale) for keep, scale in zip(kept, scales, strict=True)):
            return 0
        before = self._macs(counts(self.module))
        for group, keep, scale in zip(self.groups, kept, scales, strict=True):
            gone = torch.ones_like(scale, dtype=torch.bool).index_fill_(0, keep, value=False).nonzero().flatten()
            fold_constants(self.module, state, group, gone)
            fold_constants(self.module, self.average, group, gone)
        weights = dict(self.module.named_parameters())
        axes = cut_axes(self.module, self.groups, kept)
        cut_module(self.module, self.groups, kept)
        cut_optimizer(self.optimizer, weights, self.module, axes)
        self.average = cut_tensors(self.average, self.module, axes)
        left = counts(self.module)
        self.groups = [group for group in self.groups if group.scale in left]
        return before - self._macs(left)

    def save(self, folder: Path) -> None:
        """Write weights, average, optimizer, and what is left."""
        optimizer = optimizer_tensors({"weights": self.optimizer})
        parts = {"module": self.module.state_dict(), "average": self.average, "optimizer": optimizer}
        about = {"made": self._made(), "left": counts(self.module), "epochs": self.epochs}
        save_checkpoint(folder, self.step, parts, about)

    def load(self, folder: Path) -> None:
        """Go on from what `save` wrote.

        Raises:
            UserError: if it cannot be read, or is another training's.
        """
        checkpoint = read_checkpoint(resolve_checkpoint(folder))
        if checkpoint.metadata.get("made") != self._made():
            raise UserError(f"{checkpoint.path} is of another search; begin in another folder")
        cut_to(self.module, checkpoint.metadata["left"])
        self.groups = [group for group in self.groups if group.scale in checkpoint.metadata["left"]]
        self._begin()
        self.module.load_state_dict(checkpoint.parts["module"])
        self.average = {name: value.clone() for name, value in checkpoint.parts["average"].items()}
        load_optimizer_tensors({"weights": self.optimizer}, checkpoint.parts["optimizer"])
        self.step, self.epochs = checkpoint.step, checkpoint.metadata["epochs"]

    def _begin(self) -> None:
        left = set(dict(self.module.named_parameters()))
        groups = [replace(g, names=kept) for g in self.optimizer_config.groups if (kept := _left(g.names, left))]
        self.optimizer = make_optimizer(
            dict(self.module.named_parameters()), replace(self.optimizer_config, groups=tuple(groups))
        )

    def _made(self) -> dict[str, Any]:
        plain = asdict(replace(self.config, fit=replace(self.config.fit, save_every=1, check_every=1)))
        return {"seed": self.seed, "atoms": self.whole, "config": _json(plain)}

    def _macs(self, left: dict[str, int]) -> int:
        return sum(group.macs * left.get(group.scale, 0) for group in self.groups)


def _left(names: tuple[str, ...], left: set[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name in left or "*" in name)


def _without_decay(module: nn.Module, config: OptimizerConfig) -> OptimizerConfig:
    """Return an optimizer that does not decay normalizations and gates, first of all a scale that is priced."""
    spared = tuple(
        f"{path}.{name}"
        for path, part in module.named_modules()
        if isinstance(part, nn.modules.batchnorm._BatchNorm | nn.LayerNorm | Gate)
        for name, _ in part.named_parameters(recurse=False)
    )
    return replace(config, groups=(*config.groups, GroupConfig(names=spared, weight_decay=0.0))) if spared else config


def _json(value: Any) -> Any:
    """Return plain data as JSON gives it back."""
    if isinstance(value, dict):
        return {key: _json(each) for key, each in value.items()}
    return [_json(each) for each in value] if isinstance(value, list | tuple) else value
