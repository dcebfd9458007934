"""order_searches.py: inherited scores of networks whose supernet has more edges, the largest network, the table."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from envs.evaluation.search.elimination import all_edges
from envs.evaluation.search.evaluators import SharedEvaluator, halves
from envs.evaluation.search.shared_weights import SharedConfig, SharedWeights
from envs.evaluation.search.supernet import Supernet
from rlsuite.errors import UserError
from scripts.experiments import inherited
from scripts.experiments.abandit_nas import SPACE
from scripts.experiments.cars import digit_subject
from scripts.order_searches import MARKS, OrderSearchesConfig, table


def test_a_network_with_fewer_edges_inherits_those_it_has():
    whole = all_edges(SPACE)
    task = halves(digit_subject(128).task, 0)
    shared = SharedWeights(Supernet(whole, seed=0), task, SharedConfig(batch_size=32), seed=0)
    evaluator = SharedEvaluator(shared, steps=1, statistics=1)
    architecture = SPACE.sample(np.random.default_rng(0))
    score = inherited.inherited_score(SPACE, evaluator, architecture)
    child = SPACE.build(architecture)
    child.load_state_dict(shared.supernet.path_state(tuple(choice - 1 for choice in architecture)))
    weights = shared.supernet.network.state_dict()
    copied = [
        name for name, value in child.state_dict().items() if name in weights and torch.equal(weights[name], value)
    ]
    assert any("head" in name for name in copied)
    assert score == task.score(evaluator.measured(child), 0).mean()
    exact = SharedEvaluator(
        SharedWeights(Supernet(SPACE, seed=0), task, SharedConfig(batch_size=32), seed=0), steps=1, statistics=1
    )
    assert inherited.inherited_score(exact.shared.supernet.space, exact, architecture) == exact.score([architecture])[0]


def test_the_largest_has_no_larger_neighbour_and_orders_by_hand():
    found = inherited.largest(SPACE)
    assert all(SPACE.cost(one)["macs"] <= SPACE.cost(found)["macs"] for one in SPACE.neighbours(found))
    rng = np.random.default_rng(0)
    assert all(SPACE.cost(SPACE.sample(rng))["macs"] <= SPACE.cost(found)["macs"] for _ in range(50))
    assert inherited.tau([1.0, 2.0, 3.0], [10.0, 20.0, 30.0]) == 1.0
    assert inherited.tau([1.0, 2.0, 3.0], [30.0, 20.0, 10.0]) == -1.0
    assert inherited.tau([1.0, 1.0, 1.0], [3.0, 2.0, 1.0]) == 0.0


@pytest.mark.slow
@pytest.mark.parametrize("arm", inherited.SEARCHES)
def test_each_search_is_ordered(arm, tmp_path):
    found = inherited.order(arm, 0, tmp_path, digits=128, tries=1, networks=2, taught_epochs=1)
    assert len(found["pairs"]) == 2
    assert list(found["arms"]) == ["found", "random at equal total cost", "mean of random", "largest"]
    json.dumps(found, allow_nan=False)


def test_the_table_and_wrong_numbers():
    arms = {"found": 90.0, "random at equal total cost": 91.0}
    row = {"tau": 0.25, "arms": arms, "cost": {"random networks": 3}, "seconds": 7.0}
    lines = table({"cars": row})
    assert lines[-1] == "| `cars` | 0.25 | 90.0 | 91.0 | 3 | 7 |"
    text = (Path(__file__).parents[2] / OrderSearchesConfig().page).read_text()
    assert [text.count(mark) for mark in MARKS] == [1, 1]
    for wrong in ({"digits": 10}, {"networks": 1}, {"tries": 0}):
        with pytest.raises(UserError, match=next(iter(wrong))):
            OrderSearchesConfig(**wrong)
