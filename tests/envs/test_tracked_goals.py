"""FetchPush with its block where a tracker says: nothing of the true block is seen, and it resumes."""

import pytest
import torch

import envs
from envs.cameras import Cameras
from envs.perception.tracking.cascade import CascadeConfig
from envs.perception.tracking.features import TrackingNet, TrackingNetConfig
from envs.perception.tracking.tracker import Tracker
from envs.tracked_goals import FIELDS, TrackedGoalWrapper
from rlsuite.config.camera import CameraConfig
from rlsuite.errors import UserError

pytest.importorskip("mujoco_warp", reason="mujoco-warp is not installed (extra: cameras)")
pytest.importorskip("gymnasium_robotics", reason="gymnasium-robotics has the models")


def made(task="FetchPush", fields=FIELDS):
    env = envs.make_vector(task, 2, num_threads=1, flat=True)
    sizes = TrackingNetConfig(crop=40, widths=(6, 12), features=24)
    config = CascadeConfig(network=sizes, projected=8, memory=40, frames=3, newton_steps=3)
    tracker = Tracker(TrackingNet(sizes, seed=1).eval().requires_grad_(False), config)
    return TrackedGoalWrapper(env, Cameras(env.task, CameraConfig(size=64), "cpu", fields), tracker)  # type: ignore


def test_the_block_is_where_the_tracker_says_and_an_episode_resumes():
    env = made()
    seen, info = env.reset(seed=0)
    true = env.env.observation()
    assert info["tracker_ok"].all()
    away = (seen[:, 3:6] - true[:, 3:6]).norm(dim=1)
    assert (away > 0).all()  # not the true place, but one found in a picture of 64 pixels
    assert (away < 0.06).all()
    assert torch.equal(seen[:, -3:], seen[:, 3:6])
    assert torch.allclose(seen[:, 6:9], seen[:, 3:6] - seen[:, :3])
    assert not seen[:, 11:14].any()
    assert not seen[:, 17:20].any()
    action = torch.tensor([[0.3, -0.2, 0.0, 0.0], [-0.5, 0.1, 0.2, 0.0]])
    after, reward, *_, info = env.step(action)
    point = after[:, -3:].double()
    assert torch.equal(reward, env.goals.compute_reward(point, after[:, -6:-3].double()).float())
    moved = after[:, 3:6] - seen[:, 3:6]
    assert torch.allclose(after[:, 14:17] + after[:, 20:23], moved, atol=1e-5)
    assert info["tracker_ok"].shape == (2,)
    kept, ends = env.state(), [env.step(action)[0] for _ in range(2)]
    env.load_state(kept)
    assert torch.equal(env.observation(), after)
    assert all(torch.equal(env.step(action)[0], one) for one in ends)
    env.reset(seed=0)
    assert torch.equal(env.observation(), seen)
    with pytest.raises(ValueError, match="tracked goals"):
        env.load_state(env.env.state())


def test_what_cannot_be_tracked_is_refused_in_a_line():
    with pytest.raises(UserError, match="use env=FetchPush"):
        made("FetchReach")
    with pytest.raises(UserError, match="let them draw"):
        made(fields=("rgb",))
