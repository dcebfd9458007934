"""Pictures of many simulations at once, by MuJoCo Warp's ray tracer: no OpenGL, on a CPU as on a GPU.

Environments are drawn in chunks of a power of two, at most 16 on a CPU: any subset costs its share, and a picture
is the same bits in any company. There are no shadows, reflections or transparency.

Shapes: n environments, H = W = size, S samples a side of a pixel.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from envs.flashes import flash, surfaces
from envs.motion import Motion, Poses, motion
from envs.perception.fields import FIELDS
from envs.perception.stereo.shading import flash_lights
from envs.scene import compile_scene
from envs.simulation.mjwarp import for_warp, import_warp, on_device
from envs.task import Task
from rlsuite.config.camera import CameraConfig
from rlsuite.errors import UserError, near_matches

_LARGEST_CHUNK = {"cpu": 16, "cuda": 1024}


class _Chunk(NamedTuple):
    """What k worlds are drawn with: Warp's arrays, and torch's views of them."""

    data: Any
    context: Any
    qpos: Tensor
    mocap: Tensor
    poses: Poses
    rgb: Tensor
    depth: Tensor
    ids: Tensor


class Cameras:
    """Draws simulations of one task from one view.

    Args:
        task: The task with its options.
        config: Size, view and samples.
        device: Where pictures are made.
        fields: What is drawn, names of `FIELDS`.

    Attributes:
        model: The mujoco.MjModel that is drawn (`envs.scene`); "ids" are its geoms.
        facts: As `Task.shown` wants them.
        view: Index of the view among the model's cameras.
        mocap: (m,) int64, which of its mocap bodies are the markers that the task places.
        rays: (H, W, 3), directions through the pixels in the camera's axes, unit length; of several samples, the first.

    Raises:
        UserError: If mujoco-warp is missing, or there is no such view or field.
    """

    def __init__(
        self,
        task: Task,
        config: CameraConfig,
        device: torch.device | str = "cpu",
        fields: Sequence[str] = ("rgb",),
    ) -> None:
        for name in fields:
            if name not in FIELDS or not FIELDS[name].drawn:
                raise UserError(f"camera.sees={name}: cameras have no such field{near_matches(name, FIELDS)}")
        self._warp, self._mujoco_warp = import_warp("camera.size")
        self.task, self.config, self.fields, self.device = task, config, tuple(fields), torch.device(device)
        scene = compile_scene(task, config.view)
        self.model, self.facts, self.view = scene.model, scene.facts, scene.camera
        self.mocap = torch.from_numpy(scene.mocap).to(self.device)
        self._chunks: dict[int, _Chunk] = {}
        self._kernel: Any = None
        with on_device(self._warp, self.device):
            self._model = self._mujoco_warp.put_model(for_warp(self.model))
        self.rays = self._directions(self._chunk(1))

    def frames(
        self, qpos: Tensor, memory: Mapping[str, Tensor] | None = None, previous: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return pictures of simulations.

        Args:
            qpos: (n, nq) positions, finite.
            memory: What the task remembers of them, (n, size) each; None for a task that remembers nothing.
            previous: (n, nq), positions at another time, for "flow"; None for the same.

        Returns:
            The fields asked for: "rgb" (n, 3, H, W) uint8; "depth", "ids", "normals", "flashes" and "flow" as `FIELDS`
            says them.
        """
        found: dict[str, list[Tensor]] = {name: [] for name in self.fields}
        for part in self._parts(len(qpos)):
            given = {name: value[part] for name, value in (memory or {}).items()}
            for name, value in self._draw(qpos[part], given, None if previous is None else previous[part]).items():
                found[name].append(value)
        shape = (self.config.size, self.config.size)
        empty = {name: torch.zeros(0, FIELDS[name].channels, *shape, device=self.device) for name in self.fields}
        return {name: torch.cat(values) if values else empty[name] for name, values in found.items()}

    def motion(self, qpos: Tensor, other: Tensor, memory: Mapping[str, Tensor] | None = None) -> Motion:
        """Return where what is seen at `qpos` (n, nq) is at `other`, with depths (`envs.motion`)."""
        parts = []
        for part in self._parts(len(qpos)):
            given = {name: value[part] for name, value in (memory or {}).items()}
            with on_device(self._warp, self.device):
                chunk = self._pose(qpos[part], given)
                self._trace(chunk)
                parts.append(self._moved(chunk, other[part], given))
        return Motion(*(torch.cat(values) for values in zip(*parts, strict=True)))

    # -- chunks -----------------------------------------------------------------------------------------------

    def _parts(self, count: int) -> Iterator[slice]:
        """Yield slices of powers of two that cover `count` environments, the largest first."""
        size, begin = _LARGEST_CHUNK[self.device.type], 0
        while begin < count:
            while size > count - begin:
                size //= 2
            yield slice(begin, begin + size)
            begin += size

    def _chunk(self, count: int) -> _Chunk:
        """Return what `count` worlds are drawn with; made when first wanted."""
        if count in self._chunks:
            return self._chunks[count]
        side = self.config.size
        with on_device(self._warp, self.device):
            data = self._mujoco_warp.make_data(self.model, nworld=count, nconmax=1, njmax=1)
            context = self._mujoco_warp.create_render_context(
                self.model,
                count,
                cam_res=(side, side),
                render_rgb=True,
                render_depth=True,
                render_seg=True,
                cam_active=[self.view],
                render_skybox=True,
                samples_per_pixel=self.config.samples,
            )
            context._megakernel = self._kernel  # building it takes longer than launching it, and it knows no counts
            tensor, camera = self._warp.to_torch, self.view
            chunk = _Chunk(
                data,
                context,
                tensor(data.qpos),
                tensor(data.mocap_pos),
                Poses(
                    tensor(data.geom_xpos),
                    tensor(data.geom_xmat),
                    tensor(data.cam_xpos)[:, camera],
                    tensor(data.cam_xmat)[:, camera],
                ),
                tensor(context.rgb_data).view(torch.uint8).view(count, side, side, 4),
                tensor(context.depth_data).view(count, 1, side, side),
                tensor(context.seg_data)[..., 0].view(count, 1, side, side),
            )
        return self._chunks.setdefault(count, chunk)

    # -- a chunk's pictures -----------------------------------------------------------------------------------

    def _pose(self, qpos: Tensor, memory: Mapping[str, Tensor]) -> _Chunk:
        """Put as many worlds as there are positions into them."""
        qpos, places = self.task.shown(self.facts, qpos, memory)
        chunk = self._chunk(len(qpos))
        chunk.qpos.copy_(qpos)
        if places.shape[1]:
            chunk.mocap[:, self.mocap] = places.to(chunk.mocap)
        for compute in (self._mujoco_warp.kinematics, self._mujoco_warp.com_pos, self._mujoco_warp.camlight):
            compute(self._model, chunk.data)
        return chunk

    def _trace(self, chunk: _Chunk) -> None:
        self._mujoco_warp.refit_bvh(self._model, chunk.data, chunk.context)
        self._mujoco_warp.render(self._model, chunk.data, chunk.context)
        self._kernel = chunk.context._megakernel

    def _draw(self, qpos: Tensor, memory: Mapping[str, Tensor], previous: Tensor | None) -> dict[str, Tensor]:
        with on_device(self._warp, self.device):
            chunk = self._pose(qpos, memory)
            self._trace(chunk)
            made: dict[str, Tensor] = {}
            normals: Tensor | None = None
            for name in self.fields:  # flow last: it moves the worlds
                if name == "rgb":
                    made[name] = chunk.rgb[..., [2, 1, 0]].movedim(-1, 1).contiguous()
                elif name == "depth":
                    made[name] = chunk.depth.clone()
                elif name == "ids":
                    made[name] = chunk.ids.long()
                elif name in ("normals", "flashes"):
                    normals = self._normals(chunk) if normals is None else normals
                    made[name] = normals if name == "normals" else self._flashes(chunk, normals)
            if "flow" in self.fields:
                made["flow"] = self._moved(chunk, qpos if previous is None else previous, memory).flow
            return {name: made[name] for name in self.fields}

    def _moved(self, chunk: _Chunk, other: Tensor, memory: Mapping[str, Tensor]) -> Motion:
        now = Poses(*(pose.clone() for pose in chunk.poses))
        depth, ids = chunk.depth.clone(), chunk.ids.long()
        return motion(self.rays, depth, ids, now, self._pose(other, memory).poses)

    def _directions(self, chunk: _Chunk) -> Tensor:
        side = self.config.size
        return self._warp.to_torch(chunk.context.ray)[: side * side].view(side, side, 3).clone()

    def _flashes(self, chunk: _Chunk, normals: Tensor) -> Tensor:
        return flash(normals, chunk.ids.long(), self.rays, surfaces(self.model, self.device), flash_lights())

    def _normals(self, chunk: _Chunk) -> Tensor:
        """Return the surfaces' normals (n, 3, H, W) in the camera's axes; zeros where nothing is."""
        warp, turn, side = self._warp, chunk.poses.camera_turn, self.config.size
        count, number = len(turn), side * side
        along = (self.rays.flatten(0, 1) @ turn.mT).contiguous()
        start = chunk.poses.camera_place.unsqueeze(1).expand(count, number, 3).contiguous()
        every = torch.full((number,), -1, dtype=torch.int32, device=self.device)
        distance, normal = torch.zeros(count, number, device=self.device), torch.zeros_like(along)
        geom = torch.zeros(count, number, dtype=torch.int32, device=self.device)
        self._mujoco_warp.rays(
            self._model,
            chunk.data,
            warp.from_torch(start, dtype=warp.vec3),
            warp.from_torch(along, dtype=warp.vec3),
            self._mujoco_warp._src.types.vec6(*([-1.0] * 6)),
            True,
            warp.from_torch(every),
            warp.from_torch(distance),
            warp.from_torch(geom),
            warp.from_torch(normal, dtype=warp.vec3),
            chunk.context,
        )
        seen = torch.where((chunk.ids >= 0).flatten(1).unsqueeze(-1), normal @ turn, 0.0)
        return seen.mT.unflatten(2, (side, side)).contiguous()
