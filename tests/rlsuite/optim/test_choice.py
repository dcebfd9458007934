import math

import pytest
import torch
from torch import nn

from rlsuite.errors import UserError
from rlsuite.optim.choice import GroupConfig, OptimizerConfig, ScheduleConfig, make_optimizer, set_factor

PEERS = {
    "sgd": lambda weights: torch.optim.SGD(weights, 0.1, momentum=0.9, weight_decay=0.01),
    "adam": lambda weights: torch.optim.Adam(weights, 0.1, weight_decay=0.01),
    "adamw": lambda weights: torch.optim.AdamW(weights, 0.1, weight_decay=0.01),
    "rmsprop": lambda weights: torch.optim.RMSprop(weights, 0.1, alpha=0.999, momentum=0.9, weight_decay=0.01),
}


@pytest.mark.parametrize("name", PEERS)
def test_each_is_torchs_own(name, generator):
    start, gradients = torch.rand(5, generator=generator), torch.rand(4, 5, generator=generator) - 0.5
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    optimizers = [
        make_optimizer({"w": ours}, OptimizerConfig(name=name, learning_rate=0.1, weight_decay=0.01)),
        PEERS[name]([theirs]),
    ]
    for gradient in gradients:
        for weight, optimizer in zip((ours, theirs), optimizers, strict=True):
            weight.grad = gradient.clone()
            optimizer.step()
    torch.testing.assert_close(ours, theirs)


def test_groups_have_their_own_numbers_and_the_first_that_names_a_weight_has_it():
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    groups = (
        GroupConfig(names=("*.bias",), weight_decay=0.0),
        GroupConfig(names=("1.*",), learning_rate=0.5),
    )
    optimizer = make_optimizer(
        dict(module.named_parameters()), OptimizerConfig(learning_rate=0.1, weight_decay=0.2, groups=groups)
    )
    found = [(len(group["params"]), group["lr"], group["weight_decay"]) for group in optimizer.param_groups]
    assert found == [(2, 0.1, 0.0), (1, 0.5, 0.2), (1, 0.1, 0.2)]
    set_factor(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.05, 0.25, 0.05]
    with pytest.raises(UserError, match=r"names=2\.\*: no weight"):
        make_optimizer(dict(module.named_parameters()), OptimizerConfig(groups=(GroupConfig(names=("2.*",)),)))


def test_schedules_are_their_formulas():
    cosine, linear = ScheduleConfig(kind="cosine", final=0.1), ScheduleConfig(kind="linear")
    steps = ScheduleConfig(kind="step", milestones=(10, 20), factors=(0.1, 0.01))
    for step in (0, 25, 99):
        expected = 0.1 + 0.9 * (1 + math.cos(math.pi * step / 100)) / 2
        assert cosine.factor(step, 100) == pytest.approx(expected)
        assert linear.factor(step, 100) == pytest.approx(1 - step / 100)
    assert [steps.factor(step, 100) for step in (0, 9, 10, 19, 20, 99)] == [1.0, 1.0, 0.1, 0.1, 0.01, 0.01]
    root = ScheduleConfig(kind="inverse_sqrt", warmup=4)
    assert [root.factor(step, 100) for step in (0, 1, 3, 15, 63)] == pytest.approx([0.25, 0.5, 1.0, 0.5, 0.25])
    assert ScheduleConfig(kind="inverse_sqrt").factor(3, 10) == pytest.approx(0.5)
    rising = ScheduleConfig(warmup=4)
    assert [rising.factor(step, 100) for step in (0, 1, 3, 4, 50)] == [0.25, 0.5, 1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: OptimizerConfig(name="adan"), "optimizer=adan.*did you mean 'adam"),
        (lambda: OptimizerConfig(learning_rate=0.0), "learning_rate=0.0"),
        (lambda: OptimizerConfig(momentum=1.0), "momentum=1.0"),
        (lambda: ScheduleConfig(kind="step"), "schedule=step"),
        (lambda: ScheduleConfig(milestones=(1,), factors=(0.1,)), "schedule=constant"),
        (lambda: ScheduleConfig(kind="step", milestones=(2, 1), factors=(0.1, 0.1)), "rising"),
        (lambda: GroupConfig(names=()), r"names=\[\]"),
    ],
)
def test_bad_numbers_are_refused(make, words):
    with pytest.raises(UserError, match=words):
        make()
