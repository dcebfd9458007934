"""Loaders, on small files made here in the original formats; and on the real ones where RLSUITE_DATA has them."""

import gzip
import os
import zipfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rlsuite.data.arrays import in_memory
from rlsuite.data.cifar import cifar
from rlsuite.data.clips import Clips, clip_files, clip_frames, clip_info, read_clip
from rlsuite.data.digits import digits
from rlsuite.data.flow_files import read_flo, write_flo
from rlsuite.data.folders import PictureFolder, picture_files
from rlsuite.data.mnist import mnist, read_idx
from rlsuite.data.pictures import read_picture
from rlsuite.errors import UserError
from rlsuite.records.video import VideoWriter

REAL = os.environ.get("RLSUITE_DATA")


def real(name):
    if not REAL or not (Path(REAL) / name).exists():
        pytest.skip(f"RLSUITE_DATA names no folder with {name}")
    return Path(REAL) / name


def refused(call, words):
    with pytest.raises(UserError) as error:
        call()
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_digits_are_split_once_and_for_all():
    train, test = digits("train"), digits("test")
    assert (len(train), len(test)) == (1438, 359)
    found = test.examples(torch.arange(359))
    assert found["picture"].shape == (359, 1, 8, 8)
    assert found["picture"].dtype == torch.uint8
    assert int(found["picture"].max()) == 255
    assert sorted(found["label"].unique().tolist()) == list(range(10))
    assert torch.equal(found["picture"], digits("test").tensors["picture"])
    refused(lambda: digits("all"), "split=all: use train, test")


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + b"".join(side.to_bytes(4, "big") for side in array.shape) + array.tobytes()


@pytest.mark.parametrize("room", ["", "MNIST/raw"])
@pytest.mark.parametrize("zipped", [False, True])
def test_mnist_from_idx_files(tmp_path, room, zipped, monkeypatch):
    random = np.random.default_rng(0)
    pictures, labels = random.integers(256, size=(5, 28, 28), dtype=np.uint8), np.array([1, 2, 3, 4, 9], np.uint8)
    folder = tmp_path / room
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in (("t10k-images-idx3-ubyte", pictures), ("t10k-labels-idx1-ubyte", labels)):
        (folder / (name + ".gz" * zipped)).write_bytes(gzip.compress(idx(array)) if zipped else idx(array))
    monkeypatch.setenv("RLSUITE_DATA", str(tmp_path))
    found = mnist("test").examples(torch.tensor([4, 0]))
    assert found["label"].tolist() == [9, 1]
    assert torch.equal(found["picture"][0, 0], torch.from_numpy(pictures[4]))
    refused(lambda: mnist("train"), "holds none of mnist.npz")


@pytest.mark.parametrize("keys", ["train_images train_labels", "x_train y_train"])
def test_mnist_from_an_npz_file(tmp_path, keys):
    pictures, labels = np.zeros((3, 28, 28), np.uint8), np.arange(3)
    np.savez(tmp_path / "mnist.npz", **dict(zip(keys.split(), (pictures, labels), strict=True)))
    assert mnist("train", tmp_path).tensors["label"].tolist() == [0, 1, 2]
    refused(lambda: mnist("test", tmp_path), "it needs the arrays test_images, test_labels")
    (tmp_path / "mnist.npz").write_bytes(b"PK nonsense")
    refused(lambda: mnist("train", tmp_path), "mnist.npz cannot be read")


@pytest.mark.parametrize(
    "data", [b"", b"\x00\x00\x0d\x01" + bytes(8), idx(np.zeros((2, 3), np.uint8))[:-1], b"\x00\x00\x08\x03\x00"]
)
def test_damaged_idx_files_are_refused(tmp_path, data):
    (tmp_path / "file").write_bytes(data)
    refused(lambda: read_idx(tmp_path / "file"), "cannot be read")
    (tmp_path / "file.gz").write_bytes(gzip.compress(data)[:-3])
    refused(lambda: read_idx(tmp_path / "file.gz"), "cannot be read")


def test_idx_files_that_hold_no_digits_are_refused(tmp_path):
    for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"):
        (tmp_path / name).write_bytes(idx(np.zeros((4, 28, 28), np.uint8)))
    refused(lambda: mnist("train", tmp_path), "holds no digits")


