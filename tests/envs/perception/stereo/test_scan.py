"""Scans: cameras by hand, what the ray caster takes, normals by planes, points along contours, and all of it once."""

import math

import pytest
import torch
from torch.nn import functional

from envs.perception.stereo.azimuth_normals import azimuth_normals
from envs.perception.stereo.bodies import Body, CaptureConfig, photograph, poses
from envs.perception.stereo.capture import nearest, sample
from envs.perception.stereo.hull import frontier, hull_distances, in_hull
from envs.perception.stereo.propagate import agreed, as_points, consistent
from envs.perception.stereo.scan import filled, scan
from rlsuite.errors import UserError
from rlsuite.metrics.normals import angles

SMALL = CaptureConfig(size=20, views=10, rings=(6, 12), noise=0.0)


@pytest.fixture(scope="module")
def taken():
    body = Body("ellipsoid", 1)
    return body, *photograph(body, "glossy", SMALL, 0)


def test_points_are_where_they_are_seen(taken):
    body, capture, truth = taken
    rotations, _ = poses(10)
    torch.testing.assert_close(rotations @ rotations.mT, torch.eye(3).expand(10, 3, 3), atol=1e-5, rtol=0)
    assert torch.linalg.det(rotations).tolist() == pytest.approx([1.0] * 10, abs=1e-5)
    torch.testing.assert_close(capture.centers().norm(dim=1), torch.full((10,), 10.0))
    pixels, mask = capture.pixels(3), capture.masks[3]
    points = capture.lift(3, pixels, truth[3][mask])
    assert float(body(points).abs().max()) < 3e-3
    again, distances = capture.project(3, points)
    torch.testing.assert_close(again, pixels, atol=1e-3, rtol=0)
    torch.testing.assert_close(distances, truth[3][mask])
    up = capture.project(0, torch.tensor([[0.0, 0.0, 0.5], [0.0, 0.0, -0.5]]))[0]
    assert float(up[0, 1]) < float(up[1, 1])  # rows run down
    assert float(capture.middle().norm()) < 0.15
    assert capture.size() == pytest.approx(2.2, abs=0.4)


def test_lights_are_near_and_weaken_with_the_squared_distance(taken):
    _, capture, _ = taken
    toward, irradiance = capture.toward(0, torch.tensor([[0.0, 0.0, 10.0], [0.0, 0.0, 20.0]]))
    tilts = torch.rad2deg((-toward[0, :, 2]).acos())
    assert tilts.tolist() == pytest.approx([22.0] * 6 + [42.0] * 12, abs=1e-2)
    assert irradiance[0].tolist() == pytest.approx([1.0] * 18, rel=1e-5)
    assert float(irradiance[1, 0]) == pytest.approx(
        (1 + math.tan(math.radians(22)) ** 2) / (4 + math.tan(math.radians(22)) ** 2)
    )


def test_normals_are_those_of_the_body_and_brightness_is_on_the_lights_side(taken):
    body, capture, truth = taken
    points, view = as_points(capture, truth)
    normals = body.normals(points)
    step = 1e-3 * functional.normalize(
        torch.linalg.cross(normals, torch.tensor([0.3, 0.5, 0.8]).expand_as(normals)), dim=1
    )
    assert float((body(points + step) - body(points)).abs().max()) < 3e-5
    assert float(((normals * (capture.centers()[view] - points)).sum(dim=1) > 0).float().mean()) > 0.98
    right = capture.lights[0, :, 0].argmax()  # its light comes from the right of the picture
    picture = capture.images[0, right].mean(dim=2)
    half = capture.masks[0].any(dim=0).nonzero().float().mean().round().int()
    assert float(picture[:, half:].sum()) > 1.2 * float(picture[:, :half].sum())


def test_the_hull_holds_the_body_and_its_frontier_is_on_it(taken):
    body, capture, truth = taken
    enter, leave = hull_distances(capture)
    seen = truth.isfinite() & enter.isfinite()
    assert float(seen.sum() / truth.isfinite().sum()) > 0.97
    assert float(((truth - enter)[seen] > -0.15).float().mean()) > 0.9  # a pixel; more at the rim
    points, _ = as_points(capture, truth)
    assert float(in_hull(capture, 0.9 * points).float().mean()) > 0.99
    assert bool((leave >= enter)[seen].all())
    assert not bool(in_hull(capture, torch.tensor([[0.0, 0.0, 1.4], [3.0, 0.0, 0.0]])).any())
    assert bool(in_hull(capture, torch.zeros(1, 3)).all())
    points = frontier(capture, 30)
    assert len(points) >= 10
    assert float(body(points).abs().median()) / 0.45 < 0.15


