"""Ten milliseconds of the runner: muscles, joint stops and contacts as forces before every physics step.

Shapes: N environments; legs right, left; nine muscles a leg.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from envs.learning_to_run.contact import contact_forces
from envs.learning_to_run.ligaments import stop_torque
from envs.learning_to_run.muscles import Muscles, activated
from envs.learning_to_run.paths import MUSCLES, MusclePaths
from envs.learning_to_run.skeleton import Pose, Skeleton
from envs.simulation.base import Fields, ModelFacts, Simulation

_ILIOPSOAS, _GLUT_MAX = MUSCLES.index("iliopsoas"), MUSCLES.index("glut_max")
_CALF = slice(MUSCLES.index("gastroc"), None)  # the muscles that cross the ankle
_ANKLES = (5, 8)  # among the degrees of freedom
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
        start_tibia: x and y of a tibia's origin in the femur, the knee being straight.
        balls: Indices of the balls' geoms.
        feet: Addresses of the four touch sensors.
    """

    paths: MusclePaths
    muscles: Muscles
    skeleton: Skeleton
    tibiae: tuple[int, int]
    start_tibia: tuple[float, float]
    balls: Sequence[int]
    feet: Sequence[int]


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
    factor = torch.ones(2, len(MUSCLES), len(psoas), dtype=torch.float64)
    factor[0, _ILIOPSOAS] = psoas[:, 0]
    factor[1, _GLUT_MAX if bug else _ILIOPSOAS] = psoas[:, 1]
    return factor


def current_pose(fields: Fields) -> tuple[Tensor, Tensor, Pose]:
    """Return coordinates (9, n), velocities (9, n), and the pose of them."""
    facts = runner_facts(fields)
    position, velocity = (fields.field(name).t().contiguous() for name in ("qpos", "qvel"))
    knees = position[3:].view(2, 3, -1)[:, 1].contiguous()
    values, rates = facts.paths.knee_functions(knees)
    return position, velocity, facts.skeleton.pose(position, velocity, values[:2], rates[:2])


def hang_tibiae(simulation: Simulation, tibia: Tensor, env_ids: Tensor | None = None) -> None:
    """Write the tibiae's origins in the femora, (2, 2, n): x and y, of the right and the left leg."""
    places = simulation.model_field("body_pos")
    for leg, body in enumerate(runner_facts(simulation).tibiae):
        if env_ids is None:
            places[:, body, 0::2].copy_(tibia[:, leg].t())
        else:
            places[env_ids, body, 0] = tibia[0, leg]
            places[env_ids, body, 2] = tibia[1, leg]


def advance(
    simulation: Simulation, substeps: int, *, analytic: bool, psoas_bug: bool, moving: Tensor | None
) -> dict[int, str]:
    """Make some physics steps under constant excitations; return the engine's message by failed simulation.

    Args:
        simulation: Remembers "excitation" and "activation" (N, 18), "strength" (N, 2), "balls" (N, 3 B) and
            "foot_force" (N, 4).
        substeps: Physics steps.
        analytic: Whether contacts follow the original's law, instead of being the engine's.
        psoas_bug: See `strengths`.
        moving: (N,) bool, the simulations that move; None for all.
    """
    facts = runner_facts(simulation)
    count, step = simulation.num_envs, facts.timestep
    env_ids = None if moving is None else torch.nonzero(moving).flatten()
    position, velocity = simulation.field("qpos"), simulation.field("qvel")
    damping = simulation.model_field("dof_damping")
    applied, remembered = simulation.field("qfrc_applied"), simulation.field("activation")
    excitation = simulation.field("excitation").t().contiguous().view(2, len(MUSCLES), count)
    activation = remembered.t().contiguous().view(2, len(MUSCLES), count)
    strength = strengths(simulation.field("strength"), bug=psoas_bug)
    balls = simulation.field("balls").t().contiguous().view(-1, 3, count) if analytic else None
    balls = None if balls is None or not len(balls) else balls
    refused: dict[int, str] = {}
    normal = None
    for _ in range(substeps):
        places, rates = position.t().contiguous(), velocity.t().contiguous()
        joints, speeds = places[3:].view(2, 3, count), rates[3:].view(2, 3, count)
        path = facts.paths(joints)
        shortening = path.by_hip * speeds[:, 0:1] + path.by_knee * speeds[:, 1:2] + path.by_ankle * speeds[:, 2:3]
        tension, slope = facts.muscles.force(path.length, shortening, activation, strength)
        pull = torch.stack([(tension * arm).sum(1) for arm in (path.by_hip, path.by_knee, path.by_ankle)], dim=1)
        torque = (stop_torque(joints, speeds) - pull).flatten(0, 1)
        if analytic:
            pose = facts.skeleton.pose(places, rates, path.tibia, path.tibia_rate)
            force, normal = contact_forces(facts.skeleton, pose, (places[0], places[1]), balls)
            applied[:, :3].copy_(force[:3].t())
            torque = torque + force[3:]
        # The damping of strong calf muscles is more than a free foot stands in one explicit step: what is beyond half of
        # its inertia's share becomes the engine's own damping, which is implicit.
        calf_arm = path.by_ankle[:, _CALF]
        excess = ((slope[:, _CALF] * calf_arm * calf_arm).sum(1) - 0.5 * _FOOT_INERTIA / step).clamp_(min=0.0)  # (2, N)
        torque[2::3] += excess * speeds[:, 2]
        for leg, ankle in enumerate(_ANKLES):
            damping[:, ankle].copy_(excess[leg])
        applied[:, 3:].copy_(torque.t())
        hang_tibiae(simulation, path.tibia)
        after = activated(activation, excitation, step)
        activation = after if moving is None else torch.where(moving, after, activation)
        refused |= simulation.step(1, env_ids)
    remembered.copy_(activation.flatten(0, 1).t())
    feet = normal.t() if normal is not None else simulation.field("sensordata")[:, list(facts.feet)]
    simulation.field("foot_force").copy_(feet)
    return refused
