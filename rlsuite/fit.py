"""The supervised loop: minibatches, losses, a step of each optimizer, and the same bits after any interruption.

    history = fit(network, loss, source, FitConfig(steps=2000), seed=0)

where ``loss(network, batch)`` returns 0-d tensors by name, the one called "loss" being what is minimized. Where one
network is taught by several losses in turn (weights, then an architecture's parameters on other examples), `loss` is a
sequence of `Turn`s.

Everything a minibatch depends on is a function of (seed, step): which examples it holds, and what layers such as
dropout draw. So a fit that was killed goes on from its last checkpoint to the bits it would have had.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rlsuite.data.counters import counted_seed
from rlsuite.data.minibatches import ORDERS, minibatch
from rlsuite.data.source import Source, split
from rlsuite.errors import UserError, require, require_choice, require_finite
from rlsuite.fit_run import Best, FitRun, History
from rlsuite.optim.choice import OptimizerConfig, ScheduleConfig, make_optimizer, matching, set_factor
from rlsuite.optim.clipping import clip_together
from rlsuite.records.monitor import check_finite, to_floats
from rlsuite.running.seeding import derive_seed

Loss = Callable[[nn.Module, dict[str, Tensor]], Mapping[str, Tensor]]
Hook = Callable[[int, float], None]


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """How a network is fitted.

    Attributes:
        steps: minibatches.
        batch_size: examples of each.
        order: "epochs" (every example once before any comes again) or "random" (each drawn from all).
        optimizer: the optimizer.
        schedule: how its learning rates change.
        clip_norm: gradients are scaled down to this norm; 0 leaves them alone.
        held_out: share of the examples kept back, on which the loss is measured every `check_every` minibatches.
        patience: stop when so many measurements in a row were no better than the best; however the fit ends, the best
            weights are put back. 0 does neither.
        check_every: minibatches between two records (of mean losses, the loss held out); nothing non-finite gets past.
        save_every: minibatches between two checkpoints of a fit with a run_dir, rounded up to records.
        deadline_s: stop after so many seconds, those before an interruption counted; 0 for never.
    """

    steps: int = 1000
    batch_size: int = 64
    order: str = "epochs"
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    clip_norm: float = 0.0
    held_out: float = 0.0
    patience: int = 0
    check_every: int = 100
    save_every: int = 1000
    deadline_s: float = 0.0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "check_every", "save_every"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require_choice("order", self.order, ORDERS)
        require_finite("clip_norm", self.clip_norm, low=0.0)
        require_finite("deadline_s", self.deadline_s, low=0.0)
        require(0.0 <= self.held_out < 1.0, f"held_out={self.held_out}: use 0 or more, and less than 1")
        require(self.patience >= 0, f"patience={self.patience}: use 0 (never stop early) or more")
        require(
            not self.patience or self.held_out > 0,
            f"patience={self.patience}: it needs held_out=, such as held_out=0.1",
        )


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One of several losses that take turns at each step, each with a minibatch, weights and an optimizer of its own.

    Attributes:
        name: before the slash in the names of its losses.
        loss: what it minimizes.
        parameters: patterns of the names of the weights it moves, such as architecture.*.
        optimizer: how.
        source: its examples; None for the fit's.
    """

    name: str
    loss: Loss
    parameters: tuple[str, ...] = ("*",)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    source: Source | None = None


class NonFiniteLossError(UserError):
    """A loss, or the weights it led to, became NaN or infinite."""