def test_cifar_from_binary_files(tmp_path):
    random = np.random.default_rng(0)
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    rows = random.integers(256, size=(10, 3073), dtype=np.uint8)
    rows[:, 0] = np.arange(10)
    for number in range(5):
        rows[2 * number : 2 * number + 2].tofile(folder / f"data_batch_{number + 1}.bin")
    source = cifar(10, "train", tmp_path)
    assert source.tensors["label"].tolist() == list(range(10))
    # Red first, row by row.
    assert torch.equal(source.tensors["picture"][3, 0, 1], torch.from_numpy(rows[3, 1 + 32 : 1 + 64]))
    assert torch.equal(source.tensors["picture"][3, 2].flatten(), torch.from_numpy(rows[3, -1024:]))
    assert len(cifar(10, "train", folder)) == 10
    refused(lambda: cifar(10, "test", tmp_path), "holds none of")
    (folder / "data_batch_3.bin").write_bytes(b"short")
    refused(lambda: cifar(10, "train", tmp_path), "data_batch_3.bin has 5 bytes")
    hundred = np.zeros((2, 3074), np.uint8)
    hundred[:, :2] = [[7, 99], [3, 5]]
    hundred.tofile(tmp_path / "train.bin")
    source = cifar(100, "train", tmp_path)
    assert (source.tensors["label"].tolist(), source.tensors["coarse"].tolist()) == ([99, 5], [7, 3])
    hundred[0, 1] = 200
    hundred.tofile(tmp_path / "train.bin")
    refused(lambda: cifar(100, "train", tmp_path), "labels of CIFAR-100")
    with pytest.raises(ValueError, match="CIFAR-10 and CIFAR-100"):
        cifar(20, "train", tmp_path)


