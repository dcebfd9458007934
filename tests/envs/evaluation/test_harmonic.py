"""Harmonic light: fields without edges, their gradients, the search for the worst, and light on environments."""

import math

import pytest
import torch
from judged import classifier
from pixel_environment import PixelEnv
from torch.nn import functional

from envs.evaluation.attacks.fields import FAMILIES, FieldConfig, Fields, Light, stretched
from envs.evaluation.attacks.harmonic import HAAM, HAAMConfig
from envs.evaluation.attacks.light import HarmonicLight, LightConfig, worst_light
from rlsuite.errors import UserError
from rlsuite.metrics.pictures import edge_score

STENCIL = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]]).double()[None, None]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def laplacian(planes):
    return functional.conv2d(planes.double().flatten(0, 1).unsqueeze(1), STENCIL)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", [(64, 64), (32, 64)])
def test_fields_are_harmonic_and_span_the_range(family, size):
    fields = Fields(FieldConfig(families=(family,)), (1, *size))
    values = fields.values(fields.draw(32, seeded()))
    exact = family in ("power2", "power3")  # the stencil's first error is in fourth derivatives
    assert float(laplacian(values).abs().max()) < (1e-5 if exact else 1e-3)
    assert float(edge_score(values).max()) < 0.01
    assert torch.equal(values.amin((1, 2, 3)), -torch.ones(32))
    assert torch.equal(values.amax((1, 2, 3)), torch.ones(32))


def test_scaling_the_axes_apart_would_make_edges():
    """What the fields must not do: a stretched grid's second derivatives no longer cancel."""
    fields = Fields(FieldConfig(families=("sin",)), (1, 64, 64))
    light = fields.draw(8, seeded())
    fields.grid = torch.complex(fields.grid.real, 2.0 * fields.grid.imag)
    assert float(laplacian(fields.values(light)).abs().max()) > 3e-3


def test_a_field_by_hand():
    """sin of z itself, real part alone: sin(u) cosh(v)."""
    fields = Fields(FieldConfig(families=("sin",)), (1, 3, 5))
    light = Light(torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, 5, dtype=torch.float64))
    u = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0], dtype=torch.float64)
    v = torch.tensor([0.5, 0.0, -0.5], dtype=torch.float64)[:, None]
    expected = torch.sin(u) * torch.cosh(v)
    assert torch.allclose(fields.values(light)[0, 0], expected / (math.sin(1.0) * math.cosh(0.5)))
    light.numbers[0, 4] = math.pi / 2  # the imaginary part: cos(u) sinh(v)
    assert torch.allclose(fields.values(light)[0, 0], stretched((torch.cos(u) * torch.sinh(v))[None])[0])


def test_shift_scale_and_turn_by_hand():
    """power2 at w = s e^(i theta) z + c; the grid has one row, so z is real."""
    fields = Fields(FieldConfig(families=("power2",)), (1, 1, 5))
    numbers = torch.tensor([[0.3, 0.7, 0.2, -0.5, 0.4]], dtype=torch.float64)
    w = math.exp(0.3) * complex(math.cos(0.7), math.sin(0.7)) * torch.linspace(-1, 1, 5).double() + complex(0.2, -0.5)
    turned = math.cos(0.4) * (w**2).real + math.sin(0.4) * (w**2).imag
    found = fields.values(Light(torch.zeros(1, 1, dtype=torch.int64), numbers))
    assert torch.allclose(found[0, 0], stretched(turned[None, None])[0])


@pytest.mark.parametrize(("colour", "terms"), [("gray", 1), ("rgb", 3), ("rgb3", 2)])
def test_gradients_are_those_of_finite_differences(colour, terms):
    fields = Fields(FieldConfig(families=tuple(FAMILIES), colour=colour, terms=terms), (3, 4, 5))
    light = fields.draw(2, seeded(1))
    family, numbers = light.family, light.numbers.double().requires_grad_()
    weight = torch.randn(3, 4, 5, dtype=torch.float64, generator=seeded(2))
    assert torch.autograd.gradcheck(
        lambda numbers: (fields.values(Light(family, numbers)) * weight).sum((1, 2, 3)), numbers, atol=1e-4
    )


def test_colours():
    for colour, functions in {"gray": 1, "rgb": 1, "rgb3": 3}.items():
        fields = Fields(FieldConfig(colour=colour), (3, 12, 12))
        light = fields.draw(5, seeded())
        values = fields.values(light)
        assert light.family.shape == (5, functions)
        assert values.shape == (5, 3, 12, 12)
        assert float(values.abs().max()) <= 1.0
        same = [bool(torch.equal(values[:, 0], values[:, place])) for place in (1, 2)]
        assert same == [colour == "gray"] * 2
        if colour == "rgb":  # one field, so the channels are multiples of each other
            ratio = values[:, 1] / values[:, 0]
            assert float((ratio - ratio[:, :1, :1]).abs().max()) < 1e-3
        assert float(edge_score(values).max()) < 0.05


def test_light_multiplies_where_it_is_told_to():
    fields = Fields(FieldConfig(multiplicative=True), (1, 8, 8))
    picture = torch.zeros(1, 1, 8, 8)
    picture[..., 4:] = 0.5
    lit = fields.lit(picture, fields.draw(1, seeded()), 0.4)
    assert torch.equal(lit[..., :4], picture[..., :4])  # black stays black: no edge where clipping would bite
    assert float((lit - picture).abs().max()) <= 0.4 * 0.5 + 1e-6
    assert float((lit - picture).abs().max()) > 0.05


