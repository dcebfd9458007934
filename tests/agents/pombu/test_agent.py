"""POMBU as a whole: an iteration's schedule, imagination, exploration policies, resume between any two pieces."""

import copy

import pytest
import torch

from agents.pombu.agent import POMBU
from agents.pombu.config import DynamicsConfig, POMBUConfig
from agents.pombu.imagination import imagine
from rlsuite.errors import UserError
from rlsuite.optim.state import load_optimizer_tensors, optimizer_tensors
from rlsuite.replay.buffer import Transition
from rlsuite.vector_env import EnvironmentFacts

LOW, HIGH = torch.tensor([-1.0]), torch.tensor([3.0])
STEPS = 8


def reward(observation, action, following):
    return observation[:, 0] - 0.1 * action.square().sum(-1)


SMALL = {"num_members": 2, "hidden_sizes": (8,), "batch_size": 16, "patience": 5, "max_passes": 10, "capacity": 200}
OURS = {"activation": "silu", "normalization": "none", "weight_decay": 0.1, "see_angles": True}


def make(seed=0, num_envs=3, of_models=None, **keys):
    dynamics = DynamicsConfig(**SMALL | (of_models or {}), precision="float32")
    config = {
        "horizon": STEPS,
        "policy_updates": 2,
        "trajectories": 5,
        "passes": 2,
        "minibatch_size": 16,
        "hidden_sizes": (8,),
        "dynamics": dynamics,
    } | keys
    facts = EnvironmentFacts.of_vectors(2, LOW, HIGH, known_reward=reward, angles=(1,), num_envs=num_envs)
    return POMBU(facts, POMBUConfig(**config), seed=seed)


def episode(agent, seed=0, failed=None):
    """Return one episode of every environment of a drifting point, (H, N, ...)."""
    number = agent.explorers.log_std.shape[0]
    generator = torch.Generator().manual_seed(seed)
    state, rows = torch.randn(number, 2, generator=generator), []
    for _ in range(STEPS):
        action = agent.act(state, True)
        following = state + 0.1 * torch.cat([action, state[:, :1]], dim=1).clamp(-1.0, 3.0)
        rows.append((state, action, reward(state, action, following), following))
        state = following
    observation, action, gained, after = (torch.stack(column) for column in zip(*rows, strict=True))
    no = torch.zeros(STEPS, number, dtype=torch.bool)
    ended = no.clone()
    ended[-1] = True
    return Transition(observation, action, gained, no, ended, after, no if failed is None else failed)


def iterate(agent, seed=0):
    for row in zip(*episode(agent, seed), strict=True):
        agent.observe(Transition(*row))
    agent.update(episode(agent, seed))
    pieces = []
    while agent.busy:
        pieces.append((agent.stage, agent.advance()))
    return pieces


def test_an_iteration_trains_models_then_the_policy_then_explorers():
    agent = make()
    pieces = iterate(agent)
    stages = [stage for stage, _ in pieces]
    assert stages == sorted(stages)
    assert stages.count(2) == 2  # policy updates
    assert stages.count(3) == 1
    assert agent.iteration == 1
    assert all(value.isfinite() for _, metrics in pieces for value in metrics.values())
    assert agent.dynamics.count == 3 * STEPS


def test_exploration_policies_differ_unless_beta_is_zero():
    agent, plain = make(), make(beta=0.0)
    for each in (agent, plain):
        iterate(each)
    weights = next(agent.explorers.parameters())
    assert not torch.equal(weights[0], weights[1])
    for mine, theirs in zip(plain.explorers.parameters(), plain.policy.parameters(), strict=True):
        assert torch.equal(mine, theirs.expand_as(mine))


def test_each_environment_follows_its_exploration_policy():
    agent = make()
    with torch.no_grad():
        agent.explorers.log_std.fill_(-20.0)
        agent.explorers.network.layers[-1].bias.copy_(torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1))
        agent.explorers.network.layers[-1].weight.zero_()
    action = agent.act(torch.randn(3, 2), True)
    torch.testing.assert_close(action[:, 0], 1.0 + 2.0 * torch.tensor([0.1, 0.2, 0.3]), rtol=0, atol=1e-5)


def test_real_trajectories_with_a_failed_simulation_are_not_learned_from():
    agent = make()
    failed = torch.zeros(STEPS, 3, dtype=torch.bool)
    failed[4, 1] = True
    agent.update(episode(agent, failed=failed))
    assert agent.dynamics.count == 2 * STEPS
    assert agent.starts_stored == 2


def test_only_first_observations_of_episodes_are_starts():
    agent = make()
    batch = episode(agent)
    batch.truncated[-1, 1] = False  # environment 1 is in the middle of an episode: it failed some time ago
    agent.update(batch)
    assert agent.starts_stored == 3
    agent.update(episode(agent, 1))
    assert agent.starts_stored == 5


