"""The integer runtime: the same bytes in numpy, torch and onnxruntime; no floats; no number beyond its place."""

import numpy as np
import pytest
import torch

from envs.evaluation.quantization.integer import (
    WORD,
    Add,
    Affine,
    Flatten,
    IntegerNetwork,
    Join,
    Lookup,
    NoFloats,
    Product,
    Total,
    Windows,
)
from envs.evaluation.quantization.integer_agreement import disagreements, integer_inputs, on_backends
from envs.evaluation.quantization.integer_numpy import run_numpy
from envs.evaluation.quantization.integer_onnx import onnx_model
from envs.evaluation.quantization.integer_ranges import ranges
from rlsuite.errors import UserError


def filled(steps, shape, seed=0):
    """A network of drawn numbers; products and affine steps that bring sums back to int8 are filled in."""
    network, generator = IntegerNetwork(steps, shape), torch.Generator().manual_seed(seed)
    for step in network.steps:
        if isinstance(step, Product):
            step.weight.copy_(torch.randint(-128, 128, step.weight.shape, generator=generator))
            step.bias.copy_(torch.randint(-5000, 5000, step.bias.shape, generator=generator))
        if isinstance(step, Lookup):
            step.table.copy_(torch.randint(-(2**15), 2**15, step.table.shape, generator=generator))
        if isinstance(step, Affine) and step.narrow:
            draw = torch.randint(-60, 60, (step.channels,), generator=generator)
            step.fill(draw, 997 * draw + 5, 12, low=-128, high=127, least=-(2**23), most=2**23)
        elif isinstance(step, Affine):
            step.fill(-7, 300, 5, low=0, high=255, least=-(2**24), most=2**24)
    return network


def rows():
    steps = [Product(0, (20, 17)), Affine(1, 20), Product(2, (6, 20)), Affine(3, narrow=False), Lookup(4, 256)]
    return filled(steps, (17,))


def pictures():
    """Padding with real black, groups, strides, a shortcut, channels side by side, pooling of both kinds, a mean."""
    steps = [
        Product(0, (6, 3, 3, 3), stride=(2, 2), padding=(1, 1), pad=-128),  # 1
        Affine(1, 6),  # 2
        Product(2, (6, 2, 3, 2), padding=(1, 0), groups=3),  # 3: one column less
        Windows(2, "max", (1, 2), (1, 1)),  # 4
        Affine(4, narrow=False),  # 5
        Add(3, 5),  # 6
        Affine(6, 6),  # 7
        Join(7, 4),  # 8: 12 channels
        Windows(8, "max", (3, 3), (2, 2), (1, 1)),  # 9
        Product(9, (4, 12, 1, 1)),  # 10
        Total(10),  # 11
        Windows(8, "sum", (2, 2), (2, 1)),  # 12
        Affine(12, 12),  # 13
        Flatten(13),  # 14
        Affine(11, 4),  # 15
        Join(14, 15),  # 16
        Product(16, (3, 52)),  # 17
    ]
    return filled(steps, (3, 7, 7))


@pytest.mark.parametrize("make", [rows, pictures])
def test_integer_backends_give_identical_bytes_on_ten_thousand_inputs(make):
    network = make()
    inputs = integer_inputs(network, 10_000, 1)
    assert {int(part.min()) for part in inputs[:2]} == {-128, 127}  # all smallest, all largest
    found = on_backends(network, inputs)
    expected = found.pop("numpy")
    assert len(np.unique(expected)) > 100
    for output in found.values():
        assert output.dtype == expected.dtype
        assert output.tobytes() == expected.tobytes()


def test_integer_steps_by_hand():
    step = Affine(0, 2, narrow=False)
    step.fill([3, -3], [1, 0], 1, low=-4, high=6, least=-2, most=2)
    values = torch.tensor([[-9, -9], [-1, -1], [0, 0], [1, 1], [2, 2]], dtype=torch.int32)
    # -5 >> 1 = -3; a shift rounds down, of negative numbers, too
    assert step(values).tolist() == [[-3, 3], [-1, 1], [0, 0], [2, -2], [3, -3]]
    layer = Product(0, (1, 1, 2, 2), padding=(1, 1), pad=-128)
    layer.weight.fill_(1)
    assert layer(torch.tensor([[[[5]]]], dtype=torch.int8)).tolist() == [[[[-379, -379], [-379, -379]]]]


