"""PPO: each rule by hand, an update against plain torch, and learning a toy."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal
from toy_environments import PointEnv

from agents.ppo import PPO, surrogate
from agents.ppo_config import PPOConfig
from rlsuite.errors import UserError
from rlsuite.goals import GoalSpec
from rlsuite.replay.buffer import Transition
from rlsuite.running.rollout import RolloutWorker
from rlsuite.running.rollout_buffer import RolloutBuffer
from rlsuite.scoring import evaluate
from rlsuite.vector_env import EnvironmentFacts

LOW, HIGH = torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 4.0])


def make(**keys):
    config = {"hidden_sizes": (8, 8), "minibatch_size": 5, "passes": 1} | keys
    return PPO(EnvironmentFacts.of_vectors(3, LOW, HIGH, num_envs=2), PPOConfig(**config), seed=0)


def rollout_of(agent, steps=5, seed=0, failed=None):
    """Return what `agent` collects in `steps` random states; actions are its own."""
    generator = torch.Generator().manual_seed(seed)
    observation = torch.randn(steps, 2, 3, generator=generator)
    action = torch.stack([agent.act(row, True) for row in observation])
    flags = [torch.rand(steps, 2, generator=generator) < 0.2 for _ in range(2)]
    none = torch.zeros(steps, 2, dtype=torch.bool)
    return Transition(
        observation,
        action,
        torch.randn(steps, 2, generator=generator),
        flags[0],
        flags[1] & ~flags[0],
        torch.randn(steps, 2, 3, generator=generator),
        none if failed is None else failed,
    )


def test_a_rollout_of_failures_alone_is_refused():
    agent = make()
    with pytest.raises(UserError, match="every simulation of the rollout failed"):
        agent.update(rollout_of(agent, failed=torch.ones(5, 2, dtype=torch.bool)))


def test_surrogate_by_hand():
    ratio = torch.tensor([0.5, 1.0, 1.5, 0.5, 1.5])
    advantage = torch.tensor([1.0, 1.0, 1.0, -1.0, -1.0])
    # A gain beyond 1 + eps does not count; a loss beyond it does in full.
    expected = torch.tensor([0.5, 1.0, 1.2, -0.8, -1.5])
    torch.testing.assert_close(surrogate(ratio, advantage, 0.2), expected)


def test_densities_and_bounds():
    agent = make()
    with torch.no_grad():
        agent.log_std.copy_(torch.tensor([0.3, -0.5]))
    observation = torch.randn(4, 3)
    mean, action = agent.mean(observation), torch.randn(4, 2)
    law = Normal(mean, agent.log_std.exp())
    torch.testing.assert_close(agent.log_prob(mean, action), law.log_prob(action).sum(-1))
    greedy = agent.act(observation * 100.0, False)
    assert (greedy >= LOW).all()
    assert (greedy <= HIGH).all()
    explored = torch.cat([agent.act(observation, True) for _ in range(200)])
    assert (explored > HIGH).any()  # unclipped: the density is of what was drawn
    assert abs(float(agent.action_range.to_policy(explored)[:, 1].std()) - math.exp(-0.5)) < 0.06


def test_the_first_ratio_is_one_even_though_more_is_observed():
    """What a rollout is learned with is what it was collected with: log densities agree to the last digits."""
    agent = make()
    agent.update(rollout_of(agent, seed=1))  # so that the normalizer knows something
    generator = torch.Generator().manual_seed(2)
    no, rows, collected = torch.zeros(2, dtype=torch.bool), [], []
    for _ in range(5):
        observation = 3.0 + torch.randn(2, 3, generator=generator)  # far from what the statistics know
        action = agent.act(observation, True)
        scaled = (action - agent.action_range.center) / agent.action_range.half_range
        collected.append(agent.log_prob(agent.mean(agent.normalize(observation)), scaled))
        rows.append(Transition(observation, action, torch.randn(2, generator=generator), no, no, observation, no))
        agent.observe(rows[-1])
    batch = Transition(*(torch.stack(column) for column in zip(*rows, strict=True)))
    kept = agent.normalizer.count.item()
    prepared, _ = agent._prepare(batch)
    torch.testing.assert_close(prepared.log_prob, torch.cat(collected), rtol=1e-5, atol=1e-5)
    agent.update(batch)
    assert agent.normalizer.count.item() == kept + 10  # after the update, all at once


def test_the_achieved_goal_is_not_seen():
    spec = GoalSpec(1, 1, lambda achieved, desired: achieved, lambda achieved, desired: achieved)
    agent = PPO(
        EnvironmentFacts.of_vectors(3, LOW, HIGH, num_envs=2, goals=spec), PPOConfig(hidden_sizes=(8, 8)), seed=0
    )
    observation = torch.randn(4, 3)
    changed = torch.cat([observation[:, :2], observation[:, 2:] + 10.0], dim=1)
    assert torch.equal(agent.act(observation, False), agent.act(changed, False))
    agent.update(rollout_of(agent))
    assert agent.normalizer.mean.shape[-1] == 2


def test_update_equals_plain_torch():
    """One pass of one minibatch: clipped objective, half the squared error, entropy, gradient norm, Adam."""
    agent = make(minibatch_size=10, entropy_weight=0.01, value_clip=0.05, scale_rewards=False, gradient_norm=0.3)
    batch, start = rollout_of(agent), copy.deepcopy(agent)
    actor, critic = plain(start.actor), plain(start.critic)
    log_std = nn.Parameter(start.log_std.detach().clone())
    flat, action = (
        batch.observation.flatten(0, 1),
        (batch.action - agent.action_range.center) / agent.action_range.half_range,
    )
    action = action.flatten(0, 1)
    with torch.no_grad():
        value = critic(flat)[:, 0].unflatten(0, (5, 2))
        following = critic(batch.next_observation.flatten(0, 1))[:, 0].unflatten(0, (5, 2))
        old = Normal(actor(flat), log_std.exp()).log_prob(action).sum(-1)
    advantage, carried = torch.zeros(5, 2), torch.zeros(2)
    for step in reversed(range(5)):
        ended = batch.terminated[step] | batch.truncated[step]
        delta = batch.reward[step] + 0.99 * torch.where(batch.terminated[step], 0.0, following[step]) - value[step]
        carried = delta + 0.99 * 0.95 * torch.where(ended, 0.0, carried)
        advantage[step] = carried
    target = (advantage + value).flatten()
    adv = advantage.flatten()
    adv = (adv - adv.mean()) / (adv.std() + 1e-8)
    optimizer = torch.optim.Adam([*actor.parameters(), log_std, *critic.parameters()], lr=3e-4)
    law = Normal(actor(flat), log_std.exp())
    ratio = (law.log_prob(action).sum(-1) - old).exp()
    policy_loss = -torch.minimum(ratio * adv, ratio.clamp(0.8, 1.2) * adv).mean()
    now = critic(flat)[:, 0]
    near = value.flatten() + (now - value.flatten()).clamp(-0.05, 0.05)
    value_loss = 0.5 * torch.maximum((now - target) ** 2, (near - target) ** 2).mean()
    (policy_loss + 0.5 * value_loss - 0.01 * law.entropy().sum(-1).mean()).backward()
    nn.utils.clip_grad_norm_([*actor.parameters(), log_std, *critic.parameters()], 0.3)
    optimizer.step()
    metrics = agent.update(batch)
    assert metrics["policy_loss"].item() == pytest.approx(policy_loss.item(), abs=1e-6)
    assert metrics["value_loss"].item() == pytest.approx(value_loss.item(), rel=1e-4)
    assert metrics["divergence"].item() == pytest.approx(0.0, abs=1e-6)
    torch.testing.assert_close(agent.log_std, log_std, rtol=0, atol=1e-6)
    for stacked, network in ((agent.actor, actor), (agent.critic, critic)):
        linears = [part for part in network if isinstance(part, nn.Linear)]
        for layer, linear in zip(stacked.layers, linears, strict=True):
            torch.testing.assert_close(layer.weight[0], linear.weight.T, rtol=0, atol=1e-6)
            torch.testing.assert_close(layer.bias[0, 0], linear.bias, rtol=0, atol=1e-6)


def plain(stacked):
    parts = []
    for layer in stacked.layers:
        linear = nn.Linear(layer.weight.shape[1], layer.weight.shape[2])
        linear.weight.data, linear.bias.data = layer.weight.data[0].T.clone(), layer.bias.data[0, 0].clone()
        parts += [linear, nn.Tanh()]
    return nn.Sequential(*parts[:-1])


def test_initial_weights_are_orthogonal_with_their_gains():
    agent = PPO(EnvironmentFacts.of_vectors(8, LOW, HIGH), PPOConfig(hidden_sizes=(6, 6)), seed=0)
    for network, gain in ((agent.actor, 0.01), (agent.critic, 1.0)):
        first, last = network.layers[0].weight[0], network.layers[-1].weight[0]
        torch.testing.assert_close(first.T @ first, 2.0 * torch.eye(6), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(last.T @ last, gain**2 * torch.eye(last.shape[1]), rtol=1e-4, atol=1e-7)
        assert not network.layers[0].bias.any()


def test_failed_transitions_are_not_learned_from():
    failed = torch.zeros(5, 2, dtype=torch.bool)
    failed[2, 1] = True
    agent = make(minibatch_size=3)
    _, usable = agent._prepare(rollout_of(agent, failed=failed))
    assert usable.tolist() == [0, 1, 2, 3, 4, 6, 7, 8, 9]


def test_the_steps_before_a_failure_are_not_blamed_for_it():
    """Rewards 1 and values 100 at a discount of 0.99: every advantage is 0, but the failed step's own."""
    failed = torch.zeros(5, 2, dtype=torch.bool)
    failed[3, 1] = True
    agent = make(discount=0.99, scale_rewards=False)
    agent.value = lambda observation: torch.full((len(observation),), 100.0)
    none = torch.zeros_like(failed)
    batch = rollout_of(agent, failed=failed)._replace(
        reward=(~failed).float(), terminated=none, truncated=failed.clone()
    )
    prepared, usable = agent._prepare(batch)
    torch.testing.assert_close(prepared.advantage[usable], torch.zeros(9), rtol=0, atol=1e-5)
    assert prepared.advantage[7] == pytest.approx(-1.0)
    assert torch.equal(batch.truncated, failed)  # what was collected is left as it was


