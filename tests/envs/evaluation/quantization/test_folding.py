"""BatchNorm folded into layers, and brought to fixed point: the same numbers, to rounding or exactly."""

import numpy as np
import pytest
import torch
from torch import nn

from envs.evaluation.quantization.fixed_point import (
    Integers,
    Stairs,
    accumulator_bits,
    at_shift,
    mismatches,
    points_of,
    rounded_alone,
    search,
    search_nearly,
    search_together,
    smallest_divisor,
)
from envs.evaluation.quantization.folding import fold_batch_norms
from rlsuite.errors import UserError


def drawn(module, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
                for tensor in (part.weight, part.bias, part.running_mean):
                    tensor.copy_(torch.randn(tensor.shape, generator=generator))
                part.running_var.copy_(torch.rand(part.running_var.shape, generator=generator) + 0.1)
                part.weight[0], part.weight[1] = 0.0, -0.7
                part.running_var[2] = 1e-12
            if isinstance(part, nn.Linear | nn.Conv2d):
                part.weight.normal_(0.0, 0.3, generator=generator)
    return module.eval()


NETWORKS = {
    "convolutions": lambda: (
        nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3, groups=2),
            nn.BatchNorm2d(4),
        ),
        (5, 3, 7, 7),
    ),
    "linear": lambda: (nn.Sequential(nn.Linear(7, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2)), (9, 7)),
}  # fmt: skip


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_folding_changes_nothing_but_rounding(kind, dtype, tolerance):
    module, shape = NETWORKS[kind]()
    module = drawn(module).to(dtype)
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    folded = fold_batch_norms(module)
    assert not any(isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d) for part in folded.modules())
    with torch.no_grad():
        expected, found = module(inputs), folded(inputs)
    scale = float(expected.abs().max())  # a variance of 1e-12 makes outputs of hundreds
    assert float((found - expected).abs().max()) <= tolerance * max(1.0, scale)
    assert any(isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d) for part in module.modules())


def test_folding_by_hand():
    module = nn.Sequential(nn.Linear(1, 3), nn.BatchNorm1d(3)).eval()
    with torch.no_grad():
        module[0].weight.copy_(torch.tensor([[2.0], [2.0], [2.0]]))
        module[0].bias.copy_(torch.tensor([1.0, 1.0, 1.0]))
        module[1].weight.copy_(torch.tensor([3.0, -3.0, 0.0]))
        module[1].bias.copy_(torch.tensor([0.5, 0.5, 0.5]))
        module[1].running_mean.fill_(5.0)
        module[1].running_var.fill_(4.0 - module[1].eps)
    layer = fold_batch_norms(module)[0]
    torch.testing.assert_close(layer.weight, torch.tensor([[3.0], [-3.0], [0.0]]))
    torch.testing.assert_close(layer.bias, torch.tensor([-5.5, 6.5, 0.5]))


def test_folding_refuses_what_still_moves_and_what_nothing_stands_before():
    module, _ = NETWORKS["linear"]()
    with pytest.raises(UserError, match=r"1: BatchNorm in training mode; call eval\(\) first"):
        fold_batch_norms(module.train())
    with pytest.raises(UserError, match="1: there is no layer right before this BatchNorm"):
        fold_batch_norms(nn.Sequential(nn.ReLU(), nn.BatchNorm1d(5)).eval())


# -- fixed point ---------------------------------------------------------------------------------------------------


def random_stairs(random):
    bits, reach, kind = int(random.integers(1, 9)), int(random.integers(1, 4097)), int(random.integers(5))
    a, b = random.normal() * 2**bits / reach, random.normal() * 2**bits / 2
    if kind == 0:
        a = 0.0
    if kind == 1:  # ties: a x + b meets whole numbers
        a, b = round(a * 64) / 64, round(b * 2) / 2
    low, high = (0, 2**bits - 1) if random.integers(2) else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    first = -reach if random.integers(2) else int(random.integers(-reach, 1))
    return Stairs.of(a, b, first, reach, low, high)


