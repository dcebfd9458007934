"""Pictures by ray tracing: MuJoCo's own renderer agrees, company changes no bit, goals are seen, and flow is exact."""

import math

import mujoco
import numpy as np
import pytest
import torch
from torch.nn import functional

import envs
from envs import catalogue
from rlsuite import extras
from rlsuite.config.camera import CameraConfig
from rlsuite.errors import UserError

pytest.importorskip("mujoco_warp", reason="mujoco-warp is not installed (extra: cameras)")

from envs.cameras import Cameras
from envs.motion import Motion, sample, visible

SIZE = 48


def positions(name, num_envs=5, steps=10, scale=0.3, seed=1):
    """Return the environments, and their positions before and after a step of random actions."""
    env = envs.make_vector(name, num_envs, num_threads=1, flat=True)
    env.reset(seed=seed)
    generator = torch.Generator().manual_seed(0)
    low, high = (torch.as_tensor(bound) for bound in (env.single_action_space.low, env.single_action_space.high))
    seen = []
    for _ in range(steps):
        share = torch.rand(num_envs, len(low), generator=generator)
        env.step((high + low) / 2 + scale * (share - 0.5) * (high - low))
        seen.append(env.simulation.field("qpos").clone())
    return env, seen[-2], seen[-1]


def reference(cameras, env, qpos, index):
    """Return (rgb (H, W, 3), depth (H, W), ids (H, W)) of MuJoCo's OpenGL renderer for the same model and camera."""
    data, size = mujoco.MjData(cameras.model), cameras.config.size
    memory = {name: value[index : index + 1] for name, value in env.simulation.memory.items()}
    shown, places = env.task.shown(cameras._facts, qpos[index : index + 1], memory)
    data.qpos[:] = shown[0].numpy()
    for mocap, place in zip(cameras._mocap.tolist(), places[0], strict=True):
        data.mocap_pos[mocap] = place.numpy()
    mujoco.mj_forward(cameras.model, data)
    with mujoco.Renderer(cameras.model, size, size) as renderer:
        renderer.update_scene(data, cameras._camera)
        rgb = renderer.render()
        renderer.enable_segmentation_rendering()
        segments = renderer.render()
        renderer.disable_segmentation_rendering()
        renderer.enable_depth_rendering()
        depth = renderer.render()
    is_geom = segments[..., 1] == int(mujoco.mjtObj.mjOBJ_GEOM)
    return rgb, torch.from_numpy(depth), torch.from_numpy(np.where(is_geom, segments[..., 0], -1))


def off_edges(ids):
    """Return (H, W) bool: pixels all of whose neighbours show the same."""
    planes = ids[None, None].float()
    highest, lowest = functional.max_pool2d(planes, 3, 1, 1), -functional.max_pool2d(-planes, 3, 1, 1)
    return (highest == lowest)[0, 0]


FAST = ("Reacher", "HalfCheetah")
SLOW = ("FetchPush", "HandReach", "HandManipulateBlockFull", "Humanoid", "InvertedPendulum", "Point3D")


