"""Meshes: a sphere from oriented points, refinement by normals, distances between surfaces, and files."""

import math

import mujoco
import pytest
import torch
from torch.nn import functional

from envs.perception.stereo.judge import nearest_distances, plane_distances, points_on, score
from envs.perception.stereo.refine import conjugate_gradients, refine
from envs.perception.stereo.reflectance import DIFFERENCE, HALF, Reflectance
from envs.perception.stereo.scan_files import phong, write_scan
from envs.perception.stereo.surface import Mesh, marching_cubes, poisson
from rlsuite.metrics.normals import angles

pytest.importorskip("skimage", reason="scikit-image is not installed (extra: vision)")


def sphere(cells=20, radius=0.7):
    at = torch.linspace(-1.0, 1.0, cells)
    field = torch.stack(torch.meshgrid(at, at, at, indexing="ij"), dim=-1).norm(dim=-1)
    step = 2.0 / (cells - 1)
    return marching_cubes(field, radius, torch.full((3,), -1.0 - 0.5 * step), step)


def test_marching_cubes_have_their_place_and_face_outward():
    mesh = sphere()
    torch.testing.assert_close(mesh.vertices.norm(dim=1), torch.full((len(mesh.vertices),), 0.7), atol=5e-3, rtol=0)
    assert float(angles(mesh.normals(), mesh.vertices).max()) < 8.0
    assert len(mesh.vertices) - len(mesh.edges()) + len(mesh.faces) == 2  # Euler's formula


def test_poisson_closes_a_sphere_through_uneven_points(generator):
    points = functional.normalize(torch.randn(1500, 3, generator=generator), dim=1)
    points = torch.cat([points[points[:, 2] > -0.8], points[:200] * torch.tensor([1.0, 1.0, 1.0])])
    mesh = poisson(2.0 * points + 5.0, points, cells=32)
    away = (mesh.vertices - 5.0).norm(dim=1)
    seen = mesh.vertices[:, 2] > 5.0 - 1.5
    assert float((away[seen] - 2.0).abs().mean()) < 0.04
    assert float(angles(mesh.normals()[seen], mesh.vertices[seen] - 5.0).mean()) < 4.0


def test_refining_by_true_normals_smooths_a_noisy_sphere(generator):
    mesh = sphere()
    truth = functional.normalize(mesh.vertices, dim=1)
    noisy = Mesh(mesh.vertices + 0.02 * torch.randn(mesh.vertices.shape, generator=generator), mesh.faces)
    better = refine(noisy, truth)
    before, after = ((one.vertices.norm(dim=1) - 0.7).std() for one in (noisy, better))
    assert float(after) < 0.5 * float(before)
    assert float(angles(better.normals(), truth).mean()) < 0.5 * float(angles(noisy.normals(), truth).mean())


def test_refinement_solves_its_normal_equations(generator):
    mesh = Mesh(torch.randn(4, 3, generator=generator), torch.tensor([[0, 1, 2], [0, 2, 3]]))
    normals = functional.normalize(torch.randn(4, 3, generator=generator), dim=1)
    moved = refine(mesh, normals, mu=0.3, rounds=50).vertices.double().requires_grad_()
    cost = 0.3 * (moved - mesh.vertices).square().sum()
    for first, second in mesh.edges().tolist():
        edge = moved[second] - moved[first]
        cost = cost + 0.7 * ((normals[first] @ edge.float()) ** 2 + (normals[second] @ edge.float()) ** 2)
    (slope,) = torch.autograd.grad(cost, moved)
    assert float(slope.abs().max()) < 1e-4
    matrix = torch.tensor([[4.0, 1.0], [1.0, 3.0]])
    solved = conjugate_gradients(lambda value: matrix @ value, torch.tensor([[1.0], [2.0]]), torch.zeros(2, 1), 5)
    torch.testing.assert_close(solved, torch.tensor([[1 / 11], [7 / 11]]))


def test_distances_between_two_spheres(generator):
    small, large = sphere(radius=0.6), sphere(radius=0.7)
    found = score(small, large, small.normals(), count=2000)
    assert found["to surface"] == pytest.approx(0.1, abs=0.005)
    assert 0.1 <= found["accuracy"] < 0.11
    assert found["chamfer"] == pytest.approx(0.5 * (found["accuracy"] + found["completeness"]))
    assert found["degrees"] < 5.0
    points = points_on(large, 3000, 0)
    assert float(points.mean(dim=0).abs().max()) < 0.03
    assert float(plane_distances(points, large).mean()) < 0.003
    one, other = torch.randn(70, 3, generator=generator), torch.randn(40, 3, generator=generator)
    plain = torch.tensor([min(float((a - b).norm()) for b in other) for a in one])
    torch.testing.assert_close(nearest_distances(one, other), plain)


def test_a_scan_becomes_an_asset_that_mujoco_reads(tmp_path):
    mesh = sphere(12)
    theta = 0.5 * math.pi * ((torch.arange(HALF) + 0.5) / HALF) ** 2
    table = torch.tensor([0.2, 0.4, 0.6]) + 0.5 * (theta.cos() ** 64).view(-1, 1, 1)
    known = Reflectance(torch.ones(len(mesh.vertices), 1), table.expand(1, HALF, DIFFERENCE, 3).clone())
    color, strength, exponent = phong(known)
    assert color.tolist() == pytest.approx([0.2, 0.4, 0.6], abs=1e-2)
    assert (strength, exponent) == (pytest.approx(0.5, abs=0.02), pytest.approx(64, rel=0.1))
    write_scan(tmp_path / "scan", mesh, mesh.normals(), known)
    model = mujoco.MjModel.from_xml_path(str(tmp_path / "scan" / "object.xml"))
    assert model.nmesh == 1
    assert int(model.mesh_vertnum[0]) == len(mesh.vertices)
    assert model.mat_rgba[0].tolist() == pytest.approx([0.2, 0.4, 0.6, 1.0], abs=1e-2)
    assert float(model.mat_shininess[0]) == pytest.approx(0.5, rel=0.1)
    first = (tmp_path / "scan" / "mesh.obj").read_text().splitlines()[0].split()
    assert [float(word) for word in first[1:]] == pytest.approx(mesh.vertices[0].tolist(), rel=1e-4)
