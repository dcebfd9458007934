"""Invariance, its bound and what raises it: by hand, over random discrete worlds, on a corner that tells too much."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from judged import classifier
from pixel_environment import PixelEnv
from torch import nn

from envs.evaluation.catalogue import EVALUATIONS
from envs.evaluation.policy_task import PolicyTask
from envs.evaluation.regularization.decorrelate import decorrelating, effective_share
from envs.evaluation.regularization.factors import FACTORS, Camera, Texture, Tint, Uneven, factors_of
from envs.evaluation.regularization.invariance import (
    action_distance,
    bound,
    distance_of,
    invariance,
    label_flips,
    of_outputs,
    sensitivity,
    total_variation,
)
from envs.evaluation.regularization.itid import Focus, ITIDConfig, enhance, levels_shown, mixed, recorded_weights
from envs.evaluation.regularization.shifted import ShiftedObservation, shifted_score
from envs.evaluation.subject import Subject
from envs.evaluation.tasks import ClassifierTask, DenseTask
from envs.evaluation.transform import TeachConfig, apply
from rlsuite.data.arrays import Arrays
from rlsuite.errors import UserError
from rlsuite.fit import FitConfig
from rlsuite.methods import choose
from rlsuite.optim.choice import OptimizerConfig


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# -- factors ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FACTORS)
@pytest.mark.parametrize("shape", [(5, 6, 7, 9), (3, 1, 8, 8)])
def test_factors_keep_shape_and_box_and_vanish_with_their_width(name, shape):
    (factor,) = factors_of([name])
    pictures = torch.rand(shape, generator=seeded())
    changed = factor.apply(pictures, factor.draw(pictures, 0.4, seeded(1)))
    assert changed.shape == shape
    assert 0.0 <= float(changed.min()) <= float(changed.max()) <= 1.0
    assert not torch.equal(changed, pictures)
    assert torch.equal(changed, factor.apply(pictures, factor.draw(pictures, 0.4, seeded(1))))
    assert torch.allclose(factor.apply(pictures, factor.draw(pictures, 0.0, seeded(1))), pictures)
    if name != "camera":
        bright = torch.full(shape, 0.5)
        assert float((factor.apply(bright, factor.draw(bright, 0.4, seeded(2))) - 0.5).abs().max()) <= 0.4 + 1e-6


def test_factors_by_hand():
    picture = torch.arange(9.0).view(1, 1, 3, 3) / 10
    moved = Camera().apply(picture, torch.tensor([[1.0, -1.0]]))  # one down, one to the left
    assert moved[0, 0].mul(10).round().tolist() == [[1, 2, 2], [1, 2, 2], [4, 5, 5]]
    stacked = torch.full((1, 6, 1, 1), 0.5)
    tinted = Tint().apply(stacked, torch.tensor([[0.2, 0.0, -0.5]]))
    assert tinted.flatten().tolist() == pytest.approx([0.6, 0.5, 0.25] * 2)  # both pictures of the stack alike
    striped = Texture().apply(torch.full((1, 1, 1, 4), 0.5), torch.tensor([[0.3, 1.0, 0.0, 0.0]]))
    assert striped.flatten().tolist() == pytest.approx([0.5, 0.8, 0.5, 0.2])  # one wave across
    lit = Uneven().apply(torch.full((1, 3, 5, 5), 0.5), Uneven().draw(torch.zeros(1, 3, 5, 5), 0.2, seeded()))
    assert float(lit.min()) == pytest.approx(0.3)
    assert float(lit.max()) == pytest.approx(0.7)
    with pytest.raises(UserError, match="unknown factor 'tnt'; did you mean 'tint'"):
        factors_of(["tnt"])
    with pytest.raises(UserError, match=r"unknown factor 'zzz'; there are [a-z, ]*$"):
        factors_of(["zzz"])


# -- invariance --------------------------------------------------------------------------------------------------


class Level:
    """A factor that fills whole pictures with 0 or 1."""

    name = "level"

    def draw(self, pictures, width, generator=None):
        return torch.randint(2, (len(pictures), 1), generator=generator).float()

    def apply(self, pictures, z):
        return z[:, :, None, None].expand_as(pictures).clone()


class Reads(nn.Module):
    """Logits that are sure of the class that the first pixel names."""

    def forward(self, pictures):
        first = pictures[:, 0, 0, 0]
        return 40.0 * torch.stack([1.0 - first, first], 1)


def test_a_constant_is_invariant_and_what_reads_only_the_factor_is_not():
    pictures = torch.rand(200, 1, 2, 2, generator=seeded())

    def constant(inputs):
        return torch.zeros(len(inputs), 3)

    module = nn.Module()
    module.forward = constant
    assert invariance(module, pictures, Level(), 1.0, total_variation, seeded()) == (1.0, 0.0, 0.0)
    found = invariance(Reads(), pictures, Level(), 1.0, total_variation, seeded())
    assert found.mean == pytest.approx(0.5, abs=0.03)
    assert found.worst == pytest.approx(1.0 - 2 / 2**8, abs=0.02)
    assert 0.0 < found.stderr < 0.02


def test_pairs_by_hand():
    outputs = torch.tensor([[[0.0], [1.0]], [[0.0], [0.0]], [[0.4], [-1.0]]])  # three values, two states
    found = of_outputs(outputs, action_distance(torch.tensor([1.0])), seeded())
    # Halves of differences: state 0 has 0, 0.2, 0.2; state 1 has 0.5, 1, 0.5.
    assert found.mean == pytest.approx(1.0 - (0.4 / 3 + 2.0 / 3) / 2)
    assert found.worst == pytest.approx((0.2 + 1.0) / 2)
    apart = action_distance(torch.tensor([2.0, 1.0]))(torch.tensor([-2.0, -1.0]), torch.tensor([2.0, 1.0]))
    assert float(apart) == pytest.approx(1.0)  # across the whole range
    logits = torch.tensor([[0.0, 0.0], [2.0, 2.0]]), torch.tensor([[0.0, torch.inf], [2.0, 1.0]])
    logits = logits[0], logits[1].clamp_max(50.0)
    assert total_variation(*logits).tolist() == pytest.approx([0.5, 0.2310586])
    assert label_flips(*logits).tolist() == [1.0, 0.0]


def test_sensitivity_is_of_other_labels_and_modes_come_back():
    states = torch.stack([torch.zeros(1, 2, 2), torch.ones(1, 2, 2)]).repeat(20, 1, 1, 1)
    labels = torch.arange(2).repeat(20)
    module = Reads().train()
    assert sensitivity(module, states, labels, total_variation, seeded()) == pytest.approx(1.0)
    assert module.training


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6))
def test_the_bound_holds_in_discrete_worlds(seed):
    """The error under any law of z is at most that under any other law, plus worst(h)."""
    generator = seeded(seed)
    states, values, classes = 4, 5, 3
    hypothesis = (3 * torch.randn(states, values, classes, generator=generator)).double()
    label = torch.randint(classes, (states,), generator=generator)
    of_states = torch.rand(states, generator=generator).double()
    of_states /= of_states.sum()
    laws = torch.rand(2, states, values, generator=generator).double() ** 4  # p(z | s), two of them
    laws /= laws.sum(2, keepdim=True)
    error = 1.0 - hypothesis.softmax(2).gather(2, label[:, None, None].expand(states, values, 1)).squeeze(2)
    trained, elsewhere = (float((of_states[:, None] * law * error).sum()) for law in laws)
    pairs = total_variation(hypothesis[:, :, None], hypothesis[:, None])  # (states, values, values)
    worst = float((of_states * pairs.amax((1, 2))).sum())
    assert elsewhere <= trained + worst + 1e-9
    assert bound(trained, worst, 100) == pytest.approx(trained + worst + (2.995732 / 200) ** 0.5, abs=1e-6)


# -- operators ----------------------------------------------------------------------------------------------------


def test_weights_make_nuisance_and_label_independent():
    generator = seeded()
    label = torch.randint(3, (2000,), generator=generator)
    nuisance = torch.where(
        torch.rand(2000, generator=generator) < 0.6, label, torch.randint(3, (2000,), generator=generator)
    )
    weights = decorrelating(nuisance, label, smoothing=0.0)
    joint = torch.zeros(3, 3, dtype=torch.float64).index_put_(
        (nuisance, label), weights[nuisance, label], accumulate=True
    )
    joint /= joint.sum()
    assert torch.allclose(joint, joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True), atol=1e-6)
    assert 0.2 < effective_share(weights[nuisance, label]) < 1.0
    assert effective_share(torch.tensor([1.0, 0.0, 1.0, 0.0])) == 0.5
    # Never seen together: smoothed, and clipped.
    apart = decorrelating(torch.tensor([0, 1] * 500), torch.tensor([0, 1] * 500))
    assert apart[0, 1] == 10.0
    assert apart[0, 0] == pytest.approx(0.25 / (501 / 1004), rel=1e-6)


def test_focus_turns_to_what_is_minded_and_widens_what_is_mastered():
    config = ITIDConfig(width=0.2, widest=0.21)
    focus = Focus(factors_of(["tint", "camera"]), config.width)
    assert focus.chances.tolist() == [0.5, 0.5]
    focus.turn_to([0.7, 0.96], config)
    shares = torch.tensor([3.0, 0.4], dtype=torch.float64).exp()
    assert focus.chances.tolist() == pytest.approx((shares / shares.sum()).tolist())
    assert focus.widths == [0.2, 0.21]
    focus.turn_to([0.7, 0.96], dataclasses.replace(config, temperature=1e6))
    assert focus.chances.tolist() == pytest.approx([0.5, 0.5], abs=1e-5)
    first = Focus(factors_of(["tint"]), config.width)
    first.turn_to([0.99], config, widen=False)  # before anything was learned
    assert first.widths == [0.2]


def test_interventions_are_of_a_share_and_of_one_factor():
    pictures = torch.full((4000, 3, 1, 4), 0.5)
    focus = Focus((Level(), Tint()), 0.2)
    focus.chances = torch.tensor([0.25, 0.75])
    found = focus.intervene(pictures, 0.4, seeded())
    same = (found == pictures).all(3).all(2).all(1)
    filled = ((found == 0) | (found == 1)).all(3).all(2).all(1)
    assert float(same.float().mean()) == pytest.approx(0.6, abs=0.03)
    assert float(filled.float().mean()) == pytest.approx(0.1, abs=0.02)
    assert torch.equal(focus.intervene(pictures, 0.0, seeded()), pictures)


def test_pictures_of_one_label_are_blended():
    labels = torch.arange(2).repeat(300)
    pictures = (labels * 0.5 + 0.25 * torch.rand(600, generator=seeded()))[:, None, None, None]
    found = mixed(pictures, labels, 1.0, seeded(1))
    assert ((found.flatten() >= 0.5) == (labels == 1)).all()
    assert float(found.var()) < float(pictures.var())
    assert float((mixed(pictures, labels, 0.3, seeded(2)) == pictures).float().mean()) == pytest.approx(0.7, abs=0.06)


class Corner:
    """The brightness of a corner, one of two."""

    name = "corner"

    def draw(self, pictures, width, generator=None):
        return torch.randint(2, (len(pictures), 1), generator=generator)

    def apply(self, pictures, z):
        found = pictures.clone()
        found[:, :, :3, :3] = z[:, :, None, None].to(pictures)
        return found


def telling(seed=0):
    """Stripes whose corner is the label's in 49 of 50 while learning, and anything in the test."""
    subject, sources = classifier(seed), {}
    for part, share in (("train", 0.98), ("test", 0.5)):
        whole = subject.task.source(part).tensors
        generator = seeded(3)
        corner = torch.where(
            torch.rand(len(whole["label"]), generator=generator) < share, whole["label"], 1 - whole["label"]
        )
        dim = 0.5 + 0.15 * (whole["input"] - 0.5)
        sources[part] = Arrays({**whole, "input": Corner().apply(dim, corner[:, None]), "corner": corner})
    return dataclasses.replace(subject, task=ClassifierTask(sources["train"], sources["test"], num_classes=2))