def test_planes_of_two_views_tell_a_normal_and_one_does_not(taken, generator):
    _, capture, _ = taken
    points = 0.1 * torch.randn(5, 3, generator=generator)
    truth = functional.normalize(torch.tensor([[1.0, 0.2, 0.1]]) + 0.2 * torch.randn(5, 3, generator=generator), dim=1)
    leaning = []
    for view, center in enumerate(capture.centers()):  # one normal a picture: pictures of one color
        eye = functional.normalize(center, dim=0)
        lean = truth - (truth @ eye).unsqueeze(1) * eye
        leaning.append(lean @ capture.rotations[view].T)
    sure = [torch.ones(20, 20)] * capture.views
    for row in range(5):
        fields = [functional.normalize(lean[row], dim=0).expand(20, 20, 3) for lean in leaning]
        visible = torch.zeros(capture.views, 1, dtype=torch.bool)
        visible[[0, 1, 9]] = True
        found, good = azimuth_normals(capture, fields, sure, 0.0 * points[:1], visible)
        assert float(angles(found, truth[row : row + 1])) < 0.05
        assert bool(good.all())
        visible[1:] = False
        assert not bool(azimuth_normals(capture, fields, sure, 0.0 * points[:1], visible)[1].any())


def test_values_that_agree_with_the_nearest_are_taken_by_their_median():
    index = torch.tensor([7, 3, 3, 3, 3, 7])
    value = torch.tensor([2.0, 1.0, 1.1, 5.0, 1.05, 9.0])
    along = torch.tensor([1.0, 4.0, 1.0, 2.0, 3.0, 2.0])
    places, found = agreed(index, value, along, 0.2)
    assert places.tolist() == [3, 7]
    assert found.tolist() == pytest.approx([1.05, 2.0])


def test_what_no_other_view_confirms_is_left_out(taken):
    _, capture, truth = taken
    kept = consistent(capture, truth, capture.size())
    assert float(kept.isfinite().sum() / truth.isfinite().sum()) > 0.6
    wrong = truth.clone()
    wrong[4] = truth[4] + 0.5
    assert int(consistent(capture, wrong, capture.size())[4].isfinite().sum()) < 0.1 * int(truth[4].isfinite().sum())
    full = filled(torch.where(truth > 9.2, truth, torch.nan), capture)
    assert bool(full.isfinite().all())


def test_pictures_between_pixels():
    picture = torch.arange(6.0).view(2, 3, 1)
    assert sample(picture, torch.tensor([[0.0, 0.0], [1.5, 0.5], [9.0, 9.0]]))[:, 0].tolist() == [0.0, 3.0, 5.0]
    place, within = nearest(torch.tensor([[2.4, 1.2], [2.6, 0.0], [-0.4, 0.0]]), (2, 3))
    assert place.tolist() == [5, 2, 0]
    assert within.tolist() == [True, False, True]


def test_a_small_scan_is_near_the_body(taken):
    pytest.importorskip("skimage", reason="scikit-image is not installed (extra: vision)")
    body, capture, truth = taken
    points, _ = as_points(capture, truth)
    chosen = points[torch.linspace(0, len(points) - 1, 60).long()]
    scanned = scan(capture, chosen, passes=1, cells=24)
    away = (body(scanned.mesh.vertices) / 0.45).abs()
    assert float(away.mean()) < 0.06
    assert float(angles(scanned.normals, body.normals(scanned.mesh.vertices)).median()) < 4.0
    with pytest.raises(UserError, match="make no surface"):
        scan(capture, torch.zeros(0, 3), passes=1, cells=24)


def test_bad_numbers_are_refused():
    with pytest.raises(UserError, match="rings"):
        CaptureConfig(rings=(6,), tilts=(20.0, 30.0))
    with pytest.raises(UserError, match="kind=cube"):
        Body("cube", 0)
