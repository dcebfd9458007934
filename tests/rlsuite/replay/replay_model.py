"""A brute-force replay in plain Python lists, and a feeder that gives it and a ring the same transitions.

Shapes: N environments.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from rlsuite.replay.buffer import ReplayBuffer, Transition

GO, TERMINATED, TRUNCATED, FAILED = range(4)


@dataclass
class Record:
    """One transition of one environment, its observations as single numbers."""

    observation: float
    action: float
    reward: float
    terminated: bool
    truncated: bool
    failed: bool
    next_observation: float


class Feeder:
    """Feeds a ring (or anything with `add`) and keeps all that it was ever given: ``history[t][n]``."""

    def __init__(self, num_envs):
        self.num_envs = num_envs
        self.history = []
        self.number = 0.0
        self.current = [self._new() for _ in range(num_envs)]

    def _new(self):
        self.number += 1.0
        return self.number

    def step(self, events):
        """Make the transition in which environment n meets events[n]."""
        rows = []
        for env, event in enumerate(events):
            observation = self.current[env]
            after = observation if event == FAILED else self._new()
            reward = 0.0 if event == FAILED else self._new() / 16.0
            rows.append(
                Record(
                    observation, -observation, reward, event == TERMINATED, event in (TRUNCATED, FAILED),
                    event == FAILED, after,
                )
            )  # fmt: skip
            self.current[env] = after if event == GO else self._new()
        self.history.append(rows)
        return self.transition(rows)

    def interrupt(self):
        """All running episodes are lost; new ones begin."""
        for row in self.history[-1]:
            row.truncated |= not row.terminated
        self.current = [self._new() for _ in range(self.num_envs)]

    @staticmethod
    def transition(rows):
        def column(name, dtype=torch.float32):
            return torch.tensor([getattr(row, name) for row in rows], dtype=dtype)

        return Transition(
            observation=column("observation").unsqueeze(1),
            action=column("action").unsqueeze(1),
            reward=column("reward"),
            terminated=column("terminated", torch.bool),
            truncated=column("truncated", torch.bool),
            next_observation=column("next_observation").unsqueeze(1),
            failed=column("failed", torch.bool),
        )

    def n_step(self, time, env, n_step, discount, timelimit_as_done=False):
        """Return (reward, discount, next observation) of the transition at (time, env), from the definition."""
        reward, factor, last = 0.0, 1.0, time
        for step in range(n_step):
            place = time + step
            if place >= len(self.history) or self.history[place][env].failed:
                break
            row, last = self.history[place][env], place
            reward += factor * row.reward
            factor *= discount
            if row.terminated or row.truncated:
                break
        row = self.history[last][env]
        done = row.terminated or (timelimit_as_done and row.truncated)
        return reward, 0.0 if done else factor, row.next_observation


def make_buffer(num_envs, capacity, finals=None):
    """Return a ring for one-number observations and actions; `finals` shrinks its store of final ones."""
    buffer = ReplayBuffer(capacity, torch.zeros(num_envs, 1), torch.zeros(num_envs, 1), device="cpu")
    if finals is not None:
        buffer.final_observation = buffer.final_observation[:finals].clone()
    return buffer


def snapshot(state):
    """Return a deep copy of a state: what a checkpoint would hold."""
    return {name: value.clone() for name, value in state.items()}
