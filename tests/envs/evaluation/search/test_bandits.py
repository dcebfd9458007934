"""Bandits and draws: epochs, counts, bounds by hand, and what is given up."""

import itertools
import math

import numpy as np
import pytest

from envs.evaluation.search.bandit import Arms, trial_epochs
from envs.evaluation.search.sampling import fair_round, softmax_draw, tournament
from rlsuite.errors import UserError


def test_bandit_epochs_of_the_papers():
    assert trial_epochs(9, 3) == 132  # ABanditNAS
    assert trial_epochs(8, 3) == 105  # CP-NAS
    assert trial_epochs(8, 3, between=5) == 140  # BNAS
    assert trial_epochs(4, 2, between=2) == 24
    assert trial_epochs(1, 3) == 0


def test_bandit_fair_rounds_try_each_operation_exactly_as_often_in_every_stage():
    rng, arms, tries = np.random.default_rng(0), Arms((5,) * 7), 3
    epochs = 0
    while arms.left > 1:
        arms.forget()
        for _ in range(tries):
            for path in fair_round(arms.alive, rng):
                arms.update(path, float(rng.random()))
                epochs += 1
        assert (arms.counts[arms.alive] == tries).all()
        assert (arms.counts[~arms.alive] == 0).all()
        before = arms.alive.sum()
        arms.eliminate(arms.means)
        assert arms.alive.sum() == before - 7  # one at each place
    assert epochs == trial_epochs(5, tries)
    assert arms.best() == tuple(np.flatnonzero(row)[0] for row in arms.alive)


def test_bandit_fair_rounds_draw_places_independently():
    rng = np.random.default_rng(1)
    pairs = [path for _ in range(300) for path in fair_round(np.ones((2, 3), dtype=bool), rng)]
    for pair in itertools.product(range(3), repeat=2):
        assert 50 <= pairs.count(pair) <= 150  # 100 expected
    with pytest.raises(ValueError, match="equally many"):
        fair_round(np.array([[True, True], [True, False]]), rng)


def test_bandit_means_and_bounds_by_hand():
    arms = Arms((2, 2))
    for path, reward in (((0, 1), 0.5), ((0, 0), 1.0), ((1, 1), 0.0)):
        arms.update(path, reward)
    assert arms.counts.tolist() == [[2, 1], [1, 2]]
    assert arms.means.tolist() == [[0.75, 0.0], [1.0, 0.25]]
    bonus = math.sqrt(2 * math.log(3) / 2)
    assert arms.upper()[0, 0] == pytest.approx(0.75 + bonus)
    assert arms.lower()[1, 1] == pytest.approx(0.25 - bonus)
    moving = Arms((1,), momentum=0.7)
    for reward in (0.5, 1.0):
        moving.update((0,), reward)
    assert moving.means[0, 0] == pytest.approx(0.3 * 0.5 + 0.7 * 1.0)


def test_bandit_arms_never_tried_come_first_and_cannot_be_given_up_by_their_upper_bound():
    arms = Arms((3,))
    arms.update((1,), 0.9)
    assert np.isposinf(arms.upper()[0, [0, 2]]).all()
    rng = np.random.default_rng(0)
    drawn = {softmax_draw(-arms.lower(), arms.alive, rng)[0] for _ in range(50)}
    assert drawn == {0, 2}
    arms.eliminate(arms.upper())
    assert arms.alive.tolist() == [[True, False, True]]


def test_bandit_ties_give_up_the_lower_mean_then_the_last():
    arms = Arms((3,))
    arms.eliminate(np.zeros((1, 3)))
    assert arms.alive.tolist() == [[True, True, False]]
    arms.update((0,), 0.2)
    arms.update((1,), 0.4)
    arms.eliminate(np.zeros((1, 3)))
    assert arms.best() == (1,)
    arms.eliminate(np.zeros((1, 3)))
    assert arms.alive.sum() == 1  # the last one stays


def test_bandit_state_goes_on_to_the_same():
    arms, again = Arms((3, 2), momentum=0.7), Arms((3, 2), momentum=0.7)
    arms.update((2, 1), 0.25)
    arms.eliminate(arms.upper())
    again.load_state_dict(arms.state_dict())
    for one in (arms, again):
        one.update((2, 1), 0.5)
    assert again.state_dict() == arms.state_dict()


def test_bandit_refuses_rewards_that_are_no_shares_and_places_without_arms():
    for reward in (1.5, -0.1, math.nan):
        with pytest.raises(UserError, match="use rewards in"):
            Arms((2,)).update((0,), reward)
    with pytest.raises(UserError, match="needs an arm"):
        Arms(())
    with pytest.raises(UserError, match="momentum=0"):
        Arms((2,), momentum=0.0)


def test_softmax_draws_and_tournaments():
    rng = np.random.default_rng(0)
    values = np.array([[0.0, math.log(3.0), 50.0]])
    alive = np.array([[True, True, False]])
    drawn = [softmax_draw(values, alive, rng)[0] for _ in range(2000)]
    assert drawn.count(1) / 2000 == pytest.approx(0.75, abs=0.04)
    assert 2 not in drawn
    fitness = np.array([0.0, 3.0, 1.0])
    won = [tournament(fitness, 2, rng) for _ in range(3000)]
    assert won.count(1) / 3000 == pytest.approx(5 / 9, abs=0.03)
    assert won.count(0) / 3000 == pytest.approx(1 / 9, abs=0.03)
