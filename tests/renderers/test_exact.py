"""The exact rasterizer against one stroke and one circle at a time."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from renderers.bezier import draw_exact, half_widths, white_paper
from renderers.plain import draw_stroke
from rlsuite.errors import UserError

UNIT = st.floats(0.0, 1.0, width=32)


def plain(shapes, size, circles=100):
    return np.stack([draw_stroke(shape.double().numpy(), size, circles=circles) for shape in shapes])


@pytest.mark.parametrize(
    ("size", "circles"), [(8, 100), (32, 40), (33, 100), (128, 100), (16, 1), (16, 127), (16, 128), (16, 255)]
)
def test_it_equals_the_plain_loop(size, circles):
    shapes = torch.rand(30, 10, generator=torch.Generator().manual_seed(size))
    drawn = draw_exact(shapes, size, circles=circles)
    assert drawn.shape == (30, size, size)
    np.testing.assert_allclose(drawn, plain(shapes, size, circles), atol=3e-7)


@pytest.mark.parametrize("circles", [127, 128, 255])
def test_the_last_of_many_circles_is_kept_in_all_four_pixels(circles):
    """A stroke that stays in place, opacity from 0 to 1: its last circle's is left, 1 - 1 / n."""
    shape = torch.tensor([[0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.0, 1.0]])
    assert float(draw_exact(shape, 32, circles=circles)[0, 16, 16]) == pytest.approx(1 - 1 / circles)


def test_more_circles_than_a_byte_counts_are_refused():
    for circles in (0, 256):
        with pytest.raises(UserError, match=f"circles={circles}: use 1 to 255"):
            draw_exact(torch.rand(1, 10), 16, circles=circles)


@settings(max_examples=100, deadline=None)
@given(shape=st.lists(UNIT, min_size=10, max_size=10))
def test_it_equals_the_plain_loop_at_every_corner(shape):
    shapes = torch.tensor([shape], dtype=torch.float32)
    np.testing.assert_allclose(draw_exact(shapes, 16), plain(shapes, 16), atol=3e-7)


def test_circles_have_opencvs_outline():
    cv2 = pytest.importorskip("cv2")
    reach = half_widths(65)
    for radius in range(66):
        raster = np.zeros((140, 140), np.uint8)
        cv2.circle(raster, (70, 70), radius, 1, -1)
        across = [int(raster[70 + down, 70:].sum()) - 1 for down in range(radius + 1)]
        assert across == reach[radius, : radius + 1].tolist(), radius


def test_a_row_is_a_row():
    """The first coordinate is the row: a thin stroke at row 0.25 is a horizontal line at a quarter of the height."""
    shape = torch.tensor([[0.25, 0.0, 0.5, 0.5, 0.25, 1.0, 0.0, 0.0, 1.0, 1.0]])
    drawn = draw_exact(shape, 32)[0]
    assert set(torch.nonzero(drawn.sum(dim=1)).flatten().tolist()) <= {7, 8}
    assert (drawn[7:9].sum(dim=0)[:31] > 0).all()


def test_strokes_look_as_measured():
    """The figures of 400 strokes with uniform numbers at 128 pixels."""
    drawn = draw_exact(torch.rand(400, 10, generator=torch.Generator().manual_seed(0)), 128)
    assert float((drawn > 0).float().mean()) == pytest.approx(0.178, abs=0.02)
    assert float(drawn[drawn > 0].mean()) == pytest.approx(0.50, abs=0.03)
    assert float(drawn.mean()) == pytest.approx(0.090, abs=0.01)
    assert float((drawn - drawn.mean(dim=0)).square().mean()) == pytest.approx(0.047, abs=0.006)


def test_later_circles_overwrite_earlier_ones():
    """A stroke that stays in place: its last circle's opacity is left, 0.01 from the end."""
    shape = torch.tensor([[0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.0, 1.0]])
    assert float(draw_exact(shape, 32)[0, 16, 16]) == pytest.approx(0.99)
    assert float(white_paper(draw_exact(shape, 32))[0, 16, 16]) == pytest.approx(0.01, abs=1e-6)


def test_a_triangle_covers_its_half_of_the_canvas():
    shape = torch.zeros(1, 10)
    shape[0, :6] = torch.tensor([0.0, 0.0, 1.0, 0.0, 1.0, 1.0])
    shape[0, 8] = 0.5
    drawn = draw_exact(shape, 32, brush="triangle")[0]
    assert float(drawn[31, 0]) == 0.5
    assert float(drawn[0, 31]) == 0.0
    assert float(drawn.sum()) == pytest.approx(0.5 * 0.5 * 32 * 33, rel=0.02)
    assert torch.equal(draw_exact(shape[:, [2, 3, 0, 1, 4, 5, 6, 7, 8, 9]], 32, brush="triangle")[0], drawn)  # turned