def test_deviation_is_put_back_before_explorers_are_made_and_learning_rates_fall():
    agent = make(fresh_std_iterations=2, decay_iterations=4, learning_rate=1e-2, beta=0.0)
    iterate(agent)
    assert not agent.explorers.log_std.any()  # of iteration 1, the second of two
    assert agent.optimizers["policy"].param_groups[0]["lr"] == pytest.approx(1e-2 * 3 / 4)
    iterate(agent, 1)
    assert agent.explorers.log_std.any()
    assert agent.optimizers["values"].param_groups[0]["lr"] == pytest.approx(1e-2 * 2 / 4)


def test_a_first_rollout_of_failures_alone_is_refused():
    agent = make()
    with pytest.raises(UserError, match="every simulation of the first rollout failed"):
        agent.update(episode(agent, failed=torch.ones(STEPS, 3, dtype=torch.bool)))


def test_imagination_by_hand():
    """Two members that disagree by a constant: what is seen, earned and uncertain in two steps."""
    agent = make()

    found = imagine(
        torch.zeros(1, 4, 2),
        2,
        agent.policy,
        lambda observation, action: torch.stack([observation + 1.0, observation + 3.0]),
        normalize=lambda rows: rows,
        to_environment=lambda action: torch.full_like(action, 2.0),
        to_models=lambda action: action,
        reward=reward,
        scale_reward=lambda rows: rows * 10.0,
        value=lambda rows, left: rows[:, 0],
        discount=0.5,
        largest_state=2.0,
        generator=torch.Generator().manual_seed(0),
    )
    assert found.reward[0].flatten().tolist() == pytest.approx([10.0 * (0.0 - 0.1 * 4.0)] * 4)
    # x = r + 0.5 * V(s'), V the first entry: 1 and (clipped) 2; population variance of (0.5, 1.0) is 0.0625.
    assert found.uncertainty[0].flatten().tolist() == pytest.approx([0.0625] * 4)
    assert found.uncertainty[1].flatten().tolist() == [0.0] * 4  # nothing is bootstrapped after the last step
    assert set(found.observation[1, 0, :, 0].tolist()) <= {1.0, 2.0}


def test_members_are_drawn_anew_for_every_transition_and_by_their_weights():
    agent = make()

    def labels(observation, action):
        return torch.stack([torch.full_like(observation, float(member)) for member in range(3)])

    def drawn(weights):
        found = imagine(
            torch.zeros(2, 300, 2),
            5,
            make(num_envs=2).explorers,
            labels,
            normalize=lambda rows: rows,
            to_environment=lambda action: action,
            to_models=lambda action: action,
            reward=reward,
            scale_reward=lambda rows: rows,
            value=lambda rows, left: rows[:, 0],
            discount=0.9,
            largest_state=1e5,
            generator=agent.stream.generator,
            member_weights=weights,
        )
        return found.observation[1:, ..., 0]

    members = drawn(None)
    assert (members.float().std(dim=0) > 0).float().mean() > 0.9  # not one member a trajectory
    only = drawn(torch.tensor([[0.0, 1.0, 0.0], [0.5, 0.0, 0.5]]))
    assert (only[:, 0] == 1.0).all()
    assert not (only[:, 1] == 1.0).any()


def test_where_rewards_depend_on_the_next_observation_the_models_mean_is_paid():
    """Members lead to 1 and 3 and are paid just that: reward 2, and x = r + 0.5 V is 1.5 and 4.5, of variance 2.25."""
    agent = make()
    found = imagine(
        torch.zeros(1, 4, 2),
        2,
        agent.policy,
        lambda observation, action: torch.stack([observation + 1.0, observation + 3.0]),
        normalize=lambda rows: rows,
        to_environment=lambda action: action,
        to_models=lambda action: action,
        reward=lambda observation, action, following: following[..., 0],
        scale_reward=lambda rows: rows,
        value=lambda rows, left: rows[:, 0],
        discount=0.5,
        largest_state=100.0,
        generator=torch.Generator().manual_seed(0),
    )
    assert found.reward[0].flatten().tolist() == pytest.approx([2.0] * 4)
    assert found.uncertainty[0].flatten().tolist() == pytest.approx([2.25] * 4)


def stubbed(**keys):
    """Return an agent whose two members disagree by 2 in every step, with V the first entry and U zero."""
    agent = make(horizon=3, discount=0.5, **keys)
    agent.dynamics.predictor = lambda: lambda observation, action: torch.stack([observation + 0.0, observation + 2.0])
    agent.values.value = lambda rows, left: rows[:, 0]
    agent.values.uncertainty = lambda rows, left: torch.zeros(len(rows))
    agent.starts_stored = 1
    return agent


