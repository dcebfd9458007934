import pytest
import torch
from torch import nn

from rlsuite.errors import UserError
from rlsuite.nn.action_range import ActionRange
from rlsuite.nn.ensemble import ACTIVATIONS, EnsembleMLP
from rlsuite.nn.normalizer import RunningNormalizer
from rlsuite.nn.plain import ACTIVATIONS as PLAIN_ACTIVATIONS
from rlsuite.nn.plain import PlainPolicy, mlp, plain_mlp

RANGE = ActionRange(torch.tensor([-2.0, 0.0]), torch.tensor([2.0, 1.0]))


@pytest.mark.parametrize("normalization", ["none", "layer", "weight"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_members_plain_layers_compute_what_it_computes(normalization, activation, generator):
    network = EnsembleMLP(3, 4, (8, 6), 2, activation=activation, normalization=normalization, generator=generator)
    for parameter in network.parameters():  # scales and shifts, too, away from 1 and 0
        parameter.data.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    inputs = torch.randn(5, 4, generator=generator)
    stacked = network(inputs.expand(3, -1, -1))
    for member in range(3):
        torch.testing.assert_close(
            plain_mlp(network, member, activation)(inputs), stacked[member], atol=1e-5, rtol=1e-5
        )


def test_every_activation_of_ensembles_has_its_plain_one():
    assert set(PLAIN_ACTIVATIONS) == set(ACTIVATIONS)


def test_batch_normalization_is_refused():
    with pytest.raises(ValueError, match="no plain layers"):
        plain_mlp(EnsembleMLP(1, 4, (8,), 2, normalization="batch"), 0, "relu")


def test_a_policy_is_normalizer_layers_and_range(generator):
    normalizer = RunningNormalizer(4)
    normalizer.update(3.0 + 2.0 * torch.randn(500, 4, generator=generator))
    layers = mlp(4, (8,), 2, activation="tanh", seed=0)
    policy = PlainPolicy(layers, RANGE, normalizer)
    observation = 3.0 + 2.0 * torch.randn(6, 4, generator=generator)
    normalizer.update(torch.zeros(500, 4))  # the policy has its own copy
    before = policy(observation)
    expected = torch.tanh(layers(policy.normalizer(observation))) * torch.tensor([2.0, 0.5]) + torch.tensor([0.0, 0.5])
    torch.testing.assert_close(before, expected)
    assert [type(part) for part in layers] == [nn.Linear, nn.Tanh, nn.Linear]
    bare = PlainPolicy(layers, RANGE, squash="none")
    assert (bare(1e6 * observation) <= torch.tensor([2.0, 1.0])).all()
    with pytest.raises(UserError, match="squash=softmax"):
        PlainPolicy(layers, RANGE, squash="softmax")


def test_layers_are_fixed_by_their_seed_alone():
    torch.manual_seed(1)
    one = mlp(3, (5, 4), 2, layer_norm=True, seed=7).state_dict()
    torch.manual_seed(2)
    other = mlp(3, (5, 4), 2, layer_norm=True, seed=7).state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert [type(part) for part in mlp(3, (5,), 2, layer_norm=True, seed=7)] == [
        nn.Linear,
        nn.LayerNorm,
        nn.ReLU,
        nn.Linear,
    ]
    with pytest.raises(UserError, match="hidden_sizes"):
        mlp(3, (0,), 2, seed=0)
    with pytest.raises(UserError, match="activation=relux"):
        mlp(3, (5,), 2, activation="relux", seed=0)
