"""DQN: targets by hand, an update against plain torch, exploration, resume, and learning a toy of choices."""

import copy
import math

import gymnasium
import pytest
import torch
from torch.nn import functional
from toy_environments import PointEnv

from agents.dqn import DQN, EpsilonGreedy
from agents.dqn_config import DQNConfig, EpsilonConfig
from rlsuite.errors import UserError
from rlsuite.optim.state import load_optimizer_tensors, optimizer_tensors
from rlsuite.replay.buffer import Batch
from rlsuite.replay.config import ReplayConfig
from rlsuite.replay.sampler import Replay
from rlsuite.running.rollout import RolloutWorker
from rlsuite.scoring import evaluate
from rlsuite.vector_env import EnvironmentFacts

FACTS = EnvironmentFacts(
    observation_space=gymnasium.spaces.Box(-math.inf, math.inf, (3,)),
    action_space=gymnasium.spaces.Discrete(4),
    num_envs=2,
)


def make(facts=FACTS, **keys):
    return DQN(facts, DQNConfig(**({"hidden_sizes": (8, 8), "batch_size": 6} | keys)), seed=0)


def batch_of(size=6, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return Batch(
        observation=torch.randn(size, 3, generator=draw),
        action=torch.randint(4, (size, 1), generator=draw),
        reward=3.0 * torch.randn(size, generator=draw),
        discount=0.9 * (torch.rand(size, generator=draw) > 0.3),
        next_observation=torch.randn(size, 3, generator=draw),
        weight=torch.rand(size, generator=draw),
        index=torch.arange(size),
    )


def test_targets_by_hand():
    online, slow = torch.tensor([[1.0, 5.0, 2.0, 0.0]]), torch.tensor([[3.0, 4.0, 9.0, 1.0]])
    row = Batch(*(tensor[:1] for tensor in batch_of()))._replace(
        reward=torch.tensor([2.0]), discount=torch.tensor([0.5])
    )
    for double, clip, wanted in ((True, 0.0, 2.0 + 0.5 * 4.0), (False, 0.0, 2.0 + 0.5 * 9.0), (False, 1.0, 5.5)):
        agent = make(double=double, reward_clip=clip)
        agent.values = lambda network, seen, agent=agent: online if network is agent.network else slow
        assert agent.target(row).tolist() == [wanted]
    assert agent.target(row._replace(discount=torch.zeros(1))).tolist() == [1.0]  # the clipped reward alone


def test_dueling_values_have_the_value_for_a_mean():
    agent = make()
    seen = torch.randn(5, 3)
    values = agent.values(agent.network, seen)
    output = agent.network(seen.unsqueeze(0))[0]
    torch.testing.assert_close(values.mean(dim=1), output[:, 0])
    torch.testing.assert_close(values[:, 1] - values[:, 0], output[:, 2] - output[:, 1])
    assert make(dueling=False).network(seen.unsqueeze(0)).shape == (1, 5, 4)


def test_an_update_is_one_step_of_adam_on_the_weighted_huber_loss():
    agent = make(gradient_norm=0.5, target_rate=0.25)
    start, batch = copy.deepcopy(agent), batch_of()
    metrics = agent.update(batch)
    values = start.values(start.network, batch.observation)[torch.arange(6), batch.action[:, 0]]
    target = start.target(batch)
    loss = (functional.smooth_l1_loss(values, target, reduction="none") * batch.weight).mean()
    torch.testing.assert_close(metrics["td_error"], (values - target).detach())
    weights = list(start.network.parameters())
    optimizer = torch.optim.Adam(weights, lr=5e-4)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(weights, 0.5)
    before = [weight.detach().clone() for weight in weights]
    optimizer.step()
    torch.testing.assert_close(metrics["loss"], loss.detach())
    for mine, theirs, slow, old in zip(
        agent.network.parameters(), weights, agent.target_network.parameters(), before, strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(slow, 0.75 * old + 0.25 * theirs, rtol=1e-4, atol=1e-6)


def test_updates_are_those_of_stable_baselines3():
    sb3 = pytest.importorskip("stable_baselines3")
    agent = make(dueling=False, double=False, target_every=10, learning_rate=1e-3, gradient_norm=0.5)
    env = gymnasium.make("CartPole-v1")
    env.observation_space, env.action_space = FACTS.observation_space, FACTS.action_space
    peer = sb3.DQN("MlpPolicy", env, learning_rate=1e-3, max_grad_norm=0.5, policy_kwargs={"net_arch": [8, 8]})
    theirs = [module for module in peer.q_net.q_net if isinstance(module, torch.nn.Linear)]
    for mine, other in zip(agent.network.layers, theirs, strict=True):
        other.weight.data.copy_(mine.weight[0].T)
        other.bias.data.copy_(mine.bias[0, 0])
    peer.q_net_target.load_state_dict(peer.q_net.state_dict())
    peer._logger = sb3.common.logger.configure(None, [])
    for step in range(30):
        batch = batch_of(seed=step)._replace(weight=torch.ones(6))
        sample = sb3.common.buffers.ReplayBufferSamples(
            observations=batch.observation,
            actions=batch.action,
            next_observations=batch.next_observation,
            dones=(batch.discount == 0).float().unsqueeze(1),
            rewards=batch.reward.unsqueeze(1),
            discounts=torch.full((6, 1), 0.9),
        )
        peer.replay_buffer.sample = lambda *_, found=sample, **__: found
        peer.train(gradient_steps=1, batch_size=6)
        agent.update(batch)
        if step % 10 == 9:
            peer.q_net_target.load_state_dict(peer.q_net.state_dict())
    seen = torch.randn(50, 3)
    torch.testing.assert_close(agent.values(agent.network, seen), peer.q_net(seen), rtol=1e-4, atol=1e-5)


def test_the_slow_copy_waits_for_its_time():
    agent = make(target_every=3)
    same = lambda: torch.equal(agent.network.layers[0].weight, agent.target_network.layers[0].weight)  # noqa: E731
    found = []
    for seed in range(6):
        agent.update(batch_of(seed=seed))
        found.append(same())
    assert found == [False, False, True, False, False, True]


def test_epsilon_falls_with_environment_steps_and_random_choices_are_uniform():
    exploration = EpsilonGreedy(EpsilonConfig(start=1.0, end=0.2, decay_steps=100), seed=0, device="cpu")
    found = []
    for steps in (0, 50, 100, 1000):
        exploration.steps.fill_(steps)
        found.append(exploration.epsilon().item())
    assert found == pytest.approx([1.0, 0.6, 0.2, 0.2])
    choices = exploration(torch.full((40_000, 1), 3), 4)
    share = torch.bincount(choices[:, 0]) / 40_000
    torch.testing.assert_close(share, torch.tensor([0.05, 0.05, 0.05, 0.85]), rtol=0, atol=0.01)


def test_the_same_state_goes_on_to_the_same_bits():
    one, other = (make(target_every=2, normalize_observations=True) for _ in range(2))
    for seed in range(3):
        one.act(torch.randn(2, 3), True)
        one.update(batch_of(seed=seed))
    other.load_state_dict(one.state_dict())
    load_optimizer_tensors(other.optimizers, optimizer_tensors(one.optimizers))
    seen = torch.randn(50, 3)
    assert torch.equal(one.act(seen, True), other.act(seen, True))
    one.update(batch_of(seed=9))
    other.update(batch_of(seed=9))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


class ChoicePoint(PointEnv):
    """The point pushed by one of three choices instead of a number."""

    def __init__(self, num_envs, **options):
        super().__init__(num_envs, **options)
        self.pushes = torch.tensor([-1.0, 0.0, 2.0])
        self.single_action_space = gymnasium.spaces.Discrete(3)

    def step(self, actions):
        return super().step(self.pushes[actions])


def test_learns_the_point():
    """Standing still gives less than -15; going to the middle at once -2.4."""
    env = ChoicePoint(8)
    facts = EnvironmentFacts.of(env)
    numbers = {"hidden_sizes": (32, 32), "learning_rate": 2e-3, "target_rate": 0.05}
    agent = make(facts, epsilon=EpsilonConfig(decay_steps=4000), **numbers)
    worker = RolloutWorker(env, agent, seed=0)
    replay = Replay(
        ReplayConfig(capacity=10_000, prioritized=True, n_step=2),
        worker.observation,
        torch.zeros(8, 1, dtype=torch.int64),
        discount=0.9,
        seed=0,
    )
    for step in range(1000):
        replay.add(worker.step(random=step < 20))
        if step >= 20:
            batch = replay.sample(64)
            replay.update_priorities(batch.index, agent.update(batch)["td_error"])
    result = evaluate(lambda observation: agent.act(observation, False), ChoicePoint(50), seed=5)
    still = evaluate(lambda seen: torch.ones(len(seen), 1, dtype=torch.int64), ChoicePoint(50), seed=5)
    assert still.returns.mean() < -15.0
    assert result.returns.mean() > -9.0


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"batch_size": 0}, r"agent\.batch_size=0"),
        ({"target_rate": 0.0}, r"agent\.target_rate=0"),
        ({"target_every": -1}, r"agent\.target_every=-1"),
        ({"learning_rate": math.nan}, r"agent\.learning_rate=nan"),
        ({"reward_clip": -1.0}, r"agent\.reward_clip=-1"),
    ],
)
def test_wrong_values_are_refused_in_one_line(keys, message):
    with pytest.raises(UserError, match=message):
        DQNConfig(**keys)
    with pytest.raises(UserError, match=r"agent\.epsilon\.end=2"):
        EpsilonConfig(end=2.0)
