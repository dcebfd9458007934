"""Fronts, selections and volumes against brute force, by hand, and against pymoo where it is installed."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from envs.evaluation.search import pareto

OBJECTIVES = arrays(float, st.tuples(st.integers(1, 14), st.integers(1, 3)), elements=st.integers(0, 4).map(float))


def brute_ranks(objectives):
    left, rank = set(range(len(objectives))), {}
    for front in range(len(objectives)):
        best = {
            i
            for i in left
            if not any((objectives[j] <= objectives[i]).all() and (objectives[j] < objectives[i]).any() for j in left)
        }
        rank |= dict.fromkeys(best, front)
        left -= best
    return [rank[i] for i in range(len(objectives))]


@given(OBJECTIVES)
def test_pareto_ranks_equal_brute_force(objectives):
    assert pareto.ranks(objectives).tolist() == brute_ranks(objectives)


@given(OBJECTIVES, st.integers(0, 16))
def test_pareto_selections_keep_exactly_as_many_and_whole_fronts(objectives, keep):
    rng = np.random.default_rng(0)
    directions = pareto.reference_directions(objectives.shape[1], 3)
    rank = pareto.ranks(objectives)
    for kept in (
        pareto.nsga2(objectives, keep),
        pareto.nsga3(objectives, keep, directions, rng),
        pareto.merged_fronts([objectives, objectives], keep, rng),
    ):
        assert len(kept) == len(set(kept.tolist())) == min(keep, len(objectives))
        left_out = np.setdiff1d(np.arange(len(objectives)), kept)
        if len(kept) and len(left_out):
            assert rank[kept].max() <= rank[left_out].min()


def test_pareto_fronts_and_crowding_by_hand():
    objectives = np.array([[0.0, 4.0], [1.0, 2.0], [2.0, 1.0], [4.0, 0.0], [2.0, 2.0], [4.0, 4.0], [1.0, 2.0]])
    assert [front.tolist() for front in pareto.fronts(objectives)] == [[0, 1, 2, 3, 6], [4], [5]]
    # Second of four: its neighbours are 0 and 2 apart in the first objective (of 4), 4 and 1 in the second (of 4).
    front = objectives[[0, 1, 2, 3]]
    assert pareto.crowding(front).tolist() == [np.inf, (2 / 4 + 3 / 4) / 2, (3 / 4 + 2 / 4) / 2, np.inf]


def test_pareto_merged_fronts_protect_what_one_sorting_would_drop():
    rng = np.random.default_rng(0)
    error, size = np.array([0.5, 0.4, 0.6, 0.61]), np.array([1.0, 2.0, 8.0, 3.0])
    by_small, by_large = np.stack([error, size], 1), np.stack([error, 1 / size], 1)
    assert set(pareto.nsga2(by_small, 2)) == {0, 1}
    kept = pareto.merged_fronts([by_small, by_large], 3, rng)
    assert set(kept) == {0, 1, 2}  # the largest is in the second sorting's first front


def test_pareto_nsga3_prefers_directions_not_used():
    # The whole first front fits but one: the two kept near (1, 0) leave the place to the row near (0, 1).
    objectives = np.array([[0.0, 1.0], [1.0, 0.0], [0.9, 0.02], [0.02, 0.9], [0.95, 0.01]])
    directions = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    kept = pareto.nsga3(objectives, 2, directions, np.random.default_rng(0))
    assert len({0, 3} & set(kept)) == 1
    assert len({1, 2, 4} & set(kept)) == 1


def test_pareto_reference_directions_are_counted_and_on_the_simplex():
    directions = pareto.reference_directions(3, 4)
    assert len(np.unique(directions, axis=0)) == 15
    assert np.allclose(directions.sum(1), 1.0)
    assert directions.min() == 0.0


def test_hypervolume_by_hand():
    assert pareto.hypervolume(np.array([[1.0, 2.0], [2.0, 1.0], [2.0, 2.0], [5.0, 0.0]]), np.array([3.0, 3.0])) == 3.0
    assert pareto.hypervolume(np.array([[0.0, 0.0, 0.0]]), np.array([1.0, 2.0, 3.0])) == 6.0
    assert pareto.hypervolume(np.zeros((0, 2)), np.ones(2)) == 0.0


@given(OBJECTIVES)
def test_hypervolume_counts_dominated_cells(objectives):
    reference = np.full(objectives.shape[1], 5.0)
    cells = np.stack(np.meshgrid(*[np.arange(5)] * objectives.shape[1], indexing="ij"), -1).reshape(-1, len(reference))
    covered = (objectives[None] <= cells[:, None]).all(-1).any(-1).sum()  # each cell [c, c + 1) counts 1
    assert pareto.hypervolume(objectives, reference) == pytest.approx(covered)


def test_pareto_equals_pymoo():
    sorting = pytest.importorskip("pymoo.util.nds.non_dominated_sorting")
    survival = pytest.importorskip("pymoo.operators.survival.rank_and_crowding.metrics")
    volume = pytest.importorskip("pymoo.indicators.hv")
    rng = np.random.default_rng(3)
    for columns in (2, 3):
        objectives = rng.random((40, columns)).round(2)
        theirs = sorting.NonDominatedSorting().do(objectives)
        ours = list(pareto.fronts(objectives))
        assert [sorted(front) for front in theirs] == [front.tolist() for front in ours]
        front = objectives[ours[0]]
        assert np.allclose(survival.calc_crowding_distance(front), pareto.crowding(front))
        assert volume.HV(ref_point=np.ones(columns))(objectives) == pytest.approx(
            pareto.hypervolume(objectives, np.ones(columns))
        )


def test_nan_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        pareto.ranks(np.array([[np.nan, 1.0]]))
