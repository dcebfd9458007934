"""The residual trunk against the same network in plain torch, and its norms by hand."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from rlsuite.nn.ensemble import EnsembleBatchNorm
from rlsuite.nn.hyperspherical import SphereLinear
from rlsuite.nn.residual import EnsembleRMSNorm, ResidualMLP


def stir(network, generator):
    """Move scales, shifts and biases away from 1 and 0, so that they count."""
    for name, parameter in network.named_parameters():
        if name.rsplit(".", 1)[-1] in ("scale", "shift", "output_bias"):
            parameter.data += 0.5 * torch.randn(parameter.shape, generator=generator)


def plain_forward(network, member, inputs, training):
    """FlashSAC's network written out for one member, with torch.nn.BatchNorm1d."""

    def batch_norm(stacked, rows):
        norm = nn.BatchNorm1d(rows.shape[1], momentum=0.01).train(training)
        norm.weight.data, norm.bias.data = stacked.scale[member, 0], stacked.shift[member, 0]
        norm.running_mean.copy_(stacked.mean[member, 0])
        norm.running_var.copy_(stacked.variance[member, 0])
        return norm(rows)

    hidden = batch_norm(network.input_normalization, inputs) @ network.input_layer.weight[member]
    for block in network.blocks:
        inside = functional.relu(batch_norm(block.inner_normalization, hidden @ block.inner.weight[member]))
        hidden = hidden + functional.relu(batch_norm(block.outer_normalization, inside @ block.outer.weight[member]))
    features = functional.rms_norm(hidden, hidden.shape[-1:], network.output_normalization.scale[member, 0], 1e-6)
    return features @ network.output_layer.weight[member] + network.output_bias[member]


@pytest.mark.parametrize("training", [True, False])
def test_equals_the_network_in_plain_torch(training, generator):
    network = ResidualMLP(3, 5, 8, 2, 4, generator=generator)
    stir(network, generator)
    network(torch.randn(3, 32, 5, generator=generator) * 3.0 + 1.0)  # running statistics that count
    network.train(training)
    inputs = torch.randn(3, 16, 5, generator=generator)
    expected = torch.stack([plain_forward(network, member, inputs[member], training) for member in range(3)])
    torch.testing.assert_close(network(inputs), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("members", [slice(1, 3), slice(0, None, 2)])
def test_members_slice_runs_only_those(members, generator):
    network = ResidualMLP(4, 5, 8, 1, 2, generator=generator)
    stir(network, generator)
    inputs = torch.randn(4, 6, 5, generator=generator)
    for mode in (True, False):
        network.train(mode)
        torch.testing.assert_close(network(inputs[members], members), network(inputs)[members])


def test_rms_norm_by_hand():
    norm = EnsembleRMSNorm(2, 2)
    norm.scale.data[1] = torch.tensor([10.0, 1.0])
    output = norm(torch.tensor([[[1.0, 7.0]], [[-1.0, 7.0]]]))  # root mean square 5
    torch.testing.assert_close(output, torch.tensor([[[0.2, 1.4]], [[-2.0, 1.4]]]), rtol=1e-6, atol=1e-6)
    norm.scale.data[0] = torch.tensor([3.0, 4.0])
    norm.project()  # of norm 5; wanted is sqrt(2)
    torch.testing.assert_close(norm.scale[0, 0], torch.tensor([3.0, 4.0]) * math.sqrt(2.0) / 5.0)


def test_norms_hold_from_the_start_and_after_projection(generator):
    network = ResidualMLP(2, 5, 8, 2, 3, generator=generator)

    def check():
        for module in network.modules():
            if isinstance(module, SphereLinear):
                norms = module.weight.norm(dim=1)
                torch.testing.assert_close(norms, torch.ones_like(norms))
            elif isinstance(module, EnsembleBatchNorm | EnsembleRMSNorm):
                both = torch.cat([value[:, 0] for value in module.parameters()], dim=1)
                wanted = torch.full((2,), math.sqrt(module.scale.shape[-1]))
                torch.testing.assert_close(both.norm(dim=1), wanted)

    check()
    for parameter in network.parameters():
        parameter.data += torch.randn(parameter.shape, generator=generator)
    bias = network.output_bias.clone()
    network.project_weights()
    check()
    assert torch.equal(network.output_bias, bias)


def test_first_weights_are_orthogonal_and_first_members_do_not_depend_on_later_ones():
    one, three = (ResidualMLP(count, 5, 8, 1, 3, generator=torch.Generator().manual_seed(1)) for count in (1, 3))
    for name, value in one.state_dict().items():
        assert torch.equal(value[0], three.state_dict()[name][0]), name
    weight = one.blocks[0].outer.weight[0]  # 32 to 8
    torch.testing.assert_close(weight.T @ weight, torch.eye(8), rtol=1e-5, atol=1e-5)


def test_bfloat16_inputs_give_float32_results_near_the_float32_ones(generator):
    network = ResidualMLP(2, 7, 64, 2, 3, generator=generator)
    inputs = torch.randn(2, 32, 7, generator=generator)
    exact, rounded = network(inputs), network(inputs.bfloat16())
    assert rounded.dtype == torch.float32
    assert 0.0 < (exact - rounded).abs().max() < 0.2
