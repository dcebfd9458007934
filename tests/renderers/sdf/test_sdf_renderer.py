"""Signed distances rendered: by closed form, against plain marching, gradients by sign and by differences."""

import math
from dataclasses import replace

import pytest
import torch

from renderers.sdf.camera import (
    Pinhole,
    from_mujoco,
    inverse,
    normals_of_depth,
    pinhole,
    quaternion_of,
    times,
    turn_of,
)
from renderers.sdf.march import FAR, MarchConfig, march, meet_sphere
from renderers.sdf.renderer import SDFRenderer
from renderers.sdf.shapes import Primitive, Union
from rlsuite.errors import UserError

PLAIN = MarchConfig(steps=200, scales=(1,), coarse_steps=(), relaxation=1.0)
EYE = torch.eye(3)[None]
AWAY = torch.tensor([[0.0, 0.0, 3.0]])


def nothing(views=1):
    return torch.zeros(views, 0)


def quaternions(count, seed=0):
    return torch.nn.functional.normalize(torch.randn(count, 4, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_quaternions():
    q, p = quaternions(200), quaternions(200, 1)
    assert (turn_of(q) @ turn_of(q).mT - torch.eye(3)).abs().max() < 1e-6
    assert torch.allclose(turn_of(times(q, p)), turn_of(q) @ turn_of(p), atol=1e-5)
    assert torch.allclose(turn_of(inverse(q)), turn_of(q).mT, atol=1e-6)
    assert torch.allclose(quaternion_of(turn_of(q)), q * torch.where(q[:, :1] < 0, -1.0, 1.0), atol=1e-5)
    half = torch.tensor([math.sqrt(0.5), 0.0, 0.0, math.sqrt(0.5)])  # a right angle about z: x becomes y
    assert torch.allclose(turn_of(3.0 * half) @ torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0]), atol=1e-6)


def test_mujocos_cameras_look_the_other_way():
    """A camera at z = 2 with MuJoCo's own axes looks down: the origin is 2 ahead, world y is up, so -y in pictures."""
    rotation, shift = from_mujoco(torch.tensor([[0.0, 0.0, 2.0]]), torch.eye(3)[None])
    seen = rotation[0] @ torch.tensor([[0.0, 0.0, 0.0], [0.1, 0.0, 0.0], [0.0, 0.1, 0.0]]).T + shift[0][:, None]
    assert torch.allclose(seen.T, torch.tensor([[0.0, 0.0, 2.0], [0.1, 0.0, 2.0], [0.0, -0.1, 2.0]]))


def test_blocks_and_strides():
    camera = Pinhole(5, 7, (10.0, 20.0), (3.0, 2.0))
    slopes = camera.slopes(2).view(3, 4, 2)  # blocks' centers are at 2 i + 1/2
    assert slopes[1, 2].tolist() == pytest.approx([(4.5 - 3.0) / 10.0, (2.5 - 2.0) / 20.0])
    whole = camera.slopes().view(5, 7, 2)
    assert torch.allclose(camera.strided(3).slopes().view(2, 2, 2), whole[1::3, 1::3])
    assert torch.allclose(camera.rays().norm(dim=1), torch.ones(35))


def test_meeting_the_sphere_by_hand():
    along = torch.tensor([[[0.0, 0.0, 1.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0], [0.0, 0.6, 0.8]]])
    distance, inside, first, last = meet_sphere(torch.tensor([[0.0, 0.0, -3.0]]), along)
    assert distance[0].tolist() == pytest.approx([0.0, 3.0, 3.0, 1.8], abs=1e-6)  # away: as far as the camera is
    assert inside[0].tolist() == [True, False, False, False]
    assert (first[0, 0].item(), last[0, 0].item()) == pytest.approx((2.0, 4.0))
    _, inside, first, last = meet_sphere(torch.tensor([[0.0, 0.0, 0.5]]), along)
    assert inside.all()
    assert first.abs().max() == 0
    assert last[0, :2].tolist() == pytest.approx([0.5, 1.5])


