"""Models made to be looked at: the view where it should be, goals where tasks say, nothing that moves otherwise."""

import mujoco
import numpy as np
import pytest
import torch

import envs
from envs import catalogue
from envs.scene import VIEW, compile_scene

SEEN = ("Reacher", "InvertedPendulum", "HalfCheetah", "Humanoid", "Pusher", "FetchPush", "HandReach", "Point3D")


def poses(scene, qpos, places=()):
    data = mujoco.MjData(scene.model)
    data.qpos[:] = qpos
    for mocap, place in zip(scene.mocap, places, strict=True):
        data.mocap_pos[mocap] = place
    mujoco.mj_forward(scene.model, data)
    return data


@pytest.mark.parametrize("name", SEEN)
def test_the_physics_poses_are_the_tasks_own(name):
    env = envs.make_vector(name, 1, num_threads=1, flat=True)
    env.reset(seed=0)
    plain = mujoco.MjData(env.simulation.model)
    plain.qpos[:] = env.simulation.field("qpos")[0].numpy()
    mujoco.mj_forward(env.simulation.model, plain)
    scene = compile_scene(env.task)
    memory = dict(env.simulation.memory)
    qpos, places = env.task.shown(scene.facts, env.simulation.field("qpos"), memory)
    data = poses(scene, qpos[0].numpy(), places[0].numpy())
    number = env.simulation.model.nbody
    assert np.allclose(data.xpos[:number], plain.xpos)
    assert scene.model.nq == env.simulation.model.nq
    assert scene.model.body_mass.sum() == pytest.approx(env.simulation.model.body_mass.sum())
    env.close()


def test_goals_of_the_fetch_arm_are_balls_and_its_mocap_body_is_hidden():
    env = envs.make_vector("FetchPush", 1, num_threads=1, flat=True)
    env.reset(seed=0)
    scene = compile_scene(env.task)
    goal = env.simulation.memory["goal"]
    _, places = env.task.shown(scene.facts, env.simulation.field("qpos"), env.simulation.memory)
    data = poses(scene, env.simulation.field("qpos")[0].numpy(), places[0].numpy())
    (marker,) = [index for index in range(scene.model.nbody) if scene.model.body_mocapid[index] == scene.mocap[0]]
    (geom,) = np.flatnonzero(scene.model.geom_bodyid == marker)
    assert np.allclose(data.geom_xpos[geom], goal[0].numpy())
    assert scene.model.geom_rgba[geom, 3] == 1.0
    assert scene.model.geom_contype[geom] == scene.model.geom_conaffinity[geom] == 0
    drag = scene.model.body("robot0:mocap").id
    assert np.all(scene.model.geom_rgba[scene.model.geom_bodyid == drag, 3] == 0.0)
    env.close()


def test_fingertips_carry_their_balls_and_the_hands_object_has_a_goal():
    reach = envs.make_vector("HandReach", 1, num_threads=1, flat=True)
    reach.reset(seed=0)
    scene = compile_scene(reach.task)
    assert len(scene.mocap) == 5
    assert scene.model.ngeom == reach.simulation.model.ngeom + 10
    block = envs.make_vector("HandManipulateBlockRotateZ", 2, num_threads=1, flat=True)
    block.reset(seed=0)
    scene, goal = compile_scene(block.task), block.simulation.memory["goal"]
    qpos, places = block.task.shown(scene.facts, block.simulation.field("qpos"), block.simulation.memory)
    assert places.shape == (2, 0, 3)
    at = scene.model.joint("target:joint").qposadr[0]
    assert torch.allclose(qpos[:, at + 1 : at + 7], goal[:, 1:])
    assert torch.allclose(qpos[:, at], goal[:, 0] + 0.15)
    changed = torch.ones(qpos.shape[1], dtype=torch.bool)
    changed[at : at + 7] = False
    assert torch.equal(qpos[:, changed], block.simulation.field("qpos")[:, changed])
    reach.close()
    block.close()


@pytest.mark.parametrize("name", ["Reacher", "FetchPush", "InvertedPendulum"])
def test_a_fixed_view_is_mujocos_free_camera(name):
    """What mjv computes for the same distance, azimuth, elevation and lookat."""
    task = catalogue.build(name)
    scene = compile_scene(task)
    data = poses(scene, scene.model.qpos0, np.zeros((len(scene.mocap), 3)))
    free = mujoco.MjvCamera()
    mujoco.mjv_defaultFreeCamera(scene.model, free)
    plain = mujoco.MjModel.from_xml_path(str(envs_model(task)))
    free.lookat[:] = plain.stat.center
    free.distance = 1.5 * plain.stat.extent
    for key, value in (task.pixel_view or task.default_camera_config).items():
        if key == "lookat":
            free.lookat[:] = value
        elif key != "trackbodyid":
            setattr(free, key, value)
    azimuth, elevation = np.deg2rad([free.azimuth, free.elevation])
    forward = [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)]
    view = scene.model.camera(VIEW).id
    assert np.allclose(data.cam_xpos[view], free.lookat - free.distance * np.array(forward), atol=1e-6)
    assert np.allclose(-data.cam_xmat[view].reshape(3, 3)[:, 2], forward, atol=1e-6)
    assert data.cam_xmat[view].reshape(3, 3)[2, 0] == pytest.approx(0.0, abs=1e-9)  # level


def envs_model(task):
    from envs.simulation.model import find_model

    return find_model(task.xml_file)


def test_a_tracking_view_keeps_its_distance_to_the_bodys_center_of_mass():
    task = catalogue.build("Humanoid")
    config = {"trackbodyid": 1, "distance": 4.0, "elevation": -20.0}

    class Followed(type(task)):
        pixel_view = config
        name = "Followed"

    scene = compile_scene(Followed())
    for shift in (0.0, 3.0):
        qpos = scene.model.qpos0.copy()
        qpos[:2] += shift
        data = poses(scene, qpos)
        away = data.cam_xpos[scene.camera] - data.subtree_com[1]
        assert np.linalg.norm(away) == pytest.approx(4.0, abs=1e-6)
        assert away[2] == pytest.approx(4.0 * np.sin(np.deg2rad(20.0)), abs=1e-6)