def save(path, shape=(20, 30), value=None, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(256, size=(*shape, 3), dtype=np.uint8)
    Image.fromarray(pixels if value is None else np.full_like(pixels, value)).save(path)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def test_pictures_are_read_upright_and_on_white(tmp_path):
    pixels = save(tmp_path / "a.png")
    assert torch.equal(read_picture(tmp_path / "a.png"), pixels)
    assert read_picture(tmp_path / "a.png", grey=True).shape == (1, 20, 30)
    turned = Image.Exif()
    turned[0x0112] = 6  # turned by a quarter
    Image.open(tmp_path / "a.png").save(tmp_path / "b.png", exif=turned)
    assert torch.equal(read_picture(tmp_path / "b.png"), torch.rot90(pixels, -1, (1, 2)))
    Image.new("RGBA", (4, 4), (9, 9, 9, 0)).save(tmp_path / "c.png")
    assert read_picture(tmp_path / "c.png").unique().tolist() == [255]


@pytest.mark.parametrize(("name", "how"), [("a.eps", "EPS"), ("a.pdf", "PDF"), ("a.ico", "ICO"), ("a.tga", "TGA")])
def test_other_formats_are_not_even_tried(tmp_path, name, how):
    Image.new("RGB", (32, 32)).save(tmp_path / name, how)
    os.rename(tmp_path / name, tmp_path / "a.png")
    refused(lambda: read_picture(tmp_path / "a.png"), "no picture can be read from it")


def test_what_is_no_picture_is_refused(tmp_path):
    refused(lambda: read_picture(tmp_path), "it is a folder")
    refused(lambda: read_picture(tmp_path / "absent.png"), "there is no such file")
    save(tmp_path / "a.png", (200, 200))
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: len(whole) // 2])
    refused(lambda: read_picture(tmp_path / "a.png"), "no picture can be read from it")
    (tmp_path / "large.png").write_bytes(b"P5 20000 20000 255\n")
    refused(lambda: read_picture(tmp_path / "large.png"), "reduce it first")


def test_folders_are_split_by_tenths_or_by_their_own_names(tmp_path):
    for number in range(11):
        save(tmp_path / "plain" / f"{number:02}.png")
    (tmp_path / "plain" / "note.txt").write_text("no picture")
    test = [file.place for file in picture_files(tmp_path / "plain", "test")]
    train = [file.place for file in picture_files(tmp_path / "plain", "train")]
    assert test == ["00.png", "10.png"]
    assert len(train) == 9
    assert not set(test) & set(train)
    for place in ("train/cat/1.png", "train/dog/2.png", "test/dog/3.png"):
        save(tmp_path / "named" / place)
    assert [file.place for file in picture_files(tmp_path / "named", "test")] == ["test/dog/3.png"]
    source = PictureFolder(tmp_path / "named", 8, split="test")
    assert (source.classes, source.examples(torch.tensor([0]))["label"].tolist()) == (["cat", "dog"], [1])
    assert "label" not in PictureFolder(tmp_path / "plain", 8).examples(torch.tensor([0]))
    save(tmp_path / "single" / "a.png")
    assert picture_files(tmp_path / "single", "test") == picture_files(tmp_path / "single", "train")
    (tmp_path / "empty").mkdir()
    refused(lambda: picture_files(tmp_path / "empty"), "holds no picture")
    refused(lambda: picture_files(tmp_path / "absent"), "there is no such folder")
    refused(lambda: picture_files(tmp_path / "plain" / "note.txt"), "neither a folder nor a zip file")


def test_a_zip_file_is_a_folder(tmp_path):
    for place in ("train/cat/1.png", "test/dog/3.png"):
        save(tmp_path / "named" / place, seed=len(place))
    with zipfile.ZipFile(tmp_path / "named.zip", "w") as archive:
        for file in picture_files(tmp_path / "named"):
            archive.write(tmp_path / "named" / file.place, file.place)
    for split in ("", "train", "test"):
        one, other = (PictureFolder(tmp_path / name, 8, split=split) for name in ("named", "named.zip"))
        everything = torch.arange(len(one))
        found, expected = other.examples(everything), one.examples(everything)
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_crops_are_fixed_square_and_inside(tmp_path):
    save(tmp_path / "tall.png", (40, 10), 7)
    pixels = save(tmp_path / "wide.png", (8, 12))
    middle = PictureFolder(tmp_path, 8).examples(torch.tensor([1]))["picture"][0]
    assert torch.equal(middle, pixels[:, :, 2:10])
    source = PictureFolder(tmp_path, 4, crops=5, crop=0.5, seed=3)
    assert len(source) == 10
    found = source.examples(torch.arange(10))["picture"]
    assert found.shape == (10, 3, 4, 4)
    assert found[:5].unique().tolist() == [7]
    assert len({row.numpy().tobytes() for row in found[5:]}) == 5
    assert torch.equal(source.examples(torch.tensor([8]))["picture"][0], found[8])
    kept = in_memory(source, at_once=3)
    assert torch.equal(kept.examples(torch.arange(10))["picture"], found)
    (tmp_path / "wide.png").write_bytes(b"")
    refused(lambda: source.examples(torch.tensor([9])), "wide.png: no picture")
    refused(lambda: PictureFolder(tmp_path, 4, crop=1.5), "crop=1.5")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Ten frames of 48x64, each of one grey that says which it is, and their file."""
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    frames = [np.full((48, 64, 3), 20 * number + 10, np.uint8) for number in range(10)]
    with VideoWriter(path, frames_per_second=12) as writer:
        for frame in frames:
            writer.add(frame)
    return path, frames


def test_clips_give_their_frames_in_order(clip):
    path, frames = clip
    about = clip_info(path)
    assert (about.frames, about.frames_per_second, about.height, about.width) == (10, Fraction(12), 48, 64)
    assert not about.has_audio
    found = list(clip_frames(path))
    assert np.abs(np.stack(found).astype(int) - np.stack(frames)).max() <= 4
    some = read_clip(path, 3, 4)
    assert some.shape == (4, 3, 48, 64)
    assert torch.equal(some[0], torch.from_numpy(found[3]).permute(2, 0, 1))
    refused(lambda: read_clip(path, 8, 4), "2 frames from frame 8 on; 4 are asked for")


def test_windows_of_clips(clip, tmp_path):
    path, _ = clip
    other = tmp_path / "more" / "short.mp4"
    with VideoWriter(other, frames_per_second=10) as writer:
        for _ in range(4):
            writer.add(np.zeros((64, 64, 3), np.uint8))
    source = Clips([path, other], 3, (47, 33))
    assert len(source) == 8 + 2
    found = source.examples(torch.tensor([7, 8, 2]))["frames"]
    assert found.shape == (3, 3, 3, 47, 33)
    greys = found.float().mean(dim=(2, 3, 4))
    expected = torch.tensor([[150.0, 170, 190], [0, 0, 0], [50, 70, 90]])
    torch.testing.assert_close(greys, expected, atol=3.0, rtol=0)
    refused(lambda: Clips([path, other], 3), "clips have sizes")
    refused(lambda: Clips([path, other], 5), "has 4 frames; windows of 5")
    refused(lambda: Clips([path], 2, (50, 50)), "50 x 50 is larger")
    assert clip_files(tmp_path) == [other]
    (tmp_path / "empty").mkdir()
    refused(lambda: clip_files(tmp_path / "empty"), "holds no clip")


def test_damaged_clips_are_refused(clip, tmp_path):
    path, _ = clip
    data = path.read_bytes()
    refused(lambda: list(clip_frames(tmp_path)), "it is a folder")
    refused(lambda: clip_info(tmp_path / "absent.mp4"), "there is no such file")
    for cut in (0, 100, len(data) // 2):
        (tmp_path / "cut.mp4").write_bytes(data[:cut])
        refused(lambda: list(clip_frames(tmp_path / "cut.mp4")), "cut.mp4")
    save(tmp_path / "picture.png")
    (tmp_path / "text.mp4").write_text("no clip " * 100)
    refused(lambda: clip_info(tmp_path / "text.mp4"), "no clip can be read from it")


def test_a_clip_whose_end_is_missing_is_not_taken_for_a_shorter_one(tmp_path):
    """With the index at the front a file that was cut opens well and ends early."""
    import av

    random = np.random.default_rng(0)
    with av.open(str(tmp_path / "whole.mp4"), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = 64, 64, "yuv420p"
        for _ in range(30):
            pixels = random.integers(256, size=(64, 64, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    assert len(list(clip_frames(tmp_path / "whole.mp4"))) == 30
    data = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    refused(lambda: list(clip_frames(tmp_path / "cut.mp4")), "cut.mp4 is")


def test_flow_files_round_trip(tmp_path, generator):
    flow = torch.randn(2, 5, 7, generator=generator)
    known = torch.rand(5, 7, generator=generator) < 0.7
    write_flo(tmp_path / "new" / "a.flo", flow, known)
    found, where = read_flo(tmp_path / "new" / "a.flo")
    assert torch.equal(where, known)
    assert torch.equal(found, flow * known)
    data = (tmp_path / "new" / "a.flo").read_bytes()
    assert data[:4] == b"PIEH"  # as the format's authors wrote it
    assert np.frombuffer(data[4:12], "<i4").tolist() == [7, 5]
    assert (
        np.frombuffer(data[12:20], "<f4").tolist()
        == (flow[:, 0, 0] if known[0, 0] else torch.full((2,), 1e10)).tolist()
    )
    for damaged, words in (
        (data[:-1], "which is not what 7 x 5"),
        (b"PIEX" + data[4:], "no .flo file"),
        (b"", "no .flo"),
    ):
        (tmp_path / "b.flo").write_bytes(damaged)
        refused(lambda: read_flo(tmp_path / "b.flo"), words)
    refused(lambda: read_flo(tmp_path / "absent.flo"), "cannot be read")
    refused(lambda: write_flo(tmp_path, flow), "cannot be written")
    with pytest.raises(ValueError, match="flow is"):
        write_flo(tmp_path / "c.flo", flow[0])


def test_real_mnist():
    source = mnist("test", real("mnist.npz").parent)
    assert len(source) == 10_000
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert torch.bincount(source.tensors["label"]).tolist() == counts


def test_real_flow_and_pictures():
    flow, known = read_flo(next(real("rubberwhale").rglob("*.flo")))
    assert flow.shape == (2, 388, 584)
    assert 0.9 < float(known.float().mean()) <= 1.0
    assert float(flow.norm(dim=0)[known].mean()) == pytest.approx(1.256, abs=0.01)
    assert read_picture(sorted(real("kodak").iterdir())[0]).shape in ((3, 512, 768), (3, 768, 512))


def test_real_clips():
    for path in clip_files(real("video")):
        about, frames = clip_info(path), sum(1 for _ in clip_frames(path))
        assert frames >= 20
        assert about.frames in (0, frames)


def test_real_zip_of_classes():
    source = PictureFolder(real("cifar10-jpeg.zip"), 32, split="test")
    assert (len(source), len(source.classes)) == (5000, 10)
    found = source.examples(torch.tensor([0, 4999]))
    assert found["label"].tolist() == [0, 9]
