"""SHER against its written-out losses, the released code's quirks, and what agents see of a goal task's observation."""

import copy

import pytest
import torch
from host_waits import NoHostSync

from agents.actor_critic import ActorCritic
from agents.actor_critic_config import ActorCriticConfig
from agents.sher import SHER, SHERConfig
from rlsuite.errors import UserError
from rlsuite.goals import GoalSpec
from rlsuite.nn.actors import ActorConfig, Actors
from rlsuite.nn.critics import CriticConfig
from rlsuite.nn.exploration import ExplorationConfig
from rlsuite.nn.normalizer import NormalizerConfig, RunningNormalizer
from rlsuite.replay.buffer import Batch, Transition
from rlsuite.running.cuda_graph import GraphedUpdate, stand_in
from rlsuite.vector_env import EnvironmentFacts

LOW, HIGH = torch.tensor([-1.0, -1.0]), torch.tensor([1.0, 3.0])
GAUSSIAN = ActorConfig(hidden_sizes=(8, 8), distribution="squashed_gaussian", log_std="tanh")
SPEC = GoalSpec(3, 2, lambda achieved, desired: -(achieved - desired).norm(dim=-1), lambda achieved, desired: achieved)
NORMALIZER = NormalizerConfig(
    source="relabelled", prior_rows=1, input_clip=200.0, clip=5.0, epsilon=0.0, minimum_std=0.01
)


def make(kind=SHER, **keys):
    config = {
        "actor": GAUSSIAN,
        "critic": CriticConfig(hidden_sizes=(8, 8)),
        "batch_size": 6,
        "discount": 0.9,
        "initial_temperature": 0.2,
        "temperature_learning_rate": 0.0,
        "critic_learning_rate": 1e-2,
        "actor_learning_rate": 1e-2,
        "clip_targets": True,
        "precision": "float32",
        "normalize_observations": False,
        "exploration": ExplorationConfig(std=0.0, random_probability=0.05),
    } | keys
    return kind.build(EnvironmentFacts.of_vectors(7, LOW, HIGH, num_envs=2, goals=SPEC), kind.Config(**config), seed=1)


def batch_of(agent, seed, reward=-1.0):
    generator = torch.Generator().manual_seed(seed)
    rows = agent.sample_size
    return Batch(
        observation=torch.randn(rows, 7, generator=generator),
        action=torch.lerp(LOW, HIGH, torch.rand(rows, 2, generator=generator)),
        reward=torch.full((rows,), reward),
        discount=torch.full((rows,), 0.9),
        next_observation=torch.randn(rows, 7, generator=generator),
        weight=torch.ones(rows),
        index=torch.arange(rows),
    )


def step_of(parameters, loss, rate=1e-2):
    """Return what Adam's first step makes of parameters."""
    gradients = torch.autograd.grad(loss, parameters)
    return [
        parameter - rate * gradient / (gradient.abs() + 1e-8)
        for parameter, gradient in zip(parameters, gradients, strict=True)
    ]


def assert_all_close(found, expected):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_the_rate_of_v_falls_with_the_critics():
    agent = make(final_learning_rate_share=0.5)
    agent.anneal(0.5)
    found = {name: optimizer.param_groups[0]["lr"] for name, optimizer in agent.optimizers.items()}
    assert found == pytest.approx({"actor": 7.5e-3, "critic": 7.5e-3, "value": 7.5e-3})


