"""The vector environment: final observations, truncation, determinism, exact resume.

On both engines where that is quick; tests/envs/test_device_vector.py has what only the engine "warp" has.
"""

import importlib.util

import gymnasium
import pytest
import torch
from gymnasium.vector import AutoresetMode

import envs
from envs.catalogue import task_class
from envs.task import Task
from rlsuite.errors import UserError

TASKS = [name for name in envs.task_names() if not name.endswith("Dense") and issubclass(task_class(name), Task)]
NEEDS_WARP = pytest.mark.skipif(importlib.util.find_spec("mujoco_warp") is None, reason="mujoco-warp is not installed")
BOTH = pytest.mark.parametrize("engine", ["mujoco", pytest.param("warp", marks=NEEDS_WARP)])
IN_GYMNASIUM = [name for name in TASKS if f"{name}-v5" in gymnasium.registry]


def random_actions(env, steps, seed=0, envs_drawn=16):
    """Return `steps` actions; environment i gets the same ones whatever the number of environments."""
    generator = torch.Generator().manual_seed(seed)
    low, high = (torch.from_numpy(bound) for bound in (env.single_action_space.low, env.single_action_space.high))
    size = len(low)
    return [
        (low + (high - low) * torch.rand(envs_drawn, size, generator=generator))[: env.num_envs] for _ in range(steps)
    ]


def roll(env, actions):
    """Return everything `step` gave, one list of tensors a step."""
    record = []
    for action in actions:
        observation, reward, terminated, truncated, info = env.step(action)
        record.append([observation, reward, terminated, truncated, *info.values()])
    return record


def assert_same_record(left, right, num_envs):
    for step, (one, other) in enumerate(zip(left, right, strict=True)):
        for a, b in zip(one, other, strict=True):
            assert torch.equal(a[:num_envs], b[:num_envs]), step


@pytest.mark.parametrize("name", TASKS)
def test_shapes_and_dtypes(name):
    env = envs.make_vector(name, 3, num_threads=1, flat=True)
    observation, info = env.reset(seed=0)
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert observation.shape == env.observation_space.shape
    assert observation.dtype == torch.float32
    assert all(value.shape[0] == 3 for value in info.values())
    observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
    assert observation.shape == info["final_obs"].shape == env.observation_space.shape
    assert reward.shape == terminated.shape == truncated.shape == info["failed"].shape == (3,)
    assert terminated.dtype == truncated.dtype == info["failed"].dtype == torch.bool
    assert reward.dtype == observation.dtype == torch.float32
    assert isinstance(env, gymnasium.vector.VectorEnv)
    assert env.spec_id == f"rlsuite/{name}"


@pytest.mark.parametrize("name", TASKS)
def test_same_bits_at_any_thread_count_and_number_of_environments(name):
    records = []
    for num_envs, threads in ((7, 1), (7, 2), (3, 2), (1, 1)):
        env = envs.make_vector(name, num_envs, num_threads=threads, max_episode_steps=30, flat=True)
        env.reset(seed=5)
        assert env.simulation.num_threads == min(threads, num_envs)
        records.append((num_envs, roll(env, random_actions(env, 45))))
    for num_envs, record in records[1:]:
        assert_same_record(record, records[0][1], num_envs)


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("contact_forces", ["sensor", "exact"])
def test_resume_in_mid_episode_is_the_same_bits(name, contact_forces):
    options = {"max_episode_steps": 25, "flat": True}
    if "contact_forces" in envs.task_options(name):
        options["contact_forces"] = contact_forces
    elif contact_forces == "exact":
        pytest.skip("the task does not use contact forces")
    env = envs.make_vector(name, 4, num_threads=2, **options)
    env.reset(seed=1)
    actions = random_actions(env, 50)
    roll(env, actions[:11])
    saved = env.state()
    assert all(value.device.type == "cpu" for value in saved.values())
    expected = roll(env, actions[11:])
    other = envs.make_vector(name, 4, num_threads=1, **options)
    other.load_state(saved)
    assert torch.equal(other.observation()[0], saved["observation"][0])
    assert_same_record(roll(other, actions[11:]), expected, 4)
    env.load_state(saved)  # and in the environment that has gone on meanwhile
    assert_same_record(roll(env, actions[11:]), expected, 4)
    for name, value in other.state().items():
        assert torch.equal(value, env.state()[name])


