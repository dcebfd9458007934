"""The ensemble of models: each member as if alone, splits that stay, early stopping, the three classic mistakes."""

import copy

import pytest
import torch
from torch.nn.utils.parametrizations import weight_norm

from agents.pombu.config import DynamicsConfig
from agents.pombu.dynamics import Dynamics
from rlsuite.errors import UserError
from rlsuite.nn.weight_norm import EnsembleWeightNormLinear

SMALL = {"num_members": 3, "hidden_sizes": (16, 16), "batch_size": 32, "learning_rate": 3e-3, "precision": "float32"}


def make(seed=0, angles=(), **keys):
    return Dynamics(2, 1, DynamicsConfig(**SMALL | keys), seed=seed, angles=angles)


def trajectories(steps=20, number=4, seed=0):
    """Return a pushed pendulum-like system's trajectories, (T, N, ...) each."""
    generator = torch.Generator().manual_seed(seed)
    state = torch.randn(number, 2, generator=generator)
    rows = []
    for _ in range(steps):
        action = torch.rand(number, 1, generator=generator) * 2 - 1
        angle, speed = state.unbind(1)
        following = torch.stack([angle + 0.1 * speed, speed + 0.1 * (action[:, 0] - angle.sin())], dim=1)
        rows.append((state, action, following))
        state = following
    return [torch.stack(column) for column in zip(*rows, strict=True)]


def train(dynamics, iteration=0, limit=100):
    dynamics.begin_training(iteration)
    losses = []
    while not dynamics.trained:
        losses.append(dynamics.advance())
        assert len(losses) <= limit
    return losses


def test_weight_normalized_layer_equals_torchs(generator):
    stacked = EnsembleWeightNormLinear(2, 3, 4, generator=generator)
    with torch.no_grad():
        stacked.scale.uniform_(0.5, 2.0, generator=generator)
        stacked.bias.normal_(generator=generator)
    inputs = torch.randn(2, 5, 3, generator=generator)
    for member in range(2):
        plain = torch.nn.Linear(3, 4)
        plain.weight.data, plain.bias.data = stacked.direction.data[member].T, stacked.bias.data[member, 0]
        plain = weight_norm(plain, dim=0)
        plain.parametrizations.weight.original0.data = stacked.scale.data[member].T
        torch.testing.assert_close(stacked(inputs)[member], plain(inputs[member]))
    assert abs(float(EnsembleWeightNormLinear(3, 100, 50, generator=generator).direction.detach().std()) - 0.05) < 0.002


def test_a_share_of_each_trajectory_is_held_out_for_each_member_apart():
    dynamics = make(held_out=0.25)
    dynamics.add(*trajectories())
    held = dynamics.held_out[:, :80].unflatten(1, (4, 20))
    assert (held.sum(dim=2) == 5).all()
    assert not torch.equal(held[0], held[1])
    dynamics.add(*trajectories(number=2, seed=1))
    assert dynamics.count == 120
    assert torch.equal(dynamics.held_out[:, :80].unflatten(1, (4, 20)), held)  # what was drawn stays


def test_splits_do_not_change_while_training():
    """One of the classic mistakes: indices drawn anew each pass make all members the same in the end."""
    dynamics = make(patience=5, max_passes=20)
    dynamics.add(*trajectories())
    before = dynamics.held_out.clone()
    train(dynamics)
    assert torch.equal(dynamics.held_out, before)
    prediction = dynamics.predictor()(torch.randn(50, 2) * 3.0, torch.randn(50, 1))
    assert (prediction.std(dim=0).mean() > 1e-4).all()


def test_data_of_earlier_iterations_stay():
    """Another: the buffer emptied with every iteration. Only beyond the capacity the oldest make room."""
    dynamics = make(capacity=100)
    dynamics.add(*trajectories(number=2))
    first = dynamics.observation[:40].clone()
    dynamics.add(*trajectories(number=2, seed=1))
    assert torch.equal(dynamics.observation[:40], first)
    second = dynamics.observation[40:80].clone()
    dynamics.add(*trajectories(number=2, seed=2))
    assert dynamics.count == 100
    assert torch.equal(dynamics.observation[20:60], second)
    assert (dynamics.held_out.sum(dim=1) > 0).all()


def test_only_whole_trajectories_make_room():
    dynamics = make(capacity=110)
    for seed in range(4):
        dynamics.add(*trajectories(number=2, seed=seed))
    assert dynamics.count == 100  # five of 20 steps each
    assert (dynamics.held_out[:, :100].unflatten(1, (5, 20)).sum(dim=2) == 4).all()


