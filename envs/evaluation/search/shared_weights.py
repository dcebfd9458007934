"""Training of shared weights: each minibatch goes through one or more paths of a supernet.

The optimizer and the schedule go on from round to round of a search; all that is random is a function of (seed, step),
so a search that was killed goes on to the same bits.

Shapes: B batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from envs.evaluation.search.space import Architecture
from envs.evaluation.search.supernet import Supernet
from envs.evaluation.tasks import Task
from rlsuite.data.counters import counted_seed
from rlsuite.data.minibatches import minibatch
from rlsuite.errors import UserError, require, require_finite
from rlsuite.optim.choice import OptimizerConfig, ScheduleConfig, make_optimizer, set_factor
from rlsuite.optim.clipping import clip_together
from rlsuite.optim.state import load_optimizer_tensors, optimizer_tensors
from rlsuite.records.checkpoint import read_checkpoint, resolve_checkpoint, save_checkpoint
from rlsuite.running.seeding import derive_seed


@dataclass(frozen=True, kw_only=True)
class SharedConfig:
    """How shared weights learn; the first numbers are those of CARS and DARTS.

    Attributes:
        batch_size: examples of a minibatch.
        paths: architectures each minibatch goes through; their gradients are added and divided by their number.
        optimizer: of the weights.
        schedule: of its rates, over `total` minibatches.
        total: minibatches of the whole search.
        clip_norm: gradients are scaled down to this norm; 0 leaves them alone.
    """

    batch_size: int = 128
    paths: int = 1
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(name="sgd", learning_rate=0.025, weight_decay=3e-4)
    )
    schedule: ScheduleConfig = field(default_factory=lambda: ScheduleConfig(kind="cosine", final=0.04))
    total: int = 1000
    clip_norm: float = 5.0

    def __post_init__(self) -> None:
        for name in ("batch_size", "paths", "total"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require_finite("clip_norm", self.clip_norm, low=0.0)


class InTurn(tuple[Architecture, ...]):
    """Paths that minibatches take in turn, from the first; of any other sequence each minibatch draws its own."""


class SharedWeights:
    """A supernet that learns its task along paths.

    Args:
        supernet: learns, in place.
        task: what for; weights learn from its source("train").
        config: see SharedConfig.
        seed: of minibatches and of the paths they go through.

    Attributes:
        step: minibatches done.
    """

    def __init__(self, supernet: Supernet, task: Task, config: SharedConfig, *, seed: int) -> None:
        self.supernet, self.task, self.config, self.seed = supernet, task, config, seed
        self.optimizer = make_optimizer(dict(supernet.named_parameters()), config.optimizer)
        begin_momentum(self.optimizer)
        self.source, self.step = task.source("train"), 0

    def train(
        self,
        paths: Sequence[Architecture],
        steps: int,
        *,
        through: nn.Module | None = None,
        before: Callable[[], object] = lambda: None,
    ) -> float:
        """Learn `steps` minibatches, each along paths drawn from some; return their mean loss.

        Args:
            paths: architectures, each drawn with replacement; of `InTurn` each minibatch takes the next.
            steps: minibatches.
            through: another way through the supernet in place of paths, such as a mixture of them.
            before: called before each minibatch, such as for the architecture's turn.
        """
        device, config = next(self.supernet.parameters()).device, self.config
        weights = list(self.supernet.parameters())
        losses = torch.zeros((), device=device)
        mode = self.supernet.training
        self.supernet.train()
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            for number in range(steps):
                torch.manual_seed(counted_seed(derive_seed(self.seed, "layers"), self.step))
                index = minibatch(derive_seed(self.seed, "minibatches"), self.step, len(self.source), config.batch_size)
                batch = {name: value.to(device) for name, value in self.source.examples(index).items()}
                before()
                self.optimizer.zero_grad(set_to_none=True)
                ways: list[nn.Module] = [] if through is None else [through]
                if not ways:
                    ways = [_Along(self.supernet, path) for path in self._drawn(paths, number)]
                for way in ways:
                    loss = self.task.loss(way, batch).mean() / len(ways)
                    loss.backward()
                    losses += loss.detach()
                if config.clip_norm:
                    clip_together([weight.grad for weight in weights if weight.grad is not None], config.clip_norm)
                set_factor(self.optimizer, config.schedule.factor(min(self.step, config.total), config.total))
                self.optimizer.step()
                self.step += 1
        self.supernet.train(mode)
        return float(losses) / max(steps, 1)

    def _drawn(self, paths: Sequence[Architecture], number: int) -> list[Architecture]:
        """Return the paths of this step, the number-th of its round."""
        count = self.config.paths
        if isinstance(paths, InTurn):
            return [paths[place % len(paths)] for place in range(number * count, (number + 1) * count)]
        drawn = minibatch(derive_seed(self.seed, "paths"), self.step, len(paths), count, "random").tolist()
        return [paths[place] for place in drawn]

    def save(self, folder: Path) -> None:
        """Write weights, optimizer and the minibatches done."""
        parts = {"supernet": self.supernet.state_dict(), "optimizer": optimizer_tensors({"shared": self.optimizer})}
        save_checkpoint(folder, self.step, parts, {})

    def load(self, folder: Path) -> None:
        """Go on from what `save` wrote.

        Raises:
            UserError: if it cannot be read or is another supernet's.
        """
        checkpoint = read_checkpoint(resolve_checkpoint(folder))
        try:
            self.supernet.load_state_dict(checkpoint.parts["supernet"])
            load_optimizer_tensors({"shared": self.optimizer}, checkpoint.parts["optimizer"])
        except (RuntimeError, ValueError, KeyError):
            raise UserError(f"{checkpoint.path} is of another supernet; begin the search in another folder") from None
        self.step = checkpoint.step


def begin_momentum(optimizer: torch.optim.Optimizer) -> None:
    """Give every weight of an SGD its momentum, 0 at first, which changes no step.

    torch's fused SGD takes no step in which some weights have a momentum and others have their first gradient.
    """
    if isinstance(optimizer, torch.optim.SGD):
        for group in optimizer.param_groups:
            for weight in group["params"] if group["momentum"] else ():
                optimizer.state[weight]["momentum_buffer"] = torch.zeros_like(weight)


class _Along(nn.Module):
    """One path of a supernet as a module."""

    def __init__(self, supernet: Supernet, path: Architecture) -> None:
        super().__init__()
        self.supernet, self.path = supernet, path

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the path's outputs."""
        return self.supernet(inputs, self.path)
