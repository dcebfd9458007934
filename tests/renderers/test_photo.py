import numpy as np
import pytest
import torch
from PIL import Image

from renderers.photo import read_photo
from rlsuite.data import pictures
from rlsuite.errors import UserError


def test_pictures_of_every_kind_become_rgb(tmp_path):
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(ramp).save(tmp_path / "grey.png")
    Image.fromarray(ramp.astype(np.uint16) * 257).save(tmp_path / "grey16.png")
    Image.fromarray(np.dstack([ramp, ramp, ramp])).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=100)
    Image.fromarray(ramp).convert("P").save(tmp_path / "palette.gif")
    for name, tolerance in (("grey.png", 1e-6), ("grey16.png", 1e-6), ("cmyk.jpg", 0.02), ("palette.gif", 0.01)):
        picture = read_photo(tmp_path / name, 512)
        assert picture.shape == (3, 16, 16)
        assert float((picture - torch.from_numpy(ramp / 255)).abs().mean()) < tolerance, name


def test_transparent_places_are_white(tmp_path):
    pixels = np.zeros((16, 16, 4), np.uint8)
    pixels[:8, :, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "alpha.png")
    picture = read_photo(tmp_path / "alpha.png", 512)
    assert float(picture[:, :8].max()) == 0.0
    assert float(picture[:, 8:].min()) == 1.0


def test_exif_rotation_is_undone(tmp_path):
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, :16] = 255  # white on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned clockwise by a quarter
    Image.fromarray(pixels).save(tmp_path / "turned.jpg", exif=exif, quality=100)
    picture = read_photo(tmp_path / "turned.jpg", 512)
    assert picture.shape == (3, 32, 16)
    assert float(picture[:, :15].mean()) > 0.95  # left went up
    assert float(picture[:, 17:].mean()) < 0.05


def test_large_pictures_are_reduced_and_small_ones_left(tmp_path):
    Image.new("RGB", (3000, 1000)).save(tmp_path / "large.jpg")
    assert read_photo(tmp_path / "large.jpg", 512).shape == (3, 171, 512)
    Image.new("RGB", (20, 10)).save(tmp_path / "small.png")
    assert read_photo(tmp_path / "small.png", 512).shape == (3, 10, 20)


def test_what_cannot_be_painted_is_refused_in_one_line(tmp_path):
    (tmp_path / "text.jpg").write_text("no picture")
    whole = tmp_path / "whole.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(whole)
    (tmp_path / "cut.png").write_bytes(whole.read_bytes()[:2000])
    Image.new("RGB", (5, 5)).save(tmp_path / "tiny.png")
    Image.new("RGB", (2000, 10)).save(tmp_path / "narrow.png")
    for name, message in (
        ("nowhere.png", "there is no such file"),
        ("text.jpg", "no picture can be read"),
        ("cut.png", "no picture can be read"),
        ("tiny.png", "too small"),
        ("narrow.png", "too narrow"),
    ):
        with pytest.raises(UserError, match=message) as refusal:
            read_photo(tmp_path / name, 512)
        assert "\n" not in str(refusal.value)
    with pytest.raises(UserError, match="it is a folder"):
        read_photo(tmp_path, 512)
    Image.new("1", (30000, 20000)).save(tmp_path / "huge.png")
    with pytest.raises(UserError, match="30000 x 20000 pixels are more than 300,000,000; reduce it first"):
        read_photo(tmp_path / "huge.png", 512)


def test_our_limit_of_pixels_holds_and_not_pillows(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)  # Pillow refuses twice as many
    Image.new("RGB", (40, 30)).save(tmp_path / "large.png")
    assert read_photo(tmp_path / "large.png", 512).shape == (3, 30, 40)
    assert Image.MAX_IMAGE_PIXELS == 500
    monkeypatch.setattr(pictures, "LARGEST_PIXELS", 1199)
    with pytest.raises(UserError, match="40 x 30 pixels are more than 1,199"):
        read_photo(tmp_path / "large.png", 512)