@BOTH
def test_state_of_another_size_is_refused(engine):
    state = envs.make_vector("Hopper", 2, engine=engine).state()
    with pytest.raises(ValueError, match="num_envs"):
        envs.make_vector("Hopper", 3, engine=engine).load_state(state)


@pytest.mark.parametrize(
    ("name", "engine"),
    [
        *((name, "mujoco") for name in IN_GYMNASIUM),
        *(pytest.param(name, "warp", marks=NEEDS_WARP) for name in ("Hopper", "Reacher")),
    ],
)
def test_truncated_at_exactly_the_registered_limit(name, engine):
    limit = gymnasium.spec(f"{name}-v5").max_episode_steps
    unending = {"terminate_when_unhealthy": False} if "terminate_when_unhealthy" in envs.task_options(name) else {}
    env = envs.make_vector(name, 2, engine=engine, **unending)
    assert env.max_episode_steps == limit
    env.reset(seed=0)
    state = env.state()
    state["elapsed"][0] = limit - 3
    env.load_state(state)
    still = torch.zeros(env.action_space.shape)
    for step in range(1, 5):
        observation, _, terminated, truncated, info = env.step(still)
        if terminated.any():  # the pendulums cannot be kept from ending
            assert name.startswith("Inverted")
            return
        assert truncated.tolist() == [step == 3, False]
        assert torch.equal(info["final_obs"][1], observation[1])
        assert torch.equal(info["final_obs"][0], observation[0]) == (step != 3)


@BOTH
@pytest.mark.parametrize(
    ("height", "elapsed", "terminated", "truncated"),
    [(1.3, 0, False, False), (1.3, 9, False, True), (0.3, 0, True, False), (0.3, 9, True, True)],
)
def test_final_observation_table(height, elapsed, terminated, truncated, engine):
    """Row by row: running, truncated, terminated, both; always against a twin that is never reset."""
    common = {"dtype": torch.float64, "engine": engine}
    env = envs.make_vector("Hopper", 2, max_episode_steps=10, **common)
    twin = envs.make_vector("Hopper", 2, max_episode_steps=None, terminate_when_unhealthy=False, **common)
    for one in (env, twin):
        one.reset(seed=0)
        qpos, qvel = (one.simulation.field(name).clone() for name in ("qpos", "qvel"))
        qpos[0, 1] = height
        one.set_state(torch.arange(2), qpos, qvel)
    state = env.state()
    state["elapsed"][0] = elapsed
    env.load_state(state)
    action = torch.full((2, 3), 0.1)
    truth = twin.step(action)[0]
    observation, _, was_terminated, was_truncated, info = env.step(action)
    assert (bool(was_terminated[0]), bool(was_truncated[0])) == (terminated, truncated)
    assert (bool(was_terminated[1]), bool(was_truncated[1])) == (False, False)
    assert torch.equal(info["final_obs"], truth)
    assert torch.equal(observation[1], truth[1])
    if terminated or truncated:
        noise = env.task.reset_noise_scale
        assert abs(float(observation[0, 0]) - 1.25) <= noise  # a start state: the standing height
        assert int(env.state()["elapsed"][0]) == 0
    else:
        assert torch.equal(observation[0], truth[0])


@BOTH
def test_returned_tensors_are_never_overwritten(engine):
    env = envs.make_vector("Hopper", 3, dtype=torch.float64, engine=engine)
    observation, _ = env.reset(seed=0)
    before = observation.clone()
    step = env.step(torch.full((3, 3), 0.5))
    kept = [value.clone() for value in [*step[:4], *step[4].values()]]
    assert torch.equal(observation, before)
    step[0].fill_(0.0)  # nor does writing to them reach the environment
    for _ in range(30):
        env.step(torch.ones(3, 3))
    for now, then in zip([*step[1:4], *list(step[4].values())[:-2]], [*kept[1:4], *kept[4:-2]], strict=True):
        assert torch.equal(now, then)


