"""DDPG and TD3 against a plain reference implementation, and each rule by hand."""

import dataclasses

import pytest
import torch
from ddpg_reference import Reference, random_batch, transition
from safetensors.torch import load_file, save_file

from agents.actor_critic import ActorCritic
from agents.actor_critic_config import ActorCriticConfig
from rlsuite.errors import UserError
from rlsuite.nn.actors import ActorConfig
from rlsuite.nn.critics import CriticConfig
from rlsuite.nn.exploration import ExplorationConfig
from rlsuite.optim.state import load_optimizer_tensors, optimizer_tensors
from rlsuite.vector_env import EnvironmentFacts

LOW, HIGH = torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 4.0])
SMALL = {
    "batch_size": 16,
    "actor_learning_rate": 1e-3,
    "critic_learning_rate": 2e-3,
    "normalize_observations": False,
    "precision": "float32",  # the references are computed so
    "actor": ActorConfig(hidden_sizes=(8, 8)),
    "critic": CriticConfig(hidden_sizes=(8, 8)),
}


def make(seed=0, num_envs=2, **keys):
    return ActorCritic(
        EnvironmentFacts.of_vectors(3, LOW, HIGH, num_envs=num_envs), ActorCriticConfig(**(SMALL | keys)), seed=seed
    )


def batch_of(agent, seed):
    return random_batch(agent.sample_size, 3, LOW, HIGH, seed=seed)


def rows_of(batch, start, stop):
    return type(batch)(*(tensor[start:stop] for tensor in batch))


# -- update against the reference ---------------------------------------------------------------------------


@pytest.mark.parametrize("keys", [{}, {"reward_scale": 0.1, "target_rate": 0.3}], ids=["plain", "scaled"])
def test_ddpg_update_equals_the_reference(keys):
    agent = make(**keys)
    reference = Reference(agent)
    for step in range(8):
        batch = batch_of(agent, step)
        metrics = agent.update(batch)
        loss, errors = reference.update(batch)
        assert metrics["critic_loss"].item() == pytest.approx(loss, rel=1e-4)
        torch.testing.assert_close(metrics["td_error"], errors, rtol=1e-3, atol=1e-4)
        reference.assert_equals(agent)


def test_td3_update_equals_the_reference():
    agent = make(num_critics=2, policy_delay=2, target_noise=0.4, target_noise_clip=0.5)
    reference = Reference(agent)
    stream = torch.Generator()
    for step in range(8):
        stream.set_state(agent.stream.generator.get_state())
        noise = torch.randn(1, 16, 2, generator=stream)[0] * 0.4
        batch = batch_of(agent, step)
        metrics = agent.update(batch)
        loss, errors = reference.update(batch, noise)
        assert metrics["critic_loss"].item() == pytest.approx(loss, rel=1e-4)
        assert ("actor_loss" in metrics) == (step % 2 == 1)
        torch.testing.assert_close(metrics["td_error"], errors, rtol=1e-3, atol=1e-4)
        reference.assert_equals(agent)


@pytest.mark.parametrize("critics", [1, 2])
def test_three_pairs_equal_three_agents_of_one(critics):
    agent = make(num_pairs=3, num_critics=critics, policy_delay=critics)
    references = [Reference(agent, pair) for pair in range(3)]
    for step in range(6):
        batch = batch_of(agent, step)
        errors = agent.update(batch)["td_error"]
        for pair, reference in enumerate(references):
            rows = slice(16 * pair, 16 * pair + 16)
            expected = reference.update(rows_of(batch, rows.start, rows.stop))[1]
            torch.testing.assert_close(errors[rows], expected, rtol=1e-3, atol=1e-4)
            reference.assert_equals(agent, pair)


