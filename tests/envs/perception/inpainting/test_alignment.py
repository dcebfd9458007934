"""The shift of features against translations that are known, a plain twin, and what is not to be followed."""

import pytest
import torch

from envs.perception.inpainting.alignment import Alignment, Flows, checked, inconsistent, reversed_flow, shifted
from envs.perception.warp import flow_at, inside


def constant(x, y, batch=1, pairs=2, size=(6, 8)):
    return torch.tensor([float(x), float(y)]).view(1, 1, 2, 1, 1).expand((batch, pairs, 2, *size))


def translating(x, y, generator, length=3, size=(6, 8), channels=8):
    """Features that move by (x, y) a frame, and their flows."""
    wide = torch.rand(channels, size[0] + 40, size[1] + 40, generator=generator)
    frames = [wide[:, 20 - y * t : 20 - y * t + size[0], 20 - x * t : 20 - x * t + size[1]] for t in range(length)]
    pairs = length - 1
    return torch.stack(frames)[None], checked(constant(x, y, 1, pairs, size), constant(-x, -y, 1, pairs, size))


@pytest.mark.parametrize("velocity", [(0, 0), (2, 0), (0, -1), (-3, 2)])
def test_what_moves_evenly_is_brought_home(velocity, generator):
    features, flows = translating(*velocity, generator)
    found = shifted(features, Alignment(flows), 4)
    # Everywhere inside of the clip both neighbours show the same thing, or the frame's own is kept: so nothing changes.
    torch.testing.assert_close(found[:, :-1, :2], features[:, :-1, :2])
    torch.testing.assert_close(found[:, 1:, 2:4], features[:, 1:, 2:4])
    assert torch.equal(found[:, :, 4:], features[:, :, 4:])
    assert not found[:, -1, :2].any()  # the ends, as in the code
    assert not found[:, 0, 2:4].any()
    kept = shifted(features, Alignment(flows), 4, own_at_ends=True)
    torch.testing.assert_close(kept, features)
    if any(velocity):  # the wrong way round it is no translation undone
        turned = Flows(flows.backward, flows.forward, flows.backward_invalid, flows.forward_invalid)
        assert not torch.allclose(shifted(features, Alignment(turned), 4)[:, 1:, 2:4], features[:, 1:, 2:4], atol=0.05)


def test_the_plain_shift_by_hand():
    features = torch.arange(24.0).view(1, 3, 8, 1, 1)
    found = shifted(features, None, 4).flatten(2)[0].tolist()
    assert found[0] == [8.0, 9.0, 0.0, 0.0, 4.0, 5.0, 6.0, 7.0]
    assert found[1] == [16.0, 17.0, 2.0, 3.0, 12.0, 13.0, 14.0, 15.0]
    assert found[2] == [0.0, 0.0, 10.0, 11.0, 20.0, 21.0, 22.0, 23.0]
    causal = shifted(features, None, 4, causal=True, own_at_ends=True).flatten(2)[0].tolist()
    assert causal[0] == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    assert causal[2][:4] == [16.0, 17.0, 10.0, 11.0]
    assert torch.equal(shifted(features[:, :1], None, 4, own_at_ends=True), features[:, :1])  # a clip of one frame


def test_invalid_flow_is_not_followed_and_each_side_has_its_own_mask(generator):
    features = torch.rand(1, 2, 8, 4, 4, generator=generator)
    still = torch.zeros(1, 1, 2, 4, 4)
    left, right = (torch.zeros(1, 1, 1, 4, 4, dtype=torch.bool) for _ in range(2))
    left[..., 0, 0] = True
    right[..., 3, 3] = True
    found = shifted(features, Alignment(Flows(still, still, left, right)), 4)
    assert torch.equal(found[0, 0, :2, 0, 0], features[0, 0, :2, 0, 0])
    assert torch.equal(found[0, 0, :2, 3, 3], features[0, 1, :2, 3, 3])
    assert torch.equal(found[0, 1, 2:4, 0, 0], features[0, 0, 2:4, 0, 0])
    assert torch.equal(found[0, 1, 2:4, 3, 3], features[0, 1, 2:4, 3, 3])


def test_a_feature_that_sums_to_zero_is_no_border():
    features = torch.ones(1, 2, 8, 3, 3)
    features[:, 1, 0], features[:, 1, 1] = 1.0, -1.0
    still = torch.zeros(1, 1, 2, 3, 3)
    found = shifted(features, Alignment(checked(still, still)), 4)
    assert torch.equal(found[0, 0, :2], features[0, 1, :2])


def test_flow_at_other_sizes_is_in_their_pixels():
    alignment = Alignment(checked(constant(4, -2, 2, 1, (8, 16)), constant(-4, 2, 2, 1, (8, 16))))
    flow, followed = alignment.at("forward", (4, 4))
    assert flow.shape == (2, 2, 4, 4)
    assert torch.equal(flow[:, 0], torch.full((2, 4, 4), 1.0))
    assert torch.equal(flow[:, 1], torch.full((2, 4, 4), -1.0))
    assert followed[0, 0].tolist() == [[False] * 4] + [[True] * 3 + [False]] * 3
    assert alignment.at("forward", (4, 4))[0] is flow
    assert flow_at(flow, (4, 4)) is flow


def test_where_flow_leads_out_of_the_picture():
    flow = torch.zeros(1, 2, 3, 3)
    flow[0, 0, 1, 2], flow[0, 0, 1, 0], flow[0, 1, 2, 1], flow[0, 1, 0, 0] = 0.5, -1.0, 0.1, 2.0
    assert (~inside(flow))[0, 0].tolist() == [[False] * 3, [True, False, True], [False, True, False]]


def test_forth_and_back_have_to_agree():
    there, back = torch.zeros(1, 2, 4, 6), torch.zeros(1, 2, 4, 6)
    there[:, 0], back[:, 0] = 2.0, -2.0
    assert not inconsistent(there, back, 1.0)[..., :4].any()
    back[0, 0, 1, 3] = 0.0  # whoever arrives at column 3 does not come home
    wrong = inconsistent(there, back, 1.0)[0, 0, :, :4]
    assert wrong.nonzero().tolist() == [[1, 1]]
    assert not inconsistent(there, back, 2.0)[0, 0, 1, 1]


def test_the_way_home():
    flow = torch.zeros(1, 2, 4, 6)
    flow[:, 0] = 2.0
    home = reversed_flow(flow)
    assert torch.equal(home[0, 0], torch.full((4, 6), -2.0))
    assert not inconsistent(flow, home, 0.1).any()
    thing = torch.zeros(1, 2, 4, 6)
    thing[0, 0, 1, 3] = -2.0  # a pixel of something that came two pixels from the left, over ground at rest
    home = reversed_flow(thing)
    assert home[0, 0, 1, 1].item() == 1.0  # two lead there: their mean
    wrong = inconsistent(thing, home, 0.9)[0, 0]
    assert wrong.nonzero().tolist() == [[1, 1], [1, 3]]
    far = torch.full((1, 2, 4, 6), 50.0)
    assert torch.equal(reversed_flow(far), -far)  # nothing leads anywhere
