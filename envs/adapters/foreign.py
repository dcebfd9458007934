"""Environments of other libraries behind the VectorEnv contract.

Shapes: N environments, n of them, D observation, A action; C, H, W of pictures.
"""

from __future__ import annotations

import traceback
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector.utils import batch_space
from torch import Tensor

from envs.adapters.observations import ObservationForm
from envs.adapters.spaces import usable_action_space
from envs.failures import Failure
from envs.vector import VectorEnv
from rlsuite.action_space import ActionLimits
from rlsuite.errors import BrokenEnvironmentError
from rlsuite.nn.action_range import into_space, policy_bounds

Stepped = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]

_RESETS = 10  # tries to begin an episode whose first observation is finite
_COARSE = 2.0**14  # from here on float32 tells apart only steps of 0.002 and more


class ForeignVectorEnv(VectorEnv):
    """Same-step resets, final observations and fault isolation over three hooks a library adapter gives.

    Their simulators' states cannot be saved, so `load_state` begins new episodes: the random streams go on
    from where they were, the running episodes are lost (`exact_resume` is False).

    Actions are put into the environment's own space last, in its own dtype (`into_space`). Observations are float32,
    but float64 where an environment's first ones are so large that float32 would swallow what changes in them, and
    pictures are bytes (N, C, H, W).

    Args:
        spec_id: What `envs.make_vector` was asked for.
        num_envs: N.
        form: How a single environment's observations are read.
        action_space: A single environment's.
        **common: see `VectorEnv`.

    Raises:
        UserError: If the spaces are not such as the suite can use.
    """

    exact_resume = False

    def __init__(self, spec_id: str, num_envs: int, form: ObservationForm, action_space: Any, **common: Any) -> None:
        space = usable_action_space(spec_id, action_space)
        limits = ActionLimits(space)
        low, high = limits.low.numpy(), limits.high.numpy()
        bounds = (low, high) if limits.whole else policy_bounds(low, high)
        super().__init__(spec_id, num_envs, form.shape[0], *bounds, **common)
        self.form, self.native_action_space = form, action_space
        self.observation_names = form.names
        if limits.whole:
            self.single_action_space = space
            self.action_space = batch_space(space, num_envs)
        if form.is_picture:
            self.single_observation_space = gymnasium.spaces.Box(0, 255, form.shape, np.uint8)
            self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._into_space = into_space(action_space)
        kept = torch.uint8 if form.is_picture else self.dtype
        self._observation = torch.zeros(num_envs, *form.shape, dtype=kept)
        self._action = torch.zeros(num_envs, self.action_size, dtype=torch.float64)  # the last one, for failure records
        self._elapsed = torch.zeros(num_envs, dtype=torch.int64)
        self._episode = torch.full((num_envs,), -1, dtype=torch.int64)
        self._begun = False

    def reset_envs(self, env_ids: np.ndarray, seeds: list[int] | None) -> np.ndarray:
        """Begin episodes in some environments, with new seeds or not; return their observations, (n, ...)."""
        raise NotImplementedError

    def step_envs(self, action: np.ndarray) -> Stepped:
        """Step all without resetting any; return observation, reward, terminated, truncated, infos.

        The action (N, ...) is in the environment's own space and of its dtype. A term of the infos is (N,), NaN where
        an environment does not tell it.
        """
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
            for index in range(self.first, self.first + self.num_envs)
        ]

    def _begin_episodes(self, env_ids: np.ndarray, seeds: list[int] | None) -> None:
        """Reset some environments; those whose first observation is not finite once more, a few times.

        Raises:
            BrokenEnvironmentError: If one has no finite first observation.
        """
        for _ in range(_RESETS):
            first = self.reset_envs(env_ids, seeds)
            if not self._begun:
                self._begun = True
                self._choose_dtype(first)
            ids, observation = torch.from_numpy(env_ids), self._kept(first)
            self._observation[ids] = observation
            self._elapsed[ids] = 0
            self._episode[ids] += 1
            bad = ~self._finite(observation)
            if not bad.any():
                return
            for index, row in zip(ids[bad].tolist(), observation[bad], strict=True):
                self._record(index, "its reset returned an observation that is not finite", {"next_observation": row})
            env_ids, seeds = env_ids[bad.numpy()], None
        raise BrokenEnvironmentError(
            f"{self.spec_id}: environment {env_ids[0]}: its reset returned an observation that is not finite, "
            f"{_RESETS} times in a row; mend the environment"
        )

    def _choose_dtype(self, first: np.ndarray) -> None:
        """Keep observations in float64 where the first ones (N, D) are too large for float32, such as a clock's."""
        if first.dtype in (np.float32, np.uint8) or not (np.abs(first) >= _COARSE).any():
            return
        self._observation = self._observation.double()
        shape = self.single_observation_space.shape
        self.single_observation_space = gymnasium.spaces.Box(-np.inf, np.inf, shape, np.float64)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)

    def _finite(self, observation: Tensor) -> Tensor:
        """Say of each observation (n, ...) whether all its numbers are finite in the suite's dtype."""
        if self.form.is_picture:
            return torch.ones(len(observation), dtype=torch.bool)
        return torch.isfinite(observation.to(self.dtype)).all(dim=1)

    def _not_finite(self, observation: Tensor, reward: Tensor) -> Tensor:
        """Say of each environment's step, observations (N, ...) and rewards (N,), whether a number is not finite."""
        seen = [reward] if self.form.is_picture else [reward, observation.to(self.dtype)]
        if all(np.isfinite(numbers.numpy()).all() for numbers in seen):  # numpy's costs a fraction of torch's here
            return torch.zeros(len(reward), dtype=torch.bool)
        return ~(self._finite(observation) & torch.isfinite(reward))

    def _kept(self, observation: np.ndarray) -> Tensor:
        """Return observations as a fresh tensor of the dtype in which they are kept."""
        return torch.from_numpy(observation).to(self._observation.dtype, copy=True)

    def step(self, actions: Tensor | np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Step every environment once; see `VectorEnv.step`.

        Raises:
            BrokenEnvironmentError: If an environment raised, or returned what breaks Gymnasium's contract.
        """
        action = self._action = self.checked_action(actions)
        if self._episode[0] < 0:
            raise gymnasium.error.ResetNeeded("call reset() before the first step()")
        stepped = self.step_envs(self._into_space(action).numpy())
        final = self._kept(stepped[0])
        reward = torch.from_numpy(stepped[1]).to(self.dtype, copy=True)
        terminated, truncated = (torch.from_numpy(np.array(flag, dtype=bool)) for flag in stepped[2:4])  # copies
        failed = self._not_finite(final, reward)
        if failed.any():
            for index in torch.nonzero(failed).flatten().tolist():
                seen = {"observation": self._observation[index], "next_observation": final[index]}
                self._record(index, "observation or reward is not finite", {**seen, "reward": reward[index]})
            final[failed] = self._observation[failed]
            reward[failed] = 0.0
            terminated &= ~failed
            truncated |= failed
        self._observation.copy_(final)
        self._elapsed += 1
        ended = np.flatnonzero(terminated.numpy() | truncated.numpy())
        if len(ended):
            self._begin_episodes(ended, None)
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

    def broken(self, index: int, what: str, error: Exception | None = None) -> BrokenEnvironmentError:
        """Record that an environment raised or broke the contract; return what to raise.

        Args:
            index: Which of the environments.
            what: What it did, in words.
            error: What it raised, if it did.
        """
        trace = "" if error is None else "".join(traceback.format_exception(error))
        self._record(index, what, {"observation": self._observation[index]}, trace)
        step = int(self._elapsed[index])
        return BrokenEnvironmentError(f"{self.spec_id}: environment {index}, step {step} of its episode: {what}")

    def _record(self, index: int, message: str, seen: dict[str, Tensor], trace: str = "") -> None:
        self.failures.append(
            Failure(
                env_index=index,
                seed=self.seed,
                episode=int(self._episode[index]),
                episode_step=int(self._elapsed[index]),
                row=torch.zeros(0, dtype=torch.float64),  # the library does not show its state
                action=self._action[index].clone(),
                message=f"{self.spec_id}: {message}",
                spec_id=self.spec_id,
                options={},
                seen={name: value.clone() for name, value in seen.items()},
                trace=trace,
            )
        )

    def observation(self) -> Tensor:
        """Return a copy of the current observation, (N, D) or (N, C, H, W)."""
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