def test_update_equals_the_written_out_one():
    """y_Q = clip(r + gamma V'(s')); y_V = min Q(s, a~) - alpha log pi; actors: alpha log pi - Q1 (SHER's losses)."""
    agent = make()
    with torch.no_grad():  # so that V' is not zero and some targets are clipped
        agent.target_values.layers[-1].bias.fill_(-8.0)
        agent.target_values.layers[-1].weight.mul_(40.0)
    batch, start = batch_of(agent, 0), copy.deepcopy(agent)
    seen, after = batch.observation[None, :, :5], batch.next_observation[None, :, :5]
    action = ((batch.action - agent.action_range.center) / agent.action_range.half_range)[None]
    stream = torch.Generator()
    stream.set_state(agent.stream.generator.get_state())

    def both(critics, taken):
        return critics.value(critics(torch.cat([seen, taken], dim=-1).expand(2, -1, -1)))

    with torch.no_grad():
        unclipped = batch.reward + 0.9 * start.target_values(after)[0, :, 0]
        target = unclipped.clamp(-10.0, 0.0)
    assert (target != unclipped).any()
    assert (target == unclipped).any()
    metrics = agent.update(batch)
    loss = (both(start.critics, action) - target).square().mean(dim=1).sum()
    assert metrics["critic_loss"].item() == pytest.approx(loss.item() / 2, rel=1e-5)
    assert_all_close(agent.critics.parameters(), step_of(list(start.critics.parameters()), loss))

    drawn = start.actors.sample(seen, stream)
    target = (both(agent.critics, drawn.action).amin(0) - 0.2 * drawn.log_prob[0]).detach()
    loss = (start.values(seen)[0, :, 0] - target).square().mean()
    assert metrics["value_loss"].item() == pytest.approx(loss.item(), rel=1e-4)
    assert_all_close(agent.values.parameters(), step_of(list(start.values.parameters()), loss))

    loss = (0.2 * drawn.log_prob[0] - both(agent.critics, drawn.action)[0]).mean()
    assert metrics["actor_loss"].item() == pytest.approx(loss.item(), rel=1e-4)
    assert_all_close(agent.actors.parameters(), step_of(list(start.actors.parameters()), loss))
    moved = [
        old + agent.config.target_rate * (new - old)
        for old, new in zip(start.target_values.parameters(), agent.values.parameters(), strict=True)
    ]
    assert_all_close(agent.target_values.parameters(), moved)


def test_slow_copies_move_once_in_target_every_updates():
    agent = make(target_every=3)
    for update in range(1, 7):
        before = [parameter.clone() for parameter in agent.target_values.parameters()]
        agent.update(batch_of(agent, update))
        moved = any(
            not torch.equal(one, other) for one, other in zip(before, agent.target_values.parameters(), strict=True)
        )
        assert moved == (update % 3 == 0)


def test_the_other_value_form_is_sac():
    ours, sac = make(value="action", actor_ascends="smallest"), make(ActorCritic, num_critics=2)
    assert type(ours) is SHER
    for update in range(3):
        first, second = ours.update(batch_of(ours, update)), sac.update(batch_of(sac, update))
        assert {name: value.tolist() for name, value in first.items()} == {
            name: value.tolist() for name, value in second.items()
        }
    assert all(torch.equal(one, other) for one, other in zip(ours.parameters(), sac.parameters(), strict=True))


def test_actors_ascend_the_first_critic_or_the_smallest():
    for ascends in ("first", "smallest"):
        agent = make(actor_ascends=ascends)
        observation, action = torch.randn(1, 6, 5), torch.rand(1, 6, 2)
        values = agent.critics.value(agent.critics(torch.cat([observation, action], -1).expand(2, -1, -1)))
        expected = values[:1] if ascends == "first" else values.amin(0, keepdim=True)
        torch.testing.assert_close(agent.actor_value(observation, action), expected)


@pytest.mark.parametrize("policy_delay", [1, 2])
def test_v_learns_from_the_smallest_critic_whatever_the_actors_ascend(policy_delay):
    first, smallest = (
        make(num_critics=3, num_pairs=2, policy_delay=policy_delay, actor_ascends=ascends).update
        for ascends in ("first", "smallest")
    )
    batch = batch_of(make(num_critics=3, num_pairs=2), 0)
    one, other = first(batch), smallest(batch)
    assert one["value_loss"].item() == pytest.approx(other["value_loss"].item(), rel=1e-6)
    assert ("actor_loss" in one) == (policy_delay == 1)


@pytest.mark.parametrize("value", ["state", "action"])
def test_critics_find_the_values_of_a_reward_of_minus_one(value):
    """Without entropy, every step -1: Q = V = -1 / (1 - gamma) = -10, the lower end of the clip."""
    agent = make(value=value, initial_temperature=1e-6, target_rate=0.1, num_critics=2)
    for update in range(1500):
        metrics = agent.update(batch_of(agent, update % 20))
    assert metrics["value"].item() == pytest.approx(-10.0, abs=0.3)