def test_an_update_ends_where_the_policy_has_gone_far_enough():
    fast = {"learning_rate": 0.05, "passes": 20}
    free, held = make(**fast), make(**fast, target_divergence=0.01)
    batch = rollout_of(free)
    assert free.update(batch)["divergence"] > held.update(batch)["divergence"] > 0.015


def test_learning_rate_schedules():
    def rates(**keys):
        agent = make(**keys)
        found = []
        for seed in range(4):
            agent.update(rollout_of(agent, seed=seed))
            found.append(agent.optimizers["policy"].param_groups[0]["lr"])
        return found

    assert rates(schedule="linear", decay_rollouts=3) == pytest.approx([2e-4, 1e-4, 0.0, 0.0])
    assert rates() == [3e-4] * 4
    up = rates(schedule="adaptive", desired_divergence=10.0, passes=2)
    assert up == pytest.approx([3e-4 * 1.5**n for n in range(1, 5)])
    down = rates(schedule="adaptive", desired_divergence=1e-9, passes=2)
    assert down == pytest.approx([3e-4 / 1.5**n for n in range(1, 5)])


def test_learns_the_point():
    """Standing still gives about -20, the best about -3."""
    env = PointEnv(8)
    config = PPOConfig(rollout_length=60, hidden_sizes=(32, 32), learning_rate=2e-3, discount=0.9, minibatch_size=120)
    agent = PPO(EnvironmentFacts.of_vectors(2, [-1.0], [2.0], num_envs=8), config, seed=0)
    worker = RolloutWorker(env, agent, seed=0)
    buffer = RolloutBuffer(60, worker.observation, torch.zeros(8, 1))
    for _ in range(25):
        while not buffer.full:
            buffer.add(worker.step())
        agent.update(buffer.take())
    result = evaluate(lambda observation: agent.act(observation, False), PointEnv(50), seed=5)
    assert result.returns.mean() > -5.0


