"""Critics: the categorical projection and both losses by hand, layouts against plain torch."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from rlsuite.errors import UserError
from rlsuite.nn.critics import BranchedCritic, CriticConfig, Critics, project_distribution
from rlsuite.nn.ensemble import EnsembleBatchNorm, EnsembleLayerNorm
from rlsuite.nn.hyperspherical import HypersphericalMLP, SphereLinear

ATOMS = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0])


def projected(probabilities, reward, discount):
    rows = torch.tensor([probabilities])
    return project_distribution(rows, torch.tensor([reward]), torch.tensor([discount]), ATOMS)[0].tolist()


@pytest.mark.parametrize(
    ("probabilities", "reward", "discount", "expected"),
    [
        ([0.1, 0.2, 0.3, 0.2, 0.2], 0.0, 1.0, [0.1, 0.2, 0.3, 0.2, 0.2]),  # nothing moves
        ([1.0, 0.0, 0.0, 0.0, 0.0], 2.0, 1.0, [0.0, 0.0, 1.0, 0.0, 0.0]),  # onto an atom
        ([1.0, 0.0, 0.0, 0.0, 0.0], 1.25, 1.0, [0.0, 0.75, 0.25, 0.0, 0.0]),  # between two
        ([0.0, 0.0, 0.5, 0.0, 0.5], 0.0, 0.5, [0.0, 0.5, 0.5, 0.0, 0.0]),  # 2 -> 1, 4 -> 2
        ([0.0, 0.0, 0.0, 0.5, 0.5], 3.0, 1.0, [0.0, 0.0, 0.0, 0.0, 1.0]),  # 6 and 7 are clipped to 4
        ([0.5, 0.5, 0.0, 0.0, 0.0], -3.0, 1.0, [1.0, 0.0, 0.0, 0.0, 0.0]),  # -3 and -2 are clipped to 0
        ([0.2, 0.2, 0.2, 0.2, 0.2], 3.5, 0.0, [0.0, 0.0, 0.0, 0.5, 0.5]),  # terminal: all at the reward
        ([0.2, 0.2, 0.2, 0.2, 0.2], 4.0, 0.0, [0.0, 0.0, 0.0, 0.0, 1.0]),  # terminal on the last atom
    ],
)
def test_projection_by_hand(probabilities, reward, discount, expected):
    assert projected(probabilities, reward, discount) == pytest.approx(expected, abs=1e-6)


@given(
    reward=st.floats(-50, 50, width=32),
    discount=st.floats(0, 1, width=32),
    seed=st.integers(0, 1000),
    low=st.floats(-20, 0, width=32),
)
def test_projection_conserves_mass_and_the_mean_inside_the_support(reward, discount, seed, low):
    atoms = torch.linspace(low, low + 30.0, 31)
    logits = torch.randn(2, 31, generator=torch.Generator().manual_seed(seed)) * 3
    probabilities = torch.softmax(logits, dim=-1)
    target = project_distribution(probabilities, torch.full((2,), reward), torch.full((2,), discount), atoms)
    assert target.min() >= -1e-5
    torch.testing.assert_close(target.sum(-1), torch.ones(2), rtol=1e-5, atol=1e-5)
    clipped_mean = (probabilities * (reward + discount * atoms).clamp(atoms[0], atoms[-1])).sum(-1)
    torch.testing.assert_close(target @ atoms, clipped_mean, rtol=1e-3, atol=1e-3)


def test_squared_error_by_hand():
    critics = Critics(1, 1, 1, CriticConfig(hidden_sizes=(2,)))
    output, next_output = torch.tensor([[[1.0], [2.0]]]), torch.tensor([[[10.0], [100.0]]])
    loss = critics.loss(output, torch.tensor([[3.0, 4.0]]), torch.tensor([[0.5, 0.0]]), next_output)
    assert loss.tolist() == [[(1 - 8) ** 2, (2 - 4) ** 2]]
    assert critics.value(output).tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize("bound", range(1, 100))
def test_projection_onto_the_outer_atoms_has_no_share_below_zero(bound):
    atoms = torch.linspace(-bound, bound, 101)
    probabilities = torch.full((2, 101), 1 / 101)
    target = project_distribution(probabilities, torch.tensor([3.0, -3.0]) * bound, torch.zeros(2), atoms)
    assert target.min() >= 0.0
    assert target[[0, 1], [-1, 0]].tolist() == pytest.approx([1.0, 1.0], abs=1e-4)
    torch.testing.assert_close(target.sum(dim=-1), torch.ones(2))


def test_projection_of_a_target_at_the_top_gives_a_finite_loss():
    critics = Critics(1, 1, 1, CriticConfig(loss="categorical", num_atoms=101, value_min=-5.0, value_max=5.0))
    uniform = torch.zeros(1, 1, 101)
    loss = critics.loss(uniform, torch.tensor([[5.0]]), torch.zeros(1, 1), uniform)
    assert loss.item() == pytest.approx(math.log(101), abs=1e-4)  # 4.615: all the mass on one of 101


def test_categorical_value_and_cross_entropy_by_hand():
    critics = Critics(1, 1, 1, CriticConfig(loss="categorical", num_atoms=3, value_min=0.0, value_max=2.0))
    logits = torch.log(torch.tensor([[[0.5, 0.25, 0.25]]]))
    assert critics.value(logits).item() == pytest.approx(0.75)
    next_logits = torch.log(torch.tensor([[[0.5, 0.5, 1e-30]]]))
    # 0.5 + z for z = 0, 1 with half the mass each: a quarter at 0, half at 1, a quarter at 2.
    loss = critics.loss(logits, torch.tensor([[0.5]]), torch.tensor([[1.0]]), next_logits)
    cross_entropy = -(0.25 * math.log(0.5) + 0.5 * math.log(0.25) + 0.25 * math.log(0.25))
    entropy = -(2 * 0.25 * math.log(0.25) + 0.5 * math.log(0.5))
    assert loss.item() == pytest.approx(cross_entropy - entropy, rel=1e-5)


def test_a_perfect_categorical_prediction_is_no_error_however_wide_it_is():
    critics = Critics(1, 1, 1, CriticConfig(loss="categorical", num_atoms=21))
    for width in (0.1, 1.0, 3.0):
        logits = -0.5 * (critics.atoms / width).square().view(1, 1, -1)
        loss = critics.loss(logits, torch.zeros(1, 1), torch.ones(1, 1), logits)
        assert loss.item() == pytest.approx(0.0, abs=1e-5)


def test_branched_critic_equals_the_diagram_in_plain_torch(generator):
    config = CriticConfig(hidden_sizes=(8, 5), activation="selu", layout="branches", initialization="normal")
    critics = Critics(2, 4, 3, config, generator=generator)
    network = critics.network
    assert isinstance(network, BranchedCritic)
    observation, action = torch.randn(2, 6, 4), torch.randn(2, 6, 3)
    output = critics(torch.cat([observation, action], dim=-1))
    for member in range(2):

        def linear(layer, rows, member=member):
            return rows @ layer.weight[member] + layer.bias[member]

        hidden = observation[member]
        for layer in network.observation_layers:
            hidden = nn.functional.selu(linear(layer, hidden))
        branch = nn.functional.selu(linear(network.action_layer, action[member]))
        joined = nn.functional.selu(linear(network.joint_layer, torch.cat([hidden, branch], dim=1)))
        torch.testing.assert_close(output[member], linear(network.output_layer, joined))
    low = critics(torch.cat([observation, action], dim=-1).bfloat16())
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, output, rtol=0.05, atol=1e-3)
    shapes = [tuple(layer.weight.shape[1:]) for layer in network.observation_layers]
    assert shapes == [(4, 8), (8, 5)]
    assert network.action_layer.weight.shape == (2, 3, 5)
    assert network.joint_layer.weight.shape == (2, 10, 5)


@pytest.mark.parametrize(
    "keys",
    [
        {"hidden_sizes": (5, 4)},
        {"hidden_sizes": (5, 4), "layout": "branches"},
        {"hidden_sizes": (5, 5), "block": "hyperspherical"},
    ],
    ids=str,
)
def test_members_of_each_network(keys, generator):
    critics = Critics(4, 3, 2, CriticConfig(**keys), generator=generator)
    inputs = torch.randn(4, 6, 5)
    torch.testing.assert_close(critics(inputs[1:3], slice(1, 3)), critics(inputs)[1:3])


def test_blocks_have_their_normalization():
    def kinds(block):
        network = Critics(1, 2, 1, CriticConfig(hidden_sizes=(3, 3), block=block)).network
        return [type(norm) for norm in network.normalizations], type(network.input_normalization)

    assert kinds("layer_norm")[0] == [EnsembleLayerNorm] * 2
    assert kinds("batch_norm") == ([EnsembleBatchNorm] * 2, EnsembleBatchNorm)
    assert EnsembleLayerNorm not in kinds("plain")[0]
    assert EnsembleBatchNorm not in kinds("plain")[0]


def test_only_the_batch_norm_block_projects_its_weights(generator):
    for block, projects in (("plain", False), ("layer_norm", False), ("batch_norm", True)):
        critics = Critics(1, 2, 1, CriticConfig(hidden_sizes=(3,), block=block), generator=generator)
        before = critics.network.layers[0].weight.detach().clone()
        critics.after_step()
        norms = critics.network.layers[0].weight.norm(dim=1)
        assert torch.allclose(norms, torch.ones_like(norms)) == projects
        assert torch.equal(before, critics.network.layers[0].weight) != projects


@pytest.mark.parametrize(
    ("hidden_sizes", "width", "num_blocks"), [((6,), 6, 1), ((6, 6), 6, 1), ((5, 5, 5), 5, 2), ((4,) * 4, 4, 3)]
)
def test_hidden_sizes_of_the_hyperspherical_block(hidden_sizes, width, num_blocks):
    network = Critics(2, 3, 1, CriticConfig(hidden_sizes=hidden_sizes, block="hyperspherical")).network
    assert isinstance(network, HypersphericalMLP)
    assert len(network.blocks) == num_blocks
    assert network.head_layer.weight.shape == (2, width, width)


@pytest.mark.parametrize("loss", ["squared_error", "categorical"])
def test_a_step_of_hyperspherical_critics_ends_on_the_sphere(loss, generator):
    config = CriticConfig(hidden_sizes=(8, 8), block="hyperspherical", loss=loss, num_atoms=5)
    critics = Critics(2, 3, 2, config, generator=generator)
    optimizer = torch.optim.Adam(critics.parameters(), lr=0.1)
    output = critics(torch.randn(2, 6, 5, generator=generator))
    reward, discount = torch.randn(2, 6, generator=generator), torch.full((2, 6), 0.9)
    critics.loss(output, reward, discount, output.detach()).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in critics.parameters())
    assert critics.value(output).shape == (2, 6)
    optimizer.step()

    def furthest():
        layers = [layer for layer in critics.modules() if isinstance(layer, SphereLinear)]
        return max((layer.weight.norm(dim=1) - 1.0).abs().max().item() for layer in layers)

    assert furthest() > 0.01
    critics.after_step()
    assert furthest() < 1e-6
    assert not critics.joint_batches  # it keeps its target critic


@pytest.mark.parametrize(
    "wrong",
    [
        {"block": "group_norm"},
        {"layout": "stacked"},
        {"loss": "huber"},
        {"loss": "categorical", "value_min": 1.0, "value_max": 1.0},
        {"layout": "branches", "block": "layer_norm"},  # branches have no place for a normalization
        {"layout": "branches", "block": "batch_norm"},
        {"layout": "branches", "block": "hyperspherical"},
        {"hidden_sizes": (256, 128), "block": "hyperspherical"},  # one sphere from end to end
    ],
    ids=str,
)
def test_what_cannot_be_built_is_refused(wrong):
    with pytest.raises(UserError, match=r"^agent\.critic\."):
        CriticConfig(**wrong)


def test_large_errors_count_in_proportion_to_their_size():
    """Twice Huber's loss, as torch has it: small errors have the square that they had without."""
    critics = Critics(1, 2, 1, CriticConfig(hidden_sizes=(4,), huber_delta=2.0))
    output = torch.tensor([[[0.5], [-1.9], [3.0], [-10.0]]])
    zero = torch.zeros(1, 4)
    found = critics.loss(output, zero, zero, torch.zeros(1, 4, 1))
    torch.testing.assert_close(found, torch.tensor([[0.25, 3.61, 8.0, 36.0]]))
    expected = 2.0 * torch.nn.functional.huber_loss(output[..., 0], zero, delta=2.0, reduction="none")
    torch.testing.assert_close(found, expected)
    with pytest.raises(UserError, match="it is for agent"):
        CriticConfig(loss="categorical", huber_delta=1.0)
