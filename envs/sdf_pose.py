"""Where an object is, seen by a camera: its pose, fitted to depth and silhouette, as a part of the observation.

    env = SDFPoseObservation(envs.make_vector("FetchPush", 16, flat=True), SDFPoseConfig(body="object0"))

The body's geoms are its signed distance function, or any other is given. At every step each environment's pose is moved
by some steps of Adam from where it was at the last (DIST, arXiv:1911.13225: a pose from one view); an episode's first
is found from the middle of what is seen and the turn that the model gives the body. Nothing is drawn at random.

Shapes: N environments, n of them, D observation.
"""

# MuJoCo's compiled modules have no type stubs.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import gymnasium
import mujoco
import numpy as np
import torch
from gymnasium.vector.utils import batch_space
from torch import Tensor

from envs.cameras import Cameras
from envs.mujoco_vector import MujocoVectorEnv
from envs.wrapper import VectorWrapper
from renderers.sdf.camera import from_mujoco, inverse, pinhole, quaternion_of, times, turn_of
from renderers.sdf.fitting import PoseFitConfig, fit_pose
from renderers.sdf.losses import LossWeights, Target
from renderers.sdf.march import MarchConfig
from renderers.sdf.renderer import SDFRenderer
from renderers.sdf.shapes import KINDS, SDF, Primitive, Union
from rlsuite.config.camera import CameraConfig
from rlsuite.errors import near_matches, require
from rlsuite.symmetry import Mirror

POSE = 7  # place in metres, quaternion with w first
_NAMES = ("x", "y", "z", "qw", "qx", "qy", "qz")
_PREFIX = "sdf_pose/"


@dataclass(frozen=True, kw_only=True)
class SDFPoseConfig:
    """What is fitted, and how.

    Attributes:
        body: the model's body.
        camera: what it is seen by; one that stands still.
        fit: each step's fit.
        first_steps: of Adam at an episode's start, where there is no pose to go on from.
        march: how rays march.
    """

    body: str
    camera: CameraConfig = field(default_factory=lambda: CameraConfig(size=64, sees=("depth",)))
    fit: PoseFitConfig = field(
        default_factory=lambda: PoseFitConfig(steps=15, learning_rate=2e-2, weights=LossWeights(normal=0.0))
    )
    first_steps: int = 60
    march: MarchConfig = field(default_factory=lambda: MarchConfig(keep=3))

    def __post_init__(self) -> None:
        require(self.camera.size >= 8, f"camera.size={self.camera.size}: use 8 or more")
        require(self.first_steps >= 1, f"first_steps={self.first_steps}: use 1 or more")


