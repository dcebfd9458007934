"""Record what Gymnasium-Robotics' goal tasks do: ``python tests/parity/record_goal_fixtures.py``.

Writes two files into this file's fixtures folder. goal_tasks.npz: for each task some steps of one random episode, each
with the full simulator state before it, every other one judged by a goal that is reached; and how pairs of goals are
judged. goal_starts.npz: observations that episodes begin with. The tests make the same steps, judge the same pairs and
draw starts of their own, so that they need no reference.
"""

from __future__ import annotations

from pathlib import Path

import mujoco
import numpy as np
from robotics_reference import REFERENCE_IDS, make_reference

FOLDER = Path(__file__).parent / "fixtures"
STEPS = 12
STARTS = 300
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
        if step % 4:
            goal = near(achieved, rng)
            reward = sparse.compute_reward(achieved, goal, {})
            info = {"is_success": sparse._is_success(achieved, goal)}
        rows["row"].append(row)
        rows["goal"].append(goal)
        rows["action"].append(action)
        rows["flat"].append(np.concatenate([observation["observation"], goal, achieved]))
        rows["sparse"].append(reward)
        rows["dense"].append(dense.compute_reward(achieved, goal, {}))
        rows["success"].append(info["is_success"])
        if pose is not None:
            rows["grip_pose"].append(pose)
    size = len(sparse.goal)
    achieved = np.array(rows["flat"])[:, -size:]
    # Near goals, the episode's, and other steps' achievements, (3, STEPS, G).
    desired = np.stack([[near(row, rng) for row in achieved], rows["goal"], achieved[::-1]])
    pairs = {"pair_desired": desired}
    for key, judge in (
        ("pair_sparse", lambda *pair: sparse.compute_reward(*pair, {})),
        ("pair_dense", lambda *pair: dense.compute_reward(*pair, {})),
        ("pair_success", sparse._is_success),
    ):
        pairs[key] = np.array(
            [[judge(one.copy(), other.copy()) for one, other in zip(achieved, goals, strict=True)] for goals in desired]
        )
    found = {key: np.array(values) for key, values in rows.items()} | pairs
    found["initial_qpos"] = np.array(sparse.initial_qpos)
    return {f"{name}/{key}": values for key, values in found.items()}


def near(achieved: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a goal so near to what is achieved (G,) that it is reached; a pose keeps a quaternion of unit length."""
    goal = achieved + 0.002 * rng.normal(size=achieved.shape)
    if len(goal) == 7:
        goal[3:] /= np.linalg.norm(goal[3:])
    return goal


def starts(name: str) -> np.ndarray:
    """Return the observations that STARTS episodes begin with, (STARTS, D) float32, goals included."""
    reference, rows = make_reference(name), []
    for episode in range(STARTS):
        observation, _ = reference.reset(seed=episode)
        rows.append(np.concatenate([observation[key] for key in ("observation", "desired_goal", "achieved_goal")]))
    return np.array(rows, np.float32)


def main() -> None:
    """Record all tasks."""
    recorded = {"mujoco": np.array(mujoco.__version__)}
    for name in REFERENCE_IDS:
        recorded |= record(name)
    FOLDER.mkdir(exist_ok=True)
    begun = {name: starts(name) for name in REFERENCE_IDS}
    for stem, tensors in (("goal_tasks", recorded), ("goal_starts", begun)):
        path = FOLDER / f"{stem}.npz"
        np.savez_compressed(path, **tensors)  # type: ignore[arg-type]
        print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
