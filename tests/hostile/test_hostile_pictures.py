"""Hostile pictures: nothing runs, nothing is written, memory stays small, and good ones beside them are read."""

import os
import struct
import subprocess
import sys
import warnings

import numpy as np
import pytest
from hostile_files import BOMBS, NO_PICTURES, POSTSCRIPT, chunk, png
from paths import ROOT
from PIL import Image, ImageCms

from envs.painting.pictures import picture_pool
from renderers.photo import read_photo
from rlsuite.cli import run_script
from rlsuite.data import pictures
from rlsuite.errors import UserError
from scripts import paint_image

SIDE = 16
pytestmark = pytest.mark.filterwarnings("ignore")  # Pillow's, of damaged pictures


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """Programs that a picture could have started: each leaves a mark."""
    folder, mark = tmp_path / "bin", tmp_path / "started"
    folder.mkdir()
    for name in ("gs", "gswin64c", "gswin32c", "inkscape", "convert", "xv", "display"):
        (folder / name).write_text(f"#!/bin/sh\necho {name} >> {mark}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return mark


@pytest.mark.parametrize("name", NO_PICTURES)
def test_what_is_no_picture_is_refused_in_one_line_and_starts_nothing(name, tmp_path, trap):
    (tmp_path / name).write_bytes(NO_PICTURES[name])
    with pytest.raises(UserError) as refusal:
        read_photo(tmp_path / name, 512)
    assert "\n" not in str(refusal.value)
    assert not trap.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["bin", name])


def test_pillow_itself_would_start_ghostscript(tmp_path, trap):
    """The trap works: were the door left open, it would close."""
    (tmp_path / "photo.png").write_bytes(POSTSCRIPT)
    with Image.open(tmp_path / "photo.png") as opened:
        assert opened.format == "EPS"
        with pytest.raises(OSError):
            opened.load()
    assert trap.exists()


def test_there_is_one_door():
    """Pictures are opened in rlsuite/data/pictures.py, and nowhere else."""
    sources = [
        path for room in ("rlsuite", "envs", "agents", "renderers", "scripts") for path in (ROOT / room).rglob("*.py")
    ]
    opening = [path.relative_to(ROOT).as_posix() for path in sources if "Image.open(" in path.read_text()]
    assert opening == ["rlsuite/data/pictures.py"]
    assert set(pictures.FORMATS) == {"PNG", "JPEG", "WEBP", "TIFF", "BMP", "PPM", "GIF"}


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "bmp", "ppm", "gif"])
def test_every_format_meant_is_read(suffix, tmp_path):
    Image.new("RGB", (32, 24), (200, 100, 50)).save(tmp_path / f"picture.{suffix}")
    picture = read_photo(tmp_path / f"picture.{suffix}", 512)
    assert picture.shape == (3, 24, 32)
    assert np.abs(picture.mean(dim=(1, 2)).numpy() - np.array([200, 100, 50]) / 255).max() < 0.03


