"""The glyph brush: its exact rasterizer against one circle at a time, its soft and neural forms, and what ink makes."""

import itertools
import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from renderers.bezier import draw_exact
from renderers.choice import make_renderer
from renderers.glyph import as_shapes, blank, ink, write
from renderers.imitation import ImitationConfig, Strokes, train_renderer
from renderers.neural import NeuralRenderer, load_renderer, save_renderer
from renderers.plain import draw_glyph_stroke
from renderers.soft import draw_soft
from renderers.stroke_files import load_strokes, save_strokes
from renderers.stroke_list import Layer, StrokeList
from renderers.strokes import GLYPH
from renderers.svg import save_svg
from rlsuite.errors import UserError

UNIT = st.floats(0.0, 1.0, width=32)


def shapes(number, seed=0, *, thin=False):
    shape = torch.rand(number, 10, generator=torch.Generator().manual_seed(seed))
    if thin:
        shape[:, 6:9] *= 0.3
    return shape


def plain(shape, size, **options):
    return np.stack([draw_glyph_stroke(one.double().numpy(), size, **options) for one in shape])


@pytest.mark.parametrize(("size", "circles"), [(8, 100), (32, 100), (33, 100), (64, 100), (16, 1), (16, 255)])
def test_it_equals_the_plain_loop(size, circles):
    drawn = draw_exact(shapes(20, size), size, brush=GLYPH, circles=circles)
    assert drawn.dtype == torch.float32
    assert np.array_equal(drawn.numpy(), plain(shapes(20, size), size, circles=circles))


@settings(max_examples=60, deadline=None)
@given(shape=st.lists(UNIT, min_size=10, max_size=10))
def test_it_equals_the_plain_loop_at_every_corner(shape):
    one = torch.tensor([shape], dtype=torch.float32)
    assert np.array_equal(draw_exact(one, 16, brush=GLYPH).numpy(), plain(one, 16))


def test_it_equals_the_official_loop_in_opencv():
    """Circles and the reduction by four, both OpenCV's own."""
    cv2 = pytest.importorskip("cv2")
    shape, size = shapes(12, 3, thin=True), 64

    def fill(raster, row, column, radius, value):
        cv2.circle(raster, (column, row), radius, value, -1)

    for one, drawn in zip(shape.double().numpy(), draw_exact(shape, size, brush=GLYPH).numpy(), strict=True):
        raster = np.zeros((4 * size, 4 * size), np.float32)
        points = [math.floor(x * 255 + 0.5) for x in one[:6]]
        radii = [math.floor(32 * z + 2) for z in one[6:9]]
        for number in range(100):
            t = number * 0.01
            w = ((1 - t) * (1 - t), 2 * t * (1 - t), t * t)
            row, column = (int(w[0] * points[a] + w[1] * points[2 + a] + w[2] * points[4 + a]) for a in (0, 1))
            fill(raster, row, column, int(w[0] * radii[0] + w[1] * radii[1] + w[2] * radii[2]), 1.0)
        np.testing.assert_allclose(drawn, cv2.resize(raster, (size, size), interpolation=cv2.INTER_LINEAR), atol=1e-6)


def test_reduction_is_the_mean_of_the_middle_and_no_other():
    """A dot of one pixel of the raster at row 4 j + 1 is seen, at row 4 j it is not."""
    for place, seen in ((21, 0.25), (20, 0.0), (22, 0.25), (23, 0.0)):
        shape = torch.zeros(1, 10)
        shape[0, :6] = place / 63
        assert float(draw_exact(shape, 16, brush=GLYPH, circles=1).sum()) == seen, place


def test_a_row_is_a_row():
    shape = torch.tensor([[0.25, 0.0, 0.25, 0.5, 0.25, 1.0, 0.15, 0.15, 0.15, 0.7]])
    drawn = draw_exact(shape, 32, brush=GLYPH)[0]
    assert set(torch.nonzero(drawn.sum(dim=1)).flatten().tolist()) <= {7, 8}
    assert (drawn[7:9].sum(dim=0)[:31] > 0).all()