def test_sigma_in_the_agent_is_the_recursion_by_hand():
    """u is 0.5^2 Var(V) = 0.25 in steps 0 and 1 and 0 in the last: U is 0.25 + 0.25 * 0.25, 0.25 and (clipped) 1e-8."""
    agent = stubbed()
    rows = agent._rows(agent.imagined(agent.policy, 1), agent.policy, beta=0.0)
    sigma = rows.sigma.view(3, 5)  # H steps of 5 trajectories
    expected = torch.tensor([0.3125, 0.25, 1e-8]).sqrt()
    torch.testing.assert_close(sigma, expected.unsqueeze(1).expand(3, 5))
    assert rows.uncertainty.view(3, 5)[:, 0].tolist() == pytest.approx([0.3125, 0.25, 0.0])


def test_the_log_shows_imagined_returns_in_the_tasks_units():
    agent = stubbed()
    agent.return_scaler.scale.fill_(0.25)
    imagine_now = agent.imagined
    kept = []
    agent.imagined = lambda *arguments: kept.append(imagine_now(*arguments)) or kept[-1]
    metrics = agent._update_policy()
    action = agent.to_environment(kept[0].action)
    expected = reward(kept[0].observation.flatten(0, 2), action.flatten(0, 2), None).view(3, 5).clamp(-5, 5).sum(dim=0)
    torch.testing.assert_close(metrics["imagined_return"], expected.mean())


@pytest.mark.parametrize("paid", [(-0.5, 7.0), (1.0, 2.0)])
def test_imagined_rewards_stay_within_those_paid_so_far(paid):
    lowest, highest = paid
    agent = make(clip_to_seen_rewards=True, num_envs=2)
    batch = episode(agent)
    gained = torch.full_like(batch.reward, lowest)
    gained[3, 1] = highest
    agent.update(batch._replace(reward=gained))
    agent.return_scaler.scale.fill_(1.0)
    agent.reward = lambda observation, action, following: observation[:, 0] * 1e3
    found = agent.imagined(agent.policy, 1).reward
    assert found.min() == min(lowest, 0.0)  # 0 counts as seen
    assert found.max() == highest


def test_real_rewards_are_clipped_unless_imagined_ones_stay_within_them():
    for keys, seen in (({}, 5.0), ({"clip_to_seen_rewards": True}, 9.0)):
        agent = make(**keys)
        first = Transition(*(column[0] for column in episode(agent)))
        agent.observe(first._replace(reward=torch.full((3,), 9.0)))
        assert agent.return_scaler.largest == seen


def test_values_are_asked_with_the_share_of_the_episode_that_is_left():
    """Before step t of 3 it is 1 - t / 3; u of step t asks for V after it, and what it is after the last step is 0."""
    agent, asked = stubbed(), []
    agent.values.value = lambda rows, left: asked.append(left) or rows[:, 0]
    rows = agent._rows(agent.imagined(agent.policy, 1), agent.policy, beta=0.0)
    (imagined,) = asked[:-1]  # both members' rows of all three steps at once
    torch.testing.assert_close(imagined, torch.tensor([2 / 3, 1 / 3, 0.0]).repeat_interleave(5).repeat(2))
    expected = torch.tensor([1.0, 2 / 3, 1 / 3]).repeat_interleave(5)
    torch.testing.assert_close(asked[-1], expected)
    torch.testing.assert_close(rows.left, expected.unsqueeze(0))


def test_explorers_learn_from_the_advantage_plus_beta_sigma():
    plain, bold = stubbed(), stubbed()
    first = plain._rows(plain.imagined(plain.policy, 1), plain.policy, beta=0.0)
    second = bold._rows(bold.imagined(bold.policy, 1), bold.policy, beta=10.0)
    torch.testing.assert_close(second.advantage, first.advantage + 10.0 * first.sigma)
    assert abs(float(first.advantage.mean())) < 1e-5  # standardized before sigma is added


def test_real_episodes_then_models_then_imagination_then_policy_steps_then_explorers(monkeypatch):
    import agents.pombu.agent as module

    agent, calls = make(), []

    def noted(name, function):
        def call(*arguments, **keys):
            calls.append(name)
            return function(*arguments, **keys)

        return call

    for name, owner in (("add", agent.dynamics), ("advance", agent.dynamics), ("imagined", agent)):
        monkeypatch.setattr(owner, name, noted(name, getattr(owner, name)))
    for name in ("conservative", "optimistic"):
        monkeypatch.setattr(module, name, noted(name, getattr(module, name)))
    iterate(agent)
    models = calls.count("advance")
    steps = ["imagined", "conservative"] * agent.config.policy_updates
    assert calls == ["add", *["advance"] * models, *steps, "imagined", "optimistic"]


