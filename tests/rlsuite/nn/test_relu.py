"""The fast relu equals torch's for every bfloat16 number, in place, and keeps gradients."""

import pytest
import torch

from rlsuite.nn.relu import fast_relu_


def test_every_bfloat16_number_but_nans():
    numbers = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    numbers = numbers[~numbers.isnan()]
    wanted = torch.relu(numbers)
    inputs = numbers.clone()
    assert fast_relu_(inputs).data_ptr() == inputs.data_ptr()
    assert torch.equal(inputs, wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_pass_as_torchs_do(dtype):
    inputs = torch.randn(50, dtype=dtype, requires_grad=True)
    (got,) = torch.autograd.grad(fast_relu_(inputs * 2).sum(), inputs)
    (wanted,) = torch.autograd.grad(torch.relu(inputs * 2).sum(), inputs)
    assert torch.equal(got, wanted)


def test_float32_keeps_its_nans():
    assert fast_relu_(torch.tensor([float("nan"), -1.0])).isnan().tolist() == [True, False]