@pytest.mark.parametrize("name", [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_mujocos_own_renderer_agrees(name):
    env, _, qpos = positions(name, 3)
    cameras = Cameras(env.task, CameraConfig(size=SIZE), fields=("rgb", "depth", "ids"))
    ours = cameras.frames(qpos, env.simulation.memory)
    try:
        theirs = [reference(cameras, env, qpos, index) for index in range(3)]
    except Exception as error:
        pytest.skip(f"no OpenGL here: {error}")
    for index, (_, depth, ids) in enumerate(theirs):
        plain = off_edges(ids)
        assert (ours["ids"][index, 0] == ids)[plain].double().mean() >= 0.98
        hit = plain & (ids >= 0)
        assert ((ours["depth"][index, 0] - depth) / depth).abs()[hit].median() <= 0.01
        assert torch.count_nonzero(ours["depth"][index, 0][ours["ids"][index, 0] < 0]) == 0
    assert len(ours["ids"].unique()) > 2  # there is something to see
    env.close()


def test_company_changes_no_bit():
    """Environment i is the same picture among 21 (chunks of 16, 4 and 1) as alone or among 3."""
    env, before, qpos = positions("Reacher", 21)
    cameras = Cameras(env.task, CameraConfig(size=16), fields=("rgb", "depth", "ids", "flow"))
    everyone = cameras.frames(qpos, previous=before)
    for rows in ([0], [20], [3, 17, 19]):
        some = cameras.frames(qpos[rows], previous=before[rows])
        assert all(torch.equal(some[name], value[rows]) for name, value in everyone.items())
    none = cameras.frames(qpos[:0])
    assert none["rgb"].shape == (0, 3, 16, 16)
    env.close()


def test_fields_by_hand():
    """Reacher from straight above: a floor 0.56 m and a bit away, its normal toward the camera, no motion of it."""
    env, before, qpos = positions("Reacher", 2)
    cameras = Cameras(env.task, CameraConfig(size=SIZE), fields=("depth", "ids", "normals", "flow"))
    seen = cameras.frames(qpos, previous=before)
    floor = mujoco.mj_name2id(cameras.model, int(mujoco.mjtObj.mjOBJ_GEOM), "ground")
    ground = seen["ids"][:, 0] == floor
    assert ground.double().mean() > 0.7
    height = 0.56 - cameras.model.geom_pos[floor, 2]
    assert (seen["depth"][:, 0][ground] - height).abs().max() < 1e-4
    assert (seen["normals"].movedim(1, -1)[ground] - torch.tensor([0.0, 0.0, 1.0])).abs().max() < 1e-5
    assert seen["normals"].norm(dim=1)[seen["ids"][:, 0] >= 0].sub(1.0).abs().max() < 1e-4
    assert seen["flow"].movedim(1, -1)[ground].abs().max() < 1e-3
    target = mujoco.mj_name2id(cameras.model, int(mujoco.mjtObj.mjOBJ_GEOM), "target")
    # The target's ball lies where its joints say; up in the picture is +y with an azimuth of 90 degrees.
    for row in range(2):
        where = (seen["ids"][row, 0] == target).nonzero().double().mean(0)
        depth = 0.56 - 0.01
        pixels = SIZE / 2 / math.tan(math.radians(22.5)) / depth
        expected = SIZE / 2 - 0.5 + pixels * torch.stack([-qpos[row, 3], qpos[row, 2]])
        assert (where - expected).abs().max() < 1.0
    env.close()


def test_flow_of_a_slide_by_hand():
    """A ball that slides by 0.1 m, seen from straight ahead: focal length in pixels times 0.1 over its depth."""
    task = catalogue.build("InvertedPendulum")
    cameras = Cameras(task, CameraConfig(size=64), fields=("depth", "ids", "flow"))
    now, then = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([[-0.1, 0.0]], dtype=torch.float64)
    seen = cameras.frames(now, previous=then)
    body = torch.from_numpy(cameras.model.geom_bodyid)[seen["ids"].clamp_min(0)] > 0
    moving = (body & (seen["ids"] >= 0))[:, 0]
    assert moving.sum() > 20
    focal = 32 / math.tan(math.radians(cameras.model.vis.global_.fovy / 2))
    expected = -0.1 * focal / seen["depth"][:, 0][moving]
    assert torch.allclose(seen["flow"][:, 0][moving], expected, atol=1e-3)
    assert seen["flow"][:, 1][moving].abs().max() < 1e-3
    assert seen["flow"].abs().amax(1)[~moving].max() < 1e-3


def psnr_where(one, other, mask):
    error = ((one - other) ** 2).mean(1, keepdim=True)[mask].double().mean()
    return float(-10 * torch.log10(error.clamp_min(1e-12)))


def pure(ids):
    """Return (n, 1, H, W) bool: pixels one or more off any edge, which show one thing with all of their samples."""
    return torch.stack([off_edges(picture[0]) for picture in ids]).unsqueeze(1)


def warped(name, size=96):
    """Return (PSNR warped, PSNR as it was) a step of random actions apart, off edges, of all and of bodies."""
    env, before, now = positions(name, 4, steps=20, scale=1.0)
    cameras = Cameras(env.task, CameraConfig(size=size, samples=3), fields=("rgb", "depth", "ids"))
    memory = env.simulation.memory
    here, there = cameras.frames(now, memory), cameras.frames(before, memory)
    moved: Motion = cameras.motion(now, before, memory)
    clear = visible(moved, there["depth"], here["ids"], there["ids"].where(pure(there["ids"]), -2)) & pure(here["ids"])
    body = (torch.from_numpy(cameras.model.geom_bodyid)[here["ids"].clamp_min(0)] > 0) & (here["ids"] >= 0)
    rgb, old = here["rgb"] / 255.0, there["rgb"] / 255.0
    guess = sample(old, moved.flow)
    env.close()
    return {
        kind: (psnr_where(guess, rgb, mask), psnr_where(old, rgb, mask))
        for kind, mask in {"all": clear, "bodies": clear & body}.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", ["InvertedPendulum", "FetchPush", "HalfCheetah", "Hopper", "Humanoid"])
def test_warping_by_the_exact_flow_gives_the_picture(name):
    kind, bar = ("all", 35.0) if name in ("InvertedPendulum", "FetchPush") else ("bodies", 30.0)
    found = warped(name)
    print(name, found)
    after, before = found[kind]
    assert after >= bar
    assert after >= before + 8.0


def test_bad_views_and_fields_are_one_line():
    task = catalogue.build("HalfCheetah")
    with pytest.raises(UserError, match=r"camera\.view=trak: .* did you mean 'track'\?"):
        Cameras(task, CameraConfig(size=16, view="trak"))
    with pytest.raises(UserError, match=r"camera\.view=top: the model of Reacher has no such camera; it has none"):
        Cameras(catalogue.build("Reacher"), CameraConfig(size=16, view="top"))
    with pytest.raises(UserError, match=r"camera\.sees=colour"):
        Cameras(task, CameraConfig(size=16), fields=("colour",))
    for numbers in ({"size": 4}, {"size": 16, "every": 0}, {"size": 16, "sees": ()}, {"sees": ("rgb", "rgb")}):
        with pytest.raises(UserError, match=r"camera\."):
            CameraConfig(**numbers)


def test_without_the_tracer_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"camera\.size needs mujoco-warp, .*rlsuite\[cameras\]"):
        Cameras(catalogue.build("Reacher"), CameraConfig(size=16))
