"""DeepFool and CW-2 on linear classifiers, where the least change has a formula; the filters beside them."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from envs.evaluation.attacks.carlini import CW2, CW2Config
from envs.evaluation.attacks.deepfool import DeepFool, DeepFoolConfig
from envs.evaluation.attacks.least import margin
from envs.evaluation.defences.squeezing import BitDepth, MedianFilter
from rlsuite.errors import UserError

ATTACKS = [DeepFool(), CW2(config=CW2Config(steps=60, searches=4))]
IDS = [type(attack).__name__ for attack in ATTACKS]


def linear(classes, seed=0):
    module = nn.Linear(5, classes).double().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    module.weight.copy_(torch.randn(classes, 5, generator=generator))
    module.bias.copy_(0.1 * torch.randn(classes, generator=generator))
    return module, torch.rand(8, 5, dtype=torch.float64, generator=generator) * 0.2 + 0.4


def shortest_way(module, x, label):
    """To the nearest of the planes between the true class and another one, by hand."""
    ways = []
    for row, true in zip(x, label.tolist(), strict=True):
        found = []
        for other in range(len(module.weight)):
            if other != true:
                normal = module.weight[other] - module.weight[true]
                gap = module(row)[true] - module(row)[other]
                found.append(gap * normal / normal.square().sum())
        ways.append(min(found, key=torch.norm))
    return torch.stack(ways)


@pytest.mark.parametrize("classes", [2, 4])
def test_deepfool_crosses_the_nearest_plane_by_the_shortest_way(classes):
    module, x = linear(classes)
    label = module(x).argmax(1)
    changed = DeepFool(config=DeepFoolConfig(overshoot=0.02)).least(module, x, label, (-9.0, 9.0))
    assert (module(changed).argmax(1) != label).all()
    assert torch.allclose(changed - x, 1.02 * shortest_way(module, x, label), atol=1e-3)


@pytest.mark.parametrize("box", [None, (-9.0, 9.0), (-3.0, 4.0)])
def test_cw2_finds_the_shortest_way_by_optimization(box):
    """Of two classes; of more it makes for the one that leads, which need not be the nearest."""
    module, x = linear(2)
    label = module(x).argmax(1)
    changed = CW2(config=CW2Config(steps=100, searches=7, rate=0.02)).least(module, x, label, box)
    assert (module(changed).argmax(1) != label).all()
    wanted, found = shortest_way(module, x, label).norm(dim=1), (changed - x).norm(dim=1)
    assert (found >= wanted - 1e-9).all()
    assert (found <= 1.1 * wanted + 1e-3).all()


def test_cw2_leaves_the_corners_of_the_box():
    """Black and white inputs, as written digits are: each entry at an end of tanh's range."""
    module, _ = linear(2)
    x = torch.tensor(list(itertools.product((0.0, 1.0), repeat=5)), dtype=torch.float64)
    label = module(x).argmax(1)
    wanted = shortest_way(module, x, label)
    free = ((x + wanted >= 0) & (x + wanted <= 1)).all(1)  # the shortest way does not leave the box
    assert int(free.sum()) >= 2
    changed = CW2(config=CW2Config(steps=50, searches=7)).least(module, x, label, (0.0, 1.0))
    assert (module(changed).argmax(1) != label)[free].all()
    assert ((changed - x).norm(dim=1) <= 1.1 * wanted.norm(dim=1) + 0.02)[free].all()


@pytest.mark.parametrize("attack", ATTACKS, ids=IDS)
def test_they_stay_in_the_box_and_leave_alone_what_is_wrong_already(attack):
    generator = torch.Generator().manual_seed(1)
    module = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 3)).requires_grad_(False)
    for parameter in module.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator))
    x = torch.rand(6, 1, 4, 4, generator=generator)
    label = module(x).argmax(1)
    label[:2] = (label[:2] + 1) % 3
    wrong = torch.arange(6) < 2
    changed = attack.least(module, x, label, (0.0, 1.0))
    assert 0.0 <= float(changed.min()) <= float(changed.max()) <= 1.0
    assert torch.equal(changed[wrong], x[wrong])
    assert (module(changed).argmax(1) != label).all()
    assert not changed.requires_grad
    alone = attack.least(module, x[2:3], label[2:3], (0.0, 1.0))
    assert torch.allclose(alone, changed[2:3], atol=1e-4)  # rows do not see each other


def test_cw2_says_so_where_nothing_is_found():
    module, x = linear(2)
    label = module(x).argmax(1)
    still = CW2(config=CW2Config(steps=1, searches=1, rate=1e-6)).least(module, x, label, (0.0, 1.0))
    assert torch.equal(still, x)


def test_confidence_is_a_lead():
    module, x = linear(2)
    label = module(x).argmax(1)
    changed = CW2(config=CW2Config(steps=80, searches=5, confidence=0.5)).least(module, x, label, (-9.0, 9.0))
    assert (margin(module(changed), label) >= 0.5).all()


def test_margins_by_hand():
    assert margin(torch.tensor([[3.0, 1.0, 2.5], [0.0, 2.0, 5.0]]), torch.tensor([0, 1])).tolist() == [-0.5, 3.0]


def test_bit_depth_by_hand_and_gradients_pass():
    x = torch.tensor([[[[0.1, 0.49, 0.51, 0.9]]]], requires_grad=True)
    assert BitDepth(1)(x).flatten().tolist() == pytest.approx([0.0, 0.0, 1.0, 1.0])
    assert BitDepth(2)(x).flatten().tolist() == pytest.approx([0.0, 1 / 3, 2 / 3, 1.0])
    (gradient,) = torch.autograd.grad(BitDepth(1)(x).sum(), x)
    assert (gradient == 1.0).all()
    with pytest.raises(UserError, match="bits=0: use 1 to 8"):
        BitDepth(0)


@pytest.mark.parametrize("size", [2, 3])
def test_the_median_filter_is_scipys(size):
    ndimage = pytest.importorskip("scipy.ndimage")
    x = torch.rand(2, 3, 7, 9, generator=torch.Generator().manual_seed(0))
    wanted = ndimage.median_filter(x.numpy(), size=(1, 1, size, size), mode="reflect")
    assert np.array_equal(MedianFilter(size)(x).numpy(), wanted)
    with pytest.raises(UserError, match="size=4: use 2 or 3"):
        MedianFilter(4)


@pytest.mark.parametrize(
    ("make", "message"), [(lambda: CW2Config(rate=0.0), "rate"), (lambda: DeepFoolConfig(steps=0), "steps=0")]
)
def test_bad_numbers_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()
