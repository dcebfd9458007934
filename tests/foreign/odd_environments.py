"""An environment whose every part can be another than Gymnasium's contract says, registered as odd/Odd-v0."""

import gymnasium
import numpy as np

OBSERVATION = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)
ACTION = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
ID = "odd/Odd-v0"


class Odd(gymnasium.Env):
    """Observes the steps of its episode and twice that; ends after `length` of them; reward 1 each.

    Args:
        length: steps of an episode; None draws 3 to 9 at each reset.
        returns: (env, action, the five values) -> what step returns instead.
        starts: (env, observation) -> what reset returns instead.
        frame: () -> what render returns.
        rate: render_fps in its metadata, if given.
        observation_space: of it.
        action_space: of it; every action must be contained.
        raises: what the constructor raises.
        leaves_out: name of a space that it does not have.
        render_mode: as Gymnasium has it.
    """

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(
        self,
        length=5,
        returns=None,
        starts=None,
        frame=None,
        rate=None,
        observation_space=OBSERVATION,
        action_space=ACTION,
        raises=None,
        leaves_out="",
        render_mode=None,
    ):
        if raises is not None:
            raise raises
        self.length, self.returns, self.starts, self.frame = length, returns, starts, frame
        self.observation_space, self.action_space, self.render_mode = observation_space, action_space, render_mode
        if leaves_out:
            delattr(self, leaves_out)
        self.metadata = self.metadata | ({} if rate is None else {"render_fps": rate})
        self.total = 0  # steps of all episodes
        self.actions = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        self.last = self.length if self.length is not None else int(self.np_random.integers(3, 10))
        first = (np.zeros(2), {})
        return first if self.starts is None else self.starts(self, first)

    def step(self, action):
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        self.actions.append(action)
        self.steps += 1
        self.total += 1
        observation = np.array([self.steps, 2.0 * self.steps])
        step = observation, 1.0, self.steps >= self.last, False, {}
        return step if self.returns is None else self.returns(self, action, step)

    def render(self):
        return np.zeros((32, 48, 3), np.uint8) if self.frame is None else self.frame()


def part(place, value):
    """Return a `returns` that puts a value at a place of the five, from the second step on."""

    def returns(env, action, step):
        return step if env.steps < 2 else (*step[:place], value, *step[place + 1 :])

    return returns
