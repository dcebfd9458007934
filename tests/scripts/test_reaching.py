"""Reaching by pictures: how what was learned is counted, what the camera shows, and that a student learns."""

import pytest
import torch

import envs
from envs.evaluation.transform import teach
from rlsuite.config.camera import CameraConfig
from rlsuite.experiment import FAILS, HOLDS
from scripts.experiments.reaching import (
    Still,
    ends_of_the_scale,
    learned_claim,
    learned_share,
    reach_camera,
    reach_learning,
    reach_student,
    reach_task,
)

ENDS = {"still": -11.0, "expert": -6.0}


def test_what_was_learned_counts_from_standing_still():
    assert [learned_share(score, ENDS) for score in (-11.0, -6.0, -8.5, -12.0)] == [0.0, 1.0, 0.5, pytest.approx(-0.2)]
    assert learned_claim((0.4, 0.7), 0.5).verdict == HOLDS
    assert learned_claim((0.0, 0.1), 0.5).verdict == FAILS


def test_students_begin_by_standing_still_and_targets_are_seen():
    pytest.importorskip("mujoco_warp", reason="mujoco-warp is not installed (extra: cameras)")
    task = reach_task(size=24, states=64, episodes=3, seed=0)
    assert task.num_envs == 2  # each is followed for most of its way
    student = reach_student(task, 0)
    pictures = task.source("train").tensors["input"][:4]
    assert torch.equal(student.module(pictures), torch.zeros(4, 2))
    score = task.score(student.module, 0)
    ends = ends_of_the_scale(3, 0)
    assert score.mean() == pytest.approx(ends["still"], abs=1e-4)  # of the same starts
    assert score.tolist() == task.score(Still(), 0).tolist()
    assert ends["still"] < ends["expert"]


def test_every_target_is_in_its_picture():
    pytest.importorskip("mujoco_warp", reason="mujoco-warp is not installed (extra: cameras)")

    def seen(camera):
        env = envs.make_vector("Reacher", 48, num_threads=1, flat=True, camera=camera)
        pictures = env.reset(seed=0)[0][:, -3:].float()
        env.close()
        red = (pictures[:, 0] - pictures[:, 2]).flatten(1).amax(1)  # all else is grey, blue or green
        return float((red > 10.0).float().mean())

    assert seen(reach_camera(24)) == 1.0
    assert seen(CameraConfig(size=24)) < 0.85


@pytest.mark.slow
def test_a_student_comes_half_of_the_way_from_standing_still_to_the_expert():
    pytest.importorskip("mujoco_warp", reason="mujoco-warp is not installed (extra: cameras)")
    task = reach_task(size=24, states=2000, episodes=20, seed=0)
    student = reach_student(task, 0)
    teach(student, reach_learning(300), 0)
    assert learned_share(float(task.score(student.module, 0).mean()), ends_of_the_scale(20, 0)) > 0.5
