"""The experiment on mixed steps: its claims by hand, its tables beside plain sweeps, and a tiny one end to end."""

import dataclasses

import pytest
import torch

from rlsuite.errors import UserError
from rlsuite.experiment import FAILS, HOLDS
from rlsuite.experiment.jobs import Jobs
from scripts.experiments import interpolatron
from scripts.experiments.mixed_values import Table, chain, counts_needed, random_table


def count(iterations):
    return ({"iterations": iterations, "sweeps": 50 * iterations},)


def verdicts(ways=(), whole=(), sweeps=()):
    quadratic = {
        "descent-2.5": [{"last": 1e70}],
        "descent-3.5": [{"last": 1e159}],
        "two-2.5": [{"last": 1e-3}],
        "two-3.5": [{"last": 1e-5}],
        "anderson-1": [{"60": 1e-4, "120": 1e-8}],
    }
    losses = {f"{name}-{rate}": (0.05, 0.05) for name, (_, rates) in interpolatron.WHOLE.items() for rate in rates}
    losses |= {"descent-0.3": (0.3, 0.2), "descent-1.0": (0.1, 0.1), "descent-2.0": (8.0, 1.0)}
    losses |= {"anderson-1.0": (0.001, 0.002), "momentum-0.3": (0.01, 0.01), "two-2.0": (0.08, 0.08)}
    counts = {f"{table}-{scheme}": count(2) for table in ("random", "chain") for scheme in ("mixed", "rejecting")}
    counts |= {"random-plain": count(100), "chain-plain": count(100)}
    changed = (quadratic | dict(ways), losses | dict(whole), counts | dict(sweeps))
    return [claim.verdict for claim in interpolatron.claims(*changed, interpolatron.Numbers())]


def test_claims_by_hand():
    assert verdicts() == [HOLDS] * 13
    assert verdicts(ways={"two-3.5": [{"last": 1e-5}, {"last": 0.1}]}) == [HOLDS] * 3 + [FAILS] + [HOLDS] * 9
    assert verdicts(ways={"descent-2.5": [{"last": 1e5}]}) == [FAILS] + [HOLDS] * 12
    assert verdicts(whole={"anderson-1.0": (0.003, 0.003)}) == [HOLDS] * 6 + [FAILS] + [HOLDS] * 6
    assert verdicts(whole={"two-2.0": (0.091, 0.091)}) == [HOLDS] * 7 + [FAILS] + [HOLDS] * 5
    assert verdicts(whole={"descent-2.0": (0.9, 0.9)}) == [HOLDS] * 8 + [FAILS] + [HOLDS] * 4
    assert verdicts(sweeps={"chain-rejecting": count(21)}) == [HOLDS] * 12 + [FAILS]


def test_a_table_of_two_states_by_hand():
    """Stay for 0, or go to a state that earns 1 for ever: 100 there at discount 0.99, and 99 before."""
    transitions = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]]], dtype=torch.float64)
    rewards = torch.tensor([[0.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
    assert Table(transitions, rewards).optimum().tolist() == pytest.approx([99.0, 100.0])


@pytest.mark.parametrize("table", [random_table(6, 3, seed=1), chain(6)], ids=["random", "chain"])
def test_all_schemes_find_the_optimum_of_plain_sweeps(table):
    torch.testing.assert_close(table.transitions.sum(-1), torch.ones_like(table.rewards))
    values = torch.zeros(6, dtype=torch.float64)
    for _ in range(3000):
        values = table.sweep(values)
    torch.testing.assert_close(table.optimum(), values, rtol=0, atol=1e-9)
    plain, sweeps = counts_needed(table, "plain")
    assert plain == sweeps
    # Each sweep brings values nearer by the discount, at least: from 2 max|r| / (1 - discount) to 1e-6.
    start = table.rewards.abs().max() / (1 - table.discount)
    far = float((start + values).abs().max())
    assert plain <= 1 + torch.log(torch.tensor(1e-6 / far)) / torch.log(torch.tensor(table.discount))
    assert all(counts_needed(table, scheme)[1] < plain / 4 for scheme in ("mixed", "rejecting"))
    iterations, sweeps = counts_needed(table, "rejecting")
    assert sweeps == 2 * iterations - 1  # two each, and the first image


def test_debug_experiment_end_to_end(tmp_path):
    found = interpolatron.run(interpolatron.DEBUG, Jobs(tmp_path, parallel=0))
    assert found.seeds == (0,)
    assert set(found.figures["whole batches"]) == set(interpolatron.arms(interpolatron.WHOLE))
    for arm in ("anderson-1.0", "averaged-0.3"):
        again = interpolatron.learn_by_minibatches(arm, 0, tmp_path, steps=3, batch_size=64)
        assert found.figures["minibatches"][arm] == (again,)


def test_wrong_numbers_are_refused():
    for change in ({"seeds": 0}, {"states": 1}, {"whole_steps": 0}):
        with pytest.raises(UserError):
            dataclasses.replace(interpolatron.Numbers(), **change)
