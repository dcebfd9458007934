"""MinAtar's Breakout, as the docs train in it: pictures of four planes, three actions."""

import pytest
import torch

from envs import make_vector

pytest.importorskip("minatar")


def test_breakout_is_a_picture_with_choices():
    env = make_vector("gymnasium:scripts.examples.minatar_tasks:MinAtar/Breakout-v1", 2)
    observation, _ = env.reset(seed=0)
    assert observation.shape == (2, 4, 10, 10)
    assert observation.dtype == torch.uint8
    assert observation.unique().tolist() == [0, 255]
    assert observation[0, 3].count_nonzero() == 30  # three rows of bricks
    rewards = sum(env.step(torch.full((2, 1), step % 3))[1] for step in range(60))
    assert rewards.min() >= 0
