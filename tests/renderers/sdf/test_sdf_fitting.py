"""Losses by hand; sizes, poses and similarities found again from depth, silhouettes and colors."""

from dataclasses import replace

import pytest
import torch

from renderers.sdf.camera import pinhole, turn_of
from renderers.sdf.fitting import PoseFitConfig, ShapeFitConfig, fit_pose, fit_shape, pyramid
from renderers.sdf.losses import LossWeights, Target, depth_loss, mask_losses, normal_loss, total_loss
from renderers.sdf.march import FAR, MarchConfig
from renderers.sdf.renderer import Rendering, SDFRenderer
from renderers.sdf.shapes import Primitive
from renderers.sdf.views import ViewsFitConfig, color_loss, fit_views, seen_through
from rlsuite.errors import UserError

EYE = torch.eye(3)[None]
AWAY = torch.tensor([[0.0, 0.0, 3.0]])


def row(*values):
    return torch.tensor([[values]])


def test_losses_by_hand():
    min_sdf = row(0.0, 0.3, 0.5, 0.0).requires_grad_()
    normal = torch.zeros(1, 3, 1, 4)
    normal[0, 2] = -1.0
    rendering = Rendering(row(2.0, FAR, FAR, 4.0), row(True, False, False, True), normal, min_sdf, 0, 4)
    target = Target(row(2.5, 1.0, 0.0, FAR), row(True, True, False, False), -normal)
    assert depth_loss(rendering, target).tolist() == [0.5]  # one pixel is known in both
    assert normal_loss(rendering, target).tolist() == pytest.approx([1.0])
    missing, surplus = mask_losses(rendering, target.mask, 0.1)
    assert missing.tolist() == pytest.approx([0.2])
    assert surplus.tolist() == pytest.approx([0.1])
    code = torch.tensor([[1.0, 3.0]])
    weights = LossWeights(depth=10.0, normal=5.0, missing=1.0, surplus=2.0, prior=0.5)
    total = total_loss(rendering, target, code, weights, 0.1)
    assert total.tolist() == pytest.approx([5.0 + 5.0 + 0.2 + 0.2 + 2.5])
    # Where there is nothing to compare, the loss is zero with a gradient of zero.
    nothing = Target(row(0.0, 0.0, 0.0, 0.0), rendering.mask)
    total = total_loss(rendering, nothing, code[:, :0], LossWeights(normal=0.0))
    (slope,) = torch.autograd.grad(total.sum(), min_sdf)
    assert (total.item(), slope.abs().sum().item()) == (0.0, 0.0)


def test_sizes_are_found():
    """Two spheres from sparse depth and silhouettes, and at once a third from its silhouette alone."""
    renderer = SDFRenderer(Primitive("sphere"), pinhole(24, 40.0), MarchConfig(keep=3))
    rotation, shift = EYE.expand(3, 3, 3), AWAY.expand(3, 3)
    truth = torch.tensor([[0.4], [0.8], [0.5]])
    with torch.no_grad():
        seen = renderer.render(truth, rotation, shift)
    kept = torch.rand(seen.mask.shape, generator=torch.Generator().manual_seed(0)) < 0.2
    kept[2] = False
    target = Target(torch.where(kept, seen.depth, 0.0), seen.mask)
    config = ShapeFitConfig(steps=16, learning_rate=3e-2, weights=LossWeights(normal=0.0, prior=0.0))
    levels = [(renderer, target)]
    found, loss = fit_shape(levels, torch.full((3, 1), 0.6), rotation, shift, config)
    assert (found - truth).abs().max() < 0.06
    assert loss.shape == (3,)
    alone, _ = fit_shape(
        [(renderer, Target(target.depth[:1], target.mask[:1]))], torch.full((1, 1), 0.6), EYE, AWAY, config
    )
    assert torch.allclose(alone[0], found[0], atol=1e-5)  # views do not know of each other
    three = pyramid(renderer, target)
    assert [one.config.keep for one, _ in three] == [1, 3, 5]
    assert [tuple(one.depth.shape[1:]) for _, one in three] == [
        (one.camera.height, one.camera.width) for one, _ in three
    ]
    with torch.no_grad():
        low = three[2][0].render(truth, rotation, shift)
    assert (low.mask == three[2][1].mask).float().mean() > 0.94
    _, loss = fit_shape(three, found, rotation, shift, replace(config, steps=1))
    single = [fit_shape([level], found, rotation, shift, replace(config, steps=1))[1] for level in three]
    assert torch.allclose(loss, torch.stack(single).sum(0), atol=1e-6)


