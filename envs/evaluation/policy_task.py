"""Acting well as a task: a student learns a teacher's actions where the student itself goes, and is scored by return.

Dataset aggregation (Ross, Gordon and Bagnell 2011, arXiv:1011.0686): first the states that the teacher visits, then
those of the student, all labelled by the teacher. Differences of actions count in half action ranges, so that no
dimension weighs more for its units.

Shapes: N environments, B batch, D observation (or C, H, W of a picture), A action, M states.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from envs.visible import visible
from rlsuite.data.arrays import Arrays
from rlsuite.errors import UserError
from rlsuite.running.seeding import JUDGED_ON, derive_seed
from rlsuite.running.threads import few_threads_for
from rlsuite.scoring import evaluate
from rlsuite.vector_env import VectorEnv

Policy = Callable[[Tensor], Tensor]
View = Callable[[VectorEnv], VectorEnv]


class PolicyTask:
    """A policy in its environment.

    Args:
        make_env: number of environments -> them. Of a task with goals, observations are own observation and desired
            goal, all that a policy reads.
        teacher: observations (B, D) to actions (B, A) in the environment's units: who is imitated.
        teacher_sees: "" where the teacher sees what the student does; else what of `info` it sees, such as "state" of
            environments that show pictures.
        episodes: scored, one an environment, all with the same starts for every policy.
        states: M, visited and labelled for each round of learning.
        num_envs: environments in which they are visited.
        seed: of the states.

    Raises:
        UserError: if actions are no vectors of real numbers.
    """

    interactive = True
    unit = "return"

    def __init__(
        self,
        make_env: Callable[[int], VectorEnv],
        teacher: nn.Module,
        *,
        teacher_sees: str = "",
        episodes: int = 20,
        states: int = 20_000,
        num_envs: int = 32,
        seed: int = 0,
    ) -> None:
        self._make_env, self.teacher = make_env, teacher.eval().requires_grad_(False)
        self.teacher_sees = teacher_sees
        self.episodes, self.states, self.num_envs, self.seed = episodes, states, num_envs, seed
        self._sources: dict[str, Arrays] = {}
        self._floor: float | None = None
        env = self.make_env(1)
        pictures = env.single_observation_space.dtype == np.uint8
        self.box: tuple[float, float] | None = (0.0, 1.0) if pictures else None  # bytes enter as shares
        space = env.single_action_space
        env.close()
        if not isinstance(space, spaces.Box) or len(space.shape) != 1:
            raise UserError(
                f"its actions are {space}, no Box of vectors: networks are judged, attacked and taught by real numbers "
                "alone; use a policy of a task that has such actions, such as env=Reacher"
            )
        low, high = torch.as_tensor(space.low), torch.as_tensor(space.high)
        self.half_range = ((high - low) / 2.0).float()
        self.low, self.high = low, high

    def make_env(self, num_envs: int) -> VectorEnv:
        """Return environments that show what a policy reads."""
        return visible(self._make_env(num_envs))

    @property
    def floor(self) -> float:
        """The mean return of actions drawn uniformly, over the scored starts."""
        if self._floor is None:
            generator = torch.Generator().manual_seed(derive_seed(self.seed, "random actions"))

            def policy(observation: Tensor) -> Tensor:
                share = torch.rand((len(observation), self.low.numel()), generator=generator).to(self.low.dtype)
                return (self.low + (self.high - self.low) * share).to(observation.device)

            self._floor = float(self._returns(policy, 0).mean())
        return self._floor

    def source(self, split: str) -> Arrays:
        """Return states that the teacher visits, with its actions; "test" has other starts than "train"."""
        if split not in self._sources:
            self._sources[split] = self._collect(self.teacher, derive_seed(self.seed, f"states {split}"))
        return self._sources[split]

    def visited(self, module: nn.Module, seed: int) -> Arrays:
        """Return states that the student visits, with the teacher's actions there."""
        return self._collect(module, derive_seed(seed, "states student"))

    def loss(self, module: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """Return the mean square (B,) of the actions' differences, in half action ranges."""
        return (
            ((module(batch["input"]) - batch["action"]) / self.half_range.to(batch["action"].device)).square().mean(1)
        )

    def score(self, module: nn.Module, seed: int, *, seen: View | None = None) -> np.ndarray:
        """Return the returns (E,) of one episode in each of E environments.

        Args:
            module: the policy.
            seed: of the episodes.
            seen: a view of the environments to act in, such as one whose observations are attacked; None for none.
        """
        return self._returns(module, seed, seen)

    def _returns(self, policy: Policy, seed: int, seen: View | None = None) -> np.ndarray:
        env = self.make_env(self.episodes)
        env = env if seen is None else seen(env)
        try:
            return evaluate(policy, env, seed=derive_seed(seed, JUDGED_ON)).returns
        finally:
            env.close()

    @torch.no_grad()
    def _collect(self, policy: Policy, seed: int) -> Arrays:
        """Visit states by a policy; return them with the teacher's actions."""
        env = self.make_env(self.num_envs)
        observation, info = env.reset(seed=seed)
        observations, actions = [], []
        for _ in range(-(-self.states // self.num_envs)):
            with few_threads_for(observation):
                label = self.teacher(info[self.teacher_sees] if self.teacher_sees else observation)
                action = label if policy is self.teacher else policy(observation)
            observations.append(observation.clone())
            actions.append(label)
            observation, *_, info = env.step(action)
        env.close()
        return Arrays({"input": torch.cat(observations), "action": torch.cat(actions)})
