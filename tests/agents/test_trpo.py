"""TRPO: conjugate gradients, divergences and curvature by other means, the trust region, and learning a toy."""

import copy

import pytest
import torch
from gymnasium.spaces import Box, MultiBinary, MultiDiscrete
from test_ppo import HIGH, LOW, rollout_of
from torch.distributions import Bernoulli as TorchBernoulli
from torch.distributions import Categorical as TorchCategorical
from torch.distributions import Normal, kl_divergence
from toy_environments import PointEnv

from agents.trpo import TRPO, TRPOConfig, assign, conjugate_gradients, flat
from rlsuite.errors import UserError
from rlsuite.nn.action_heads import Bernoulli, Gaussian, choice_law
from rlsuite.running.rollout import RolloutWorker
from rlsuite.running.rollout_buffer import RolloutBuffer
from rlsuite.scoring import evaluate
from rlsuite.vector_env import EnvironmentFacts


def make(**keys):
    config = {"hidden_sizes": (6,), "minibatch_size": 5, "passes": 1, "damping": 0.0} | keys
    return TRPO(EnvironmentFacts.of_vectors(3, LOW, HIGH, num_envs=2), TRPOConfig(**config), seed=0)


def test_conjugate_gradients_solve_small_systems_exactly(generator):
    root = torch.randn(5, 5, generator=generator, dtype=torch.float64)
    matrix, right = root @ root.T + torch.eye(5), torch.randn(5, generator=generator, dtype=torch.float64)
    products = []

    def product(vector):
        products.append(vector)
        return matrix @ vector

    torch.testing.assert_close(
        conjugate_gradients(product, right, 20), torch.linalg.solve(matrix, right), rtol=1e-4, atol=1e-5
    )
    assert len(products) == 20
    assert torch.equal(conjugate_gradients(product, torch.zeros(5, dtype=torch.float64), 3), torch.zeros(5))
    one = conjugate_gradients(product, right, 1)  # the steepest descent's step
    torch.testing.assert_close(one, right * (right @ right) / (right @ matrix @ right))


def test_divergences_are_torchs(generator):
    means, spread = torch.randn(2, 4, 3, generator=generator), torch.randn(2, 3, generator=generator)
    ours = Gaussian(means[1], spread[1]).divergence_from(Gaussian(means[0], spread[0]))
    old, new = (Normal(means[i], spread[i].exp()) for i in (0, 1))
    torch.testing.assert_close(ours, kl_divergence(old, new).sum(-1))

    logits = torch.randn(2, 4, 3, generator=generator)
    ours = Bernoulli(logits[1]).divergence_from(Bernoulli(logits[0]))
    old, new = (TorchBernoulli(logits=logits[i]) for i in (0, 1))
    torch.testing.assert_close(ours, kl_divergence(old, new).sum(-1))

    space, logits = MultiDiscrete([2, 3]), torch.randn(2, 4, 5, generator=generator)
    ours = choice_law(space, logits[1]).divergence_from(choice_law(space, logits[0]))
    parts = [
        kl_divergence(*(TorchCategorical(logits=logits[i][:, columns]) for i in (0, 1)))
        for columns in (slice(0, 2), slice(2, 5))
    ]
    torch.testing.assert_close(ours, parts[0] + parts[1])
    padded = logits[1].clone().requires_grad_()  # where there is no choice no gradient is NaN
    (gradient,) = torch.autograd.grad(
        choice_law(space, padded).divergence_from(choice_law(space, logits[0])).sum(), padded
    )
    assert torch.isfinite(gradient).all()


def test_the_step_is_the_natural_gradients():
    """Against the dense curvature of the mean divergence, by torch.autograd.functional.hessian in float64."""
    damping, allowed = 1e-2, 1e-4
    agent = make(gradient_steps=60, scale_rewards=False, max_divergence=allowed, damping=damping, last_layer_gain=1.0)
    batch = rollout_of(agent, steps=40)
    start = copy.deepcopy(agent)
    metrics = agent.update(batch)
    share = float(metrics["step_share"])
    assert share > 0.6
    taken = (flat(agent.actor_parameters) - flat(start.actor_parameters)).detach().double()

    start.double()
    names = [name for name, _ in start.named_parameters() if name.startswith("actor.") or name == "log_std"]
    weights = dict(start.named_parameters())
    shapes = [weights[name].shape for name in names]
    order = [name for parameter in start.actor_parameters for name in names if weights[name] is parameter]
    prepared, _ = start._prepare(
        batch._replace(
            **{name: getattr(batch, name).double() for name in ("observation", "action", "reward", "next_observation")}
        )
    )
    advantage = (prepared.advantage - prepared.advantage.mean()) / (prepared.advantage.std() + 1e-8)
    observation = prepared.observation.double()
    old = start.law(start.mean(observation)).kept()

    def law(vector):
        parts = vector.split([weights[name].numel() for name in order])
        values = {name: part.view_as(weights[name]) for name, part in zip(order, parts, strict=True)}
        actor = {name.removeprefix("actor."): value for name, value in values.items() if name != "log_std"}
        mean = torch.func.functional_call(start.actor, actor, (observation.unsqueeze(0),))[0]
        return Gaussian(mean, values["log_std"])

    here = flat([weights[name] for name in order]).detach()
    hessian = torch.autograd.functional.hessian(lambda vector: law(vector).divergence_from(old).mean(), here)
    here.requires_grad_()
    objective = ((law(here).log_prob(prepared.action) - prepared.log_prob.double()).exp() * advantage).mean()
    (gradient,) = torch.autograd.grad(objective, here)
    hessian = hessian + damping * torch.eye(len(here))
    direction = torch.linalg.solve(hessian, gradient)
    expected = share * direction * (2.0 * allowed / (direction @ hessian @ direction)).sqrt()
    cosine = torch.nn.functional.cosine_similarity(taken, expected, dim=0)
    assert len(shapes) == len(order)
    assert cosine > 0.999
    assert 0.99 < taken.norm() / expected.norm() < 1.01