def test_an_integer_convolution_is_torchs_own():
    generator = torch.Generator().manual_seed(3)
    layer = Product(0, (8, 3, 3, 5), stride=(2, 1), padding=(1, 2), groups=2)
    layer.weight.copy_(torch.randint(-128, 128, layer.weight.shape, generator=generator))
    inputs = torch.randint(-128, 128, (4, 6, 11, 12), generator=generator, dtype=torch.int8)
    theirs = torch.nn.functional.conv2d(inputs.double(), layer.weight.double(), stride=(2, 1), padding=(1, 2), groups=2)
    assert torch.equal(layer(inputs).double(), theirs)


def test_integer_sums_beyond_32_bits_use_64():
    step = Affine(0, narrow=False)
    step.fill(2**30, 7, 30, low=-WORD, high=WORD)
    assert bool(step.wide)
    network = IntegerNetwork([step], (1,))
    values = torch.tensor([[WORD], [-WORD - 1], [-1], [0]], dtype=torch.int32)
    assert step(values).flatten().tolist() == [WORD, -WORD, -1, 0]
    assert run_numpy(network, values.numpy()).tolist() == step(values).tolist()
    small = Affine(0)
    small.fill(100, 5, 3, low=-128, high=127, least=-1000, most=1000)
    assert not bool(small.wide)


def test_integer_ranges_hold_whatever_comes():
    network = pictures()
    found = ranges(network)
    values = network.values(torch.from_numpy(integer_inputs(network, 2000, 2)))
    for limits, value in zip(found, values, strict=True):
        flat = value.transpose(0, 1).flatten(1).to(torch.int64)
        assert (flat.amin(1) >= limits.low).all()
        assert (flat.amax(1) <= limits.high).all()
    layer = Product(0, (1, 3))
    layer.weight.copy_(torch.tensor([[2, -3, 100]]))
    low, high = ranges(IntegerNetwork([layer], (3,)), low=-1, high=10)[1]
    assert (int(low), int(high)) == (-2 - 30 - 100, 20 + 3 + 1000)


def test_integer_sums_that_may_leave_32_bits_are_refused():
    layer = Product(0, (1, 2**17 + 8))
    layer.weight.fill_(-128)
    with pytest.raises(UserError, match=r"step 0 .Product.: sums may reach 2147614720, beyond 32 bits"):
        ranges(IntegerNetwork([layer], (2**17 + 8,)))
    with pytest.raises(UserError, match="a multiplier does not fit 32 bits"):
        Affine(0).fill(2**31, 0, 3, low=0, high=1, least=0, most=1)
    with pytest.raises(UserError, match=r"clip to .0, 128.: use ends within"):
        Affine(0).fill(1, 0, 3, low=0, high=128)


def test_integer_torch_computes_no_floats():
    network, inputs = rows(), torch.zeros(2, 17, dtype=torch.int8)
    with NoFloats():
        network(inputs)
    with pytest.raises(RuntimeError, match="float32"), NoFloats():
        inputs / 2
    with pytest.raises(RuntimeError, match="float64"), NoFloats():
        inputs.to(torch.float64)


def test_integer_backends_that_differ_are_found(monkeypatch):
    from envs.evaluation.quantization import integer_agreement

    network = rows()
    assert disagreements(network, count=20) == 0
    monkeypatch.setattr(integer_agreement, "run_numpy", lambda network, part: run_numpy(network, part) + np.int16(1))
    assert disagreements(network, count=20) == 20


def test_integer_weights_of_more_than_8_bits_are_no_onnx():
    network = IntegerNetwork([Product(0, (2, 3), weight_bits=9)], (3,))
    assert network.steps[0].weight.dtype == torch.int16
    with pytest.raises(UserError, match="quantize weights to 8 bits or fewer"):
        onnx_model(network)