def test_the_middle_point_is_absolute_and_its_radius_the_curves():
    """By hand at t = 1/2: (p0 + 2 p1 + p2) / 4, and radii likewise."""
    thick = torch.tensor([[0.5, 0.1, 0.5, 0.5, 0.5, 0.9, 0.0, 1.0, 0.0, 0.0]])
    column = draw_exact(thick, 64, brush=GLYPH)[0, :, 32]
    assert float(column.sum()) == pytest.approx(2 * (2 + 2 * 34 + 2) / 4 / 4, abs=0.6)  # a diameter, in pixels of 64


@pytest.mark.parametrize(("size", "bound"), [(32, 0.0026), (64, 0.0017)])
def test_soft_strokes_are_close_to_exact_ones(size, bound):
    """Mean squared errors; the mean picture's is about 0.06."""
    for thin in (False, True):
        shape = shapes(200, 1, thin=thin)
        error = (draw_soft(shape, size, brush=GLYPH) - draw_exact(shape, size, brush=GLYPH)).square().mean()
        assert float(error) < bound


def test_the_unused_entry_changes_nothing():
    one, other = shapes(10, 2), shapes(10, 2)
    other[:, 9] = 0.3
    for draw in (draw_exact, draw_soft):
        assert torch.equal(draw(one, 16, brush=GLYPH), draw(other, 16, brush=GLYPH))


def test_gradients_are_those_of_finite_differences():
    size = 256
    with torch.no_grad():
        target = draw_soft(shapes(1, 5).double(), size, brush=GLYPH)
    shape = torch.tensor([[0.2, 0.3, 0.6, 0.4, 0.7, 0.8, 0.3, 0.6, 0.2, 0.5]], dtype=torch.float64, requires_grad=True)

    def loss(value):
        return (draw_soft(value, size, brush=GLYPH, edge=16.0, samples=8) - target).square().mean()

    (gradient,) = torch.autograd.grad(loss(shape), shape)
    for entry in range(9):
        with torch.no_grad():
            ahead, behind = shape.clone(), shape.clone()
            step = 0.03 if entry >= 6 else 0.01  # radii are floored to few pixels
            ahead[0, entry] += step
            behind[0, entry] -= step
            slope = float((loss(ahead) - loss(behind)) / (2 * step))
        assert float(gradient[0, entry]) == pytest.approx(slope, rel=0.1, abs=0.002), entry
    assert float(gradient[0, 9]) == 0.0


def test_a_glyph_is_the_darkest_of_its_strokes_in_any_order():
    numbers = shapes(3 * 4, 6, thin=True)[:, :9].reshape(3, 36)
    draw = make_renderer("exact", 32, brush=GLYPH)
    whole = write(blank(3, 32, numbers), numbers, draw)
    expected = (1 - draw(as_shapes(numbers))).amin(dim=1, keepdim=True)
    assert torch.equal(whole, expected)
    for order in itertools.permutations(range(4)):
        shuffled = numbers.view(3, 4, 9)[:, order].reshape(3, 36)
        assert torch.equal(write(blank(3, 32, numbers), shuffled, draw), whole)
    # One after another is the same as all at once.
    canvas = blank(3, 32, numbers)
    for stroke in numbers.view(3, 4, 9).unbind(1):
        canvas = write(canvas, stroke, draw)
    assert torch.equal(canvas, whole)


def test_the_soft_minimum_by_hand():
    paper, cover = torch.tensor([[[[1.0]]]]), torch.tensor([0.25, 0.75]).view(1, 2, 1, 1)
    expected = -0.1 * math.log((math.exp(-10) + math.exp(-7.5) + math.exp(-2.5)) / 3)
    assert float(ink(paper, cover, temperature=0.1)) == pytest.approx(expected, rel=1e-5)
    assert float(ink(paper, cover)) == 0.25
    assert float(ink(paper, cover, temperature=1e-3)) == pytest.approx(0.25, abs=0.002)
    same = torch.full((1, 1, 1, 1), 0.4)
    assert float(ink(same, torch.full((1, 3, 1, 1), 0.6), temperature=0.1)) == pytest.approx(0.4)
    cover.requires_grad_()
    assert (torch.autograd.grad(ink(paper, cover, temperature=0.1).sum(), cover)[0] < 0).all()


def test_the_papers_decoder_has_its_size():
    decoder = NeuralRenderer(64, brush=GLYPH, decoder="nearest")
    assert sum(parameter.numel() for parameter in decoder.parameters()) == 11_029_441
    assert decoder(shapes(2)).shape == (2, 64, 64)
    with pytest.raises(UserError, match=r"neural renderers have 32, 64"):
        NeuralRenderer(128, brush=GLYPH, decoder="nearest")
    with pytest.raises(UserError, match="decoder=up"):
        NeuralRenderer(32, decoder="up")