@pytest.mark.parametrize("rows", [0, 7])
def test_the_trust_region_holds_and_the_objective_grows(rows):
    agent = make(damping=0.1, curvature_rows=rows, hidden_sizes=(8, 8))
    for seed in range(3):
        metrics = agent.update(rollout_of(agent, steps=30, seed=seed))
        assert 0.0 <= float(metrics["divergence"]) <= 0.01
        assert float(metrics["policy_gain"]) >= 0.0
        assert float(metrics["step_share"]) > 0.0


def test_a_step_that_does_not_help_is_not_taken(monkeypatch):
    agent = make()
    before = flat(agent.actor_parameters).clone()
    monkeypatch.setattr("agents.trpo.conjugate_gradients", lambda product, right, steps: -right)
    metrics = agent.update(rollout_of(agent, steps=20))
    assert torch.equal(flat(agent.actor_parameters), before)
    assert float(metrics["step_share"]) == float(metrics["divergence"]) == 0.0


def test_values_learn_their_targets():
    agent = make(passes=60, learning_rate=1e-2)
    batch = rollout_of(agent, steps=10)
    first = make(passes=1, learning_rate=1e-2).update(batch)["value_loss"]
    assert agent.update(batch)["value_loss"] < 0.5 * first


@pytest.mark.parametrize("space", [MultiBinary(3), MultiDiscrete([2, 3])])
def test_choices(space, generator):
    facts = EnvironmentFacts(
        observation_space=Box(-1.0, 1.0, (3,)), action_space=space, num_envs=2, max_episode_steps=None
    )
    agent = TRPO(facts, TRPOConfig(hidden_sizes=(6,), passes=1), seed=0)
    observation = torch.randn(8, 2, 3, generator=generator)
    action = torch.stack([agent.act(row, True) for row in observation])
    batch = rollout_of(make(), steps=8)._replace(observation=observation, action=action)
    metrics = agent.update(batch)
    assert float(metrics["policy_gain"]) > 0.0
    assert float(metrics["divergence"]) <= 0.01


def test_assign_is_the_inverse_of_flat(generator):
    tensors = [torch.zeros(2, 3), torch.zeros(4)]
    values = torch.randn(10, generator=generator)
    assign(tensors, values)
    assert torch.equal(flat(tensors), values)


def test_a_rollout_of_failures_alone_is_refused():
    agent = make()
    with pytest.raises(UserError, match="every simulation of the rollout failed"):
        agent.update(rollout_of(agent, failed=torch.ones(5, 2, dtype=torch.bool)))


@pytest.mark.parametrize(
    ("key", "value"), [("max_divergence", 0.0), ("line_shrink", 1.0), ("passes", 0), ("damping", -1.0)]
)
def test_wrong_numbers_are_refused(key, value):
    with pytest.raises(UserError, match=f"agent.{key}="):
        TRPOConfig(**{key: value})


def test_learns_the_point():
    """Standing still gives about -20, the best about -3."""
    env = PointEnv(8)
    config = TRPOConfig(rollout_length=60, hidden_sizes=(16,), discount=0.9, max_divergence=0.05)
    agent = TRPO(EnvironmentFacts.of_vectors(2, [-1.0], [2.0], num_envs=8), config, seed=0)
    worker = RolloutWorker(env, agent, seed=0)
    buffer = RolloutBuffer(60, worker.observation, torch.zeros(8, 1))
    for _ in range(30):
        while not buffer.full:
            buffer.add(worker.step())
        agent.update(buffer.take())
    result = evaluate(lambda observation: agent.act(observation, False), PointEnv(50), seed=5)
    assert result.returns.mean() > -5.0
