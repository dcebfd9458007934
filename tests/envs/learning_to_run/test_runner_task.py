"""LearningToRun: obstacles, symmetry, repeated actions, falls, resuming, options."""

import dataclasses
import math

import gymnasium
import pytest
import torch
from gymnasium.utils.env_checker import check_env

import envs
from agents.assembly import make_evaluation_env
from envs.failures import load_failure, replay_failure, save_failure
from envs.learning_to_run import obstacles
from envs.learning_to_run.features import FEATURES
from envs.random import EnvironmentRandom
from rlsuite.config.compose import compose_train
from rlsuite.errors import UserError


def make(number=2, **options):
    chosen = {"num_threads": 1, "dtype": torch.float64, **options}
    env = envs.make_vector("LearningToRun", number, **chosen)
    env.reset(seed=0)
    return env


def draws(steps, number, size=18, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(steps, number, size, generator=generator, dtype=torch.float64)


def test_start():
    observation = make(1, difficulty=0).observation()[0]
    assert observation[:12].tolist() == [-0.05, 0.0, 0.91, *[0.0] * 9]
    # center of mass, head, toes and tali as computed from the model's numbers
    places = {18: -0.070, 19: 0.971, 22: 0.007, 23: 1.537, 28: 0.008, 29: -0.027, 32: -0.120, 33: 0.023}
    for index, value in places.items():
        assert float(observation[index]) == pytest.approx(value, abs=6e-4)
    assert observation[36:].tolist() == [1.0, 1.0, 100.0, 0.0, 0.0]


def test_gymnasium_finds_nothing_wrong():
    env = gymnasium.make("rlsuite/LearningToRun", action_repeat=5, features="ace")
    check_env(env.unwrapped, skip_render_check=True)


def test_ball_statistics():
    number = 10_000
    balls = obstacles.draw_balls(EnvironmentRandom(number, 0), torch.arange(number), 10)
    x, height, radius = balls.unbind(2)
    assert (x.diff(dim=1) >= 0.0).all()
    near, far = x < 5.0, x >= 5.0
    assert ((near.sum(1) == 3) & (x[near].min() >= 1.0)).all()
    assert float(x[near].mean()) == pytest.approx(3.0, abs=0.03)
    assert float(x[:, 3:].diff(dim=1).min()) >= 2.0
    assert float(x[:, 3:].diff(dim=1).max()) <= 4.0
    assert float(radius.mean()) == pytest.approx(0.1, abs=0.002)
    assert float(radius.min()) >= 0.05
    relative = height / radius
    assert float(relative[near].min()) >= -0.25
    assert float(relative[far].min()) >= -0.05
    assert float(relative.max()) <= 0.25
    strength = obstacles.draw_strength(EnvironmentRandom(number, 1), torch.arange(number))
    assert float(strength.mean()) == pytest.approx(1.0, abs=0.003)
    assert float(strength.std()) == pytest.approx(0.1, abs=0.002)


def test_next_ball_is_the_first_not_wholly_behind():
    balls = torch.tensor([[[1.0, 0.1, 0.2], [3.0, 0.0, 0.1]]], dtype=torch.float64)
    for pelvis, expected in ((0.0, [1.0, 0.1, 0.2]), (1.15, [-0.15, 0.1, 0.2]), (1.25, [1.75, 0.0, 0.1])):
        found = obstacles.next_ball(balls, torch.tensor([pelvis], dtype=torch.float64))
        assert found[0].tolist() == pytest.approx(expected)
    assert obstacles.next_ball(balls, torch.tensor([3.2], dtype=torch.float64)).tolist() == [[100.0, 0.0, 0.0]]


def lay(env, x, height, radius):
    """Give every environment one and the same first ball, the others far away."""
    balls = env.simulation.field("balls").unflatten(1, (-1, 3))
    balls[:] = torch.tensor([50.0, -5.0, 0.05], dtype=torch.float64)
    balls[:, 0] = torch.tensor([x, height, radius], dtype=torch.float64)
    task, everyone = env.task, torch.arange(env.num_envs)
    task.restore(env.simulation)
    env.set_state(everyone, *task.initial_state(env.simulation.facts, env.random, everyone))


@pytest.mark.parametrize("contact", ["mujoco", "analytic"])
def test_a_moved_ball_is_touched_where_it_is(contact):
    """A ball of its own radius pushes the foot only if it is laid there, and as large as it is said to be."""
    pushed = {}
    for name, ball in {
        "far": (50.0, 0.0, 0.2),
        "there": (0.2, 0.1, 0.2),
        "there, small": (0.2, 0.1, 0.05),
        "behind": (-0.3, 0.1, 0.2),
    }.items():
        env = make(1, difficulty=1, contact=contact)
        lay(env, *ball)
        for _ in range(5):
            observation, *_ = env.step(torch.zeros(1, 18))
        pushed[name] = float(observation[0, 30])  # the right toes
    assert pushed["there, small"] == pushed["far"]
    assert pushed["there"] < pushed["far"] - 1e-3
    assert pushed["behind"] > pushed["far"] + 1e-3


@pytest.mark.parametrize(
    "options", [*({"features": name} for name in FEATURES), {"contact": "analytic"}, {"muscles": "source"}]
)
def test_mirror_image_of_a_step_is_the_step_of_the_mirror_image(options):
    env, twin = make(3, difficulty=0, **options), make(3, difficulty=0, **options)
    mirror = env.mirror
    observation = env.observation()
    assert torch.equal(mirror.observations(mirror.observations(observation)), observation)
    for action in draws(25, 3):
        assert torch.equal(mirror.actions(mirror.actions(action)), action)
        observation = env.step(action)[0]
        mirrored = twin.step(mirror.actions(action))[0]
        torch.testing.assert_close(mirror.observations(mirrored), observation, rtol=0, atol=1e-6)
    assert not torch.allclose(mirrored, observation, atol=1e-3)


def test_momentum_of_free_flight():
    """Without gravity and activation nothing moves the center of mass but a constant speed."""
    env = make(4, difficulty=0)
    env.simulation.model.opt.gravity[:] = 0.0
    gravity = env.simulation.batch.expand("opt.gravity")
    gravity[:] = 0.0
    generator = torch.Generator().manual_seed(0)
    qpos = torch.zeros(4, 9, dtype=torch.float64)
    qpos[:, 1] = 3.0
    qpos[:, 4], qpos[:, 7] = -0.5, -0.8
    qvel = 2.0 * torch.rand(4, 9, generator=generator, dtype=torch.float64) - 1.0
    qvel[:, 0] = 4.0
    start = env.set_state(torch.arange(4), qpos, qvel)
    env.simulation.field("activation").zero_()
    for _ in range(30):
        observation, *_ = env.step(torch.zeros(4, 18))
    way = (observation[:, 18] - start[:, 18]) / 0.3
    torch.testing.assert_close(way, start[:, 20], rtol=0.01, atol=0.0)
    torch.testing.assert_close(observation[:, 20], start[:, 20], rtol=0.01, atol=0.0)


@pytest.mark.parametrize("contact", ["mujoco", "analytic"])
def test_a_repeated_action_is_as_many_steps_and_a_fall_ends_the_motion(contact):
    options = {"difficulty": 1, "contact": contact, "shaping": ["lean", "step", "fall"], "features": "ace"}
    single, double = make(3, **options), make(3, **options, action_repeat=5)
    assert double.max_episode_steps == 200
    low, everyone = torch.zeros(3, 9, dtype=torch.float64), torch.arange(3)
    low[:, 1] = torch.tensor([0.67, 0.69, 0.9])
    low[:2, 3:] = torch.tensor([1.0, -1.8, 0.0, 1.0, -1.8, 0.0])  # the feet in the air
    for env in (single, double):
        env.set_state(everyone, low, torch.zeros_like(low))
    for action in draws(30, 3, seed=4):
        reward, fallen, last = torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.bool), None
        for _ in range(5):
            _, paid, terminated, _, info = single.step(action)
            reward += torch.where(fallen, 0.0, paid)
            now = terminated & ~fallen
            last = info["final_obs"] if last is None else torch.where(fallen.unsqueeze(1), last, info["final_obs"])
            fallen |= now
        _, paid, terminated, _, info = double.step(action)
        assert torch.equal(terminated, fallen)
        torch.testing.assert_close(paid, reward, rtol=0, atol=1e-12)
        torch.testing.assert_close(info["final_obs"], last, rtol=0, atol=1e-12)
        if fallen.any():
            return
    raise AssertionError("nobody fell")


