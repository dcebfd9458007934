"""FlashSAC's recipe in actor-critics: joint batches, slow copies, projection, rates, held noise; what is refused."""

import copy
import dataclasses
import math

import pytest
import torch
from test_actor_critic import HIGH, LOW, SMALL, batch_of, make

from agents.ace import ACE, ACEConfig
from agents.actor_critic import ActorCritic
from agents.actor_critic_config import ActorCriticConfig
from rlsuite.config.compose import compose_train
from rlsuite.errors import UserError
from rlsuite.nn.actors import ActorConfig
from rlsuite.nn.critics import CriticConfig
from rlsuite.nn.exploration import ExplorationConfig
from rlsuite.vector_env import EnvironmentFacts

ACTOR = ActorConfig(
    hidden_sizes=(8, 8),
    block="residual",
    initialization="orthogonal",
    distribution="squashed_gaussian",
    log_std="tanh",
    log_std_min=-10.0,
)
CRITIC = CriticConfig(
    hidden_sizes=(8, 8),
    block="residual",
    slow_copies=True,
    initialization="orthogonal",
    loss="categorical",
    num_atoms=7,
)
HELD = ExplorationConfig(std=1.0, hold=16, hold_law="zeta", before_tanh=True)
KEYS = {
    "num_critics": 2,
    "policy_delay": 2,
    "target_every": 1,
    "target_rate": 0.1,
    "reward_scaling": "returns",
    "initial_temperature": 0.01,
    "actor": ACTOR,
    "critic": CRITIC,
    "exploration": HELD,
}


def flash(**keys):
    return make(**(KEYS | keys))


def statistics(network):
    return [value.clone() for name, value in network.state_dict().items() if name.rsplit(".", 1)[-1] in STATISTICS]


STATISTICS = ("mean", "variance")


def test_update_equals_the_written_out_one():
    """Target: the slow copies' joint batch in training mode, row by row the smaller; loss on the first half alone."""
    agent = flash(policy_delay=1)
    agent.update(batch_of(agent, 5))  # slow copies and statistics that differ
    batch, start = batch_of(agent, 0), copy.deepcopy(agent)
    stream = torch.Generator()
    stream.set_state(agent.stream.generator.get_state())
    action = (batch.action - start.action_range.center) / start.action_range.half_range
    atoms, alpha = torch.linspace(-5.0, 5.0, 7), start.temperature().item()

    with torch.no_grad():
        following = start.actors.sample(batch.next_observation[None], stream)  # running statistics
    now = torch.cat([batch.observation, action], dim=1)
    after = torch.cat([batch.next_observation, following.action[0]], dim=1)
    joint = torch.cat([now, after]).expand(2, -1, -1)
    start.critics.train()
    start.target_critics.train()
    output = start.critics(joint)[:, :16]
    with torch.no_grad():
        judged = start.target_critics(joint)[:, 16:].softmax(-1)
    place = (judged @ atoms).argmin(0)
    chosen = judged[place, torch.arange(16)]
    target = torch.zeros(16, 7)
    reward = batch.reward * start.return_scaler.scale
    for row in range(16):
        for atom in range(7):
            moved = reward[row] + batch.discount[row] * (atoms[atom] - alpha * following.log_prob[0, row])
            position = (moved.clamp(-5.0, 5.0).item() + 5.0) / (10.0 / 6.0)
            lower = min(int(position), 5)
            target[row, lower] += chosen[row, atom] * (1.0 - (position - lower))
            target[row, lower + 1] += chosen[row, atom] * (position - lower)
    divergence = -(target * output.log_softmax(-1)).sum(-1) - torch.special.entr(target).sum(-1)
    loss = (batch.weight * divergence).mean(1).sum()
    gradients = torch.autograd.grad(loss, list(start.critics.parameters()))

    metrics = agent.update(batch)
    assert metrics["critic_loss"].item() == pytest.approx(loss.item() / 2, rel=1e-3)
    torch.testing.assert_close(metrics["td_error"], divergence.mean(0).sqrt(), rtol=1e-3, atol=1e-4)
    for mine, written in zip(agent.critics.buffers(), start.critics.buffers(), strict=True):
        torch.testing.assert_close(mine, written)  # moved once, by the joint batch
    for mine, written in zip(agent.target_critics.buffers(), start.target_critics.buffers(), strict=True):
        torch.testing.assert_close(mine, written)
    optimizer = torch.optim.Adam(start.critics.parameters(), lr=2e-3)
    optimizer.load_state_dict(start.optimizers["critic"].state_dict())
    for parameter, gradient in zip(start.critics.parameters(), gradients, strict=True):
        parameter.grad = gradient
    before = [parameter.clone() for parameter in start.target_critics.parameters()]
    optimizer.step()
    start.critics.after_step()
    for mine, written in zip(agent.critics.parameters(), start.critics.parameters(), strict=True):
        torch.testing.assert_close(mine, written, rtol=1e-3, atol=2e-5)
    for slow, old, mine in zip(
        agent.target_critics.parameters(), before, agent.critics.parameters(), strict=True
    ):  # parameters follow, not projected again
        torch.testing.assert_close(slow, old.lerp(mine, 0.1))

    # The actor: the joint batch in training mode, a loss on its first half, the new critics' running statistics.
    start.actors.train()
    drawn = start.actors.sample(torch.cat([batch.observation, batch.next_observation])[None], stream)
    seen = torch.cat([batch.observation, drawn.action[0, :16]], dim=1).expand(2, -1, -1)
    value = agent.critics.value(agent.critics(seen)).amin(0)
    expected = (alpha * drawn.log_prob[0, :16] - value).mean().item()
    assert metrics["actor_loss"].item() == pytest.approx(expected, rel=1e-3, abs=1e-5)
    assert metrics["entropy"].item() == pytest.approx(-drawn.log_prob[0, :16].mean().item(), rel=1e-3)
    for mine, written in zip(agent.actors.buffers(), start.actors.buffers(), strict=True):
        torch.testing.assert_close(mine, written)