def test_directions_are_normal_and_not_truncated():
    """The third: a wrongly truncated normal. Some 4.6 % of a normal's draws lie beyond two deviations."""
    weight = EnsembleWeightNormLinear(2, 200, 200).direction
    assert 0.04 < float((weight.abs() > 0.1).float().mean()) < 0.05


def test_learns_the_system_and_keeps_the_best():
    dynamics = make(patience=200, max_passes=200)  # nobody is done before the others
    dynamics.add(*trajectories(number=20))
    losses = train(dynamics)
    observation, action, following = trajectories(number=20, seed=9)
    found = dynamics.predictor()(observation.flatten(0, 1), action.flatten(0, 1))
    error = (found - following.flatten(0, 1)).square().mean(dim=(1, 2)).sqrt()
    assert (error < 0.35 * (following - observation).std()).all()
    best = min(float(entry["model_validation_loss"]) for entry in losses)
    assert float(dynamics.best_loss.mean()) <= best + 1e-7
    with torch.no_grad():
        torch.testing.assert_close(
            dynamics._validate(dynamics._split()[1], 5), dynamics.best_loss, rtol=1e-5, atol=1e-8
        )


def test_a_member_ends_after_its_patience_and_stays_as_it_was_best():
    dynamics = make(patience=5, max_passes=1000)
    dynamics.add(*trajectories())
    dynamics.begin_training(1)
    dynamics.advance()
    dynamics.best_loss[0] = -1.0  # nothing will be better
    kept = [parameter[0].clone() for parameter in dynamics.best.parameters()]
    for _ in range(3):
        dynamics.advance()
        assert int(dynamics.passes_since_best[0]) == 5
    for parameter, before in zip(dynamics.best.parameters(), kept, strict=True):
        assert torch.equal(parameter[0], before)


def test_training_ends_after_its_patience_in_passes():
    """Validated every 5 passes, patience 25: one validation that is best, five that are not, 30 passes in all."""
    dynamics = make(validate_every=5, patience=25, max_passes=1000)
    dynamics.add(*trajectories())
    dynamics.begin_training(1)
    dynamics._pass = lambda rows: torch.zeros(())  # nothing changes, so nothing becomes better
    for call in range(1, 7):
        assert not dynamics.trained
        dynamics.advance()
        assert dynamics.passes == 5 * call
        assert dynamics.passes_since_best.tolist() == [5 * (call - 1)] * 3
    assert dynamics.trained


def test_no_pass_beyond_the_last_one():
    dynamics = make(validate_every=5, patience=25, max_passes=7)
    dynamics.add(*trajectories())
    dynamics.begin_training(1)
    dynamics.advance()
    assert (dynamics.passes, dynamics.trained) == (5, False)
    dynamics.advance()
    assert (dynamics.passes, dynamics.trained) == (7, True)


def test_members_train_on_what_is_not_held_out_and_validate_on_what_is():
    dynamics = make(validate_every=2, held_out=0.25)
    dynamics.add(*trajectories())
    dynamics.begin_training(1)
    seen = {True: [], False: []}
    losses = dynamics._losses

    def record(rows):
        seen[torch.is_grad_enabled()].append(rows)
        return losses(rows)

    dynamics._losses = record
    dynamics.advance()
    training, validation = torch.cat(seen[True], dim=1), torch.cat(seen[False], dim=1)
    held = dynamics.held_out[:, :80]
    assert not held.gather(1, training).any()
    assert held.gather(1, validation).all()
    for member in range(3):  # each pass shows every row once
        assert torch.equal(training[member, :60].sort().values, training[member, 60:].sort().values)
        assert len(training[member, :60].unique()) == 60
        assert len(validation[member].unique()) == 20
    assert not torch.equal(training[0, :60], training[0, 60:])  # in another order


def test_the_predictor_is_the_network_with_its_weights_as_they_are():
    dynamics = make()
    dynamics.add(*trajectories())
    train(dynamics, limit=100)
    observation, action = torch.randn(7, 2), torch.randn(7, 1)
    with torch.no_grad():
        change = dynamics._standardized(observation.expand(3, 7, 2), action.expand(3, 7, 1))
    expected = observation + dynamics.change_mean + change * dynamics.change_std
    predict = dynamics.predictor()
    torch.testing.assert_close(predict(observation, action), expected)
    with torch.no_grad():
        dynamics.network.layers[0].scale.mul_(2.0)
    torch.testing.assert_close(predict(observation, action), expected)  # made ready before
    assert not torch.allclose(dynamics.predictor()(observation, action), expected)


def test_streams_do_not_coincide():
    dynamics = make(seed=3)
    draws = [torch.rand(5, generator=stream.generator) for stream in (dynamics.stream, make(seed=3).stream)]
    assert torch.equal(*draws)
    assert dynamics.stream.generator.initial_seed() != dynamics.weights.generator.initial_seed()