def test_a_standing_episode_lasts_ten_seconds_whatever_the_repeat():
    for repeat, kind in ((1, "vector"), (4, "vector"), (250, "single")):
        if kind == "vector":
            assert make(1, action_repeat=repeat).max_episode_steps == 1000 // repeat
        else:
            env = gymnasium.make("rlsuite/LearningToRun", action_repeat=repeat)
            env.reset(seed=0)
            env.unwrapped.vector._elapsed += 2  # 2 of 4 decisions made
            assert [env.step(env.action_space.sample())[2:4] for _ in range(1)] == [(True, False)]
    assert make(1, action_repeat=5, max_episode_steps=300).max_episode_steps == 60
    single = gymnasium.make("rlsuite/LearningToRun", action_repeat=4).unwrapped
    single.reset(seed=0)
    single.vector._elapsed += 249
    *_, terminated, truncated, _ = single.step(single.action_space.sample())
    assert (terminated, truncated) == (False, True)


@pytest.mark.parametrize("features", FEATURES)
def test_resume_in_mid_episode_with_features_and_balls_is_the_same_bits(features):
    options = {"features": features, "shaping": ["step"], "stale_bodies": True, "action_repeat": 2, "max_obstacles": 5}
    options["max_episode_steps"] = 24
    env = make(3, **options)
    actions = draws(17, 3, seed=2)
    for action in actions[:8]:
        env.step(action)
    saved = env.state()
    other = envs.make_vector("LearningToRun", 3, num_threads=1, dtype=torch.float64, **options)
    other.load_state(saved)
    ended = 0
    for action in actions[8:]:
        one, two = env.step(action), other.step(action)
        ended += int(one[3].sum())
        for a, b in zip((*one[:4], *one[4].values()), (*two[:4], *two[4].values()), strict=True):
            assert torch.equal(a, b)
    assert ended  # the next episodes' balls, too
    with pytest.raises(ValueError, match="same task options"):
        make(3, **{**options, "features": "ace" if features != "ace" else "sj"}).load_state(saved)


