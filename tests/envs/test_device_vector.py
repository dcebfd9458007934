"""The engine "warp" beside "mujoco", on a CPU: the same starts, the same physics, the same episodes; and its faults.

Physics is compared over 100 physics steps without contacts and 10 with them: what float32 rounds differently grows,
and where a contact begins a substep earlier the two part for good.

Compiling a model's kernels takes seconds to minutes the first time: by default two small models.
"""

import importlib.util

import mujoco
import pytest
import torch
from host_waits import NoHostSync

import envs
from envs.catalogue import build, task_class
from envs.failures import replay_failure
from envs.random import EnvironmentRandom
from envs.simulation.cpu import CpuSimulation
from envs.task import Task
from rlsuite.errors import NonFiniteActionError, UserError
from rlsuite.running.cuda_graph import GraphedStep, stand_in

pytest.importorskip("mujoco_warp", reason="mujoco-warp is not installed (extra: gpu)")
from envs.simulation.gpu import WarpSimulation

QUICK = ("Hopper", "Reacher")
SAME_MODEL = {"FixedHorizonHalfCheetahNoisyAction", "FixedHorizonHalfCheetahNoisyObservation"}  # another is run
SAME_MODEL |= {f"HandManipulateBlockRotate{kind}" for kind in ("Z", "Parallel", "XYZ")}
SAME_MODEL |= {"HandManipulateEggRotate", "HandManipulatePenRotate"}
TASKS = [
    name
    for name in envs.task_names()
    if not name.endswith(("Dense", "Long")) and name not in SAME_MODEL and issubclass(task_class(name), Task)
]
SETTLED = [name for name in TASKS if build(name).starts_by_physics]
CLOSE = 1e-3  # how far the engines may part
TURNED = ("Ant", "FixedHorizonAnt")  # with pyramids Ant's velocities differ by 0.06 after the first contact's substep
ALL = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in TASKS]
DRAWN = [name for name in ALL if isinstance(name, str) or name.values[0] not in SETTLED]


def engine_of(name, num_envs=8, **options):
    return envs.make_vector(name, num_envs, engine="warp", flat=True, **options)


def actions_of(low, high, steps, num_envs=8, seed=0):
    low, high = low.double().clamp(-1e3, 1e3), high.double().clamp(-1e3, 1e3)
    generator = torch.Generator().manual_seed(seed)
    return [low + (high - low) * torch.rand(num_envs, len(low), generator=generator) for _ in range(steps)]


def with_newton(monkeypatch, name, *, contacts):
    """Return a task whose model has Newton's solver on both engines, with or without contacts.

    Of `TURNED` the contacts have elliptic cones: where a capsule stands on a plane, steeper than 60 degrees, the
    engines turn the contact's tangents differently, on which a pyramid's forces depend and a cone's do not.
    """
    kind = task_class(name)
    before = kind.edits

    def newton(spec):
        spec.option.solver = mujoco.mjtSolver.mjSOL_NEWTON
        if name in TURNED:
            spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
        if not contacts:
            spec.option.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_CONTACT)

    monkeypatch.setattr(kind, "edits", lambda self: [*before(self), newton])
    return build(name)


def settled(name):
    """Return positions and velocities of starts that took physics, in which the engines part: the CPU engine's."""
    task = build(name)
    simulation = CpuSimulation.of_task(task, 8, num_threads=1)
    task.begin(simulation, EnvironmentRandom(8, 3), torch.arange(8))
    return simulation.field("qpos").clone(), simulation.field("qvel").clone()