def test_stacked_training_is_each_member_alone():
    """Gradient norms are each member's own: scaling one member's error leaves the others' steps as they were."""
    one, other = make(gradient_norm=1e-3), make(gradient_norm=1e-3)
    rows = trajectories()
    for dynamics in (one, other):
        dynamics.add(*rows)
        dynamics.begin_training(1)
    with torch.no_grad():
        other.network.layers[-1].bias[0] += 100.0
    chosen = torch.arange(32).expand(3, -1)
    for dynamics in (one, other):
        dynamics._step(dynamics._losses(chosen).sum())
    for first, second in zip(one.network.parameters(), other.network.parameters(), strict=True):
        torch.testing.assert_close(first[1:], second[1:], rtol=0, atol=0)


def test_networks_start_afresh_every_reset_every_iterations():
    dynamics = make(reset_every=2)
    dynamics.add(*trajectories())
    for iteration, fresh in ((0, True), (1, False), (2, True), (3, False)):
        before = [parameter.clone() for parameter in dynamics.network.parameters()]
        dynamics.begin_training(iteration)
        same = all(torch.equal(one, two) for one, two in zip(before, dynamics.network.parameters(), strict=True))
        assert same != fresh


@pytest.mark.parametrize("stop", [1, 3])
def test_training_resumes_to_the_same_bits(stop):
    from rlsuite.optim.state import load_optimizer_tensors, optimizer_tensors

    one = make(patience=10, max_passes=40)
    one.add(*trajectories())
    one.begin_training(0)
    for _ in range(stop):
        one.advance()
    two = make(seed=7, patience=10, max_passes=40)
    two.load_state_dict(copy.deepcopy(one.state_dict()))
    saved = {name: value.clone() for name, value in optimizer_tensors({"model": one.optimizer}).items()}
    load_optimizer_tensors({"model": two.optimizer}, saved)
    for dynamics in (one, two):
        while not dynamics.trained:
            dynamics.advance()
        dynamics.add(*trajectories(number=1, seed=5))
        dynamics.begin_training(10)
        dynamics.advance()
    for (name, first), second in zip(one.state_dict().items(), two.state_dict().values(), strict=True):
        assert torch.equal(first, second), name


PLAIN = {"activation": "silu", "normalization": "none", "weight_decay": 0.1}


@pytest.mark.parametrize("form", [{}, pytest.param(PLAIN, marks=pytest.mark.slow)])
def test_models_that_see_angles_know_turns_they_have_never_made(form):
    """A pendulum that has made a turn falls as it fell before."""
    errors = {}
    for see in (False, True):
        dynamics = make(see_angles=see, angles=(0,), **form)
        observation, action, following = trajectories(steps=40, number=20)
        dynamics.add(observation, action, following)
        train(dynamics, limit=400)
        turn = torch.tensor([2.0 * torch.pi, 0.0])
        found = dynamics.predictor()((observation + turn).flatten(0, 1), action.flatten(0, 1))
        errors[see] = float((found - (following + turn).flatten(0, 1)).square().mean())
    assert errors[True] < 0.1 * errors[False]


def test_angles_are_seen_as_sine_and_cosine_beside_themselves():
    observation, action = torch.tensor([[0.5, 2.0]]), torch.tensor([[3.0]])
    seen = make(see_angles=True, angles=(0,)).seen(observation, action)
    torch.testing.assert_close(seen, torch.tensor([[0.5, 2.0, 3.0, 0.4794255, 0.8775826]]))
    assert make(see_angles=False, angles=(0,)).seen(observation, action).shape == (1, 3)


def test_weights_decay_where_they_are_told_to():
    norms = []
    for decay in (0.0, 1.0):
        dynamics = make(normalization="none", weight_decay=decay, learning_rate=1e-2, max_passes=50, patience=1000)
        dynamics.add(*trajectories())
        train(dynamics)
        norms.append(float(dynamics.network.layers[1].weight.detach().norm()))
    assert norms[1] < 0.8 * norms[0]


def test_wrong_numbers_are_refused():
    with pytest.raises(UserError, match=r"agent\.dynamics\.held_out=1"):
        DynamicsConfig(held_out=1.0)
    with pytest.raises(UserError, match=r"agent\.dynamics\.num_members=0"):
        DynamicsConfig(num_members=0)
    with pytest.raises(UserError, match=r"agent\.dynamics\.weight_decay=-1"):
        DynamicsConfig(weight_decay=-1.0)
    with pytest.raises(UserError, match=r"agent\.dynamics\.activation=sine"):
        DynamicsConfig(activation="sine")
    with pytest.raises(UserError, match=r"agent\.dynamics\.normalization=layer"):
        DynamicsConfig(normalization="layer")
