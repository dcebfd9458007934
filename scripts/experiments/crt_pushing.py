"""The part of CRT's experiment that pushes: FetchPush with three more cubes of the same look on the table.

A scripted pusher acts on what is observed: the true block, or the one that a tracker of 64x64 pictures says. Success is
the truth in all arms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from envs.cameras import Cameras
from envs.goals.fetch import FetchPush
from envs.mujoco_vector import MujocoVectorEnv
from envs.perception.tracking.cascade import CascadeConfig
from envs.perception.tracking.features import TrackingNet, TrackingNetConfig
from envs.perception.tracking.tracker import Tracker
from envs.simulation.base import Edit
from envs.tracked_goals import FIELDS, TrackedGoalWrapper
from rlsuite.config.camera import CameraConfig

ARMS = ("true", "first", "cascade")
OTHERS = ((1.2, 0.5), (1.4, 1.02), (1.5, 0.5))  # m, where the other cubes lie: beyond where the block begins
HALF, HEIGHT, BEHIND, HIGH = 0.025, 0.425, 0.07, 0.08  # m: of a cube, its middle's height, ways of the gripper


@dataclass(frozen=True)
class PushAmongLookAlikes(FetchPush):
    """FetchPush with three more cubes, which can be pushed as well."""

    name: ClassVar[str] = "PushAmongLookAlikes"

    def edits(self) -> Sequence[Edit]:
        """Add the cubes."""
        return (add_cubes,)


def add_cubes(spec: Any) -> None:
    """Add cubes like the block to a mujoco.MjSpec."""
    for number, place in enumerate(OTHERS):
        body = spec.worldbody.add_body(name=f"other{number}", pos=[*place, HEIGHT])
        body.add_freejoint(name=f"other{number}:joint")
        body.add_geom(
            name=f"other{number}", type=6, size=[HALF] * 3, condim=3, mass=2.0, material="block_mat"
        )  # 6: a box


def pusher(seen: Tensor) -> Tensor:
    """Return actions (N, 4) for flat observations (N, F): go over, down behind the block, and push it to its goal."""
    grip, block, goal = seen[:, :3], seen[:, 3:6], seen[:, -6:-3]
    way = (goal - block)[:, :2]
    left = way.norm(dim=1, keepdim=True)
    way = way / left.clamp_min(1e-6)
    offset = (grip - block)[:, :2]
    along = (offset * way).sum(dim=1, keepdim=True)
    aside = (offset - along * way).norm(dim=1, keepdim=True)
    low = grip[:, 2:] < block[:, 2:] + 0.03
    pushes = (along < 0) & (aside < 0.02) & low
    behind = block[:, :2] - BEHIND * way
    far = (behind - grip[:, :2]).norm(dim=1, keepdim=True) > 0.02
    rises = far & (grip[:, 2:] < block[:, 2:] + 0.75 * HIGH)
    place = torch.where(pushes, block[:, :2] + way * (left.clamp_max(0.03) - HALF), behind)
    place = torch.where(rises & ~pushes, grip[:, :2], place)
    height = torch.where(pushes | ~far, block[:, 2:], block[:, 2:] + HIGH)
    aim = torch.cat([place, height], dim=1)
    action = ((aim - grip) / 0.05).clamp(-1.0, 1.0)
    action = torch.where(left < 0.02, torch.zeros_like(action), action)
    return torch.cat([action, torch.zeros_like(action[:, :1])], dim=1)


def push(arm: str, seed: int, folder: Path, *, network: TrackingNet, sizes: TrackingNetConfig, episodes: int) -> float:
    """Return the share of episodes at whose end the block lies at its goal.

    Args:
        arm: "true", "first" or "cascade".
        seed: of the episodes.
        folder: unused.
        network: what the tracker sees with.
        sizes: its sizes.
        episodes: at once.
    """
    task = PushAmongLookAlikes()
    env: Any = MujocoVectorEnv(task, episodes, num_threads=1, max_episode_steps=task.max_episode_steps)
    if arm != "true":
        config = CascadeConfig(network=sizes, stages="first" if arm == "first" else "both")
        cameras = Cameras(task, CameraConfig(size=64), "cpu", FIELDS)
        env = TrackedGoalWrapper(env, cameras, Tracker(network, config))
    seen, info = env.reset(seed=seed)
    for _ in range(task.max_episode_steps):
        seen, _, _, _, info = env.step(pusher(seen))
    env.close()
    return float(info["is_success"].mean())
