"""Record what OpenSim makes of the runner: ``python tests/parity/opensim_reference.py``, with opensim installed.

Writes fixtures/opensim_runner.npz: 100 poses with their path lengths, moment arms and joint stops' torques, and how
long the runner stands under random, no and full excitations. The tests compare with it, so that they need no OpenSim.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from scripts.benchmarks.opensim_runner import OpenSimRunner

FILE = Path(__file__).parent / "fixtures" / "opensim_runner.npz"
POSES, EPISODES = 100, 4
# Degrees: hip, knee, ankle; beyond the stops. OpenSim's moving points have other derivatives below -120 degrees.
LOW, HIGH = (-45.0, -118.0, -55.0), (135.0, 20.0, 35.0)


def fall(runner: OpenSimRunner, actions: np.ndarray) -> tuple[int, float]:
    """Return after how many steps of actions (T, 18) the runner has fallen, and where."""
    runner.reset()
    for step, action in enumerate(actions):
        x, y = runner.step(action)
        if y < 0.65:
            return step + 1, x
    raise RuntimeError("it did not fall")


def main() -> None:
    """Write the file."""
    generator = np.random.default_rng(0)
    joints = np.radians(generator.uniform(LOW * 2, HIGH * 2, (POSES, 6)))
    speeds = generator.uniform(-5.0, 5.0, (POSES, 6))
    runner = OpenSimRunner()
    found: dict[str, list] = {"length": [], "arm": [], "stop": []}
    for pose, speed in zip(joints, speeds, strict=True):
        runner.pose(pose, speed)
        found["length"].append(runner.lengths())
        found["arm"].append(runner.moment_arms())
        found["stop"].append(runner.stop_torques())
    falls = {
        "random": [fall(runner, generator.uniform(size=(400, 18))) for _ in range(EPISODES)],
        "ones": [fall(runner, np.ones((400, 18)))],
        "zeros": [fall(runner, np.zeros((400, 18)))],
    }
    arrays = {name: np.array(value) for name, value in (found | {f"fall_{k}": v for k, v in falls.items()}).items()}
    np.savez_compressed(FILE, joints=joints, speeds=speeds, mass=runner.model.getTotalMass(runner.state), **arrays)
    print({name: value.tolist() for name, value in arrays.items() if name.startswith("fall")})


if __name__ == "__main__":
    main()
