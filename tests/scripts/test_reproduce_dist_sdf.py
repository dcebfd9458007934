"""The DIST experiment: its claims and measures by hand, and its parts that need no pictures of MuJoCo's."""

import json
import math
from typing import Any

import pytest
import torch

from rlsuite.errors import UserError
from rlsuite.experiment import FAILS, HOLDS
from scripts.experiments import dist_sdf
from scripts.experiments.dist_sdf_bodies import Each, posed_body, random_unions, samples, union_of
from scripts.experiments.dist_sdf_shapes import FITTED, PointFitConfig, chamfer, fit_points, surfaces


def verdicts(drawn, shapes, exact, poses):
    return [claim.verdict for claim in dist_sdf.claims((drawn,), shapes, exact, (poses,), dist_sdf.Numbers())]


def drawn(queries, iou=0.995):
    tricks = {name: {"queries": count, "iou": iou} for name, count in zip(dist_sdf.TRICKS, queries, strict=True)}
    return {"depth": 1e-3, "iou": 0.99, "tricks": tricks}


def test_claims_by_hand():
    shapes = {"mask and depth": [0.8], "depth alone": [1.1], "without rendering": [0.9]}
    exact = {"mask and depth": [0.8], "depth alone": [0.9], "without rendering": [1.1]}
    poses = {"before": 20.0, "after": 1.5}
    found = verdicts(drawn((50.0, 15.0, 10.0, 7.0)), shapes, exact, poses)
    assert found == [HOLDS] * 6 + [FAILS, FAILS] + [HOLDS] * 3  # 0.8 is 11 % below 0.9
    found = verdicts(drawn((50.0, 15.0, 15.5, 8.0), 0.98), shapes, exact, {"before": 4.0, "after": 1.5})
    assert found == [HOLDS, HOLDS, FAILS, FAILS, FAILS, HOLDS, FAILS, FAILS, HOLDS, HOLDS, FAILS]


def test_measures_by_hand():
    one, other = torch.tensor([[0.0, 0.0, 0.0]]), torch.tensor([[3.0, 4.0, 0.0], [0.0, 1.0, 0.0]])
    assert chamfer(one, other) == pytest.approx(1.0 + (25.0 + 1.0) / 2)
    assert chamfer(one, other[:0]) == 1.0
    half = torch.tensor([[1.0, 0.0, 0.0, 1.0]])
    assert dist_sdf.degrees(half, torch.tensor([[-1.0, 0.0, 0.0, 0.0]])).item() == pytest.approx(90.0, abs=1e-3)
    assert dist_sdf.overlap(torch.tensor([True, True, False]), torch.tensor([True, False, True])) == pytest.approx(
        1 / 3
    )


def test_bodies_lie_in_the_sphere():
    generator = torch.Generator().manual_seed(0)
    shapes = [*random_unions(20, generator), posed_body()]
    around = torch.nn.functional.normalize(torch.randn(2000, 3, generator=generator), dim=1)
    assert min(float(shape(around, around[:, :0]).min()) for shape in shapes) > 0.0
    points, distances = samples(shapes[0], 200, generator)
    assert (distances[:160].abs() < 0.2).all()
    assert (distances[:160] < 0).any()
    number = torch.arange(20).repeat_interleave(10)[:, None].float()
    each = Each(shapes[:20])(points, number)
    assert each[30:40].tolist() == shapes[3](points[30:40], points[:10, :0]).tolist()


def test_a_code_of_a_union_is_its_numbers():
    shape = random_unions(1, torch.Generator().manual_seed(3))[0]
    bricks, pill = shape.parts
    numbers = torch.cat([bricks.sizes, pill.sizes, pill.place])
    low, high = torch.tensor([[0.15] * 3 + [0.12, 0.15] + [-0.25] * 3, [0.4] * 3 + [0.25, 0.4] + [0.25] * 3])
    code = 2 * (numbers - low) / (high - low) - 1
    points = torch.rand(100, 3, generator=torch.Generator().manual_seed(4)) - 0.5
    assert (union_of(points, code.expand(100, 8)) - shape(points, code)).abs().max() < 1e-6


def test_the_surface_of_a_sphere_is_seen():
    def ball(points, code):
        return points.norm(dim=1) - code[:, 0]

    (points,) = surfaces(ball, torch.tensor([[0.5]]), 16, torch.Generator().manual_seed(0))
    assert (points.norm(dim=1) - 0.5).abs().max() < 1e-3
    assert points.mean(0).abs().max() < 0.05  # from all sides


def test_a_fit_without_truncation_finds_what_is_far():
    """A ball of radius 0.3 where 0.9 was seen is wrong by 0.6: beyond a truncation of 0.1 nothing pulls at it."""
    normals = torch.nn.functional.normalize(torch.randn(40, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    seen = (torch.full((1, 1), 0.3), 0.9 * normals, normals, torch.zeros(40, dtype=torch.long))

    def ball(points, code):
        return points.norm(dim=1) - code[:, 0]

    found = [
        fit_points(ball, *seen, PointFitConfig(steps=400, learning_rate=1e-2, truncation=bound)).item()
        for bound in (0.1, math.inf)
    ]
    assert found[0] < 0.3  # the prior alone
    assert found[1] == pytest.approx(0.9, abs=0.02)


def test_fits_in_small(tmp_path):
    tiny = {"size": 16, "groups": 1, "learned": 2, "samples": 50, "learning_steps": 2}
    shapes = dist_sdf.find_shapes("shapes", 0, tmp_path, **tiny, shapes=1, shape_steps=1, kept=0.5)
    small = {"size": 16, "groups": 1, "shapes": 1, "shape_steps": 1, "kept": 0.5}
    exact = dist_sdf.find_exact_shapes("exact", 0, tmp_path, **small, point_priors=(1e-4, 1e-3), point_rates=(1e-2,))
    assert [one[:2] for one in exact["choice"]] == [[1e-4, 1e-2], [1e-3, 1e-2]]
    assert all(len(those[name]) == 1 for those in (shapes, exact) for name in FITTED)
    poses = dist_sdf.find_poses("poses", 0, tmp_path, size=16, poses=1, pose_steps=1)
    assert poses["before"] > 0
    json.dumps([shapes, exact, poses])


@pytest.mark.slow
def test_drawing_in_small(tmp_path):
    pytest.importorskip("mujoco_warp", reason="mujoco-warp is not installed (extra: cameras)")
    found = dist_sdf.draw_bodies("drawn", 0, tmp_path, size=16, views=1)
    assert found["depth"] < 2e-3
    assert found["iou"] > 0.9


def test_wrong_numbers_are_refused():
    numbers = {"seeds": 0, "size": 4, "kept": 0.0, "samples": 5, "point_rates": (), "point_priors": (0.0,)}
    for name, value in numbers.items():
        wrong: dict[str, Any] = {name: value}
        with pytest.raises(UserError, match=f"{name}"):
            dist_sdf.Numbers(**wrong)