def test_poses_are_found():
    renderer = SDFRenderer(Primitive("box", [0.7, 0.4, 0.2]), pinhole(24, 40.0), MarchConfig(keep=3))
    generator = torch.Generator().manual_seed(1)
    truth = torch.nn.functional.normalize(torch.randn(3, 4, generator=generator), dim=1)
    shift, code = AWAY.expand(3, 3), torch.zeros(3, 0)
    with torch.no_grad():
        seen = renderer.render(code, turn_of(truth), shift)
    start = truth + 0.05 * torch.randn(3, 4, generator=generator)
    near = shift + 0.05 * torch.randn(3, 3, generator=generator)
    target = Target(seen.depth, seen.mask, seen.normal)
    found, place, _ = fit_pose([(renderer, target)], code, start, near, PoseFitConfig(steps=40, learning_rate=1e-2))

    def angle(one):
        return 2 * torch.cosine_similarity(one, truth, dim=1).abs().clamp(max=1.0).acos()

    assert angle(found).median() < 0.5 * angle(start).median()
    assert (place - shift).norm(dim=1).median() < 0.5 * (near - shift).norm(dim=1).median()
    assert torch.allclose(found.norm(dim=1), torch.ones(3))


def striped(points):
    """Return colors (..., 3) of points of the world."""
    return torch.stack([torch.sin(6 * points[..., axis]) * 0.5 + 0.5 for axis in range(3)], -1)


def pictures_of(renderer, code, rotation, shift):
    with torch.no_grad():
        seen = renderer.render(code.expand(len(shift), -1), rotation, shift)
    world = (renderer.camera.points(seen.depth).flatten(1, 2) - shift[:, None]) @ rotation
    color = torch.where(seen.mask.flatten(1)[..., None], striped(world), 0.0)
    return color.mT.unflatten(2, seen.mask.shape[1:])


def around(count):
    angle = torch.arange(count) * 0.15
    quaternion = torch.stack([(angle / 2).cos(), 0 * angle, (angle / 2).sin(), 0 * angle], 1)
    return turn_of(quaternion), AWAY.expand(count, 3)


def test_colors_agree_for_the_true_shape_alone():
    renderer = SDFRenderer(Primitive("sphere"), pinhole(24, 40.0), normals="none")
    rotation, shift = around(4)
    truth = torch.tensor([0.7])
    pictures = pictures_of(renderer, truth, rotation, shift)
    losses = {}
    for size in (0.6, 0.7, 0.8):
        made = renderer.render(torch.full((1, 1), size), rotation[:1], shift[:1])
        other = renderer.render(torch.full((1, 1), size), rotation[1:2], shift[1:2])
        first = (made, pictures[:1], rotation[:1], shift[:1])
        losses[size] = color_loss(renderer.camera, first, (other, pictures[1:2], rotation[1:2], shift[1:2])).item()
    assert losses[0.7] < 0.5 * min(losses[0.6], losses[0.8])
    config = ViewsFitConfig(epochs=8, pairs=2, learning_rate=1e-2, prior=0.0)
    found, similarity = fit_views(renderer, pictures, rotation, shift, torch.tensor([0.6]), config)
    assert abs(found.item() - 0.7) < 0.04
    assert similarity.abs().max() == 0
    # Depths whose gradients are 1.5 times too large do not tell scale from depth: the similarity needs the true ones.
    small = Primitive("sphere", [0.6])
    fixed = SDFRenderer(small, renderer.camera, normals="none", gradient="implicit")
    config = ViewsFitConfig(epochs=12, pairs=2, learning_rate=1e-2, prior=0.0, similarity=True)
    _, similarity = fit_views(fixed, pictures, rotation, shift, torch.zeros(0), config)
    assert similarity[6] > 0.05  # the object is larger than the function says


def test_a_similarity_by_hand():
    """Twice as large, moved by 1 along x: a point y of the object is at 2 y + (1, 0, 0)."""
    similarity = torch.tensor([0.0, 0.0, torch.pi / 2, 1.0, 0.0, 0.0, 2.0]).clone()
    similarity[6] = torch.tensor(2.0).log()
    rotation, shift = around(3)
    turn, move = seen_through(similarity, rotation, shift)
    y = torch.tensor([0.1, 0.2, 0.3])
    world = 2.0 * torch.tensor([-0.2, 0.1, 0.3]) + torch.tensor([1.0, 0.0, 0.0])  # a right angle about z
    assert torch.allclose(2.0 * (turn @ y + move), rotation @ world + shift, atol=1e-5)


def test_wrong_numbers_are_refused():
    for kind, bad in (
        (ShapeFitConfig, {"steps": 0}),
        (PoseFitConfig, {"learning_rate": 0.0}),
        (LossWeights, {"depth": -1.0}),
        (ViewsFitConfig, {"pairs": 0}),
    ):
        with pytest.raises(UserError, match=f"{next(iter(bad))}="):
            kind(**bad)