def test_resume_goes_on_bit_for_bit():
    from rlsuite.optim.state import load_optimizer_tensors, optimizer_tensors

    one, two = make(), make()
    for update in range(3):
        one.update(batch_of(one, update))
    two.load_state_dict(copy.deepcopy(one.state_dict()))
    load_optimizer_tensors(two.optimizers, {k: v.clone() for k, v in optimizer_tensors(one.optimizers).items()})
    for update in range(3, 6):
        first, second = one.update(batch_of(one, update)), two.update(batch_of(two, update))
        assert {name: value.tolist() for name, value in first.items()} == {
            name: value.tolist() for name, value in second.items()
        }
    state = two.state_dict()
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, state[name]), name


def test_a_fixed_temperature_is_the_configs_also_after_loading():
    old, new = make(initial_temperature=0.2), make(initial_temperature=0.5)
    new.load_state_dict(old.state_dict())
    assert new.temperature().item() == pytest.approx(0.5)
    learned = [make(initial_temperature=value, temperature_learning_rate=1e-3) for value in (0.2, 0.5)]
    learned[1].load_state_dict(learned[0].state_dict())
    assert learned[1].temperature().item() == pytest.approx(0.2)


# -- acting -----------------------------------------------------------------------------------------------------


def test_the_achieved_goal_is_not_seen():
    agent = make(normalize_observations=True)
    observation = torch.randn(4, 7)
    changed = observation.clone()
    changed[:, 5:] += 10.0
    assert torch.equal(agent.act(observation, False), agent.act(changed, False))
    assert torch.equal(agent.greedy(observation), agent.greedy(observation[:, :5]))


def test_evaluation_is_deterministic_unless_the_quirk_is_asked_for():
    observation = torch.randn(4, 7)
    agent = make()
    assert torch.equal(agent.act(observation[:2], False), agent.act(observation[:2], False))
    quirky = make(explore_in_evaluation=True)  # for two environments; evaluations have any number
    before = quirky.exploration.stream.generator.get_state()
    assert not torch.equal(quirky.act(observation, False), quirky.act(observation, False))
    assert torch.equal(quirky.exploration.stream.generator.get_state(), before)


def test_acting_with_targets_follows_the_actors():
    agent = make(act_with_targets=True, target_rate=0.5)
    observation = torch.randn(4, 7)
    before = agent.act(observation, False)
    for update in range(5):
        agent.update(batch_of(agent, update))
    assert not torch.equal(agent.act(observation, False), before)


def test_log_std_by_tanh_and_the_bottleneck(generator):
    actors = Actors(1, 3, 2, GAUSSIAN, generator=generator)
    observation = torch.randn(1, 5, 3, generator=generator)
    mean, raw = actors.network(observation).chunk(2, dim=-1)
    stream = torch.Generator().manual_seed(4)
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(4))
    std = torch.exp(-20.0 + 0.5 * 22.0 * (torch.tanh(raw) + 1.0))
    torch.testing.assert_close(actors.sample(observation, stream).action, torch.tanh(mean + std * noise))
    config = ActorConfig(hidden_sizes=(8,), distribution="squashed_gaussian", bottleneck=True)
    narrow = Actors(1, 3, 2, config, generator=generator)
    assert [tuple(layer.weight.shape[1:]) for layer in (*narrow.network.layers, narrow.heads)] == [
        (3, 8),
        (8, 2),
        (2, 4),
    ]
    assert narrow.sample(observation, stream).action.shape == (1, 5, 2)
    with pytest.raises(UserError, match=r"agent\.actor\.bottleneck=true"):
        ActorConfig(bottleneck=True)


# -- what HER's baseline needs of DDPG ----------------------------------------------------------------------------


