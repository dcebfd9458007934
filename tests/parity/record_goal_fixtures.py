"""Record what Gymnasium-Robotics' goal tasks do: ``python tests/parity/record_goal_fixtures.py``.

Writes goal_tasks.npz beside this file's fixtures folder: for each task some steps of one random episode, each with the
full simulator state before it. The tests make the same steps and compare, so that they need no reference.
"""

from __future__ import annotations

from pathlib import Path

import mujoco
import numpy as np
from robotics_reference import REFERENCE_IDS, make_reference

FILE = Path(__file__).parent / "fixtures" / "goal_tasks.npz"
STEPS = 12
STATE = int(mujoco.mjtState.mjSTATE_INTEGRATION)


def record(name: str) -> dict[str, np.ndarray]:
    """Return states, goals, actions, observations, rewards and successes of one task, (STEPS, ...) each."""
    sparse, dense = make_reference(name), make_reference(name, "dense")
    sparse.reset(seed=7)
    rng = np.random.default_rng(7)
    rows: dict[str, list] = {key: [] for key in ("row", "goal", "action", "flat", "sparse", "dense", "success")}
    gripper = name.startswith("Fetch")
    if gripper:
        rows["grip_pose"] = []
    for step in range(2 * STEPS):
        row = np.zeros(mujoco.mj_stateSize(sparse.model, STATE))
        mujoco.mj_getState(sparse.model, sparse.data, row, STATE)
        goal = sparse.goal.copy()
        pose = None
        if gripper:
            body = sparse.model.body("robot0:gripper_link").id
            pose = np.concatenate([sparse.data.xpos[body], sparse.data.xquat[body]])
        # Beyond the bounds now and then, and later downwards, so that something is touched.
        action = rng.uniform(-1.3, 1.3, sparse.action_space.shape)
        if gripper and step > STEPS // 2:
            action[2] = -abs(action[2])
        observation, reward, _, _, info = sparse.step(action)
        if step % 2:
            continue
        achieved = observation["achieved_goal"]
        rows["row"].append(row)
        rows["goal"].append(goal)
        rows["action"].append(action)
        rows["flat"].append(np.concatenate([observation["observation"], goal, achieved]))
        rows["sparse"].append(reward)
        rows["dense"].append(dense.compute_reward(achieved, goal, {}))
        rows["success"].append(info["is_success"])
        if pose is not None:
            rows["grip_pose"].append(pose)
    return {f"{name}/{key}": np.array(values) for key, values in rows.items()} | {
        f"{name}/initial_qpos": np.array(sparse.initial_qpos)
    }


def main() -> None:
    """Record all tasks."""
    recorded = {"mujoco": np.array(mujoco.__version__)}
    for name in REFERENCE_IDS:
        recorded |= record(name)
    FILE.parent.mkdir(exist_ok=True)
    np.savez_compressed(FILE, **recorded)  # type: ignore[arg-type]
    print(f"{FILE}: {FILE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
