"""Hyperspherical networks: norms, one case by hand, members against the same networks run alone, learning."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlsuite.nn.ensemble import INITIALIZATIONS
from rlsuite.nn.hyperspherical import HypersphericalMLP, Scaler, SphereLinear, normalize


def spheres(network):
    return [module for module in network.modules() if isinstance(module, SphereLinear)]


def assert_on_spheres(network):
    for layer in spheres(network):
        norms = layer.weight.norm(dim=1)
        torch.testing.assert_close(norms, torch.ones_like(norms))


def scramble(network, generator):
    """Move scalers, interpolation factors and biases away from their equal initial values."""
    for name, parameter in network.named_parameters():
        if "scaler" in name or "step" in name:
            parameter.data *= 0.5 + torch.rand(parameter.shape, generator=generator)
        if "bias" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator)


def alone(network, member, *sizes, **keys):
    """Return one member as a network of its own."""
    single = HypersphericalMLP(1, *sizes, **keys)
    single.load_state_dict({name: tensor[member : member + 1] for name, tensor in network.state_dict().items()})
    return single


def test_a_small_network_by_hand():
    network = HypersphericalMLP(1, 1, 2, 1, 1)
    block = network.blocks[0]
    eye = torch.eye(2)[None]
    network.input_layer.weight.data = eye.clone()
    columns = [[1, 0], [0, 1], [-1, 0], [0, -1], [0.6, 0.8], [-0.6, -0.8], [1, 0], [1, 0]]
    block.inner.weight.data = torch.tensor(columns, dtype=torch.float32).T[None].clone()
    outer = torch.zeros(8, 2)
    outer[1, 0] = outer[0, 1] = 1.0
    block.outer.weight.data = outer[None]
    block.step.weight.data /= 2.0  # from 1/2 to 1/4
    network.head_layer.weight.data = eye.clone()
    network.head_scaler.weight.data = torch.tensor([[[1.0, 2.0]]])
    network.output_layer.weight.data = torch.tensor([[[0.6], [0.8]]])
    network.output_bias.data.fill_(0.5)
    # [4, 3] / 5 = [0.8, 0.6]; W1 h = [0.8, 0.6, -0.8, -0.6, 0.96, ...] times sqrt(2 / 8) = 0.5; ReLU; W2 picks the
    # second and the first, [0.3, 0.4], of norm 1 [0.6, 0.8]; a quarter of it and three of h are [0.75, 0.65]; the
    # head doubles the second, weighs and adds: 0.6 * 0.75 + 0.8 * 1.3, over the norm, plus 0.5.
    inputs, norm = torch.tensor([[[4.0]]]), math.sqrt(0.75**2 + 0.65**2)
    assert network.features(inputs).flatten().tolist() == pytest.approx([0.75 / norm, 0.65 / norm])
    assert network(inputs).item() == pytest.approx(1.49 / norm + 0.5)


def test_initial_factors_are_the_papers():
    width, num_blocks = 32, 3
    network = HypersphericalMLP(2, 5, width, num_blocks, 4)
    assert len(network.blocks) == num_blocks

    def factors(scaler):
        return scaler(torch.float32).unique().tolist()

    assert factors(network.input_scaler) == pytest.approx([math.sqrt(2 / width)])
    assert factors(network.head_scaler) == pytest.approx([math.sqrt(2 / width)])
    for block in network.blocks:
        assert factors(block.scaler) == pytest.approx([math.sqrt(2 / (4 * width))])
        assert factors(block.step) == pytest.approx([1 / (num_blocks + 1)])
        assert block.step.weight.unique().tolist() == pytest.approx([1 / math.sqrt(width)])
        assert block.inner.weight.shape == (2, width, 4 * width)
        assert block.outer.weight.shape == (2, 4 * width, width)
    assert not network.output_bias.any()


def test_an_adam_step_moves_a_factor_by_the_rate_over_its_scale():
    scaler = Scaler(1, 3, initial=0.25, scale=0.1)
    optimizer = torch.optim.Adam(scaler.parameters(), lr=0.01)
    scaler(torch.float32).sum().backward()
    optimizer.step()
    assert scaler(torch.float32).flatten().tolist() == pytest.approx([0.25 - 0.01 * 0.25 / 0.1] * 3)


@pytest.mark.parametrize("initialization", INITIALIZATIONS)
def test_weights_lie_on_spheres_from_the_start(initialization, generator):
    network = HypersphericalMLP(3, 5, 8, 2, 4, initialization=initialization, generator=generator)
    assert len(spheres(network)) == 7  # the input's, two a block, two of the head
    assert_on_spheres(network)


def test_projection_keeps_directions_and_parameters(generator):
    network = HypersphericalMLP(2, 5, 8, 1, 4, generator=generator)
    parameters, before = list(network.parameters()), [layer.weight.detach().clone() for layer in spheres(network)]
    for layer in spheres(network):
        layer.weight.data *= 0.1 + 5 * torch.rand(layer.weight.shape[0], 1, layer.weight.shape[2], generator=generator)
    network.project_weights()
    assert_on_spheres(network)
    for layer, weight in zip(spheres(network), before, strict=True):
        torch.testing.assert_close(layer.weight.detach(), weight)
    assert all(old is new for old, new in zip(parameters, network.parameters(), strict=True))


@given(seed=st.integers(0, 1000), size=st.sampled_from([0.0, 1e-6, 1.0, 1e6]), num_blocks=st.integers(1, 3))
def test_features_have_norm_one_whatever_comes_in(seed, size, num_blocks):
    generator = torch.Generator().manual_seed(seed)
    network = HypersphericalMLP(2, 3, 6, num_blocks, 1, generator=generator)
    scramble(network, generator)
    features = network.features(size * torch.randn(2, 4, 3, generator=generator))
    torch.testing.assert_close(features.norm(dim=-1), torch.ones(2, 4))


def test_a_row_of_zeros_stays_zero_with_a_finite_gradient():
    rows = torch.zeros(2, 3, requires_grad=True)
    normalize(rows).sum().backward()
    assert not normalize(rows).any()
    assert torch.isfinite(rows.grad).all()


def test_inputs_of_one_direction_but_different_length_are_told_apart(generator):
    network = HypersphericalMLP(1, 3, 16, 1, 1, generator=generator)
    inputs = torch.randn(1, 1, 3, generator=generator)
    assert (network(inputs) - network(2 * inputs)).abs().item() > 1e-3


@pytest.mark.parametrize("out_features", [1, 7])
def test_members_equal_the_same_networks_run_alone(out_features, generator):
    sizes = (5, 8, 2, out_features)
    network = HypersphericalMLP(3, *sizes, activation="silu", generator=generator)
    scramble(network, generator)
    inputs = torch.randn(3, 6, 5, generator=generator)
    output = network(inputs)
    output.square().sum().backward()
    for member in range(3):
        single = alone(network, member, *sizes, activation="silu")
        single_output = single(inputs[member : member + 1])
        torch.testing.assert_close(output[member], single_output[0])
        single_output.square().sum().backward()
        for stacked, own in zip(network.parameters(), single.parameters(), strict=True):
            torch.testing.assert_close(stacked.grad[member], own.grad[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("members", [slice(0, 2), slice(1, 3), slice(0, None, 2), slice(2, 3)])
def test_members_slice_runs_only_those(members, generator):
    network = HypersphericalMLP(4, 3, 6, 2, 2, generator=generator)
    scramble(network, generator)
    inputs = torch.randn(4, 6, 3, generator=generator)
    torch.testing.assert_close(network(inputs[members], members), network(inputs)[members])


@pytest.mark.parametrize("initialization", INITIALIZATIONS)
def test_first_members_do_not_depend_on_how_many_follow(initialization):
    few, many = (
        HypersphericalMLP(
            count, 4, 6, 2, 3, initialization=initialization, generator=torch.Generator().manual_seed(5)
        ).state_dict()
        for count in (1, 3)
    )
    for name, tensor in few.items():
        assert torch.equal(tensor[0], many[name][0]), name
    assert not torch.equal(many["output_layer.weight"][0], many["output_layer.weight"][1])


def test_every_parameter_leads_with_the_members(generator):
    assert all(parameter.shape[0] == 3 for parameter in HypersphericalMLP(3, 4, 6, 2, 5).parameters())


def test_bfloat16_inputs_keep_a_float32_result(generator):
    network = HypersphericalMLP(2, 5, 32, 2, 3, generator=generator)
    inputs = torch.randn(2, 16, 5, generator=generator)
    seen = []
    network.output_layer.register_forward_pre_hook(lambda module, args: seen.append(args[0].dtype))
    network.head_layer.register_forward_pre_hook(lambda module, args: seen.append(args[0].dtype))
    output = network(inputs.bfloat16())
    assert seen == [torch.bfloat16, torch.float32]
    assert output.dtype == torch.float32
    torch.testing.assert_close(output, network(inputs), rtol=0.05, atol=0.02)


def test_it_learns_on_the_sphere_and_every_parameter_takes_part(generator):
    network = HypersphericalMLP(2, 2, 32, 2, 1, generator=generator)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    losses = []
    for _ in range(300):
        inputs = torch.randn(2, 128, 2, generator=generator)
        target = torch.sin(2 * inputs[..., :1]) * inputs[..., 1:]
        loss = (network(inputs) - target).square().mean(dim=(1, 2))
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
        network.project_weights()
        losses.append(loss.detach())
    assert_on_spheres(network)
    for name, parameter in network.named_parameters():
        assert ((parameter - before[name]).flatten(1).norm(dim=1) > 1e-3).all(), name
    first, last = torch.stack(losses[:10]).mean(dim=0), torch.stack(losses[-10:]).mean(dim=0)
    assert (last < 0.1 * first).all(), (first, last)
