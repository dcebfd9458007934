"""GRED: gradients and features by hand, the walk, detectors against scikit-learn, and attacks that know of it."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from judged import classifier, stripes
from torch import nn
from torch.nn import functional

from envs.evaluation.attacks.deepfool import DeepFool
from envs.evaluation.attacks.euclidean import climb, lengths, noise
from envs.evaluation.catalogue import EVALUATIONS
from envs.evaluation.defences.gred import GRED, GREDConfig
from envs.evaluation.defences.guard import Guarded, hidden_objective, walk
from envs.evaluation.defences.sensitivity import (
    FEATURES,
    Logistic,
    blurred,
    directions,
    features,
    laplacian,
    sensitivity,
    slopes,
)
from envs.evaluation.tasks import ClassifierTask
from envs.evaluation.transform import TeachConfig, apply, check_traits, teach
from rlsuite.data.arrays import Arrays
from rlsuite.errors import UserError
from rlsuite.fit import FitConfig
from rlsuite.methods import choose
from rlsuite.metrics.ranking import separation
from rlsuite.optim.choice import OptimizerConfig


class Linear(nn.Module):
    """Two classes of 2 x 2 pictures: the sum of the pixels against a number."""

    def __init__(self, scale=1.0, shift=0.0, border=2.0):
        super().__init__()
        self.scale, self.shift, self.border = scale, shift, border

    def forward(self, x):
        lead = self.scale * (x.flatten(1).sum(1) - self.border)
        return torch.stack([-lead, lead], dim=1) + self.shift


class Times(nn.Module):
    """Outputs times a number."""

    def __init__(self, scale):
        super().__init__()
        self.scale = scale

    def forward(self, output):
        return self.scale * output


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_gradient_is_for_the_class_that_is_said():
    """Cross-entropy at the class said, of leads l and -l: slope 2 (1 - p) of the lead, away from that class."""
    x = torch.tensor([0.6, 0.4]).view(2, 1, 1, 1).expand(2, 1, 2, 2).clone()  # sums 2.4 and 1.6
    other = 1.0 - torch.sigmoid(torch.tensor(0.8))
    found = slopes(Linear(), x)
    assert found[0].flatten().tolist() == pytest.approx([-2.0 * float(other)] * 4)
    assert found[1].flatten().tolist() == pytest.approx([2.0 * float(other)] * 4)
    assert sensitivity(Linear(), x).tolist() == pytest.approx([4.0 * float(other)] * 2)
    assert torch.allclose(slopes(Linear(shift=7.0), x), found)  # a constant on all outputs says nothing
    nearer = torch.full((1, 1, 2, 2), 0.51)
    assert float(sensitivity(Linear(), nearer)) > float(sensitivity(Linear(), x)[0])


def test_a_saturated_softmax_leaves_the_leads_direction():
    x = torch.full((1, 1, 2, 2), 0.9)
    assert directions(Linear(scale=1e4), x).flatten().tolist() == pytest.approx([-0.5] * 4)
    assert torch.count_nonzero(slopes(Linear(scale=1e4), x)) == 0
    found = walk(Linear(scale=1e4), torch.full((1, 1, 2, 2), 0.51), torch.tensor([True]), steps=1, step=0.1)
    assert float(found.sum()) == pytest.approx(2.04 - 0.4)


def test_the_surer_the_network_the_smaller_the_score():
    """Pictures 0.6, 0.65, ..., 1 lead by 10 to 50: slope 50 / (1 + exp(lead)), which falls below 1e-12 on the way."""
    x = torch.linspace(0.6, 1.0, 9).view(9, 1, 1, 1).expand(9, 1, 2, 2).clone()
    module = Linear(scale=12.5)
    found = sensitivity(module, x)
    assert found[:4].tolist() == pytest.approx([50.0 * math.exp(-lead) for lead in (10, 15, 20, 25)], rel=1e-3)
    assert (found[1:] < found[:-1]).all()
    guard = Guarded(module, detector="threshold")
    with torch.no_grad():
        score = guard.suspicion(x)
    assert (score[1:] <= score[:-1]).all()
    assert float(score[-1]) == pytest.approx(math.log(1e-12))
    column = dict(zip(FEATURES, features(module, x, torch.zeros(())).unbind(1), strict=True))
    for name in ("log norm", "log l1 norm", "variance"):
        assert (column[name][1:] <= column[name][:-1]).all(), name


def test_shapes_of_gradients_do_not_depend_on_their_size():
    """Two classes, the outputs times 1 and times 1e4, where the softmax is saturated."""
    x = torch.rand(5, 1, 6, 6, generator=generator())
    linear = nn.Linear(36, 2)
    mild, sure = (features(nn.Sequential(nn.Flatten(), linear, Times(k)), x, torch.zeros(())) for k in (1.0, 1e4))
    assert (sure[:, 0] < mild[:, 0] - 10).any()
    for name in ("skewness", "kurtosis", "beyond three deviations", "top energy"):
        column = FEATURES.index(name)
        assert torch.allclose(mild[:, column], sure[:, column], rtol=1e-3, atol=1e-4), name


def test_features_by_hand():
    x = torch.rand(5, 1, 6, 6, generator=generator())
    module = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    found = features(module, x, torch.tensor(0.5))
    assert found.shape == (5, len(FEATURES))
    column = dict(zip(FEATURES, found.unbind(1), strict=True))
    slope = slopes(module, x).flatten(1).double().numpy()
    assert np.allclose(column["log norm"].exp(), np.linalg.norm(slope, axis=1), rtol=1e-4)
    assert np.allclose(column["variance"], slope.var(1), rtol=1e-4)
    stats = pytest.importorskip("scipy.stats")
    assert np.allclose(column["skewness"], stats.skew(slope, axis=1), atol=1e-4)
    assert np.allclose(column["kurtosis"], stats.kurtosis(slope, axis=1, fisher=False), rtol=1e-4)
    assert np.allclose(column["top energy"], (slope**2).max(1) / (slope**2).sum(1), rtol=1e-4)  # 1 of 36
    assert torch.allclose(column["two-sided"], (column["log norm"] - 0.5).abs())
    said = module(x).softmax(1).detach()
    assert torch.allclose(column["confidence"], said.amax(1))
    assert torch.allclose(column["from three bits"], (x - (x * 7).round() / 7).abs().mean((1, 2, 3)), atol=1e-6)
    changed = module((x * 7).round() / 7).softmax(1).detach()
    assert torch.allclose(column["three bits' change"], (said - changed).abs().sum(1), atol=1e-6)


def test_filters_are_scipys():
    ndimage = pytest.importorskip("scipy.ndimage")
    x = torch.rand(2, 3, 7, 9, generator=generator()).double()
    edges = np.stack([[ndimage.laplace(p) for p in row] for row in x.numpy()])
    assert np.allclose(laplacian(x), edges[:, :, 1:-1, 1:-1])
    smooth = [[ndimage.gaussian_filter(p, 1.0, truncate=2.0, mode="nearest") for p in row] for row in x.numpy()]
    assert np.allclose(blurred(x), np.stack(smooth))


def test_the_walk_crosses_the_border_and_two_half_steps_more():
    """Each step of 0.1 moves the sum by 0.2: from 2.3 it is over 2 after two, and then 0.2 further."""
    x = torch.full((3, 1, 2, 2), 2.3 / 4)
    found = walk(Linear(), x, torch.tensor([True, False, True]), steps=40, step=0.1)
    assert found.flatten(1).sum(1).tolist() == pytest.approx([1.7, 2.3, 1.7], abs=1e-5)
    assert torch.equal(found[1], x[1])
    everyone = torch.ones(3, dtype=torch.bool)
    assert torch.equal(walk(Linear(), x, everyone, steps=0, step=0.1), x)
    assert torch.equal(walk(Linear(), x, everyone, steps=1, step=0.1), x)  # it meets no border
    far = walk(Linear(border=0.05), torch.full((1, 1, 2, 2), 0.1), torch.tensor([True]), steps=40, step=0.3)
    assert float(far.min()) >= 0.0
    # The usual length is 0.006 times the root of four.
    usual = walk(Linear(), torch.full((1, 1, 2, 2), 0.5025), torch.tensor([True]))
    assert float(usual.sum()) == pytest.approx(2.01 - 2 * 0.012 * 2, abs=1e-5)


def test_euclidean_attacks_stay_in_their_ball_and_reach_its_edge():
    module, x = Linear(), torch.full((4, 1, 2, 2), 0.55)
    label = torch.ones(4, dtype=torch.int64)

    def objective(at):
        return functional.cross_entropy(module(at), label, reduction="none")

    found = climb(objective, x, (0.0, 1.0), 0.3, generator())
    assert lengths(found - x).tolist() == pytest.approx([0.3] * 4, abs=1e-5)
    straight = 4 * 0.15  # as much of the sum as a change of this length can take away
    assert ((x - found).sum((1, 2, 3)) > 0.95 * straight).all()
    assert float(climb(objective, x, (0.0, 1.0), 5.0, generator()).min()) >= 0.0
    moved = noise(x, None, torch.tensor([0.1, 0.2, 0.3, 0.4]), generator())
    assert lengths(moved - x).tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4])


def test_separation_is_scikit_learns():
    metrics = pytest.importorskip("sklearn.metrics")
    negative, positive = (torch.randint(6, (n,), generator=generator(n)).float() for n in (13, 9))
    truth = np.r_[np.zeros(13), np.ones(9)]
    assert float(separation(negative, positive)) == pytest.approx(
        metrics.roc_auc_score(truth, torch.cat([negative, positive]))
    )
    assert float(separation(torch.zeros(3), torch.ones(2))) == 1.0
    assert math.isnan(float(separation(torch.zeros(3), torch.ones(0))))


def test_the_logistic_regression_is_scikit_learns():
    linear = pytest.importorskip("sklearn.linear_model")
    values = torch.randn(60, 4, generator=generator()) * torch.tensor([1.0, 5.0, 0.1, 2.0]) + 3.0
    positive = values[:, 0] + 0.3 * torch.randn(60, generator=generator(1)) > 3.5
    ours = Logistic(4)
    ours.learn(values, positive, 0.01)
    standard = ((values - values.mean(0)) / values.std(0, correction=0)).numpy()
    peer = linear.LogisticRegression(C=1.0 / (0.01 * 60), class_weight="balanced", tol=1e-10, max_iter=1000)
    peer.fit(standard, positive.numpy())
    assert np.allclose(ours.weight, peer.coef_[0], rtol=1e-3, atol=1e-3)
    assert np.allclose(ours(values), peer.decision_function(standard), rtol=1e-3, atol=2e-3)


@pytest.fixture(scope="module")
def taught():
    subject = classifier()
    optimizer = OptimizerConfig(learning_rate=1e-2)
    teach(subject, TeachConfig(fit=FitConfig(steps=100, batch_size=32, optimizer=optimizer), rounds=1), 0)
    return subject


def guarded(subject, **numbers):
    numbers = {"clean": 120, "attacked": 60, **numbers}
    return apply(choose(EVALUATIONS, ["gred"], {f"gred.{k}": v for k, v in numbers.items()})[0], subject, seed=1)


def test_small_attacks_are_noticed_and_taken_back(taught):
    guard = guarded(taught, detector="threshold").module
    clean = taught.task.source("test").tensors["input"]
    label = taught.task.source("test").tensors["label"]
    changed = DeepFool().least(taught.module, clean, label, (0.0, 1.0))
    right = (taught.module(clean).argmax(1) == label) & (taught.module(changed).argmax(1) != label)
    assert right.float().mean() > 0.4
    changed = changed[right]
    verdict = guard.inspect(changed)
    assert float(separation(guard.inspect(clean[right]).score, verdict.score)) > 0.9
    flagged = verdict.flagged
    assert flagged.float().mean() > 0.5
    assert (verdict.repaired_label[flagged] == label[right][flagged]).float().mean() > 0.9
    assert torch.equal(verdict.repaired[~flagged], changed[~flagged])
    assert torch.equal(guard(changed).argmax(1), verdict.repaired_label)
    # The classifier inside is the one that was given.
    for one, other in zip(guard.network.parameters(), taught.module.parameters(), strict=True):
        assert torch.equal(one, other)


def test_clean_inputs_are_flagged_about_as_often_as_asked(taught):
    for detector in ("threshold", "learned"):
        guard = guarded(taught, detector=detector, clean=256, attacked=20, false_positives=0.2).module
        fresh = stripes(400, 9).tensors["input"]
        count = int(guard.inspect(fresh).flagged.sum())
        # Both the quantile, of 128, and the count, of 400, are chance: four deviations of them together.
        width = 4 * math.sqrt(0.2 * 0.8 * (1 / 128 + 1 / 400))
        assert abs(count / 400 - 0.2) < width, detector


def test_the_threshold_is_a_quantile_of_validation_inputs(taught):
    """The quantile itself, for inputs that the network does not know and that are unlike those it learned from."""
    faint = Arrays({"input": 0.5 * stripes(50, 7).tensors["input"], "label": stripes(50, 7).tensors["label"]})
    sources = [taught.task.source(part) for part in ("train", "test")]
    task = ClassifierTask(*sources, num_classes=2, validation=faint)
    for detector in ("threshold", "learned"):
        numbers = {"detector": detector, "clean": 120, "attacked": 20, "false_positives": 0.2}
        guard = guarded(dataclasses.replace(taught, task=task), **numbers).module
        score = guard.inspect(faint.tensors["input"]).score
        assert float(guard.threshold) == pytest.approx(float(score.quantile(0.8)), rel=1e-5)
        assert int((score > guard.threshold).sum()) == 10, detector
        assert float(guarded(taught, **numbers).module.threshold) != float(guard.threshold)


def test_attacks_see_through_the_repair_and_can_hide(taught):
    guard = guarded(taught, detector="threshold").module
    clean = taught.task.source("test").tensors["input"][:20]
    label = taught.task.source("test").tensors["label"][:20]
    changed = DeepFool().least(taught.module, clean, label, (0.0, 1.0))
    leaf = changed.clone().requires_grad_()
    (through,) = torch.autograd.grad(guard(leaf).square().sum(), leaf)
    repaired = guard.inspect(changed).repaired.requires_grad_()
    (there,) = torch.autograd.grad(taught.module(repaired).square().sum(), repaired)
    assert torch.allclose(through, there, atol=1e-5)  # the repair is passed as if it were not there
    for detector in ("threshold", "learned"):
        guard.detector = detector
        found = climb(hidden_objective(guard, label, 1.0), clean, (0.0, 1.0), 0.5, generator(), steps=5)
        plain = climb(hidden_objective(guard, label, 0.0), clean, (0.0, 1.0), 0.5, generator(), steps=5)
        assert guard.suspicion(found).mean() <= guard.suspicion(plain).mean() + 1e-6


def test_hidden_gradients_are_the_scores():
    """A double backward against differences of the score itself, in double precision."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    guard = Guarded(module, detector="learned").double()
    guard.logistic.weight.copy_(torch.linspace(-1, 1, len(FEATURES)))
    guard.logistic.weight[14] = 0.0  # rounding's own gradient is not what differences see
    guard.logistic.weight[16] = 0.0
    x = torch.rand(1, 1, 6, 6, generator=generator()).double()
    leaf = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(guard.suspicion(leaf, differentiable=True).sum(), leaf)
    way = torch.randn(x.shape, generator=generator(1)).double()
    step = 1e-6
    ahead, behind = (float(guard.suspicion(x + sign * step * way)) for sign in (1, -1))
    assert (ahead - behind) / (2 * step) == pytest.approx(float((found * way).sum()), rel=1e-3)