def test_a_thousand_certificates_of_folding_into_fixed_point():
    random, negative, ties = np.random.default_rng(0), 0, 0
    for place in range(1000):
        stairs = random_stairs(random)
        made = search(stairs)
        assert mismatches(stairs, made) == 0
        assert made.shift <= rounded_alone(stairs)
        if place < 30:  # the exact fractions themselves, not their jumps
            x = range(stairs.first, stairs.last + 1)
            assert stairs.table().tolist() == [stairs.at(each) for each in x]
            values = np.clip(
                [(made.multiplier * each + made.offset) >> made.shift for each in x], stairs.low, stairs.high
            )
            assert values.tolist() == [stairs.at(each) for each in x]
            ends = stairs.changing()
            assert [stairs.at(min(max(each, ends[0]), ends[1])) for each in x] == [stairs.at(each) for each in x]
        negative += stairs.a < 0
        ties += any((stairs.a * each + stairs.b).denominator == 1 for each in (stairs.first, 0, stairs.last))
    assert negative > 200
    assert ties > 50


def test_folding_points_decide_as_the_whole_domain_does():
    random = np.random.default_rng(1)
    for _ in range(150):
        stairs = random_stairs(random)
        if stairs.last - stairs.first > 600:
            continue
        whole = points_of(stairs)._replace(x=np.arange(stairs.first, stairs.last + 1), level=stairs.table())
        for shift in range(0, 16, 3):
            assert (at_shift(stairs, points_of(stairs), shift) is None) == (at_shift(stairs, whole, shift) is None)


def test_folding_by_thresholds_is_a_comparison():
    stairs = Stairs.of(0.37, -11.2, -500, 500, 0, 1)  # 1 from x = 33 on
    assert search(stairs) == Integers(1, -32, 0)
    falling = search(Stairs.of(-0.37, -11.2, -500, 500, 0, 1))
    assert (falling.shift, mismatches(Stairs.of(-0.37, -11.2, -500, 500, 0, 1), falling)) == (0, 0)
    assert search(Stairs.of(0.0, 2.5, -3, 3, 0, 3)).multiplier == 0


def test_folding_a_layer_has_one_shift_that_serves_all_channels():
    random = np.random.default_rng(2)
    channels = [Stairs.of(random.normal() / 40, random.normal(), -900, 900, 0, 15) for _ in range(40)]
    made = search_together(channels)
    assert len({one.shift for one in made}) == 1
    assert all(mismatches(stairs, one) == 0 for stairs, one in zip(channels, made, strict=True))
    assert made[0].shift >= max(search(stairs).shift for stairs in channels)
    alone = np.mean([rounded_alone(stairs) for stairs in channels])
    assert np.mean([search(stairs).shift for stairs in channels]) <= alone - 1


def test_folding_nearly_is_within_its_share_and_shorter():
    random = np.random.default_rng(3)
    stairs = Stairs.of(0.037123, 0.4991, -9000, 9000, 0, 255)
    x, counts = np.unique(np.round(random.normal(0, 900, 20_000)).astype(int), return_counts=True)
    made = search_nearly(stairs, x, counts, 0.01)
    exact = np.array([stairs.at(int(each)) for each in x])
    apart = np.abs(np.clip((made.multiplier * x + made.offset) >> made.shift, 0, 255) - exact)
    assert apart.max() <= 1
    assert 0 <= counts[apart > 0].sum() <= 0.01 * counts.sum()
    assert made.shift < search(stairs).shift


def test_folding_by_any_divisor_needs_no_more_than_by_a_power_of_two():
    stairs = Stairs.of(1 / 3, 0.5, -60, 60, 0, 15)
    assert smallest_divisor(stairs) == 3 or smallest_divisor(stairs) < 2 ** search(stairs).shift
    assert smallest_divisor(stairs, 1) is None


def test_folding_a_channel_that_is_the_same_everywhere_multiplies_by_nothing():
    """As of weights that are all 0: whatever its slope, its A is no larger for the layer's shift."""
    dead, other = Stairs.of(512.3, 4.25, 0, 0, 0, 15), Stairs.of(1 / 3, 0.5, -60, 60, 0, 15)
    below = Stairs.of(-700.1, -3.0, 5, 90, 0, 15)
    assert search(dead) == Integers(0, 4, 0)
    made = search_together([dead, other, below])
    assert [made[0].multiplier, made[2].multiplier] == [0, 0]
    assert [mismatches(*each) for each in zip([dead, other, below], made, strict=True)] == [0, 0, 0]


def test_folding_widths_by_hand():
    assert accumulator_bits((-8, 7), Integers(3, 1, 2)) == 6  # -23: five bits and a sign
    with pytest.raises(UserError, match="not finite; look for NaN"):
        Stairs.of(float("nan"), 0.0, 0, 1, 0, 1)
