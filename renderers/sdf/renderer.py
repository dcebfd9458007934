"""Depth, normals and silhouettes of a signed distance function, with gradients for its code and the camera's pose.

The march itself is not recorded (DIST, section 3.3). The depth's gradient comes from the k points of each ray where |f|
was smallest: they are queried again with gradients, and each adds a (f - stopgrad(f)), which changes no value. That is
the true gradient's sign, not its size: the true one has -1 / (grad f . ray) for a factor, which gradient="implicit"
computes, bounded at 10. Gradients reach the pose through the points themselves. The official code's optional samples
behind the surface, which are for codes learned from nothing, are left out.

Shapes: B views, H and W sides, P = H W pixels, Z numbers of a code.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from renderers.sdf.camera import Pinhole, normals_of_depth
from renderers.sdf.march import FAR, MarchConfig, Marched, march, meet_sphere, query
from renderers.sdf.shapes import SDF
from rlsuite.errors import require_choice

_STEEPEST = -0.1  # of grad f . ray in the implicit gradient


class Rendering(NamedTuple):
    """What is seen of an object.

    Attributes:
        depth: (B, H, W) along the camera's axis; FAR where nothing is hit.
        mask: (B, H, W) bool, what is hit.
        normal: (B, 3, H, W) unit normals in the camera's axes (x right, y down, z forward); zeros where there is none.
        min_sdf: (B, H, W), f where |f| is smallest on the ray; of rays that miss the bounding sphere, how far they do.
        queries: how often the march asked for f.
        rays: that meet the bounding sphere.
    """

    depth: Tensor
    mask: Tensor
    normal: Tensor
    min_sdf: Tensor
    queries: int
    rays: int


class SDFRenderer:
    """Renders objects that lie in the unit sphere about the origin.

    Args:
        sdf: the object; a module is put into evaluation mode, and stays there.
        camera: of all views.
        config: how rays march.
        gradient: of depths: "march" (the paper's) or "implicit".
        escape: where the first query was negative, push the surface away from the camera: min_sdf becomes
            -min_sdf + 2 tolerance + truncation there.
        normals: "field" (the gradient of f), "depth" (central differences of the depth) or "none".
    """

    def __init__(
        self,
        sdf: SDF | nn.Module,
        camera: Pinhole,
        config: MarchConfig | None = None,
        *,
        gradient: str = "march",
        escape: bool = False,
        normals: str = "field",
    ) -> None:
        require_choice("gradient", gradient, ("march", "implicit"))
        require_choice("normals", normals, ("field", "depth", "none"))
        self.sdf: SDF = sdf.eval() if isinstance(sdf, nn.Module) else sdf
        self.camera, self.config = camera, config or MarchConfig()
        self.gradient, self.escape, self.normals = gradient, escape, normals

    def render(self, code: Tensor, rotation: Tensor, shift: Tensor) -> Rendering:
        """Render objects of codes (B, Z; Z may be 0) at poses (R (B, 3, 3), T (B, 3))."""
        config, shape = self.config, (len(shift), self.camera.height, self.camera.width)
        marched = march(self.sdf, code, self.camera, rotation, shift, config)
        rays = self.camera.rays(device=shift.device)
        center, along = -(shift.unsqueeze(1) @ rotation).squeeze(1), rays @ rotation
        seen = torch.nonzero(marched.inside.flatten()).squeeze(1)
        row, lines = seen // len(rays), along.flatten(0, 1)[seen]

        # Silhouettes: one query for every ray inside the sphere.
        length = marched.length.flatten(0, 1)[seen]
        f = query(self.sdf, center[row] + length[:, :1] * lines, code[row], config.chunk)
        nearest = f
        if self.escape:
            buried = marched.buried.flatten()[seen]
            nearest = torch.where(buried, -f + 2.0 * config.tolerance + config.truncation, f)
        missed = meet_sphere(center, along)[0].flatten() - 1.0 + config.tolerance
        min_sdf = missed.index_copy(0, seen, nearest)

        # Depths: of the rays that hit.
        hits = torch.nonzero(marched.hit.flatten()[seen]).squeeze(1)
        pixel, row, lines = seen[hits], row[hits], lines[hits]
        distance = self._distance(marched, pixel, center[row], lines, code[row], f[hits])
        forward = distance * rays[pixel % len(rays), 2]
        depth = torch.full_like(missed, FAR).index_copy(0, pixel, forward).view(shape)

        normal = missed.new_zeros(shape[0], 3, *shape[1:])
        if self.normals == "field":
            slope = self._slope(center[row] + distance.detach().unsqueeze(1) * lines, code[row])
            turned = (rotation[row] @ functional.normalize(slope, dim=-1).unsqueeze(-1)).squeeze(-1)
            normal = missed.new_zeros(len(missed), 3).index_copy(0, pixel, turned).view(*shape, 3).movedim(-1, 1)
        mask = marched.hit.view(shape)
        if self.normals == "depth":
            normal, _ = normals_of_depth(depth, mask, self.camera)
        return Rendering(depth, mask, normal, min_sdf.view(shape), marched.queries, len(seen))

    def _distance(
        self, marched: Marched, pixel: Tensor, center: Tensor, along: Tensor, code: Tensor, f: Tensor
    ) -> Tensor:
        """Return distances (N,) of hits whose best point had f (N,), with their gradient."""
        config, bound = self.config, self.config.truncation
        length, value = marched.length.flatten(0, 1)[pixel], marched.value.flatten(0, 1)[pixel]
        distance = length[:, 0] + value[:, 0].clamp(-bound, bound)  # a step of the whole f, not of a f
        if self.gradient == "implicit":
            if not f.requires_grad:
                return distance
            slope = self._slope((center + length[:, :1] * along).detach(), code.detach()).detach()
            steep = (slope * along.detach()).sum(-1).clamp_max(_STEEPEST)
            return distance - (f - f.detach()) / steep
        f = f.clamp(-bound, bound)
        distance = distance + config.relaxation * (f - f.detach())
        for number in range(1, config.keep if f.requires_grad else 1):
            points = center + length[:, number : number + 1] * along
            f = query(self.sdf, points, code, config.chunk).clamp(-bound, bound)
            f = torch.where(value[:, number].isfinite(), f, f.detach())
            distance = distance + config.relaxation * (f - f.detach())
        return distance

    def _slope(self, points: Tensor, code: Tensor) -> Tensor:
        """Return grad f (N, 3), itself differentiable where gradients are recorded."""
        recorded = torch.is_grad_enabled()
        with torch.enable_grad():
            points = points if points.requires_grad else points.detach().requires_grad_()
            f = query(self.sdf, points, code, self.config.chunk)
            (slope,) = torch.autograd.grad(f.sum(), points, create_graph=recorded)
        return slope