def test_action_penalty_by_hand():
    no_temperature = {"initial_temperature": 1.0, "temperature_learning_rate": 3e-4}  # the defaults
    agent = make(ActorCritic, actor=ActorConfig(hidden_sizes=(8, 8)), action_penalty=0.7, **no_temperature)
    batch, start = batch_of(agent, 0), copy.deepcopy(agent)
    metrics = agent.update(batch)
    seen = batch.observation[None, :, :5]
    action = start.actors(seen)
    value = agent.critics.value(agent.critics(torch.cat([seen, action], -1)))
    expected = -value.mean() + 0.7 * action.square().mean()
    assert metrics["actor_loss"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_normalizer_of_her_by_hand():
    normalizer = RunningNormalizer(1, NORMALIZER)
    torch.testing.assert_close(normalizer(torch.tensor([[3.0], [9.0]])), torch.tensor([[3.0], [5.0]]))
    normalizer.update(torch.tensor([[2.0], [4.0], [300.0]]))  # and the row of zeros; 300 counts as 200
    rows = torch.tensor([0.0, 2.0, 4.0, 200.0], dtype=torch.float64)
    expected = (torch.tensor([[7.0], [250.0]], dtype=torch.float64).clamp(max=200.0) - rows.mean()) / rows.std(
        correction=0
    )
    torch.testing.assert_close(normalizer(torch.tensor([[7.0], [250.0]])), expected.float())
    constant = RunningNormalizer(1, NORMALIZER)
    constant.update(torch.zeros(5, 1))
    torch.testing.assert_close(constant(torch.tensor([[0.02]])), torch.tensor([[2.0]]))  # floor 0.01


def test_statistics_are_of_relabelled_observations_alone():
    agent = make(normalize_observations=True, normalizer=NORMALIZER)
    rows = torch.randn(2, 7)
    no = torch.zeros(2, dtype=torch.bool)
    agent.observe(Transition(rows, torch.zeros(2, 2), torch.zeros(2), no, no, rows, no))
    assert agent.normalizer.count.item() == 1
    agent.observe_relabelled(rows)
    assert agent.normalizer.count.item() == 3
    torch.testing.assert_close(agent.normalizer.mean[0, 0], rows[:, :5].double().sum(0) / 3)
    plain = make(normalize_observations=True)
    plain.observe_relabelled(rows)
    assert plain.normalizer.count.item() == 0


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"value": "q"}, r"agent\.value=q"),
        ({"actor_ascends": "second"}, r"agent\.actor_ascends=second"),
        ({"actor": ActorConfig()}, "SHER's policy is stochastic; use squashed_gaussian"),
        ({"critic": CriticConfig(block="batch_norm"), "clip_targets": False}, r"agent\.value=state goes with"),
        ({"target_noise": 0.3}, r"agent\.target_noise=0\.3: stochastic actors draw their target actions; use 0"),
        (
            {"target_entropy": -2.0, "temperature_learning_rate": 0.0},
            r"agent\.target_entropy=-2\.0: agent\.temperature_learning_rate=0 keeps",
        ),
        ({"discount": 1.0}, r"agent\.clip_targets=true needs agent\.discount below 1"),
        ({"target_every": -1}, r"agent\.target_every=-1"),
        ({"reward_scale": 10.0}, r"agent\.clip_targets=true is for rewards as they are"),
        ({"reward_scaling": "returns"}, r"agent\.clip_targets=true is for rewards as they are"),
    ],
)
def test_wrong_values_are_refused_in_one_line(keys, message):
    with pytest.raises(UserError, match=message) as refused:
        SHERConfig(**{"actor": GAUSSIAN, "clip_targets": True} | keys)
    assert "\n" not in str(refused.value)


def test_targets_stay_in_the_range_of_returns():
    assert ActorCriticConfig(clip_targets=True, discount=0.98).target_range == pytest.approx((-50.0, 0.0))
    assert ActorCriticConfig().target_range is None


@pytest.mark.parametrize("value", ["state", "action"])
def test_an_update_can_be_recorded(value):
    keys = {"value": value, "policy_delay": 2, "temperature_learning_rate": 1e-3}
    eager, graphed = (make(**keys) for _ in range(2))
    update, variants = GraphedUpdate(graphed, record=stand_in), set()
    for seed in range(5):
        wanted, got = eager.update(batch_of(eager, seed)), update(batch_of(graphed, seed))
        assert all(torch.equal(wanted[name], got[name]) for name in wanted)
    assert all(torch.equal(tensor, graphed.state_dict()[name]) for name, tensor in eager.state_dict().items())
    for seed in range(2):
        batch, variant = batch_of(eager, seed), eager.prepare_update()
        variants.add(variant)
        with NoHostSync():
            eager.learn(batch, variant)
    assert len(variants) == 2
