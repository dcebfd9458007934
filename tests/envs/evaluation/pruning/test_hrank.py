"""HRank: ranks by hand, ties, what is measured where, and what is refused."""

import math

import pytest
import torch
from judged import QUICK, classifier, stripes
from torch import nn

from envs.evaluation.catalogue import EVALUATIONS
from envs.evaluation.pruning.criteria import kept_channels, number_cut
from envs.evaluation.pruning.graph import couple
from envs.evaluation.pruning.hrank import RankMeter, map_ranks, metered, run_pictures
from envs.evaluation.recipe import network_base
from envs.evaluation.subject import Subject
from envs.evaluation.tasks import ClassifierTask
from envs.evaluation.transform import apply
from rlsuite.data.arrays import Arrays
from rlsuite.errors import UserError
from rlsuite.methods import choose
from rlsuite.nn.vision.conv_net import ConvNet, ConvNetConfig
from rlsuite.nn.vision.resnet import ResNet20, ResNetConfig


def method(**numbers):
    (found,) = choose(EVALUATIONS, ["hrank"], {f"hrank.{key}": value for key, value in numbers.items()})
    return found


def larger(widths=(7, 4, 4), strides=(1, 2, 2)):
    """A subject of 8x8 pictures whose first two convolutions have maps of 8 and of 4 pixels, the last of 2."""
    config = ConvNetConfig(widths=widths, strides=strides, hidden=6)
    task = ClassifierTask(stripes(120, 1), stripes(40, 2), num_classes=2)
    base = network_base("conv", channels=1, size=8, outputs=2, config=config)
    module = ConvNet(1, 8, 2, config, 0).eval()
    return Subject(module, task.source("test").tensors["input"][:1], task, base)


def test_ranks_by_hand():
    one = torch.outer(torch.tensor([1.0, 2, 3, 4]), torch.tensor([2.0, 1, 0, 5]))
    three = torch.diag(torch.tensor([3.0, 2, 1, 0]))
    maps = torch.stack([one, three, torch.zeros(4, 4), torch.eye(4)]).unsqueeze(0)
    assert map_ranks(maps).tolist() == [[1, 3, 0, 4]]
    assert map_ranks(torch.diag(torch.tensor([1.0, 0.2, 0.05])).view(1, 1, 3, 3), 0.1).tolist() == [[2]]


def test_the_meter_rectifies_and_averages_over_pictures():
    network = nn.Sequential(nn.Identity())
    first = torch.stack([torch.eye(4), -torch.eye(4)]).unsqueeze(0)
    second = torch.stack([torch.ones(4, 4), torch.diag(torch.tensor([1.0, 1, -1, -1]))]).unsqueeze(0)
    with RankMeter(network, ["0"]) as meter:
        network(first)
        network(second.repeat(3, 1, 1, 1))
    network(first)  # nobody looks any more
    assert meter.images == {"0": 4}
    assert meter.ranks("0").tolist() == [(4 + 3 * 1) / 4, (0 + 3 * 2) / 4]
    assert meter.activations("0").tolist() == pytest.approx([(0.25 + 3 * 1) / 4, 3 * (2 / 16) / 4])
    other = RankMeter(network, ["0"])
    other.load_state_dict(meter.state_dict())
    with meter, other:
        network(first)
    assert torch.equal(meter.ranks("0"), other.ranks("0"))
    assert other.images == {"0": 5}


def test_batches_of_any_size_give_one_mean():
    subject = larger()
    pictures = subject.task.source("train").tensors["input"][:30]
    found = []
    for size in (30, 7):
        with RankMeter(subject.module, ["body.1"]) as meter, torch.no_grad():
            for batch in pictures.split(size):
                subject.module(batch)
        found.append(meter.ranks("body.1"))
    assert torch.equal(*found)


def test_a_share_is_rounded_down_and_two_stay():
    assert [number_cut(7, 0.5), number_cut(10, 0.3), number_cut(4, 0.99), number_cut(2, 0.9), number_cut(1, 0.5)] == [
        *(3, 3, 2, 0, 0)
    ]
    assert number_cut(100, 0.29) == 29  # 28.999... in floats


def test_ties_go_by_activation_and_then_by_place():
    ranks = torch.tensor([2.0, 1, 1, 1, 5, 1])
    activations = torch.tensor([0.0, 9, 3, 3, 0, 1])
    assert kept_channels([ranks, activations], 0.34) == [0, 1, 3, 4]  # 5 (0.1) and 2, the earlier of 2 and 3
    assert kept_channels([ranks, activations], 0.34, remove="highest") == [1, 2, 3, 5]


def test_the_lowest_ranks_go_and_small_maps_stay_whole():
    subject = larger()
    transform = method(ratio=0.5, images=50).build()
    plan = transform.plan(subject)
    assert plan["kept"].keys() == {"body.1", "body.3"}  # not body.5, with maps of 2x2, and no linear layer
    assert [len(kept) for kept in plan["kept"].values()] == [4, 2]
    meter = RankMeter(subject.module, ["body.1"])
    run_pictures(meter, subject.task.source("train"), 50, 0)
    ranks = meter.ranks("body.1")
    gone = [channel for channel in range(7) if channel not in plan["kept"]["body.1"]]
    assert meter.images["body.1"] == 50
    assert max(ranks[gone]) <= min(ranks[plan["kept"]["body.1"]])
    assert transform.plan(subject) == plan


def test_sums_are_measured_behind_them_and_stay_whole_by_default():
    module = ResNet20(1, 16, 2, ResNetConfig(width=4, depth=1), 0).eval()
    coupling = couple(module)
    places = {name: metered(module, coupling, group) for name, group in coupling.named().items()}
    assert places["body.1.0"] == ["body.3.0.sum"]
    assert places["body.3.1.first.0"] == ["body.3.1.first.1"]  # behind its norm
    task = ClassifierTask(stripes(40, 1), stripes(40, 2), num_classes=2)
    base = network_base("resnet20", channels=1, size=8, outputs=2, config=ResNetConfig(width=4, depth=1))
    subject = Subject(module, task.source("test").tensors["input"][:1], task, base)
    alone = method(ratio=0.5, images=20).build().plan(subject)["kept"]
    assert alone.keys() == {"body.3.0.first.0", "body.3.1.first.0"}  # the third stage has maps of 2x2
    together = method(ratio=0.5, images=20, coupled=True).build().plan(subject)["kept"]
    assert together.keys() == alone.keys() | {"body.1.0", "body.3.1.second.0"}


def test_what_it_cannot_do_is_refused():
    with pytest.raises(UserError, match="no convolution can be cut whose maps are 5 pixels or more; use pruning/l1"):
        apply(method(images=8, smallest_map=5, teach=QUICK), classifier(), seed=0)
    empty = classifier()
    empty.task.splits["train"] = Arrays({"input": torch.zeros(0, 1, 8, 8), "label": torch.zeros(0, dtype=torch.int64)})
    with pytest.raises(UserError, match="there are no examples to measure ranks on; give the task some"):
        method(images=8).build().plan(empty)
    wrong = {"ratio": [1, -0.1, math.nan], "images": [0], "rtol": [1, -1], "remove": ["lower"], "seed": [-1]}
    for key, values in wrong.items():
        for value in values:
            with pytest.raises(UserError, match=f"{key}="):
                method(**{key: value})