MEASURE = """
import resource, sys
from renderers.photo import read_photo
from rlsuite.errors import UserError
for path in sys.argv[1:]:
    try:
        print(path, tuple(read_photo(path, 512).shape))
    except UserError as error:
        print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def measure(*paths):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "ignore", "-c", MEASURE, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    *lines, peak = done.stdout.splitlines()
    assert len(lines) == len(paths)
    return lines, int(peak)


def test_bombs_stay_below_their_memory(tmp_path):
    for name, make in BOMBS.items():
        (tmp_path / name).write_bytes(make())
    lines, peak = measure(*(tmp_path / name for name in BOMBS))
    assert peak < 2.5e9
    assert all("(3, 512, 512)" not in line for line in lines)
    assert "take 2,312,000,000 bytes to decode" in lines[0]


@pytest.mark.slow
def test_the_largest_that_is_read_stays_below_its_memory(tmp_path):
    (tmp_path / "large.png").write_bytes(png(14000, 14000, 8, 6, b"\0\0\0\x80" * 14000))  # half transparent
    (line,), peak = measure(tmp_path / "large.png")
    assert line.endswith("(3, 512, 512)")
    assert peak < 2.5e9


def test_memory_that_is_not_free_is_not_taken(tmp_path, monkeypatch):
    Image.new("RGBA", (100, 100)).save(tmp_path / "photo.png")
    monkeypatch.setattr(pictures.psutil, "virtual_memory", lambda: type("Memory", (), {"available": 79_999}))
    with pytest.raises(UserError, match=r"take 80,000 bytes .* or the 79,999 free; reduce it first"):
        read_photo(tmp_path / "photo.png", 512)


# -- EXIF, profiles, odd pixels -----------------------------------------------------------------------------


def exif(*entries):
    """EXIF data of (tag, type, count, value) entries, written by hand."""
    body = b"".join(struct.pack("<HHI", tag, kind, count) + value for tag, kind, count, value in entries)
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + body + bytes(4)


TURNED = (0x0112, 3, 1, struct.pack("<HH", 6, 0))


@pytest.mark.parametrize("suffix", ["jpg", "webp", "png"])
@pytest.mark.parametrize(
    "other",
    [
        (0x011A, 12, 1, struct.pack("<I", 26)),  # a double, which lies in what follows
        (0x011A, 11, 1, struct.pack("<f", float("nan"))),
        (0x0131, 2, 4, b"\xff\xfe\0\0"),
        (0x8769, 4, 1, struct.pack("<I", 2**31)),
        (0x927C, 7, 2**30, struct.pack("<I", 9)),
    ],
    ids=["double", "NaN", "text", "pointer", "length"],
)
def test_exif_turns_a_picture_and_does_nothing_else(other, suffix, tmp_path):
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, :16] = 255
    options = {"lossless": True} if suffix == "webp" else {"quality": 100} if suffix == "jpg" else {}
    Image.fromarray(pixels).save(tmp_path / f"photo.{suffix}", exif=exif(TURNED, other), **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        picture = read_photo(tmp_path / f"photo.{suffix}", 512)
    assert picture.shape == (3, 32, 16)
    assert float(picture[:, :15].mean()) > 0.95


@pytest.mark.parametrize("data", [b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0" + bytes(100)])
def test_damaged_exif_leaves_a_picture_as_it_lies(data, tmp_path):
    Image.new("RGB", (32, 16)).save(tmp_path / "photo.jpg", exif=data)
    assert read_photo(tmp_path / "photo.jpg", 512).shape == (3, 16, 32)


def test_a_number_that_is_none_does_not_paint_a_float_picture_black(tmp_path):
    values = np.linspace(0.0, 4.0, 256, dtype=np.float32).reshape(16, 16)
    values[3, 3], values[5, 5], values[7, 7] = np.nan, np.inf, -np.inf
    Image.fromarray(values).save(tmp_path / "photo.tif")
    picture = read_photo(tmp_path / "photo.tif", 512)
    assert float(picture[0, 15, 15]) == 1.0
    assert 0.49 < float(picture.mean()) < 0.51
    assert picture[0, [3, 5, 7], [3, 5, 7]].tolist() == [1.0, 1.0, 0.0]  # nothing there, white, black


def test_the_transparent_grey_of_a_16_bit_picture_is_white(tmp_path):
    row = struct.pack(">8H8H", *[1000] * 8, *[40_000] * 8)
    (tmp_path / "photo.png").write_bytes(png(16, 16, 16, 0, row, chunk(b"tRNS", struct.pack(">H", 1000))))
    picture = read_photo(tmp_path / "photo.png", 512)
    assert float(picture[:, :, :8].min()) == 1.0
    assert abs(float(picture[:, :, 8:].mean()) - 40_000 / 65_535) < 0.01


def linear_profile():
    """A profile of sRGB's primaries and no curve: a byte of 128 is half the light."""
    plain = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack(">I", plain[128:132])[0]
    for place in range(count):
        name, offset, size = struct.unpack(">4sII", plain[132 + 12 * place : 144 + 12 * place])
        if name in (b"rTRC", b"gTRC", b"bTRC"):
            plain[offset : offset + 16] = b"curv" + bytes(4) + struct.pack(">I", 0) + bytes(4)
        if name == b"desc":
            renamed = plain[offset : offset + size].replace("sRGB".encode("utf-16-be"), "flat".encode("utf-16-be"))
            plain[offset : offset + size] = renamed
    return bytes(plain)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colours_with_a_profile_become_srgb(mode, tmp_path):
    color = Image.new("RGB", (16, 16), (55, 55, 55)).convert(mode)
    color.save(tmp_path / "photo.png", icc_profile=linear_profile())
    found = float(read_photo(tmp_path / "photo.png", 512).mean())
    light = 55 / 255
    assert abs(found - (1.055 * light ** (1 / 2.4) - 0.055)) < 0.01  # IEC 61966-2-1


