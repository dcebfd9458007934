"""Deterministic actors: stacked networks from observations to actions in [-1, 1].

Shapes: K actors, B batch, D observation, A action.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rlsuite.errors import require_choice
from rlsuite.nn.ensemble import ACTIVATIONS, INITIALIZATIONS, EnsembleMLP, check_sizes


@dataclass(frozen=True, kw_only=True)
class ActorConfig:
    """The actor block.

    Attributes:
        hidden_sizes: width of each hidden layer.
        activation: a key of rlsuite.nn.ensemble.ACTIVATIONS.
        layer_norm: normalize each hidden layer before its activation.
        initialization: "uniform", "orthogonal" or "normal".
    """

    hidden_sizes: tuple[int, ...] = (256, 256)
    activation: str = "relu"
    layer_norm: bool = False
    initialization: str = "uniform"

    def __post_init__(self) -> None:
        check_sizes("agent.actor", self.hidden_sizes)
        require_choice("agent.actor.activation", self.activation, ACTIVATIONS)
        require_choice("agent.actor.initialization", self.initialization, INITIALIZATIONS)


class Actors(nn.Module):
    """K stacked policies ``tanh(MLP_k(observation))``."""

    def __init__(
        self,
        num_members: int,
        observation_size: int,
        action_size: int,
        config: ActorConfig,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.network = EnsembleMLP(
            num_members,
            observation_size,
            config.hidden_sizes,
            action_size,
            activation=config.activation,
            normalization="layer" if config.layer_norm else "none",
            initialization=config.initialization,
            generator=generator,
        )

    def forward(self, observation: Tensor, members: slice | None = None) -> Tensor:
        """Map normalized observations (K, B, D) to actions (K, B, A) in [-1, 1]."""
        return torch.tanh(self.pre_activation(observation, members))

    def pre_activation(self, observation: Tensor, members: slice | None = None) -> Tensor:
        """Map normalized observations (K, B, D) to what tanh squashes into actions, (K, B, A)."""
        return self.network(observation, members)
