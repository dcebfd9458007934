"""A Fetch task whose object is where a tracker says, and not where the simulator knows it to be.

What the tracker cannot know is hidden as well: an observation of FetchPush holds the block's place, offset, rotation
and velocities, beside the achieved goal, so replacing that alone would leave the true pose in sight. The place is the
tracked one; the offset follows from it; the velocity is its change over a step; rotation and angular velocity are 0.

Shapes: N environments, n of them, H = W = size, F columns of a flat goal observation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from envs.cameras import Cameras
from envs.goals.fetch import FetchTask
from envs.mujoco_vector import MujocoVectorEnv
from envs.perception.tracking.crt import box_of_mask
from envs.perception.tracking.goal_from_box import StandingCamera, point_in_box
from envs.perception.tracking.tracker import NOT_FOUND, Tracker
from envs.wrapper import VectorWrapper
from rlsuite.errors import require

FIELDS = ("rgb", "depth", "ids")  # what the cameras draw
GRIP, PLACE, OFFSET, ROTATION = slice(0, 3), slice(3, 6), slice(6, 9), slice(11, 14)
VELOCITY, SPIN, GRIP_VELOCITY = slice(14, 17), slice(17, 20), slice(20, 23)
_PREFIX = "tracked_goals/"


class TrackedGoalWrapper(VectorWrapper):
    """Environments whose achieved goal is a tracked point; rewards are judged by it, too.

    `info["is_success"]` stays the truth; `info["tracker_ok"]` (N,) bool says where the object was found in this step,
    and where it was not the last point is held. A tracker begins with each episode, from the object's true mask in the
    first frame in which it can be seen.

    Args:
        env: of a Fetch task with an object, stepped on CPU threads.
        cameras: which draw `FIELDS` from a view that stands still.
        tracker: what follows.
        geom: name of the object's geom.
        inside: metres by which the object's middle lies behind its surface.

    Raises:
        UserError: if the task has no object, the cameras draw too little, the view moves, or there is no such geom.
    """

    env: MujocoVectorEnv

    def __init__(
        self, env: MujocoVectorEnv, cameras: Cameras, tracker: Tracker, geom: str = "object0", inside: float = 0.02
    ) -> None:
        super().__init__(env)
        task = env.task
        require(
            isinstance(task, FetchTask) and task.has_object, f"{task.name} has no tracked object; use env=FetchPush"
        )
        require(
            set(FIELDS) <= set(cameras.fields), f"cameras draw {list(cameras.fields)}; let them draw {list(FIELDS)}"
        )
        names = [cameras.model.geom(index).name for index in range(cameras.model.ngeom)]
        require(
            geom in names, f"geom={geom}: the model has no such geom; its geoms are {', '.join(filter(None, names))}"
        )
        assert env.goals is not None
        self.cameras, self.tracker, self.inside, self._geom = cameras, tracker, inside, names.index(geom)
        self._spec, self._camera = env.goals, StandingCamera.of(cameras)
        self._track = tracker.fresh(env.num_envs, cameras.device)
        self._own = {
            "began": torch.zeros(env.num_envs, dtype=torch.bool),
            "ok": torch.zeros(env.num_envs, dtype=torch.bool),
            "point": torch.zeros(env.num_envs, 3),
            "before": torch.zeros(env.num_envs, 3),
            "seen": torch.zeros(env.num_envs, env.single_observation_space.shape[0]),
        }

    # -- what is seen -------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _look(self, rows: Tensor) -> None:
        """Take frames of environments `rows` (n,) and follow their objects."""
        own, qpos = self._own, self.env.simulation.field("qpos")
        rows = rows[torch.isfinite(qpos[rows]).all(dim=1)]
        if not len(rows):
            return
        memory = {name: value[rows] for name, value in self.env.simulation.memory.items()}
        drawn = self.cameras.frames(qpos[rows], memory)
        frames, masks = drawn["rgb"].float() / 255.0, (drawn["ids"] == self._geom).squeeze(1)
        follows = own["began"][rows]
        begins = ~follows & masks.flatten(1).any(dim=1).cpu()
        ok = begins.clone()
        if follows.any():
            here = rows[follows]
            found, after = self.tracker.track(frames[follows], {name: one[here] for name, one in self._track.items()})
            ok[follows] = (found.flag != NOT_FOUND).cpu()
            self._put(here, after)
        if begins.any():
            here = rows[begins]
            self._put(here, self.tracker.begin(frames[begins], box_of_mask(masks[begins])))
            own["began"][here] = True
        point, there = point_in_box(self._track["box"][rows], drawn["depth"], self._camera, self.inside)
        ok &= there.cpu()
        first = (begins & ok).unsqueeze(1)
        point = torch.where(ok.unsqueeze(1), point.cpu(), own["point"][rows])
        own["before"][rows] = torch.where(first, point, own["point"][rows])
        own["point"][rows], own["ok"][rows] = point, ok

    def _put(self, rows: Tensor, state: dict[str, Tensor]) -> None:
        for name, value in state.items():
            self._track[name][rows] = value

    def _begin(self, rows: Tensor) -> None:
        self._put(rows, self.tracker.fresh(len(rows), self.cameras.device))
        for name in ("began", "ok", "point", "before"):
            self._own[name][rows] = torch.zeros_like(self._own[name][rows])
        self._look(rows)

    def _tracked(self, observation: Tensor) -> Tensor:
        """Return observations (N, F) with the tracked point in place of all that is the true object's."""
        seen, own, spec = observation.clone(), self._own, self._spec
        point, before = own["point"].to(seen), own["before"].to(seen)
        seen[:, PLACE], seen[:, OFFSET] = point, point - seen[:, GRIP]
        seen[:, ROTATION], seen[:, SPIN] = 0.0, 0.0
        seen[:, VELOCITY] = point - before - seen[:, GRIP_VELOCITY]
        seen[:, -spec.goal_size :] = point
        return seen

    # -- the contract -------------------------------------------------------------------------------------------

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Tensor, dict[str, Any]]:
        """Begin a new episode in every environment; see `VectorEnv.reset`."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._begin(torch.arange(self.num_envs))
        self._own["seen"] = self._tracked(observation).cpu()
        return self.observation(), {**info, "tracker_ok": self._own["ok"].to(observation.device)}

    def step(self, actions: Tensor | np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Step every environment once; see `VectorEnv.step`. A failed one's last point is held."""
        transition = self.env.advance(actions)
        self._look(torch.nonzero(~transition.failed).flatten())
        final, ok = self._tracked(transition.observation.to(self.device)), self._own["ok"].to(self.device)
        _, desired, achieved = self._spec.split(final)
        judged = self._spec.compute_reward(achieved, desired).to(transition.reward.dtype)
        observation, reward, terminated, truncated, info = self.env.renew(transition)
        reward = torch.where(transition.failed.to(self.device), reward, judged)
        ended = torch.nonzero(terminated | truncated).flatten().cpu()
        seen = final.clone()
        if len(ended):
            self._begin(ended)
            here = ended.to(self.device)
            seen[here] = self._tracked(observation)[here]
        self._own["seen"] = seen.cpu()
        return seen.clone(), reward, terminated, truncated, {**info, "final_obs": final, "tracker_ok": ok}

    def observation(self) -> Tensor:
        """Return a copy of what was seen last."""
        return self._own["seen"].to(self.device, copy=True)

    def state(self) -> dict[str, Tensor]:
        """Return copies of all that stepping depends on: the environments', the tracker's and the tracked points."""
        own = {**self._own, **{f"tracker.{name}": value for name, value in self._track.items()}}
        return {**self.env.state(), **{f"{_PREFIX}{name}": value.cpu().clone() for name, value in own.items()}}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` returned.

        Raises:
            ValueError: If it is of environments without a tracker.
        """
        if f"{_PREFIX}point" not in state:
            raise ValueError("the state is not of environments with tracked goals")
        self.env.load_state({name: value for name, value in state.items() if not name.startswith(_PREFIX)})
        for name in self._own:
            self._own[name] = state[f"{_PREFIX}{name}"].clone()
        for name, value in self._track.items():
            value.copy_(state[f"{_PREFIX}tracker.{name}"])
