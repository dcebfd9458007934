"""PolicyTask takes actions that are vectors of real numbers, and refuses all others in one line."""

import numpy as np
import pytest
from gymnasium import spaces
from torch import nn

from envs.evaluation.policy_task import PolicyTask
from rlsuite.errors import UserError


class Bare:
    """As much of environments as a task looks at before it acts."""

    goals = None
    single_observation_space = spaces.Box(-1.0, 1.0, (3,), np.float32)

    def __init__(self, space):
        self.single_action_space = space
        self.closed = False

    def close(self):
        self.closed = True


OTHERS = (
    spaces.Discrete(2),
    spaces.MultiDiscrete([2, 3]),
    spaces.MultiBinary(4),
    spaces.Box(-1.0, 1.0, (2, 2), np.float32),
    spaces.Dict({"push": spaces.Discrete(2)}),
)


@pytest.mark.parametrize("space", OTHERS, ids=lambda space: type(space).__name__)
def test_actions_that_are_no_vectors_are_refused(space):
    env = Bare(space)
    with pytest.raises(UserError, match=r"no Box of vectors.*env=Reacher") as refusal:
        PolicyTask(lambda number: env, nn.Identity())
    assert "\n" not in str(refusal.value)
    assert env.closed


def test_vectors_are_taken():
    task = PolicyTask(lambda number: Bare(spaces.Box(-2.0, 2.0, (2,), np.float32)), nn.Identity())
    assert task.half_range.tolist() == [2.0, 2.0]