def test_same_seed_same_field_and_numbers_stay_in_bounds():
    fields = Fields(FieldConfig(colour="rgb", terms=2), (3, 8, 8))
    one, other, third = (fields.draw(4, seeded(seed)) for seed in (3, 3, 4))
    assert torch.equal(fields.values(one), fields.values(other))
    assert not torch.equal(fields.values(one), fields.values(third))
    assert torch.equal(fields.bounded(one.numbers), one.numbers)
    far = fields.bounded(one.numbers + 100.0)
    again = fields.values(Light(one.family, far))
    assert torch.isfinite(again).all()
    walked = fields.walk(one, 0.02, seeded())
    assert 0.0 < float((walked.numbers - one.numbers).abs().max()) < 0.2


def harm_of(subject, x):
    label = subject.module(x).argmax(1)
    return lambda changed: functional.cross_entropy(subject.module(changed), label, reduction="none")


def pictures(count=12):
    return torch.rand(count, 1, 8, 8, generator=seeded(7))


@pytest.mark.parametrize("mode", ["white_box", "black_box"])
def test_searching_finds_more_than_its_draws(mode):
    subject, x = classifier(), pictures()
    objective = harm_of(subject, x)
    few = HAAM(config=HAAMConfig(mode="white_box", draws=24, steps=0))
    attack = HAAM(config=HAAMConfig(mode=mode, draws=24, steps=20, queries=48))  # 24 draws, the same, in both
    drawn, found = (objective(one.perturb(objective, x, (0.0, 1.0), 0.3, seeded())) for one in (few, attack))
    assert (found >= drawn - 1e-6).all()
    assert (found > drawn + 1e-6).sum() >= 6
    assert attack.white_box is (mode == "white_box")


def test_a_black_box_takes_no_gradients_and_asks_as_often_as_it_says():
    subject, x = classifier(), pictures()
    asked, objective = [], harm_of(subject, x)

    def count(changed):
        assert not changed.requires_grad
        asked.append(len(changed))
        return objective(changed)

    HAAM(config=HAAMConfig(mode="black_box", queries=31)).perturb(count, x, (0.0, 1.0), 0.3, seeded())
    assert asked == [12] * 31


def test_universal_light_is_one_for_all():
    subject, x = classifier(), 0.5 + 0.0 * pictures()
    attack = HAAM(config=HAAMConfig(universal=True))
    changed = attack.perturb(harm_of(subject, x), x, (0.0, 1.0), 0.3, seeded())
    assert float((changed - x).abs().max()) == pytest.approx(0.3, abs=1e-6)
    assert torch.allclose(changed, changed[:1].expand_as(changed))


def test_states_are_refused():
    with pytest.raises(UserError, match="use attacks/pgd"):
        HAAM().perturb(lambda x: x.sum(1), torch.zeros(3, 5), None, 0.1, seeded())
    for wrong in ({"families": ()}, {"families": ("cos",)}, {"terms": 4}, {"colour": "blue"}, {"mode": "x"}):
        with pytest.raises(UserError, match=next(iter(wrong))):
            HAAMConfig(**wrong)


def play(env, steps, seed=0):
    observation, _ = env.reset(seed=seed)
    seen, finals = [observation], []
    for _ in range(steps):
        observation, _, _, _, info = env.step(torch.zeros(env.num_envs, 1))
        seen.append(observation)
        finals.append(info["final_obs"])
    return torch.stack(seen), torch.stack(finals)


@pytest.mark.parametrize("drift", [0.0, 0.02])
def test_light_of_episodes(drift):
    """Episodes of 3 steps in plain gray pictures: what is seen is gray + eps * field."""
    env = HarmonicLight(PixelEnv(2, length=3), LightConfig(eps=0.2, drift=drift))
    seen, finals = play(env, 5)
    change = seen.float() / 255.0 - 0.5
    assert seen.dtype == torch.uint8
    assert float(change.abs().max()) == pytest.approx(0.2, abs=1 / 255)
    assert not torch.equal(seen[0, 0], seen[0, 1])  # each environment has its own
    assert torch.equal(seen[0], seen[2]) is (drift == 0)  # it stands still within an episode, or moves
    assert not torch.equal(seen[2], seen[3])  # and is another in the next
    assert torch.equal(finals[2], seen[2]) is (drift == 0)  # the last picture of an episode is in its own light
    assert torch.equal(finals[0], seen[1])
    again, _ = play(env, 5)
    assert torch.equal(seen, again)
    assert not torch.equal(seen, play(env, 5, seed=1)[0])


@pytest.mark.parametrize("drift", [0.0, 0.02])
def test_light_resumes_bit_for_bit(drift):
    env = HarmonicLight(PixelEnv(2, length=3), LightConfig(drift=drift))
    play(env, 2)
    state, seen = env.state(), env.observation()
    ahead = [env.step(torch.zeros(2, 1))[0] for _ in range(5)]
    other = HarmonicLight(PixelEnv(2, length=3), LightConfig(drift=drift), seed=9)
    other.reset(seed=5)
    other.load_state(state)
    assert torch.equal(other.observation(), seen)
    assert torch.equal(torch.stack([other.step(torch.zeros(2, 1))[0] for _ in range(5)]), torch.stack(ahead))


def test_the_worst_light_of_an_episode():
    """A return that falls with the brightness of the first column: of the draws, the darkest one is found."""
    fields = Fields(FieldConfig(), (1, 8, 8))

    def returns(light):
        env = HarmonicLight(PixelEnv(2, length=3), LightConfig(), light=light)
        seen, _ = play(env, 4)
        assert torch.equal(seen[0], seen[4])  # one light, whatever ends
        return float(seen[..., 0].float().mean())

    light, earned = worst_light(returns, fields, 12, seeded())
    assert len(earned) == 12
    assert returns(light) == min(earned) < sum(earned) / 12
    with pytest.raises(UserError, match="light falls on pictures"):
        HarmonicLight(PixelEnv(2, shape=(4,)), LightConfig())
