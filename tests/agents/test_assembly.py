"""What agent, environment and config must agree on is checked before anything is built, in one line naming the fix."""

import dataclasses

import gymnasium
import numpy as np
import pytest

from agents.assembly import make_agent, make_env
from rlsuite.agent_registry import agent_class
from rlsuite.config.compose import compose_train
from rlsuite.errors import UserError
from rlsuite.vector_env import EnvironmentFacts

GOALS = object()


def check(arguments, env):
    """Let the agent judge a run in an environment of these facts."""
    config, _ = compose_train(arguments)
    facts = EnvironmentFacts.of_vectors(3, [-1.0], [1.0])
    facts = dataclasses.replace(facts, **{"max_episode_steps": 1000} | env)
    agent_class(config.agent_name).check(config, facts)


@pytest.mark.parametrize(
    ("arguments", "env", "message"),
    [
        (
            ["agent=her", "env=Hopper"],
            {},
            "replay.hindsight.strategy=future is for tasks with goals; use one",
        ),
        (
            ["agent=ddpg", "env=Hopper", "agent.clip_targets=true", "replay.n_step=1"],
            {},
            "agent.clip_targets=true is for the sparse rewards of tasks with goals",
        ),
        (
            ["agent=sher", "env=FetchPush", "replay.capacity=700"],
            {"goals": GOALS, "max_episode_steps": 50},
            "whole episodes, of 50 steps in 16 environments; use 1600 or more",
        ),
        (
            ["agent=sac", "env=Hopper", "replay.n_step=3"],
            {},
            "replay.n_step=3: soft returns would leave out the entropy",
        ),
        (
            ["agent=sac", "env=Hopper", "agent.approximate_soft_returns=true"],
            {},
            "agent.approximate_soft_returns=true: replay.n_step=1 leaves nothing out; use a larger n_step, or false",
        ),
        (
            ["agent=ace", "env=Hopper", "agent.actor.distribution=squashed_gaussian", "agent.target_noise=0"],
            {},
            "(agent.actor.distribution=squashed_gaussian); use replay.n_step=1",
        ),
        (
            ["agent=ddpg", "env=FetchPush", "agent.normalizer.source=relabelled"],
            {"goals": GOALS},
            "nothing is relabelled; use replay.hindsight.strategy=future",
        ),
        (
            ["agent=ddpg", "env=Hopper"],
            {"action_space": gymnasium.spaces.Discrete(4)},
            "agent=ddpg cannot act in env=Hopper: its actions are Discrete(4); agent=ddpg is for continuous actions; "
            "use agent=ppo or dqn",
        ),
        (
            ["agent=ppo", "env=Hopper"],
            {"action_space": gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)},
            "agent=ppo cannot act in env=Hopper",
        ),
        (
            ["agent=pombu", "env=Hopper"],
            {"observation_space": gymnasium.spaces.Box(0, 255, (8, 8, 3), np.uint8)},
            "agent=pombu cannot read env=Hopper: its observations are pictures (8, 8, 3); use agent=ppo, sac or td3",
        ),
        (
            ["agent=sher", "env=Hopper"],
            {"observation_space": gymnasium.spaces.Box(0, 255, (3, 8, 8), np.uint8)},
            "replay.hindsight.strategy=future is for tasks with goals",
        ),
        (
            ["agent=pombu", "env=Hopper"],
            {"observation_space": gymnasium.spaces.MultiBinary(3)},
            "agent=pombu cannot read env=Hopper",
        ),
        (["agent=sher", "env=FetchPushDense"], {"goals": GOALS}, "use agent.clip_targets=false"),
        (["agent=sher", "env=FetchPush", "env.reward_type=dense"], {"goals": GOALS}, "use agent.clip_targets=false"),
        (["agent=sher", "env=FetchPush"], {"goals": GOALS, "max_episode_steps": None}, "env.max_episode_steps=null"),
        (["agent=ppo", "env=Hopper", "train_ratio=3"], {}, "train_ratio: agent=ppo learns from each rollout once"),
        (["agent=ppo", "env=Hopper", "replay.capacity=100"], {}, "replay: agent=ppo learns from each rollout once"),
        (["agent=ppo", "env=Hopper", "learning_starts=500"], {}, "learning_starts: agent=ppo learns from each rollout"),
        (["agent=ppo", "env=Hopper", "warmup_random=true"], {}, "warmup_random: agent=ppo learns from each rollout"),
        (["agent=ppo", "env=Hopper", "steps=1000"], {}, "steps=1000: agent=ppo learns every 2048; use that or more"),
        (["agent=pombu", "env=Hopper", "steps=600"], {}, "a task whose reward is a known function, such as env=Fixed"),
        (["agent=pombu", "env=FixedHorizonHopper"], {"known_reward": max}, "agent.horizon=200: the environment's"),
        (
            ["agent=pombu", "env=FixedHorizonHopper", "agent.dynamics.held_out=0.999"],
            {"known_reward": max, "max_episode_steps": 200},
            "agent.dynamics.held_out=0.999: of 200 steps nothing is left to learn from",
        ),
        (
            ["agent=pombu", "env=FixedHorizonHopper", "steps=300000"],
            {"known_reward": max, "max_episode_steps": 200},
            "agent.decay_iterations=110: the learning rate would be 0 after 220000 steps; use 150 or more",
        ),
        (
            ["agent=pombu", "env=FixedHorizonHopper", "agent.dynamics.capacity=1000"],
            {"known_reward": max, "max_episode_steps": 200},
            "agent.dynamics.capacity=1000: one rollout has 2000 steps; use that or more",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(arguments, env, message):
    with pytest.raises(UserError) as refused:
        check(arguments, env)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "env"),
    [
        (["agent=sher", "env=FetchPushDense", "agent.clip_targets=false"], {"goals": GOALS}),
        (["agent=sher", "env=FetchPushDense", "env.reward_type=sparse"], {"goals": GOALS}),
        (["agent=ace", "env=FetchPush"], {"goals": GOALS}),
        (["agent=sac", "env=Hopper", "replay.n_step=1"], {}),
        (["agent=sac", "env=Hopper", "replay.n_step=3", "agent.approximate_soft_returns=true"], {}),
        (["agent=ppo", "env=Hopper"], {}),
        (["agent=pombu", "env=FixedHorizonHopper"], {"known_reward": max, "max_episode_steps": 200}),
        (["agent=ace", "env=Hopper"], {"max_episode_steps": None}),
    ],
)
def test_what_goes_together_passes(arguments, env):
    check(arguments, env)


def test_models_know_the_tasks_angles_where_they_are_to_see_them():
    for env, angles in (("FixedHorizonHalfCheetah", list(range(1, 8))), ("FixedHorizonHopper", [])):
        config, _ = compose_train(["agent=pombu", f"env={env}", "preset=debug"])
        task = make_env(config, config.num_envs, num_threads=1)
        agent = make_agent(config, task)
        task.close()
        assert agent.dynamics.angles.tolist() == angles
