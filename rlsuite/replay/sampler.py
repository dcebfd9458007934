"""From a ring to minibatches: uniform or prioritized places, n-step sums, true next observations.

Shapes: B batch, D observation, A action.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rlsuite.errors import FailedTransitionsError, UserError
from rlsuite.goals import GoalSpec
from rlsuite.replay.buffer import Batch, ReplayBuffer, Transition, choose_device, forecast_bytes
from rlsuite.replay.config import ReplayConfig
from rlsuite.replay.hindsight import Hindsight
from rlsuite.replay.masks import is_own, members_of
from rlsuite.replay.mirrored import MirrorImages
from rlsuite.replay.n_step import n_step_return
from rlsuite.replay.prioritized import Priorities
from rlsuite.running.seeding import restore_generator
from rlsuite.symmetry import Mirror


class Replay:
    """A ring, its sampler and the sampler's random stream.

    Args:
        config: see ReplayConfig.
        observation: an example (N, D).
        action: an example (N, A).
        discount: gamma for one step.
        seed: of the sampling stream.
        agent_device: where batches are wanted.
        goals: of a task with goals; needed for hindsight.
        constant_columns: of the observation's columns, how many, the last, stay the same within an episode.
        mirror: of a task with a left-right symmetry; needed for mirrored minibatches.
        num_members: how many members' minibatches, one after the other, a sample is; needed for bootstrap masks.

    Raises:
        UserError: if the ring does not fit in memory, before anything is allocated, or hindsight or mirror images are
            asked for and the task has no goals or no symmetry.
    """

    def __init__(
        self,
        config: ReplayConfig,
        observation: Tensor,
        action: Tensor,
        *,
        discount: float,
        seed: int,
        agent_device: torch.device | str = "cpu",
        goals: GoalSpec | None = None,
        constant_columns: int = 0,
        mirror: Mirror | None = None,
        num_members: int = 1,
    ) -> None:
        self.config, self.discount, self.num_members = config, discount, num_members
        self.agent_device = torch.device(agent_device)
        needed = forecast_bytes(
            config.capacity,
            observation.shape[0],
            observation,
            action,
            prioritized=config.prioritized,
            hindsight=config.hindsight.strategy != "none",
            constant_columns=constant_columns,
        )
        device = choose_device(config, needed, self.agent_device)
        self.buffer = ReplayBuffer(
            config.capacity, observation, action, device=device, constant_columns=constant_columns
        )
        self.priorities: Priorities | None = None
        if config.prioritized:
            self.priorities = Priorities(
                self.buffer,
                config.priority_exponent,
                smallest_error=config.priority_smallest_error,
                age_decay=config.priority_age_decay,
                age_floor=config.priority_age_floor,
            )
        self.hindsight: Hindsight | None = None
        if config.hindsight.strategy != "none":
            if goals is None:
                raise UserError(
                    f"replay.hindsight.strategy={config.hindsight.strategy}: the environment has no goals; use none, "
                    "or a task with goals such as env=FetchPush"
                )
            self.hindsight = Hindsight(self.buffer, config.hindsight, goals)
        self.images: MirrorImages | None = None
        if config.mirrored:
            if mirror is None:
                raise UserError(
                    "replay.mirrored=true: the environment has no left-right symmetry; use false, or a task that says "
                    "what its mirror image is, such as env=LearningToRun"
                )
            self.images = MirrorImages(mirror, device)
        self.generator = torch.Generator(device=device).manual_seed(seed)

    def __len__(self) -> int:
        """Return the number of transitions that can be sampled."""
        return len(self.buffer) if self.hindsight is None else len(self.hindsight)

    def add(self, transition: Transition) -> None:
        """Store one step of every environment."""
        self.buffer.add(transition)
        if self.priorities is not None:
            self.priorities.added()
        if self.hindsight is not None:
            self.hindsight.added(transition)

    def check_size(self, size: int) -> None:
        """Raise UserError if minibatches of `size` cannot be drawn."""
        if self.hindsight is not None:
            self.hindsight.sample_size(size)
        if self.images is not None and size % 2:
            raise UserError(f"replay.mirrored=true: {size} transitions have no halves; use an even agent.batch_size")

    def sample(self, size: int) -> Batch:
        """Draw B = size transitions with replacement, relabelled or half of them mirrored, onto the agent's device."""
        if self.hindsight is not None:
            index = self.hindsight.draw(self.hindsight.sample_size(size), self.generator)
            return self._to_agent(self.hindsight.choose(self._relabelled(index), self.generator))
        if self.images is not None:
            drawn = self._uniform(size // 2)
            stored = self._stored(drawn, torch.ones(len(drawn), device=self.buffer.device))
            return self._to_agent(self.images.doubled(stored))
        if self.priorities is not None:
            index, weight = self.priorities.sample(size, self.generator, self.config.importance_exponent)
        else:
            index, weight = self._uniform(size), torch.ones(size, device=self.buffer.device)
        return self.gather(index, weight)

    def gather(self, index: Tensor, weight: Tensor) -> Batch:
        """Return the minibatch at flat places (B,) with importance weights (B,), on the agent's device."""
        return self._to_agent(self._stored(index, weight))

    def _stored(self, index: Tensor, weight: Tensor) -> Batch:
        buffer = self.buffer
        reward, discount, last = n_step_return(
            buffer, index, self.config.n_step, self.discount, timelimit_as_done=self.config.timelimit_as_done
        )
        return Batch(
            observation=buffer.observation_at(index),
            action=buffer.action.flatten(0, 1).index_select(0, index),
            reward=reward,
            discount=discount,
            next_observation=buffer.next_observation_at(last),
            weight=weight,
            index=index,
        )

    def _relabelled(self, index: Tensor) -> Batch:
        assert self.hindsight is not None
        return self.hindsight.relabel(self._stored(index, torch.ones(len(index), device=index.device)), self.generator)

    def _to_agent(self, batch: Batch) -> Batch:
        if self.agent_device == self.buffer.device:
            return batch
        return Batch(*(tensor.to(self.agent_device, non_blocking=self.agent_device.type == "cuda") for tensor in batch))

    def fresh_observations(self) -> Tensor | None:
        """Return observations (n, F) of the episodes that ended since the last call; None where there are none.

        As many as their steps, drawn from them with replacement and their goals relabelled as in minibatches: what a
        policy's normalizer should know of when it is to learn from such minibatches.
        """
        if self.hindsight is None or not self.hindsight.fresh:
            return None
        places = self.hindsight.take_fresh()
        draw = torch.randint(len(places), (len(places),), generator=self.generator, device=places.device)
        return self._relabelled(places[draw]).observation.to(self.agent_device)

    def update_priorities(self, index: Tensor, td_error: Tensor) -> None:
        """Set priorities from the TD errors of a batch; nothing to do where sampling is uniform."""
        if self.priorities is not None:
            self.priorities.update(index.to(self.buffer.device), td_error.to(self.buffer.device))

    def _uniform(self, size: int) -> Tensor:
        index = self._any_place(size)
        if not self.buffer.has_invalid and self.config.bootstrap_probability == 1.0:
            return index
        # Failed transitions are rare and must never be learned from, nor those of others: draw again where one was hit.
        bad = self._unwanted(index)
        for _ in range(1000):
            if not bool(bad.any()):
                return index
            index = torch.where(bad, self._any_place(size), index)
            bad = self._unwanted(index)
        if bool(self.buffer.invalid.view(-1)[index].any()):
            raise FailedTransitionsError(
                "nearly every stored transition comes from a failed simulation; check the environment"
            )
        raise UserError(
            f"replay.bootstrap_probability={self.config.bootstrap_probability}: of {len(self)} transitions a pair "
            "has none of its own; use a larger one, or more learning_starts="
        )

    def _any_place(self, size: int) -> Tensor:
        """Draw flat places (size,) of stored transitions, all alike."""
        buffer = self.buffer
        draw = torch.randint(len(buffer), (size,), generator=self.generator, device=buffer.device)
        return buffer.flat_index(draw // buffer.num_envs, draw % buffer.num_envs)

    def _unwanted(self, index: Tensor) -> Tensor:
        """Return which places (B,) hold what must not be learned from, bool: failures, and what is another member's."""
        bad = self.buffer.invalid.view(-1)[index]
        chance = self.config.bootstrap_probability
        if chance == 1.0:
            return bad
        return bad | ~is_own(index, members_of(len(index), self.num_members, index.device), chance)

    def state(self) -> dict[str, Tensor]:
        """Return everything a bit-exact resume needs."""
        tensors = self.buffer.state() | {"generator": self.generator.get_state()}
        if self.priorities is not None:
            tensors |= self.priorities.state()
        if self.hindsight is not None:
            tensors |= self.hindsight.state()
        return tensors

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Put back what state() returned."""
        self.buffer.load_state(tensors)
        restore_generator(self.generator, tensors["generator"])
        if self.priorities is not None:
            self.priorities.load_state(tensors)
        if self.hindsight is not None:
            self.hindsight.load_state(tensors)

    def mark_interrupted(self) -> None:
        """End all running episodes where they are: a resumed run's environments begin new ones."""
        self.buffer.mark_interrupted()
        if self.hindsight is not None:
            self.hindsight.episodes.interrupt()
