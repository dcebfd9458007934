"""Tasks with goals: dict and flat views, goals and resets, rewards of any pair, failures, other libraries."""

import gymnasium
import numpy as np
import pytest
import torch

import envs
from envs.catalogue import build
from rlsuite.errors import UserError
from rlsuite.replay.config import HindsightConfig, ReplayConfig
from rlsuite.replay.sampler import Replay
from rlsuite.running.rollout import RolloutWorker

TASKS = [name for name in envs.task_names() if name.startswith(("Fetch", "Hand"))]
SIZES = {"FetchReach": (10, 3, 4), "Fetch": (25, 3, 4), "HandReach": (63, 15, 20), "HandManipulate": (61, 7, 20)}


def sizes(name):
    return next(value for prefix, value in SIZES.items() if name.startswith(prefix))


@pytest.mark.parametrize("name", TASKS)
def test_dict_view_is_the_flat_one_by_name(name):
    observation_size, goal_size, action_size = sizes(name)
    by_name, flat = envs.make_vector(name, 3, num_threads=1), envs.make_vector(name, 3, num_threads=1, flat=True)
    assert by_name.single_action_space == gymnasium.spaces.Box(-1.0, 1.0, (action_size,), np.float32)
    first, whole = by_name.reset(seed=3)[0], flat.reset(seed=3)[0]
    for _ in range(2):
        assert first["observation"].shape == (3, observation_size)
        assert first["achieved_goal"].shape == first["desired_goal"].shape == (3, goal_size)
        assert by_name.observation_space.contains({key: value.numpy() for key, value in first.items()})
        joined = torch.cat([first[key] for key in ("observation", "desired_goal", "achieved_goal")], dim=1)
        assert torch.equal(joined, whole)
        action = torch.rand(3, action_size) * 2 - 1
        first, reward, terminated, _, info = by_name.step(action)
        whole, flat_reward, *_, flat_info = flat.step(action)
        assert torch.equal(reward, flat_reward)
        assert torch.equal(info["final_obs"]["observation"], flat_info["final_obs"][:, :observation_size])
        expected = by_name.compute_reward(info["final_obs"]["achieved_goal"], info["final_obs"]["desired_goal"])
        torch.testing.assert_close(reward, expected, rtol=1e-4, atol=1e-5)
        assert not terminated.any()
        assert set(reward.tolist()) <= {-1.0, 0.0} or name.endswith("Dense")
    assert by_name.state().keys() == flat.state().keys()
    by_name.close()


@pytest.mark.parametrize("name", ["FetchReach", "FetchPickAndPlace", "HandReach", "HandManipulatePenFull"])
def test_every_episode_has_a_goal_of_its_own_and_the_last_one_counts(name):
    env = envs.make_vector(name, 4, num_threads=1, flat=True, max_episode_steps=3)
    goals = env.goals
    observation, _ = env.reset(seed=0)
    seen = [goals.split(observation)[1]]
    for step in range(1, 7):
        observation, reward, _, truncated, info = env.step(torch.zeros(4, sizes(name)[2]))
        assert truncated.all() == (step % 3 == 0)
        _, asked, achieved = goals.split(info["final_obs"])
        assert torch.equal(asked, seen[-1])  # final observations still ask for the old goal
        torch.testing.assert_close(reward, goals.compute_reward(achieved, asked))
        assert torch.equal(info["is_success"].bool(), goals.is_success(achieved, asked))
        if step % 3 == 0:
            seen.append(goals.split(observation)[1])
            assert not torch.equal(seen[-1], seen[-2])
    assert len({tuple(goal.tolist()) for rows in seen for goal in rows}) >= 10


