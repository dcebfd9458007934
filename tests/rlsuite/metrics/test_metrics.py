import math

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import strategies

from rlsuite.metrics import boxes, flow, labels, masks, pictures, ranking, rates


def noisy_pair(generator, *shape):
    truth = torch.rand(shape, generator=generator)
    return (truth + 0.2 * torch.randn(shape, generator=generator)).clamp(0, 1), truth


@pytest.mark.parametrize("shape", [(3, 3, 24, 31), (1, 1, 11, 12)])
def test_psnr_and_ssim_are_scikit_images(shape, generator):
    metrics = pytest.importorskip("skimage.metrics")
    predicted, truth = noisy_pair(generator, *shape)
    found = pictures.psnr(predicted, truth), pictures.ssim(predicted, truth)
    for row, (one, other) in enumerate(zip(predicted.numpy(), truth.numpy(), strict=True)):
        expected = metrics.peak_signal_noise_ratio(other, one, data_range=1.0)
        assert float(found[0][row]) == pytest.approx(expected, abs=1e-4)
        expected = metrics.structural_similarity(
            one, other, data_range=1.0, channel_axis=0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        assert float(found[1][row]) == pytest.approx(expected, abs=1e-4)
    scaled = pictures.ssim(255 * predicted, 255 * truth, peak=255.0)
    torch.testing.assert_close(scaled, found[1], atol=1e-6, rtol=0)
    torch.testing.assert_close(pictures.psnr(255 * predicted, 255 * truth, peak=255.0), found[0])


def test_equal_pictures_are_as_near_as_can_be(generator):
    _, truth = noisy_pair(generator, 2, 3, 16, 16)
    assert pictures.psnr(truth, truth).tolist() == [100.0, 100.0]
    assert pictures.ssim(truth, truth).tolist() == pytest.approx([1.0, 1.0])
    assert pictures.decibels(0.0) == 100.0
    assert pictures.decibels(0.01) == pytest.approx(20.0)
    with pytest.raises(ValueError, match="11 or more"):
        pictures.ssim(truth[..., :10], truth[..., :10])


def test_harmonic_changes_have_no_edges(generator):
    line = torch.linspace(-1, 1, 32)
    v, u = torch.meshgrid(line, line, indexing="ij")
    harmonic = torch.stack([u**2 - v**2, u**3 - 3 * u * v**2]).unsqueeze(1)
    noise = torch.randn(1, 1, 64, 64, generator=generator)
    assert pictures.edge_score(harmonic).max() < 1e-4
    assert float(pictures.edge_score(noise)) == pytest.approx(math.sqrt(20) * 62 / 64, rel=0.03)
    assert pictures.edge_score(torch.zeros(1, 3, 4, 4)).tolist() == [0.0]
    spot = torch.zeros(1, 1, 5, 5)
    spot[0, 0, 2, 2] = 3.0
    assert float(pictures.edge_score(spot)) == pytest.approx(math.sqrt(20))


def test_end_point_error_by_hand():
    truth = torch.zeros(2, 2, 2, 2)
    predicted = truth.clone()
    predicted[0, :, 0, 0] = torch.tensor([3.0, 4.0])
    assert flow.end_point_error(predicted, truth).tolist() == [1.25, 0.0]
    valid = torch.ones(2, 2, 2, dtype=torch.bool)
    valid[0, 1], valid[1] = False, False
    truth[0, :, 1] = float("inf")
    found = flow.end_point_error(predicted, truth, valid)
    assert float(found[0]) == 2.5
    assert math.isnan(float(found[1]))


def test_masks_by_hand():
    predicted = torch.tensor([[True, True, False], [False, False, False]])
    truth = torch.tensor([[False, True, True], [False, False, False]])
    assert masks.mask_iou(predicted, truth).tolist() == pytest.approx([1 / 3, 1.0])
    found = masks.class_iou(torch.tensor([[0, 0, 1, 1]]), torch.tensor([[0, 1, 1, 1]]), 3)
    assert found[0, :2].tolist() == pytest.approx([1 / 2, 2 / 3])
    assert math.isnan(float(found[0, 2]))


CORNERS = strategies.lists(strategies.integers(0, 12), min_size=4, max_size=4)


@hypothesis.given(strategies.lists(CORNERS, min_size=1, max_size=4), strategies.lists(CORNERS, min_size=1, max_size=4))
def test_box_iou_counts_the_pixels_of_boxes_with_whole_corners(first, second):
    def ordered(rows):
        return [[min(a, c), min(b, d), max(a, c), max(b, d)] for a, b, c, d in rows]

    def painted(row):
        canvas = np.zeros((12, 12), bool)
        canvas[row[1] : row[3], row[0] : row[2]] = True
        return canvas

    first, second = ordered(first), ordered(second)
    found = boxes.box_iou(torch.tensor(first, dtype=torch.float32), torch.tensor(second, dtype=torch.float32))
    for i, one in enumerate(first):
        for j, other in enumerate(second):
            either = (painted(one) | painted(other)).sum()
            expected = (painted(one) & painted(other)).sum() / either if either else 0.0
            assert float(found[i, j]) == pytest.approx(expected, abs=1e-6)


def test_correct_answers_by_hand():
    scores, truth = torch.tensor([[0.1, 0.7, 0.2], [0.5, 0.2, 0.3]]), torch.tensor([2, 0])
    assert labels.correct(scores, truth).tolist() == [0.0, 1.0]
    assert labels.correct(scores, truth, top=2).tolist() == [1.0, 1.0]
    assert labels.correct(scores, truth, top=9).tolist() == [1.0, 1.0]


def test_effective_bits_by_hand(generator):
    assert float(rates.effective_bits(torch.arange(8).repeat(5))) == pytest.approx(3.0)
    assert float(rates.effective_bits(torch.ones(7))) == 0.0
    assert float(rates.effective_bits(torch.tensor([0.0, 0.0, 1.0, 2.0]))) == pytest.approx(1.5)
    with pytest.raises(ValueError, match="no values"):
        rates.effective_bits(torch.ones(0))
    assert rates.bits_per_pixel(torch.tensor([100, 50]), 10, 20).tolist() == [4.0, 2.0]


@hypothesis.given(
    strategies.lists(strategies.tuples(strategies.integers(0, 5), strategies.integers(0, 9)), min_size=2, max_size=20)
)
def test_rank_correlations_are_scipys(pairs):
    stats = pytest.importorskip("scipy.stats")
    first, second = torch.tensor(pairs, dtype=torch.float32).T
    constant = len(first.unique()) == 1 or len(second.unique()) == 1
    for ours, theirs in ((ranking.kendall_tau, stats.kendalltau), (ranking.spearman, stats.spearmanr)):
        found = ours(torch.stack([first, second]), torch.stack([second, second]))
        if constant:
            assert math.isnan(float(found[0]))
            continue
        assert float(found[0]) == pytest.approx(theirs(first.numpy(), second.numpy()).statistic, abs=1e-6)
        assert float(found[1]) == pytest.approx(1.0)


@hypothesis.given(strategies.lists(strategies.tuples(strategies.integers(0, 5), strategies.booleans()), min_size=1))
@hypothesis.settings(max_examples=50, deadline=None)
def test_average_precision_is_scikit_learns(pairs):
    peer = pytest.importorskip("sklearn.metrics")
    scores, positive = torch.tensor([float(score) for score, _ in pairs]), torch.tensor([one for _, one in pairs])
    found = ranking.average_precision(scores, positive)
    if positive.any():
        assert found.item() == pytest.approx(peer.average_precision_score(positive.numpy(), scores.numpy()))
    else:
        assert found.isnan()