@pytest.mark.parametrize(
    ("divergence", "alpha"),
    [(8.1e-3, 0.6), (7.9e-3, 0.4), (1.1e-3, 0.4), (0.9e-3, 0.4 / 1.5)],
)
def test_alpha_follows_the_divergence_by_hand(divergence, alpha):
    agent = make(alpha=0.4, alpha_factor=1.5)
    agent._adapt_alpha(torch.tensor(divergence))
    assert agent.alpha.item() == pytest.approx(alpha)


def test_an_adaptive_alpha_stays_in_its_range_and_a_fixed_one_where_it_is():
    agent = make(alpha=0.4, alpha_factor=3.0, alpha_range=(0.2, 0.8))
    for divergence, alpha in ((1.0, 0.8), (1.0, 0.8), (0.0, 0.8 / 3), (0.0, 0.2)):
        agent._adapt_alpha(torch.tensor(divergence))
        assert agent.alpha.item() == pytest.approx(alpha)
    for alpha, factor in ((0.4, 1.0), (0.0, 3.0)):  # 0 is MBPPO, whatever the range
        fixed = make(alpha=alpha, alpha_factor=factor, alpha_range=(0.2, 0.8))
        fixed._adapt_alpha(torch.tensor(1.0))
        assert fixed.alpha.item() == pytest.approx(alpha)


def test_alpha_resumes_as_it_was_unless_the_config_has_another():
    agent = make(alpha=0.4, alpha_factor=1.5)
    agent._adapt_alpha(torch.tensor(1.0))
    state = copy.deepcopy(agent.state_dict())
    for keys, alpha in (
        ({"alpha": 0.4}, 0.6),
        ({"alpha": 0.3}, 0.3),  # an override takes effect
        ({"alpha": 0.4, "alpha_range": (0.0, 0.5)}, 0.5),
    ):
        resumed = make(alpha_factor=1.5, **keys)
        resumed.load_state_dict(copy.deepcopy(state))
        assert resumed.alpha.item() == pytest.approx(alpha)
    fixed = make(alpha=0.7)
    fixed.load_state_dict(make(alpha=0.5).state_dict())
    assert fixed.alpha.item() == pytest.approx(0.7)


def test_random_streams_do_not_coincide():
    agent = make()
    streams = (agent.stream, agent.dynamics.stream, agent.dynamics.weights)
    assert len({stream.generator.initial_seed() for stream in streams}) == 3


@pytest.mark.parametrize("of_models", [{}, OURS])
@pytest.mark.parametrize("pieces", [0, 1, 2, 3, 4])
def test_resumes_between_any_two_pieces_of_work(pieces, of_models):
    one = make(of_models=of_models)
    iterate(one)
    for row in zip(*episode(one, 1), strict=True):
        one.observe(Transition(*row))
    one.update(episode(one, 1))
    for _ in range(pieces):
        one.advance()
    assert one.busy
    two = make(seed=9, of_models=of_models)
    two.load_state_dict(copy.deepcopy(one.state_dict()))
    saved = {name: value.clone() for name, value in optimizer_tensors(one.optimizers).items()}
    load_optimizer_tensors(two.optimizers, saved)
    for agent in (one, two):
        while agent.busy:
            agent.advance()
        iterate(agent, 2)
    for (name, first), second in zip(one.state_dict().items(), two.state_dict().values(), strict=True):
        assert torch.equal(first, second), name


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"alpha": -1.0}, r"agent\.alpha=-1"),
        ({"objective": "max"}, r"agent\.objective=max"),
        ({"u_scale": "raw"}, r"agent\.u_scale=raw"),
        ({"alpha_range": (1.0, 0.0)}, r"agent\.alpha_range="),
        ({"alpha_factor": 0.5}, r"agent\.alpha_factor=0\.5"),
        ({"alpha_factor": float("inf")}, r"agent\.alpha_factor=inf: use a finite number of 1 or more"),
        ({"alpha_factor": 2.0, "objective": "ratio"}, r"agent\.objective=ratio has no alpha of its own to adapt"),
        (
            {"alpha_factor": 2.0, "objective": "ratio_as_alpha"},
            r"use agent\.objective=penalty or agent\.alpha_factor=1",
        ),
        ({"alpha_factor": 2.0, "alpha": 1.5}, r"agent\.alpha=1\.5: an adaptive alpha stays within"),
        ({"horizon": 0}, r"agent\.horizon=0"),
    ],
)
def test_wrong_values_are_refused(keys, message):
    with pytest.raises(UserError, match=message):
        POMBUConfig(**keys)
