"""Stacked networks against K plain torch networks with the same weights; each block by hand."""

import math

import pytest
import torch
from torch import nn

from rlsuite.nn.actors import ActorConfig, Actors
from rlsuite.nn.ensemble import (
    ACTIVATIONS,
    EnsembleBatchNorm,
    EnsembleLayerNorm,
    EnsembleLinear,
    EnsembleMLP,
    make_normalization,
)

MODULES = {
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
}


def plain_copy(stacked, member, activation, layer_norm=False):
    """Return one member as a torch.nn.Sequential with the same weights, and its parameters in stacked order."""
    parts = []
    for place, layer in enumerate(stacked.layers):
        linear = nn.Linear(layer.weight.shape[1], layer.weight.shape[2])
        linear.weight.data = layer.weight.data[member].T.clone()
        linear.bias.data = layer.bias.data[member, 0].clone()
        parts.append(linear)
        if place < len(stacked.layers) - 1:
            if layer_norm:
                norm = nn.LayerNorm(layer.weight.shape[2])
                norm.weight.data = stacked.normalizations[place].scale.data[member, 0].clone()
                norm.bias.data = stacked.normalizations[place].shift.data[member, 0].clone()
                parts.append(norm)
            parts.append(MODULES[activation]())
    return nn.Sequential(*parts)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("normalization", ["none", "layer"])
