"""Optimizer states as flat tensors: a round trip continues as if nothing had happened."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from rlsuite.optim.state import adam, load_optimizer_tensors, optimizer_tensors, set_learning_rate


def problem(weight_decay=0.0, learning_rate=0.1):
    first = [torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(2, 2))]
    second = [torch.nn.Parameter(torch.full((2,), 2.0))]
    optimizers = {
        "one": adam(first, learning_rate, weight_decay=weight_decay),
        "one.more": adam(second, learning_rate),  # a dot in the name must not confuse the keys
    }
    return first + second, optimizers


def step(parameters, optimizers, seed):
    generator = torch.Generator().manual_seed(seed)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    for optimizer in optimizers.values():
        optimizer.step()


@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_round_trip_continues_identically(tmp_path, weight_decay):
    parameters, optimizers = problem(weight_decay)
    for seed in range(3):
        step(parameters, optimizers, seed)
    save_file(optimizer_tensors(optimizers), tmp_path / "o.safetensors")
    others, other_optimizers = problem(weight_decay)
    for parameter, other in zip(parameters, others, strict=True):
        other.data.copy_(parameter.data)
    load_optimizer_tensors(other_optimizers, load_file(tmp_path / "o.safetensors"))
    for seed in range(3, 6):
        step(parameters, optimizers, seed)
        step(others, other_optimizers, seed)
    assert all(torch.equal(one, two) for one, two in zip(parameters, others, strict=True))


def test_names_and_content():
    parameters, optimizers = problem()
    assert optimizer_tensors(optimizers) == {}
    step(parameters, optimizers, 0)
    tensors = optimizer_tensors(optimizers)
    kinds = ("exp_avg", "exp_avg_sq", "step")
    expected = {f"one.{place}.{kind}" for place in (0, 1) for kind in kinds} | {f"one.more.0.{kind}" for kind in kinds}
    assert set(tensors) == expected
    torch.testing.assert_close(tensors["one.0.exp_avg"], 0.1 * parameters[0].grad)


def test_loading_copies_and_keeps_the_learning_rate_of_the_optimizer():
    parameters, optimizers = problem(learning_rate=0.1)
    step(parameters, optimizers, 0)
    tensors = optimizer_tensors(optimizers)
    _, others = problem(learning_rate=0.5)
    load_optimizer_tensors(others, tensors)
    assert others["one"].param_groups[0]["lr"] == 0.5
    tensors["one.0.exp_avg"].fill_(77.0)
    assert not (optimizer_tensors(others)["one.0.exp_avg"] == 77.0).any()


@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_a_rate_set_later_holds_whether_it_is_a_number_or_a_tensor(weight_decay):
    # Where an update is recorded in a CUDA graph the rate is a tensor, since a number would be recorded with it.
    parameters, optimizers = problem(weight_decay, learning_rate=0.4)
    others, other_optimizers = problem(weight_decay, learning_rate=0.4)
    rate = torch.tensor(0.4)
    for optimizer in other_optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = rate
    for seed in range(3):
        for optimizer in (*optimizers.values(), *other_optimizers.values()):
            set_learning_rate(optimizer, 0.1 * (seed + 1))
        step(parameters, optimizers, seed)
        step(others, other_optimizers, seed)
        if seed == 0:
            torch.testing.assert_close(parameters[-1].detach(), 2.0 - 0.1 * parameters[-1].grad.sign())
    assert rate.item() == pytest.approx(0.3)  # filled, not replaced
    torch.testing.assert_close(parameters, others)


def test_adam_is_the_textbook_step():
    parameter = torch.nn.Parameter(torch.tensor([1.0]))
    optimizer = adam([parameter], 0.1)
    parameter.grad = torch.tensor([-3.0])
    optimizer.step()
    assert parameter.item() == pytest.approx(1.1)  # the first step is the learning rate, against the sign
    decayed = torch.nn.Parameter(torch.tensor([1.0]))
    optimizer = adam([decayed], 0.1, weight_decay=0.5)
    decayed.grad = torch.tensor([-3.0])
    optimizer.step()
    assert decayed.item() == pytest.approx(1.0 - 0.1 * 0.5 + 0.1)
