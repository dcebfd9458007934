"""Hindsight experience replay: pretend that a state reached later was the goal (Andrychowicz et al. 2017).

Relabelling happens when a minibatch is drawn, by index arithmetic on the ring; nothing is stored twice.

Shapes: B batch, F flat observation, G goal.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rlsuite.errors import UserError, require
from rlsuite.goals import GoalSpec
from rlsuite.replay.buffer import Batch, ReplayBuffer, Transition
from rlsuite.replay.config import HindsightConfig
from rlsuite.replay.curriculum import select
from rlsuite.replay.episodes import Episodes


class Hindsight:
    """Draws places of whole episodes and relabels minibatches.

    Args:
        buffer: the ring, its observations (..., F) those of a task with goals.
        config: see HindsightConfig.
        goals: which columns are what, and the reward.
    """

    def __init__(self, buffer: ReplayBuffer, config: HindsightConfig, goals: GoalSpec) -> None:
        self.buffer, self.config, self.goals = buffer, config, goals
        wrong = [column for column in config.curriculum.columns if column >= goals.goal_size]
        require(
            not wrong,
            f"replay.hindsight.curriculum.columns={list(config.curriculum.columns)}: the goal has {goals.goal_size} "
            f"numbers; use 0 to {goals.goal_size - 1}",
        )
        self.episodes = Episodes(buffer)
        self.fresh: list[Tensor] = []  # places of episodes completed since statistics were last asked for
        self.batches = 0

    def added(self, transition: Transition) -> None:
        """Take note of a step just stored."""
        completed = self.episodes.added(transition)
        if completed.numel():
            self.fresh.append(completed)

    def __len__(self) -> int:
        """Return how many transitions of whole episodes there are."""
        return self.episodes.whole().numel()

    def draw(self, size: int, generator: torch.Generator) -> Tensor:
        """Draw flat places (B,) of whole episodes uniformly.

        Raises:
            UserError: while no episode has ended.
        """
        whole = self.episodes.whole()
        if whole.numel() == 0:
            raise UserError("hindsight replay learns from whole episodes and none has ended; use warmup_episodes=1")
        return whole[torch.randint(whole.numel(), (size,), generator=generator, device=whole.device)]

    def relabel(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Replace the goals of a share of a minibatch, and judge its transitions anew.

        Args:
            batch: one-step transitions, observations (B, F).
            generator: of the draws.

        Returns:
            The minibatch with goals, observations and rewards to match.
        """
        goal = self._later_goal(batch.index, generator)
        chance = torch.rand(len(goal), generator=generator, device=goal.device)
        relabelled = chance < self.config.relabelled_share
        _, own_goal, _ = self.goals.split(batch.observation)
        goal = torch.where(relabelled.unsqueeze(-1), goal, own_goal)
        reward = self.goals.compute_reward(self.goals.achieved(batch.next_observation), goal)
        return batch._replace(
            observation=self.goals.with_goal(batch.observation, goal),
            next_observation=self.goals.with_goal(batch.next_observation, goal),
            reward=torch.where(relabelled, reward.to(batch.reward), batch.reward),
        )

    def _later_goal(self, index: Tensor, generator: torch.Generator) -> Tensor:
        """Return what was achieved (B, G) after the strategy's step of each place's (B,) episode."""
        first, last = self.episodes.bounds(index)
        if self.config.strategy == "final":
            tick = last
        else:
            begin = first if self.config.strategy == "episode" else self.episodes.tick_of(index)
            draw = torch.rand(len(index), generator=generator, device=index.device, dtype=torch.float64)
            # The goal achieved after step t is that of slot t + 1: t + 1 .. T of the paper's "future".
            tick = torch.minimum(begin + (draw * (last - begin + 1)).long(), last)
        return self.goals.achieved(self.buffer.next_observation_at(self.episodes.place(tick, index)))

    def sample_size(self, size: int) -> int:
        """Return how many transitions to draw and relabel for a minibatch of `size`."""
        return self.config.curriculum.candidates_for(size) if self.config.curriculum.enabled else size

    def choose(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Keep those of a relabelled minibatch's candidates that the curriculum picks; without one, all."""
        if not self.config.curriculum.enabled:
            return batch
        _, desired, _ = self.goals.split(batch.observation)
        achieved = self.goals.achieved(batch.observation)  # before the step, as the released code has it
        kept = select(self.config.curriculum, achieved, desired, self.batches, generator)
        self.batches += 1
        return Batch(*(tensor[kept] for tensor in batch))

    def take_fresh(self) -> Tensor:
        """Return the places (n,) of the episodes completed since the last call, and forget them."""
        places = torch.cat(self.fresh) if self.fresh else torch.zeros(0, dtype=torch.int64, device=self.buffer.device)
        self.fresh = []
        return places

    def state(self) -> dict[str, Tensor]:
        """Return what a bit-exact resume needs."""
        return self.episodes.state() | {"hindsight_batches": torch.tensor(self.batches)}

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Put back what state() returned; the ring's own state comes first."""
        self.episodes.load_state(tensors)
        self.batches = int(tensors["hindsight_batches"])
