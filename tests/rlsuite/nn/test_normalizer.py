"""The running normalizer against numpy over all rows, however they are chunked."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlsuite.nn.normalizer import NormalizerConfig, RunningNormalizer


@given(
    chunks=st.lists(st.integers(1, 9), min_size=1, max_size=8),
    shift=st.floats(-1e4, 1e4),
    scale=st.floats(1e-2, 1e2),
    seed=st.integers(0, 2**16),
)
def test_equals_numpy_over_all_rows_in_any_chunking(chunks, shift, scale, seed):
    rows = np.random.default_rng(seed).normal(shift, scale, (sum(chunks), 3)).astype(np.float32)
    normalizer = RunningNormalizer(3)
    for chunk in np.split(rows, np.cumsum(chunks)[:-1]):
        normalizer.update(torch.from_numpy(chunk))
    exact = rows.astype(np.float64)
    assert normalizer.count.item() == len(rows)
    np.testing.assert_allclose(normalizer.mean[0, 0], exact.mean(0), rtol=1e-9)
    np.testing.assert_allclose(normalizer.variance[0, 0], exact.var(0), rtol=1e-6, atol=1e-9)


def test_forward_standardizes_and_clips_by_hand():
    normalizer = RunningNormalizer(1, NormalizerConfig(clip=2.0, epsilon=0.0, minimum_std=1e-9))
    normalizer.update(torch.tensor([[2.0], [4.0]]))  # mean 3, variance 1
    output = normalizer(torch.tensor([[3.0], [4.5], [100.0], [-100.0]]))
    torch.testing.assert_close(output, torch.tensor([[0.0], [1.5], [2.0], [-2.0]]))


def test_epsilon_keeps_a_constant_feature_finite():
    normalizer = RunningNormalizer(1, NormalizerConfig(epsilon=1e-4))
    normalizer.update(torch.full((5, 1), 7.0))
    output = normalizer(torch.tensor([[7.0], [7.05]]))
    torch.testing.assert_close(output, torch.tensor([[0.0], [5.0]]), rtol=1e-4, atol=1e-4)


def test_before_any_row_it_only_clips():
    output = RunningNormalizer(2)(torch.tensor([[1.5, -20.0]]))
    assert output.tolist() == [[1.5, -10.0]]


def test_several_sets_stand_side_by_side():
    stacked = RunningNormalizer(2, num_sets=3)
    singles = []
    for member in range(3):
        single = RunningNormalizer(2)
        single.update(torch.randn(20, 2) * (member + 1) + member)
        singles.append(single)
    stacked.load_state_dict(
        {name: torch.cat([single.state_dict()[name] for single in singles]) for name in singles[0].state_dict()}
    )
    rows = torch.randn(7, 2)
    assert stacked(rows).shape == (3, 7, 2)
    for member, single in enumerate(singles):
        torch.testing.assert_close(stacked(rows)[member], single(rows))
    stacked.update(torch.randn(4, 2))  # a new row counts in every set
    assert stacked.count.flatten().tolist() == [24.0, 24.0, 24.0]


def test_one_set_keeps_the_leading_axes():
    normalizer = RunningNormalizer(2)
    assert normalizer(torch.zeros(5, 2)).shape == (5, 2)
    assert normalizer(torch.zeros(3, 5, 2)).shape == (3, 5, 2)


def test_travels_with_state_dict():
    first, second = RunningNormalizer(2), RunningNormalizer(2)
    first.update(torch.randn(10, 2) * 3.0)
    second.load_state_dict(first.state_dict())
    for normalizer in (first, second):
        normalizer.update(torch.ones(3, 2))
    assert torch.equal(first(torch.ones(1, 2)), second(torch.ones(1, 2)))


def test_millions_of_rows_still_count():
    normalizer = RunningNormalizer(1)
    normalizer.update(torch.zeros(10, 1))
    normalizer.count.fill_(2.0**30)  # a float32 count would not move any more
    normalizer.update(torch.ones(1, 1))
    assert normalizer.count.item() == 2**30 + 1
    assert normalizer.mean.item() == 1 / (2**30 + 1)
