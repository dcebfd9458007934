"""The scripted pusher among look-alikes: it pushes where it knows the block, and takes a tracker's word for it."""

import pytest
import torch

from envs.perception.tracking.features import TrackingNet, TrackingNetConfig
from scripts.experiments import crt_pushing

pytest.importorskip("gymnasium_robotics", reason="gymnasium-robotics has the models")


def test_the_pusher_brings_the_block_to_its_goal():
    sizes = TrackingNetConfig(crop=40, widths=(4, 8), features=16)
    network = TrackingNet(sizes, seed=0).eval().requires_grad_(False)
    share = crt_pushing.push("true", 0, None, network=network, sizes=sizes, episodes=8)  # type: ignore[arg-type]
    assert share >= 0.5


@pytest.mark.slow  # kernels are compiled for a scene of its own
def test_all_cubes_are_seen_and_one_is_followed(monkeypatch):
    pytest.importorskip("mujoco_warp", reason="mujoco-warp is not installed (extra: cameras)")
    monkeypatch.setattr(crt_pushing.PushAmongLookAlikes, "max_episode_steps", 2)
    sizes = TrackingNetConfig(crop=32, widths=(4, 8), features=16)
    network = TrackingNet(sizes, seed=0).eval().requires_grad_(False)
    share = crt_pushing.push("cascade", 0, None, network=network, sizes=sizes, episodes=1)  # type: ignore[arg-type]
    assert share in (0.0, 1.0)


def test_it_rises_goes_over_and_down_before_it_pushes():
    seen = torch.zeros(3, 31)
    seen[:, 3:6] = torch.tensor([1.3, 0.75, 0.425])  # the block
    seen[:, -6:-3] = torch.tensor([1.4, 0.75, 0.425])  # its goal, along x
    seen[0, :3] = torch.tensor([1.4, 0.75, 0.425])  # low, on the wrong side
    seen[1, :3] = torch.tensor([1.23, 0.75, 0.505])  # above the place behind it
    seen[2, :3] = torch.tensor([1.24, 0.75, 0.425])  # behind it
    action = crt_pushing.pusher(seen)
    assert action[0].tolist() == [0.0, 0.0, 1.0, 0.0]
    assert action[1, 2] == -1.0
    assert action[2, 0] > 0.9
    assert abs(float(action[2, 2])) < 1e-4
