"""The fast tanh equals torch's, in values and in first and second derivatives."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlsuite.nn.tanh import fast_tanh


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-(2.0**127), 2.0**127, width=32), min_size=1, max_size=40))
def test_values_are_those_of_tanh(values):
    inputs = torch.tensor(values)
    torch.testing.assert_close(fast_tanh(inputs), torch.tanh(inputs), rtol=0.0, atol=2.5e-7)


def test_ends_and_faults_pass_through():
    found = fast_tanh(torch.tensor([float("inf"), float("-inf"), float("nan"), 0.0]))
    assert found[:2].tolist() == [1.0, -1.0]
    assert found[2].isnan()
    assert found[3] == 0.0


def test_derivatives_are_those_of_tanh():
    inputs = torch.linspace(-6.0, 6.0, 101, requires_grad=True)
    found = []
    for function in (fast_tanh, torch.tanh):
        (slope,) = torch.autograd.grad(function(inputs).square().sum(), inputs, create_graph=True)
        (curvature,) = torch.autograd.grad(slope.sum(), inputs)
        found.append((slope.detach(), curvature))
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0.0, atol=2e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes_take_torchs_own(dtype):
    inputs = torch.linspace(-3.0, 3.0, 31).to(dtype)
    assert torch.equal(fast_tanh(inputs), torch.tanh(inputs))
