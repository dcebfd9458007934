"""Light non-local blocks: the product by hand, both orders, MACs by rule and by count."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from rlsuite.errors import UserError
from rlsuite.nn.light_nonlocal import LightNonLocal, NonLocal, compare, compared_channels, light_macs, product_macs


@pytest.mark.parametrize("size", [(4, 4), (5, 3), (1, 7)])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_product_against_loops_in_both_orders(size, stride):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(2, 6, *size, generator=generator, dtype=torch.float64)
    height, width = size
    wanted = torch.zeros_like(inputs)
    for row in range(height):
        for column in range(width):
            for other_row in range(0, height, stride):
                for other_column in range(0, width, stride):
                    pair = (inputs[:, :2, row, column] * inputs[:, :2, other_row, other_column]).sum(1, keepdim=True)
                    wanted[:, :, row, column] += pair * inputs[:, :, other_row, other_column] / (height * width)
    for order in ("pairwise", "channel", ""):
        torch.testing.assert_close(compare(inputs, 2, stride, order), wanted)


def test_macs_by_hand_and_by_count():
    # 16 channels, 16 x 16: the figures that the text of the block's page names.
    assert NonLocal(16).macs(16, 16) == 1_179_648
    assert LightNonLocal(16, 0.25, 1).macs(16, 16) == 69_632
    assert LightNonLocal(16, 0.25, 2).macs(16, 16) == 57_344
    for block, size in ((NonLocal(6), (5, 7)), (LightNonLocal(8, 0.5, 2), (5, 7)), (LightNonLocal(64, 0.5), (3, 3))):
        channels = block.channels
        with FlopCounterMode(display=False) as counter:
            block(torch.zeros(1, channels, *size))
        assert counter.get_total_flops() // 2 == block.macs(*size)
    assert product_macs(64, 32, 3, 3, 1) == (9 * 9 * 96, 18 * 64 * 32)  # here pairs are cheaper


# The paper's networks: expansion, channels, stride, kernel, ratio (0: no block), its stride, squeeze-excitation.
AUTONL_S = (
    *((1, 16, 1, 3, 0, 1, 0), (3, 24, 2, 3, 0.25, 1, 0), (3, 24, 1, 3, 0, 1, 0), (3, 40, 2, 5, 0.25, 1, 0)),
    *(
        (3, 40, 1, 3, 0.25, 2, 0),
        (3, 40, 1, 3, 0, 1, 0),
        (6, 80, 2, 5, 0.25, 1, 0.25),
        *2 * ((3, 80, 1, 3, 0, 1, 0.5),),
    ),
    *((6, 96, 1, 5, 0.25, 1, 0.25), *3 * ((3, 96, 1, 3, 0, 1, 0.5),), (6, 192, 2, 5, 0.25, 1, 0.25)),
    *(*3 * ((3, 192, 1, 5, 0, 1, 0.5),), (6, 320, 1, 5, 0.25, 1, 0.5)),
)
AUTONL_L = (
    *((1, 16, 1, 3, 0, 1, 0), (3, 24, 2, 5, 0.25, 1, 0), (3, 24, 1, 5, 0, 1, 0), (3, 24, 1, 3, 0.25, 2, 0)),
    *((6, 40, 2, 5, 0.25, 1, 0), *3 * ((3, 40, 1, 3, 0.25, 2, 0),), (6, 80, 2, 5, 0.25, 1, 0)),
    *(*2 * ((3, 80, 1, 3, 0, 1, 0.5),), (3, 80, 1, 3, 0.125, 2, 0.5), (6, 96, 1, 5, 0.25, 1, 0.5)),
    *(*2 * ((3, 96, 1, 5, 0, 1, 0.5),), (3, 96, 1, 3, 0.25, 2, 0.5), (6, 192, 2, 5, 0.25, 1, 0.5)),
    *(*2 * ((6, 192, 1, 5, 0.125, 1, 0.5),), (6, 192, 1, 5, 0, 1, 0.5), (6, 320, 1, 5, 0.25, 1, 0.5)),
)


@pytest.mark.parametrize(("rows", "published"), [(AUTONL_S, 267e6), (AUTONL_L, 353e6)])
def test_the_papers_networks_have_the_macs_it_tells(rows, published):
    """Pictures of 224 pixels, a stem of 32 channels, a head of 1,280, 1,000 classes."""
    side, inputs, macs = 112, 32, 27 * 32 * 112 * 112
    for expansion, outputs, stride, kernel, ratio, sampling, squeezed in rows:
        hidden, after = expansion * inputs, side // stride
        macs += inputs * hidden * side * side if expansion > 1 else 0
        macs += (kernel * kernel * hidden + hidden * outputs) * after * after
        macs += 2 * hidden * round(squeezed * inputs)
        if ratio:
            macs += light_macs(outputs, compared_channels(outputs, ratio), after, after, sampling)
        side, inputs = after, outputs
    macs += inputs * 1280 * side * side + 1280 * 1000
    assert side == 7
    assert macs == pytest.approx(published, rel=0.005)


def test_blocks_begin_as_the_identity_and_learn():
    for block in (NonLocal(8), LightNonLocal(8), LightNonLocal(8, 0.5, 2, normalization="group")):
        inputs = torch.randn(4, 8, 5, 5)
        assert torch.equal(block(inputs), inputs)
        block(inputs).square().sum().backward()
        assert block.normalization.weight.grad.abs().sum() > 0


def test_every_pixel_sees_every_other():
    block = LightNonLocal(4, 1.0).eval()
    torch.nn.init.ones_(block.normalization.weight)
    inputs = torch.randn(1, 4, 6, 6, requires_grad=True)
    block(inputs)[0, :, 0, 0].sum().backward()
    assert inputs.grad[0, :, 5, 5].abs().sum() > 0


def test_wrong_numbers_are_refused():
    for ratio, stride in ((0.0, 1), (1.5, 1), (0.5, 0)):
        with pytest.raises(UserError):
            LightNonLocal(8, ratio, stride)
    with pytest.raises(UserError, match="normalization=batches: use batch, group; did you mean 'batch'"):
        LightNonLocal(8, normalization="batches")
