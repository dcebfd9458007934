"""Signed distances by hand and against brute force; the decoder's sizes, its fit and its file."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from renderers.sdf.decoder import Decoder, DecoderConfig, LearningConfig, learn_shapes, load_decoder, save_decoder
from renderers.sdf.shapes import KINDS, Primitive, Union
from rlsuite.errors import UserError
from rlsuite.fit import FitConfig
from rlsuite.optim.choice import OptimizerConfig


def at(shape, *points):
    points = torch.tensor(points)
    return shape(points, torch.zeros(len(points), 0)).tolist()


def test_distances_by_hand():
    assert at(Primitive("sphere", [0.5]), [0.0, 0.0, 2.0], [0.1, 0.0, 0.0]) == pytest.approx([1.5, -0.4])
    box = Primitive("box", [1.0, 2.0, 3.0])
    assert at(box, [4.0, 6.0, 3.0], [0.5, 0.0, 0.0], [0.0, 0.0, 5.0]) == pytest.approx([5.0, -0.5, 2.0])
    capsule = Primitive("capsule", [0.5, 1.0])
    assert at(capsule, [0.0, 0.0, 3.0], [2.0, 0.0, 0.9], [0.0, 3.0, -5.0]) == pytest.approx([1.5, 1.5, 4.5])
    cylinder = Primitive("cylinder", [1.0, 2.0])
    assert at(cylinder, [4.0, 0.0, 6.0], [0.0, 0.0, 1.5], [0.6, 0.0, 0.0]) == pytest.approx([5.0, -0.5, -0.4])
    turn = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])  # its x axis is the world's y
    moved = Primitive("box", [1.0, 0.1, 0.1], torch.tensor([0.0, 2.0, 0.0]), turn)
    assert at(moved, [0.0, 4.0, 0.0], [0.0, 2.9, 0.0]) == pytest.approx([1.0, -0.1], abs=1e-6)
    assert at(Union([box, moved]), [0.0, 4.0, 0.0]) == pytest.approx([1.0], abs=1e-6)
    sized = Primitive("sphere")(torch.tensor([[0.0, 0.0, 2.0]] * 2), torch.tensor([[0.5], [1.5]]))
    assert sized.tolist() == pytest.approx([1.5, 0.5])


SIZES = st.lists(st.floats(0.1, 0.9), min_size=3, max_size=3)


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(["sphere", "box", "capsule", "cylinder"]), SIZES, st.integers(0, 1000))
def test_distances_are_those_to_the_surface(kind, sizes, seed):
    """Along the slope, a step of the distance leads to the surface, and the slope is 1."""
    body = Primitive(kind, sizes[: KINDS[kind][1]])
    points = torch.randn(40, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    points.requires_grad_()
    f = body(points, points[:, :0])
    (slope,) = torch.autograd.grad(f.sum(), points)
    outside = f > 1e-3
    assert (slope.norm(dim=1)[outside] - 1.0).abs().max() < 1e-6
    assert body(points - f[:, None] * slope, points[:, :0])[outside].abs().max() < 1e-6


def test_an_ellipsoid_is_exact_on_its_surface():
    points = torch.nn.functional.normalize(torch.randn(50, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    sizes = torch.tensor([0.9, 0.5, 0.3])
    points = (points * sizes).requires_grad_()
    f = Primitive("ellipsoid", sizes)(points, points[:, :0])
    (slope,) = torch.autograd.grad(f.sum(), points)
    assert f.abs().max() < 1e-6
    assert (slope.norm(dim=1) - 1.0).abs().max() < 1e-4


def test_wrong_bodies_are_refused():
    with pytest.raises(UserError, match="shape=blob"):
        Primitive("blob", [1.0])
    with pytest.raises(ValueError, match="3 sizes"):
        Primitive("box", [1.0])


def test_the_papers_decoder():
    decoder = Decoder(DecoderConfig(), 0)
    shapes = [tuple(layer.parametrizations.weight.original1.shape) for layer in decoder.hidden]
    assert shapes == [(512, 259), (512, 512), (512, 512), (253, 512)] + [(512, 512)] * 4  # the input again at layer 4
    for bad in ({"code": 0}, {"width": 11, "code": 8}, {"dropout": 1.0}, {"layers": 1}):
        with pytest.raises(UserError):
            DecoderConfig(**bad)


def test_a_decoder_learns_and_is_saved(tmp_path):
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(2, 500, 3, generator=generator) * 2.0 - 1.0
    radii = torch.tensor([[0.3], [0.7]])
    distances = points.norm(dim=2) - radii
    decoder = Decoder(DecoderConfig(code=2, width=32, layers=4, dropout=0.0), 1)
    fit = FitConfig(steps=150, batch_size=256, order="random", optimizer=OptimizerConfig(learning_rate=3e-3))
    codes = learn_shapes(decoder, points, distances, LearningConfig(fit=fit, code_rate=1e-2, truncation=1.0), seed=3)
    assert codes.norm(dim=1).max() <= 1.0 + 1e-6
    there = torch.tensor([[0.5, 0.0, 0.0]] * 2)
    small, large = decoder(there, codes).tolist()
    assert small > 0.03
    assert large < -0.03
    path = tmp_path / "decoder.safetensors"
    save_decoder(path, decoder)
    assert torch.equal(load_decoder(path)(there, codes), decoder(there, codes))
    path.write_bytes(b"no")
    with pytest.raises(UserError, match="no decoder of signed distances"):
        load_decoder(path)


def test_dropout_is_for_learning_alone():
    decoder = Decoder(DecoderConfig(code=2, width=32, layers=2, dropout=0.5), 0)
    points, code = torch.randn(8, 3), torch.randn(8, 2)
    assert not torch.equal(decoder(points, code), decoder(points, code))
    decoder.eval()
    assert torch.equal(decoder(points, code), decoder(points, code))
