"""Environments of other libraries behind the VectorEnv contract.

Shapes: N environments, n of them, D observation, A action.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from envs.failures import Failure
from envs.vector import VectorEnv
from rlsuite.errors import UserError

Stepped = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]


class ForeignVectorEnv(VectorEnv):
    """Same-step resets, final observations and fault isolation over three hooks a library adapter gives.

    Their simulators' states cannot be saved, so `load_state` begins new episodes: the random streams go on
    from where they were, the running episodes are lost (`exact_resume` is False).
    """

    exact_resume = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        size = self.single_observation_space.shape
        assert size is not None
        self._observation = torch.zeros(self.num_envs, *size, dtype=self.dtype)
        self._elapsed = torch.zeros(self.num_envs, dtype=torch.int64)
        self._episode = torch.full((self.num_envs,), -1, dtype=torch.int64)

    def reset_envs(self, env_ids: np.ndarray, seeds: list[int] | None) -> np.ndarray:
        """Begin episodes in some environments, with new seeds or not; return their observations, (n, D)."""
        raise NotImplementedError

    def step_envs(self, action: np.ndarray) -> Stepped:
        """Step all without resetting any; return observation, reward, terminated, truncated, scalar infos."""
        raise NotImplementedError

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Tensor, dict[str, Any]]:
        """Begin a new episode in every environment; see `VectorEnv.reset`."""
        gymnasium.vector.VectorEnv.reset(self, seed=seed)
        if seed is not None:
            self.seed = seed
            self._episode.fill_(-1)
        fresh = bool(self._episode[0] < 0)
        self._begin_episodes(np.arange(self.num_envs), self._seeds(0) if fresh else None)
        return self.observation(), {}

    def _seeds(self, generation: int) -> list[int]:
        """Return one seed an environment, which does not depend on how many there are."""
        return [
            int(np.random.SeedSequence([self.seed, index, generation]).generate_state(1)[0] >> 1)
            for index in range(self.num_envs)
        ]

    def _begin_episodes(self, env_ids: np.ndarray, seeds: list[int] | None) -> None:
        observation = self.reset_envs(env_ids, seeds)
        ids = torch.from_numpy(env_ids)
        self._observation[ids] = torch.from_numpy(observation).to(self.dtype)
        self._elapsed[ids] = 0
        self._episode[ids] += 1

    def step(self, actions: Tensor | np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Step every environment once; see `VectorEnv.step`."""
        action = self.checked_action(actions)
        if self._episode[0] < 0:
            raise gymnasium.error.ResetNeeded("call reset() before the first step()")
        stepped = self.step_envs(action.numpy())
        final = torch.from_numpy(stepped[0]).to(self.dtype, copy=True)
        reward = torch.from_numpy(stepped[1]).to(self.dtype, copy=True)
        terminated, truncated = (torch.from_numpy(flag).to(torch.bool, copy=True) for flag in stepped[2:4])
        failed = ~(torch.isfinite(final).all(dim=1) & torch.isfinite(reward))
        if failed.any():
            self._record_failures(failed, action)
            final[failed] = self._observation[failed]
            reward[failed] = 0.0
            terminated &= ~failed
            truncated |= failed
        self._observation.copy_(final)
        self._elapsed += 1
        ended = torch.nonzero(terminated | truncated).flatten()
        if len(ended):
            self._begin_episodes(ended.numpy(), None)
        info: dict[str, Any] = {
            name: torch.from_numpy(value).to(self.device, self.dtype, copy=True) for name, value in stepped[4].items()
        }
        info |= {"final_obs": final.to(self.device), "failed": failed.to(self.device)}
        observation = self.observation()
        return (
            observation,
            reward.to(self.device),
            terminated.to(self.device),
            truncated.to(self.device),
            info,
        )

    def _record_failures(self, failed: Tensor, action: Tensor) -> None:
        for index in torch.nonzero(failed).flatten().tolist():
            self.failures.append(
                Failure(
                    env_index=index,
                    seed=self.seed,
                    episode=int(self._episode[index]),
                    episode_step=int(self._elapsed[index]),
                    row=torch.zeros(0, dtype=torch.float64),  # the library does not show its state
                    action=action[index].clone(),
                    message="observation or reward is not finite",
                    spec_id=self.spec_id,
                    options={},
                )
            )

    def observation(self) -> Tensor:
        """Return a copy of the current observation, (N, D)."""
        return self._observation.to(self.device, copy=True)

    def state(self) -> dict[str, Tensor]:
        """Return the root seed and the number of episodes begun."""
        return {"seed": torch.tensor(self.seed), "episode": self._episode.clone()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Begin new episodes, seeded by the saved seed and number of episodes."""
        if state["episode"].shape != self._episode.shape:
            raise ValueError(f"state is for {len(state['episode'])} environments, not {self.num_envs}")
        self.seed = int(state["seed"])
        generation = int(state["episode"].sum()) + self.num_envs + 1
        self._begin_episodes(np.arange(self.num_envs), self._seeds(generation))
        self._episode.copy_(state["episode"] + 1)


def continuous_spaces(env_id: str, observation_space: Any, action_space: Any) -> tuple[int, gymnasium.spaces.Box]:
    """Return the observation's size and the action space of an environment this suite can use.

    Raises:
        UserError: If the observation or the action is not a vector of real numbers.
    """
    for role, space in (("action", action_space), ("observation", observation_space)):
        if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1:
            raise UserError(
                f"{env_id}: its {role} space is {space}; only one-dimensional Box spaces work (continuous control)"
            )
    if not (np.isfinite([action_space.low, action_space.high]).all() and (action_space.low < action_space.high).all()):
        raise UserError(
            f"{env_id}: its action space is {action_space}; actions need finite bounds, the lower below the upper "
            "(gymnasium.wrappers.RescaleAction gives some)"
        )
    return int(observation_space.shape[0]), action_space
