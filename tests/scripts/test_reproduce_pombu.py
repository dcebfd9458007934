"""The POMBU experiment: its claims by hand, and a tiny one end to end."""

import dataclasses
import json
import shlex

import pytest

from agents.pombu.config import POMBUConfig
from rlsuite.config.build import build
from rlsuite.config.compose import compose_train, plain_values
from rlsuite.errors import UserError
from rlsuite.experiment import FAILS, HOLDS
from rlsuite.experiment.jobs import Jobs
from scripts.experiments import pombu

TABLE = {"smallest_ratio": 1.0, "mean_ratio": 3.0, "ratio_of_older": 600.0}
POINT = {"std": 1.1, "share_within_2": 0.93, "rank_correlation": 0.25}


def numbers(**changes):
    return build(pombu.Numbers, dataclasses.asdict(pombu.Numbers()) | changes)


def of_bound(tables, points):
    return [claim.verdict for claim in pombu.bound_claims(tables, points, numbers())]


def of_training(**runs):
    """Verdicts for (final return, drop) of each seed by arm; arms left out return 100 and never drop."""
    arms = dict.fromkeys(numbers().arms(), ((100.0, 0.0), (100.0, 0.0)))
    arms |= {name.replace("_", "-"): found for name, found in runs.items()}
    outcomes = {
        arm: tuple(pombu.Outcome(final=final, drop=drop) for final, drop in found) for arm, found in arms.items()
    }
    return [claim.verdict for claim in pombu.training_claims(outcomes, numbers())]


def test_claims_on_the_bound_by_hand():
    assert of_bound([TABLE] * 2, [POINT] * 2) == [HOLDS] * 7
    # One entry of one seed below the variance is enough; so is one badly calibrated seed.
    assert of_bound([TABLE, TABLE | {"smallest_ratio": 0.9}], [POINT]) == [FAILS, *[HOLDS] * 6]
    assert of_bound([TABLE | {"mean_ratio": 6.0}, TABLE | {"ratio_of_older": 2000.0}], [POINT]) == [HOLDS] * 7
    wrong = [POINT, {"std": 0.9, "share_within_2": 0.8, "rank_correlation": 0.1}]
    assert of_bound([TABLE], wrong)[3:] == [FAILS, HOLDS, FAILS, FAILS]
    assert of_bound([TABLE], [POINT, POINT | {"std": 1.3}])[3:5] == [HOLDS, FAILS]


def test_claims_on_the_runs_by_hand():
    assert of_training() == [HOLDS] * 6  # final return and drop of point, cheetah, noisy
    assert of_training(cheetah_pombu=((150.0, 0.0), (40.0, 0.0))) == [*[HOLDS] * 2, FAILS, *[HOLDS] * 3]  # mean -5
    drops = {"noisy_pombu": ((100.0, 20.0), (100.0, 1.0)), "noisy_mbppo": ((90.0, 30.0), (90.0, 50.0))}
    assert of_training(**drops) == [HOLDS] * 6  # 20 is at most half of 50
    assert of_training(**drops | {"noisy_mbppo": ((90.0, 30.0), (90.0, 39.0))}) == [*[HOLDS] * 5, FAILS]


def test_arms_differ_in_what_is_compared_alone():
    arms = {name: compose_train(arguments)[0] for name, arguments in numbers().arms().items()}
    assert set(arms) == {f"{task}-{method}" for task in pombu.TASKS for method in ("pombu", "mbppo")}
    for task in pombu.TASKS:
        ours, baseline = arms[f"{task}-pombu"], arms[f"{task}-mbppo"]
        assert (ours.agent.alpha, ours.agent.alpha_factor, ours.agent.beta) == (0.5, 1.0, 10.0)
        assert (baseline.agent.alpha, baseline.agent.beta) == (0.0, 0.0)
        assert ours.env == baseline.env
        for name in ("policy_updates", "trajectories", "minibatch_size", "dynamics", "learning_rate"):
            assert getattr(ours.agent, name) == getattr(baseline.agent, name), name
    assert arms["noisy-pombu"].env.name == "FixedHorizonHalfCheetahNoisyObservation"
    assert (arms["point-pombu"].agent.horizon, arms["point-pombu"].agent.dynamics.hidden_sizes) == (30, (64, 64))
    assert arms["point-pombu"].steps % (arms["point-pombu"].num_envs * 30) == 0  # no rollout is left unlearned


def test_debug_experiment_end_to_end(tmp_path, capsys):
    result = pombu.run(pombu.DEBUG, Jobs(tmp_path, parallel=0))
    assert set(result.figures["final_return"]) == set(numbers().arms())
    assert len(result.claims) == 13
    assert [step for step, _ in result.figures["curves"]["cheetah-pombu-s0"]] == [400, 800]
    assert [step for step, _ in result.figures["curves"]["point-mbppo-s0"]] == [60, 120]
    drop = result.figures["drop"]["noisy-mbppo"][0]
    returns = [mean for _, mean in result.figures["curves"]["noisy-mbppo-s0"]]
    assert drop == pytest.approx(max(returns) - returns[-1])
    json.dumps(result.figures)
    assert "final return by seed" in capsys.readouterr().out
    values = plain_values(shlex.split(result.full_scale.partition(" (")[0])[2:])
    assert values.pop("paper") == "pombu"
    full = numbers(**values).arms()["cheetah-pombu"]
    config, _ = compose_train(full)
    assert (config.steps, config.agent) == (200_000, POMBUConfig())  # whose defaults are the paper's table


def test_wrong_numbers_are_refused():
    with pytest.raises(UserError, match="roll_outs=0: use 1 or more"):
        numbers(roll_outs=0)
