"""The sparse rasterizer against plain drawing, finite differences, and pictures without a stroke."""

import numpy as np
import pytest
import torch

from renderers.boxes import draw_boxes
from renderers.geometry import geometry_of
from renderers.pairs import TILE, by_rank, find_pairs
from renderers.sparse import SparsePicture
from renderers.strokes import BRUSHES

HEIGHT, WIDTH = 37, 48


def strokes(number=12, seed=0, brush="bezier"):
    drawn = torch.rand(number, 13, generator=torch.Generator().manual_seed(seed))
    if brush == "mixed":
        return drawn, torch.arange(number) % len(BRUSHES)
    return drawn, torch.full((number,), BRUSHES.index(brush))


def arranged(drawn, kinds, *, factor=1, edge=0.5):
    target = torch.rand(3, HEIGHT // factor, WIDTH // factor, generator=torch.Generator().manual_seed(9))
    sparse = SparsePicture(target, factor, edge)
    geometry = geometry_of(drawn[:, :10], kinds, WIDTH)
    sparse.arrange(geometry, kinds)
    return sparse, geometry, drawn[:, 10:].contiguous(), target


def plainly(geometry, colours, *, edge=0.5):
    """Every stroke on every pixel: the curve's points one by one, the triangle's sides one by one."""
    row, column = np.mgrid[0:HEIGHT, 0:WIDTH] * 2 + 0.5
    canvas = np.zeros((3, HEIGHT, WIDTH))
    for path, colour in zip(geometry.double().numpy(), colours.double().numpy(), strict=True):
        opacity = np.full(row.shape, path[8])
        if len(path) > 10 and path[10:].any():
            inside = np.min([row * a + column * b + c for a, b, c in path[10:].reshape(3, 3)], axis=0)
        else:
            inside, at = np.full(row.shape, -np.inf), np.zeros(row.shape)
            for time in np.linspace(0, 0.99, 400):
                weights = np.array([(1 - time) ** 2, 2 * time * (1 - time), time**2])
                away = np.hypot(row - weights @ path[0:3], column - weights @ path[3:6])
                here = path[6] + time * (path[7] - path[6]) - away
                at = np.where((here >= 0) | (here > inside) & (inside < 0), time, at)
                inside = np.maximum(inside, here)
            opacity = path[8] + at * (path[9] - path[8])
        alpha = opacity / (1 + np.exp(-inside * 1.7 / (2 * edge)))
        canvas += alpha * (colour[:, None, None] - canvas)
    return torch.from_numpy(canvas).float()


@pytest.mark.parametrize("brush", [*BRUSHES, "mixed"])
def test_it_paints_what_all_strokes_on_all_pixels_would(brush):
    drawn, kinds = strokes(brush=brush)
    sparse, geometry, colours, target = arranged(drawn, kinds)
    error, _, _ = sparse.error(geometry, colours)
    plain = plainly(geometry, colours)
    difference = (sparse.picture() - plain).abs()
    assert float(difference.mean()) < 0.002  # times of the curve are estimates
    assert float(difference.quantile(0.99)) < 0.05
    assert error == pytest.approx(float((sparse.picture() - target).square().sum()), rel=1e-4)


@pytest.mark.parametrize("brush", BRUSHES)
def test_it_is_close_to_the_exact_rasterizer(brush):
    for seed in range(6):
        drawn, kinds = strokes(1, seed, brush)
        drawn[:, 10:] = 1.0
        sparse, geometry, colours, _ = arranged(drawn, kinds)
        sparse.draw(geometry, colours)
        (box,) = draw_boxes(drawn[:, :10], kinds, WIDTH)
        exact = torch.zeros(WIDTH, WIDTH)
        exact[box.top : box.top + box.alpha.shape[0], box.left : box.left + box.alpha.shape[1]] = box.alpha
        assert float((sparse.picture()[0] - exact[:HEIGHT]).square().mean()) < 0.0015


@pytest.mark.parametrize("brush", ["bezier", "triangle", "mixed"])
def test_gradients_are_those_of_finite_differences(brush):
    drawn, kinds = strokes(6, 3, brush)
    sparse, geometry, colours, _ = arranged(drawn, kinds, edge=1.0)
    _, by_geometry, by_colours = sparse.error(geometry, colours)
    for stroke in range(6):
        triangle = int(kinds[stroke]) == BRUSHES.index("triangle")
        entries = [8, *range(10, 19)] if triangle else range(10)
        for entry in entries:
            slope = entry >= 10 and (entry - 10) % 3 < 2  # the distance is steep in these
            step = 2e-4 if slope else 0.01
            slopes = []
            for sign in (1, -1):
                moved = geometry.clone()
                moved[stroke, entry] += sign * step
                slopes.append(sign * sparse.error(moved, colours)[0] / (2 * step))
            assert float(by_geometry[stroke, entry]) == pytest.approx(sum(slopes), rel=0.05, abs=8.0 if slope else 0.2)
        for channel in range(3):
            slopes = []
            for sign in (1, -1):
                moved = colours.clone()
                moved[stroke, channel] += sign * 0.01
                slopes.append(sign * sparse.error(geometry, moved)[0] / 0.02)
            assert float(by_colours[stroke, channel]) == pytest.approx(sum(slopes), rel=0.01, abs=0.1)


def test_gradients_reach_the_numbers_of_strokes():
    drawn, kinds = strokes(8, 5, "mixed")
    shape = drawn[:, :10].clone().requires_grad_()
    sparse, _, colours, _ = arranged(drawn, kinds)
    geometry = geometry_of(shape, kinds, WIDTH)
    _, by_geometry, _ = sparse.error(geometry.detach(), colours)
    (gradient,) = torch.autograd.grad(geometry, shape, by_geometry)
    circle = kinds == BRUSHES.index("circle")
    assert gradient[~circle][:, [0, 1, 4, 5]].abs().amin() > 0
    assert not gradient[circle][:, [2, 3, 4, 5, 7, 9]].any()


def test_a_smaller_picture_is_the_same_one():
    drawn, kinds = strokes(8, 1)
    whole, geometry, colours, _ = arranged(drawn, kinds)
    whole.draw(geometry, colours)
    half, geometry, colours, _ = arranged(drawn, kinds, factor=2)
    half.draw(geometry, colours)
    reduced = torch.nn.functional.avg_pool2d(whole.picture(), 2)
    assert float((half.picture() - reduced).abs().mean()) < 0.01


@pytest.mark.parametrize("brush", ["bezier", "mixed"])
def test_the_worth_of_a_stroke_is_what_the_picture_loses_without_it(brush):
    drawn, kinds = strokes(7, 2, brush)
    sparse, geometry, colours, _ = arranged(drawn, kinds)
    error, _, _ = sparse.error(geometry, colours)
    sparse.draw(geometry, colours)
    worth = sparse.worth(7)
    for stroke in range(7):
        others = torch.arange(7) != stroke
        without, some, shades, _ = arranged(drawn[others], kinds[others])
        loss = without.error(some, shades)[0] - error
        assert float(worth[stroke]) == pytest.approx(loss, rel=0.01, abs=0.5)


def test_results_do_not_depend_on_the_number_of_threads(monkeypatch):
    monkeypatch.setattr("renderers.sparse._GROUP_PIXELS", 5000)
    drawn, kinds = strokes(20, 4)
    found, threads = [], torch.get_num_threads()
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            sparse, geometry, colours, _ = arranged(drawn, kinds)
            assert len(sparse.groups) > 1
            found.append(sparse.error(geometry, colours))
    finally:
        torch.set_num_threads(threads)
    assert found[0][0] == found[1][0]
    assert torch.equal(found[0][1], found[1][1])


def test_pairs_are_the_tiles_near_an_outline_in_the_order_of_the_strokes():
    random = torch.Generator().manual_seed(0)
    outline = torch.rand(5, 3, 2, generator=random) * 60 - 6
    reach = torch.rand(5, generator=random) * 8
    stroke, tile = find_pairs(outline, reach, HEIGHT, WIDTH)
    columns = -(-WIDTH // TILE)
    found = set(zip(stroke.tolist(), tile.tolist(), strict=True))
    for number in range(5):
        time = torch.linspace(0, 1, 200)[:, None]
        for begin, end in ((0, 1), (1, 2)):
            for row, column in (outline[number, begin] * (1 - time) + outline[number, end] * time).tolist():
                if 0 <= row < HEIGHT and 0 <= column < WIDTH:  # every tile that the line itself enters
                    assert (number, int(row // TILE) * columns + int(column // TILE)) in found
    groups = by_rank(stroke, tile, 2)
    again = set()
    for pairs in groups:
        seen, begin = {}, 0
        for rank, tiles in enumerate(pairs.ranks):
            for place in range(tiles):
                index = begin + place
                assert int(pairs.tile[index]) == int(pairs.tiles[place])
                seen.setdefault(int(pairs.tile[index]), []).append(int(pairs.stroke[index]))
                assert len(seen[int(pairs.tile[index])]) == rank + 1
            begin += tiles
        assert all(order == sorted(order) for order in seen.values())
        again |= {(number, place) for place, order in seen.items() for number in order}
    assert again == found


def test_no_strokes_leave_black():
    drawn, kinds = strokes(1)
    drawn[:, [0, 4]] = 1.0  # beyond the lower edge
    drawn[:, 6:8] = 0.0
    sparse, geometry, colours, target = arranged(drawn, kinds)
    error, by_geometry, _ = sparse.error(geometry, colours)
    assert error == pytest.approx(float(target.square().sum()), rel=1e-5)
    assert not by_geometry.any()