PROFILES = {"letters": b"x" * 200, "zeros": bytes(128), "cut off": linear_profile()[:300]}  # it holds the time of day


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_a_damaged_profile_leaves_colours_as_they_are(profile, tmp_path):
    Image.new("RGB", (16, 16), (51, 102, 153)).save(tmp_path / "photo.png", icc_profile=profile)
    assert np.allclose(read_photo(tmp_path / "photo.png", 512).mean(dim=(1, 2)), [0.2, 0.4, 0.6])


@pytest.mark.parametrize("missing", [1, 2, 40, 300])
def test_a_jpeg_without_its_last_bytes_is_read_with_a_warning(missing, tmp_path, capsys):
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "whole.jpg")
    whole = read_photo(tmp_path / "whole.jpg", 512)
    assert capsys.readouterr().err == ""
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:-missing])
    cut = read_photo(tmp_path / "cut.jpg", 512)
    error = capsys.readouterr().err
    assert error.startswith("warning: ")
    assert "cut.jpg is cut off" in error
    assert (cut[:, :32] == whole[:, :32]).all()


# -- folders and names --------------------------------------------------------------------------------------


def test_bad_pictures_in_a_folder_are_left_out_and_named(tmp_path, trap, capsys):
    folder = tmp_path / "pictures"
    (folder / "train").mkdir(parents=True)
    (folder / "test").mkdir()
    for index in range(3):
        Image.new("RGB", (SIDE, SIDE), (index, 0, 0)).save(folder / "train" / f"good{index}.png")
    bad = {"postscript.png": NO_PICTURES["postscript.png"], "bomb.png": BOMBS["sides.png"](), "empty.png": b""}
    for name, content in bad.items():
        (folder / "train" / name).write_bytes(content)
    os.mkfifo(folder / "train" / "pipe.png")
    (folder / "train" / "device.png").symlink_to("/dev/zero")
    pool = picture_pool(str(folder), SIDE, 20, 1.0, "train")
    assert sorted(pool[:, 0, 0, 0].tolist()) == [0, 1, 2]
    error = capsys.readouterr().err
    assert all(name in error for name in (*bad, "pipe.png", "device.png"))
    assert error.count("\n") == 5
    assert not trap.exists()


@pytest.mark.parametrize("name", [b"caf\xe9.png", b"\x1b[31mred.png", b"two\nlines.png", b"$\\alpha$.png"])
def test_names_of_any_bytes_are_painted(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = os.fsdecode(name)
    Image.new("RGB", (32, 24), (9, 99, 199)).save(path)
    options = ["strokes=5", "refine=false", "long_side=32", "num_threads=1"]
    assert run_script(paint_image.main, [path, *options]) == 0
    assert (tmp_path / "painted" / path.removesuffix(".png") / "painting.mp4").stat().st_size > 0
    (tmp_path / "bad").mkdir()
    os.rename(path, tmp_path / "bad" / path)
    (tmp_path / "bad" / path).write_bytes(b"")
    assert run_script(paint_image.main, [f"bad/{path}", *options]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "\x1b" not in error
