"""Fitted poses as observations: true ones are found and followed, ends come before resets, bits resume."""

from dataclasses import dataclass, replace
from typing import ClassVar

import mujoco
import pytest
import torch

import envs
from envs.mujoco_vector import MujocoVectorEnv
from envs.sdf_pose import POSE, SDFPoseConfig, SDFPoseObservation, geoms_sdf
from envs.task import Outcome, Task
from renderers.sdf.camera import from_mujoco, pinhole, turn_of
from renderers.sdf.fitting import PoseFitConfig
from renderers.sdf.losses import LossWeights
from renderers.sdf.march import MarchConfig
from renderers.sdf.renderer import SDFRenderer
from rlsuite.config.camera import CameraConfig
from rlsuite.errors import UserError

SIZE, HEIGHT = 24, 1.0
SCENE = f"""<mujoco><option gravity="0 0 0"/><worldbody>
<camera name="eye" pos="0 0 {HEIGHT}" fovy="40"/><camera name="other" pos="0 0 1" mode="trackcom"/>
<body name="thing"><freejoint/>
<geom type="box" size="0.2 0.1 0.05" mass="1"/>
<geom type="capsule" size="0.04 0.1" pos="0.1 0.05 0.05" mass="1"/></body>
<body name="sheet" pos="0 0 -9"><geom type="plane" size="1 1 1"/></body><body name="empty"/>
</worldbody><actuator><motor name="push" joint="slide"/></actuator></mujoco>"""
SCENE = SCENE.replace(
    '<body name="empty"/>', '<body name="empty" pos="9 9 9"><joint name="slide" type="slide"/><geom size="0.1"/></body>'
)


@dataclass(frozen=True)
class Drifting(Task):
    """A body that drifts and turns without forces."""

    name: ClassVar[str] = "Drifting"
    max_episode_steps: ClassVar[int] = 4

    frame_skip: int = 5

    def initial_state(self, facts, random, env_ids):
        qpos = facts.initial_qpos + random.uniform(env_ids, facts.num_positions, -0.03, 0.03)
        return qpos, 0.0 * facts.initial_qvel + random.uniform(env_ids, facts.num_velocities, -0.5, 0.5)

    def observation(self, fields):
        return fields.field("qpos")[:, :7].clone()

    def outcome(self, fields, before, after, action):
        position = fields.field("qpos")
        return Outcome(position[:, 0], torch.zeros(len(position), dtype=torch.bool), {})


class DrawnBySDF:
    """What `Cameras` draws of the body, by the renderer itself: no kernels need to be compiled."""

    def __init__(self, model):
        self.model, self.view = model, model.camera("eye").id
        self.geoms = [geom for geom in range(model.ngeom) if model.geom_bodyid[geom] == model.body("thing").id]
        sdf, self.radius = geoms_sdf(model, self.geoms)
        self.renderer = SDFRenderer(sdf, pinhole(SIZE, 40.0), normals="none")
        self.blind = False

    @torch.no_grad()
    def frames(self, qpos, memory=None, previous=None):
        rotation, shift = from_mujoco(torch.tensor([[0.0, 0.0, HEIGHT]]), torch.eye(3)[None])
        pose = qpos[:, :7].float()
        place = (rotation @ pose[:, :3, None]).squeeze(-1) + shift
        seen = self.renderer.render(pose[:, :0], rotation @ turn_of(pose[:, 3:]), place / self.radius)
        mask = seen.mask & (not self.blind)
        ids = torch.where(mask, self.geoms[1], -1)
        return {"depth": torch.where(mask, seen.depth * self.radius, 0.0)[:, None], "ids": ids[:, None]}


@pytest.fixture
def task(tmp_path):
    path = tmp_path / "scene.xml"
    path.write_text(SCENE)
    return Drifting(xml_file=str(path))


CONFIG = SDFPoseConfig(
    body="thing",
    camera=CameraConfig(size=SIZE, view="eye"),
    fit=PoseFitConfig(steps=6, learning_rate=2e-2, weights=LossWeights(normal=0.0)),
    first_steps=20,
    march=MarchConfig(keep=1),
)


