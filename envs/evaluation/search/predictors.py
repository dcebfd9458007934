"""What architectures are worth, told from a few that were tried: one interface, and three plain ways.

`assessor.py` and `ncp.py` are further ones.

Shapes: N labelled codes, M others, F numbers of a code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from envs.evaluation.search.space import Architecture, Space
from rlsuite.data.arrays import Arrays
from rlsuite.errors import require, require_finite
from rlsuite.fit import FitConfig, fit
from rlsuite.nn.plain import mlp
from rlsuite.optim.choice import OptimizerConfig


class Predictor(Protocol):
    """Learns scores of architectures; larger is better."""

    def fit(self, tried: Sequence[Architecture], scores: np.ndarray, others: Sequence[Architecture] = ()) -> None:
        """Learn from architectures with scores (N,), and from others without."""
        ...

    def predict(self, architectures: Sequence[Architecture]) -> np.ndarray:
        """Return a score for each architecture."""
        ...


def codes(space: Space, architectures: Sequence[Architecture]) -> np.ndarray:
    """Return the codes (N, F) of architectures."""
    return np.stack([space.encode(architecture) for architecture in architectures])


def check_labels(tried: Sequence[Architecture], scores: np.ndarray) -> None:
    """Raise UserError unless there are two labels or more, all finite, one for each architecture."""
    require(len(tried) >= 2, f"{len(tried)} architecture has a score: try 2 or more before any are predicted")
    require(len(tried) == len(scores), f"{len(tried)} architectures have {len(scores)} scores: give one each")
    require(bool(np.isfinite(scores).all()), "a score is not finite: leave out architectures that failed")


class Standard:
    """Shifts and scales numbers to mean 0 and deviation 1 over those it was made from; constant ones to 0.

    Args:
        values: (N,) or (N, F).
    """

    def __init__(self, values: np.ndarray) -> None:
        self.mean = values.mean(axis=0)
        deviation = values.std(axis=0)
        self.deviation = np.where(deviation > 0, deviation, 1.0)

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Return standardized values."""
        return (values - self.mean) / self.deviation

    def undo(self, values: np.ndarray) -> np.ndarray:
        """Return values in their own units."""
        return values * self.deviation + self.mean


class Ridge:
    """Linear regression on codes, drawn to zero.

    Args:
        space: of the architectures.
        penalty: on the square of the weights.
    """

    def __init__(self, space: Space, penalty: float = 1.0) -> None:
        require_finite("penalty", penalty, above=0.0)
        self.space, self.penalty = space, penalty

    def fit(self, tried: Sequence[Architecture], scores: np.ndarray, others: Sequence[Architecture] = ()) -> None:
        """Solve the normal equations; others are not used."""
        check_labels(tried, scores)
        features = codes(self.space, tried)
        self.center, self.mean = features.mean(0), float(scores.mean())
        moved = features - self.center
        gram = moved.T @ moved + self.penalty * np.eye(moved.shape[1])
        self.weights = np.linalg.solve(gram, moved.T @ (scores - self.mean))

    def predict(self, architectures: Sequence[Architecture]) -> np.ndarray:
        """Return scores."""
        return (codes(self.space, architectures) - self.center) @ self.weights + self.mean


class ByCost:
    """Larger networks are better: scores are costs, nothing is learned.

    Args:
        cost: of an architecture, such as its MACs.
    """

    def __init__(self, cost: Callable[[Architecture], float]) -> None:
        self.cost = cost

    def fit(self, tried: Sequence[Architecture], scores: np.ndarray, others: Sequence[Architecture] = ()) -> None:
        """Learn nothing."""

    def predict(self, architectures: Sequence[Architecture]) -> np.ndarray:
        """Return costs."""
        return np.asarray([self.cost(architecture) for architecture in architectures], dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class MLPConfig:
    """A perceptron on codes.

    Attributes:
        hidden_sizes: units of each hidden layer.
        fit: how it learns.
    """

    hidden_sizes: tuple[int, ...] = (128, 128)
    fit: FitConfig = field(
        default_factory=lambda: FitConfig(
            steps=300, batch_size=64, order="random", optimizer=OptimizerConfig(weight_decay=1e-4)
        )
    )


class MLP:
    """A perceptron on codes, from labelled architectures alone.

    Args:
        space: of the architectures.
        config: see MLPConfig.
        seed: of weights and minibatches.
    """

    def __init__(self, space: Space, config: MLPConfig | None = None, *, seed: int) -> None:
        self.space, self.config, self.seed = space, config or MLPConfig(), seed

    def fit(self, tried: Sequence[Architecture], scores: np.ndarray, others: Sequence[Architecture] = ()) -> None:
        """Learn squared errors of standardized scores; others are not used."""
        check_labels(tried, scores)
        features = codes(self.space, tried)
        self.inputs, self.outputs = Standard(features), Standard(scores)
        self.network = mlp(features.shape[1], self.config.hidden_sizes, 1, seed=self.seed)
        source = Arrays({"input": _tensor(self.inputs.apply(features)), "score": _tensor(self.outputs.apply(scores))})

        def loss(module: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
            return {"loss": (module(batch["input"]).squeeze(1) - batch["score"]).square().mean()}

        fit(self.network, loss, source, self.config.fit, seed=self.seed)
        self.network.eval()

    @torch.no_grad()
    def predict(self, architectures: Sequence[Architecture]) -> np.ndarray:
        """Return scores."""
        found = self.network(_tensor(self.inputs.apply(codes(self.space, architectures)))).squeeze(1)
        return self.outputs.undo(found.double().numpy())


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values).float()
