"""Embeddings of states and of state-actions that actors and critics see beside the raw ones: SALE.

From TD7 (Fujimoto et al. 2023, arXiv:2306.02451, "For SALE: State-Action Representation Learning for Deep Reinforcement
Learning", section 4). f embeds the state, g that embedding together with the action, and both learn, apart from actors
and critics, to predict the next state's embedding (equation 1 there):

    z_s = N(f(s)),    z_sa = g(z_s, a),    loss = mean square of (z_sa - stop_gradient(z_s'))

N divides by the mean absolute value over the embedding (equation 5 there), so that it is as large as the standardized
observation beside it and cannot collapse to 0.

What differs from TD7: inputs are concatenated without a further normalized layer; actors and critics look, at this and
at the next state, through one slow copy of f and g, which follows with the other slow copies, where TD7 swaps copies
every 250 updates; and with n-step returns s' is the state n steps on, which is what the replay returns.

Shapes: K sets of embeddings (one for all, or one a pair), B rows, D observation, A action, Z embedding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rlsuite.errors import require, require_choice, require_finite
from rlsuite.nn.ensemble import ACTIVATIONS, EnsembleMLP, check_sizes


@dataclass(frozen=True, kw_only=True)
class EmbeddingConfig:
    """Embeddings of states and actions, learned by predicting the next state's (TD7's SALE).

    Attributes:
        size: Z, of an embedding; 0: actors and critics see observations and actions alone.
        hidden_sizes: width of each hidden layer of both networks.
        activation: a key of rlsuite.nn.ensemble.ACTIVATIONS.
        learning_rate: of Adam.
    """

    size: int = 0
    hidden_sizes: tuple[int, ...] = (256, 256)
    activation: str = "elu"
    learning_rate: float = 3e-4

    def __post_init__(self) -> None:
        require(self.size >= 0, f"agent.embedding.size={self.size}: use 0 (none) or more")
        check_sizes("agent.embedding", self.hidden_sizes)
        require_choice("agent.embedding.activation", self.activation, ACTIVATIONS)
        require_finite("agent.embedding.learning_rate", self.learning_rate, above=0.0)

    @property
    def form(self) -> tuple[int, tuple[int, ...], str] | None:
        """What two embeddings must share to stand in one stack; None where there is none."""
        return (self.size, self.hidden_sizes, self.activation) if self.size else None


class Encoders(nn.Module):
    """f and g, K sets stacked."""

    def __init__(
        self,
        num_sets: int,
        observation_size: int,
        action_size: int,
        config: EmbeddingConfig,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.num_sets = num_sets
        make = lambda size: EnsembleMLP(  # noqa: E731
            num_sets, size, config.hidden_sizes, config.size, activation=config.activation, generator=generator
        )
        self.of_state, self.of_action = make(observation_size), make(config.size + action_size)

    def state(self, observation: Tensor) -> Tensor:
        """Return z_s (..., Z) float32 of standardized observations (..., D), with K sets (K, ..., D)."""
        embedding = self._embed(self.of_state, observation)
        return embedding / embedding.abs().mean(dim=-1, keepdim=True).clamp_min(1e-8)

    def action(self, state: Tensor, action: Tensor) -> Tensor:
        """Return z_sa (..., Z) float32 of embedded states (..., Z) and actions (..., A) in [-1, 1]."""
        return self._embed(self.of_action, torch.cat([state, action], dim=-1))

    def _embed(self, network: EnsembleMLP, rows: Tensor) -> Tensor:
        if self.num_sets == 1:
            return network(rows.flatten(0, -2).unsqueeze(0))[0].unflatten(0, rows.shape[:-1])
        members = slice(0, len(rows))
        return network(rows.flatten(1, -2), members).unflatten(1, rows.shape[1:-1])


class Embedding(nn.Module):
    """f and g, and the slow copy of them that actors and critics look through.

    Args:
        observation_size: D.
        action_size: A.
        config: see EmbeddingConfig.
        num_sets: K; an ensemble of already trained members has one a member.
        generator: random stream of the weights.
    """

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        config: EmbeddingConfig,
        *,
        num_sets: int = 1,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.observation_size = observation_size
        make = lambda: Encoders(num_sets, observation_size, action_size, config, generator=generator)  # noqa: E731
        self.learned, self.slow = make(), make()
        self.slow.load_state_dict(self.learned.state_dict())
        self.slow.requires_grad_(False)
        self.learned_parameters: list[Tensor] = list(self.learned.parameters())
        self.slow_parameters: list[Tensor] = list(self.slow.parameters())

    def beside(self, observation: Tensor) -> Tensor:
        """Return standardized observations with their embeddings, (..., D + Z), in the observations' dtype.

        Where there are K > 1 sets, rows (B, D) are every set's: (K, B, D + Z).
        """
        if self.slow.num_sets > 1 and observation.dim() == 2:
            observation = observation.expand(self.slow.num_sets, *observation.shape)
        return torch.cat([observation, self.slow.state(observation).to(observation.dtype)], dim=-1)

    def join(self, seen: Tensor, action: Tensor) -> Tensor:
        """Put what beside() returned, actions (..., A) and z_sa side by side, (..., D + Z + A + Z), in seen's dtype."""
        action = action.to(seen.dtype)
        embedded = self.slow.action(seen[..., self.observation_size :], action).to(seen.dtype)
        return torch.cat([seen, action, embedded], dim=-1)

    def loss(self, observation: Tensor, action: Tensor, next_observation: Tensor) -> Tensor:
        """Return the mean squared error, 0-d, of predicting z_s' (equation 1 there).

        Args:
            observation: (..., D) standardized.
            action: (..., A) in [-1, 1].
            next_observation: (..., D) standardized.
        """
        with torch.no_grad():
            target = self.learned.state(next_observation)
        state = self.learned.state(observation).to(observation.dtype)
        return (self.learned.action(state, action) - target).square().mean()

    @torch.no_grad()
    def follow(self, rate: float) -> None:
        """Move the slow copy towards what has been learned."""
        torch._foreach_lerp_(self.slow_parameters, self.learned_parameters, rate)


class NoEmbedding(nn.Module):
    """Stands where there is none: actors see observations, critics observations and actions, side by side."""

    def beside(self, observation: Tensor) -> Tensor:
        """Return `observation`."""
        return observation

    def join(self, seen: Tensor, action: Tensor) -> Tensor:
        """Put observations (..., D) and actions (..., A) side by side, (..., D + A), in the observations' dtype."""
        return torch.cat([seen, action.to(seen.dtype)], dim=-1)

    def follow(self, rate: float) -> None:
        """Do nothing: there is no slow copy."""


def make_embedding(
    observation_size: int,
    action_size: int,
    config: EmbeddingConfig,
    *,
    num_sets: int = 1,
    generator: torch.Generator | None = None,
) -> Embedding | NoEmbedding:
    """Return what config.size asks for; arguments as Embedding's."""
    if not config.size:
        return NoEmbedding()
    return Embedding(observation_size, action_size, config, num_sets=num_sets, generator=generator)
