"""Scans in files: OBJ for anybody, weights and tables beside it, and an asset for MuJoCo.

MuJoCo's materials are one color with a highlight: the mean of the tables at large angles, and the strength and exponent
of a cosine's power that is nearest to what lies above it (shininess is the exponent over 128).

Shapes: V vertices, B basis materials, T and D bins.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from envs.perception.stereo.reflectance import HALF, Reflectance
from envs.perception.stereo.surface import Mesh
from rlsuite.records.files import write_atomically
from rlsuite.weights_file import write_weights

FORMAT = "rlsuite scan 1"


def write_scan(folder: Path, mesh: Mesh, normals: Tensor, reflectance: Reflectance | None = None) -> None:
    """Write mesh.obj, and with a reflectance reflectance.safetensors and object.xml, which MuJoCo reads.

    Args:
        folder: is made if it is not there.
        mesh: V vertices; MuJoCo takes their numbers for metres.
        normals: (V, 3).
        reflectance: of the vertices.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"v {x:.6g} {y:.6g} {z:.6g}" for x, y, z in mesh.vertices.tolist()]
    lines += [f"vn {x:.5f} {y:.5f} {z:.5f}" for x, y, z in normals.tolist()]
    lines += [f"f {a}//{a} {b}//{b} {c}//{c}" for a, b, c in (mesh.faces + 1).tolist()]
    write_atomically(folder / "mesh.obj", "\n".join([*lines, ""]))
    if reflectance is None:
        return
    write_weights(folder / "reflectance.safetensors", reflectance._asdict(), {}, format=FORMAT)
    color, specular, exponent = phong(reflectance)
    rgb = " ".join(f"{value:.4f}" for value in color.clamp(0.0, 1.0).tolist())
    shininess = min(exponent / 128.0, 1.0)
    xml = f"""<mujoco model="scan">
  <asset>
    <mesh name="scan" file="mesh.obj"/>
    <material name="scan" rgba="{rgb} 1" specular="{min(specular, 1.0):.4f}" shininess="{shininess:.4f}"/>
  </asset>
  <worldbody>
    <body name="scan">
      <geom type="mesh" mesh="scan" material="scan"/>
    </body>
  </worldbody>
</mujoco>
"""
    write_atomically(folder / "object.xml", xml)


def phong(reflectance: Reflectance) -> tuple[Tensor, float, float]:
    """Return the color (3,), highlight's strength and exponent nearest to the mean of a reflectance.

    The tables hold radiance over irradiance and n.l; a highlight that is not scaled by n.l has there the value over
    n.l, for which the cosine of the difference angle stands: where n and half vector agree they are the same.
    """
    table = (reflectance.weights.mean(dim=0).view(-1, 1, 1, 1) * reflectance.tables).sum(dim=0)  # (T, D, 3)
    theta = 0.5 * math.pi * ((torch.arange(HALF) + 0.5) / HALF) ** 2
    few = table[:, : table.shape[1] // 2].mean(dim=1)  # of small difference angles: those that were seen
    color = few[(theta > math.radians(35.0)) & (theta < math.radians(60.0))].mean(dim=0)
    above = (few - color).mean(dim=1).clamp_min(0.0)
    exponents = torch.logspace(0.0, math.log10(128.0), 60)
    shapes = theta.cos().clamp_min(1e-6) ** exponents.unsqueeze(1)  # (60, T)
    strengths = (shapes @ above) / shapes.square().sum(dim=1)
    left = (above - strengths.unsqueeze(1) * shapes).square().sum(dim=1)
    best = int(left.argmin())
    return color, float(strengths[best]), float(exponents[best])