TEACH = TeachConfig(fit=FitConfig(steps=80, batch_size=64, optimizer=OptimizerConfig(learning_rate=1e-2)), rounds=1)


def test_drawing_the_corner_anew_is_what_makes_the_network_look_elsewhere():
    found = {}
    for name, own in {"plain": {"share": 0.0}, "drawn": {}, "weighted": {"share": 0.0, "recorded": "corner"}}.items():
        subject = telling()
        rounds = enhance(subject, (Corner(),), ITIDConfig(teach=TEACH, rounds=2, states=64, **own), 0)
        assert [list(row) for row in rounds] == [["invariance", "chance", "width"]] * 2
        assert rounds[0]["width"] == {"corner": 0.1}
        states = subject.task.source("test").tensors["input"]
        measured = invariance(subject.module, states, Corner(), 1.0, total_variation, seeded())
        found[name] = float(subject.task.score(subject.module, 0).mean()), measured.mean
    assert found["drawn"][0] > found["plain"][0] + 15.0
    assert found["drawn"][1] > found["plain"][1] + 0.2
    assert found["weighted"][1] > found["plain"][1]


def test_where_a_recorded_nuisance_is_drawn_anew_the_value_shown_counts():
    subject = telling()
    recorded = recorded_weights(subject, "corner", 0.0)
    shown = recorded_weights(subject, "corner", 0.5, (Corner(), 1.0, 0.5))
    # Of 100, 98 with the label's corner, half drawn anew: 74 have it, 26 not; 1/4 / 0.37 = 0.68, 1/4 / 0.13 = 1.92.
    assert recorded.diagonal().tolist() == pytest.approx([0.5, 0.5], abs=0.05)
    assert shown.diagonal().tolist() == pytest.approx([0.68, 0.68], abs=0.05)
    assert [float(shown[0, 1]), float(shown[1, 0])] == pytest.approx([1.92, 1.92], abs=0.2)

    _, drawn = Focus((Corner(),), 0.1).show(torch.rand(6, 3, 4, 4), 1.0, seeded())
    levels = levels_shown(torch.tensor([7] * 6), (drawn["corner"][0] & (torch.arange(6) < 4), drawn["corner"][1]))
    assert levels.tolist() == [*drawn["corner"][1][:4, 0].tolist(), 7, 7]
    config = ITIDConfig(teach=TEACH, rounds=1, states=64, recorded="corner", least_share=0.6)
    enhance(telling(), (Corner(),), config, 0)  # recorded alone, a tenth would count
    with pytest.raises(UserError, match="of the examples count"):
        enhance(telling(), (), dataclasses.replace(config, share=0.0), 0)
    sources = (subject.task.source("train"), subject.task.source("test"))
    tinted = Arrays({**sources[0].tensors, "tint": sources[0].tensors["corner"]})
    other = dataclasses.replace(subject, task=ClassifierTask(tinted, sources[1], num_classes=2))
    with pytest.raises(UserError, match=r"the factor 'tint' draws no whole numbers \(B, 1\); leave recorded= out"):
        recorded_weights(other, "tint", 0.0, (Tint(), 0.1, 0.5))


