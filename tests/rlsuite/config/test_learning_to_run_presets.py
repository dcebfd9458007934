"""The challenge's solutions as presets: each composes, fits its task, trains, and goes on where it was stopped."""

import contextlib

import pytest
import torch

from agents.assembly import make_evaluation_env
from agents.training import make_trainer
from rlsuite.config.compose import chosen_by_preset, compose_train, group_options
from rlsuite.errors import UserError
from rlsuite.records.checkpoint import read_checkpoint, resolve_checkpoint
from rlsuite.records.monitor import Monitor

PRESETS = [name for name in group_options("preset") if name.startswith("l2r_")]
COMMON = ["num_envs=2", "num_threads=1", "evaluate.every=0", "checkpoint.every=1000", "env.max_episode_steps=200"]
OF_REPLAYS = [
    *("learning_starts=8", "warmup_episodes=0", "updates_per_episode=0", "train_ratio=0.5", "agent.batch_size=8"),
    *("replay.capacity=200", "agent.actor.hidden_sizes=[8,8]", "agent.critic.hidden_sizes=[8,8]"),
]
OF_ROLLOUTS = ["agent.rollout_length=4", "agent.minibatch_size=4", "agent.passes=2", "agent.hidden_sizes=[8,8]"]


def tiny(preset, steps=24):
    on_policy = compose_train([f"preset={preset}"])[0].agent_name in ("ppo", "trpo")
    own = OF_ROLLOUTS if on_policy else OF_REPLAYS
    return compose_train([f"preset={preset}", f"steps={steps}", *COMMON, *own])[0]


def trained(config, folder, stop_at=None, checkpoint=None):
    """Train in `folder`, up to a step where it is stopped, and return what it ends with."""
    with contextlib.ExitStack() as stack:
        trainer = make_trainer(config, folder, stack, checkpoint)
        resumed = None if checkpoint is None else checkpoint.step
        monitor = stack.enter_context(Monitor(folder, total_steps=config.steps, console=False, resume_step=resumed))
        trainer.run(monitor, lambda: stop_at is not None and trainer.worker.steps >= stop_at)
        assert trainer.updates > 0 or stop_at is not None
        return {name: tensor.clone() for name, tensor in trainer.agent.state_dict().items()}


def test_there_are_all_of_them():
    teams = {"ace", "reason8", "sj_ppo", "nnaisense", "imcl", "deepsense", "lance", "melnik", "thu_jgeek"}
    assert teams <= {name.removeprefix("l2r_") for name in PRESETS}


@pytest.mark.parametrize("preset", PRESETS)
def test_a_stopped_run_ends_with_the_same_bits(preset, tmp_path):
    config = tiny(preset)
    assert config.env.name == "LearningToRun"
    whole = trained(config, tmp_path / "whole")
    trained(config, tmp_path / "parts", stop_at=16)
    parts = ["agent", "optimizers", "replay", "environment", "worker"]
    checkpoint = read_checkpoint(resolve_checkpoint(tmp_path / "parts"), parts=parts)
    resumed = trained(config, tmp_path / "parts", checkpoint=checkpoint)
    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())
    assert all(torch.isfinite(tensor).all() for tensor in whole.values() if tensor.is_floating_point())


def test_where_agents_are_judged_rewards_are_the_challenges():
    config = tiny("l2r_ace")
    env = make_evaluation_env(config, 1)
    assert env.task.shaping == ()
    assert env.task.action_repeat == 1
    env.close()


def test_numbers_of_the_sources():
    agent = compose_train(["preset=l2r_reason8"])[0].agent
    assert agent.learning_rates(0.5) == pytest.approx(
        {"actor": 5.25e-4, "critic": 1.025e-3, "embedding": 1.575e-4, "temperature": 1.575e-4}
    )
    assert agent.learning_rates(1.0)["critic"] == pytest.approx(5e-5)
    assert compose_train(["preset=l2r_nnaisense"])[0].agent.trace_decay == 0.9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["preset=l2r_ace", "agent=sac"],
            "agent=sac: preset=l2r_ace is for agent=ddpg, which it chooses",
        ),
        (["preset=l2r_melnik", "env=Hopper"], "env=Hopper: preset=l2r_melnik is for env=LearningToRun"),
        (["preset=l2r_nnaissense"], "unknown preset 'l2r_nnaissense'"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(UserError, match=message):
        compose_train(arguments)


def test_other_presets_choose_nothing():
    assert chosen_by_preset("debug") == chosen_by_preset("none") == {}
