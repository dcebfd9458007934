"""Densities of latents: shares that are one together, medians, tables that say what the bits say; GDN by hand."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from envs.perception.codec.channel import Estimate, Reader, Writer, far_tables
from envs.perception.codec.factorized import FactorizedPrior
from envs.perception.codec.gaussian import LARGEST, SMALLEST, gaussian_bits, gaussian_rows, gaussian_tables
from envs.perception.codec.gdn import GDN, lower_bound
from envs.perception.codec.range_coder import TOTAL


@pytest.fixture
def prior(generator):
    prior = FactorizedPrior(3)
    prior.draw(generator)
    with torch.no_grad():
        for factor in prior.factors:
            factor.copy_(torch.randn(factor.shape, generator=generator))
        prior.biases[0].add_(torch.tensor([0.0, 2.0, -5.0]).view(3, 1, 1))
    return prior


def test_shares_of_all_whole_numbers_are_one(prior):
    values = torch.arange(-400.0, 401.0, dtype=torch.float64).expand(3, 1, -1)
    torch.testing.assert_close(prior.shares(values).sum(dim=2), torch.ones(3, 1, dtype=torch.float64))


def test_the_cumulative_rises_and_half_lies_below_the_median(prior):
    values = torch.linspace(-200, 200, 999, dtype=torch.float64).expand(3, 1, -1)
    assert bool((prior.logits(values).diff(dim=2) > 0).all())
    at = prior.logits(prior.medians().double().view(3, 1, 1))
    torch.testing.assert_close(torch.sigmoid(at), torch.full_like(at, 0.5), atol=1e-4, rtol=0)


def test_a_fresh_prior_is_a_logistic_by_hand():
    """Without biases and factors the network is a product of softpluses: 1 / 10 of the value, as INIT_SCALE says."""
    fresh = FactorizedPrior(1)
    value = torch.tensor([[[4.0]]])
    assert fresh.logits(value).item() == pytest.approx(0.4, rel=1e-5)
    share = 1 / (1 + math.exp(-0.45)) - 1 / (1 + math.exp(-0.35))
    assert fresh.bits(torch.full((1, 1, 1, 1), 4.0)).item() == pytest.approx(-math.log2(share), rel=1e-4)


def test_at_the_median_a_value_is_as_likely_as_beside_it():
    """Without biases the median is 0, where logits of both ends are opposite: their sum is 0."""
    value = torch.zeros(1, 1, 1, 1, requires_grad=True)
    fresh = FactorizedPrior(1)
    bits = fresh.bits(value)
    share = 1 / (1 + math.exp(-0.05)) - 1 / (1 + math.exp(0.05))
    assert bits.item() == pytest.approx(-math.log2(share), rel=1e-4)
    bits.sum().backward()
    assert float(fresh.matrices[0].grad.abs().min()) > 0.0  # a narrower density would take fewer


def test_gaussian_bits_are_scipys(generator):
    values = torch.randint(-6, 7, (2, 3, 4, 4), generator=generator).float()
    deviations = 0.05 + 3 * torch.rand(2, 3, 4, 4, generator=generator)
    wide = np.maximum(deviations.double().numpy(), SMALLEST)
    share = stats.norm.cdf((values.numpy() + 0.5) / wide) - stats.norm.cdf((values.numpy() - 0.5) / wide)
    wanted = -np.log2(np.maximum(share, 1e-9)).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(gaussian_bits(values, deviations).numpy(), wanted, rtol=1e-4)


def test_the_table_is_the_narrowest_that_is_no_narrower():
    step = math.log(LARGEST / SMALLEST) / 63
    deviations = torch.tensor([0.0, SMALLEST, SMALLEST * 1.001, SMALLEST * math.exp(10.5 * step), 1e6])
    assert gaussian_rows(deviations).tolist() == [0, 0, 1, 11, 63]
    ends, first = gaussian_tables().ends[63], gaussian_tables().first[63]
    middle = (ends[1 - first] - ends[-first]) / TOTAL
    assert middle == pytest.approx(1 / (LARGEST * math.sqrt(2 * math.pi)), rel=0.05)


def test_written_latents_are_read_again_at_the_estimated_cost(prior, generator):
    shape = (1, 3, 12, 12)
    latents, other = 9 * torch.randn(shape, generator=generator), 4 * torch.randn(shape, generator=generator)
    other[0, 0, 0, 0], latents[0, 1, 2, 3] = 3000.0, -900.0  # far beyond what tables hold
    deviations = torch.full(shape, 4.0)
    known = far_tables(prior)
    writer, estimate = Writer(known), Estimate(noisy=False)
    sent = [
        (channel.factorized("a", prior, latents, shape), channel.gaussian("b", other, deviations))
        for channel in (writer, estimate)
    ]
    data = writer.encoder.finish()
    reader = Reader(known, data)
    got = reader.factorized("a", prior, None, shape), reader.gaussian("b", None, deviations)
    reader.decoder.finish()
    for one, same, read in zip(*sent, got, strict=True):
        assert torch.equal(one, same)
        assert torch.equal(one, read)
    assert float((got[0] - latents).abs().max()) <= 0.5001
    assert 8 * len(data) == pytest.approx(float(estimate.total()), rel=0.05)


def test_noise_is_at_most_half(prior, generator):
    latents = torch.randn(2, 3, 4, 4, generator=generator)
    channel = Estimate(noisy=True)
    noised = channel.factorized("a", prior, latents, (2, 3, 4, 4))
    away = (noised - latents).abs()
    assert 0.3 < float(away.max()) <= 0.5
    assert channel.total().shape == (2,)


def test_gdn_by_hand_and_its_inverse():
    inputs = torch.tensor([3.0, -4.0]).view(1, 2, 1, 1)
    gdn, inverse = GDN(2), GDN(2, inverse=True)
    with torch.no_grad():
        for layer in (gdn, inverse):
            layer.gamma.copy_(torch.tensor([[0.1, 0.2], [0.0, 0.3]]).sqrt())
    roots = [math.sqrt(1 + 0.1 * 9 + 0.2 * 16), math.sqrt(1 + 0.3 * 16)]
    found, back = gdn(inputs).flatten().tolist(), inverse(inputs).flatten().tolist()
    assert found == pytest.approx([3 / roots[0], -4 / roots[1]], rel=1e-4)
    assert back == pytest.approx([3 * roots[0], -4 * roots[1]], rel=1e-4)


def test_what_lies_below_a_bound_still_learns_to_rise():
    values = torch.tensor([0.5, 0.5, 2.0], requires_grad=True)
    (lower_bound(values, 1.0) * torch.tensor([-1.0, 1.0, 1.0])).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [-1.0, 0.0, 1.0]
