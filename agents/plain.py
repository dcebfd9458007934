"""The greedy policy of an agent as plain layers, which transforms can see and change.

An agent whose first actor is a stack of linear layers gives an exact copy. Others (a vote of several actors, actors
that see learned embeddings, convolutions of another kind) give a student of the same sizes that has learned nothing
yet: the agent teaches it. Where actors vote, the first of them is the student, and the vote its teacher.

Shapes: D observation, A action.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from agents.ace import ACE
from agents.actor_critic import ActorCritic
from agents.on_policy import OnPolicyAgent
from rlsuite.agent import Agent
from rlsuite.errors import UserError
from rlsuite.nn.plain import PlainPolicy, PlainPolicyConfig, build_plain_policy, plain_mlp


class Plain(NamedTuple):
    """A policy of plain layers, what builds it, whether it is the agent's own or a student, and that in words."""

    policy: PlainPolicy
    config: PlainPolicyConfig
    exact: bool
    origin: str


OWN = "the agent's own layers, copied exactly"


class Teacher(nn.Module):
    """An agent's greedy policy as a module: observations (B, D) to actions (B, A) within the environment's bounds."""

    def __init__(self, agent: Agent) -> None:
        super().__init__()
        self.agent = agent

    def forward(self, observation: Tensor) -> Tensor:
        """Return the actions that the agent takes in evaluations."""
        action = self.agent.act(observation, False)
        low, high = self.agent.facts.action_low.to(action), self.agent.facts.action_high.to(action)
        return action.clamp(low, high)

    @property
    def has_values(self) -> bool:
        """Whether the agent has critics of actions, and they are trained."""
        return isinstance(self.agent, ActorCritic) and not self.agent.policy_only

    def value(self, observation: Tensor, action: Tensor) -> Tensor:
        """Return what the agent's critics think of actions (B, A) in the environment's units: (B,), differentiable."""
        agent: Any = self.agent
        members = agent.config.num_pairs
        seen = agent.for_members(agent.see(observation), members)
        return agent.actor_value(seen, agent.for_members(agent.action_range.to_policy(action), members)).mean(0)


def plain_policy(agent: Agent) -> Plain:
    """Return an agent's greedy policy as plain layers, exactly where it is one, else as a student to be taught.

    Raises:
        UserError: if the agent's policy is of no such kind: painters, and models of the task.
    """
    if agent.facts.picture_shape is not None:
        raise UserError("the agent sees pictures, which plain layers do not; teach a pixel policy with clone_policy.py")
    if isinstance(agent, ActorCritic):
        return _of_actor_critic(agent)
    if isinstance(agent, OnPolicyAgent):
        config = agent.config
        policy, plain = _built(
            agent, agent.actor, tuple(config.hidden_sizes), config.activation, layer_norm=False, squash="none"
        )
        return Plain(policy, plain, True, OWN)
    raise UserError(
        f"{type(agent).__name__} is no policy of plain layers; evaluation= takes ace, ddpg, flash_sac, her, ppo, sac, "
        "sher, td3 and trpo"
    )


def _of_actor_critic(agent: ActorCritic) -> Plain:
    config: Any = agent.config
    actor = config.actor
    votes = isinstance(agent, ACE) and config.num_pairs > 1 and config.num_actors != 1
    is_plain = config.embedding.size == 0 and actor.output_limit == 0.0 and not actor.bottleneck
    is_plain = is_plain and actor.block == "plain"
    network = (agent.target_actors if config.act_with_targets else agent.actors).network if is_plain else None
    sizes, layer_norm = tuple(actor.hidden_sizes), actor.layer_norm
    policy, plain = _built(agent, network, sizes, actor.activation, layer_norm=layer_norm, squash="tanh")
    if is_plain and not votes:
        return Plain(policy, plain, True, OWN)
    student = "the first actor" if is_plain else "a fresh network of the actor's sizes"
    teacher = "the vote of all actors" if votes else "the agent"
    return Plain(policy, plain, False, f"{student}, which {teacher} taught")


def _built(
    agent: Any, network: Any, hidden_sizes: tuple[int, ...], activation: str, *, layer_norm: bool, squash: str
) -> tuple[PlainPolicy, PlainPolicyConfig]:
    """Return a plain policy with the agent's sizes, statistics and bounds, and its weights where a network is given."""
    normalizer = agent.normalizer if agent.config.normalize_observations else None
    config = PlainPolicyConfig(
        observation_size=agent.observation_size,
        action_size=agent.action_range.size,
        hidden_sizes=hidden_sizes,
        activation=activation,
        layer_norm=layer_norm,
        squash=squash,
        normalizer=None if normalizer is None else normalizer.config,
    )
    policy = build_plain_policy(config)
    if network is not None:
        policy.layers = plain_mlp(network, 0, activation)
        last = policy.layers[-1]
        assert isinstance(last, nn.Linear)
        if last.out_features > config.action_size:  # of a stochastic actor the mean alone
            policy.layers[-1] = _first_rows(last, config.action_size)
    if normalizer is not None:
        policy.normalizer.load_state_dict(normalizer.state_dict())
    policy.action_range.load_state_dict(agent.action_range.state_dict())
    return policy.eval().to(agent.action_range.center.device), config


@torch.no_grad()
def _first_rows(layer: nn.Linear, rows: int) -> nn.Linear:
    shorter = nn.Linear(layer.in_features, rows, device=layer.weight.device)
    shorter.weight.copy_(layer.weight[:rows])
    shorter.bias.copy_(layer.bias[:rows])
    return shorter


@torch.no_grad()
def largest_difference(policy: nn.Module, teacher: nn.Module, observation: Tensor) -> float:
    """Return the largest absolute difference of two policies' actions at observations (B, D)."""
    return float((policy(observation).double() - teacher(observation).double()).abs().max())