def test_failure_record_replays_with_what_was_remembered(tmp_path):
    env = make(2, difficulty=1, action_repeat=2)
    env.step(torch.ones(2, 18))
    env.simulation.field("activation")[1, 3] = 1e9
    env.step(torch.ones(2, 18))
    for _ in range(3):  # the next episode knows nothing of it
        assert torch.isfinite(env.step(torch.ones(2, 18))[0]).all()
    (failure,) = env.failures
    save_failure(failure, tmp_path / "faults" / "one")
    loaded = load_failure(tmp_path / "faults" / "one")
    assert float(loaded.memory["activation"][3]) == 1e9
    replay = replay_failure(loaded)
    assert replay.before == []
    assert replay.after
    assert replay.substep is not None
    calm = dict(loaded.memory) | {"activation": torch.zeros(18).double()}
    assert replay_failure(type(loaded)(**{**vars(loaded), "memory": calm})).substep is None


def test_stale_places_are_those_of_the_step_before():
    env, true = make(1, difficulty=0, stale_bodies=True), make(1, difficulty=0)
    before, stale = true.observation(), 0
    for action in draws(40, 1):
        seen, real = env.step(action)[0], true.step(action)[0]
        current = [*range(22), 24, 25, *range(36, 41)]
        assert torch.equal(seen[:, current], real[:, current])
        stale += int(not torch.equal(seen, real))
        before = seen
    assert before.shape == (1, 41)
    assert 10 <= stale <= 30
    with pytest.raises(UserError, match="stale_bodies=false"):
        _ = env.mirror


def test_pictures_show_each_runners_own_balls():
    env = make(2, difficulty=1, render_mode="rgb_array", render_size=(64, 96))
    lay(env, 0.8, 0.1, 0.1)
    same = [env.render(index) for index in (0, 1)]
    assert (same[0] == same[1]).all()
    env.simulation.field("balls")[1, 2] = 0.3
    env.task.restore(env.simulation)
    assert (env.render(0) == same[0]).all()
    assert (env.render(1) != same[1]).any()