def test_weights_of_actors_and_critics_stay_at_their_norms():
    agent = flash()
    for step in range(4):
        agent.update(batch_of(agent, step))
    for network in (agent.actors.network, agent.critics.network):
        for weight in (network.input_layer.weight, network.blocks[0].inner.weight, network.output_layer.weight):
            norms = weight.norm(dim=1)
            torch.testing.assert_close(norms, torch.ones_like(norms))
        norm = network.blocks[0].inner_normalization
        together = torch.cat([norm.scale, norm.shift], dim=-1).norm(dim=-1)
        torch.testing.assert_close(together, torch.full_like(together, math.sqrt(32)))
        assert network.output_bias.any()


def test_acting_and_scoring_use_and_keep_running_statistics():
    agent = flash()
    agent.update(batch_of(agent, 0))
    before = statistics(agent)
    agent.act(torch.randn(2, 3), True)
    agent.act(torch.randn(2, 3), False)
    agent.actor_value(torch.randn(1, 7, 3), torch.randn(1, 7, 2))
    assert all(torch.equal(one, other) for one, other in zip(before, statistics(agent), strict=True))
    one, two = torch.randn(1, 3), torch.randn(1, 3)
    both = agent.greedy(torch.cat([one, two]))
    torch.testing.assert_close(torch.cat([agent.greedy(one), agent.greedy(two)]), both)  # rows do not see each other


def test_batch_norm_critics_have_slow_copies_where_they_are_asked_for():
    agent = make(critic=CriticConfig(hidden_sizes=(8,), block="batch_norm", slow_copies=True), target_rate=0.5)
    before = [parameter.clone() for parameter in agent.target_critics.parameters()]
    agent.update(batch_of(agent, 0))
    for slow, old, now in zip(agent.target_critics.parameters(), before, agent.critics.parameters(), strict=True):
        torch.testing.assert_close(slow, old.lerp(now, 0.5))


def test_slow_deterministic_actors_follow_the_running_statistics_too():
    actor = dataclasses.replace(ACTOR, distribution="deterministic", log_std="clamp", log_std_min=-20.0)
    agent = make(actor=actor, target_rate=0.5)
    agent.update(batch_of(agent, 0))
    for slow, fast in zip(statistics(agent.target_actors), statistics(agent.actors), strict=True):
        start = torch.zeros_like(fast) if not bool((slow > 0.9).all()) else torch.ones_like(fast)
        torch.testing.assert_close(slow, start.lerp(fast, 0.5))


def test_exploration_is_tanh_of_mean_and_deviation_times_held_noise():
    agent = flash()
    observation = torch.randn(2, 3)
    mean, log_std = agent.actors.gaussian(observation[None])
    noise = copy.deepcopy(agent.exploration).held()
    expected = agent.action_range.to_environment(torch.tanh(mean + log_std.exp() * noise)[0])
    torch.testing.assert_close(agent.act(observation, True), expected)


def test_the_first_deviation_is_small():
    # tanh(u) is 0 in the middle, so log sigma is -10 + 6 = -4: a deviation of 0.018.
    _, log_std = flash().actors.gaussian(torch.zeros(1, 1, 3))
    assert -10.0 <= log_std.min() <= log_std.max() <= 2.0
    assert log_std.median().item() == pytest.approx(-4.0, abs=3.0)


@pytest.mark.parametrize(("progress", "share"), [(0.0, 1.0), (0.5, 0.75), (1.0, 0.5)])
def test_rates_fall_by_cosine_actors_and_temperature_by_their_own_updates(progress, share):
    agent = flash(final_learning_rate_share=0.5, learning_rate_schedule="cosine", learning_rate_counts="updates")
    agent.anneal(progress)
    rates = {name: optimizer.param_groups[0]["lr"] for name, optimizer in agent.optimizers.items()}
    rare = 0.5 + 0.5 * (0.5 + 0.5 * math.cos(math.pi * progress / 2))  # 1, 0.854, 0.75
    assert rates == pytest.approx({"critic": 2e-3 * share, "actor": 1e-3 * rare, "temperature": 3e-4 * rare})


