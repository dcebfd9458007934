"""Adversarial losses by hand, both networks' shapes, and a pair that is taught, stopped and continued."""

import math

import pytest
import torch

from rlsuite.data.arrays import Arrays
from rlsuite.errors import UserError
from rlsuite.fit import FitConfig, fit
from rlsuite.generative.adversarial import KINDS, AdversarialConfig, discriminator_losses, generator_loss
from rlsuite.generative.networks import GenerativeConfig, make_networks
from rlsuite.generative.pair import Pair, PairConfig
from rlsuite.optim.choice import OptimizerConfig

REAL, MADE = torch.tensor([0.0, 2.0]), torch.tensor([-1.0, 1.0])


def softplus(value):
    return math.log(1 + math.exp(value))


@pytest.mark.parametrize(
    ("kind", "called_real", "called_made", "real_called_made"),
    [
        ("gan", (softplus(0) + softplus(-2)) / 2, (softplus(-1) + softplus(1)) / 2, (softplus(0) + softplus(2)) / 2),
        ("lsgan", (1 + 1) / 2, (0 + 4) / 2, (1 + 9) / 2),
        ("hinge", (1 + 0) / 2, (0 + 2) / 2, (1 + 3) / 2),
    ],
)
def test_losses_by_hand(kind, called_real, called_made, real_called_made):
    prior = torch.tensor(0.3)
    plain = discriminator_losses(AdversarialConfig(kind=kind), REAL, MADE, prior)
    assert float(plain["loss"]) == pytest.approx(called_real + called_made)
    assert float(plain["score"]) == 1.0
    found = discriminator_losses(AdversarialConfig(kind=f"pu_{kind}"), REAL, MADE, prior)
    bracket = called_made - 0.3 * real_called_made
    assert float(found["bracket"]) == pytest.approx(bracket)
    assert float(found["loss"]) == pytest.approx(0.3 * called_real + max(0.0, bracket))
    assert float(found["clamped"]) == float(bracket < 0)


def test_a_bracket_below_zero_has_no_gradient():
    real, made = torch.tensor([3.0], requires_grad=True), torch.tensor([-3.0], requires_grad=True)
    found = discriminator_losses(AdversarialConfig(kind="pu_gan"), real, made, torch.tensor(0.5))
    of_real, of_made = torch.autograd.grad(found["loss"], (real, made))
    assert float(found["clamped"]) == 1.0
    assert torch.equal(of_made, torch.zeros(1))
    assert of_real.tolist() == pytest.approx([-0.5 / (1 + math.exp(3.0))])  # of pi l+ alone


def test_generators_are_taught_as_ever():
    expected = {"gan": (softplus(1) + softplus(-1)) / 2, "lsgan": (4 + 0) / 2, "hinge": 0.0}
    for kind in KINDS:
        found = generator_loss(AdversarialConfig(kind=kind), MADE)
        assert float(found) == pytest.approx(expected[kind.removeprefix("pu_")])


def test_the_prior_rises_to_its_cap():
    def priors(**numbers):
        config = AdversarialConfig(**numbers)
        return [
            round(float(config.prior_at(torch.tensor(updates))), 6) for updates in (0, 9_999, 10_000, 20_000, 90_000)
        ]

    assert priors() == [0.3, 0.3, 0.4, 0.5, 0.6]
    assert priors(rise="fast") == [0.3, 0.3, 0.5, 0.6, 0.6]
    assert priors(rise="fixed", prior=0.7) == [0.7] * 5


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ({"kind": "wgan"}, "wgan"),
        ({"prior": 0.0}, "prior=0.0: use more than 0"),
        ({"prior": 1.0}, "less than 1"),
        ({"prior": 0.7}, "prior_cap=0.6: use at least prior=0.7"),
        ({"rise_every": 0}, "rise_every=0"),
    ],
)
def test_losses_refused(numbers, words):
    with pytest.raises(UserError, match=words):
        AdversarialConfig(**numbers)


