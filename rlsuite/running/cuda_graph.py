"""Updates and environment steps as CUDA graphs: recorded once for each variant, then replayed with one launch.

Small networks launch some two hundred kernels an update, each shorter than its launch, and physics more; a graph
launches them all at once. Eager is the reference: both give the same numbers from the same state.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor

from rlsuite.agent import Agent
from rlsuite.optim.state import optimizer_tensors
from rlsuite.replay.buffer import Batch

Learn = Callable[[], dict[str, Tensor]]
# Takes what is to be recorded and the random streams that it draws from, and returns what replays it.
Recorder = Callable[[Learn, list[torch.Generator]], Learn]


def record_cuda(learn: Learn, generators: list[torch.Generator]) -> Learn:
    """Capture `learn` as a CUDA graph; return a function that replays it and gives its (static) outputs."""
    graph = torch.cuda.CUDAGraph()
    for generator in generators:
        graph.register_generator_state(generator)
    with torch.cuda.graph(graph):
        outputs = learn()

    def replay() -> dict[str, Tensor]:
        graph.replay()
        return outputs

    return replay


def stand_in(learn: Learn, generators: list[torch.Generator]) -> Learn:
    """Replay by running again: what a graph does, without one, for machines without a GPU."""
    return learn


def warmed_up(work: Learn, undo: Callable[[], None], record: Callable[[], Learn], runs: int) -> Learn:
    """Run `work` a few times, as PyTorch asks for before a recording, undo what that did, and record it."""
    if torch.cuda.is_available():
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(runs):
                work()
        torch.cuda.current_stream().wait_stream(side)
    else:
        for _ in range(runs):
            work()
    undo()
    return record()


class GraphedStep:
    """Stands in for a step of environments that are all on one device: same actions, same results, same state.

    Args:
        step: A step as tensors in, named tensors out, that changes all state in place and never waits for the host.
        snapshot: Returns a function that puts the environments' state back, in place.
        record: how; another one than record_cuda makes the logic testable without a GPU.
        warm_up_runs: eager runs before the recording; their effect is undone.
    """

    def __init__(
        self,
        step: Callable[[Tensor], dict[str, Tensor]],
        snapshot: Callable[[], Callable[[], None]],
        *,
        record: Recorder = record_cuda,
        warm_up_runs: int = 3,
    ) -> None:
        self._step, self._snapshot, self._record, self._runs = step, snapshot, record, warm_up_runs
        self._action: Tensor | None = None
        self._replay: Learn | None = None

    def __call__(self, action: Tensor) -> dict[str, Tensor]:
        """Make one step with actions (N, A); the returned tensors are fresh."""
        if self._action is None:
            self._action = action.clone()
        static = self._action
        static.copy_(action)
        if self._replay is None:

            def work() -> dict[str, Tensor]:
                return self._step(static)

            self._replay = warmed_up(work, self._snapshot(), lambda: self._record(work, []), self._runs)
        return {name: tensor.clone() for name, tensor in self._replay().items()}


class GraphedPiece:
    """Stands in for a piece of an agent's update: same arguments, same results, same state afterwards.

    It is recorded once for each shape of its tensors and each variant.

    Args:
        agent: whose piece it is: it changes weights, buffers, optimizers and `update_generators`, and nothing else.
        work: the piece, of a named tuple of tensors and a variant; it never waits for the host.
        record: how; another one than record_cuda makes the logic testable without a GPU.
        warm_up_runs: eager runs before a recording (PyTorch asks for some); their effect is undone.
    """

    def __init__(
        self,
        agent: Agent,
        work: Callable[[Any, Any], dict[str, Tensor]],
        *,
        record: Recorder = record_cuda,
        warm_up_runs: int = 3,
    ) -> None:
        self.agent, self.work, self.record, self.warm_up_runs = agent, work, record, warm_up_runs
        self.given: dict[Hashable, Any] = {}  # by shapes, what the recordings read
        self.recorded: dict[Hashable, Learn] = {}

    def run(self, tensors: Any, variant: Hashable = None) -> dict[str, Tensor]:
        """Do the piece; the returned tensors are fresh."""
        shapes = tuple(tensor.shape for tensor in tensors)
        if shapes not in self.given:
            self.given[shapes] = type(tensors)(*(tensor.clone() for tensor in tensors))
        given = self.given[shapes]
        for static, tensor in zip(given, tensors, strict=True):
            static.copy_(tensor)
        if (shapes, variant) not in self.recorded:
            self.recorded[shapes, variant] = self._record(given, variant)
        return {name: tensor.clone() for name, tensor in self.recorded[shapes, variant]().items()}

    def _record(self, given: Any, variant: Hashable) -> Learn:
        generators = self.agent.update_generators()

        def work() -> dict[str, Tensor]:
            return self.work(given, variant)

        return warmed_up(work, self._snapshot(), lambda: self.record(work, generators), self.warm_up_runs)

    def _snapshot(self) -> Callable[[], None]:
        """Return a function that puts everything back, in place: graphs hold addresses."""
        agent, generators = self.agent, self.agent.update_generators()
        weights = {name: (value, value.clone()) for name, value in live_tensors(agent).items()}
        moments = {name: value.clone() for name, value in optimizer_tensors(agent.optimizers).items()}
        streams = [generator.get_state() for generator in generators]

        @torch.no_grad()
        def undo() -> None:
            for live, saved in weights.values():
                live.copy_(saved)
            # Moments that the warm-up made start at zero, as Adam's do.
            for name, live in optimizer_tensors(agent.optimizers).items():
                live.copy_(moments[name]) if name in moments else live.zero_()
            for generator, state in zip(generators, streams, strict=True):
                generator.set_state(state)

        return undo


class GraphedUpdate(GraphedPiece):
    """Stands in for ``agent.update`` of a recordable agent; arguments as GraphedPiece's, `work` apart."""

    def __init__(self, agent: Agent, *, record: Recorder = record_cuda, warm_up_runs: int = 3) -> None:
        super().__init__(agent, agent.learn, record=record, warm_up_runs=warm_up_runs)

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """Do one update; the returned tensors are fresh."""
        return self.run(batch, self.agent.prepare_update())


def update_on(device: torch.device, agent: Agent) -> Callable[[Any], dict[str, Tensor]]:
    """Return the agent's update, on a GPU recorded as a whole, or in the pieces that can be."""
    if device.type != "cuda":
        return agent.update
    if agent.recordable:
        return GraphedUpdate(agent)
    agent.record_pieces(record_cuda)
    return agent.update


def live_tensors(agent: Agent) -> dict[str, Tensor]:
    """Return parameters and buffers themselves; extra state is the host's and not touched by learn()."""
    return {name: value for name, value in agent.state_dict().items() if not name.endswith("_extra_state")}
