"""Attacks by gradients and without: closed forms, bounds, and which is stronger."""

import importlib.util
import itertools

import hypothesis
import hypothesis.strategies as st
import pytest
import torch
from judged import QUICK, classifier, stripes
from torch import nn
from torch.nn import functional

from envs.evaluation.attacks.ascend import adam_steps, ascend, momentum_steps, sign_steps
from envs.evaluation.attacks.attack import averaged, inside, signs
from envs.evaluation.attacks.gradient import FGSM, PGD, PGDConfig
from envs.evaluation.attacks.momentum import MIFGSM, MIFGSMConfig
from envs.evaluation.attacks.noise import Noise, NoiseConfig
from envs.evaluation.catalogue import EVALUATIONS
from envs.evaluation.transform import teach
from rlsuite.errors import UserError
from rlsuite.methods import choose

NAMES = [name for name in EVALUATIONS if name.startswith("attacks/")]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def linear(seed=0, features=6, classes=2):
    torch.manual_seed(seed)
    return nn.Linear(features, classes).double()


def cross_entropy(module, label):
    return lambda x: functional.cross_entropy(module(x), label, reduction="none")


@pytest.mark.parametrize("attack", [FGSM(), PGD(), MIFGSM()], ids=lambda attack: type(attack).__name__)
def test_on_a_linear_classifier_the_worst_change_is_known(attack):
    """Two classes: the loss grows with (w_other - w_true) x, so the corner by its signs is the worst of the ball."""
    module, x = linear(), torch.randn(5, 6, dtype=torch.float64, generator=seeded())
    label = torch.tensor([0, 1, 1, 0, 1])
    changed = attack.perturb(cross_entropy(module, label), x, None, 0.3, seeded())
    direction = module.weight[1 - label] - module.weight[label]
    assert torch.allclose(changed, x + 0.3 * direction.sign(), atol=1e-12)
    objective = cross_entropy(module, label)
    corners = torch.tensor(list(itertools.product((-0.3, 0.3), repeat=6)), dtype=torch.float64)
    best = torch.stack([objective(x + corner) for corner in corners]).amax(0)
    assert torch.allclose(objective(changed), best)


@pytest.mark.parametrize("name", NAMES)
@hypothesis.settings(max_examples=6)
@hypothesis.given(eps=st.floats(0.0, 1.5), seed=st.integers(0, 100))
def test_no_attack_leaves_ball_or_box(name, eps, seed):
    (method,) = choose(EVALUATIONS, [name])
    subject = classifier(seed)
    x = torch.rand(3, 1, 8, 8, generator=seeded(seed))
    objective = cross_entropy(subject.module, torch.tensor([0, 1, 0]))
    changed = method.build().perturb(objective, x, (0.0, 1.0), eps, seeded(seed))
    again = method.build().perturb(objective, x, (0.0, 1.0), eps, seeded(seed))
    assert torch.equal(changed, again)
    assert 0.0 <= float(changed.min()) <= float(changed.max()) <= 1.0
    assert float((changed - x).abs().max()) <= eps + 1e-6
    assert not changed.requires_grad
    if eps == 0:
        assert changed is x


def test_rows_do_not_see_each_other():
    subject = classifier()
    x, label = torch.rand(4, 1, 8, 8, generator=seeded()), torch.tensor([0, 1, 0, 1])
    attack = PGD(config=PGDConfig(random_start=False))
    whole = attack.perturb(cross_entropy(subject.module, label), x, (0.0, 1.0), 0.1, seeded())
    one = attack.perturb(cross_entropy(subject.module, label[2:3]), x[2:3], (0.0, 1.0), 0.1, seeded())
    assert torch.allclose(whole[2:3], one, atol=1e-6)


def test_gradients_are_followed_inside_no_grad():
    module, x = linear(), torch.randn(2, 6, dtype=torch.float64, generator=seeded())
    with torch.no_grad():
        changed = PGD().perturb(cross_entropy(module, torch.tensor([0, 1])), x, None, 0.1, seeded())
    assert torch.allclose((changed - x).abs(), torch.full_like(x, 0.1))
    assert module.weight.grad is None


@pytest.mark.parametrize("attack", [FGSM(), MIFGSM(), PGD(config=PGDConfig(random_start=False))])
def test_flat_ground_is_left(attack):
    """|x' - x|^2 has no slope at x; the farthest corner is eps away in every entry."""
    x = torch.randn(3, 4, generator=seeded())
    changed = attack.perturb(lambda other: (other - x).square().sum(1), x, None, 0.2, seeded())
    assert torch.allclose((changed - x).abs(), torch.full_like(x, 0.2), atol=1e-6)


def test_the_best_visited_is_kept_and_nan_never():
    """Steps of 1 from 0 on a bump at 1: up to it, then past it, then where there is no number."""

    def bump(value):
        height = -(value - 1.0).square().sum(1)
        return torch.where(value[:, 0] > 2.5, torch.nan, height)

    found = ascend(bump, torch.zeros(1, 1), lambda gradient: torch.ones(1, 1), lambda value: value, steps=4)
    assert found.value.item() == 1.0
    assert found.objective.item() == 0.0


def test_adam_is_torchs_uphill():
    """The objective is minus a loss that torch's own Adam lowers by the same steps."""
    start = torch.randn(2, 5, dtype=torch.float64, generator=seeded())
    curve = torch.rand(2, 5, dtype=torch.float64, generator=seeded(1)) + 0.1
    theirs = nn.Parameter(start.clone())
    optimizer = torch.optim.Adam([theirs], lr=0.05)
    for _ in range(7):
        optimizer.zero_grad()
        (curve * (theirs - 3.0).square()).sum().backward()
        optimizer.step()
    objective = lambda value: -(curve * (value - 3.0).square()).sum(1)  # noqa: E731
    ours = ascend(objective, start, adam_steps(0.05), lambda value: value, steps=7)
    assert torch.allclose(ours.value, theirs.detach(), atol=1e-9)