def test_update_normalizes_observations_with_the_running_statistics():
    agent = make(normalize_observations=True)
    agent.normalizer.update(torch.randn(50, 3) * 4.0 + 2.0)
    reference = Reference(agent)
    batch = batch_of(agent, 0)
    agent.update(batch)
    normalized = batch._replace(
        observation=agent.normalizer(batch.observation), next_observation=agent.normalizer(batch.next_observation)
    )
    reference.update(normalized)
    reference.assert_equals(agent)


def test_categorical_twin_critics_bootstrap_from_the_one_of_smaller_value():
    critic = CriticConfig(hidden_sizes=(8,), loss="categorical", num_atoms=5, value_min=-2.0, value_max=2.0)
    agent = make(num_critics=2, critic=critic)
    output = torch.randn(2, 16, 5)
    values = agent.critics.value(output)
    chosen = agent.pessimistic(output)
    for row in range(16):
        smallest = output[values[:, row].argmin(), row]
        assert torch.equal(chosen[0, row], smallest)
        assert torch.equal(chosen[1, row], smallest)
    assert torch.isfinite(agent.update(batch_of(agent, 0))["critic_loss"])


@torch.no_grad()
def test_discount_zero_cuts_the_bootstrap_and_another_does_not():
    for factor in (0.0, 0.9):
        agent = make()
        drawn = batch_of(agent, 3)
        batch = drawn._replace(reward=torch.full((16,), 2.0), discount=torch.full((16,), factor))
        action = (batch.action - agent.action_range.center) / agent.action_range.half_range
        value = agent.critics(torch.cat([batch.observation, action], 1)[None])[0, :, 0]
        following = agent.target_actors(batch.next_observation[None])[0]
        after = agent.target_critics(torch.cat([batch.next_observation, following], 1)[None])[0, :, 0]
        assert after.abs().min() > 1e-3  # so that the bootstrap would be seen
        with torch.enable_grad():
            errors = agent.update(batch)["td_error"]
        torch.testing.assert_close(errors, (value - 2.0 - factor * after).abs(), rtol=1e-4, atol=1e-4)


def test_target_update_by_hand():
    agent = make(target_rate=0.25, actor_learning_rate=1e-30, critic_learning_rate=1e-30)
    for parameter in agent.actor_parameters + agent.critic_parameters:
        parameter.data.fill_(4.0)
    for network in (agent.target_actors, agent.target_critics):
        for parameter in network.parameters():
            parameter.data.zero_()
    for expected in (1.0, 1.75, 2.3125):  # a quarter of the way to 4 each time
        agent.update(batch_of(agent, 0))
        for network in (agent.target_actors, agent.target_critics):
            for parameter in network.parameters():
                torch.testing.assert_close(parameter, torch.full_like(parameter, expected))


def test_policy_delay_counter_survives_state_dict():
    agent = make(policy_delay=3)
    for step in range(4):
        agent.update(batch_of(agent, step))
    resumed = make(seed=9, policy_delay=3)
    resumed.load_state_dict(agent.state_dict())
    due = ["actor_loss" in resumed.update(batch_of(agent, step)) for step in range(5)]
    assert due == [False, True, False, False, True]  # updates 5, 6, 7, 8, 9


def test_metrics_are_tensors_without_gradient():
    agent = make(num_pairs=2)
    metrics = agent.update(batch_of(agent, 0))
    assert metrics.pop("td_error").shape == (32,)
    assert set(metrics) == {"critic_loss", "value", "actor_loss"}
    for value in metrics.values():
        assert value.dim() == 0
        assert not value.requires_grad


def test_the_actor_step_leaves_the_critics_alone_and_targets_have_no_gradient():
    agent = make(critic_learning_rate=1e-30)
    before = [parameter.clone() for parameter in agent.critic_parameters]
    agent.update(batch_of(agent, 0))
    for old, new in zip(before, agent.critic_parameters, strict=True):
        torch.testing.assert_close(old, new, rtol=0, atol=1e-6)
    assert not any(p.requires_grad for p in [*agent.target_actors.parameters(), *agent.target_critics.parameters()])