def test_resetting_one_environment_leaves_the_others_fields():
    env = envs.make_vector("Humanoid", 3)
    env.reset(seed=0)
    roll(env, random_actions(env, 5))
    simulation = env.simulation
    names = ("qpos", "qvel", "cinert", "cvel", "qfrc_actuator", "cfrc_ext", "xipos")
    before = {name: simulation.field(name).clone() for name in names}
    facts = simulation.facts
    one = torch.tensor([1])
    simulation.reset(one, facts.initial_qpos[None], facts.initial_qvel[None])
    for name in names:
        now = simulation.field(name)
        assert torch.equal(now[[0, 2]], before[name][[0, 2]]), name
        assert not torch.equal(now[1], before[name][1]) or name == "cfrc_ext"
    assert not simulation.field("cfrc_ext")[1].any()


@BOTH
def test_reset_with_seed_repeats_and_without_goes_on(engine):
    env = envs.make_vector("Hopper", 2, engine=engine)
    first, _ = env.reset(seed=4)
    second, _ = env.reset()
    again, _ = env.reset(seed=4)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert not torch.equal(first[0], first[1])
    assert env.seed == 4


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("Humanoyd", {}, "did you mean 'Humanoid'"),
        ("rlsuite/halfcheetah", {}, "did you mean 'HalfCheetah'"),
        ("Humanoid", {"frameskip": 3}, "did you mean 'frame_skip'"),
        ("Humanoid", {"frame_skip": 0}, "frame_skip=0 must be at least 1"),
        ("Humanoid", {"frame_skip": 2.5}, "must be an integer"),
        ("Humanoid", {"healthy_z_range": (2.0, 1.0)}, "low <= high"),
        ("Humanoid", {"healthy_z_range": 1.0}, "a pair"),
        ("Humanoid", {"contact_forces": "sensors"}, "'sensor' or 'exact'"),
        ("Humanoid", {"terminate_when_unhealthy": "no"}, "true or false"),
        ("Humanoid", {"ctrl_cost_weight": "high"}, "a number"),
        ("Humanoid", {"xml_file": "humanoids.xml"}, "did you mean 'humanoid.xml'"),
        ("Ant", {"main_body": "torsoo"}, "no body 'torsoo'"),
        ("other/Humanoid", {}, "unknown environment"),
    ],
)
def test_wrong_names_and_options(name, options, message):
    with pytest.raises(UserError, match=message.replace("(", r"\(")) as caught:
        envs.make_vector(name, 1, **options)
    assert "\n" not in str(caught.value)


def test_options_from_lists_and_own_model(tmp_path):
    from envs.simulation.model import asset_folders

    text = (asset_folders()[0] / "hopper.xml").read_text().replace('timestep="0.002"', 'timestep="0.001"')
    path = tmp_path / "mine.xml"
    path.write_text(text)
    env = envs.make_vector("Hopper", 1, xml_file=str(path), healthy_z_range=[0.5, 3.0])
    assert env.simulation.facts.timestep == 0.001
    assert env.task.healthy_z_range == (0.5, 3.0)
    path.write_text("<mujoco><worldbody><bo")
    with pytest.raises(UserError, match="not a valid MuJoCo model"):
        envs.make_vector("Hopper", 1, xml_file=str(path))


def test_torch_keeps_its_threads():
    before = torch.get_num_threads()
    env = envs.make_vector("Hopper", 2)
    env.reset(seed=0)
    env.step(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="shape"):
        env.step(torch.zeros(2, 2))
    assert torch.get_num_threads() == before


@BOTH
def test_wrong_construction(engine):
    with pytest.raises(ValueError, match="num_envs"):
        envs.make_vector("Hopper", 0, engine=engine)
    with pytest.raises(ValueError, match="dtype"):
        envs.make_vector("Hopper", 1, dtype=torch.float16, engine=engine)
    with pytest.raises(gymnasium.error.ResetNeeded):
        envs.make_vector("Hopper", 1, engine=engine).step(torch.zeros(1, 3))