def make(task, num_envs=2, limit=4, cameras=None, config=CONFIG):
    env = MujocoVectorEnv(task, num_envs, num_threads=1, max_episode_steps=limit)
    cameras = cameras or DrawnBySDF(mujoco.MjModel.from_xml_path(task.xml_file))
    return SDFPoseObservation(env, config, cameras=cameras)  # pyright: ignore[reportArgumentType]


def errors(seen):
    """Return errors of place in metres and of turn in radians: the task's own observation is the true pose."""
    true, found = seen[:, :7], seen[:, 7:]
    cosine = torch.cosine_similarity(true[:, 3:], found[:, 3:], dim=1).abs().clamp(max=1.0)
    return (true[:, :3] - found[:, :3]).norm(dim=1), 2.0 * cosine.acos()


def test_a_drifting_body_is_followed(task):
    env = make(task, limit=2)
    seen, _ = env.reset(seed=1)
    assert seen.shape == (2, 7 + POSE) == env.observation_space.shape
    assert errors(seen)[0].max() < 0.06
    for step in range(1, 4):
        seen, _, _, truncated, info = env.step(torch.zeros(2, 1))
        place, turn = errors(info["final_obs"])  # the end of an episode is fitted before anything is reset
        assert place.max() < 0.06
        assert turn.max() < 0.5
        assert errors(seen)[0].max() < 0.06
        assert truncated.all() == (step == 2)
        assert truncated.all() != torch.equal(seen, info["final_obs"])
    env.close()


def test_runs_resume_bit_for_bit(task):
    env = make(task, limit=2)
    env.reset(seed=2)
    kept = env.state()
    ahead = [env.step(torch.zeros(2, 1))[0] for _ in range(2)]
    other = make(task, limit=2, config=replace(CONFIG, first_steps=1))
    other.reset(seed=5)
    other.config = CONFIG
    other.load_state(kept)
    assert torch.equal(other.observation(), kept["sdf_pose/seen"])
    assert all(torch.equal(other.step(torch.zeros(2, 1))[0], seen) for seen in ahead)
    with pytest.raises(ValueError, match="SDFPoseObservation"):
        env.load_state({name: value for name, value in kept.items() if "turn" not in name})
    env.close()
    other.close()


def test_what_is_not_seen_stays(task):
    env = make(task, config=replace(CONFIG, first_steps=3))
    env.reset(seed=3)
    before = env.pose()
    env.cameras.blind = True
    env.step(torch.zeros(2, 1))
    assert torch.equal(env.pose(), before)
    env.simulation.field("qpos")[0] = torch.nan  # a failed row is not drawn, and keeps its pose
    env.cameras.blind = False
    env._fit(torch.arange(2), first=False)
    assert torch.equal(env.pose()[0], before[0])
    assert not torch.equal(env.pose()[1], before[1])
    env.reset(seed=3)
    assert torch.equal(env.pose(), before)
    env.close()


def test_wrong_choices_are_refused(task):
    with pytest.raises(UserError, match="body=thin"):
        make(task, config=replace(CONFIG, body="thin"))
    with pytest.raises(UserError, match="plane"):
        make(task, config=replace(CONFIG, body="sheet"))
    cameras = DrawnBySDF(mujoco.MjModel.from_xml_path(task.xml_file))
    cameras.view = cameras.model.camera("other").id
    with pytest.raises(UserError, match="still"):
        make(task, cameras=cameras)
    with pytest.raises(UserError, match=r"camera\.size"):
        SDFPoseConfig(body="thing", camera=CameraConfig())


@pytest.mark.slow
def test_columns_of_a_goal_task():
    """The pose stands before the goals, and MuJoCo's own pictures show where the block is."""
    pytest.importorskip("mujoco_warp", reason="mujoco-warp is not installed (extra: cameras)")
    inner = envs.make_vector("FetchPush", 2, num_threads=1, flat=True)
    env = SDFPoseObservation(inner, SDFPoseConfig(body="object0", camera=CameraConfig(size=128)))
    seen, _ = env.reset(seed=0)
    assert env.goals.observation_size == inner.goals.observation_size + POSE
    own, _, achieved = env.goals.split(seen)
    assert torch.allclose(own[:, -POSE : -POSE + 3], achieved, atol=0.02)
    assert torch.equal(own[:, :-POSE], inner.observation()[:, : inner.goals.observation_size])
    env.close()