@pytest.mark.parametrize(
    ("kind", "shape", "numbers"),
    [
        ("dense", (3,), {}),
        ("dcgan", (3, 32, 32), {"width": 4}),
        ("dcgan", (1, 8, 8), {"width": 4}),
        ("cnn", (3, 32, 32), {"spectral_norm": True}),
    ],
)
def test_networks_make_and_judge_examples(kind, shape, numbers):
    config = GenerativeConfig(kind=kind, latent=5, **numbers)
    generator, discriminator = make_networks(config, shape, seed=1)
    made = generator(torch.randn(2, 5))
    assert made.shape == (2, *shape)
    assert float(made.detach().abs().max()) <= 1.0
    assert discriminator(made).shape == (2,)
    made_again = make_networks(config, shape, seed=1)
    fresh = make_networks(config, shape, seed=1)
    for one, two in zip(made_again, fresh, strict=True):  # whatever torch's own generator has drawn between
        assert all(torch.equal(value, two.state_dict()[name]) for name, value in one.state_dict().items())
    again, _ = made_again
    other, _ = make_networks(config, shape, seed=2)
    first, second, third = (next(module.parameters()) for module in (generator, again, other))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


def test_the_papers_sizes():
    generator, discriminator = make_networks(GenerativeConfig(), (3, 64, 64), seed=0)
    sizes = [tuple(part.weight.shape) for part in generator if isinstance(part, torch.nn.ConvTranspose2d)]
    assert sizes == [(128, 1024, 4, 4), (1024, 512, 4, 4), (512, 256, 4, 4), (256, 128, 4, 4), (128, 3, 4, 4)]
    sizes = [part.out_channels for part in discriminator if isinstance(part, torch.nn.Conv2d)]
    assert sizes == [128, 256, 512, 1024, 1]
    assert all(part.bias is None for part in discriminator if isinstance(part, torch.nn.Conv2d))


def test_networks_refused():
    with pytest.raises(UserError, match="squares of 8, 16, 32"):
        make_networks(GenerativeConfig(), (3, 48, 48), seed=0)
    with pytest.raises(UserError, match="kind=cnn: pictures of 64"):
        make_networks(GenerativeConfig(kind="cnn"), (3, 64, 64), seed=0)
    with pytest.raises(UserError, match="spectral_norm=true"):
        GenerativeConfig(spectral_norm=True)


def small_pair(kind="pu_gan", **numbers):
    networks = GenerativeConfig(
        kind="dense", latent=2, width=16, discriminator_width=16, batch_norm=False, squash="none"
    )
    losses = AdversarialConfig(kind=kind, rise_every=3)
    return Pair((1,), PairConfig(networks=networks, losses=losses, **numbers), seed=0)


def points():
    return Arrays({"input": 3.0 + 0.2 * torch.randn(256, 1, generator=torch.Generator().manual_seed(0))})


@pytest.mark.parametrize("kind", ["gan", "pu_gan", "pu_lsgan", "pu_hinge"])
def test_a_pair_learns_where_points_lie(kind):
    fast = OptimizerConfig(learning_rate=5e-3, beta1=0.5)
    pair = small_pair(kind, generator=fast, discriminator=fast)
    before = float(pair.sample(200, torch.Generator().manual_seed(0)).mean())
    fit(pair, pair.turns(), points(), FitConfig(steps=300, batch_size=32), seed=0)
    after = float(pair.sample(200, torch.Generator().manual_seed(0)).mean())
    assert abs(before) < 1.0
    assert abs(after - 3.0) < 1.0
    assert int(pair.updates) == 300


def test_a_stopped_pair_goes_on_to_the_same_bits(tmp_path):
    config = FitConfig(steps=8, batch_size=16, check_every=2, save_every=2)
    whole = small_pair()
    fit(whole, whole.turns(), points(), config, seed=0, run_dir=tmp_path / "whole")

    def stop(step, share):
        if step == 5:
            raise KeyboardInterrupt

    broken = small_pair()
    with pytest.raises(KeyboardInterrupt):
        fit(broken, broken.turns(), points(), config, seed=0, run_dir=tmp_path / "broken", hooks=(stop,))
    again = small_pair()
    fit(again, again.turns(), points(), config, seed=0, run_dir=tmp_path / "broken")
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in whole.state_dict().items())
    assert int(again.updates) == 8


def test_sampling_leaves_no_trace():
    pair = small_pair().train()
    before = {name: value.clone() for name, value in pair.state_dict().items()}
    first, second = (pair.sample(3, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, second)
    assert pair.training
    assert all(torch.equal(value, before[name]) for name, value in pair.state_dict().items())
