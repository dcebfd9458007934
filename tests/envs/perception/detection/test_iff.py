"""Feedback of predictions: at zero it is nothing, gradients through both passes, its diagnosis."""

import pytest
import torch
from torch import nn

from envs.perception.detection.dense import DenseHead
from envs.perception.detection.iff import IFF, PUBLISHED, IFFConfig
from rlsuite.errors import UserError

CHANNELS, CLASSES = 8, 3


@pytest.fixture
def features(generator):
    return torch.randn(2, CHANNELS, 8, 8, generator=generator)


def wrapped(config, levels=1):
    torch.manual_seed(0)
    head = DenseHead(CHANNELS, CLASSES, 2)
    return head, IFF(head, CHANNELS, (CLASSES, 4), config, levels, seed=1)


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("mode", ["add", "mul"])
def test_a_feedback_that_begins_at_zero_changes_no_bit(features, mode):
    head, iff = wrapped(IFFConfig(init="zero", mode=mode, iterations=2))
    assert same(iff(features), head(features))
    head, iff = wrapped(IFFConfig(iterations=0))
    assert same(iff(features), head(features))
    assert sum(one.numel() for one in iff.parameters()) == sum(one.numel() for one in head.parameters())


def test_one_round_by_hand(features):
    head, iff = wrapped(IFFConfig())
    first = torch.cat(head(features), dim=1)
    filtered = features + iff.back[0](torch.where(first > 0, first, 0.01 * first))
    assert same(iff(features), head(filtered))
    again = features + iff.back[0](nn.LeakyReLU(0.01)(torch.cat(head(filtered), dim=1)))
    _, twice = wrapped(IFFConfig(iterations=2))
    assert same(twice(features), head(again))  # what comes back is added to the first features, not to the last


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_published_forms_add_so_many_parameters(features, name):
    config = PUBLISHED[name]
    head, iff = wrapped(config, levels=2)
    fed = CLASSES + (0 if config.feeds == "classes" else 4)
    each = fed * CHANNELS * config.kernel**2 + CHANNELS * config.bias
    extra = sum(one.numel() for one in iff.parameters()) - sum(one.numel() for one in head.parameters())
    assert extra == each * (2 if config.separate else 1)
    assert not same(iff(features, 0), head(features))
    assert same(iff(features, 0), iff(features, 1)) != config.separate


def test_gradients_come_through_both_passes(features):
    def gradient(config):
        head, iff = wrapped(config)
        torch.cat(iff(features), dim=1).square().sum().backward()
        found = dict(head.named_parameters())["towers.0.0.0.weight"].grad
        assert found is not None
        return found

    whole, cut = gradient(IFFConfig(init="default")), gradient(IFFConfig(init="default", detach=True))
    assert whole.abs().sum() > 0
    assert cut.abs().sum() > 0
    assert not torch.allclose(whole, cut)


def test_features_are_fed_back_through_as_many_weights(features):
    head, control = wrapped(IFFConfig(source="features"))
    _, iff = wrapped(IFFConfig())
    assert [one.shape for one in control.back.parameters()] == [one.shape for one in iff.back.parameters()]
    towers = head.features(features)
    given = torch.cat([towers[0][:, :CLASSES], towers[1][:, :4]], dim=1)
    assert same(control(features), head(features + control.back[0](nn.LeakyReLU(0.01)(given))))
    assert len(control.passes(features)) == 1
    assert len(iff.passes(features)) == 2


def test_a_light_first_pass_never_runs_the_head(features):
    head, iff = wrapped(IFFConfig(light=True))
    runs = []
    head.register_forward_hook(lambda *_: runs.append(0))
    assert [one.shape[1] for one in iff(features)] == [CLASSES, 4]
    assert len(runs) == 1


class Echo(nn.Module):
    """A head that says its features: the first channel is its only class."""

    def forward(self, features):
        return [features]


def test_diagnosis_by_hand():
    """Feedback of minus half the features on cells of objects, and of a quarter elsewhere."""
    iff = IFF(Echo(), 1, (1,), IFFConfig(act="none", kernel=1, bias=False))
    objects = torch.zeros(1, 8, 8, dtype=torch.bool)
    objects[:, :4, :4] = True
    features = torch.where(objects, 2.0, -1.0).unsqueeze(1)
    with torch.no_grad():
        iff.back[0].get_parameter("weight").fill_(-0.25)
    found = {name: value.tolist() for name, value in iff.diagnose(features, objects).items()}
    assert found["ratio"] == pytest.approx(0.25)
    assert found["cosine_background"] == pytest.approx(-1.0)
    assert found["background"] == found["objects"] == pytest.approx(0.75)
    power = torch.tensor(found["spectrum"])
    assert float(power[0, 0]) == pytest.approx(16.0**2)  # the three windows without objects are even
    assert float(power.sum() - power[0, 0]) == pytest.approx(0.0, abs=1e-6)
    assert torch.tensor(found["spectrum_filtered"])[0, 0] == pytest.approx(144.0)


def test_what_is_refused(features):
    with pytest.raises(UserError, match="no features"):
        IFF(Echo(), 1, (1,), IFFConfig(source="features"))
    with pytest.raises(UserError, match="nothing is fed back"):
        wrapped(IFFConfig(iterations=0))[1].diagnose(features, torch.zeros(2, 8, 8, dtype=torch.bool))
    with pytest.raises(UserError, match="act=tanh"):
        IFFConfig(act="tanh")
