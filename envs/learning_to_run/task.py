"""LearningToRun: a human of nine degrees of freedom runs as far as it can in ten seconds, by its eighteen muscles.

The NIPS 2017 challenge "Learning to Run" (arXiv:1804.00361), whose environment (osim-rl 1.5) simulates OpenSim's model
gait9dof18musc, rebuilt on MuJoCo. The model is by Ajay Seth and Carmichael Ong, after Delp, Loan, Hoy, Zajac, Topp,
Rosen, Thelen, Anderson and Seth; licence CC BY 3.0. docs/learning_to_run.md says what differs.

A step is 10 ms. It pays the way the pelvis went, less 1e-7 times the root of the sum of squares of the torques of the
six joint stops. A runner whose pelvis is lower than 0.65 m has fallen: its episode terminates.

Shapes: N environments, n of a call.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from envs.constants import constant
from envs.learning_to_run import dynamics, obstacles, skeleton
from envs.learning_to_run.features import FEATURES, make_features
from envs.learning_to_run.features.protocol import Features
from envs.learning_to_run.ligaments import stop_effort, stop_torque
from envs.learning_to_run.mirror import ACTION
from envs.learning_to_run.muscles import CURVES, START, Muscles
from envs.learning_to_run.path_points import MUSCLES
from envs.learning_to_run.paths import MusclePaths
from envs.learning_to_run.shaping import Shaping
from envs.random import EnvironmentRandom
from envs.simulation.base import Edit, Fields, ModelFacts, SelectedFields, Simulation
from envs.task import Outcome, Task, ViewConfig
from rlsuite.errors import UserError, require, require_choice
from rlsuite.symmetry import Mirror

_ACTIONS = 2 * len(MUSCLES)
_SECONDS = 0.01  # of a step of the challenge
_LIMIT = 1000  # of them, in an episode
_FALLEN = 0.65  # m
_START = (0.0, 0.91, -0.05)  # pelvis x, y, tilt; all joints straight
_EFFORT_COST = 1e-7
_FEET = ("r_heel", "r_toe", "l_heel", "l_toe")
_STALE = 0.5  # chance with which a step's places of bodies are those of the step before


@dataclass(frozen=True)
class LearningToRun(Task):
    """The options of the runner.

    Attributes:
        difficulty: 0: no balls; 1: balls; 2: balls, and psoas muscles of random strength.
        max_obstacles: Balls of an episode, at most 20; up to 3 lie between 1 and 5 m, the others beyond.
        contact: "mujoco": the engine's contacts; "analytic": the original's law of Hunt and Crossley.
        muscles: "mujoco": MuJoCo's curves of force over length and speed; "source": Thelen's.
        features: What is observed: "raw", the 41 numbers of the challenge, or "ace", "reason8", "sj", "nnaisense", what
            those teams made of them.
        shaping: Names of terms that are added to the reward in training; see envs/learning_to_run/shaping.py.
        action_repeat: Steps of 10 ms for which an action holds, a divisor of 1,000. Who falls stops moving.
            max_episode_steps counts steps of 10 ms whatever it is.
        binary_actions: "": excitations are any numbers in [0, 1]; "threshold": they become 0 below 0.5, else 1;
            "switches": the actions are 18 switches (MultiBinary).
        psoas_bug: Weaken the left gluteus maximus instead of the left psoas, as osim-rl 1.5 did.
        stale_bodies: The places of head, torso, toes and tali are at every second step, by chance, those of the step
            before, as those of the challenge's server often were.
        evaluation_repeat: action_repeat where agents are judged; 0: as in training.
        evaluation_obstacles: max_obstacles where agents are judged; 0: as in training.
    """

    name: ClassVar[str] = "LearningToRun"
    max_episode_steps: ClassVar[int] = _LIMIT
    model_fields: ClassVar[tuple[str, ...]] = ("body_pos", "geom_size", "dof_damping")

    xml_file: str = "runner.xml"
    frame_skip: int = 10
    default_camera_config: ViewConfig = dataclasses.field(
        default_factory=lambda: {"trackbodyid": 1, "distance": 4.0, "azimuth": 90.0, "elevation": -8.0}
    )
    difficulty: int = 2
    max_obstacles: int = 3
    contact: str = "mujoco"
    muscles: str = "mujoco"
    features: str = "raw"
    shaping: tuple[str, ...] = ()
    action_repeat: int = 1
    binary_actions: str = ""
    psoas_bug: bool = False
    stale_bodies: bool = False
    evaluation_repeat: int = 1
    evaluation_obstacles: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.difficulty in (0, 1, 2), f"env.difficulty={self.difficulty}: use 0, 1 or 2")
        require_choice("env.contact", self.contact, ("mujoco", "analytic"))
        require_choice("env.muscles", self.muscles, CURVES)
        require_choice("env.binary_actions", self.binary_actions, ("", "threshold", "switches"))
        require_choice("env.features", self.features, FEATURES)
        for name, least in (("max_obstacles", 0), ("evaluation_obstacles", 0)):
            value = getattr(self, name)
            valid = isinstance(value, int) and least <= value <= obstacles.MOST
            require(valid, f"env.{name}={value}: use a whole number from {least} to {obstacles.MOST}")
        for name, least in (("action_repeat", 1), ("evaluation_repeat", 0)):
            value = getattr(self, name)
            valid = isinstance(value, int) and value >= least and _LIMIT % max(value, 1) == 0
            require(valid, f"env.{name}={value}: an episode has {_LIMIT} steps; use a divisor of it, such as 4 or 5")
        Shaping.check(self.shaping)

    @staticmethod
    def evaluation_options(options: dict[str, Any]) -> dict[str, Any]:
        """Return a run's options for judging its agent: the challenge's reward, its own repeat and number of balls."""
        chosen = dict(options, shaping=())
        repeat = options.get("evaluation_repeat", LearningToRun.evaluation_repeat)
        if repeat:
            chosen["action_repeat"] = repeat
        if options.get("evaluation_obstacles"):
            chosen["max_obstacles"] = options["evaluation_obstacles"]
        return chosen

    # -- the model --------------------------------------------------------------------------------------------

    @property
    def ball_count(self) -> int:
        """Balls of every episode."""
        return obstacles.ball_count(self.difficulty, self.max_obstacles)

    @property
    def analytic(self) -> bool:
        """Whether contacts follow the original's law."""
        return self.contact == "analytic"

    @property
    def other_fields(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The touch sensors, where the engine computes the contacts."""
        return () if self.analytic else ("sensordata",)

    @functools.cached_property
    def feature_map(self) -> Features:
        """What is observed."""
        return make_features(self.features)

    @functools.cached_property
    def shaper(self) -> Shaping:
        """What is added to the reward."""
        return Shaping(self.shaping)

    def edits(self) -> Sequence[Edit]:
        """Add the balls, and switch the engine's contacts off where they follow the original's law."""
        return [obstacles.add_balls(self.ball_count), *([_without_contacts] if self.analytic else [])]

    def setup(self, model: Any, facts: ModelFacts) -> dynamics.RunnerFacts:
        """Look up what the task needs in the model."""
        require(
            abs(facts.timestep * self.frame_skip - _SECONDS) < 1e-9,
            f"env.frame_skip={self.frame_skip}: {self.frame_skip} physics steps of {facts.timestep} s are not 10 ms",
        )
        paths = MusclePaths()
        straight, _ = paths.tibia(torch.zeros(2, 1, dtype=torch.float64))
        return facts.extended(
            dynamics.RunnerFacts,
            paths=paths,
            muscles=Muscles(self.muscles),
            skeleton=skeleton.Skeleton(model),
            tibiae=(int(model.body("tibia_r").id), int(model.body("tibia_l").id)),
            start_tibia=straight,
            balls=torch.tensor(
                [int(model.geom(f"ball{index}").id) for index in range(self.ball_count)], dtype=torch.int64
            ),
            feet=torch.tensor([int(model.sensor(name).adr[0]) for name in _FEET]),
        )

    def memory(self, facts: ModelFacts) -> dict[str, int]:
        """Remember muscles, obstacles, what was seen last, and what the last step paid."""
        sizes = {
            "excitation": _ACTIONS,
            "activation": _ACTIONS,
            "strength": 2,
            "balls": 3 * self.ball_count,
            "foot_force": len(_FEET),
            "raw": skeleton.SIZE,
            "features": self.feature_map.memory_size,
            "shaping": self.shaper.memory_size,
            "paid": 2,  # the challenge's reward, and what shaping adds
            "fallen": 1,
        }
        return sizes | ({"seen": skeleton.SIZE, "stale": self.action_repeat} if self.stale_bodies else {})

    def action_bounds(self, facts: ModelFacts) -> tuple[Tensor, Tensor]:
        """Excitations are in [0, 1]."""
        return torch.zeros(_ACTIONS, dtype=torch.float64), torch.ones(_ACTIONS, dtype=torch.float64)

    @property
    def switches(self) -> bool:
        """Whether actions are switches."""
        return self.binary_actions == "switches"

    @property
    def mirror(self) -> Mirror:
        """Left and right change places.

        Raises:
            UserError: With stale bodies, whose mirror image is not what would have been seen.
        """
        if self.stale_bodies:
            raise UserError("env.stale_bodies=true: stale places have no mirror image; use env.stale_bodies=false")
        return Mirror(self.feature_map.mirror, ACTION)

    def seconds(self, facts: ModelFacts) -> float:
        """Return the seconds of a step: 0.01 times the action's repetitions."""
        return _SECONDS * self.action_repeat

    def episode_steps(self, limit: int | None) -> int | None:
        """Return the environment steps of an episode of `limit` times 10 ms.

        Raises:
            UserError: If the limit is not a multiple of the repetitions.
        """
        require(
            limit is None or limit % self.action_repeat == 0,
            f"env.max_episode_steps={limit}: it counts steps of 10 ms; use a multiple of env.action_repeat="
            f"{self.action_repeat}",
        )
        return None if limit is None else limit // self.action_repeat

    # -- an episode -------------------------------------------------------------------------------------------

    def begin(self, simulation: Simulation, random: EnvironmentRandom, env_ids: Tensor) -> None:
        """Draw balls and strengths, and stand the runner up."""
        balls = obstacles.draw_balls(random, env_ids, self.ball_count)
        simulation.field("balls")[env_ids] = balls.flatten(1)
        simulation.field("strength")[env_ids] = (
            obstacles.draw_strength(random, env_ids) if self.difficulty == 2 else balls.new_ones(len(env_ids), 2)
        )
        self._set_model(simulation, env_ids)
        super().begin(simulation, random, env_ids)

    def initial_state(self, facts: ModelFacts, random: EnvironmentRandom, env_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return the one start there is."""
        qpos = facts.initial_qpos.repeat(len(env_ids), 1)
        qpos[:, :3] = constant(_START, qpos)
        return qpos, facts.initial_qvel.repeat(len(env_ids), 1)

    def restore(self, simulation: Simulation) -> None:
        """Give the balls the radii that are remembered."""
        self._set_model(simulation, torch.arange(simulation.num_envs, device=simulation.device))

    def _set_model(self, simulation: Simulation, env_ids: Tensor) -> None:
        """Write the model fields that an episode begins with, whatever was in them."""
        simulation.model_field("dof_damping").index_fill_(0, env_ids, 0.0)
        facts = dynamics.runner_facts(simulation)
        # From the same tibiae always, so that the engine's constants are the same whenever they are computed.
        dynamics.hang_tibiae(simulation, facts.start_tibia.expand(2, 2, len(env_ids)), env_ids)
        if len(facts.balls):
            radii = simulation.field("balls")[env_ids].unflatten(1, (-1, 3))[:, :, 2]
            simulation.model_field("geom_size")[env_ids.unsqueeze(1), facts.balls, 0] = radii
            simulation.set_constants(env_ids)

    def after_reset(self, simulation: Simulation, env_ids: Tensor) -> None:
        """Lay the balls out and begin what is remembered."""
        fields = SelectedFields(simulation, env_ids)
        if self.ball_count:
            balls = fields.field("balls").unflatten(1, (-1, 3))
            x, height, _ = balls.unbind(2)
            simulation.field("mocap_pos")[env_ids] = torch.stack([x, torch.zeros_like(x), height], dim=2)
        simulation.field("activation").index_fill_(0, env_ids, START)
        raw = self._raw(fields)[0]
        for name in ("excitation", "foot_force", "paid", "fallen"):
            simulation.field(name).index_fill_(0, env_ids, 0.0)
        for name in ("raw", "seen") if self.stale_bodies else ("raw",):
            simulation.field(name)[env_ids] = raw
        simulation.field("features")[env_ids] = self.feature_map.start(raw)
        simulation.field("shaping")[env_ids] = self.shaper.start(raw)

    def _raw(self, fields: Fields) -> tuple[Tensor, Tensor]:
        """Return the 41 numbers (n, 41) of the current state, and the joint stops' effort (n,)."""
        position, velocity, pose = dynamics.current_pose(fields)
        balls = fields.field("balls").unflatten(1, (self.ball_count, 3))
        ball = obstacles.next_ball(balls, position[0])
        raw = skeleton.numbers(position, velocity, pose, fields.field("strength"), ball)
        torque = stop_torque(position[3:].view(2, 3, -1), velocity[3:].view(2, 3, -1))
        return raw, stop_effort(torque)

    def actuate(self, simulation: Simulation, action: Tensor, random: EnvironmentRandom) -> None:
        """Set the excitations, and draw which of the step's places of bodies will be stale."""
        excitation = action.clamp(0.0, 1.0)
        simulation.field("excitation").copy_((action >= 0.5).to(action) if self.binary_actions else excitation)
        if self.stale_bodies:
            everyone = torch.arange(len(action), device=action.device)
            simulation.field("stale").copy_(random.uniform(everyone, self.action_repeat) < _STALE)

    @torch.inference_mode()
    def physics(self, simulation: Simulation) -> dict[int, str]:
        """Hold the action for its 10 ms steps; a runner that falls stays where it fell."""
        fallen, paid = simulation.field("fallen").zero_(), simulation.field("paid").zero_()
        refused: dict[int, str] = {}
        moving: Tensor | None = None  # everyone
        env_ids: Tensor | None = None
        for repetition in range(self.action_repeat):
            if repetition:
                moving = fallen[:, 0] == 0.0
                env_ids = simulation.chosen(moving)
            if env_ids is not None and len(env_ids) == simulation.num_envs:
                moving = env_ids = None
            if env_ids is not None and not len(env_ids):
                break
            refused |= dynamics.advance(
                simulation,
                self.frame_skip,
                analytic=self.analytic,
                psoas_bug=self.psoas_bug,
                moving=moving,
                env_ids=env_ids,
            )
            raw, effort = self._raw(simulation)
            before = simulation.field("raw")
            low = raw[:, skeleton.PELVIS_Y] < _FALLEN
            gain = raw[:, skeleton.PELVIS_X] - before[:, skeleton.PELVIS_X] - _EFFORT_COST * effort
            added, shaped = self.shaper.update(simulation.field("shaping"), before, raw, low)
            earned = torch.stack([gain, added], dim=1)
            paid += earned if moving is None else torch.where(moving.unsqueeze(1), earned, 0.0)
            fallen[:, 0] = low.to(fallen) if moving is None else torch.where(moving, low.to(fallen), fallen[:, 0])
            seen = self._stale(simulation, raw, repetition) if self.stale_bodies else raw
            features = self.feature_map.update(simulation.field("features"), seen, simulation.field("excitation"))
            news = {"raw": raw, "features": features, "shaping": shaped}
            for name, value in (news | ({"seen": seen} if self.stale_bodies else {})).items():
                old = simulation.field(name)
                old.copy_(value if moving is None else torch.where(moving.unsqueeze(1), value, old))
        return refused

    def _stale(self, simulation: Simulation, raw: Tensor, repetition: int) -> Tensor:
        """Return the numbers as they are seen: by chance with the places of bodies of the step before."""
        stale = simulation.field("stale")[:, repetition : repetition + 1] > 0.0
        seen = raw.clone()
        for bodies in (slice(22, 24), slice(26, 36)):  # the pelvis, which has coordinates, is always current
            seen[:, bodies] = torch.where(stale, simulation.field("seen")[:, bodies], raw[:, bodies])
        return seen

    def observation(self, fields: Fields) -> Tensor:
        """Return what the feature map shows, (n, D)."""
        seen = fields.field("seen" if self.stale_bodies else "raw")
        return self.feature_map.observe(fields.field("features"), seen).clone()

    def outcome(self, fields: Fields, before: Tensor, after: Tensor, action: Tensor) -> Outcome:
        """Pay the way that was made and what shaping adds; end the episode of who has fallen."""
        paid, fallen = fields.field("paid"), fields.field("fallen")[:, 0]
        raw = fields.field("raw")
        info = {
            "x_position": raw[:, skeleton.PELVIS_X],
            "raw_reward": paid[:, 0],
            "fall": fallen,
            "activations": fields.field("activation"),
            "foot_forces": fields.field("foot_force"),
        }
        if self.ball_count:
            info["balls"] = fields.field("balls")
        return Outcome(paid[:, 0] + paid[:, 1], fallen > 0.0, info)

    def reset_info(self, fields: Fields) -> dict[str, Tensor]:
        """Return where the balls are, (n, 3 B): x, y and radius of each."""
        return {"balls": fields.field("balls")} if self.ball_count else {}


def _without_contacts(spec: Any) -> None:
    """Make everything pass through everything, in a mujoco.MjSpec."""
    for geom in spec.geoms:
        geom.contype = geom.conaffinity = 0