def test_weight_decay_reaches_the_critics_only():
    agent = make(critic_weight_decay=0.5, actor_learning_rate=1e-30)
    reference = make(actor_learning_rate=1e-30)
    reference.load_state_dict(agent.state_dict())
    before = agent.critic_parameters[0].detach().clone()
    batch = batch_of(agent, 0)
    agent.update(batch)
    reference.update(batch)
    expected = reference.critic_parameters[0] - 2e-3 * 0.5 * before  # decoupled: lr * decay * weight
    torch.testing.assert_close(agent.critic_parameters[0], expected, rtol=1e-4, atol=1e-6)
    assert torch.equal(agent.actor_parameters[0], reference.actor_parameters[0])


@pytest.mark.parametrize(("progress", "left"), [(0.0, 1.0), (0.5, 1.0), (0.75, 0.6), (1.0, 0.2), (1.5, 0.2)])
def test_rates_fall_linearly_in_the_last_part_of_the_training(progress, left):
    agent = make(final_learning_rate_share=0.2, learning_rate_decay_start=0.5)
    agent.anneal(progress)
    found = [agent.optimizers[name].param_groups[0]["lr"] for name in ("actor", "critic")]
    assert found == pytest.approx([1e-3 * left, 2e-3 * left])
    constant = make()
    constant.anneal(progress)
    assert constant.optimizers["critic"].param_groups[0]["lr"] == 2e-3


# -- the batch normalization block ------------------------------------------------------------------------


def batch_norm_agent(**keys):
    return make(critic=CriticConfig(hidden_sizes=(8,), block="batch_norm"), **keys)


def test_batch_norm_critics_see_current_and_next_in_one_joint_batch():
    agent = batch_norm_agent(reward_scale=1.0)
    twin = batch_norm_agent()
    twin.load_state_dict(agent.state_dict())
    batch = batch_of(agent, 1)
    errors = agent.update(batch)["td_error"]
    with torch.no_grad():
        action = (batch.action - twin.action_range.center) / twin.action_range.half_range
        following = twin.target_actors(batch.next_observation[None])[0]
        now = torch.cat([batch.observation, action], 1)
        after = torch.cat([batch.next_observation, following], 1)
        twin.critics.train()
        joint = twin.critics(torch.cat([now, after])[None])[0, :, 0]
    expected = (joint[:16] - batch.reward - batch.discount * joint[16:]).abs()
    torch.testing.assert_close(errors, expected, rtol=1e-4, atol=1e-5)
    norm, twin_norm = agent.critics.network.input_normalization, twin.critics.network.input_normalization
    torch.testing.assert_close(norm.mean, twin_norm.mean)  # moved once, by the joint batch


def test_batch_norm_critics_stay_on_the_sphere_and_keep_no_target():
    agent = batch_norm_agent()
    targets = [parameter.clone() for parameter in agent.target_critics.parameters()]
    for step in range(3):
        agent.update(batch_of(agent, step))
    norms = agent.critics.network.layers[0].weight.norm(dim=1)
    torch.testing.assert_close(norms, torch.ones_like(norms))
    for old, new in zip(targets, agent.target_critics.parameters(), strict=True):
        assert torch.equal(old, new)


def test_the_actor_is_scored_with_running_statistics():
    agent = batch_norm_agent()
    agent.update(batch_of(agent, 0))
    before = {name: value.clone() for name, value in agent.critics.state_dict().items() if "mean" in name}
    agent.actor_value(torch.randn(1, 7, 3), torch.randn(1, 7, 2))
    after = agent.critics.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_batch_norm_critics_are_in_evaluation_mode_from_the_start():
    agent = batch_norm_agent()
    before = {name: value.clone() for name, value in agent.critics.state_dict().items()}
    agent.actor_value(torch.randn(1, 7, 3), torch.randn(1, 7, 2))
    after = agent.critics.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


