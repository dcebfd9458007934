"""DDPG and TD3 from the papers with plain torch.nn networks and torch.optim.Adam: what the agents are held against.

Shapes: B batch, C critics.
"""

from __future__ import annotations

import torch
from torch import nn

from rlsuite.replay.buffer import Batch, Transition


def sequential(stacked, member):
    """Return one member of a stacked ReLU network as a torch.nn.Sequential."""
    parts = []
    for layer in stacked.layers:
        linear = nn.Linear(layer.weight.shape[1], layer.weight.shape[2])
        linear.weight.data = layer.weight.data[member].T.clone()
        linear.bias.data = layer.bias.data[member, 0].clone()
        parts += [linear, nn.ReLU()]
    return nn.Sequential(*parts[:-1])


class Reference:
    """One actor-critic pair, started from the weights of a pair of a DDPG agent."""

    def __init__(self, agent, pair=0):
        self.config = config = agent.config
        count = config.num_critics
        self.center, self.half = agent.action_range.center, agent.action_range.half_range
        critics = range(pair * count, (pair + 1) * count)
        self.actor = sequential(agent.actors.network, pair)
        self.critics = nn.ModuleList(sequential(agent.critics.network, place) for place in critics)
        self.target_actor = sequential(agent.target_actors.network, pair)
        self.target_critics = nn.ModuleList(sequential(agent.target_critics.network, place) for place in critics)
        self.actor_adam = torch.optim.Adam(self.actor.parameters(), lr=config.actor_learning_rate)
        self.critic_adam = torch.optim.Adam(self.critics.parameters(), lr=config.critic_learning_rate)
        self.updates = 0

    def update(self, batch, noise=None):
        """Do what one update should; `noise` (B, A) is the smoothing noise, already scaled."""
        self.updates += 1
        observation, action, reward, discount, after, weight, _ = batch
        action = (action - self.center) / self.half
        with torch.no_grad():
            next_action = torch.tanh(self.target_actor(after))
            if noise is not None:
                clip = self.config.target_noise_clip
                next_action = (next_action + noise.clamp(-clip, clip)).clamp(-1.0, 1.0)
            values = [critic(torch.cat([after, next_action], 1))[:, 0] for critic in self.target_critics]
            target = reward * self.config.reward_scale + discount * torch.stack(values).amin(0)
        errors = [critic(torch.cat([observation, action], 1))[:, 0] - target for critic in self.critics]
        loss = sum((weight * error.square()).mean() for error in errors)
        self.critic_adam.zero_grad()
        loss.backward()
        self.critic_adam.step()
        if self.updates % self.config.policy_delay == 0:
            value = self.critics[0](torch.cat([observation, torch.tanh(self.actor(observation))], 1))
            self.actor_adam.zero_grad()
            (-value.mean()).backward()
            self.actor_adam.step()
            self._move(self.target_actor, self.actor)
            self._move(self.target_critics, self.critics)
        return loss.item() / len(self.critics), torch.stack(errors).square().mean(0).sqrt().detach()

    def _move(self, targets, networks):
        rate = self.config.target_rate
        for target, source in zip(targets.parameters(), networks.parameters(), strict=True):
            target.data = (1.0 - rate) * target.data + rate * source.data

    def assert_equals(self, agent, pair=0, tolerance=1e-5):
        """Compare every weight with those of a pair of `agent`."""
        count = self.config.num_critics
        pairs = [(self.actor, agent.actors, pair), (self.target_actor, agent.target_actors, pair)]
        for place in range(count):
            pairs.append((self.critics[place], agent.critics, pair * count + place))
            pairs.append((self.target_critics[place], agent.target_critics, pair * count + place))
        for plain, stacked, member in pairs:
            linears = [part for part in plain if isinstance(part, nn.Linear)]
            for linear, layer in zip(linears, stacked.network.layers, strict=True):
                torch.testing.assert_close(layer.weight[member], linear.weight.T, rtol=0, atol=tolerance)
                torch.testing.assert_close(layer.bias[member, 0], linear.bias, rtol=0, atol=tolerance)


def random_batch(size, observation_size, low, high, *, seed, terminated=0.2):
    """Return a random minibatch with actions between the bounds, some of it terminal."""
    generator = torch.Generator().manual_seed(seed)
    discount = torch.where(torch.rand(size, generator=generator) < terminated, 0.0, 0.95)
    return Batch(
        observation=torch.randn(size, observation_size, generator=generator),
        action=torch.lerp(low, high, torch.rand(size, len(low), generator=generator)),
        reward=torch.randn(size, generator=generator),
        discount=discount,
        next_observation=torch.randn(size, observation_size, generator=generator),
        weight=torch.rand(size, generator=generator) + 0.5,
        index=torch.arange(size),
    )


def transition(observation, terminated=False, truncated=False):
    """Return a transition of which an agent only observes the observation and the ends."""
    rows = len(observation)
    zero = torch.zeros(rows)
    ended = torch.as_tensor(terminated).expand(rows), torch.as_tensor(truncated).expand(rows)
    return Transition(observation, zero, zero, *ended, observation, zero.bool())