def test_momentum_by_hand():
    """Gradients 2 and then -1 a row, decay 1: means of magnitudes make them 1 and -1; the sum is 1, then 0."""
    move = momentum_steps(0.1, 1.0)
    assert torch.allclose(move(torch.full((1, 2), 2.0)), torch.full((1, 2), 0.1))
    assert torch.equal(move(torch.full((1, 2), -1.0)), torch.zeros(1, 2))
    assert torch.allclose(move(torch.tensor([[3.0, -3.0]])), torch.tensor([[0.1, -0.1]]))
    assert torch.equal(sign_steps(0.5)(torch.tensor([-2.0, 0.0])), torch.tensor([-0.5, 0.0]))


def test_without_momentum_it_is_pgd_from_the_input():
    subject = classifier()
    x, label = torch.rand(4, 1, 8, 8, generator=seeded()), torch.tensor([0, 1, 0, 1])
    objective = cross_entropy(subject.module, label)
    plain = PGD(config=PGDConfig(steps=5, step_share=0.2, random_start=False))
    momentum = MIFGSM(config=MIFGSMConfig(steps=5, decay=0.0))
    one, other = (attack.perturb(objective, x, (0.0, 1.0), 0.1, seeded()) for attack in (plain, momentum))
    assert torch.allclose(one, other, atol=1e-6)


def test_more_restarts_are_no_worse():
    subject = classifier()
    x, label = torch.rand(8, 1, 8, 8, generator=seeded()), torch.arange(8) % 2
    objective = cross_entropy(subject.module, label)
    found = [
        objective(PGD(config=PGDConfig(steps=2, restarts=count)).perturb(objective, x, (0.0, 1.0), 0.2, seeded()))
        for count in (1, 4)
    ]
    assert (found[1] >= found[0] - 1e-6).all()
    assert (found[1] > found[0] + 1e-6).any()


def test_noise_is_as_large_as_it_says():
    x = torch.zeros(2, 1000)
    noise = Noise().perturb(lambda x: x.sum(1), x, None, 0.5, seeded())
    assert torch.equal(noise.abs(), torch.full_like(x, 0.5))
    assert abs(float(noise.mean())) < 0.05
    uniform = Noise(config=NoiseConfig(kind="uniform")).perturb(lambda x: x.sum(1), x, None, 0.5, seeded())
    assert 0.4 < float(uniform.abs().max()) <= 0.5
    assert abs(float(uniform.abs().mean()) - 0.25) < 0.02
    assert not Noise().white_box
    assert PGD().white_box
    assert set(signs(x, seeded()).unique().tolist()) == {-1.0, 1.0}


def test_inside_takes_the_nearest():
    x = torch.tensor([[0.0, 0.5, 1.0]])
    assert torch.allclose(inside(x + torch.tensor([[-1.0, 0.1, 0.1]]), x, (0.0, 1.0), 0.2), torch.tensor([[0, 0.6, 1]]))


def test_a_random_objective_is_averaged():
    """A coin that flips the slope: one draw says nothing, the mean of a thousand knows the way."""
    generator = seeded()
    coin = lambda x: (1.1 + signs(torch.zeros(1), generator)).item() * x.sum(1) - 1.0 * x.sum(1)  # noqa: E731
    x = torch.zeros(1, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(averaged(coin, 1000)(x).sum(), x)
    assert torch.allclose(gradient, torch.full((1, 3), 0.1), atol=0.1)


@pytest.mark.parametrize(
    "key", ["pgd.steps=0", "pgd.restarts=0", "pgd.step_share=-1", "mi_fgsm.steps=0", "noise.kind=x"]
)
def test_wrong_numbers_are_refused(key):
    name, _, value = key.partition("=")
    value = value if value == "x" else int(value)
    with pytest.raises(UserError, match=name.partition(".")[2]):
        choose(EVALUATIONS, [name.partition(".")[0]], {name: value})


@pytest.fixture(scope="module")
def taught():
    subject = classifier()
    teach(subject, QUICK, 0)
    return subject


def success(module, x, label):
    with torch.no_grad():
        return float((module(x).argmax(1) != label).double().mean())


def test_stronger_attacks_break_more(taught):
    batch = taught.task.source("test").tensors
    x, label = batch["input"], batch["label"]
    objective = cross_entropy(taught.module, label)
    broken = {
        name: success(taught.module, attack.perturb(objective, x, (0.0, 1.0), 0.25, seeded()), label)
        for name, attack in {"noise": Noise(), "fgsm": FGSM(), "pgd": PGD()}.items()
    }
    assert broken["noise"] < broken["fgsm"] <= broken["pgd"] + 0.01
    everything = PGD(config=PGDConfig(steps=20, restarts=5)).perturb(objective, x, (0.0, 1.0), 1.0, seeded())
    assert success(taught.module, everything, label) == 1.0


@pytest.mark.skipif(importlib.util.find_spec("torchattacks") is None, reason="torchattacks is not installed")
@pytest.mark.parametrize("eps", [0.1, 0.2, 0.25])
def test_success_of_pgd_is_torchattacks(taught, eps):
    import torchattacks

    batch = stripes(400, 3).tensors
    x, label = batch["input"], batch["label"]
    theirs = torchattacks.PGD(taught.module, eps=eps, alpha=eps / 4, steps=10, random_start=True)(x, label)
    ours = PGD().perturb(cross_entropy(taught.module, label), x, (0.0, 1.0), eps, seeded())
    assert abs(success(taught.module, ours, label) - success(taught.module, theirs, label)) <= 0.02
