"""Reaching seen by a camera: a scripted expert, and a student that imitates it from pictures.

The expert needs no training, so that experiments about students fit in minutes. It is a weak spring with little
damping: pictures show hardly how fast joints turn, and one that damps more acts on what a student cannot see.

A student learns something only if (measured on 24 x 24 pixels, of the variance of actions what is left):
- a ray meets the target: of 24 x 24 single ones 28 % of the pictures have none that does, of four a pixel 1 %;
- its first action is none and its features are normalized: else tanh saturates, and little is learned (0.6 left; 0.1);
- it sees many targets and most of each way: each environment shows one target, so STEPS of many of them are kept.

Standing still earns about -11, the expert -6, random actions -43: what a student has learned is counted from standing
still. `learned_share` says it, and where plain learning does not come half of the way nothing is shown of students.

Shapes: B batch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

import envs
from envs.evaluation.policy_task import PolicyTask
from envs.evaluation.recipe import policy_base
from envs.evaluation.subject import Subject
from envs.evaluation.transform import TeachConfig
from rlsuite.config.camera import CameraConfig
from rlsuite.experiment import Claim
from rlsuite.fit import FitConfig
from rlsuite.nn.action_range import ActionRange
from rlsuite.nn.picture_policy import PicturePolicyConfig, build_picture_policy
from rlsuite.optim.choice import OptimizerConfig, ScheduleConfig
from rlsuite.running.seeding import JUDGED_ON, derive_seed
from rlsuite.scoring import evaluate

LINKS = 0.1, 0.11  # metres from joint to joint, and from there to the fingertip
STEPS = 32  # of each environment, of the 50 of its episode, that are seen in a round
SPRING = {"stiffness": 1.0, "damping": 0.03}  # of the expert that students imitate


class Still(nn.Module):
    """What does nothing, whatever it sees."""

    def forward(self, observation: Tensor) -> Tensor:
        """Map observations (B, ...) to actions (B, 2) of 0."""
        return observation.new_zeros((len(observation), 2), dtype=torch.float32)


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


def reach_camera(size: int) -> CameraConfig:
    """Return the camera by which students see: two pictures, four rays a pixel where a target is no larger than it."""
    return CameraConfig(size=size, samples=2 if size < 48 else 1, stack=2)


def reach_task(*, size: int, states: int, episodes: int, seed: int) -> PolicyTask:
    """Return the task of reaching as the expert does, from pictures of `size` pixels a side, two of them stacked."""
    return reaching_task(
        functools.partial(envs.make_vector, "Reacher", num_threads=1, camera=reach_camera(size)),
        states=states,
        episodes=episodes,
        seed=seed,
    )


def reaching_task(make_env: Callable[[int], envs.VectorEnv], *, states: int, episodes: int, seed: int) -> PolicyTask:
    """Return the same task in any Reachers that show pictures."""
    return PolicyTask(
        make_env,
        Reaching(**SPRING),
        teacher_sees="state",
        episodes=episodes,
        states=states,
        num_envs=-(-states // STEPS),
        seed=seed,
    )


def ends_of_the_scale(episodes: int, seed: int) -> dict[str, float]:
    """Return mean returns of standing "still" and of the "expert", over the starts that `PolicyTask.score` has."""
    env = envs.make_vector("Reacher", episodes, num_threads=1)
    policies = {"still": Still(), "expert": Reaching(**SPRING)}
    start = derive_seed(seed, JUDGED_ON)
    found = {name: float(evaluate(policy, env, seed=start).returns.mean()) for name, policy in policies.items()}
    env.close()
    return found


def learned_share(score: float, ends: Mapping[str, float]) -> float:
    """Return how much of the way from standing "still" to the "expert" a return has come: 0 and 1 at these."""
    return (score - ends["still"]) / (ends["expert"] - ends["still"])


def learned_claim(shares: tuple[float, ...], bar: float) -> Claim:
    """Return the claim without which all others about policies that reach are void."""
    return Claim(
        statement="reaching: share of the way from standing still to the expert that plain learning comes "
        "(below it nothing is shown of policies)",
        margin=bar,
        figures=shares,
    )


def reach_learning(steps: int, rounds: int = 2) -> TeachConfig:
    """Return how students learn: so many minibatches of 64 in each round."""
    optimizer, schedule = OptimizerConfig(learning_rate=3e-3), ScheduleConfig(kind="cosine")
    fit = FitConfig(steps=steps, batch_size=64, optimizer=optimizer, schedule=schedule, clip_norm=5.0)
    return TeachConfig(fit=fit, rounds=rounds)


def reach_student(task: PolicyTask, seed: int, widths: tuple[int, ...] = (16, 32, 32)) -> Subject:
    """Return a small convolutional policy that has learned nothing yet, and stands still."""
    env = task.make_env(1)
    channels, size, _ = env.single_observation_space.shape
    env.close()
    numbers = {"widths": list(widths), "batch_norm": True}
    config = PicturePolicyConfig(
        network="conv", channels=channels, size=size, action_size=len(task.low), numbers=numbers
    )
    module = build_picture_policy(config, seed=derive_seed(seed, "student"))
    module.action_range = ActionRange(task.low, task.high)
    nn.init.zeros_(module.network.get_parameter("head.weight"))
    example = task.source("train").tensors["input"][:1].clone()
    return Subject(module, example, task, policy_base(config), gained=frozenset({"policy"}))
