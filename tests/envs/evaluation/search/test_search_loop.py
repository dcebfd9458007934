"""The search loop: budgets, equal networks, failed candidates, and a killed search that goes on to the same bytes."""

import itertools
import json
import math

import numpy as np
import pytest

from envs.evaluation.search.evaluators import FunctionEvaluator
from envs.evaluation.search.evolution import EvolutionConfig, RegularizedEvolution
from envs.evaluation.search.local_search import LocalSearch
from envs.evaluation.search.nsga import NSGA2, NSGAConfig
from envs.evaluation.search.random import RandomSearch, expected_best
from envs.evaluation.search.space import Space
from envs.evaluation.search.strategy import WORST, Proposal, search
from rlsuite.errors import UserError


class ToySpace(Space):
    """Four places of five; architectures with the same sum are the same network."""

    name = "toy"
    sizes = (5, 5, 5, 5)

    def canonical(self, architecture):
        return sum(architecture)

    def valid(self, architecture):
        return architecture[0] != 4

    def cost(self, architecture):
        return {"macs": float(sum(architecture)), "parameters": 1.0}


class ByPlace(ToySpace):
    def canonical(self, architecture):
        return architecture


def value(architecture):
    return -sum((choice - 3) ** 2 for choice in architecture)


STRATEGIES = {
    "random": lambda space, seed: RandomSearch(space, seed=seed),
    "evolution": lambda space, seed: RegularizedEvolution(space, EvolutionConfig(population=6, sample=3), seed=seed),
    "local": lambda space, seed: LocalSearch(space, seed=seed),
    "nsga2": lambda space, seed: NSGA2(
        space, lambda architecture: space.cost(architecture)["macs"], NSGAConfig(population=6), seed=seed
    ),
}


@pytest.mark.parametrize("name", STRATEGIES)
def test_budget_counts_different_networks(name):
    calls = []
    evaluator = FunctionEvaluator(lambda architecture: calls.append(architecture) or value(architecture))
    outcome = search(ByPlace(), STRATEGIES[name](ByPlace(), 0), evaluator, budget=50)
    assert outcome.queries == len(calls) == len(set(calls)) == 50
    assert value(outcome.best) == max(map(value, calls))
    assert all(architecture[0] != 4 for architecture in calls)


@pytest.mark.parametrize("name", ["evolution", "local"])
def test_learns_more_than_random(name):
    found = {
        kind: np.mean(
            [
                value(search(ByPlace(), STRATEGIES[kind](ByPlace(), seed), FunctionEvaluator(value), budget=40).best)
                for seed in range(20)
            ]
        )
        for kind in ("random", name)
    }
    assert found[name] > found["random"] + 0.3


def test_equal_networks_are_evaluated_once_and_both_named():
    calls = []
    evaluator = FunctionEvaluator(lambda architecture: calls.append(architecture) or float(sum(architecture)))
    outcome = search(ToySpace(), RandomSearch(ToySpace(), seed=0), evaluator, budget=10)
    assert len(calls) == len({sum(architecture) for architecture in calls}) == 10
    assert len(outcome.judged) > 10
    assert all(score == sum(architecture) for architecture, score in outcome.judged)


def test_a_failed_candidate_is_the_worst_and_the_search_goes_on():
    evaluator = FunctionEvaluator(lambda architecture: math.nan if architecture[1] == 3 else value(architecture))
    outcome = search(ByPlace(), RandomSearch(ByPlace(), seed=0), evaluator, budget=60)
    failed = [score for architecture, score in outcome.judged if architecture[1] == 3]
    assert failed
    assert set(failed) == {WORST}
    assert outcome.best[1] != 3


class KilledError(Exception):
    pass