def test_the_learned_repair_learns(taught):
    teaching = TeachConfig(fit=FitConfig(steps=60, batch_size=32), rounds=1)
    made = guarded(taught, repair="learned", width=4, linf_eps=(0.2, 0.3), l2_eps=(), teach=teaching)
    source = taught.task.source("test").tensors
    right = taught.module(source["input"]).argmax(1) == source["label"]
    x, label = source["input"][right], source["label"][right]

    def objective(at):
        return functional.cross_entropy(taught.module(at), label, reduction="none")

    changed = climb(objective, x, (0.0, 1.0), 1.5, generator())
    wrong = taught.module(changed).argmax(1) != label
    with torch.no_grad():
        mended = taught.module(made.module.rectified(changed[wrong])).argmax(1) == label[wrong]
    assert wrong.float().mean() > 0.3
    assert mended.float().mean() > 0.5


def test_weights_that_were_frozen_stay_frozen(taught):
    subject = dataclasses.replace(taught, module=taught.copy())
    names = [name for name, _ in subject.module.named_parameters()]
    subject.module.get_parameter(names[0]).requires_grad_(False)
    teaching = TeachConfig(fit=FitConfig(steps=2, batch_size=8), rounds=1)
    guard = guarded(subject, repair="learned", width=4, clean=20, attacked=20, teach=teaching).module
    learning = [name for name, parameter in guard.network.named_parameters() if parameter.requires_grad]
    assert learning == names[1:]


def test_what_it_cannot_guard_is_refused(taught):
    with pytest.raises(UserError, match="the network is policy; it acts by numbers, not by classes"):
        check_traits(choose(EVALUATIONS, ["gred"]), frozenset({"policy"}))
    with pytest.raises(UserError, match="the network is guarded; one guard is enough"):
        check_traits(choose(EVALUATIONS, ["gred"]), frozenset({"guarded"}))
    flat = type("Subject", (), {"example": torch.zeros(1, 4), "output": lambda self: torch.zeros(1, 2)})()
    with pytest.raises(UserError, match="it tells no classes of pictures apart"):
        GRED(config=GREDConfig()).examine(flat)
    for plan in (None, {}, {"channels": 0}, {"channels": True}, {"channels": "1"}):
        with pytest.raises(UserError, match="its plan is damaged"):
            GRED(config=GREDConfig()).rebuild(nn.Identity(), plan)


def test_wrong_numbers_are_refused():
    for change in ({"detector": "cnn"}, {"repair": "none"}, {"steps": -1}, {"false_positives": 0.0}, {"clean": 1}):
        with pytest.raises(UserError, match=next(iter(change))):
            GREDConfig(**change)