def both_rolled(task, physics_steps, starts=None):
    """Yield positions and velocities (8, nq + nv) of both engines, from the same starts, under the same controls."""
    steps = -(-physics_steps // task.frame_skip)
    # Without contacts no object lies on a palm, where the room for contacts is otherwise measured.
    room = {} if starts is None else {"nconmax": 100, "njmax": 600}
    pair = CpuSimulation.of_task(task, 8, num_threads=1), WarpSimulation(task, 8, **room)
    for simulation in pair:
        for name in task.other_fields:
            simulation.field(name)
        task.observation(simulation)
    randoms = [EnvironmentRandom(8, 3, dtype=simulation.dtype) for simulation in pair]
    everyone = torch.arange(8)
    for simulation, random in zip(pair, randoms, strict=True):
        task.begin(simulation, random, everyone) if starts is None else simulation.reset(everyone, *starts)
    yield [torch.cat([one.field("qpos"), one.field("qvel")], dim=1).double() for one in pair]
    for action in actions_of(*task.action_bounds(pair[0].facts), steps):
        for simulation, random in zip(pair, randoms, strict=True):
            task.actuate(simulation, action.to(simulation.dtype), random)
            task.physics(simulation)
            task.after_step(simulation, random)
        yield [torch.cat([one.field("qpos"), one.field("qvel")], dim=1).double() for one in pair]
    pair[1].refuse_overflow()


def difference(left, right):
    """Return the largest difference, absolute of small numbers and relative of large ones."""
    return float(((left - right).abs() / (1.0 + left.abs())).max())


@pytest.mark.parametrize("name", ALL)
def test_starts_are_equal_and_free_motion_stays_so(name, monkeypatch):
    starts = settled(name) if name in SETTLED else None
    task = with_newton(monkeypatch, name, contacts=False)
    differences = [difference(*both) for both in both_rolled(task, 100, starts)]
    assert differences[0] < 1e-6
    assert max(differences) < CLOSE


@pytest.mark.parametrize("name", ALL)
def test_motion_with_contacts_stays_equal_for_a_while(name, monkeypatch):
    starts = settled(name) if name in SETTLED else None
    task = with_newton(monkeypatch, name, contacts=True)
    assert max(difference(*both) for both in both_rolled(task, 10, starts)) < CLOSE


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTLED)
def test_an_object_is_dropped_until_it_lies_and_nobody_else_is_touched(name):
    env = engine_of(name, max_episode_steps=2)
    env.reset(seed=5)
    center = env.simulation.facts.center.index
    assert (env.simulation.field("site_xpos")[:, center, 2] > 0.04).all()
    env.elapsed[:] = torch.tensor([0, 1, 0, 1, 0, 0, 0, 0])
    before = env.state()
    _, _, _, truncated, info = env.step(torch.zeros(8, env.action_size))
    assert truncated.tolist() == [False, True, False, True, False, False, False, False]
    assert not info["failed"].any()
    assert (env.simulation.field("site_xpos")[truncated, center, 2] > 0.04).all()
    moved = env.state()["random.counters"] != before["random.counters"]
    assert torch.equal(moved, truncated)
    alone = engine_of(name, max_episode_steps=9)
    alone.load_state(before)
    alone.step(torch.zeros(8, env.action_size))
    assert torch.equal(env.simulation.state()[~truncated], alone.simulation.state()[~truncated])
    env.report()
    assert env.failures == []


@pytest.mark.slow
def test_balls_of_their_own_radii_push_alike():
    task = build("LearningToRun", action_repeat=2)
    pair = CpuSimulation.of_task(task, 8, num_threads=1), WarpSimulation(task, 8)

    def end(simulation, ahead):
        """Return where runners are that have run, for 40 ms, at balls so many metres ahead of them."""
        random = EnvironmentRandom(8, 3, dtype=simulation.dtype)
        for name in task.other_fields:
            simulation.field(name)
        task.begin(simulation, random, torch.arange(8))
        balls = simulation.field("balls").unflatten(1, (-1, 3))
        radius = torch.linspace(0.05, 0.4, 8).to(balls)
        balls[:, 0] = torch.stack([ahead + radius, 0.0 * radius, radius], dim=1)
        task.restore(simulation)
        simulation.field("mocap_pos")[:, 0] = torch.stack([ahead + radius, 0.0 * radius, 0.0 * radius], dim=1)
        simulation.field("qvel")[:, 0] = 2.0
        for _ in range(2):
            task.actuate(simulation, torch.full((8, 18), 0.1).to(balls), random)
            task.physics(simulation)
        return torch.cat([simulation.field(name) for name in ("qpos", "qvel", "raw", "paid")], dim=1).double()

    near, far = ([end(simulation, ahead) for simulation in pair] for ahead in (0.15, 0.8))
    assert max(difference(*near), difference(*far)) < CLOSE
    assert ((near[0] - far[0]).abs().amax(dim=1) > 0.5).all()  # every ball is met


@pytest.mark.parametrize("name", DRAWN)
def test_both_engines_draw_the_same_episodes(name):
    """Also those that begin while others go on: episodes end at different times and none is left out."""
    pair = [
        envs.make_vector(name, 8, num_threads=1, flat=True, max_episode_steps=5),
        engine_of(name, max_episode_steps=5),
    ]
    elapsed = torch.arange(8) % 4
    starts = [env.reset(seed=5)[0] for env in pair]
    torch.testing.assert_close(*starts, rtol=1e-5, atol=1e-5)
    for env in pair:
        env.elapsed.copy_(elapsed)
    action = torch.zeros(8, pair[0].action_size)
    for _ in range(11):
        (seen, _, _, cut, told), (ours, _, _, ours_cut, ours_told) = (env.step(action) for env in pair)
        ended = told["failed"] | cut
        assert torch.equal(cut, ours_cut)
        assert not ours_told["failed"].any()
        torch.testing.assert_close(ours[ended], seen[ended], rtol=1e-4, atol=1e-4)
    states = [env.state() for env in pair]
    assert torch.equal(states[0]["random.counters"], states[1]["random.counters"])
    assert torch.equal(states[0]["episode"], states[1]["episode"])
    pair[1].report()
    assert pair[1].failures == []


