"""Ten milliseconds of the runner: muscles, joint stops and contacts as forces before every physics step.

Shapes: N environments; legs right, left; nine muscles a leg.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from envs.constants import indices
from envs.learning_to_run.contact import contact_forces
from envs.learning_to_run.ligaments import stop_torque
from envs.learning_to_run.muscles import Muscles, activated
from envs.learning_to_run.paths import AT_ANKLE, AT_HIP, AT_KNEE, ORDER, PLACES, MusclePaths, PathState
from envs.learning_to_run.skeleton import Pose, Skeleton
from envs.simulation.base import Fields, ModelFacts, Simulation

_ILIOPSOAS, _GLUT_MAX = ORDER.index("iliopsoas"), ORDER.index("glut_max")
# Of muscles of both legs in the order of `ORDER`, which action each is; and the other way round.
_ACTIONS = tuple(leg * len(ORDER) + place for leg in (0, 1) for place in PLACES)
_MUSCLES = tuple(_ACTIONS.index(action) for action in range(2 * len(ORDER)))
_ANKLES = slice(5, None, 3)  # among the degrees of freedom
# What a free foot resists the ankle with, kg m^2. A force of damping D a step of h seconds is stable up to 2 I / h.
_FOOT_INERTIA = 0.012


@dataclass(frozen=True)
class RunnerFacts(ModelFacts):
    """Constants of the model.

    Attributes:
        paths: The muscles' paths.
        muscles: Their forces.
        skeleton: The bodies.
        tibiae: Indices of the two tibiae, right and left.
        start_tibia: (2, 2, 1): of each leg x and y of the tibia's origin in the femur, the knee being straight.
        balls: (B,) int64, indices of the balls' geoms.
        feet: (4,) int64, addresses of the touch sensors.
    """

    paths: MusclePaths
    muscles: Muscles
    skeleton: Skeleton
    tibiae: tuple[int, int]
    start_tibia: Tensor
    balls: Tensor
    feet: Tensor


def runner_facts(fields: Fields) -> RunnerFacts:
    """Return the facts of a simulation of the runner."""
    assert isinstance(fields.facts, RunnerFacts)
    return fields.facts


def strengths(psoas: Tensor, *, bug: bool) -> Tensor:
    """Return the factor of every muscle's force, (2, 9, N), for the strengths (N, 2) of the right and left psoas.

    Args:
        psoas: (N, 2).
        bug: Give the left one's to the left gluteus maximus, as osim-rl 1.5 does by a wrong index.
    """
    factor = psoas.new_ones(2, len(ORDER), len(psoas))
    factor[0, _ILIOPSOAS] = psoas[:, 0]
    factor[1, _GLUT_MAX if bug else _ILIOPSOAS] = psoas[:, 1]
    return factor


def current_pose(fields: Fields) -> tuple[Tensor, Tensor, Pose]:
    """Return coordinates (9, n), velocities (9, n), and the pose of them."""
    facts = runner_facts(fields)
    position, velocity = (fields.field(name).t().contiguous() for name in ("qpos", "qvel"))
    tibia, tibia_rate = facts.paths.tibia(position[3:].view(2, 3, -1)[:, 1])
    return position, velocity, facts.skeleton.pose(position, velocity, tibia, tibia_rate)


def hang_tibiae(simulation: Simulation, tibia: Tensor, env_ids: Tensor | None = None) -> None:
    """Write the tibiae's origins in the femora, (2, 2, n): of each leg x and y."""
    places = simulation.model_field("body_pos")
    for leg, body in enumerate(runner_facts(simulation).tibiae):
        if env_ids is None:
            places[:, body, 0::2].copy_(tibia[leg].t())
        else:
            places[env_ids, body, 0] = tibia[leg, 0]
            places[env_ids, body, 2] = tibia[leg, 1]