@pytest.mark.parametrize(
    "config", [PLAIN, MarchConfig(), MarchConfig(split="depth"), MarchConfig(scales=(3, 1), coarse_steps=(2,))]
)
def test_a_sphere_by_closed_form(config):
    """Depth, normals and silhouette of a sphere, of an odd size, are those of the formula."""
    camera = Pinhole(29, 33, (40.0, 40.0), (15.0, 14.0))
    seen = SDFRenderer(Primitive("sphere", [0.7]), camera, replace(config, steps=200)).render(nothing(), EYE, AWAY)
    rays = camera.rays()
    forward = (rays * AWAY).sum(1)
    room = forward.square() - 9.0 + 0.49
    inner = (room > 0.02).view(29, 33)
    distance = forward - room.clamp_min(0.0).sqrt()
    depth = (distance * rays[:, 2]).view(29, 33)
    assert seen.mask[0][inner].all()
    assert not seen.mask[0][(room < 0.0).view(29, 33)].any()
    assert (seen.depth[0] - depth).abs()[inner].max() < 1e-3
    normal = ((rays * distance[:, None] - AWAY) / 0.7).T.view(3, 29, 33)
    assert (seen.normal[0] - normal).abs()[:, inner].max() < 3e-3
    assert (seen.depth[0][~seen.mask[0]] == FAR).all()
    assert seen.normal[0][:, ~seen.mask[0]].abs().max() == 0
    # Rays that miss the object are told how far they do; those that miss the bounding sphere by how much.
    missed = ((9.0 - forward.square()).sqrt() - torch.where(forward.square() > 8.0, 0.7, 1.0)).view(29, 33)
    assert (seen.min_sdf[0] - missed).abs()[~seen.mask[0] & (missed.abs() < 0.29)].max() < 0.08


def test_company_and_chunks_change_nothing():
    body = Union([Primitive("box", [0.5, 0.3, 0.2]), Primitive("capsule", [0.1, 0.6])])
    camera, rotation = pinhole(17, 40.0), turn_of(quaternions(3))
    shift = AWAY.expand(3, -1)
    together = SDFRenderer(body, camera).render(nothing(3), rotation, shift)
    small = SDFRenderer(body, camera, MarchConfig(chunk=37)).render(nothing(3), rotation, shift)
    for name in ("depth", "mask", "normal", "min_sdf"):
        assert torch.equal(getattr(together, name), getattr(small, name))
        for i in range(3):
            alone = SDFRenderer(body, camera).render(nothing(), rotation[i : i + 1], shift[:1])
            assert torch.allclose(getattr(alone, name)[0].float(), getattr(together, name)[i].float(), atol=1e-5)


def test_every_trick_saves_queries():
    body, camera, rotation = Primitive("box", [0.6, 0.5, 0.4]), pinhole(32, 40.0), turn_of(quaternions(2))
    plain = replace(PLAIN, steps=50)
    counts = [
        march(body, nothing(2), camera, rotation, AWAY.expand(2, -1), config)
        for config in (replace(plain, dynamic=False), plain, replace(plain, relaxation=1.5), MarchConfig())
    ]
    queries = [one.queries for one in counts]
    assert queries[0] == 50 * int(counts[0].inside.sum())
    assert queries == sorted(queries, reverse=True)
    assert queries[-1] < 0.15 * queries[0]


def test_the_smallest_are_kept():
    """k points of a ray are those of a plain march, sorted; unqueried ones are infinite."""
    body, camera = Primitive("sphere", [0.5]), pinhole(5, 20.0)
    found = march(body, nothing(), camera, EYE, AWAY, replace(PLAIN, keep=4))
    length, values = 2.0, []
    for _ in range(200):  # the middle ray: from the sphere's front, 0.5 of distance in steps of at most 0.1
        f = abs(3.0 - length) - 0.5
        values.append((abs(f), length))
        if abs(f) < 5e-5:
            break
        length += max(-0.1, min(0.1, f))
    best = sorted(values)[:4]
    assert found.length[0, 12].tolist() == pytest.approx([where for _, where in best], abs=1e-5)
    few = march(body, nothing(), camera, EYE, AWAY, MarchConfig(steps=2, scales=(1,), coarse_steps=(), keep=3))
    assert few.value[0, 12, 2] == math.inf
    assert not few.hit.any()


