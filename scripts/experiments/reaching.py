"""Reaching seen by a camera: a scripted expert, and a student that imitates it from pictures.

The expert needs no training, so that experiments about students fit in minutes.

Shapes: B batch.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

import envs
from envs.evaluation.policy_task import PolicyTask
from envs.evaluation.recipe import policy_base
from envs.evaluation.subject import Subject
from rlsuite.config.camera import CameraConfig
from rlsuite.nn.action_range import ActionRange
from rlsuite.nn.picture_policy import PicturePolicyConfig, build_picture_policy
from rlsuite.running.seeding import derive_seed

LINKS = 0.1, 0.11  # metres from joint to joint, and from there to the fingertip


class Reaching(nn.Module):
    """Reacher's states to torques: those of a spring between fingertip and target, with damped joints.

    Args:
        stiffness: of the spring, in units of the action a metre, at an arm of the second link's length.
        damping: of the joints, in units of the action a radian a second.
    """

    def __init__(self, stiffness: float = 2.0, damping: float = 0.1) -> None:
        super().__init__()
        self.stiffness, self.damping = stiffness, damping

    def forward(self, states: Tensor) -> Tensor:
        """Map states (B, 10) to actions (B, 2) in [-1, 1]."""
        cosine, sine, velocity, apart = states[:, 0:2], states[:, 2:4], states[:, 6:8], states[:, 8:10]
        first, second = LINKS
        # Of the second link's angle in the room.
        cosine_both = cosine[:, 0] * cosine[:, 1] - sine[:, 0] * sine[:, 1]
        sine_both = sine[:, 0] * cosine[:, 1] + cosine[:, 0] * sine[:, 1]
        x, y = second * cosine_both, second * sine_both
        along_second = apart[:, 1] * x - apart[:, 0] * y
        along_first = along_second + first * (apart[:, 1] * cosine[:, 0] - apart[:, 0] * sine[:, 0])
        torque = -torch.stack([along_first, along_second], 1) * (self.stiffness / second)
        return (torque - self.damping * velocity).clamp(-1.0, 1.0)


def reach_task(*, size: int, states: int, episodes: int, seed: int) -> PolicyTask:
    """Return the task of reaching as the expert does, from pictures of `size` pixels a side, two of them stacked."""
    camera = CameraConfig(size=size, stack=2)
    return PolicyTask(
        functools.partial(envs.make_vector, "Reacher", num_threads=1, camera=camera),
        Reaching(),
        teacher_sees="state",
        episodes=episodes,
        states=states,
        num_envs=16,
        seed=seed,
    )


def reach_student(task: PolicyTask, seed: int, widths: tuple[int, ...] = (16, 32, 32)) -> Subject:
    """Return a small convolutional policy that has learned nothing yet."""
    env = task.make_env(1)
    channels, size, _ = env.single_observation_space.shape
    env.close()
    config = PicturePolicyConfig(
        network="conv", channels=channels, size=size, action_size=len(task.low), numbers={"widths": list(widths)}
    )
    module = build_picture_policy(config, seed=derive_seed(seed, "student"))
    module.action_range = ActionRange(task.low, task.high)
    example = task.source("train").tensors["input"][:1].clone()
    return Subject(module, example, task, policy_base(config), gained=frozenset({"policy"}))
