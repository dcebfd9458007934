"""Pictures of one simulation out of many, by MuJoCo's OpenGL renderer."""

# MuJoCo's compiled modules have no type stubs.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import copy

import mujoco
import numpy as np
import torch

from envs.scene import free_view
from envs.simulation.cpu import CpuSimulation
from envs.task import Task
from rlsuite.errors import UserError


class Camera:
    """Renders any simulation of a batch from the task's viewpoint.

    Args:
        simulation: The simulations.
        task: Whose default_camera_config (trackbodyid, distance, lookat, elevation, azimuth) is used where the
            model has no camera named "track", and who shows what the physics does not know.
        size: Height and width in pixels.

    Raises:
        UserError: If no OpenGL context can be made.
    """

    def __init__(self, simulation: CpuSimulation, task: Task, size: tuple[int, int]) -> None:
        self._task, self._memory, self._facts = task, simulation.memory, simulation.facts
        self._batch = simulation.batch
        self._own_models = simulation.own_models
        self._model = self._batch.get_model(0) if self._own_models else copy.copy(simulation.model)
        self._planes = _planes(self._model)
        self._widen_planes()
        self._data = mujoco.MjData(self._model)
        height, width = size
        frame = self._model.vis.global_
        frame.offheight, frame.offwidth = max(frame.offheight, height), max(frame.offwidth, width)
        try:
            self._renderer = mujoco.Renderer(self._model, height, width)
        except Exception as error:  # the GL back ends raise errors of many kinds
            raise UserError(
                f"cannot render: {error}; set MUJOCO_GL=egl or MUJOCO_GL=osmesa before Python starts"
            ) from error
        self._camera = self._viewpoint()

    def _viewpoint(self) -> mujoco.MjvCamera:
        camera = free_view(self._model, self._task.default_camera_config)
        track = mujoco.mj_name2id(self._model, int(mujoco.mjtObj.mjOBJ_CAMERA), "track")
        if track >= 0:
            camera.type, camera.fixedcamid = int(mujoco.mjtCamera.mjCAMERA_FIXED), track
        return camera

    def picture(self, index: int) -> np.ndarray:
        """Return a picture of simulation `index`, (height, width, 3) uint8."""
        if self._own_models:
            self._batch.get_model(index, self._model)
            self._widen_planes()
        self._batch.get_data(index, self._data)
        mujoco.mj_forward(self._model, self._data)
        self._show(index)
        self._renderer.update_scene(self._data, self._camera)
        return self._renderer.render()

    def _widen_planes(self) -> None:
        """Draw floors without an end: a policy that runs leaves the 40 metres they are given in the models."""
        for plane, repeats in self._planes.items():
            self._model.geom_size[plane, :2] = 0.0
            material = self._model.geom_matid[plane]
            if material >= 0:
                self._model.mat_texrepeat[material] = repeats

    def _show(self, index: int) -> None:
        """Put into the picture what the physics does not know."""
        data, memory = self._data, {name: value[index : index + 1] for name, value in self._memory.items()}
        before = torch.tensor(data.qpos)[None]
        qpos, places = self._task.shown(self._facts, before, memory)
        if not torch.equal(qpos, before):
            data.qpos[:] = qpos[0]
            mujoco.mj_forward(self._model, data)
        free = iter(places[0])
        for marker in self._task.markers:
            data.site(marker.site).xpos = data.site(marker.upon).xpos if marker.upon else next(free)

    def close(self) -> None:
        """Free the OpenGL context."""
        self._renderer.close()


def _planes(model: mujoco.MjModel) -> dict[int, np.ndarray]:
    """Return the planes that have an end, and how often endless ones of their look repeat their texture."""
    found = {}
    for plane in np.flatnonzero((model.geom_type == int(mujoco.mjtGeom.mjGEOM_PLANE)) & (model.geom_size[:, 0] > 0.0)):
        material = model.geom_matid[plane]
        repeats = model.mat_texrepeat[material] if material >= 0 else np.ones(2)
        found[int(plane)] = repeats / model.geom_size[plane, :2]
    return found
