"""Pictures for observations: whose picture comes when, table-tested on episodes of unequal length; bits that resume."""

import pytest
import torch
from toy_perceivers import TOYS, Brightness, Gain, GainConfig, Late, PlainConfig

import envs
from envs import catalogue
from envs.mujoco_vector import MujocoVectorEnv
from envs.perception.catalogue import PERCEPTIONS
from envs.perception.wrapper import PerceptionWrapper, drawn_fields
from envs.wrapper import VectorWrapper
from rlsuite.config.camera import CameraConfig
from rlsuite.errors import UserError
from rlsuite.methods import choose


class ToyCameras:
    """Paints each environment in one color: its first position, which on the toy task counts its steps."""

    def __init__(self, fields=("rgb",), size=8):
        self.fields, self.size, self.asked = fields, size, []

    def frames(self, qpos, memory=None, previous=None):
        self.asked.append(len(qpos))
        value = qpos[:, 0].round().to(torch.uint8).view(-1, 1, 1, 1)
        made = {"rgb": value.expand(-1, 3, self.size, self.size).clone()}
        if "flow" in self.fields:
            moved = (previous - qpos)[:, 0].float().view(-1, 1, 1, 1)
            made["flow"] = moved.expand(-1, 2, self.size, self.size).clone()
        return {name: made[name] for name in self.fields}


class Counting(MujocoVectorEnv):
    """Point3D whose position is 10 x environment + step of the episode, plus 100 x episode; environment i has
    episodes of i + 2 steps, and those of `broken` (environment, step) fail."""

    broken: tuple = ()

    def __init__(self, num_envs):
        super().__init__(catalogue.build("Point3D"), num_envs, num_threads=1, max_episode_steps=None)

    def _paint(self, rows):
        index = torch.arange(self.num_envs, dtype=torch.float64)
        value = 10 * index + self._elapsed + 100 * self._episode.clamp_min(0) % 200
        self.simulation.field("qpos")[rows, 0] = value[rows]

    def _begin_episodes(self, env_ids):
        super()._begin_episodes(env_ids)
        self._paint(env_ids)

    def advance(self, actions):
        transition = super().advance(actions)
        self._paint(torch.arange(self.num_envs))
        over = self._elapsed >= torch.arange(self.num_envs) + 2
        failed = transition.failed.clone()
        for index, step in self.broken:
            if self._elapsed[index] == step:
                failed[index] = True
                self.simulation.field("qpos")[index] = torch.nan
        return transition._replace(terminated=over & ~failed, failed=failed)


def make(num_envs=3, perceivers=(), cameras=None, **numbers):
    config = CameraConfig(**{"size": 8, "stack": 1, **numbers})
    cameras = cameras or ToyCameras(drawn_fields(perceivers, config.sees))
    return PerceptionWrapper(Counting(num_envs), cameras, perceivers, config)


def run(env, steps):
    """Return per step: (shown, final, ended) values of each environment, the last channel of the newest picture."""
    env.reset(seed=0)
    table = [(env.observation()[:, -1, 0, 0].tolist(), None, None)]
    for _ in range(steps):
        seen, _, terminated, truncated, info = env.step(torch.zeros(env.num_envs, 3))
        assert torch.equal(seen, env.observation())
        final = info["final_obs"][:, -1, 0, 0].tolist()
        table.append((seen[:, -1, 0, 0].tolist(), final, (terminated | truncated).tolist()))
    return table


def test_the_last_picture_of_an_episode_and_the_first_of_the_next():
    """Episodes of 2, 3 and 4 steps: final_obs is the old one's last picture, the observation the new one's first."""
    assert run(make(), 4) == [
        ([0, 10, 20], None, None),
        ([1, 11, 21], [1, 11, 21], [False] * 3),
        ([100, 12, 22], [2, 12, 22], [True, False, False]),
        ([101, 110, 23], [101, 13, 23], [False, True, False]),
        ([0, 111, 120], [102, 111, 24], [True, False, True]),
    ]


def test_only_frames_that_are_due_are_drawn_and_the_last_is_shown_again():
    env = make(every=2)
    shown = [row[0] for row in run(env, 4)]
    assert shown == [[0, 10, 20], [0, 10, 20], [100, 12, 22], [100, 110, 22], [0, 110, 120]]
    # All at first; two whose third frame is due; a new episode; ...
    assert env.cameras.asked == [3, 3, 1, 1, 2, 2]


def test_a_stack_holds_one_episode():
    env = make(stack=3)
    env.reset(seed=0)
    assert env.single_observation_space.shape == (9, 8, 8)
    for expected, final in (
        ([0, 0, 1], [0, 0, 1]),
        ([100, 100, 100], [0, 1, 2]),
        ([100, 100, 101], [100, 100, 101]),
    ):
        seen, *_, info = env.step(torch.zeros(3, 3))
        assert seen[0, ::3, 0, 0].tolist() == expected
        assert info["final_obs"][0, ::3, 0, 0].tolist() == final


@pytest.mark.parametrize("every", [1, 2])
def test_what_lags_lags_by_its_lookahead_and_never_into_another_episode(every):
    late = Late(config=PlainConfig())
    env = make(4, (late,), every=every)
    env.reset(seed=0)
    shown, delays = [], []
    for _ in range(5):
        seen, *_, info = env.step(torch.zeros(4, 3))
        shown.append(seen[3, 0, 0, 0].item())
        delays.append(info["perception/delay"][3].item())
    # Environment 3: episodes of 5 steps, then 130. Frames at steps 0, 1, 2, ... or 0, 2, 4.
    assert shown == ([30, 31, 32, 33, 130] if every == 1 else [30, 30, 30, 32, 130])
    assert delays == ([1, 1, 1, 1, 0] if every == 1 else [1, 2, 2, 2, 0])