def test_actions_beyond_the_bounds_are_clipped_for_the_environment_alone():
    class Recorder(PointEnv):
        def step(self, actions):
            self.seen = actions
            return super().step(actions)

    class Wild:
        def act(self, observation, explore):
            return torch.full((len(observation), 1), 7.0)

        def observe(self, transition):
            pass

    env = Recorder(3)
    transition = RolloutWorker(env, Wild(), seed=0).step()
    assert env.seen.tolist() == [[2.0]] * 3
    assert transition.action.tolist() == [[7.0]] * 3


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"rollout_length": 0}, r"agent\.rollout_length=0"),
        ({"clip": 0.0}, r"agent\.clip=0"),
        ({"trace_decay": 1.5}, r"agent\.trace_decay=1\.5"),
        ({"schedule": "linear"}, r"agent\.decay_rollouts=0: schedule=linear needs 1 or more"),
        ({"decay_rollouts": 5}, r"agent\.decay_rollouts=5"),
        ({"schedule": "cosine"}, r"agent\.schedule=cosine"),
        ({"hidden_sizes": ()}, r"agent\.hidden_sizes"),
    ],
)
def test_wrong_values_are_refused_in_one_line(keys, message):
    with pytest.raises(UserError, match=message):
        PPOConfig(**keys)


def test_the_clip_falls_with_the_learning_rate():
    """Half way through a linear schedule, an update is that of half the clip and half the rate."""
    half = make(schedule="linear", decay_rollouts=2, anneal_clip=True, clip=0.4, minibatch_size=10, passes=3)
    half.set_extra_state(torch.tensor([1.0, 0.5]))
    twin = make(clip=0.2, learning_rate=1.5e-4, minibatch_size=10, passes=3)
    batch = rollout_of(half)
    twin.stream.load_state_dict(half.stream.state_dict())
    half.update(batch)
    twin.update(batch)
    for name, tensor in twin.state_dict().items():
        if name != "_extra_state":
            assert torch.equal(half.state_dict()[name], tensor), name
    with pytest.raises(UserError, match="has no end to fall to; use schedule=linear"):
        PPOConfig(anneal_clip=True)
