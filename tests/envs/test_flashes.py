"""Flashes around a camera: materials by hand, and what a task's cameras give beside its true normals."""

# pyright: reportAttributeAccessIssue=false

import mujoco
import pytest
import torch

import envs
from envs.flashes import flash, surfaces
from envs.perception.stereo.least_squares import least_squares
from envs.perception.stereo.shading import flash_lights
from rlsuite.config.camera import CameraConfig
from rlsuite.metrics.normals import angular_error

XML = """<mujoco><asset><material name="shiny" rgba=".2 .4 .6 1" specular=".9" shininess=".25"/></asset><worldbody>
<geom type="sphere" size="1"/><geom type="sphere" size="1" material="shiny"/>
<geom type="sphere" size="1" material="shiny" rgba="1 0 0 1"/></worldbody></mujoco>"""


def test_materials_and_flashes_by_hand():
    found = surfaces(mujoco.MjModel.from_xml_string(XML), torch.device("cpu"))
    expected = torch.tensor([[0.5, 0.5, 0.5], [0.2, 0.4, 0.6], [1.0, 0.0, 0.0]])
    torch.testing.assert_close(found.diffuse, 0.8 * expected)
    assert found.specular.tolist() == pytest.approx([0.5, 0.9, 0.9])
    assert found.exponent.tolist() == pytest.approx([64.0, 32.0, 32.0])
    normals = torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1).expand(1, 3, 1, 2)
    ids = torch.tensor([1, -1]).view(1, 1, 1, 2)
    rays = torch.tensor([0.0, 0.0, -1.0]).expand(1, 2, 3)
    lights = torch.tensor([[0.0, 0.0, 1.0], [0.6, 0.0, 0.8]])
    seen = flash(normals, ids, rays, found, lights)
    assert seen.shape == (1, 6, 1, 2)
    half = ((1 + 0.8) / 2) ** 0.5  # cosine of half the angle
    straight = [0.8 * share + 0.9 for share in (0.2, 0.4, 0.6)]
    aside = [0.8 * 0.8 * share + 0.9 * half**32 for share in (0.2, 0.4, 0.6)]
    assert seen[0, :, 0, 0].tolist() == pytest.approx(straight + aside, rel=1e-4)
    assert seen[0, :, 0, 1].tolist() == [0.0] * 6


def test_a_task_seen_by_flashes_has_normals_that_least_squares_nearly_finds():
    pytest.importorskip("mujoco_warp", reason="mujoco-warp is not installed (extra: cameras)")
    from envs.cameras import Cameras

    env = envs.make_vector("InvertedPendulum", 1, num_threads=1, flat=True)
    env.reset(seed=0)
    cameras = Cameras(env.task, CameraConfig(size=24), fields=("flashes", "ids", "normals"))
    seen = cameras.frames(env.simulation.field("qpos"), env.simulation.memory)
    there = seen["ids"][:, 0] >= 0
    assert seen["flashes"].shape == (1, 48, 24, 24)
    assert float(seen["flashes"].amin()) >= 0.0
    assert bool((seen["flashes"].amax(dim=1)[~there] == 0).all())
    images = seen["flashes"].unflatten(1, (16, 3))
    found, _ = least_squares(images, flash_lights().unsqueeze(0))
    assert float(angular_error(found, seen["normals"], there & (images.amin(dim=(1, 2)) > 0))) < 15.0
    env.close()
