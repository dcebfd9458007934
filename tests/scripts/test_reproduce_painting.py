"""The painting experiment: its claims by hand, its arms, and a tiny one end to end."""

import dataclasses
import json
from pathlib import Path

import pytest

from agents.assembly import check_fit, make_env
from rlsuite.config.compose import compose_train, script_config
from rlsuite.errors import UserError
from rlsuite.experiment import FAILS, HOLDS
from rlsuite.experiment.jobs import Jobs
from scripts.experiments import painting


def numbers(**changes):
    return dataclasses.replace(painting.Numbers(), **changes)


def verdicts(own, free, exact, single):
    errors = {"model-based": own, "model-free": free, "one-stroke": single}
    return [claim.verdict for claim in painting.claims(errors, {"model-based": exact}, numbers())]


def test_every_claim_must_hold_in_its_worst_seed():
    own, free, exact, single = (0.004, 0.005), (0.09, 0.08), (0.008, 0.009), (0.01, 0.01)
    assert verdicts(own, free, exact, single) == [HOLDS] * 4
    assert verdicts((0.004, 0.011), free, exact, (0.01, 0.02)) == [FAILS, *[HOLDS] * 3]
    assert verdicts(own, (0.09, 0.024), exact, single) == [HOLDS, FAILS, HOLDS, HOLDS]
    assert verdicts(own, free, (0.001, 0.016), single)[2] == FAILS
    assert verdicts(own, free, exact, (0.01, 0.004))[3] == FAILS


def test_arms_differ_in_what_is_compared_alone():
    files = Path("digits"), Path("renderer.safetensors")
    arms = {arm: compose_train(numbers().arguments(arm, *files))[0] for arm in painting.AGENTS}
    own = arms["model-based"]
    for arm, other in arms.items():
        length, bundle = other.env.options["max_episode_steps"], other.env.options["bundle"]
        assert length * bundle == 15
        assert other.train_ratio * (other.steps - other.learning_starts) == pytest.approx(1200)
        assert other.agent.discount == pytest.approx(0.95**bundle)
        for name in ("batch_size", "width", "network", "reward", "reward_scale", "actor_learning_rates"):
            assert getattr(other.agent, name) == getattr(own.agent, name), (arm, name)
    assert arms["model-free"].agent_target.endswith("ModelFreePainter")
    assert {arm: config.env.options["renderer"] for arm, config in arms.items()} == {
        "model-based": "neural",
        "model-based-soft": "soft",
        "model-free": "neural",
        "one-stroke": "neural",
    }


def test_the_full_scale_commands_are_accepted(tmp_path):
    """The words of the two commands, at a tiny size: the renderer's file is what the second one needs."""
    from scripts.painter import train_renderer

    weights = tmp_path / "renderer.safetensors"
    text = painting.FULL_SCALE.replace("=renderer.safetensors", f"={weights}").replace("<CelebA folder>", "X")
    first, second = (command.split()[2:] for command in text.split("&&"))
    assert train_renderer.main([*first, "size=32", "steps=1", "validation=2", "batch_size=2"]) == 0
    config, _ = compose_train([*second, "data=scenes", "env.size=32", "num_envs=2", "device=cpu"])
    assert config.env.options["renderer_weights"] == str(weights)
    env = make_env(config, 2)
    assert env.options.renderer == "neural"
    check_fit(config, env)


def test_the_advised_numbers_of_the_renderer_go_together():
    from scripts.painter import train_renderer

    text = " ".join((train_renderer.__doc__ or "").split())
    words = text.partition("On two cores use ")[2].partition(". ")[0].split()
    config = script_config(train_renderer.ScriptConfig, [*words, "output=x"])
    assert (config.pool, config.learning_rates, config.milestones) == (20_000, (3e-4, 1e-4), (3200,))


def test_debug_experiment_end_to_end(tmp_path, monkeypatch, capsys):
    pytest.importorskip("sklearn")
    monkeypatch.setattr(painting, "TRAIN", 12)
    monkeypatch.setattr(painting, "TEST", 5)
    jobs = Jobs(tmp_path, parallel=0)
    result = painting.run(painting.DEBUG, jobs)
    assert result.figures["renderer_mse"] == jobs.kept["imitate-neural-s0"]["result"]["mse"] > 0
    assert set(result.figures["test_mse"]) == set(painting.AGENTS)
    assert 0.02 < result.figures["blank_canvas_mse"] < 0.3
    assert all(0 < value < 1 for found in result.figures["test_mse_exact"].values() for value in found)
    json.dumps(result.figures)
    assert "test MSE by seed" in capsys.readouterr().out
    assert len(list((tmp_path / "digits/train").glob("*.png"))) == 12


def test_wrong_numbers_are_refused():
    with pytest.raises(UserError, match="updates=0: use 1 or more"):
        numbers(updates=0)
