"""Feature map distortion: masks, sizes and wiring by hand, and a network that is left as it was."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from judged import classifier
from torch import nn

from envs.evaluation.catalogue import EVALUATIONS
from envs.evaluation.recipe import policy_base, same_bits
from envs.evaluation.regularization import disout
from envs.evaluation.regularization.distortion import Distortion, kept_mask, relative_size, response
from envs.evaluation.regularization.gap import measure_gap
from envs.evaluation.subject import Subject
from envs.evaluation.transform import apply
from rlsuite.errors import UserError
from rlsuite.fit import FitConfig, fit
from rlsuite.methods import choose
from rlsuite.nn.plain import PlainPolicyConfig, build_plain_policy
from rlsuite.running.seeding import derive_seed


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 7), st.integers(1, 9), st.integers(1, 9), st.integers(0, 99))
def test_a_mask_is_squares_around_its_seeds(block, height, width, seed):
    like = torch.zeros(2, 3, height, width)
    mask = kept_mask(like, 0.3, block, seeded(seed))
    side = min(block, height, width)
    rows, columns = height - side + 1, width - side + 1
    rate = 0.3 * height * width / side**2 / (rows * columns)
    begins = torch.rand((2, 3, rows, columns), generator=seeded(seed)) < rate
    expected = torch.ones_like(like)
    for one, channel, row, column in begins.nonzero().tolist():
        expected[one, channel, row : row + side, column : column + side] = 0.0
    assert torch.equal(mask, expected)


@pytest.mark.parametrize(("probability", "block"), [(0.09, 6), (0.15, 3), (0.3, 1)])
def test_the_share_distorted_is_what_overlapping_blocks_leave(probability, block):
    mask = kept_mask(torch.zeros(4000, 1, 16, 16), probability, block, seeded())
    rate = probability * 256 / block**2 / (17 - block) ** 2
    reach = torch.tensor([min(i, 16 - block) - max(0, i - block + 1) + 1 for i in range(16)], dtype=torch.float64)
    seeds = reach[:, None] * reach  # how many blocks could cover a pixel
    expected = 1.0 - (1.0 - rate) ** seeds
    assert float(1.0 - mask.mean()) == pytest.approx(float(expected.mean()), rel=0.03)
    assert float(expected.mean()) == pytest.approx(probability, rel=0.1)
    assert float((1.0 - mask[..., 0, 0]).mean()) == pytest.approx(float(expected[0, 0]), abs=5 * (0.3 / 4000) ** 0.5)


def test_a_block_as_large_as_the_map_is_one_decision_a_channel():
    for side in (5, 6):
        mask = kept_mask(torch.zeros(300, 4, side, side), 0.25, 6, seeded())
        assert torch.equal(mask.amin((2, 3)), mask.amax((2, 3)))
        assert float(1.0 - mask.mean()) == pytest.approx(0.25, abs=0.05)


def test_the_next_layers_response_by_hand():
    weight = torch.tensor([[[[1.0, -3.0]], [[2.0, 2.0]]], [[[-1.0, -4.0]], [[5.0, 0.0]]]])  # (2, 2, 1, 2)
    # The largest of any output, place by place: channel 0 has 1 and -3, channel 1 has 5 and 2.
    possible = [{2.0, -1.0, 1.0, -2.0}, {3.5, 1.5, -1.5, -3.5}]
    found = torch.stack([response(weight, seeded(seed)) for seed in range(60)])
    for channel in range(2):
        assert set(found[:, channel].tolist()) == possible[channel]
    pointwise = torch.tensor([[0.5, -2.0], [0.25, -1.0]])
    assert response(pointwise[..., None, None], seeded()).abs().tolist() == pytest.approx([0.05, 0.1])
    assert response(pointwise, seeded()).abs().tolist() == [0.5, 1.0]  # a linear layer is not scaled down


def test_relative_size_is_the_mean_square_of_responses():
    weight = torch.randn(5, 4, 3, 3, generator=seeded())
    generator = seeded(1)
    squares = torch.stack([response(weight, generator) for _ in range(4000)]).square().mean()
    assert relative_size(weight, 3.0) == pytest.approx(3.0 * float(squares.sqrt()), rel=0.05)
    assert relative_size(None, 5.0) == pytest.approx(0.05)


def distortion(alpha, next_weight=None, probability=0.4, seed=3):
    return Distortion(probability, alpha, 2, next_weight, seeded(seed))


def test_zero_alpha_is_dropblock_bit_for_bit_and_masks_are_in_the_same_places():
    maps = torch.randn(6, 3, 5, 5, generator=seeded(1)) + 2.0
    mask = kept_mask(maps, torch.tensor(0.4), 2, seeded(3))
    dropped = distortion(0.0)(maps)
    assert torch.equal(dropped, maps * mask / mask.mean())
    distorted = distortion(5.0)(maps)
    kept = mask.bool()
    assert torch.equal(distorted[kept], dropped[kept])
    assert (distorted[~kept] != 0).all()
    # Without a next layer w is 0.01: what stands in place of features has alpha 0.01 of their deviation.
    noise = distorted[~kept] * mask.mean()
    assert float(noise.std() / maps.std()) == pytest.approx(0.05, rel=0.2)


def test_distortions_go_with_the_next_layers_weights_and_carry_no_gradient_to_them():
    layer = nn.Conv2d(3, 4, 3)
    maps = torch.randn(6, 3, 5, 5, generator=seeded(1), requires_grad=True)
    mask = kept_mask(maps, 0.4, 2, seeded(3))
    before = distortion(5.0, lambda: layer.weight)(maps)
    with torch.no_grad():
        layer.weight.mul_(2.0)
    after = distortion(5.0, lambda: layer.weight)(maps)
    assert torch.allclose(after * (1 - mask), 2.0 * before * (1 - mask))
    assert torch.equal(after * mask, before * mask)
    after.sum().backward()
    assert layer.weight.grad is None
    assert torch.allclose(maps.grad, mask / mask.mean())  # none through the deviation either


def test_everything_masked_is_finite():
    layer = Distortion(1.0, 1.0, 1, None, seeded())
    assert layer(torch.randn(3, 4, generator=seeded())).isfinite().all()


def test_evaluation_passes_everything_and_the_schedule_is_saved():
    layer, inputs = distortion(5.0), torch.randn(2, 3)
    layer.set_probability(0.0)
    assert torch.equal(layer(inputs), inputs)
    layer.set_probability(0.25)
    assert layer.eval()(inputs) is inputs
    fresh = distortion(5.0, probability=0.0)
    fresh.load_state_dict(layer.state_dict())
    assert float(fresh.probability) == 0.25


def method(**numbers):
    numbers = {"teach.fit.steps": 8, "teach.fit.batch_size": 16, "teach.rounds": 1, **numbers}
    return choose(EVALUATIONS, ["disout"], {f"disout.{key}": value for key, value in numbers.items()})[0]


def test_probability_grows_along_a_line(monkeypatch):
    seen, set_probability = [], Distortion.set_probability

    def watched(self, probability):
        seen.append(probability)
        set_probability(self, probability)

    monkeypatch.setattr(Distortion, "set_probability", watched)
    apply(method(probability=0.4), classifier(), 0)
    assert seen == pytest.approx([0.4 * step / 8 for step in range(9)])


def test_the_plan_is_the_last_stage_and_what_comes_next():
    subject = classifier()  # maps of 4x4 and 2x2, then linear layers of 16 and 8 features
    assert method().build().plan(subject) == {"next": {"body.3": "body.6"}}
    named = method(layers=["body.*"]).build().plan(subject)
    assert named == {"next": {"body.1": "body.3", "body.3": "body.6", "body.6": "head"}}
    with pytest.raises(UserError, match=r"layers=\['tail'\]: no such layer; there are body.1, body.3, body.6, head"):
        method(layers=["tail"]).build().plan(subject)
    policy = PlainPolicyConfig(observation_size=3, action_size=2, hidden_sizes=(5, 4))
    linear = Subject(build_plain_policy(policy), torch.zeros(1, 3), subject.task, policy_base(policy))
    assert method().build().plan(linear) == {"next": {"layers.0": "layers.2", "layers.2": "layers.4"}}


def test_shortcuts_are_passed_over_and_groups_taken_apart():
    blocks = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(1, 6, 1))
    called = disout.calls(blocks[:2], torch.zeros(1, 1, 4, 4))
    shortcut = disout.Call("shortcut", 1, 4, 16, True, False)
    assert disout.next_of([called[0], shortcut, called[1]], "0") == "1"
    assert disout.next_of(called, "1") is None
    grouped = nn.Conv2d(4, 6, 3, groups=2)
    weight = disout._taken_in(grouped)
    assert weight.shape == (3, 4, 3, 3)
    assert torch.equal(weight[2, 1], grouped.weight[2, 1])  # of the first group, its last output
    assert torch.equal(weight[0, 2], grouped.weight[3, 0])  # of the second


def test_what_is_kept_is_the_plain_network():
    subject, chosen = classifier(), method(alpha=0.0)
    made = apply(chosen, subject, 0)
    assert json.loads(json.dumps(made.recipe[-1].plan)) == {"next": {"body.3": "body.6"}}
    assert list(made.module.state_dict()) == list(subject.module.state_dict())
    assert not any(part._forward_hooks for part in made.module.modules())
    # Without any probability it is plain learning, bit for bit.
    plain = subject.copy()
    teaching = chosen.config.teach.fit

    def loss(network, batch):
        return {"loss": subject.task.loss(network, batch).mean()}

    none = apply(method(probability=0.0), subject, 0).module.state_dict()
    fit(plain, loss, subject.task.source("train"), teaching, seed=derive_seed(0, "fit 0"))
    assert all(same_bits(value, none[name]) for name, value in plain.state_dict().items())
    distorted = apply(method(probability=0.5), subject, 0).module.state_dict()
    assert not same_bits(distorted["head.weight"], none["head.weight"])


def test_errors_on_what_was_learned_and_on_what_was_not():
    subject = classifier()
    found = measure_gap(subject, examples=10)
    for part in ("train", "test"):
        batch = subject.task.source(part).examples(torch.arange(10))
        with torch.no_grad():
            assert found[f"{part}_error"] == pytest.approx(float(subject.task.loss(subject.module, batch).mean()))
    assert method().build().figures(subject).keys() == found.keys()


@pytest.mark.parametrize("wrong", [{"probability": 1.0}, {"probability": -0.1}, {"alpha": -1.0}, {"block": 0}])
def test_wrong_numbers_are_refused(wrong):
    (name,) = wrong
    with pytest.raises(UserError, match=f"{name}"):
        disout.DisoutConfig(**wrong)
    assert isinstance(disout.DisoutConfig().teach.fit, FitConfig)
