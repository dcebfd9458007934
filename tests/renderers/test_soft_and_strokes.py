import pytest
import torch

from renderers.bezier import draw_exact
from renderers.soft import draw_soft
from renderers.strokes import BRUSHES, composite, shape_for_brush


def shapes(number, seed=0):
    return torch.rand(number, 10, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [32, 64, 128])
def test_soft_strokes_are_close_to_exact_ones(size):
    """Mean squared errors; the mean picture's is about 0.046, a neural renderer's 0.0055."""
    error = float((draw_soft(shapes(200), size) - draw_exact(shapes(200), size)).square().mean())
    assert error < {32: 0.002, 64: 0.001, 128: 0.0006}[size]


@pytest.mark.parametrize(
    ("brush", "bound"), [("circle", 0.001), ("triangle", 0.003), ("line", 0.002), ("opaque", 0.005)]
)
def test_every_brush_has_its_soft_form(brush, bound):
    exact = draw_exact(shapes(200, 1), 32, brush=brush)
    error = float((draw_soft(shapes(200, 1), 32, brush=brush) - exact).square().mean())
    assert error < bound < 0.2 * float(exact.var())


@pytest.mark.parametrize("brush", BRUSHES)
def test_entries_a_brush_does_not_use_change_nothing(brush):
    used = {
        "bezier": range(10),
        "opaque": range(8),
        "line": (0, 1, 4, 5, 6, 7, 8, 9),
        "circle": (0, 1, 6, 8),
        "triangle": (*range(6), 8),
    }[brush]
    unused = [entry for entry in range(10) if entry not in used]
    one, other = shapes(20, 2), shapes(20, 2)
    other[:, unused] = shapes(20, 3)[:, unused]
    for draw in (draw_exact, draw_soft):
        torch.testing.assert_close(draw(one, 16, brush=brush), draw(other, 16, brush=brush))
    assert shape_for_brush(one, brush).shape == one.shape


def test_gradients_are_those_of_finite_differences():
    """On a large canvas, where the exact rasterizer's floors, which gradients pass straight through, are small."""
    size = 256
    with torch.no_grad():
        target = draw_soft(shapes(1, 5).double(), size)
    shape = shapes(1, 4).double()
    shape[0, 8:] = 0.7  # equal opacities: which point of the curve is the last to cover a pixel has no gradient
    shape.requires_grad_()

    def loss(value):
        return (draw_soft(value, size, edge=8.0) - target).square().mean()

    (gradient,) = torch.autograd.grad(loss(shape), shape)
    for entry in range(10):
        step = 1e-6 if entry >= 8 else 0.02
        with torch.no_grad():
            ahead, behind = shape.clone(), shape.clone()
            ahead[0, entry] += step
            behind[0, entry] -= step
            slope = float((loss(ahead) - loss(behind)) / (2 * step))
        tolerance = 1e-4 if entry >= 8 else 0.1
        assert float(gradient[0, entry]) == pytest.approx(slope, rel=tolerance, abs=0.002), entry


def test_gradient_descent_finds_a_stroke_back():
    target = draw_exact(torch.tensor([[0.3, 0.2, 0.5, 0.5, 0.7, 0.8, 0.4, 0.2, 1.0, 1.0]]), 32)
    shape = torch.tensor([[0.5, 0.3, 0.5, 0.5, 0.6, 0.7, 0.5, 0.5, 0.5, 0.5]], requires_grad=True)
    optimizer = torch.optim.Adam([shape], lr=0.01)
    first = None
    for _ in range(200):
        loss = (draw_soft(shape.clamp(0, 1), 32) - target).square().mean()
        first = loss.item() if first is None else first
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float((draw_exact(shape.clamp(0, 1), 32) - target).square().mean()) < 0.15 * first


def test_compositing_paints_in_order():
    """By hand: half black over white, then opaque red on the right half."""
    alpha = torch.zeros(1, 2, 1, 2)
    alpha[0, 0], alpha[0, 1, 0, 1] = 0.5, 1.0
    colour = torch.tensor([[[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]])
    painted = composite(torch.ones(1, 3, 1, 2), alpha, colour)
    assert painted[0, :, 0, 0].tolist() == [0.5, 0.5, 0.5]
    assert painted[0, :, 0, 1].tolist() == [1.0, 0.0, 0.0]


def test_compositing_equals_one_stroke_after_another():
    generator = torch.Generator().manual_seed(0)
    canvas, alpha = torch.rand(2, 3, 8, 8, generator=generator), torch.rand(2, 5, 8, 8, generator=generator)
    colour = torch.rand(2, 5, 3, generator=generator)
    expected = canvas
    for stroke in range(5):
        cover = alpha[:, stroke, None]
        expected = expected * (1 - cover) + cover * colour[:, stroke, :, None, None]
    torch.testing.assert_close(composite(canvas, alpha, colour), expected)
