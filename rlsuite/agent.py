"""What an agent is: a torch module that acts, learns, and holds all of its own state.

A concrete agent overrides what it does and inherits, as documented no-ops, what it has no use for. The training loop
asks for nothing beyond this class.

Shapes: N environments, B batch, T steps of a rollout, D observation, A action.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from rlsuite.checks import check_replay, check_rollouts
from rlsuite.errors import UserError
from rlsuite.replay.buffer import Batch, Transition
from rlsuite.vector_env import EnvironmentFacts

if TYPE_CHECKING:
    from rlsuite.config.schema import TrainConfig


class Agent(nn.Module):
    """The base of all agents. All state is parameters, buffers or extra state, so that state_dict is complete.

    Args:
        facts: of the environment; what an agent needs of them stands in its check().
        config: its numbers, an instance of Config.
        seed: of all that it draws: initial weights, exploration, minibatches.
        device: where everything lies.

    Attributes:
        Config: the frozen dataclass of its numbers; agents that learn from a replay have a `discount` and a
            `batch_size` there, agents that learn from rollouts a `rollout_length`. Of agents that several ranks can
            train together it has a `share(size)`, which returns the numbers of one of them: gradients then go through
            `rlsuite.optim.step.take_step`, and what is no mean over rows is agreed on (`rlsuite.distributed.ranks`).
        learns_from: "replay": update() gets sampled minibatches, and returns "td_error" for their priorities.
            "rollouts": it gets each rollout once, every tensor (T, N, ...).
        Batch: the kind of named tuple that update() takes.
        recordable: whether update() is prepare_update() and learn(), so that a CUDA graph can record it.
        optimizers: by name; their moments are saved with a checkpoint.
        policy_only: whether it comes from a file that holds its policy alone: its critics are then as they were drawn.
    """

    Config: ClassVar[type[Any]]
    learns_from: ClassVar[Literal["replay", "rollouts"]] = "replay"
    Batch: ClassVar[type[Any]] = Batch
    recordable: ClassVar[bool] = False
    optimizers: dict[str, torch.optim.Optimizer]
    policy_only: bool = False

    def __init__(
        self, facts: EnvironmentFacts, config: Any, *, seed: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__()
        self.facts, self.config = facts, config
        self.optimizers = {}

    # -- before there is one --------------------------------------------------------------------------------

    @classmethod
    def build(cls, facts: EnvironmentFacts, config: Any, *, seed: int = 0, device: torch.device | str = "cpu") -> Agent:
        """Return an agent of this config: of this class, unless a choice in the config is another class."""
        return cls(facts, config, seed=seed, device=device)

    @classmethod
    def check_task(cls, config: TrainConfig) -> None:
        """Raise UserError where the task that the config names is none for this agent; it is not made yet."""

    @classmethod
    def check(cls, config: TrainConfig, facts: EnvironmentFacts) -> None:
        """Raise UserError, naming the fix, where this agent cannot learn as configured in such an environment.

        The base checks what concerns all who learn from a replay, or from rollouts.
        """
        if cls.learns_from == "rollouts":
            check_rollouts(config)
        else:
            check_replay(config, facts)

    # -- act ------------------------------------------------------------------------------------------------

    def act(self, observation: Tensor, explore: bool) -> Tensor:
        """Return actions (N, A) in the environment's units for observations (N, D)."""
        raise NotImplementedError

    def greedy(self, observation: Tensor) -> Tensor:
        """Return the deterministic policy's actions (N, A): a pure function of the weights, for export.

        Raises:
            UserError: if the agent has no such policy.
        """
        raise UserError(f"{type(self).__name__} has no deterministic policy that could be exported")

    # -- take note of the environments -----------------------------------------------------------------------

    def observe(self, transition: Transition) -> None:
        """Take note of a step of every environment: statistics, ends of episodes."""

    def observe_relabelled(self, observation: Tensor) -> None:
        """Take note of observations (n, D) of whole episodes, their goals relabelled as in minibatches."""

    def interrupt(self) -> None:
        """Begin new episodes in every environment: those of before could not be resumed."""

    # -- learn ----------------------------------------------------------------------------------------------

    @property
    def sample_size(self) -> int:
        """Transitions wanted in each update from a replay."""
        return self.config.batch_size

    @property
    def rollout_length(self) -> int:
        """T, steps of every environment between updates from rollouts."""
        return self.config.rollout_length

    def anneal(self, progress: float) -> None:
        """Set what changes over a training; this share of its steps is done. Called before updates from a replay."""

    def update(self, batch: Any) -> dict[str, Tensor]:
        """Learn from a batch.

        Returns:
            0-d tensors still on the device (no .item()), and from a replay's batch "td_error" (B,).
        """
        return self.learn(batch, self.prepare_update())

    @property
    def busy(self) -> bool:
        """Whether what update() has taken in leaves work to be done by advance(): for updates that are long."""
        return False

    def advance(self) -> dict[str, Tensor]:
        """Do the next piece of that work; the state between any two pieces is complete. Return 0-d tensors."""
        return {}

    # -- learn, where a CUDA graph records it: a recordable agent has these three ----------------------------------

    def prepare_update(self) -> Hashable:
        """Do an update's work on the host (counters, schedules); return which variant of learn() is due."""
        return None

    def learn(self, batch: Any, variant: Any) -> dict[str, Tensor]:
        """Do an update's work on the device: no host sync, and the same operations for the same variant."""
        raise NotImplementedError

    def update_generators(self) -> list[torch.Generator]:
        """Return the random streams that learn() draws from."""
        return []

    def record_pieces(self, record: Any) -> None:
        """Let pieces that an update repeats be recorded (`rlsuite.running.cuda_graph.GraphedPiece`), as `record` does.

        For agents whose update as a whole cannot be; of the others, nothing.
        """

    # -- the log --------------------------------------------------------------------------------------------

    def count_only(self, rows: Tensor | None) -> None:
        """Let diagnostics count only these environments (N,) bool, those within an episode, from now on; None: all."""

    def diagnostics(self) -> dict[str, Tensor]:
        """Return 0-d tensors and histograms (1-d tensors) gathered since the last call."""
        return {}