SLOW = pytest.mark.slow
STATISTICS = ["Hopper", *(pytest.param(name, marks=SLOW) for name in ("HalfCheetah", "Walker2d", "Ant", "Humanoid"))]


def episodes(env, seed):
    """Return returns and lengths (64,) of an episode each of 64 environments under random actions."""
    env.reset(seed=seed)
    alive, returns, lengths = torch.ones(64, dtype=torch.bool), torch.zeros(64), torch.zeros(64)
    low, high = (torch.from_numpy(bound) for bound in (env.single_action_space.low, env.single_action_space.high))
    for action in actions_of(low, high, 100, num_envs=64, seed=seed):
        _, reward, terminated, truncated, _ = env.step(action)
        returns += torch.where(alive, reward.float(), 0.0)
        lengths += alive
        alive &= ~(terminated | truncated)
    assert not alive.any()
    return returns, lengths


@pytest.mark.parametrize("name", STATISTICS)
def test_random_episodes_are_distributed_alike(name):
    stats = pytest.importorskip("scipy.stats")
    pair = [
        envs.make_vector(name, 64, num_threads=1, max_episode_steps=100),
        envs.make_vector(name, 64, engine="warp", max_episode_steps=100),
    ]
    found = [episodes(env, seed) for seed, env in enumerate(pair)]
    for ours, theirs in zip(*found, strict=True):
        assert stats.ks_2samp(ours.numpy(), theirs.numpy()).pvalue > 0.01


def rolled(env, actions):
    return [
        torch.cat([value.double().flatten() for value in (*got[:4], *got[4].values())])
        for got in map(env.step, actions)
    ]


@pytest.mark.parametrize("name", QUICK)
def test_runs_repeat_and_go_on_to_the_bit(name):
    env, again = (engine_of(name, 4, max_episode_steps=40) for _ in range(2))
    bounds = [torch.from_numpy(bound) for bound in (env.single_action_space.low, env.single_action_space.high)]
    actions = actions_of(*bounds, 300, num_envs=4)
    env.reset(seed=1)
    again.reset(seed=1)
    first, other = rolled(env, actions[:150]), rolled(again, actions[:150])
    saved = env.state()
    assert all(value.device.type == "cpu" for value in saved.values())
    first += rolled(env, actions[150:])
    other += rolled(again, actions[150:])
    assert all(map(torch.equal, first, other))
    env.load_state(saved)
    assert all(map(torch.equal, rolled(env, actions[150:]), first[150:]))
    fresh = engine_of(name, 4, max_episode_steps=40)
    fresh.load_state(saved)
    assert torch.equal(fresh.observation(), saved["observation"])
    assert all(map(torch.equal, rolled(fresh, actions[150:]), first[150:]))


@pytest.mark.parametrize("name", DRAWN)
def test_a_step_never_waits_for_the_host(name):
    env = engine_of(name, 4, max_episode_steps=3)
    env.reset(seed=0)
    action = torch.zeros(4, env.action_size)
    for _ in range(4):
        env.step(action)  # constants are copied and physics is recorded once
    with NoHostSync():
        for _ in range(4):
            _, reward, *_ = env.step(action)
        with pytest.raises(AssertionError, match="_local_scalar_dense"):  # what the guard would have said
            float(reward[0])


def test_a_recorded_step_leaves_what_an_eager_one_leaves():
    eager, recorded = (engine_of("Hopper", 4, max_episode_steps=6) for _ in range(2))
    recorded.graphed = GraphedStep(recorded._whole_step, recorded._undo, record=stand_in)
    for env in (eager, recorded):
        env.reset(seed=2)
    actions = actions_of(-torch.ones(3), torch.ones(3), 15, num_envs=4)
    assert all(map(torch.equal, rolled(eager, actions), rolled(recorded, actions)))
    assert all(map(torch.equal, eager.state().values(), recorded.state().values()))