# -- acting -----------------------------------------------------------------------------------------------


def test_actions_fill_the_bounds():
    agent = make()
    for value, bound in ((50.0, HIGH), (-50.0, LOW)):
        agent.actors.network.layers[-1].bias.data.fill_(value)
        torch.testing.assert_close(agent.act(torch.zeros(1, 3), False)[0], bound)
    agent.actors.network.layers[-1].bias.data.zero_()
    agent.actors.network.layers[-1].weight.data.zero_()
    assert agent.act(torch.zeros(1, 3), False).tolist() == [[0.0, 2.0]]


def test_environment_n_follows_pair_n_mod_k_while_exploring():
    agent = make(num_pairs=2, num_envs=5, exploration=ExplorationConfig(std=0.0))
    observation = torch.randn(5, 3)
    proposals = agent.action_range.to_environment(agent.propose(observation, True))
    action = agent.act(observation, True)
    for env in range(5):
        assert torch.equal(action[env], proposals[env % 2, env])
    assert torch.equal(agent.act(observation, False), proposals[0])


def test_exploration_is_gaussian_in_half_ranges():
    agent = make(num_envs=4000, exploration=ExplorationConfig(std=0.1))
    agent.actors.network.layers[-1].weight.data.zero_()
    agent.actors.network.layers[-1].bias.data.zero_()
    action = agent.act(torch.zeros(4000, 3), True)
    assert action.std(0).tolist() == pytest.approx([0.1, 0.2], rel=0.05)  # half ranges 1 and 2
    assert action.mean(0).tolist() == pytest.approx([0.0, 2.0], abs=0.02)


def test_act_with_targets_is_for_greedy_acting_only():
    agent = make(act_with_targets=True, exploration=ExplorationConfig(std=0.0))
    for parameter in agent.target_actors.parameters():
        parameter.data.normal_()
    observation = torch.randn(2, 3)
    greedy = agent.action_range.to_environment(agent.target_actors(observation[None])[0])
    assert torch.equal(agent.act(observation, False), greedy)
    assert torch.equal(
        agent.act(observation, True), agent.action_range.to_environment(agent.actors(observation[None])[0])
    )


def test_observe_feeds_the_normalizer_only_where_asked():
    rows = transition(torch.randn(2, 3))
    for asked in (True, False):
        agent = make(normalize_observations=asked)
        agent.observe(rows)
        assert agent.normalizer.count.item() == (2 if asked else 0)


def test_observe_counts_decisions_and_episodes():
    agent = make(exploration=ExplorationConfig(hold=3, decision_decay=0.5))
    agent.observe(transition(torch.zeros(2, 3)))
    agent.observe(transition(torch.zeros(2, 3), truncated=torch.tensor([False, True])))
    agent.observe(transition(torch.zeros(2, 3), terminated=torch.tensor([False, True])))
    assert agent.exploration.decision.tolist() == [3, 0]
    assert agent.exploration.episode.tolist() == [0, 3]