def test_objects_start_beside_the_gripper_and_goals_are_where_they_belong():
    """The tasks of the paper's table (arXiv:2002.02089)."""
    for name, object_range, target_range, offset in (("FetchPush", 0.15, 0.15, 0.0), ("FetchSlide", 0.1, 0.3, 0.4)):
        env = envs.make_vector(name, 200, num_threads=1, flat=True)
        own, goal, achieved = env.goals.split(env.reset(seed=0)[0])
        off = (achieved - own[:, :3])[:, :2]
        assert off.abs().max() <= object_range + 1e-3
        assert off.norm(dim=1).min() >= 0.1 - 1e-3
        place = goal - own[:, :3]
        assert (place[:, 0] - offset).abs().max() <= target_range + 1e-3
        assert place[:, 1].abs().max() <= target_range + 1e-3
        assert goal[:, 2].std() < 1e-6
        assert not env.goals.is_success(achieved, goal).all()
    env = envs.make_vector("FetchPickAndPlace", 400, num_threads=1, flat=True)
    own, goal, achieved = env.goals.split(env.reset(seed=0)[0])
    table = achieved[:, 2].min()
    lifted = goal[:, 2] > table + 1e-3
    assert 0.4 < lifted.float().mean() < 0.6
    assert 0.4 < (goal[:, 2] - table).max() < 0.451


def test_objects_lie_on_the_palm():
    env = envs.make_vector("HandManipulateEggFull", 16, num_threads=1, flat=True)
    env.reset(seed=0)
    center = env.simulation.model.site("object:center").id
    assert (env.simulation.field("site_xpos")[:, center, 2] > 0.04).all()


def test_pictures_show_the_goal():
    env = envs.make_vector("FetchReach", 1, render_mode="rgb_array", num_threads=1)
    env.reset(seed=0)
    before = env.render()
    state = env.state()
    state["memory.goal"] += 0.1
    env.load_state(state)
    assert (env.render() != before).any()


def test_a_crash_in_mid_episode_leaves_no_half_episode_in_the_replay():
    env = envs.make_vector("FetchReach", 3, num_threads=1, flat=True, max_episode_steps=10)

    class Idle:
        def act(self, observation, explore):
            return torch.zeros(len(observation), 4)

        def observe(self, transition):
            pass

    worker = RolloutWorker(env, Idle(), seed=0)
    config = ReplayConfig(capacity=300, hindsight=HindsightConfig(strategy="future"))
    replay = Replay(config, worker.observation, torch.zeros(3, 4), discount=0.98, seed=0, goals=env.goals)
    for step in range(10):
        if step == 6:
            env.simulation.field("qvel")[1, 0] = float("nan")
        transition = worker.step()
        replay.add(transition)
        assert transition.failed.tolist() == [False, step == 6, False]
    assert len(env.failures) == 1
    assert len(replay) == 20  # two whole episodes; neither the crashed one nor what has run since
    rows = replay.sample(500)
    assert set((rows.index % 3).tolist()) == {0, 2}
    assert rows.observation.isfinite().all()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("FetchPush", {"reward_type": "shaped"}, "env.reward_type=shaped"),
        ("FetchPush", {"threshold": 1.0}, "FetchPush has no option 'threshold'; did you mean 'distance_threshold'"),
        ("HandManipulateBlockFull", {"target_rotation": "y"}, "env.target_rotation=y"),
        (
            "HandManipulateBlockRotateZ",
            {"target_rotation": "ignore"},
            "env.target_position=ignore and env.target_rotation=ignore leave no goal",
        ),
        ("FetchPushh", {}, "unknown task 'FetchPushh'; did you mean 'FetchPush'"),
    ],
)
def test_wrong_options_are_refused_in_one_line(name, options, message):
    with pytest.raises(UserError) as refused:
        envs.make_vector(name, 1, **options)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_names_change_the_defaults_of_options():
    assert envs.task_options("HandManipulateBlockRotateZ")["target_rotation"] == "z"
    assert envs.task_options("HandManipulateBlockFull")["target_position"] == "random"
    assert envs.task_options("HandManipulatePenRotate")["ignore_z_target_rotation"] is True
    assert build("FetchSlideDense").reward_type == "dense"
    assert build("FetchSlideDense", reward_type="sparse").name == "FetchSlideDense"


def test_hindsight_of_stable_baselines3_trains_on_the_single_view():
    sb3 = pytest.importorskip("stable_baselines3")
    env = gymnasium.make("rlsuite/FetchReach")
    model = sb3.SAC(
        "MultiInputPolicy",
        env,
        replay_buffer_class=sb3.HerReplayBuffer,
        learning_starts=100,
        policy_kwargs={"net_arch": [16, 16]},
    )
    model.learn(160)
    rewards = model.replay_buffer.sample(64).rewards
    assert set(rewards.flatten().tolist()) <= {-1.0, 0.0}
    assert (rewards == 0).any()  # relabelled by our compute_reward
