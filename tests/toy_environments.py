"""Tiny vector environments for the tests: a point to steer, and one that plays a written script.

Shapes: N environments, T steps of a script.
"""

from __future__ import annotations

from types import SimpleNamespace

import gymnasium
import numpy as np
import torch

from rlsuite.errors import NonFiniteActionError
from rlsuite.goals import GoalSpec


class PointEnv:
    """A point on a line that must reach the origin: ``x' = x + 0.3 * action``, reward ``-|x'|``, 20 steps.

    The action lies in [-1, 2], so that a policy must know the bounds; past |x| = 4 the episode terminates.
    Policies: standing still gives about -20, the best about -3.
    """

    exact_resume = True
    goals = None
    constant_columns = 0

    def __init__(self, num_envs, *, length=20, fail_at=None):
        self.num_envs, self.length, self.fail_at = num_envs, length, fail_at
        self.single_observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.single_action_space = gymnasium.spaces.Box(
            np.array([-1.0], np.float32), np.array([2.0], np.float32), dtype=np.float32
        )
        self.failures = []
        self.closed = False
        self.steps = 0
        self.generator = torch.Generator()

    def _start(self):
        return torch.rand(self.num_envs, generator=self.generator) * 3.0 - 1.5

    def observation(self):
        # The second entry is on another scale and carries nothing: a normalizer must cope.
        return torch.stack([self.x, torch.full_like(self.x, 100.0)], dim=1)

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            self.generator.manual_seed(seed)
        self.x = self._start()
        self.elapsed = torch.zeros(self.num_envs, dtype=torch.int64)
        return self.observation(), {}

    def step(self, actions):
        if not torch.isfinite(actions).all():
            raise NonFiniteActionError("action of environment 0 is not finite: [nan]; check the policy's output")
        self.steps += 1
        before = self.observation()
        self.x = self.x + 0.3 * actions[:, 0].clamp(-1.0, 2.0)
        self.elapsed = self.elapsed + 1
        reward = -self.x.abs()
        terminated = self.x.abs() > 4.0
        truncated = (self.elapsed >= self.length) & ~terminated
        failed = torch.zeros(self.num_envs, dtype=torch.bool)
        final = self.observation()
        if self.fail_at == self.steps:
            failed[0] = True
            final[0], reward[0], terminated[0], truncated[0] = before[0], 0.0, False, True
            self.failures.append(SimpleNamespace(env_index=0, message="environment 0 went non-finite (qacc)"))
        ended = terminated | truncated
        self.x = torch.where(ended, self._start(), self.x)
        self.elapsed = self.elapsed.masked_fill(ended, 0)
        return self.observation(), reward, terminated, truncated, {"final_obs": final, "failed": failed}

    def state(self):
        return {
            "x": self.x.clone(),
            "elapsed": self.elapsed.clone(),
            "steps": torch.tensor(self.steps),
            "generator": self.generator.get_state(),
        }

    def load_state(self, state):
        self.x, self.elapsed = state["x"].clone(), state["elapsed"].clone()
        self.steps = int(state["steps"])
        self.generator.set_state(state["generator"])

    def render(self, index=0):
        return np.full((2, 2, 3), int(self.elapsed[index]), np.uint8)

    def close(self, **_):
        self.closed = True


class ScriptedEnv(PointEnv):
    """Plays written rewards and endings, each (T, N); observation n at step t is ``[10 * t + n, t]``."""

    def __init__(self, reward, terminated, truncated):
        self.script = [torch.tensor(rows) for rows in (reward, terminated, truncated)]
        super().__init__(self.script[0].shape[1])

    def observation(self):
        rows = torch.arange(self.num_envs, dtype=torch.float32)
        return torch.stack([10.0 * self.steps + rows, torch.full_like(rows, self.steps)], dim=1)

    def reset(self, *, seed=None, options=None):
        self.seed = seed
        self.elapsed = torch.zeros(self.num_envs, dtype=torch.int64)
        return self.observation(), {}

    def step(self, actions):
        reward, terminated, truncated = (rows[self.steps] for rows in self.script)
        self.actions = actions
        self.steps += 1
        final = self.observation() + 0.5
        ended = (terminated | truncated).unsqueeze(1)
        failed = torch.zeros(self.num_envs, dtype=torch.bool)
        observation = torch.where(ended, self.observation(), final)
        return observation, reward, terminated, truncated, {"final_obs": final, "failed": failed}

    def state(self):
        return {"steps": torch.tensor(self.steps)}

    def load_state(self, state):
        self.steps = int(state["steps"])


class FailingEnv(PointEnv):
    """Pays -1 a step for 20 steps, of which each fails with a probability of 0.1: whole episodes are worth -20."""

    def step(self, actions):
        self.steps += 1
        self.elapsed = self.elapsed + 1
        failed = torch.rand(self.num_envs, generator=self.generator) < 0.1
        truncated = failed | (self.elapsed >= self.length)
        reward = torch.where(failed, 0.0, -1.0)
        final = self.observation()
        self.elapsed = self.elapsed.masked_fill(truncated, 0)
        return self.observation(), reward, torch.zeros_like(failed), truncated, {"final_obs": final, "failed": failed}


class PointGoalEnv(PointEnv):
    """A point in a plane and a goal: reward 0 within 0.3 of it, else -1; 25 steps of at most 0.5 each way.

    Start and goal lie within 2.5 of the origin both ways, so that chance hardly ever meets the goal. Observation
    [x, y, goal's x, goal's y, x, y].
    """

    goals = GoalSpec(
        observation_size=2,
        goal_size=2,
        compute_reward=lambda achieved, desired: -((achieved - desired).norm(dim=-1) > 0.3).float(),
        is_success=lambda achieved, desired: (achieved - desired).norm(dim=-1) <= 0.3,
    )

    def __init__(self, num_envs, *, length=25):
        super().__init__(num_envs, length=length)
        self.single_observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (6,), np.float32)
        self.single_action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def _anywhere(self):
        return torch.rand(self.num_envs, 2, generator=self.generator) * 5.0 - 2.5

    def observation(self):
        return torch.cat([self.x, self.goal, self.x], dim=1)

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            self.generator.manual_seed(seed)
        self.x, self.goal = self._anywhere(), self._anywhere()
        self.elapsed = torch.zeros(self.num_envs, dtype=torch.int64)
        return self.observation(), {}

    def step(self, actions):
        self.x = self.x + 0.5 * actions.clamp(-1.0, 1.0)
        self.elapsed = self.elapsed + 1
        final = self.observation()
        _, desired, achieved = self.goals.split(final)
        reward, success = self.goals.compute_reward(achieved, desired), self.goals.is_success(achieved, desired)
        truncated = self.elapsed >= self.length
        no = torch.zeros(self.num_envs, dtype=torch.bool)
        if truncated.any():  # all at once
            self.reset()
        info = {"final_obs": final, "failed": no, "is_success": success.float()}
        return self.observation(), reward, no, truncated, info

    def state(self):
        return {name: getattr(self, name).clone() for name in ("x", "goal", "elapsed")} | {
            "generator": self.generator.get_state()
        }

    def load_state(self, state):
        self.x, self.goal, self.elapsed = (state[name].clone() for name in ("x", "goal", "elapsed"))
        self.generator.set_state(state["generator"])
