"""Pictures of one simulation out of many, by MuJoCo's OpenGL renderer."""

# MuJoCo's compiled modules have no type stubs.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mujoco
import numpy as np

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
        self._task, self._memory = task, simulation.memory
        self._batch = simulation.batch
        self._own_models = simulation.own_models
        self._model = self._batch.get_model(0) if self._own_models else simulation.model
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
        self._camera = self._viewpoint(task.default_camera_config)

    def _viewpoint(self, config: Mapping[str, Any] | None) -> mujoco.MjvCamera:
        camera = mujoco.MjvCamera()
        mujoco.mjv_defaultFreeCamera(self._model, camera)
        for name, value in (config or {}).items():
            if name == "lookat":
                camera.lookat[:] = value
            else:
                setattr(camera, name, value)
        track = mujoco.mj_name2id(self._model, int(mujoco.mjtObj.mjOBJ_CAMERA), "track")
        if track >= 0:
            camera.type, camera.fixedcamid = int(mujoco.mjtCamera.mjCAMERA_FIXED), track
        elif camera.trackbodyid >= 0:
            camera.type = int(mujoco.mjtCamera.mjCAMERA_TRACKING)
        return camera

    def picture(self, index: int) -> np.ndarray:
        """Return a picture of simulation `index`, (height, width, 3) uint8."""
        if self._own_models:
            self._batch.get_model(index, self._model)
        self._batch.get_data(index, self._data)
        mujoco.mj_forward(self._model, self._data)
        self._task.show(self._data, {name: value[index] for name, value in self._memory.items()})
        self._renderer.update_scene(self._data, self._camera)
        return self._renderer.render()

    def close(self) -> None:
        """Free the OpenGL context."""
        self._renderer.close()