def test_equals_k_plain_networks_forward_and_backward(activation, normalization, generator):
    stacked = EnsembleMLP(3, 5, (7, 6), 2, activation=activation, normalization=normalization, generator=generator)
    for parameter in stacked.normalizations.parameters():  # away from 1 and 0, so that they count
        parameter.data = torch.randn(parameter.shape, generator=generator)
    inputs = torch.randn(3, 4, 5, generator=generator)
    target = torch.randn(3, 4, 2, generator=generator)
    output = stacked(inputs)
    (output - target).square().sum().backward()
    for member in range(3):
        plain = plain_copy(stacked, member, activation, normalization == "layer")
        plain_output = plain(inputs[member])
        torch.testing.assert_close(output[member], plain_output, rtol=1e-5, atol=1e-5)
        (plain_output - target[member]).square().sum().backward()
        for layer, linear in zip(stacked.layers, [m for m in plain if isinstance(m, nn.Linear)], strict=True):
            torch.testing.assert_close(layer.weight.grad[member], linear.weight.grad.T, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(layer.bias.grad[member, 0], linear.bias.grad, rtol=1e-4, atol=1e-4)
        for norm, plain_norm in zip(
            stacked.normalizations, [m for m in plain if isinstance(m, nn.LayerNorm)], strict=False
        ):
            torch.testing.assert_close(norm.scale.grad[member, 0], plain_norm.weight.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("normalization", ["none", "layer", "batch"])
@pytest.mark.parametrize("members", [slice(0, 2), slice(1, 3), slice(0, None, 2), slice(2, 3)])
def test_members_slice_runs_only_those(normalization, members, generator):
    network = EnsembleMLP(4, 3, (5, 5), 2, normalization=normalization, generator=generator).eval()
    inputs = torch.randn(4, 6, 3, generator=generator)
    chosen = network(inputs[members], members)
    torch.testing.assert_close(chosen, network(inputs)[members], rtol=1e-6, atol=1e-6)


def test_members_slice_moves_only_their_batch_statistics(generator):
    norm = EnsembleBatchNorm(4, 2)
    norm(torch.randn(2, 8, 2, generator=generator) + 5.0, slice(0, None, 2))
    assert (norm.mean[[0, 2]] != 0).all()
    assert (norm.mean[[1, 3]] == 0).all()
    assert (norm.variance[[1, 3]] == 1).all()


def test_first_members_do_not_depend_on_how_many_follow():
    few = EnsembleLinear(1, 4, 3, generator=torch.Generator().manual_seed(5))
    many = EnsembleLinear(6, 4, 3, generator=torch.Generator().manual_seed(5))
    assert torch.equal(few.weight[0], many.weight[0])
    assert torch.equal(few.bias[0], many.bias[0])
    assert not torch.equal(many.weight[0], many.weight[1])


def test_initializations(generator):
    uniform = EnsembleLinear(3, 100, 200, generator=generator)
    assert uniform.weight.abs().max() <= 0.1
    assert uniform.bias.abs().max() <= 0.1
    assert math.isclose(uniform.weight.std().item(), 0.1 / math.sqrt(3), rel_tol=0.02)
    normal = EnsembleLinear(3, 100, 200, initialization="normal", generator=generator)
    assert math.isclose(normal.weight.std().item(), 0.05, rel_tol=0.02)
    assert not normal.bias.any()
    orthogonal = EnsembleLinear(3, 6, 4, initialization="orthogonal", generator=generator)
    gram = orthogonal.weight.transpose(1, 2) @ orthogonal.weight
    torch.testing.assert_close(gram, torch.eye(4).expand(3, 4, 4), rtol=1e-5, atol=1e-5)
    assert not orthogonal.bias.any()


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="initialization='glorot'"):
        EnsembleLinear(1, 2, 2, initialization="glorot")
    with pytest.raises(ValueError, match="normalization='group'"):
        make_normalization("group", 1, 2)


def test_layer_norm_by_hand():
    norm = EnsembleLayerNorm(2, 2)
    norm.scale.data[1] = 3.0
    norm.shift.data[1] = 1.0
    output = norm(torch.tensor([[[1.0, 3.0]], [[1.0, 3.0]]]))  # mean 2, deviation 1
    torch.testing.assert_close(output, torch.tensor([[[-1.0, 1.0]], [[-2.0, 4.0]]]), rtol=1e-4, atol=1e-4)


def test_batch_norm_by_hand():
    norm = EnsembleBatchNorm(1, 1)
    norm.scale.data.fill_(2.0)
    norm.shift.data.fill_(10.0)
    batch = torch.tensor([[[1.0], [2.0], [6.0]]])  # mean 3, variance (4 + 1 + 9) / 3
    expected = 10.0 + 2.0 * (batch - 3.0) / math.sqrt(14 / 3 + 1e-5)
    torch.testing.assert_close(norm(batch), expected)
    # The running statistics have moved by 0.01 of the way from mean 0 and variance 1 to mean 3 and 14 / 2, unbiased.
    assert norm.mean.item() == pytest.approx(0.03)
    assert norm.variance.item() == pytest.approx(0.99 + 0.01 * 14 / 2)


@pytest.mark.parametrize("members", [None, slice(0, 1), slice(0, None, 2), slice(1, 3)])
def test_batch_norm_equals_the_written_out_one_forward_and_backward(members, generator):
    norm = EnsembleBatchNorm(3, 5)
    for parameter in norm.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator))
    count = len(range(3)[members or slice(None)])
    inputs = (torch.randn(count, 7, 5, generator=generator) * 3.0 + 1.0).requires_grad_()
    weights = torch.randn(count, 7, 5, generator=generator)
    scale, shift = (value[members or slice(None)] for value in (norm.scale, norm.shift))
    variance, mean = torch.var_mean(inputs, dim=1, correction=0, keepdim=True)
    expected = (inputs - mean) / (variance + 1e-5).sqrt() * scale + shift
    output = norm(inputs, members)
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5)
    of = (inputs, norm.scale, norm.shift)
    ours, written = (torch.autograd.grad((result * weights).sum(), of) for result in (output, expected))
    for one, other in zip(ours, written, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    running_mean, running_variance = torch.zeros(3, 1, 5), torch.ones(3, 1, 5)
    running_mean[members or slice(None)] += 0.01 * mean.detach()
    running_variance[members or slice(None)] += 0.01 * (variance.detach() * 7 / 6 - 1.0)
    torch.testing.assert_close(norm.mean, running_mean)
    torch.testing.assert_close(norm.variance, running_variance)


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_of_bfloat16_is_that_of_float32_rounded(training, generator):
    norm, twin = EnsembleBatchNorm(2, 5).train(training), EnsembleBatchNorm(2, 5).train(training)
    for parameter in (norm.scale, norm.mean):
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator))
    twin.load_state_dict(norm.state_dict())
    inputs = (torch.randn(2, 64, 5, generator=generator) * 3.0 + 1.0).bfloat16().requires_grad_()
    output, wide = norm(inputs, dtype=torch.bfloat16), twin(inputs)
    assert output.dtype == torch.bfloat16
    assert wide.dtype == torch.float32
    torch.testing.assert_close(output.float(), wide, rtol=2**-7, atol=1e-3)  # the last of its digits
    for name, value in norm.state_dict().items():
        torch.testing.assert_close(value, twin.state_dict()[name], rtol=1e-6, atol=1e-6)
    weights = torch.randn(2, 64, 5, generator=generator).bfloat16()
    ours = torch.autograd.grad((output * weights).float().sum(), (inputs, norm.scale, norm.shift))
    theirs = torch.autograd.grad((wide * weights).sum(), (inputs, twin.scale, twin.shift))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.float(), other.float(), rtol=2e-2, atol=2e-2)