class Learning:
    """Shared weights: a number that grows with each round and changes all scores."""

    changes = True

    def __init__(self, kill_at=None):
        self.learned, self.calls, self.kill_at = 0.0, 0, kill_at

    def prepare(self, train):
        self.learned += 0.25 + len(train)

    def score(self, judge):
        self.calls += 1
        if self.calls == self.kill_at:
            raise KilledError
        return [value(architecture) + self.learned for architecture in judge]

    def save(self, folder):
        folder.mkdir()
        (folder / "learned.json").write_text(json.dumps(self.learned))

    def load(self, folder):
        self.learned = json.loads((folder / "learned.json").read_text())


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("kill_at", [1, 3, 4])
def test_resume_ends_in_the_same_history(tmp_path, name, kill_at):
    space = ByPlace()
    whole = search(space, STRATEGIES[name](space, 5), Learning(), budget=30, folder=tmp_path / "whole")
    with pytest.raises(KilledError):
        search(space, STRATEGIES[name](space, 5), Learning(kill_at), budget=30, folder=tmp_path / "killed")
    with (tmp_path / "killed" / "history.jsonl").open("ab") as file:
        file.write(b'{"asked": [[], [[0, 1')  # torn by the kill
    evaluator = Learning()
    again = search(space, STRATEGIES[name](space, 5), evaluator, budget=30, folder=tmp_path / "killed")
    assert again.judged == whole.judged
    assert (tmp_path / "killed" / "history.jsonl").read_bytes() == (tmp_path / "whole" / "history.jsonl").read_bytes()
    finished = Learning(kill_at=1)  # nothing is left to do
    assert search(space, STRATEGIES[name](space, 5), finished, budget=30, folder=tmp_path / "whole").best == whole.best
    assert finished.learned == evaluator.learned


def test_refuses_the_history_of_another_search(tmp_path):
    space, evaluator = ByPlace(), FunctionEvaluator(value)
    begin = {"budget": 5, "folder": tmp_path, "description": {"seed": 0}}
    search(space, RandomSearch(space, seed=0), evaluator, **begin)
    for change, word in (({"budget": 6}, "budget"), ({"description": {"seed": 1}}, "seed")):
        with pytest.raises(UserError, match=f"another search \\({word} differ"):
            search(space, RandomSearch(space, seed=0), evaluator, **{**begin, **change})
    with pytest.raises(UserError, match="asks for others now"):
        search(space, RandomSearch(space, seed=9), evaluator, **begin)
    (tmp_path / "history.jsonl").write_text("not json\n")
    with pytest.raises(UserError, match="not the history of a search"):
        search(space, RandomSearch(space, seed=0), evaluator, **begin)


def test_an_empty_space_and_a_budget_of_nothing_are_refused():
    class Empty(ToySpace):
        def valid(self, architecture):
            return False

    with pytest.raises(UserError, match="toy has no valid architecture"):
        search(Empty(), RandomSearch(Empty(), seed=0), FunctionEvaluator(value), budget=5)
    with pytest.raises(UserError, match="budget=0"):
        search(ToySpace(), RandomSearch(ToySpace(), seed=0), FunctionEvaluator(value), budget=0)


def test_a_small_space_is_searched_whole_and_then_ends():
    class Small(ToySpace):
        sizes = (3, 2)

        def canonical(self, architecture):
            return architecture

    outcome = search(Small(), RandomSearch(Small(), seed=0), FunctionEvaluator(value), budget=100)
    assert outcome.queries == 6


def test_a_round_of_training_alone_costs_no_query():
    class TrainOnly:
        rounds = 0

        def ask(self):
            self.rounds += 1
            return Proposal(train=((0, 0, 0, 0),)) if self.rounds <= 3 else Proposal()

        def tell(self, scores):
            assert scores == []

    evaluator = Learning()
    assert search(ByPlace(), TrainOnly(), evaluator, budget=5).queries == 0
    assert evaluator.learned == 3 * 1.25


def test_expected_best_equals_counting_every_draw():
    validation, test = np.array([3.0, 1.0, 2.0, 3.0, 0.0]), np.array([10.0, 20.0, 30.0, 40.0, 50.0])
    for draws in (1, 2, 3, 5):
        found = []
        for rows in itertools.combinations(range(5), draws):
            best = [row for row in rows if validation[row] == max(validation[list(rows)])]
            found.append(np.mean([test[row] for row in best]))
        # Of two equal best rows that are both drawn either may be named; each has the same chance over all draws.
        assert expected_best(validation, test, draws) == pytest.approx(np.mean(found))