def test_binary_actions():
    threshold, plain = (make(2, difficulty=0, binary_actions=kind) for kind in ("threshold", ""))
    switches = make(2, difficulty=0, binary_actions="switches")
    assert isinstance(switches.single_action_space, gymnasium.spaces.MultiBinary)
    for action in draws(5, 2):
        on = (action >= 0.5).double()
        found = [env.step(value)[0] for env, value in ((threshold, action), (plain, on), (switches, on))]
        assert torch.equal(found[0], found[1])
        assert torch.equal(found[2], found[1])


def test_psoas_strength_weakens_iliopsoas_or_by_the_bug_the_left_gluteus():
    weak = {}
    for bug in (False, True):
        env = make(1, difficulty=2, psoas_bug=bug)
        env.simulation.field("strength")[:] = torch.tensor([0.5, 0.6])
        excitation = torch.zeros(1, 18)
        excitation[:, 11 if bug else 12] = 1.0
        weak[bug] = env.step(excitation)[0]
        env = make(1, difficulty=2, psoas_bug=bug)
        env.simulation.field("strength")[:] = torch.tensor([0.5, 1.0])
        strong = env.step(excitation)[0]
        assert strong[0, 36:38].tolist() == [1.0, 0.5]  # left before right
        pulls = 1.0 if bug else -1.0  # the left hip, back or forth
        assert pulls * float(strong[0, 9]) < pulls * float(weak[bug][0, 9]) - 1e-5


def test_evaluation_pays_the_challenges_reward_at_its_own_repeat():
    given = {"shaping": ("lean",), "action_repeat": 4, "difficulty": 2}
    assert envs.evaluation_options("LearningToRun", given) == {"shaping": (), "action_repeat": 1, "difficulty": 2}
    given = {"action_repeat": 5, "evaluation_repeat": 0, "evaluation_obstacles": 10, "max_obstacles": 3}
    chosen = envs.evaluation_options("LearningToRun", given)
    assert (chosen["action_repeat"], chosen["max_obstacles"]) == (5, 10)
    config = dataclasses.replace(compose_train(["env=LearningToRun", "env.action_repeat=5"])[0], num_threads=1)
    for asked, repeat, balls in (
        ({"evaluation_obstacles": 7}, 1, 7),
        ({"evaluation_repeat": 4, "action_repeat": 2}, 2, 3),
    ):
        task = make_evaluation_env(config, 1, options=asked).task
        assert (task.action_repeat, task.max_obstacles) == (repeat, balls)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shaping": ["leen"]}, "unknown term 'leen'; did you mean 'lean'"),
        ({"shaping": "lean"}, "a list of names"),
        ({"features": "acee"}, "did you mean 'ace'"),
        ({"action_repeat": 3}, "use a divisor"),
        ({"action_repeat": 0}, "use a divisor"),
        ({"max_obstacles": 21}, "from 0 to 20"),
        ({"difficulty": 3}, "use 0, 1 or 2"),
        ({"contact": "soft"}, "use mujoco, analytic"),
        ({"muscles": "hill"}, "use mujoco, source"),
        ({"frame_skip": 5}, "are not 10 ms"),
        ({"action_repeat": 4, "max_episode_steps": 301}, "a multiple of env.action_repeat=4"),
        ({"binary_actions": "yes"}, "use , threshold, switches"),
        ({"binary_actions": True}, "use , threshold, switches"),
        ({"contact": 1}, "use mujoco, analytic"),
        ({"features": 0}, "use raw, ace"),
    ],
)
def test_bad_options_are_one_line(options, message):
    with pytest.raises(UserError, match=message) as caught:
        envs.make_vector("LearningToRun", 1, **options)
    assert "\n" not in str(caught.value)


def test_not_finite_actions_are_refused():
    env = make(2)
    action = torch.full((2, 18), 0.5)
    action[1, 3] = math.nan
    with pytest.raises(ValueError, match="environment 1 is not finite"):
        env.step(action)
