"""From a box in a picture to a point in the world: its middle, the depth inside it, and where the camera stands.

Shapes: B environments, H and W sides of a picture; a camera looks along its -z, x is right and y up.
"""

# MuJoCo's compiled modules have no type stubs.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from typing import NamedTuple

import mujoco
import torch
from torch import Tensor

from envs.cameras import Cameras
from rlsuite.errors import require


class StandingCamera(NamedTuple):
    """A camera that never moves.

    Attributes:
        place: (3,) in the world, metres.
        turn: (3, 3), from the camera's axes to the world's.
        rays: (H, W, 3), directions through the pixels, in the camera's axes.
    """

    place: Tensor
    turn: Tensor
    rays: Tensor

    @staticmethod
    def of(cameras: Cameras) -> StandingCamera:
        """Return the camera of a view that hangs on the world.

        Raises:
            UserError: if it hangs on a body, and so may move.
        """
        model, view = cameras.model, cameras.view
        standing = int(model.cam_bodyid[view]) == 0 and int(model.cam_mode[view]) == 0
        require(standing, f"camera.view={cameras.config.view}: goals come from cameras that stand still; name another")
        data = mujoco.MjData(model)
        mujoco.mj_forward(model, data)
        place, turn = (torch.tensor(array, dtype=torch.float32) for array in (data.cam_xpos[view], data.cam_xmat[view]))
        device = cameras.rays.device
        return StandingCamera(place.to(device), turn.view(3, 3).to(device), cameras.rays)


def point_in_box(boxes: Tensor, depth: Tensor, camera: StandingCamera, inside: float = 0.0) -> tuple[Tensor, Tensor]:
    """Return points (B, 3) in the world, and whether there is anything to see in each box, (B,) bool.

    Args:
        boxes: (B, 4), x1, y1, x2, y2 in pixels.
        depth: (B, 1, H, W), metres along the camera's forward axis; 0 where nothing is.
        camera: see there.
        inside: metres by which the point lies behind the surface that is seen.
    """
    height, width = depth.shape[-2:]
    middle = 0.5 * (boxes[:, :2] + boxes[:, 2:])
    half = 0.25 * (boxes[:, 2:] - boxes[:, :2])  # the central half of each side; a pixel at least
    x = torch.arange(width, device=depth.device) + 0.5
    y = torch.arange(height, device=depth.device) + 0.5
    reach = half.clamp_min(0.5)
    across = (x - middle[:, :1]).abs() <= reach[:, :1]
    down = (y - middle[:, 1:]).abs() <= reach[:, 1:]
    kept = down.unsqueeze(2) & across.unsqueeze(1) & (depth.squeeze(1) > 0)
    median = torch.where(kept, depth.squeeze(1), torch.nan).flatten(1).nanmedian(dim=1).values
    there = torch.isfinite(median)
    rays = camera.rays / -camera.rays[..., 2:]  # one metre forward, where pixels lie evenly
    step = torch.stack(
        [(rays[0, -1, 0] - rays[0, 0, 0]) / (width - 1), (rays[-1, 0, 1] - rays[0, 0, 1]) / (height - 1)]
    )
    slope = rays[0, 0, :2] + (middle - 0.5) * step
    forward = torch.where(there, median, 0.0) + inside
    local = torch.cat([slope, -torch.ones_like(slope[:, :1])], dim=1) * forward.unsqueeze(1)
    return local @ camera.turn.mT + camera.place, there