def test_batch_norm_passes_gradients_after_a_second_batch(generator):
    norm = EnsembleBatchNorm(2, 3)
    batches = torch.randn(2, 2, 6, 3, generator=generator, requires_grad=True)
    first, second = norm(batches[0]), norm(batches[1])
    (first.square().sum() + second.pow(3).sum()).backward()
    torch.testing.assert_close(batches.grad.mean(dim=2), torch.zeros(2, 2, 3), rtol=0.0, atol=1e-6)


def test_batch_norm_in_evaluation_mode_uses_and_keeps_running_statistics():
    norm = EnsembleBatchNorm(1, 1).eval()
    norm.mean.fill_(4.0)
    norm.variance.fill_(9.0)
    output = norm(torch.tensor([[[10.0], [1.0]]]))
    torch.testing.assert_close(output, torch.tensor([[[2.0], [-1.0]]]), rtol=1e-4, atol=1e-4)
    assert norm.mean.item() == 4.0
    assert norm.variance.item() == 9.0


def test_batch_normalized_network_equals_torch_batch_norm(generator):
    stacked = EnsembleMLP(2, 3, (4,), 1, normalization="batch", generator=generator)
    inputs = torch.randn(2, 16, 3, generator=generator) * 3.0 + 1.0
    output = stacked(inputs)
    for member in range(2):
        first, last = (
            plain_copy(stacked, member, "relu")[0],
            plain_copy(stacked, member, "relu")[2],
        )
        plain = nn.Sequential(nn.BatchNorm1d(3), first, nn.BatchNorm1d(4), nn.ReLU(), last)
        torch.testing.assert_close(output[member], plain(inputs[member]), rtol=1e-4, atol=1e-4)


def test_project_weights_leaves_norm_one_and_the_direction(generator):
    network = EnsembleMLP(2, 3, (4, 5), 1, normalization="batch", generator=generator)
    before = [layer.weight.detach().clone() for layer in network.layers]
    network.project_weights()
    for layer, old in zip(network.layers[:-1], before[:-1], strict=True):
        norms = layer.weight.norm(dim=1)  # over the incoming weights of each unit
        torch.testing.assert_close(norms, torch.ones_like(norms))
        torch.testing.assert_close(layer.weight * old.norm(dim=1, keepdim=True), old)
    assert torch.equal(network.layers[-1].weight, before[-1])


def test_project_everything_takes_the_last_layer_and_scale_and_shift_along(generator):
    network = EnsembleMLP(2, 3, (4, 5), 2, normalization="batch", generator=generator)
    norm = network.normalizations[0]
    norm.scale.data[1] = torch.tensor([3.0, 0.0, 0.0, 0.0])
    norm.shift.data[1] = torch.tensor([0.0, 4.0, 0.0, 0.0])  # together of norm 5; wanted is sqrt(4) = 2
    bias = network.layers[-1].bias.clone()
    network.project_weights(everything=True)
    for layer in network.layers:
        norms = layer.weight.norm(dim=1)
        torch.testing.assert_close(norms, torch.ones_like(norms))
    torch.testing.assert_close(norm.scale[:, 0], torch.tensor([[1.0, 1.0, 1.0, 1.0], [1.2, 0.0, 0.0, 0.0]]))
    torch.testing.assert_close(norm.shift[:, 0], torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.0, 1.6, 0.0, 0.0]]))
    assert torch.equal(network.layers[-1].bias, bias)


def test_actors_are_tanh_of_their_network(generator):
    actors = Actors(2, 3, 2, ActorConfig(hidden_sizes=(4,), layer_norm=True), generator=generator)
    observation = torch.randn(2, 5, 3, generator=generator)
    assert torch.equal(actors(observation), torch.tanh(actors.network(observation)))
    torch.testing.assert_close(actors(observation[1:], slice(1, 2)), actors(observation)[1:])
    assert isinstance(actors.network.normalizations[0], EnsembleLayerNorm)