def test_target_entropy_is_that_of_a_deviation_of_15_hundredths():
    config, _ = compose_train(["agent=flash_sac", "env=Humanoid"])
    expected = 0.5 * math.log(2.0 * math.pi * math.e * 0.15**2)
    assert config.agent.target_entropy == pytest.approx(expected, abs=1e-4)


def test_the_papers_sizes():
    """2.3 million weights of critics, 0.3 million of the actor on Humanoid (348 observations, 17 actions)."""
    config, _ = compose_train(["agent=flash_sac", "env=Humanoid", "preset=paper"])
    agent = config.agent
    assert (config.num_envs, config.train_ratio, config.learning_starts, agent.batch_size) == (1, 1.0, 10_000, 512)
    assert (agent.policy_delay, agent.target_every, agent.target_rate, agent.discount) == (2, 1, 0.01, 0.99)
    rates = (agent.critic_learning_rate, agent.actor_learning_rate, agent.temperature_learning_rate)
    assert rates == (3e-4, 3e-4, 3e-4)
    assert not agent.normalize_observations
    facts = EnvironmentFacts.of_vectors(348, -torch.ones(17), torch.ones(17), num_envs=1)
    made = ActorCritic(facts, agent)
    weights = {name: sum(p.numel() for p in getattr(made, name).parameters()) for name in ("critics", "actors")}
    assert weights["critics"] == pytest.approx(2.34e6, rel=0.02)
    assert weights["actors"] == pytest.approx(0.31e6, rel=0.02)


@pytest.mark.parametrize(
    ("make_config", "words"),
    [
        (lambda: CriticConfig(slow_copies=True), "agent.critic.slow_copies=true: block=plain"),
        (lambda: CriticConfig(projection="everything"), "agent.critic.projection=everything: block=plain"),
        (lambda: CriticConfig(block="residual", hidden_sizes=(8, 4)), "agent.critic.hidden_sizes=[8, 4]"),
        (lambda: ActorConfig(block="residual", hidden_sizes=(8, 4)), "agent.actor.hidden_sizes=[8, 4]"),
        (lambda: ActorConfig(block="residual", layer_norm=True), "agent.actor.layer_norm=true"),
        (lambda: ActorConfig(log_std_min=-5.0), "agent.actor.log_std_min=-5.0"),
        (lambda: ActorConfig(distribution="squashed_gaussian", log_std_min=3.0), "use less than 2"),
        (lambda: ActorCriticConfig(learning_rate_schedule="cosine"), "the rates stay"),
        (lambda: ActorCriticConfig(learning_rate_counts="updates"), "the rates stay"),
        (lambda: ActorCriticConfig(critic=CriticConfig(value_max=9.0)), "squared errors have no support"),
        (lambda: ActorCriticConfig(critic=CriticConfig(loss="categorical")), "use agent.reward_scaling=returns"),
        (
            lambda: ACEConfig(bootstrap_from="neighbours", critic=CriticConfig(block="residual")),
            "agent.bootstrap_from=neighbours: batch-normalized critics",
        ),
    ],
)
def test_what_contradicts_is_refused_in_one_line(make_config, words):
    with pytest.raises(UserError) as caught:
        make_config()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_pairs_of_an_ensemble_learn_with_it():
    agent = ACE(EnvironmentFacts.of_vectors(3, LOW, HIGH, num_envs=2), ACEConfig(**(SMALL | KEYS | {"num_pairs": 2})))
    for step in range(2):
        metrics = agent.update(batch_of(agent, step))
    assert metrics["critic_loss"].isfinite()
    assert agent.act(torch.randn(2, 3), False).shape == (2, 2)


def test_it_learns_which_actions_pay():
    """A bandit: reward -|a - tanh(s)/2|^2 for actions in [-1, 1], of which random ones earn -0.85 and the best 0."""
    keys = {"discount": 0.0, "target_entropy": -1.5, "temperature_learning_rate": 1e-2, "batch_size": 64}
    actor = dataclasses.replace(ACTOR, hidden_sizes=(16, 16))
    critic = dataclasses.replace(CRITIC, hidden_sizes=(32, 32), num_atoms=41)
    agent, generator = flash(actor=actor, critic=critic, **keys), torch.Generator().manual_seed(0)

    def paid(observation, action):
        within = (action - agent.action_range.center) / agent.action_range.half_range
        return -(within - 0.5 * torch.tanh(observation[:, :2])).square().sum(dim=1)

    for step in range(300):
        batch = batch_of(agent, step)
        agent.update(batch._replace(reward=paid(batch.observation, batch.action), discount=torch.zeros(64)))
    observation = torch.randn(500, 3, generator=generator)
    assert paid(observation, agent.act(observation, False)).mean() > -0.15