# -- state ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", [{}, {"num_critics": 2, "policy_delay": 2, "target_noise": 0.2}], ids=["ddpg", "td3"])
def test_state_dict_through_safetensors_continues_identically(tmp_path, keys):
    keys = keys | {
        "normalize_observations": True,
        "exploration": ExplorationConfig(hold=3, episode_multipliers=(1.0, 2.0), decision_decay=0.9),
    }
    first = make(**keys)

    def live(agent, steps):
        actions = []
        for step in steps:
            observation = torch.randn(2, 3, generator=torch.Generator().manual_seed(step))
            actions.append(agent.act(observation, True))
            agent.observe(transition(observation, terminated=torch.tensor([step % 4 == 0, False])))
            agent.update(batch_of(agent, step))
        return torch.stack(actions)

    live(first, range(5))
    save_file(first.state_dict(), tmp_path / "agent.safetensors")
    save_file(optimizer_tensors(first.optimizers), tmp_path / "optimizers.safetensors")
    second = make(seed=77, **keys)
    second.load_state_dict(load_file(tmp_path / "agent.safetensors"))
    load_optimizer_tensors(second.optimizers, load_file(tmp_path / "optimizers.safetensors"))
    assert torch.equal(live(first, range(5, 12)), live(second, range(5, 12)))
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_equal_seeds_give_equal_agents_and_others_do_not():
    one, two, other = make(seed=1), make(seed=1), make(seed=2)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.actor_parameters[0], other.actor_parameters[0])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_pairs", 0),
        ("num_critics", 0),
        ("policy_delay", 0),
        ("batch_size", 0),
        ("discount", 1.01),
        ("discount", -0.1),
        ("target_rate", 0.0),
        ("target_rate", 1.5),
        ("actor_learning_rate", 0.0),
        ("critic_learning_rate", -1.0),
        ("learning_rate_decay_start", 1.0),
        ("final_learning_rate_share", -0.1),
    ],
)
def test_values_out_of_range_are_refused_by_name(key, value):
    with pytest.raises(UserError, match=rf"^agent\.{key}={value}: use "):
        ActorCriticConfig(**{key: value})


def test_the_config_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ActorCriticConfig().discount = 0.5


def test_bfloat16_updates_stay_near_float32_ones_and_keep_float32_state():
    exact, rough = make(num_pairs=2), make(num_pairs=2, precision="bfloat16")
    for step in range(5):
        one, other = exact.update(batch_of(exact, step)), rough.update(batch_of(rough, step))
    assert other["critic_loss"].item() == pytest.approx(one["critic_loss"].item(), rel=0.05)
    assert all(tensor.dtype is not torch.bfloat16 for tensor in rough.state_dict().values())
    observation = torch.randn(4, 3)
    assert rough.act(observation, False).dtype is torch.float32
    torch.testing.assert_close(rough.act(observation, False), exact.act(observation, False), rtol=0.05, atol=0.05)
    assert not torch.equal(rough.act(observation, False), exact.act(observation, False))


def test_pre_activation_penalty_by_autograd():
    """loss = -mean(Q) / mean|Q| + penalty * mean(u**2), u before the tanh; here the gradient it must step by."""
    agent = make(pre_activation_penalty=0.3)
    batch = batch_of(agent, 0)
    reference = make(pre_activation_penalty=0.3)
    reference.learn_critics(batch)
    before = [parameter.detach().clone() for parameter in reference.actors.parameters()]
    inner = reference.actors.network(batch.observation[None])
    value = reference.critics(torch.cat([batch.observation[None], torch.tanh(inner)], dim=-1))
    loss = -value.mean() / value.detach().abs().mean() + 0.3 * inner.square().mean()
    gradients = torch.autograd.grad(loss, list(reference.actors.parameters()))
    metrics = agent.update(batch)
    assert metrics["actor_loss"].item() == pytest.approx(loss.item(), rel=1e-5)
    for parameter, start, gradient in zip(agent.actors.parameters(), before, gradients, strict=True):
        # Adam's first step: the learning rate times the sign of the gradient, nearly.
        step = -1e-3 * gradient / (gradient.abs() + 1e-8)
        torch.testing.assert_close(parameter.detach() - start, step, rtol=1e-2, atol=1e-5)


def test_pre_activation_penalty_keeps_actions_off_their_bounds():
    sizes = []
    for penalty in (0.1, 0.0):
        agent = make(pre_activation_penalty=penalty, discount=0.0, actor_learning_rate=1e-2)
        for step in range(300):
            batch = batch_of(agent, step)
            agent.update(batch._replace(reward=10.0 * batch.action.sum(-1)))  # more is always better
        sizes.append(agent.actors.pre_activation(batch.observation[None]).abs().mean())
    assert sizes[0] < 2.0 < sizes[1]