def test_a_report_has_invariances_and_a_score_elsewhere_and_the_file_the_rounds():
    numbers = {"factors": ["tint", "camera"], "rounds": 2, "states": 8, "widest": 0.2, "teach.rounds": 1}
    numbers |= {"teach.fit.steps": 4, "teach.fit.batch_size": 8}
    (method,) = choose(EVALUATIONS, ["itid"], {f"itid.{key}": value for key, value in numbers.items()})
    subject = classifier()
    made = apply(method, subject, 0)
    rounds = made.recipe[-1].plan["rounds"]
    assert all(sum(row["chance"].values()) == pytest.approx(1.0) for row in rounds)
    assert list(rounds[0]["invariance"]) == ["tint", "camera"]
    assert list(made.module.state_dict()) == list(subject.module.state_dict())
    found = method.build().figures(subject)
    assert list(found) == ["invariance_tint", "invariance_camera", "shifted_score"]
    assert 0.0 < found["invariance_camera"] < 1.0
    dense = dataclasses.replace(
        subject, task=DenseTask(*[subject.task.source("test")] * 2, metric=max, unit="", floor=0.0)
    )
    with pytest.raises(UserError, match="of classes and of actions"):
        method.build().examine(dense)
    acting = dataclasses.replace(subject, task=PolicyTask(PixelEnv, Acts(), episodes=2, states=2, num_envs=2))
    method.build().examine(acting)
    with pytest.raises(UserError, match=r"factors=\[\]: actions have no labels; use light, tint, texture, camera"):
        choose(EVALUATIONS, ["itid"], {"itid.factors": []})[0].build().examine(acting)


