"""What a task is: a frozen set of options, and pure functions from simulation fields to what an agent sees.

Shapes: n environments (all, or those that were just reset), D observation, A action, k tracked numbers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from envs.random import EnvironmentRandom
from envs.simulation.base import Edit, Fields, ModelFacts, Simulation
from rlsuite.errors import UserError
from rlsuite.symmetry import Mirror

ViewConfig = Mapping[str, Any] | None
# Rewards of observations (rows, D), actions (rows, A) and next observations (..., rows, D): (..., rows), or (rows,)
# where the next observation does not matter.
KnownReward = Callable[[Tensor, Tensor, Tensor], Tensor]


class Outcome(NamedTuple):
    """What one step gave.

    Attributes:
        reward: (n,) float64.
        terminated: (n,) bool.
        info: Named terms, (n,) or (n, k) float64; they may be live views, the caller copies.
    """

    reward: Tensor
    terminated: Tensor
    info: dict[str, Tensor]


class Marker(NamedTuple):
    """A site of the model that is there to be seen: a ball that means something.

    Attributes:
        site: Its name.
        upon: The site that it stands upon; "" where the task says its place (`Task.shown`).
    """

    site: str
    upon: str = ""


@dataclasses.dataclass(frozen=True)
class Task:
    """Base of all tasks. A subclass is a frozen dataclass whose fields are the task's options.

    Attributes:
        name: Name of the task, as in ``rlsuite/<name>``.
        max_episode_steps: Steps after which an episode is truncated.
        normal_start_velocity: Start velocities have normal instead of uniform noise.
        angles: Entries of the observation that are angles, in radians, for model-based agents.
        markers: Sites that pictures show.
        pixel_view: Attributes of the camera that an agent sees through, where it needs another view than an onlooker.
        other_fields: Derived fields that the task reads outside of `observation`, `tracked` and `outcome`.
        model_fields: Fields of the model that every simulation has for itself, since the task writes them; see
            `Simulation.model_field`.
        starts_by_physics: An episode's start takes physics of some simulations alone, as often as it needs.
        xml_file: Model: a path, or the name of one of Gymnasium's model files.
        frame_skip: Physics steps an environment step.
        default_camera_config: Attributes of the rendering camera (distance, lookat, ...).
        contact_forces: How the simulation computes ``cfrc_ext``; "off" where the task does not use it.
    """

    name: ClassVar[str]
    max_episode_steps: ClassVar[int]
    normal_start_velocity: ClassVar[bool] = False
    angles: ClassVar[tuple[int, ...]] = ()
    markers: ClassVar[tuple[Marker, ...]] = ()
    pixel_view: ClassVar[ViewConfig] = None
    other_fields: ClassVar[tuple[str, ...]] = ()
    model_fields: ClassVar[tuple[str, ...]] = ()
    starts_by_physics: ClassVar[bool] = False

    xml_file: str = ""
    frame_skip: int = 1
    default_camera_config: ViewConfig = None

    @property
    def contact_mode(self) -> str:
        """How contact forces are computed: "off", "sensor" or "exact"; the option of the tasks that use them."""
        return getattr(self, "contact_forces", "off")

    def __post_init__(self) -> None:
        for option in dataclasses.fields(self):
            value = _checked(self.name, option.name, getattr(self, option.name), option_default(option))
            object.__setattr__(self, option.name, value)
        if self.frame_skip < 1:
            raise UserError(f"{self.name}: frame_skip={self.frame_skip} must be at least 1")

    def edits(self) -> Sequence[Edit]:
        """Return what changes the model, a mujoco.MjSpec, before it is compiled; of most tasks nothing."""
        return ()

    def setup(self, model: Any, facts: ModelFacts) -> ModelFacts:
        """Write the task's constants into a freshly compiled mujoco.MjModel; return its facts, completed."""
        return facts

    def memory(self, facts: ModelFacts) -> dict[str, int]:
        """Return names and sizes of the fields that the task remembers between steps, such as an episode's goal."""
        return {}

    def action_bounds(self, facts: ModelFacts) -> tuple[Tensor, Tensor]:
        """Return lower and upper bounds of the action, (A,) each: by default those of the model's controls."""
        return facts.control_low, facts.control_high

    def actuate(self, simulation: Simulation, action: Tensor, random: EnvironmentRandom) -> None:
        """Write the controls of the next step for actions (N, A) float64."""
        simulation.field("ctrl").copy_(action)

    def physics(self, simulation: Simulation) -> dict[int, str]:
        """Advance all simulations by one environment step; return the engine's message by failed simulation."""
        return simulation.step(self.frame_skip)

    def after_step(self, simulation: Simulation, random: EnvironmentRandom) -> None:
        """Change the simulations after a step's physics and before anything is observed; most tasks do not."""

    def after_reset(self, simulation: Simulation, env_ids: Tensor) -> None:
        """Take note of simulations (n,) that were just put into a start state; most tasks need not."""

    def restore(self, simulation: Simulation) -> None:
        """Write the model fields that go with a state and a memory that were just loaded; most tasks have none."""

    def begin(self, simulation: Simulation, random: EnvironmentRandom, env_ids: Tensor) -> None:
        """Put some simulations (n,) into a drawn start state."""
        simulation.reset(env_ids, *self.initial_state(simulation.facts, random, env_ids))
        self.after_reset(simulation, env_ids)

    def seconds(self, facts: ModelFacts) -> float:
        """Return the simulated seconds of one environment step."""
        return facts.timestep * self.frame_skip

    def episode_steps(self, limit: int | None) -> int | None:
        """Return the environment steps after which an episode is truncated whose limit is given, None being none.

        The same, but where an environment step is several of those that the limit counts.
        """
        return limit

    @property
    def switches(self) -> bool:
        """Whether actions are switches, each 0 or 1, instead of numbers between bounds."""
        return False

    @property
    def mirror(self) -> Mirror | None:
        """The task's left-right symmetry, where it has one."""
        return None

    def observation(self, fields: Fields) -> Tensor:
        """Return what the agent sees, (n, D) float64."""
        raise NotImplementedError

    def tracked(self, fields: Fields) -> Tensor:
        """Return the positions whose change over a step is a velocity, (n, k) float64; k may be 0."""
        return fields.field("qpos")[:, :0]

    def outcome(self, fields: Fields, before: Tensor, after: Tensor, action: Tensor) -> Outcome:
        """Judge a step.

        Args:
            fields: The simulation after the step.
            before: (n, k) tracked positions before the step.
            after: (n, k) tracked positions after it.
            action: (n, A) float64.

        Returns:
            Reward, termination and named terms.
        """
        raise NotImplementedError

    @property
    def known_reward(self) -> KnownReward | None:
        """The reward as a function of what is seen, for model-based agents; None for a task that has no such."""
        return None

    def initial_state(self, facts: ModelFacts, random: EnvironmentRandom, env_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Draw a start near the model's default state.

        Args:
            facts: Constants of the model.
            random: Streams to draw from.
            env_ids: (n,) environments.

        Returns:
            Positions (n, nq) with uniform noise of half width ``reset_noise_scale``, and velocities (n, nv) with the
            same noise, or normal noise of that deviation where the task has `normal_start_velocity`.
        """
        scale: float = getattr(self, "reset_noise_scale")  # noqa: B009 (an option of every task that starts so)
        qpos = facts.initial_qpos + random.uniform(env_ids, facts.num_positions, -scale, scale)
        if self.normal_start_velocity:
            noise = random.normal(env_ids, facts.num_velocities) * scale
        else:
            noise = random.uniform(env_ids, facts.num_velocities, -scale, scale)
        return qpos, facts.initial_qvel + noise

    def shown(self, facts: ModelFacts, qpos: Tensor, memory: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return what a picture shows where it differs from the physics, such as a goal.

        Args:
            facts: Constants of the model.
            qpos: (n, nq) positions.
            memory: What the task remembers of these environments, (n, size) each.

        Returns:
            Positions (n, nq) to show, and where the m `markers` are that stand upon no other site, (n, m, 3).
        """
        return qpos, qpos.new_zeros(len(qpos), 0, 3)

    def reset_info(self, fields: Fields) -> dict[str, Tensor]:
        """Return named terms of a start state, (n,) or (n, k)."""
        return {}


def option_default(option: dataclasses.Field) -> Any:
    """Return the default of a dataclass field."""
    if option.default_factory is not dataclasses.MISSING:
        return option.default_factory()
    return option.default


def _checked(task: str, name: str, value: Any, default: Any) -> Any:
    """Return an option's value if its type is that of the default, else raise UserError."""
    if isinstance(default, bool):
        valid = isinstance(value, bool)
        expected = "true or false"
    elif name == "contact_forces":
        valid = value in ("sensor", "exact")
        expected = "'sensor' or 'exact'"
    elif isinstance(default, tuple) and not all(map(_is_number, default or ("",))):
        valid = isinstance(value, list | tuple) and all(isinstance(entry, str) for entry in value)
        value = tuple(value) if valid else value
        expected = "a list of names"
    elif isinstance(default, tuple):
        valid = isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_number, value))
        valid = valid and value[0] <= value[1]
        value = tuple(value) if valid else value
        expected = "a pair (low, high) with low <= high"
    elif isinstance(default, int) and name == "frame_skip":
        valid = isinstance(value, int) and not isinstance(value, bool)
        expected = "an integer"
    elif _is_number(default) and name != "main_body":
        valid = _is_number(value)
        expected = "a number"
    else:
        return value
    if not valid:
        raise UserError(f"{task}: {name}={value!r} must be {expected} (default {default!r})")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def body_index(facts: ModelFacts, name: str) -> int:
    """Return a body's index by name.

    Raises:
        UserError: If the model has no such body.
    """
    if name not in facts.body_ids:
        raise UserError(f"the model has no body '{name}'; its bodies are {', '.join(facts.body_ids)}")
    return facts.body_ids[name]


def squared_norm(value: Tensor) -> Tensor:
    """Return the sum of squares over all but the first axis, (n,)."""
    return value.square().flatten(1).sum(dim=1)


def norm(value: Tensor) -> Tensor:
    """Return the Euclidean length over the last axis, (n,).

    Written with square and sum: both give an environment the same bits whatever n is.
    """
    return value.square().sum(dim=1).sqrt()


def never(fields: Fields) -> Tensor:
    """Return (n,) False: the task does not terminate."""
    position = fields.field("qpos")
    return torch.zeros(len(position), dtype=torch.bool, device=position.device)