def joint_torques(
    facts: RunnerFacts, path: PathState, speeds: Tensor, activation: Tensor, strength: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the muscles' torques (2, 3, N) in N m, and their damping of the ankles (2, N) in N m s/rad.

    Args:
        facts: The model's.
        path: Where the muscles are.
        speeds: (2, 3, N) of hips, knees and ankles, in rad/s.
        activation: (2, 9, N) in the order of `ORDER`, as `strength` is.
        strength: (2, 9, N).
    """
    stretching = torch.zeros_like(path.length)
    crossed = ((AT_HIP, path.by_hip), (AT_KNEE, path.by_knee), (AT_ANKLE, path.by_ankle))
    for joint, (muscles, arm) in enumerate(crossed):
        stretching[:, muscles] += arm * speeds[:, joint : joint + 1]
    tension, slope = facts.muscles.force(path.length, stretching, activation, strength)
    torque = torch.stack([(tension[:, muscles] * arm).sum(1) for muscles, arm in crossed], dim=1).neg_()
    return torque, (slope[:, AT_ANKLE] * path.by_ankle * path.by_ankle).sum(1)


@torch.inference_mode()
def advance(
    simulation: Simulation,
    substeps: int,
    *,
    analytic: bool,
    psoas_bug: bool,
    moving: Tensor | None,
    env_ids: Tensor | None,
) -> dict[int, str]:
    """Make some physics steps under constant excitations; return the engine's message by failed simulation.

    Args:
        simulation: Remembers "excitation" and "activation" (N, 18), "strength" (N, 2), "balls" (N, 3 B) and
            "foot_force" (N, 4).
        substeps: Physics steps.
        analytic: Whether contacts follow the original's law, instead of being the engine's.
        psoas_bug: See `strengths`.
        moving: (N,) bool, the simulations that move; None for all.
        env_ids: (n,) the same as indices, where the simulation can step some alone.
    """
    facts = runner_facts(simulation)
    count, step = simulation.num_envs, facts.timestep
    position, velocity = simulation.field("qpos"), simulation.field("qvel")
    applied, damping = simulation.field("qfrc_applied"), simulation.model_field("dof_damping")
    remembered = simulation.field("activation")
    excitation, activation = (
        field.t()[indices(_ACTIONS, field)].view(2, len(ORDER), count)
        for field in (simulation.field("excitation"), remembered)
    )
    strength = strengths(simulation.field("strength"), bug=psoas_bug)
    balls = simulation.field("balls").t().contiguous().view(-1, 3, count) if analytic else None
    balls = None if balls is None or not len(balls) else balls
    refused: dict[int, str] = {}
    normal = None
    for _ in range(substeps):
        places, rates = position.t().contiguous(), velocity.t().contiguous()
        joints, speeds = places[3:].view(2, 3, count), rates[3:].view(2, 3, count)
        path = facts.paths(joints)
        torque, calf_damping = joint_torques(facts, path, speeds, activation, strength)
        torque += stop_torque(joints, speeds)
        # The damping of strong calf muscles is more than a free foot stands in one explicit step: what is beyond half
        # of its inertia's share becomes the engine's own damping, which is implicit.
        excess = (calf_damping - 0.5 * _FOOT_INERTIA / step).clamp_(min=0.0)
        torque[:, 2] += excess * speeds[:, 2]
        torque = torque.flatten(0, 1)
        if analytic:
            pose = facts.skeleton.pose(places, rates, path.tibia, path.tibia_rate)
            force, normal = contact_forces(facts.skeleton, pose, (places[0], places[1]), balls)
            applied[:, :3].copy_(force[:3].t())
            torque += force[3:]
        applied[:, 3:].copy_(torque.t())
        damping[:, _ANKLES].copy_(excess.t())
        hang_tibiae(simulation, path.tibia)
        after = activated(activation, excitation, step)
        activation = after if moving is None else torch.where(moving, after, activation)
        refused |= simulation.step(1, env_ids)
    remembered.copy_(activation.flatten(0, 1)[indices(_MUSCLES, activation)].t())
    feet = normal.t() if normal is not None else simulation.field("sensordata")[:, facts.feet]
    force = simulation.field("foot_force")
    force.copy_(feet if moving is None else torch.where(moving.unsqueeze(1), feet, force))
    return refused