class SDFPoseObservation(VectorWrapper):
    """Environments that also observe the fitted pose of a body, (N, D + 7): its place in metres, and its quaternion.

    The seven are the last, but before a task's goals and what stays the same within an episode. Where nothing of the
    body is seen, or the simulation failed, the last pose stays.

    Args:
        env: of a simulated task.
        config: what is fitted, and how.
        sdf: the body in its own axes, in units of `radius`; None for the union of its geoms.
        radius: of the sphere about the body's origin that it lies in, metres; with `sdf`.
        cameras: which draw "depth" and "ids"; None for new ones.

    Raises:
        UserError: if there is no such body, a geom of it has no closed form, or the camera moves.
    """

    single_observation_space: Any = None  # here, and not the environments' own: a view's attributes are theirs
    observation_space: Any = None
    goals = None
    known_reward = None
    angles: tuple[int, ...] = ()
    observation_names: tuple[str, ...] = ()
    mirror: Mirror | None = None

    env: MujocoVectorEnv

    def __init__(
        self,
        env: MujocoVectorEnv,
        config: SDFPoseConfig,
        sdf: SDF | None = None,
        radius: float = 0.0,
        cameras: Cameras | None = None,
    ) -> None:
        super().__init__(env)
        self.config = config
        self.cameras = cameras or Cameras(env.task, config.camera, env.device, fields=("depth", "ids"))
        model, view = self.cameras.model, self.cameras.view
        names = [model.body(index).name for index in range(model.nbody)]
        known = near_matches(config.body, [name for name in names if name])
        require(config.body in names, f"body={config.body}: the model has no such body{known}")
        still = model.cam_bodyid[view] == 0 and model.cam_mode[view] == int(mujoco.mjtCamLight.mjCAMLIGHT_FIXED)
        require(bool(still), f"camera.view={config.camera.view}: it moves with a body; name one that stands still")
        body = model.body(config.body).id
        geoms = [geom for geom in range(model.ngeom) if model.geom_bodyid[geom] == body]
        if sdf is None:
            sdf, radius = geoms_sdf(model, geoms)
        require(radius > 0.0, f"radius={radius}: say how large the body is, in metres")
        self.radius, self._geoms = radius, torch.tensor(geoms, device=env.device)
        self.drawn_by = SDFRenderer(
            sdf, pinhole(config.camera.size, float(model.cam_fovy[view])), config.march, normals="none"
        )
        data = mujoco.MjData(model)
        mujoco.mj_forward(model, data)
        place, turn = data.cam_xpos[view], data.cam_xmat[view].reshape(1, 3, 3)
        rotation, shift = from_mujoco(_tensor(place, env.device)[None], _tensor(turn, env.device))
        self._eye, self._eye_shift = quaternion_of(rotation[0]), shift[0]
        first = times(self._eye, _tensor(data.xquat[body], env.device))
        self._first_turn = first.expand(env.num_envs, -1)
        self._first_shift = (turn_of(self._eye) @ _tensor(data.xpos[body], env.device) + shift[0]) / radius
        self._turn = self._first_turn.clone()  # (N, 4), from the body's axes to the camera's
        self._shift = self._first_shift.expand(env.num_envs, -1).clone()  # (N, 3), in radii
        self._describe(env)
        self._seen: Tensor = torch.zeros(env.num_envs, self._size, device=env.device, dtype=env.dtype)

    def _describe(self, env: MujocoVectorEnv) -> None:
        """Say which columns are what."""
        size = env.single_observation_space.shape[0]
        self._at = env.goals.observation_size if env.goals else size - env.constant_columns
        self._size = size + POSE
        kind = env.single_observation_space.dtype
        self.single_observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (self._size,), kind)
        self.observation_space = batch_space(self.single_observation_space, env.num_envs)
        self.angles = tuple(entry if entry < self._at else entry + POSE for entry in env.angles)
        if env.goals:
            self.goals = replace(env.goals, observation_size=env.goals.observation_size + POSE)
        if names := env.observation_names:
            ours = tuple(f"{self.config.body}.{name}" for name in _NAMES)
            self.observation_names = (*names[: self._at], *ours, *names[self._at :])

    # -- fitting ------------------------------------------------------------------------------------------------

    def _fit(self, rows: Tensor, *, first: bool) -> None:
        """Move the poses of environments `rows` (n,) to what is seen of them now."""
        qpos = self.env.simulation.field("qpos")
        rows = rows[torch.isfinite(qpos[rows]).all(1)]
        if not len(rows):
            return
        memory = {name: value[rows] for name, value in self.env.simulation.memory.items()}
        seen, here = self.cameras.frames(qpos[rows], memory), rows.to(self.device)
        mask = torch.isin(seen["ids"], self._geoms).squeeze(1)
        target = Target(torch.where(mask, seen["depth"].squeeze(1) / self.radius, 0.0), mask)
        turn, shift, found = self._turn[here], self._shift[here], mask.flatten(1).any(1, keepdim=True)
        if first:
            turn = self._first_turn[here]
            points = self.drawn_by.camera.points(target.depth).flatten(1, 2)
            middle = points.sum(1) / mask.flatten(1).sum(1, keepdim=True).clamp_min(1)
            behind = middle * (1.0 + 0.5 / middle.norm(dim=1, keepdim=True).clamp_min(1e-6))  # half a radius
            shift = torch.where(found, behind, self._first_shift)
        fit = replace(self.config.fit, steps=self.config.first_steps) if first else self.config.fit
        moved = fit_pose([(self.drawn_by, target)], turn.new_zeros(len(rows), 0), turn, shift, fit)
        self._turn[here] = torch.where(found, moved[0], turn)
        self._shift[here] = torch.where(found, moved[1], shift)

    def pose(self) -> Tensor:
        """Return poses in the world (N, 7): places in metres, and quaternions, w first."""
        back = inverse(self._eye)
        place = (self._shift * self.radius - self._eye_shift) @ turn_of(back).mT
        return torch.cat([place, times(back.expand_as(self._turn), self._turn)], 1)

    def _with_pose(self, observation: Tensor) -> Tensor:
        pose = self.pose().to(observation)
        return torch.cat([observation[:, : self._at], pose, observation[:, self._at :]], 1)

    # -- the contract -------------------------------------------------------------------------------------------

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Tensor, dict[str, Any]]:
        """Begin a new episode in every environment; see `VectorEnv.reset`."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._fit(torch.arange(self.num_envs), first=True)
        self._seen = self._with_pose(observation)
        return self._seen.clone(), info

    def step(self, actions: Tensor | np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Step every environment once; see `VectorEnv.step`."""
        transition = self.env.advance(actions)
        self._fit(torch.nonzero(~transition.failed).flatten(), first=False)
        last = self._with_pose(transition.observation.to(self.device))
        observation, reward, terminated, truncated, info = self.env.renew(transition)
        ended = torch.nonzero(terminated | truncated).flatten().cpu()
        if len(ended):
            self._fit(ended, first=True)
        self._seen = self._with_pose(observation)
        return self._seen.clone(), reward, terminated, truncated, {**info, "final_obs": last}

    def observation(self) -> Tensor:
        """Return a copy of what was seen last, (N, D + 7)."""
        return self._seen.clone()

    def state(self) -> dict[str, Tensor]:
        """Return copies of all that stepping depends on: the environments', and the poses."""
        own = {"turn": self._turn, "shift": self._shift, "seen": self._seen}
        return {**self.env.state(), **{f"{_PREFIX}{name}": value.cpu().clone() for name, value in own.items()}}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` returned.

        Raises:
            ValueError: If it is not of environments whose poses are fitted, or of another number.
        """
        own = {"turn": self._turn, "shift": self._shift, "seen": self._seen}
        given = {name.removeprefix(_PREFIX): value for name, value in state.items() if name.startswith(_PREFIX)}
        if given.keys() != own.keys() or any(given[name].shape != own[name].shape for name in own):
            raise ValueError("the state is not of as many environments seen through a SDFPoseObservation")
        self.env.load_state({name: value for name, value in state.items() if not name.startswith(_PREFIX)})
        self._turn, self._shift, self._seen = (given[name].to(own[name], copy=True) for name in own)


def geoms_sdf(model: Any, geoms: list[int]) -> tuple[SDF, float]:
    """Return the union of a body's geoms in the body's axes, in units of the radius of a sphere about its origin.

    Args:
        model: a mujoco.MjModel.
        geoms: of one body; spheres, capsules, boxes, cylinders and ellipsoids.

    Raises:
        UserError: if there are none, or one is of another kind.
    """
    require(bool(geoms), "the body has no geom; name one that is seen, or give sdf= and radius=")
    kinds = [mujoco.mjtGeom(int(model.geom_type[geom])).name.removeprefix("mjGEOM_").lower() for geom in geoms]
    other = [kind for kind in kinds if kind not in KINDS]
    require(not other, f"a geom of the body is a {', '.join(other)}; give sdf= and radius=, such as a fitted decoder")
    radius = max(float(np.linalg.norm(model.geom_pos[geom]) + model.geom_rbound[geom]) for geom in geoms)
    parts = []
    for geom, kind in zip(geoms, kinds, strict=True):
        sizes = _tensor(model.geom_size[geom][: KINDS[kind][1]], "cpu") / radius
        place = _tensor(model.geom_pos[geom], "cpu") / radius
        parts.append(Primitive(kind, sizes, place, turn_of(_tensor(model.geom_quat[geom], "cpu"))))
    return parts[0] if len(parts) == 1 else Union(parts), radius


def _tensor(value: np.ndarray, device: torch.device | str) -> Tensor:
    return torch.as_tensor(np.array(value), dtype=torch.float32, device=device)
