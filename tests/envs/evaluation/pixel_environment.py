"""Environments whose observations are gray pictures of bytes, episodes of a fixed length."""

import gymnasium
import numpy as np
import torch

from rlsuite.vector_env import VectorEnv


class PixelEnv(VectorEnv):
    def __init__(self, num_envs, *, length=3, shape=(1, 8, 8)):
        self.num_envs, self.length = num_envs, length
        self.single_observation_space = gymnasium.spaces.Box(0, 255, shape, np.uint8)
        self.single_action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.failures = []

    def observation(self):
        return torch.full((self.num_envs, *self.single_observation_space.shape), 128, dtype=torch.uint8)

    def reset(self, *, seed=None, options=None):
        self.elapsed = 0
        return self.observation(), {}

    def step(self, actions):
        self.elapsed = (self.elapsed + 1) % self.length
        no = torch.zeros(self.num_envs, dtype=torch.bool)
        ended = no | (self.elapsed == 0)
        info = {"final_obs": self.observation(), "failed": no}
        return self.observation(), torch.zeros(self.num_envs), no, ended, info

    def state(self):
        return {"elapsed": torch.tensor(self.elapsed)}

    def load_state(self, state):
        self.elapsed = int(state["elapsed"])
