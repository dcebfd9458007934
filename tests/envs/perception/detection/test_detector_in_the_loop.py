"""A detector between cameras and an agent, and cameras' frames with boxes to learn from."""

import pytest
import torch

import envs
from envs.perception.catalogue import PERCEPTIONS
from envs.perception.detection.camera_scenes import camera_scenes
from envs.perception.detection.detector import Dense
from envs.perception.weights import choose_perceivers, save_perceiver
from rlsuite.config.camera import CameraConfig
from rlsuite.errors import UserError
from rlsuite.methods import choose


def tiny(path):
    """A weights file of a tiny detector, as perception= takes it."""
    numbers = {"iff.network.widths": [4, 4, 4], "iff.network.channels": 4, "iff.keep.score": 0.005}
    (method,) = choose(PERCEPTIONS, ["iff"], numbers)
    save_perceiver(path, method.build(seed=1), method)
    return choose_perceivers(["iff"], {"iff.weights": str(path)})


def test_an_agent_sees_middles_and_colours(tmp_path):
    pytest.importorskip("mujoco_warp", reason="mujoco-warp is not installed (extra: cameras)")
    methods = tiny(tmp_path / "iff.safetensors")
    camera = CameraConfig(size=32, stack=1, sees=("rgb", "objects"))
    env = envs.make_vector("Reacher", 2, num_threads=1, camera=camera, perception=methods)
    first, _ = env.reset(seed=0)
    assert first.shape == (2, 4, 32, 32)
    assert first[:, 3].max() > 0  # prior scores of weights that know nothing
    kept, action = env.state(), torch.tensor([[0.9, -0.5], [-0.7, 0.3]])
    after = [env.step(action)[0] for _ in range(2)]
    env.load_state(kept)
    assert all(torch.equal(env.step(action)[0], one) for one in after)
    env.close()
    with pytest.raises(UserError, match="no camera draws it"):
        envs.make_vector("Reacher", 1, num_threads=1, camera=camera)


def test_frames_of_a_task_have_boxes_where_its_bodies_are():
    pytest.importorskip("mujoco_warp", reason="mujoco-warp is not installed (extra: cameras)")
    found = camera_scenes("Reacher", ["target", "fingertip"], 32, 6, seed=0, num_envs=2, least=1).tensors
    assert found["picture"].shape == (6, 3, 32, 32)
    assert (found["classes"] >= 0).any(0).all()
    for picture, boxes, classes in zip(found["picture"], found["boxes"], found["classes"], strict=True):
        if classes[0] == 0:  # the target's ball is red, on a lighter ground
            left, top, right, bottom = boxes[0].long().tolist()
            inside = picture[:, top:bottom, left:right].float().mean((1, 2))
            assert inside[0] - inside[1] > (picture[0].float() - picture[1].float()).mean() + 10
    with pytest.raises(UserError, match="no such body"):
        camera_scenes("Reacher", ["goal"], 32, 2, seed=0, num_envs=1)
    source = Dense(config=Dense.Config()).source("Reacher:target", 32, 0, kept=2)
    assert len(source) == 4