def gradient(camera, config, kind, size=0.5):
    code = torch.tensor([[size]], requires_grad=True)
    shift = AWAY.clone().requires_grad_()
    seen = SDFRenderer(Primitive("sphere"), camera, config, gradient=kind).render(code, EYE, shift)
    middle = seen.depth[0, camera.height // 2, camera.width // 2]
    return seen, torch.autograd.grad(middle, [code, shift], retain_graph=True)


def test_depths_gradients():
    """At the middle pixel grad f . ray is -1, so both modes give the true derivative; k points add up to k times it."""
    camera = pinhole(9, 20.0)
    for kind, keep, times_true in (("march", 1, 1.5), ("march", 3, 4.5), ("implicit", 1, 1.0)):
        _, (size, shift) = gradient(camera, MarchConfig(keep=keep), kind)
        assert size.item() == pytest.approx(-times_true, abs=1e-4)  # a larger sphere is nearer
        assert shift[0].tolist() == pytest.approx([0.0, 0.0, times_true], abs=1e-3)


def test_implicit_gradients_are_the_true_ones():
    camera = pinhole(9, 20.0)
    config = replace(PLAIN, tolerance=1e-6)
    code = torch.tensor([[0.5]], requires_grad=True)
    seen = SDFRenderer(Primitive("sphere"), camera, config, gradient="implicit").render(code, EYE, AWAY)
    (found,) = torch.autograd.grad(seen.depth[seen.mask].sum(), code)
    rays = camera.rays()[seen.mask.flatten()]
    forward = (rays * AWAY).sum(1)
    true = (-0.5 / (forward.square() - 9.0 + 0.25).sqrt() * rays[:, 2]).sum()
    assert found.item() == pytest.approx(true.item(), rel=2e-3)


def test_silhouettes_and_normals_have_gradients():
    camera, shift = pinhole(16, 60.0), AWAY.clone().requires_grad_()
    code = torch.tensor([[0.5]], requires_grad=True)
    seen = SDFRenderer(Primitive("sphere"), camera).render(code, EYE, shift)
    (size,) = torch.autograd.grad(seen.min_sdf[~seen.mask].sum(), code, retain_graph=True)
    assert size.item() < 0  # larger: fewer miss
    corner = torch.autograd.grad(seen.min_sdf[0, 0, 0], shift, retain_graph=True)[0]
    assert corner[0, 0] > 0  # outside of the bounding sphere: away to the right, farther from the left corner's ray
    right = torch.autograd.grad(seen.normal[0, 0, 8, 8], shift)[0]
    assert right[0, 0] < 0  # the sphere moves right: there the pixel shows more of its left


def test_buried_cameras():
    """Inside of the object everything is a miss on one scale, and escape says how to get out."""
    camera = pinhole(4, 40.0)
    code = torch.tensor([[0.8]], requires_grad=True)
    for escape in (False, True):
        renderer = SDFRenderer(Primitive("sphere"), camera, replace(PLAIN, steps=1), escape=escape)
        seen = renderer.render(code, EYE, torch.zeros(1, 3))
        assert not seen.mask.any()
        expected = 0.8 + 1e-4 + 0.1 if escape else -0.8
        assert seen.min_sdf.flatten().tolist() == pytest.approx([expected] * 16)


def test_normals_of_a_depth():
    camera = pinhole(24, 30.0)
    seen = SDFRenderer(Primitive("sphere", [0.8]), camera, replace(PLAIN, tolerance=1e-6)).render(nothing(), EYE, AWAY)
    normal, known = normals_of_depth(seen.depth, seen.mask, camera)
    assert known.sum() > 50
    facing = known & (seen.normal[:, 2] < -0.6)
    assert (normal * seen.normal).sum(1)[facing].min() > 0.98
    by_depth = SDFRenderer(Primitive("sphere", [0.8]), camera, normals="depth").render(nothing(), EYE, AWAY)
    assert (by_depth.normal * seen.normal).sum(1)[facing].min() > 0.97


def test_nothing_in_view():
    camera, code = pinhole(8, 20.0), torch.tensor([[0.5]], requires_grad=True)
    seen = SDFRenderer(Primitive("sphere"), camera).render(code, EYE, torch.tensor([[0.0, 0.0, -3.0]]))
    assert not seen.mask.any()
    assert (seen.min_sdf > 1.9).all()  # as far as the camera is from the sphere
    assert seen.queries == seen.rays == 0


def test_wrong_numbers_are_refused():
    for bad in (
        {"scales": (4, 3, 1)},
        {"scales": (2,)},
        {"steps": 6},
        {"keep": 0},
        {"split": "x"},
        {"relaxation": 0.0},
    ):
        with pytest.raises(UserError, match=f"{next(iter(bad))}="):
            MarchConfig(**bad)
    with pytest.raises(UserError, match="gradient=x"):
        SDFRenderer(Primitive("sphere", [1.0]), pinhole(4, 40.0), gradient="x")