def test_weights_are_refused_where_they_cannot_help():
    subject = telling()
    with pytest.raises(UserError, match="recorded=lamp: examples have no 'lamp', only input, label, corner"):
        recorded_weights(subject, "lamp", 0.1)
    with pytest.raises(UserError, match=r"recorded=corner: .* of the examples count; name factors="):
        recorded_weights(subject, "corner", 0.9)


# -- environments ---------------------------------------------------------------------------------------------------


def test_every_episode_has_values_of_its_own_and_resumes():
    factors = factors_of(["tint", "light"])

    def shown():
        return ShiftedObservation(PixelEnv(3, length=3, shape=(3, 8, 8)), factors, (0.3, 0.1))

    env, actions = shown(), torch.zeros(3, 1)
    first = env.reset(seed=1)[0]
    assert first.dtype == torch.uint8
    assert len({row.numpy().tobytes() for row in first}) == 3
    within = env.step(actions)[0]
    assert torch.equal(within, first)  # what is there has not changed, and neither have the values
    state = env.state()
    final = env.step(actions)
    after = env.step(actions)
    assert torch.equal(final[4]["final_obs"], first)
    assert not torch.equal(after[0], first)
    other = shown()
    other.reset(seed=9)
    other.load_state(state)
    assert torch.equal(other.step(actions)[0], final[0])
    assert torch.equal(other.step(actions)[0], after[0])
    assert torch.equal(env.reset(seed=1)[0], first)
    with pytest.raises(UserError, match=r"not observations of \(4,\)"):
        ShiftedObservation(PixelEnv(2, shape=(4,)), factors, (0.1, 0.1))


