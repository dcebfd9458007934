"""A task's model once more, made to be looked at: with the view as a camera, and goals as bodies.

Poses are all that is taken from it, so nothing it adds has mass or touches anything. Ray tracers know neither sites nor
transparency: markers become geoms, and what is less than half opaque, or moves by other means than positions, is
hidden.
"""

# MuJoCo's compiled modules have no type stubs.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from envs.simulation.base import ModelFacts
from envs.simulation.model import find_model, load_model, model_facts
from envs.task import Task, ViewConfig
from rlsuite.errors import UserError, near_matches

VIEW, _MARKER = "rlsuite_view", "rlsuite_marker"
_DEFAULT_COLOR = (0.5, 0.5, 0.5, 1.0)  # of a geom that leaves its color to its material


@dataclass(frozen=True)
class Scene:
    """What is looked at.

    Attributes:
        model: The compiled mujoco.MjModel; "ids" of pictures are its geoms.
        facts: As `Task.shown` wants them.
        camera: Index of the view among the model's cameras.
        mocap: (m,) which mocap bodies are the markers that the task places, in their order.
    """

    model: Any
    facts: ModelFacts
    camera: int
    mocap: np.ndarray


def compile_scene(task: Task, view: str = "") -> Scene:
    """Compile a task's model with what is to be seen.

    Args:
        task: Whose model, markers and view.
        view: Name of one of the model's cameras; "" for the task's `pixel_view`, else the view it is rendered from.

    Raises:
        UserError: If the model has no such camera.
    """
    plain = load_model(task.xml_file, task.edits())
    cameras = [plain.camera(index).name for index in range(plain.ncam)]
    named = view or ("track" if "track" in cameras and task.pixel_view is None else "")
    if named and named not in cameras:
        known = near_matches(named, [name for name in cameras if name]) or "; it has none with a name"
        raise UserError(f"camera.view={view}: the model of {task.name} has no such camera{known}")
    spec = mujoco.MjSpec.from_file(str(find_model(task.xml_file)))
    for edit in task.edits():
        edit(spec)
    if not named:
        _add_view(spec, plain, free_view(plain, task.pixel_view or task.default_camera_config))
    bodies = _add_markers(spec, plain, task)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "compiler attribute", UserWarning)  # other people's model files
        model = spec.compile()
    _hide(model, {model.body(name).id for name in bodies})
    facts = task.setup(model, model_facts(model))
    mocap = np.array([model.body_mocapid[model.body(name).id] for name in bodies], dtype=np.int64)
    return Scene(model, facts, model.camera(named or VIEW).id, mocap)


def free_view(model: Any, config: ViewConfig) -> mujoco.MjvCamera:
    """Return the camera that a task's view describes, tracking a body or standing still."""
    camera = mujoco.MjvCamera()
    mujoco.mjv_defaultFreeCamera(model, camera)
    for name, value in (config or {}).items():
        if name == "lookat":
            camera.lookat[:] = value
        else:
            setattr(camera, name, value)
    if camera.trackbodyid > 0:  # 0 is the world, which stays
        camera.type = mujoco.mjtCamera.mjCAMERA_TRACKING
    return camera


def _add_view(spec: Any, model: Any, view: mujoco.MjvCamera) -> None:
    """Add a free view as a camera of the model: of the world, or keeping its distance to a body's center of mass."""
    azimuth, elevation = np.deg2rad([view.azimuth, view.elevation])
    forward = np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])
    right = np.array([np.sin(azimuth), -np.cos(azimuth), 0.0])
    axes = np.stack([right, np.cross(right, forward), -forward], axis=1)  # a camera looks along its -z
    tracks = int(view.type) == int(mujoco.mjtCamera.mjCAMERA_TRACKING)
    body = view.trackbodyid if tracks else 0
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    place = (data.subtree_com[body] if tracks else view.lookat) - view.distance * forward
    turn = data.xmat[body].reshape(3, 3)
    quaternion = np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, (turn.T @ axes).flatten())
    mode = mujoco.mjtCamLight.mjCAMLIGHT_TRACKCOM if tracks else mujoco.mjtCamLight.mjCAMLIGHT_FIXED
    spec.bodies[body].add_camera(
        name=VIEW, pos=turn.T @ (place - data.xpos[body]), quat=quaternion, mode=mode, fovy=model.vis.global_.fovy
    )


def _add_markers(spec: Any, model: Any, task: Task) -> list[str]:
    """Add a geom for each marker; return the names of the bodies of those that the task places."""
    placed = []
    for number, marker in enumerate(task.markers):
        site = model.site(marker.site).id
        look = {
            "type": mujoco.mjtGeom(int(model.site_type[site])),
            "size": model.site_size[site],
            "rgba": [*model.site_rgba[site, :3], 1.0],
            "contype": 0,
            "conaffinity": 0,
            "mass": 0.0,
        }
        if marker.upon:
            upon = model.site(marker.upon).id
            spec.bodies[int(model.site_bodyid[upon])].add_geom(pos=model.site_pos[upon], **look)
        else:
            placed.append(f"{_MARKER}{number}")
            spec.worldbody.add_body(name=placed[-1], mocap=True).add_geom(**look)
    return placed


def _hide(model: Any, shown: set[int]) -> None:
    """Make geoms opaque, or invisible: those less than half opaque, and those of mocap bodies but `shown`."""
    for geom in range(model.ngeom):
        material, body = int(model.geom_matid[geom]), int(model.geom_bodyid[geom])
        plain = tuple(model.geom_rgba[geom]) == _DEFAULT_COLOR and material >= 0
        alpha = model.mat_rgba[material, 3] if plain else model.geom_rgba[geom, 3]
        if alpha < 0.5 or (model.body_mocapid[body] >= 0 and body not in shown):
            model.geom_rgba[geom] = 0.0  # a color of its own: the material's alpha does not count
        elif not plain:
            model.geom_rgba[geom, 3] = 1.0
    model.mat_rgba[:, 3] = 1.0
