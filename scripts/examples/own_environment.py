"""Train in your own environment until it is good enough: ``python own_environment.py [STEPS] [RUN_DIR]``."""

import sys

import gymnasium
import numpy as np
from gymnasium.spaces import Box

from agents import train


class Corridor(gymnasium.Env):
    """Walk to the right within 50 steps; the way is one unit long, and every step costs."""

    observation_space = Box(-10.0, 10.0, (1,), np.float32)
    action_space = Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        """Begin at the left end."""
        super().reset(seed=seed)
        self.place, self.steps = np.zeros(1, np.float32), 0
        return self.place.copy(), {}

    def step(self, action):
        """Walk."""
        self.place += 0.1 * np.clip(action, -1.0, 1.0).astype(np.float32)
        self.steps += 1
        return self.place.copy(), -1.0, bool(self.place[0] >= 1.0), self.steps >= 50, {}


def good_enough(step, kind, numbers):
    """End the training, by answering False, once the corridor takes 12 steps or less."""
    return not (kind == "evaluate" and numbers["mean"] >= -12.0)


if __name__ == "__main__":
    steps, run_dir = int((sys.argv[1:] or ["20000"])[0]), (sys.argv[2:] or ["runs/corridor"])[0]
    run = train("td3", Corridor, steps=steps, run_dir=run_dir, callbacks=[good_enough], learning_starts=1000)
    print(f"stopped at step {run.steps}: {run.evaluate().mean:.1f}")
