"""The runner against OpenSim 4.6, from fixtures that tests/parity/opensim_reference.py recorded."""

from pathlib import Path

import numpy as np
import pytest
import torch

import envs
from envs.learning_to_run.dynamics import runner_facts
from envs.learning_to_run.ligaments import stop_torque
from envs.learning_to_run.path_points import MUSCLES
from envs.learning_to_run.paths import AT_ANKLE, AT_HIP, AT_KNEE, ORDER, MusclePaths

FILE = Path(__file__).parent / "fixtures" / "opensim_runner.npz"


@pytest.fixture(scope="module")
def recorded():
    with np.load(FILE) as arrays:
        return dict(arrays)


def legs(array):
    """Return (2, 3, poses) of (poses, 6)."""
    return torch.from_numpy(array).t().contiguous().view(2, 3, -1)


def test_lengths_and_moment_arms_of_a_hundred_poses(recorded):
    state = MusclePaths()(legs(recorded["joints"]))
    places = [leg * 9 + MUSCLES.index(muscle) for leg in (0, 1) for muscle in ORDER]
    length = torch.from_numpy(recorded["length"][:, places]).t().view(2, 9, -1)
    assert float((state.length - length).abs().max()) < 1e-6  # 0.1 mm is asked for
    arms = torch.from_numpy(recorded["arm"][:, places]).permute(1, 2, 0).view(2, 9, 6, -1)
    for leg in (0, 1):
        assert float(arms[leg, :, 3 - 3 * leg : 6 - 3 * leg].abs().max()) < 1e-12  # nothing crosses to the other leg
        own = arms[leg, :, 3 * leg : 3 * leg + 3]
        for joint, (muscles, derivative) in enumerate(
            ((AT_HIP, state.by_hip), (AT_KNEE, state.by_knee), (AT_ANKLE, state.by_ankle))
        ):
            ours = torch.zeros_like(own[:, joint])
            ours[muscles] = -derivative[leg]
            assert float((ours - own[:, joint]).abs().max()) < 1e-5  # 0.3 mm is asked for


def test_joint_stops(recorded):
    ours = stop_torque(legs(recorded["joints"]), legs(recorded["speeds"]))
    theirs = legs(recorded["stop"])
    assert int((theirs != 0).sum()) > 100
    assert torch.allclose(ours, theirs, rtol=0.01, atol=1e-9)


def test_mass(recorded):
    env = envs.make_vector("LearningToRun", 1, difficulty=0)
    assert float(env.simulation.facts.body_mass.sum()) == pytest.approx(float(recorded["mass"]), abs=3e-4)
    assert runner_facts(env.simulation).skeleton.mass == pytest.approx(79.665, abs=1e-3)


def steps_to_fall(num_envs, actions, **options):
    """Return how many steps each runner stands under actions drawn by a function."""
    env = envs.make_vector("LearningToRun", num_envs, difficulty=0, num_threads=1, **options)
    env.reset(seed=0)
    steps = torch.zeros(num_envs)
    for step in range(1, 300):
        _, _, terminated, truncated, _ = env.step(actions())
        assert not truncated.any()
        steps[terminated & (steps == 0)] = step
        if (steps > 0).all():
            return steps
    raise AssertionError("somebody stands")


@pytest.mark.parametrize("contact", ["mujoco", "analytic"])
def test_falls_as_soon_as_in_opensim(contact, recorded):
    generator = torch.Generator().manual_seed(0)
    random = steps_to_fall(32, lambda: torch.rand(32, 18, generator=generator), contact=contact)
    assert 112 <= float(random.mean()) <= 124
    assert float(random.mean()) == pytest.approx(recorded["fall_random"][:, 0].mean(), abs=4)
    assert 105 <= float(steps_to_fall(1, lambda: torch.ones(1, 18), contact=contact)) <= 125