@pytest.mark.parametrize("decoder", ["nearest", "shuffle"])
def test_neural_renderers_learn_glyphs_and_are_read_back(decoder, tmp_path):
    config = ImitationConfig(
        size=32,
        brush=GLYPH,
        decoder=decoder,
        steps=6,
        batch_size=8,
        validation=8,
        learning_rates=(3e-4,),
        milestones=(),
    )
    made, error = train_renderer(config)
    assert math.isfinite(error)
    save_renderer(made, tmp_path / "renderer.safetensors", {})
    read = make_renderer("neural", 32, brush=GLYPH, weights=str(tmp_path / "renderer.safetensors"))
    assert torch.equal(read(shapes(3)), made(shapes(3)))
    assert load_renderer(tmp_path / "renderer.safetensors").decoder == decoder
    with pytest.raises(UserError, match=r"env\.brush=glyph; use those"):
        make_renderer("neural", 32, brush="bezier", weights=str(tmp_path / "renderer.safetensors"))


def test_half_of_the_strokes_to_imitate_are_thin():
    seen = Strokes(ImitationConfig(size=32, brush=GLYPH, circles=5), 0).examples(torch.arange(400))
    thin = (seen["shape"][:, 6:9] < 0.3).all(dim=1)
    assert 0.45 < float(thin.float().mean()) < 0.6
    torch.testing.assert_close(seen["truth"], draw_exact(seen["shape"], 32, brush=GLYPH, circles=5))
    plain_strokes = Strokes(ImitationConfig(size=32, circles=5), 0).examples(torch.arange(400))["shape"]
    assert float((plain_strokes[:, 6:8] < 0.3).all(dim=1).float().mean()) < 0.15  # other brushes are as they were


def written(numbers):
    strokes = torch.cat([as_shapes(numbers), torch.zeros(*numbers.unflatten(-1, (-1, 9)).shape[:-1], 3)], dim=-1)
    return StrokeList(32, 32, GLYPH, [Layer(32, torch.zeros(1, 2, dtype=torch.int64), strokes)])


def test_a_written_glyph_is_kept_as_json_and_drawn_again(tmp_path):
    numbers = shapes(4, 7, thin=True)[:, :9].reshape(1, 36)
    glyph = written(numbers)
    expected = write(blank(1, 32, numbers), numbers, make_renderer("exact", 32, brush=GLYPH))[0].expand(3, -1, -1)
    assert torch.equal(glyph.draw(), expected)
    *_, last = glyph.frames(4)
    assert torch.equal(last, expected)
    save_strokes(glyph, tmp_path / "glyph.json")
    again = load_strokes(tmp_path / "glyph.json")
    assert again.brush == GLYPH
    torch.testing.assert_close(again.draw(), expected, atol=0.3, rtol=0)  # six decimals
    assert float((again.draw() - expected).abs().mean()) < 0.002


def test_its_svg_looks_alike(tmp_path):
    """Drawn by Pillow: circles, and outlines with their ends' arcs left out."""
    numbers = shapes(4, 8, thin=True)[:, :9].reshape(1, 36)
    save_svg(written(numbers), tmp_path / "glyph.svg")
    text = (tmp_path / "glyph.svg").read_text()
    ElementTree.fromstring(text)
    assert '<rect width="32" height="32" fill="#fff"/>' in text
    picture = Image.new("L", (512, 512), 255)
    draw = ImageDraw.Draw(picture)
    for path in re.findall(r'<path d="M([^"]*)Z"', text):
        pairs = re.findall(r"(-?[\d.]+) (-?[\d.]+)(?=[LA]|$)", path)
        draw.polygon([(16 * float(x), 16 * float(y)) for x, y in pairs], fill=0)
    for place in re.findall(r'<circle cx="(.*?)" cy="(.*?)" r="(.*?)"/>', text):
        x, y, radius = (16 * float(number) for number in place)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=0)
    seen = np.asarray(picture.resize((128, 128), Image.Resampling.BOX)) / 255
    expected = written(numbers).draw(4.0)[0].numpy()
    assert float(np.abs(seen - expected).mean()) < 0.03 < 0.2 * float((1 - expected).mean())