def test_one_failed_world_does_not_touch_the_others():
    clean, env = (engine_of("Hopper", 8) for _ in range(2))
    actions = actions_of(-torch.ones(3), torch.ones(3), 8)
    for one in (clean, env):
        one.reset(seed=2)
    others = [index for index in range(8) if index != 5]
    for step, action in enumerate(actions):
        if step == 3:
            env.simulation.field("qvel")[5, 2] = float("nan")
            last = env.observation()
        wanted, got = clean.step(action), env.step(action)
        for a, b in zip([*wanted[:4], *wanted[4].values()], [*got[:4], *got[4].values()], strict=True):
            assert torch.equal(a[others], b[others])
            assert torch.isfinite(b).all()
        assert got[4]["failed"].tolist() == [step == 3 and index == 5 for index in range(8)]
        if step == 3:
            assert (float(got[1][5]), bool(got[2][5]), bool(got[3][5])) == (0.0, False, True)
            assert torch.equal(got[4]["final_obs"][5], last[5])
            assert int(env.elapsed[5]) == 0
    assert env.failures == []  # it waits on the device
    env.report()
    (failure,) = env.failures
    assert (failure.env_index, failure.seed, failure.episode, failure.episode_step) == (5, 2, 0, 3)
    assert "state before the step is not finite" in failure.message
    assert replay_failure(failure).before == ["qvel"]  # on the CPU engine, whose state rows are the same
    env.report()
    assert len(env.failures) == 1


def test_of_many_failures_the_first_is_kept_whole():
    env = engine_of("Hopper", 8)
    env.reset(seed=0)
    for index in (6, 1):
        env.simulation.field("qpos")[index, 1] = float("inf")
        env.step(torch.zeros(8, 3))
    env.report()
    (failure,) = env.failures
    assert failure.env_index == 6
    assert "(1 more failed since the last log)" in failure.message


def test_an_action_that_is_not_finite_is_told_at_the_next_log():
    env = engine_of("Hopper", 4)
    env.reset(seed=0)
    action = torch.zeros(4, 3)
    action[2, 1] = float("nan")
    *_, info = env.step(action)
    assert info["failed"].tolist() == [False, False, True, False]
    with pytest.raises(NonFiniteActionError, match=r"action of environment 2 is not finite.*check the policy's output"):
        env.report()
    with pytest.raises(ValueError, match=r"expected \(4, 3\)"):
        env.step(torch.zeros(4, 2))


def test_too_little_room_for_contacts_is_told_at_the_next_log():
    env = engine_of("Hopper", 8, nconmax=1, njmax=8)
    env.reset(seed=0)
    for action in actions_of(-torch.ones(3), torch.ones(3), 60):
        env.step(action)
    with pytest.raises(UserError, match=r"room for; use env\.n.*=\d+ \(it was \d+\)") as caught:
        env.report()
    assert "\n" not in str(caught.value)
    env.report()  # told once


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("Humanoid", {"contact_forces": "exact"}, "computes no env.contact_forces=exact; use sensor"),
        ("Hopper", {"render_mode": "rgb_array"}, "env.engine=warp draws nothing"),
        ("Painting", {}, "has no bodies to simulate"),
        ("gymnasium:Pendulum-v1", {}, "computes the suite's own tasks"),
    ],
)
def test_what_the_engine_cannot_do_is_refused_in_one_line(name, options, message):
    with pytest.raises(UserError, match=message) as caught:
        envs.make_vector(name, 2, engine="warp", **options)
    assert "\n" not in str(caught.value)


def test_unknown_engines_and_options_of_the_other_one():
    with pytest.raises(UserError, match=r"env\.engine=wrap: use mujoco, warp"):
        envs.make_vector("Hopper", 2, engine="wrap")
    with pytest.raises(UserError, match="no option 'nconmax'"):
        envs.make_vector("Hopper", 2, nconmax=3)


def test_a_missing_package_is_named(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "mujoco_warp" else found(name, *rest)
    )
    with pytest.raises(UserError, match=r"env\.engine=warp needs mujoco-warp, not installed here"):
        envs.make_vector("Hopper", 2, engine="warp")


def test_agents_are_judged_on_the_reference_engine():
    options = {"engine": "warp", "nconmax": 7, "reset_noise_scale": 0.1}
    assert envs.evaluation_options("rlsuite/Hopper", options) == {"reset_noise_scale": 0.1}


def test_masked_streams_give_what_streams_of_some_give():
    ids = torch.tensor([1, 4])
    some, masked = EnvironmentRandom(6, 3), EnvironmentRandom(6, 3, dtype=torch.float32)
    mask = torch.zeros(6, dtype=torch.bool).index_fill(0, ids, True)
    draws = [
        lambda random, at: random.uniform(at, 3, -1.0, 2.0),
        lambda random, at: random.uniform(at, 2, [0.0, 1.0], [1.0, 5.0]),
        lambda random, at: random.normal(at, 3),
        lambda random, at: random.until(at, 2, [-1.0, -1.0], [1.0, 1.0], lambda place: place.square().sum(1) > 1.3),
    ]
    for _ in range(3):
        for draw in draws:
            wanted = draw(some, ids)
            with masked.only(mask):
                found = draw(masked, torch.arange(6))
            assert torch.equal(found[ids], wanted.float())
            assert torch.equal(some.counters, masked.counters)
