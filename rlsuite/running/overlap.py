"""The training loop whose updates run beside the environments' next step: the same loop in another, defined order.

    act(t)      with all updates made so far
    step(t)     in a thread of its own, while the updates that were due after step t - 1 run here
    keep(t)     once both are done

Actions are those of a policy one round of updates older; nothing else differs. Whichever side is slower, the bits
are those of act, update, step one after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from rlsuite.records.monitor import Monitor
from rlsuite.running.rollout import Stepped
from rlsuite.running.threads import SideThread
from rlsuite.running.training import Trainer


class OverlappedTrainer(Trainer):
    """Steps environments and updates at the same time; arguments as Trainer's.

    A run is stopped between rounds only, and what is due then is updated beside the next run's first step, so that it
    continues to the same bits.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.side: SideThread[Stepped] = SideThread()

    @property
    def busy(self) -> bool:
        """Whether updates are due that no step is left to be made beside."""
        return self._at_end and super().busy

    @property
    def _at_end(self) -> bool:
        return self.worker.steps >= self.config.steps

    def _collect(self, monitor: Monitor) -> None:
        worker = self.worker
        action = worker.choose(random=self.steps_at_start is None and self.config.warmup_random)
        stepped = self.side.begin(partial(worker.simulate, action))
        try:
            super()._update(_never)
        finally:
            result = stepped.result()  # also if the updates raise: nothing steps on behind a checkpoint
        self._keep(worker.take(action, result), monitor)

    def _update(self, should_stop: Callable[[], bool]) -> None:
        if self._at_end:
            super()._update(should_stop)


def _never() -> bool:
    return False
