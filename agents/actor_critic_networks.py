"""The networks of K actor-critic pairs, stacked, and their slow copies.

Shapes: K pairs, C critics a pair, B batch, D observation, A action, Z embedding.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from agents.actor_critic_config import ActorCriticConfig
from rlsuite.nn.actors import Actors, Temperature
from rlsuite.nn.critics import Critics
from rlsuite.nn.embedding import Embedding, NoEmbedding, make_embedding
from rlsuite.nn.eye import Eye, NoEye
from rlsuite.nn.parameter_noise import NoParameterNoise, ParameterNoise
from rlsuite.optim.state import adam
from rlsuite.vector_env import EnvironmentFacts


class Turn(NamedTuple):
    """Who is updated beside the critics."""

    actors: bool
    targets: bool


class Seen(NamedTuple):
    """What actors and critics look at in a minibatch (K, B, D + Z), at its states and at the next ones."""

    now: Tensor
    next: Tensor


class Networks(NamedTuple):
    """K actors and K * C critics with their slow copies, and what is learned beside observations and actions."""

    actors: Actors
    critics: Critics
    target_actors: Actors
    target_critics: Critics
    embedding: Embedding | NoEmbedding


def make_networks(
    observation_size: int, action_size: int, config: ActorCriticConfig, generator: torch.Generator
) -> Networks:
    """Return freshly drawn networks, the slow copies equal to what they copy.

    Args:
        observation_size: D; actors see D + Z numbers.
        action_size: A; critics see A + Z numbers of an action.
        config: sizes and kinds.
        generator: of the weights.
    """
    pairs, input_size = config.num_pairs, observation_size + config.embedding.size

    def make_actors() -> Actors:
        return Actors(pairs, input_size, action_size, config.actor, generator=generator)

    def make_critics() -> Critics:
        action_input_size = action_size + config.embedding.size
        count = pairs * config.num_critics
        return Critics(count, input_size, action_input_size, config.critic, generator=generator)

    actors, critics = make_actors(), make_critics()
    target_actors, target_critics = make_actors(), make_critics()
    target_actors.load_state_dict(actors.state_dict())
    target_critics.load_state_dict(critics.state_dict())
    target_actors.requires_grad_(False)
    target_critics.requires_grad_(False)
    # Batch normalization uses its running statistics everywhere but in the joint batches of updates.
    for network in (actors, critics, target_actors, target_critics):
        network.eval()
    embedding = make_embedding(observation_size, action_size, config.embedding, generator=generator)
    return Networks(actors, critics, target_actors, target_critics, embedding)


def make_eye(facts: EnvironmentFacts, config: ActorCriticConfig, seed: int) -> Eye | NoEye:
    """Return what sees pictures, where observations are pictures."""
    return NoEye() if facts.picture_shape is None else Eye(facts.picture_shape, config.vision, seed)


def make_parameter_noise(
    facts: EnvironmentFacts, observation_size: int, config: ActorCriticConfig, seed: int, device: torch.device | str
) -> ParameterNoise | NoParameterNoise:
    """Return the actors with noise on their weights, one an environment, where some episodes are to have it."""
    chance = config.exploration.parameter_noise
    if chance == 0.0:
        return NoParameterNoise()
    sees, generator = observation_size + config.embedding.size, torch.Generator().manual_seed(seed)
    actors = Actors(facts.num_envs, sees, facts.action_size, config.actor, generator=generator)
    return ParameterNoise(actors, facts.num_envs, observation_size, chance, seed=seed, device=device)


def make_optimizers(
    config: ActorCriticConfig,
    actor_parameters: list[Tensor],
    critics_step: list[Tensor],
    embedding: Embedding | NoEmbedding,
    temperature: Temperature,
) -> dict[str, torch.optim.Optimizer]:
    """Return the optimizers by name: of the actors, of what the critics' loss moves, and of what else is learned."""
    decay, betas = config.critic_weight_decay, (0.9, config.second_moment_decay)
    optimizers = {
        "actor": adam(actor_parameters, config.actor_learning_rate, betas=betas),
        "critic": adam(critics_step, config.critic_learning_rate, weight_decay=decay, betas=betas),
    }
    if isinstance(embedding, Embedding):
        optimizers["embedding"] = adam(embedding.learned_parameters, config.embedding.learning_rate)
    if config.actor.distribution == "squashed_gaussian" and config.temperature_learning_rate:
        optimizers["temperature"] = adam(temperature.parameters(), config.temperature_learning_rate)
    return optimizers