def fit(
    module: nn.Module,
    loss: Loss | Sequence[Turn],
    source: Source,
    config: FitConfig,
    *,
    seed: int,
    hooks: Sequence[Hook] = (),
    run_dir: Path | str | None = None,
    about: Mapping[str, Any] | None = None,
    console: bool = False,
) -> History:
    """Fit a module's weights to examples.

    Args:
        module: on the device it is to be fitted on; in training mode while it is, then in the mode it had.
        loss: what is minimized, or turns.
        source: the examples; batches are moved to the module's device.
        config: how.
        seed: of minibatches, of what is held out, and of layers that draw.
        hooks: called before each minibatch with the minibatches done and their share of all, and once at the end: for
            what changes over a fit. What they change must be a function of that share, or lie in the module's state.
        run_dir: where to log and to save; a fit that is there is continued, and a finished one is only loaded.
        about: JSON-able, what else a fit in run_dir must have been made with to be continued, such as how the examples
            were made.
        console: with run_dir, show progress.

    Returns:
        What happened.

    Raises:
        NonFiniteLossError: if a loss or a weight is not finite.
        UserError: if there are too few examples, or run_dir holds something else.
    """
    turns, named = _turns(loss, config), {name: v for name, v in module.named_parameters() if v.requires_grad}
    moved = [list(matching(named, turn.parameters).values()) for turn in turns]
    optimizers = {
        turn.name or "optimizer": make_optimizer(matching(named, turn.parameters), turn.optimizer) for turn in turns
    }
    device = moved[0][0].device
    held_out = None
    if config.held_out:
        held_out, source = split(source, (config.held_out, 1.0 - config.held_out), derive_seed(seed, "held out"))
    sources = [turn.source or source for turn in turns]
    require(min(map(len, sources)) >= 1, "there are no examples to fit to")
    seeds = [derive_seed(seed, f"minibatches {place}") for place in range(len(turns))]
    layers_seed = derive_seed(seed, "layers")
    identity = _identity(config, seed, turns, sources) | {"about": dict(about or {})}
    history, best = History(), Best()

    with FitRun(run_dir, module, optimizers, identity, config.steps, console) as run:
        since = step = run.load(history, best)
        if step and 0.0 < config.deadline_s <= run.elapsed_s:
            history.stopped = "deadline"
        sums: dict[str, Tensor] = {}
        with _training(module), _own_draws(device) as set_draws:
            while not history.stopped and step < config.steps:
                for hook in hooks:
                    hook(step, step / config.steps)
                set_draws(counted_seed(layers_seed, step))
                factor = config.schedule.factor(step, config.steps)
                for place, (turn, optimizer) in enumerate(zip(turns, optimizers.values(), strict=True)):
                    index = minibatch(seeds[place], step, len(sources[place]), config.batch_size, config.order)
                    losses = turn.loss(module, _moved(sources[place].examples(index), device))
                    optimizer.zero_grad(set_to_none=True)
                    losses["loss"].backward(inputs=moved[place])
                    if config.clip_norm:
                        learned = [weight for weight in moved[place] if weight.grad is not None]
                        clipped = clip_together([weight.grad for weight in learned], config.clip_norm)  # type: ignore
                        for weight, gradient in zip(learned, clipped, strict=True):
                            weight.grad = gradient
                    set_factor(optimizer, factor)
                    optimizer.step()
                    for name, value in losses.items():
                        name = f"{turn.name}/{name}" if turn.name else name
                        sums[name] = sums[name] + value.detach() if name in sums else value.detach()
                step += 1
                late = 0.0 < config.deadline_s <= run.elapsed_s
                if step % config.check_every and step < config.steps and not late:
                    continue
                record = _checked({name: value / (step - since) for name, value in sums.items()}, step)
                if held_out is not None:
                    record["held_out"] = held_out_loss(module, turns[0].loss, held_out, config.batch_size)
                    best.take(record["held_out"], module if config.patience else None)
                record = {"step": float(step), **record, "learning_rate": factor}
                history.records.append(record)
                sums, since = {}, step
                if config.patience and best.waited >= config.patience:
                    history.stopped = "early"
                elif step == config.steps or late:
                    history.stopped = "steps" if step == config.steps else "deadline"
                if history.stopped:
                    _checked({f"weight {name}": value for name, value in named.items()}, step)
                run.record(record)
                run.save(step, history, best, config.save_every)
        best.put_back(module)
        for hook in hooks:
            hook(step, step / config.steps)
    return history


@torch.no_grad()
def held_out_loss(module: nn.Module, loss: Loss, source: Source, batch_size: int) -> float:
    """Return the mean loss over all examples of a source, the module in evaluation mode."""
    device = next(module.parameters()).device
    total = torch.zeros((), dtype=torch.float64, device=device)
    with _mode(module, training=False):
        for index in torch.arange(len(source)).split(batch_size):
            total += loss(module, _moved(source.examples(index), device))["loss"].double() * len(index)
    return float(total) / len(source)


def _turns(loss: Loss | Sequence[Turn], config: FitConfig) -> list[Turn]:
    if not isinstance(loss, Sequence):
        return [Turn(name="", loss=loss, optimizer=config.optimizer)]
    names = [turn.name for turn in loss]
    if not names or len(set(names)) != len(names) or "" in names:
        raise ValueError(f"turns need names of their own; these are called {names}")
    return list(loss)


def _identity(config: FitConfig, seed: int, turns: list[Turn], sources: list[Source]) -> dict[str, Any]:
    """What a checkpoint must have been made with to be continued."""
    plain = asdict(config)
    for name in ("save_every", "deadline_s"):
        plain.pop(name)
    plain["turns"] = {turn.name: [asdict(turn.optimizer), list(turn.parameters)] for turn in turns}
    return {**plain, "seed": seed, "examples": [len(source) for source in sources]}


def _checked(values: Mapping[str, Tensor], step: int) -> dict[str, float]:
    if bad := check_finite(values):
        raise NonFiniteLossError(
            f"{', '.join(bad[:3])} became non-finite by minibatch {step}; use a smaller learning_rate, or clip_norm="
        )
    return to_floats({name: value for name, value in values.items() if value.dim() == 0})


def _moved(batch: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    if device.type == "cpu":
        return batch
    return {name: value.to(device, non_blocking=True) for name, value in batch.items()}


@contextlib.contextmanager
def _mode(module: nn.Module, *, training: bool) -> Iterator[None]:
    """Put a module in one mode for a while, and then every part of it in the mode it had."""
    before = {part: part.training for part in module.modules()}
    module.train(training)
    try:
        yield
    finally:
        for part, mode in before.items():
            part.training = mode


def _training(module: nn.Module) -> contextlib.AbstractContextManager[None]:
    return _mode(module, training=True)


@contextlib.contextmanager
def _own_draws(device: torch.device) -> Iterator[Callable[[int], object]]:
    """Give a function that seeds what layers draw from (torch's own generator), which is put back at the end."""
    index = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(index):
        if device.type == "cuda":
            yield torch.manual_seed
        else:
            yield torch.default_generator.manual_seed
