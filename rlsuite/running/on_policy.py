"""The training loop of agents that learn from each rollout once: the same loop, another experience."""

from __future__ import annotations

from collections.abc import Callable

from rlsuite.action_space import ActionLimits
from rlsuite.records.monitor import check_finite
from rlsuite.running.rollout_buffer import RolloutBuffer
from rlsuite.running.training import Trainer


class OnPolicyTrainer(Trainer):
    """Collects agent.rollout_length steps of every environment, lets the agent learn from them, and forgets them.

    An agent whose update is long takes the rollout in, stays busy, and advances in pieces, between which the run can be
    stopped. Arguments as Trainer's; the config's replay, train_ratio, updates_per_episode and
    warm-up are not used.
    """

    replay: RolloutBuffer  # type: ignore[assignment]

    def _make_experience(self) -> RolloutBuffer:  # type: ignore[override]
        observation = self.worker.observation
        action = ActionLimits(self.env.single_action_space).example(self.env.num_envs).to(observation.device)
        return RolloutBuffer(self.agent.rollout_length, observation, action)

    @property
    def busy(self) -> bool:
        """Whether the agent has taken a rollout in and is not done with it."""
        return self.agent.busy

    def _update(self, should_stop: Callable[[], bool]) -> None:
        if self.steps_at_start is None:
            self.count_updates_from_here()
        if self.replay.full:
            self.batch = self.replay.take()  # type: ignore[assignment]
            self.metrics |= self.agent.update(self.batch)
            self.updates += 1
            # Now, while the rollout that did it is still there.
            self.refuse_nonfinite(check_finite(self.metrics))
        while self.agent.busy and not should_stop():
            self.metrics |= self.agent.advance()
            self.updates += 1
