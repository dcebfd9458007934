"""RolloutWorker: policy x environments -> transitions. Nothing else steps an environment in training.

Shapes: N environments, D observation, A action.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from rlsuite.action_space import ActionLimits
from rlsuite.agent import Agent
from rlsuite.distributed import rank_seed, ranks
from rlsuite.records.cards import is_reward_term
from rlsuite.replay.buffer import Transition
from rlsuite.running.threads import few_threads_for
from rlsuite.vector_env import VectorEnv

_TERMS_AT_ONCE = 64  # steps whose terms of the reward are added together
Stepped = tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]  # what an environment's step returns


class RolloutWorker:
    """Steps N environments with an agent and keeps the running episodes' returns and lengths.

    Args:
        env: the environments.
        agent: who acts.
        seed: of the environments and of the random warm-up actions.

    Attributes:
        steps: environment steps taken, all environments of all ranks counted.
        episodes: episodes ended, of all ranks.
        step_seconds: time spent in env.step.
        act_seconds: time spent choosing actions.
    """

    def __init__(self, env: VectorEnv, agent: Agent, *, seed: int) -> None:
        self.env, self.agent, self.ranks = env, agent, ranks()
        self.generator = torch.Generator().manual_seed(rank_seed(seed))
        self.observation, _ = env.reset(seed=seed)
        device = self.observation.device
        # Double precision: a float32 sum of ones stops growing at 16,777,216.
        self.episode_return = torch.zeros(env.num_envs, dtype=torch.float64, device=device)
        self.episode_length = torch.zeros(env.num_envs, dtype=torch.int64, device=device)
        # Since the last drain: number of the episodes ended; sums of returns, lengths and successes of those whose
        # simulation went through; number of the others.
        self.ended = torch.zeros(5, dtype=torch.float64, device=device)
        self.tells_success = env.goals is not None  # another library's environment may tell it only in its last info
        # The reward's terms that the infos tell, since the last drain: number of steps, then each term's sum over them.
        self.terms: tuple[str, ...] | None = None  # their names; None: not met yet
        self.term_sums: Tensor | None = None
        self.terms_to_add: list[Tensor] = []  # of the last steps, each (terms, N)
        self.limits = ActionLimits(env.single_action_space, device)
        self.steps = 0
        self.episodes_before = 0
        self.step_seconds = 0.0
        self.act_seconds = 0.0

    def step(self, *, random: bool = False) -> Transition:
        """Step every environment once.

        Args:
            random: draw actions uniformly within the limits instead of asking the agent.

        Returns:
            The transition, its next observation the true one also where an episode ended.
        """
        action = self.choose(random=random)
        return self.take(action, self.simulate(action))

    def choose(self, *, random: bool = False) -> Tensor:
        """Return the actions (N, A) of the next step; see `step`."""
        device = self.observation.device
        begin = _Mark(device)
        if random:
            action = self.limits.uniform(self.env.num_envs, self.generator).to(device)  # clipped below
        else:
            with few_threads_for(self.observation):
                action = self.agent.act(self.observation, True)
        self.act_seconds += _Mark(device).since(begin)  # waits for the actions; the environments do so anyway
        return action

    def simulate(self, action: Tensor) -> Stepped:
        """Let the environments take the actions, and touch nothing else: another thread may update meanwhile."""
        begin = time.perf_counter()
        # Where a policy's actions have no bounds, the environment's hold.
        result = self.env.step(self.limits.clip(action))
        self.step_seconds += time.perf_counter() - begin
        return result

    def take(self, action: Tensor, stepped: Stepped) -> Transition:
        """Take in what `simulate` returned; return the transition."""
        observation, reward, terminated, truncated, info = stepped
        transition = Transition(
            observation=self.observation,
            action=action,
            reward=reward,
            terminated=terminated,
            truncated=truncated,
            next_observation=info["final_obs"],
            failed=info["failed"],
        )
        self.observation = observation
        self.steps += self.env.num_envs * self.ranks.size
        self._count_episodes(reward, terminated | truncated, info["failed"], info.get("is_success"))
        self._count_terms(info)
        self.agent.observe(transition)
        return transition

    def _count_episodes(self, reward: Tensor, ended: Tensor, failed: Tensor, success: Tensor | None) -> None:
        self.episode_return += reward
        self.episode_length += 1
        self.tells_success |= success is not None
        if ended.device.type == "cpu" and not ended.any():  # most steps; on a GPU asking would wait for it
            return
        whole = ended & ~failed  # a failed one is censored: it counts apart, and in no mean
        self.ended[0] += ended.sum()
        self.ended[1] += self.episode_return.dot(whole.to(self.episode_return))
        self.ended[2] += (self.episode_length * whole).sum()
        if success is not None:
            # NaN: an environment that does not tell; an episode whose last info does not has not succeeded.
            self.ended[3] += success.nan_to_num().dot(whole.to(success))
        self.ended[4] += (ended & failed).sum()
        self.episode_return.masked_fill_(ended, 0.0)
        self.episode_length.masked_fill_(ended, 0)

    def _count_terms(self, info: dict[str, Any]) -> None:
        """Note a step's terms of the reward; what another library's infos leave out at times counts as nothing."""
        if self.terms is None:
            self.terms = tuple(
                name
                for name, value in info.items()
                if is_reward_term(name) and isinstance(value, Tensor) and value.dim() == 1 and value.is_floating_point()
            )
            if self.term_sums is None or len(self.term_sums) != 1 + len(self.terms):  # else it was loaded
                self.term_sums = torch.zeros(1 + len(self.terms), dtype=torch.float64, device=self.observation.device)
        if self.terms and all(name in info for name in self.terms):
            self.terms_to_add.append(torch.stack([info[name] for name in self.terms]))  # a copy: theirs may be reused
            if len(self.terms_to_add) == _TERMS_AT_ONCE:
                self._add_terms()

    def _add_terms(self) -> None:
        """Add what was noted, in the order of the steps: when it is added changes no bit on a CPU."""
        if self.terms_to_add and self.term_sums is not None:
            means = torch.stack(self.terms_to_add).nan_to_num_(0.0, 0.0, 0.0).mean(dim=2)
            self.term_sums[0] += len(means)
            self.term_sums[1:] = torch.cat([self.term_sums[None, 1:], means.double()]).cumsum(dim=0)[-1]
            self.terms_to_add.clear()

    @property
    def episodes(self) -> int:
        """Episodes ended so far; for all ranks at once."""
        return self.episodes_before + self.ranks.total(int(self.ended[0]))

    def drain(self) -> dict[str, float]:
        """Return means over the episodes ended since the last call; also their success rate, where infos tell success.

        Episodes whose simulation failed are in no mean; "failed_episodes" is their number, if there are any. Of the
        reward's terms, where infos tell them, the means over all steps since the last call, ended episode or not. Of
        several ranks, all call at once, and the means are over all of them.
        """
        terms = self._drain_terms()
        number, returns, lengths, successes, failed = self.ranks.summed([self.ended])[0].tolist()
        self.ended.zero_()
        self.episodes_before += int(number)
        counted = {"failed_episodes": failed} if failed else {}
        whole = number - failed
        if whole == 0:
            return counted | terms
        means = {"return_mean": returns / whole, "length_mean": lengths / whole} | counted | terms
        return means | {"success_rate": successes / whole} if self.tells_success else means

    def _drain_terms(self) -> dict[str, float]:
        self._add_terms()
        names = ",".join(self.terms or ()) if self.term_sums is not None else ""
        if not self.ranks.same(names) or not self.terms or self.term_sums is None:
            return {}
        steps, *sums = self.ranks.summed([self.term_sums])[0].tolist()
        self.term_sums.zero_()
        return {name: value / steps for name, value in zip(self.terms, sums, strict=True)} if steps else {}

    def state(self) -> dict[str, Tensor]:
        """Return what continuing bit for bit needs, the environments' own state apart."""
        self._add_terms()
        state = {
            "generator": self.generator.get_state(),
            "observation": self.observation,
            "episode_return": self.episode_return,
            "episode_length": self.episode_length,
            "ended": self.ended,
            "counts": torch.tensor([self.steps, self.episodes_before]),
            "tells_success": torch.tensor(self.tells_success),
            "seconds": torch.tensor([self.step_seconds, self.act_seconds], dtype=torch.float64),
        }
        return state if self.term_sums is None else state | {"term_sums": self.term_sums}

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Put back what state() returned; where the environments cannot be restored, new episodes begin."""
        self.generator.set_state(tensors["generator"])
        self.steps, self.episodes_before = tensors["counts"].tolist()
        self.step_seconds, self.act_seconds = tensors["seconds"].tolist()
        self.ended[: len(tensors["ended"])] = tensors["ended"]  # it did not count failed episodes apart once
        self.tells_success = bool(tensors.get("tells_success", self.tells_success))  # older checkpoints lack it
        self.terms_to_add.clear()
        if "term_sums" in tensors and tensors["term_sums"].dim() == 1:  # checkpoints had none once
            self.term_sums = tensors["term_sums"].to(self.ended, copy=True)
        if self.env.exact_resume:
            self.observation = tensors["observation"].to(self.observation.device)
            self.episode_return.copy_(tensors["episode_return"])
            self.episode_length.copy_(tensors["episode_length"])
        else:
            self.observation = self.env.observation()


class _Mark:
    """A moment: of the clock, or, on a GPU, in its stream, where the updates before it are still under way."""

    def __init__(self, device: torch.device) -> None:
        self.event: torch.cuda.Event | None = None
        if device.type == "cuda":
            self.event = torch.cuda.Event(enable_timing=True)
            self.event.record(torch.cuda.current_stream(device))
        self.clock = time.perf_counter()

    def since(self, begin: _Mark) -> float:
        """Return seconds since `begin`, on a GPU once it has come here."""
        if self.event is None or begin.event is None:
            return self.clock - begin.clock
        self.event.synchronize()
        return begin.event.elapsed_time(self.event) / 1000  # milliseconds