def test_a_failed_simulation_repeats_its_last_picture():
    env = make()
    env.env.broken = ((1, 2),)
    table = run(env, 2)
    assert table[2] == ([100, 110, 22], [2, 11, 22], [True, True, False])


def test_an_environment_is_the_same_whatever_the_others():
    def trace(num_envs, perceivers):
        env = make(num_envs, perceivers, every=2, stack=2)
        env.reset(seed=0)
        return torch.stack([env.step(torch.zeros(num_envs, 3))[0][:2] for _ in range(7)])

    perceivers = (Late(config=PlainConfig()), Gain(config=GainConfig()))
    assert torch.equal(trace(2, perceivers), trace(5, perceivers))


def test_what_is_made_takes_its_fields_place_or_stands_beside():
    gain = Gain(config=GainConfig())
    gain.network["gain"].data.mul_(0.5)
    env = make(2, (gain, Brightness(config=PlainConfig())))
    env.reset(seed=0)
    seen, *_, info = env.step(torch.zeros(2, 3))
    assert seen[1, 0, 0, 0].item() == round(11 * 0.5)
    assert info["perception/depth"][1, 0, 0, 0].item() == pytest.approx(10 * 0.5 * 11 / 255)
    assert info["state"].shape == (2, 3)
    assert drawn_fields((gain,), ("depth", "rgb")) == ("rgb", "depth")
    both = make(2, (Brightness(config=PlainConfig()),), sees=("depth", "rgb"))
    assert both.cameras.fields == ("rgb",)
    assert both.single_observation_space.shape == (4, 8, 8)
    with pytest.raises(UserError, match=r"camera\.sees=dept: there is no such field; did you mean 'depth'\?"):
        make(sees=("dept",))


def test_flow_is_since_the_last_camera_frame_and_none_at_first():
    env = make(3, sees=("flow",), every=2)
    env.reset(seed=0)
    assert torch.equal(env.observation(), torch.full_like(env.observation(), 128))
    for _ in range(2):
        seen = env.step(torch.zeros(3, 3))[0]
    assert seen[2, 0, 0, 0].item() == round((-2 + 16) * 255 / 32)  # two steps further: it was at -2
    assert seen[0, 0, 0, 0].item() == 128  # a new episode


def test_pictures_resume_bit_for_bit_and_other_weights_are_refused():
    def fresh(gain=1.0, **numbers):
        learned = Gain(config=GainConfig())
        learned.network["gain"].data.fill_(gain)
        return make(3, (Late(config=PlainConfig()), learned), **{"every": 2, "stack": 2, **numbers})

    env = fresh()
    env.reset(seed=0)
    for _ in range(3):
        env.step(torch.zeros(3, 3))
    state = {name: value.clone() for name, value in env.state().items()}
    ahead = [env.step(torch.zeros(3, 3)) for _ in range(6)]
    other = fresh()
    other.reset(seed=5)
    other.step(torch.zeros(3, 3))
    other.load_state(state)
    for one in ahead:
        two = other.step(torch.zeros(3, 3))
        assert all(torch.equal(a, b) for a, b in zip(one[:4], two[:4], strict=True))
        assert all(torch.equal(one[4][name], two[4][name]) for name in one[4])
    with pytest.raises(ValueError, match="other weights of Gain"):
        fresh(gain=0.999).load_state(state)
    with pytest.raises(ValueError, match="seen otherwise"):
        fresh(stack=3).load_state(state)
    with pytest.raises(ValueError, match="seen otherwise"):
        env.load_state(env.env.state())


def test_a_view_of_pictures_keeps_the_environments_own_space():
    env = make()
    assert env.single_observation_space.dtype == torch.zeros(0, dtype=torch.uint8).numpy().dtype
    assert env.env.single_observation_space.shape == (3,)
    assert VectorWrapper(env).single_observation_space is env.single_observation_space
    assert (env.goals, env.known_reward, env.angles) == (None, None, ())


def test_the_suite_builds_it_and_refuses_what_cannot_be_seen(monkeypatch):
    pytest.importorskip("mujoco_warp", reason="mujoco-warp is not installed (extra: cameras)")
    for name, target in TOYS.items():
        monkeypatch.setitem(PERCEPTIONS, name, target)
    camera = CameraConfig(size=16, every=2)
    env = envs.make_vector("Reacher", 2, num_threads=1, camera=camera, perception=choose(PERCEPTIONS, ["late"]))
    seen, info = env.reset(seed=1)
    assert seen.shape == (2, 9, 16, 16)
    assert info["state"].shape == (2, 10)
    for _ in range(3):
        seen = env.step(torch.ones(2, 2))[0]
    assert seen.float().std() > 0
    env.close()
    goal = envs.make_vector("FetchReach", 1, num_threads=1)
    assert goal.goals is not None
    for name in ("gymnasium:Pendulum-v1", "envpool:Pendulum-v1", "Painting"):
        with pytest.raises(UserError, match=r"camera\.size=16: .* no simulation of bodies"):
            envs.make_vector(name, 1, camera=camera)