class Acts(nn.Module):
    def forward(self, pictures):
        return pictures.float().flatten(1).mean(1, keepdim=True).clamp(-1, 1)


def test_scores_and_distances_go_with_the_task():
    task = PolicyTask(PixelEnv, Acts(), episodes=3, states=6, num_envs=2)
    assert shifted_score(task, Acts(), factors_of(["tint"]), [0.1], 0).tolist() == [0.0] * 3
    assert float(distance_of(task)(torch.tensor([1.0]), torch.tensor([-1.0]))) == 1.0
    subject = classifier()
    source = subject.task.source("test")
    plain = subject.task.score(subject.module, 0).mean()
    assert shifted_score(subject.task, subject.module, factors_of(["tint"]), [0.0], 0).mean() == plain
    dense = DenseTask(source, source, metric=lambda a, b: a, unit="dB", floor=0.0)
    with pytest.raises(UserError, match="of classes and of actions"):
        distance_of(dense)
    assert isinstance(subject, Subject)


WRONG = {"share": 1.5, "enough": -0.1, "width": 0.0, "widest": 0.05, "temperature": 0.0, "rounds": 0, "states": 0}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_numbers_are_refused(name):
    with pytest.raises(UserError, match=f"{name}"):
        ITIDConfig(**{name: WRONG[name]})
