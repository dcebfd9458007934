"""An agent that sees through cameras: pictures for observations, and perceivers between the two.

A step of the environments is cut in two (`advance`, `renew`): the picture that ends an episode is taken between them,
before anything is reset, and where an episode ended the new one's first picture is taken after. Perceivers run at every
step for every environment; cameras draw those whose frame is due, at every `every`-th step of their own episode.

Shapes: N environments, n of them, H = W = size, C channels of what is seen at one step, S stacked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector.utils import batch_space
from torch import Tensor

from envs.cameras import Cameras
from envs.mujoco_vector import MujocoVectorEnv
from envs.perception.fields import FIELDS
from envs.perception.perceiver import Perceiver, State
from envs.perception.weights import digest
from envs.wrapper import VectorWrapper
from rlsuite.config.camera import CameraConfig
from rlsuite.errors import near_matches, require

_PREFIX = "perception/"
_MAKERS = ", such as perception=[inpainting/patch,inpainting/tsam]"


def drawn_fields(perceivers: Sequence[Perceiver], sees: Sequence[str]) -> tuple[str, ...]:
    """Return what cameras have to draw for perceivers and for the agent.

    Raises:
        UserError: if the agent is to see what nobody makes.
    """
    made: set[str] = set()
    drawn: list[str] = []
    for perceiver in perceivers:
        drawn += [name for name in perceiver.inputs if name not in made and name not in drawn]
        made |= set(perceiver.outputs)
    for name in sees:
        require(name in FIELDS, f"camera.sees={name}: there is no such field{near_matches(name, FIELDS)}")
    drawn += [name for name in sees if name not in made and name not in drawn]
    for name in drawn:
        require(FIELDS[name].drawn, f"{name}: no camera draws it; name a perceiver before that makes it{_MAKERS}")
    return tuple(drawn)


class PerceptionWrapper(VectorWrapper):
    """Environments seen through cameras.

    Observations are bytes (S C, H, W), the newest picture last. Beside the environments' own terms `info` holds "state"
    (N, D), what the environments' own observation is; "perception/delay" (N,) int64, by how many steps what is seen now
    lags behind; and of what perceivers make and the agent does not see, "perception/<field>" (N, ...).

    Args:
        env: of a simulated task.
        cameras: which draw `drawn_fields`.
        perceivers: each sees the camera's fields and what those before it have made of them.
        config: what the agent sees.
    """

    single_observation_space: Any = None  # here, and not the environments' own: a view's attributes are theirs
    observation_space: Any = None
    goals = None
    constant_columns = 0
    known_reward = None
    angles = ()
    observation_names = ()
    mirror = None

    env: MujocoVectorEnv

    def __init__(
        self, env: MujocoVectorEnv, cameras: Cameras, perceivers: Sequence[Perceiver], config: CameraConfig
    ) -> None:
        super().__init__(env)
        self.cameras, self.perceivers, self.config = cameras, tuple(perceivers), config
        self.channels = sum(FIELDS[name].channels for name in config.sees)
        self.lookahead = sum(perceiver.lookahead for perceiver in perceivers)
        shape = (config.stack * self.channels, config.size, config.size)
        self.single_observation_space = gymnasium.spaces.Box(0, 255, shape, np.uint8)
        self.observation_space = batch_space(self.single_observation_space, env.num_envs)
        self._clock = torch.zeros(env.num_envs, dtype=torch.int64)  # steps of each environment's episode
        self._camera_qpos = torch.zeros_like(env.simulation.field("qpos"))  # at each one's last camera frame
        self._frame = {
            name: torch.zeros(env.num_envs, FIELDS[name].channels, *shape[1:], dtype=_stored(name), device=env.device)
            for name in cameras.fields
        }
        self._states = [self._fresh(perceiver, env.num_envs) for perceiver in perceivers]
        self._digests = [digest(perceiver) for perceiver in perceivers]
        self._stack = torch.zeros(env.num_envs, *shape, dtype=torch.uint8, device=env.device)

    def _fresh(self, perceiver: Perceiver, count: int) -> State:
        return perceiver.init_state(count, (self.config.size, self.config.size))

    # -- what is seen -------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _see(self, rows: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Take camera frames that are due among environments `rows` (n,), and perceive.

        Returns:
            Bytes (n, C, H, W), and what perceivers made besides.
        """
        qpos, every = self.env.simulation.field("qpos"), self.config.every
        due = rows[(self._clock[rows] % every == 0) & torch.isfinite(qpos[rows]).all(1)]
        if len(due):
            memory = {name: value[due] for name, value in self.env.simulation.memory.items()}
            began = (self._clock[due] == 0).unsqueeze(1)
            before = torch.where(began, qpos[due], self._camera_qpos[due])
            for name, value in self.cameras.frames(qpos[due], memory, before).items():
                self._frame[name][due.to(value.device)] = value
            self._camera_qpos[due] = qpos[due]
        here = rows.to(self.device)
        seen = {name: _numbers(name, value[here]) for name, value in self._frame.items()}
        seen["phase"] = ((self._clock[rows] % every).float() / every).to(self.device)
        made: dict[str, Tensor] = {}
        for perceiver, state in zip(self.perceivers, self._states, strict=True):
            found, after = perceiver(seen, {name: value[here] for name, value in state.items()})
            for name, value in after.items():
                state[name][here] = value
            seen, made = seen | found, made | found
        picture = torch.cat([FIELDS[name].to_bytes(seen[name]) for name in self.config.sees], dim=1)
        return picture, {name: value for name, value in made.items() if name not in self.config.sees}

    def _begin(self, rows: Tensor) -> dict[str, Tensor]:
        """Take the first picture of new episodes in environments `rows` (n,)."""
        here = rows.to(self.device)
        self._clock[rows] = 0
        for perceiver, state in zip(self.perceivers, self._states, strict=True):
            for name, value in self._fresh(perceiver, len(rows)).items():
                state[name][here] = value
        picture, made = self._see(rows)
        self._stack[here] = picture.repeat(1, self.config.stack, 1, 1)
        return made

    def _info(self, state: Tensor, made: dict[str, Tensor]) -> dict[str, Tensor]:
        delay = self._clock.clamp(max=self.lookahead * self.config.every).to(self.device)
        return {"state": state, f"{_PREFIX}delay": delay, **{f"{_PREFIX}{name}": made[name] for name in made}}

    # -- the contract -------------------------------------------------------------------------------------------

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Tensor, dict[str, Any]]:
        """Begin a new episode in every environment; see `VectorEnv.reset`."""
        state, info = self.env.reset(seed=seed, options=options)
        made = self._begin(torch.arange(self.num_envs))
        return self._stack.clone(), {**info, **self._info(state, made)}

    def step(self, actions: Tensor | np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Step every environment once; see `VectorEnv.step`. A failed one's last picture is repeated as its end."""
        transition = self.env.advance(actions)
        self._clock += 1
        picture, made = self._see(torch.arange(self.num_envs))
        last = self._stack[:, -self.channels :]
        picture = torch.where(transition.failed.to(self.device).view(-1, 1, 1, 1), last, picture)
        self._stack = torch.cat([self._stack[:, self.channels :], picture], dim=1)
        final = self._stack.clone()
        state, reward, terminated, truncated, info = self.env.renew(transition)
        ended = torch.nonzero(terminated | truncated).flatten().cpu()
        if len(ended):
            here = ended.to(self.device)
            for name, value in self._begin(ended).items():
                made[name][here] = value
        info = {**info, "final_obs": final, **self._info(state, made)}
        return self._stack.clone(), reward, terminated, truncated, info

    def observation(self) -> Tensor:
        """Return a copy of what was seen last, (N, S C, H, W)."""
        return self._stack.clone()

    def state(self) -> dict[str, Tensor]:
        """Return copies of all that stepping depends on: the environments', the cameras' and the perceivers'."""
        own = self._own()
        return {**self.env.state(), **{f"{_PREFIX}{name}": value.cpu().clone() for name, value in own.items()}}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` returned.

        Raises:
            ValueError: If it was seen otherwise, or perceived with other weights.
        """
        own = self._own()
        given = {name.removeprefix(_PREFIX): value for name, value in state.items() if name.startswith(_PREFIX)}
        if given.keys() != own.keys() or any(given[name].shape != own[name].shape for name in own):
            raise ValueError("the state is of environments that were seen otherwise; use the same camera, perception")
        for number, made_with in enumerate(self._digests):
            if not torch.equal(given[f"{number}.digest"], made_with):
                name = type(self.perceivers[number]).__name__
                raise ValueError(f"perception: the state was made with other weights of {name}; use the run's own file")
        self.env.load_state({name: value for name, value in state.items() if not name.startswith(_PREFIX)})
        for name, value in own.items():
            value.copy_(given[name])

    def _own(self) -> dict[str, Tensor]:
        """Return this view's own tensors, by name."""
        own = {"clock": self._clock, "camera_qpos": self._camera_qpos, "stack": self._stack}
        own |= {f"frame.{name}": value for name, value in self._frame.items()}
        for number, (state, made_with) in enumerate(zip(self._states, self._digests, strict=True)):
            own |= {f"{number}.digest": made_with, **{f"{number}.state.{name}": value for name, value in state.items()}}
        return own


def _stored(name: str) -> torch.dtype:
    """Return what a field's last frame is kept as: colors as the bytes that they are."""
    return torch.uint8 if name == "rgb" else FIELDS[name].dtype


def _numbers(name: str, frame: Tensor) -> Tensor:
    return frame.float() / 255.0 if name == "rgb" else frame
