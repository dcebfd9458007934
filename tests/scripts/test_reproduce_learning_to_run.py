"""The Learning to Run experiment: its claims by hand, what its arms share, judging by hand, and a tiny one whole."""

import dataclasses
import json

import pytest
import torch

import envs
from rlsuite.config.compose import compose_train
from rlsuite.errors import UserError
from rlsuite.experiment import FAILS, HOLDS
from rlsuite.experiment.jobs import Jobs
from scripts.experiments import learning_to_run

GOOD = {
    "distance": {"held": (2.0, 1.0), "single": (1.0, 0.5), "mirrored": (1.9, 1.2), "random": (-0.8, -0.8)},
    "steps": {"held": (180.0, 200.0), "single": (90.0, 90.0), "mirrored": (200.0, 200.0), "random": (120.0, 120.0)},
    "asymmetry": {"held": (0.2, 0.4), "single": (0.3, 0.3), "mirrored": (0.1, 0.2)},
}


def numbers(**changes):
    return dataclasses.replace(learning_to_run.Numbers(), **changes)


def verdicts(**changes):
    figures = {name: GOOD[name] | changes.get(name, {}) for name in GOOD}
    return [claim.verdict for claim in learning_to_run.claims(figures, numbers())]


def test_claims_by_hand():
    assert verdicts() == [HOLDS] * 4
    # One seed in which single actions end farther is enough.
    assert verdicts(distance={"single": (1.0, 1.1)}) == [FAILS, HOLDS, HOLDS, HOLDS]
    # 0.5 and 0.95 of it: 0.725 on the mean, where 0.7 is allowed.
    assert verdicts(asymmetry={"mirrored": (0.1, 0.38)}) == [HOLDS, FAILS, HOLDS, HOLDS]
    assert verdicts(distance={"mirrored": (1.8, 1.1)}) == [HOLDS, HOLDS, FAILS, HOLDS]
    # 1.5 and 1.4 times as long.
    assert verdicts(steps={"held": (180.0, 168.0)}) == [HOLDS, HOLDS, HOLDS, FAILS]


def test_arms_differ_in_what_is_compared_alone():
    arms = {name: compose_train(arguments)[0] for name, arguments in numbers().arms().items()}
    held, single, mirrored = (arms[name] for name in ("held", "single", "mirrored"))
    assert held.agent == single.agent == mirrored.agent
    assert held.agent.actor.hidden_sizes == (64, 64)
    assert held.agent.actor.layer_norm
    assert held.agent.critic.block == "layer_norm"
    assert dataclasses.replace(mirrored, replay=held.replay) == held
    assert (held.replay.mirrored, mirrored.replay.mirrored) == (False, True)
    for config, repeat in ((held, 5), (single, 1)):
        assert config.steps * repeat == 400 * 300  # steps of 10 ms
        assert config.learning_starts * repeat == 5000
        assert config.steps * config.train_ratio == 24_000  # updates, but for those of the start
        assert config.env.options["action_repeat"] == repeat
    assert dict(held.env.options, action_repeat=1) == single.env.options


def test_an_episode_ends_where_it_fell_first():
    """All zeros fall forward, all ones backward, and what comes after an episode's end does not count."""
    env = envs.make_vector("LearningToRun", 2, difficulty=0, action_repeat=5, num_threads=1, max_episode_steps=150)
    kept = []

    def act(observation):
        kept.append(observation)
        return torch.tensor([[0.0], [1.0]]).expand(2, 18)

    distance, decisions = learning_to_run.play(env, act)
    assert decisions.tolist() == [29, 24]  # falls after 142 and 120 steps of 10 ms
    assert float(distance[0]) == pytest.approx(0.55, abs=0.01)
    assert float(distance[1]) == pytest.approx(-0.85, abs=0.01)
    assert len(kept) == 29
    env.close()


def test_debug_experiment_end_to_end(tmp_path, capsys):
    jobs = Jobs(tmp_path / "learning_to_run", parallel=0)
    result = learning_to_run.run(learning_to_run.DEBUG, jobs)
    assert set(result.figures["distance"]) == {"held", "single", "mirrored", "random"}
    assert set(result.figures["asymmetry"]) == {"held", "single", "mirrored"}
    assert all(0.0 < value <= 1.0 for values in result.figures["asymmetry"].values() for value in values)
    (mirrored,) = result.figures["episodes_of_checkpoints"]["mirrored"]
    assert mirrored["distance"] == pytest.approx(sum(mirrored["distances"]) / 2)
    assert mirrored["lengths"] == [20, 20]  # the limit
    (folder,) = (path for path in (tmp_path / "learning_to_run").glob("held-s0-*") if path.is_dir())
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert max(row.get("updates", 0) for row in rows) > 0
    json.dumps(result.figures)
    assert "asymmetry" in capsys.readouterr().out


def test_wrong_numbers_are_refused():
    for changes, message in (
        ({"seeds": 0}, "seeds=0: use 1 or more"),
        ({"repeat": 3}, "use a divisor of limit=300 and of 1000"),
        ({"judged": 21}, "20 checkpoints; use at most that"),
        ({"episodes": 401}, "a multiple of 2000"),
        ({"standing_bar": float("nan")}, "standing_bar"),
    ):
        with pytest.raises(UserError, match=message):
            numbers(**changes)
