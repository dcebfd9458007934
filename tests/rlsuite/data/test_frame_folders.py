"""Clips that lie as numbered pictures: on small files laid out as Vimeo-90k's and DAVIS's are."""

import pytest
import torch
from PIL import Image

from envs.perception.codec.m_lvc import MLVC, MLVCConfig
from envs.perception.codec.network import MLVCNetConfig
from envs.perception.inpainting.clips import FoundClips
from envs.perception.interpolation.rife import RIFE
from envs.perception.interpolation.sequences import Sequences
from rlsuite.data.clips import Clips, clip_files, clips_in, read_clip
from rlsuite.data.frame_folders import FrameFolder
from rlsuite.data.pictures import picture_size, read_picture
from rlsuite.errors import UserError


def frame(path, value, size=(40, 36)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(path)


@pytest.fixture
def vimeo(tmp_path):
    """Two septuplets, (36, 40): the pixels of sequence k's frame i are 100 k + 10 i."""
    for sequence in (1, 2):
        for number in range(1, 8):
            frame(tmp_path / "sequences" / "00001" / f"000{sequence}" / f"im{number}.png", 100 * sequence + number)
    return tmp_path


def test_septuplets_are_clips_in_the_order_of_their_numbers(vimeo):
    one, other = clips_in(vimeo)
    assert one.shape == (7, 3, 36, 40)
    assert one[:][:, 0, 0, 0].tolist() == [101, 102, 103, 104, 105, 106, 107]
    assert other[2:4][:, 2, 5, 5].tolist() == [203, 204]
    assert int(other[6][0, 0, 0]) == 207
    folder = vimeo / "sequences" / "00001" / "0002"
    assert clip_files(vimeo) == [folder.with_name("0001"), folder]
    assert read_clip(folder, 5)[:, 0, 0, 0].tolist() == [206, 207]
    with pytest.raises(UserError, match="2 frames from frame 5 on; 3 are asked for"):
        read_clip(folder, 5, 3)
    found = Clips(clip_files(vimeo), 3, size=(32, 32)).examples(torch.tensor([4, 5]))["frames"]
    assert found[:, :, 0, 0, 0].tolist() == [[105, 106, 107], [201, 202, 203]]


def test_clips_that_are_not_for_training_are_left_out(vimeo):
    (vimeo / "sep_trainlist.txt").write_text("00001/0002\n\n")
    assert [path.name for path in clip_files(vimeo)] == ["0002"]


def test_frames_of_davis_are_clips_and_its_masks_are_none(tmp_path):
    for name, frames in (("bear", 11), ("bus", 2)):
        for number in range(frames):
            frame(tmp_path / "JPEGImages" / "480p" / name / f"{number:05}.jpg", number)
            frame(tmp_path / "Annotations" / "480p" / name / f"{number:05}.png", 255)
    bear, bus = clips_in(tmp_path)
    assert (len(bear), len(bus)) == (11, 2)
    assert bear[:][:, 0, 0, 0].tolist() == list(range(11))  # not 0, 1, 10, 2


def test_still_pictures_are_no_clips_and_it_is_said(tmp_path, capsys):
    for number in (1, 2, 3):
        frame(tmp_path / f"{number:06}.png", 9)  # in one folder, as CelebA's
    for name in ("cat_17.png", "cat_20.png", "cat_99.png"):
        frame(tmp_path / "cats" / name, 9)
    for name in ("im1.png", "im2.png", "cover.png"):
        frame(tmp_path / "mixed" / name, 9)
    for name in ("1.webp", "2.webp"):
        frame(tmp_path / "webp" / name, 9)
    frame(tmp_path / "alone" / "1.png", 9)
    assert clips_in(tmp_path) == []
    assert "holds no clip" in capsys.readouterr().err
    with pytest.raises(UserError, match="folders of numbered frames"):
        clip_files(tmp_path)
    with pytest.raises(UserError, match="it holds no frames"):
        FrameFolder(tmp_path / "cats")


def test_frames_of_other_sizes_are_refused(vimeo):
    path = vimeo / "sequences" / "00001" / "0001" / "im5.png"
    frame(path, 1, (36, 40))
    assert picture_size(path) == (40, 36)
    with pytest.raises(UserError, match=r"im5.png is 40 x 36, the first of its folder 36 x 40"):
        FrameFolder(path.parent)[:]
    path.write_bytes(b"no picture")
    with pytest.raises(UserError, match="no picture can be read"):
        picture_size(path)


def test_a_turned_pictures_size_is_that_of_its_pixels(tmp_path):
    for orientation in range(1, 9):
        turned = Image.Exif()
        turned[0x0112] = orientation
        Image.new("RGB", (5, 3)).save(tmp_path / "a.jpg", exif=turned)
        assert picture_size(tmp_path / "a.jpg") == tuple(read_picture(tmp_path / "a.jpg").shape[1:])


def test_perceivers_learn_from_folders_of_frames(vimeo, monkeypatch):
    found = Sequences(clips_in(vimeo), 32, seed=1).examples(torch.arange(30))
    first, middle, second = (found[name][:, 0, 0, 0].int() for name in ("first", "middle", "second"))
    torch.testing.assert_close(found["time"], (middle - first) / (second - first))
    shown = RIFE(config=RIFE.Config()).source(str(vimeo), 32, 0).examples(torch.arange(4))["middle"]
    assert shown.flatten(1).unique(dim=1).shape == (4, 1)  # flat grey, as no still picture is
    for name in ("im1.png", "im2.png", "im3.png", "im4.png", "im5.png", "im6.png", "im7.png"):
        for sequence in ("0001", "0002"):
            frame(vimeo / "sequences" / "00001" / sequence / name, int(name[2]), (64, 64))
    codec = MLVC(config=MLVCConfig(network=MLVCNetConfig(divisor=8)))
    windows = codec.source(str(vimeo), 64, 0).examples(torch.arange(2))["frames"]
    assert windows[:, :, 0, 0, 0].tolist() == [[1, 2, 3, 4, 5, 6, 7]] * 2
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 100_000}))
    with pytest.raises(UserError, match="name fewer clips"):
        FoundClips(clips_in(vimeo), 32, 5)


def test_flow_is_found_in_folders_of_frames(vimeo):
    pytest.importorskip("cv2", reason="OpenCV is not installed (extra: vision)")
    found = FoundClips(clips_in(vimeo), 32, 5).examples(torch.arange(3))
    assert found["frames"].shape == (3, 5, 3, 32, 32)
    steps = found["frames"][:, :, 0, 0, 0].int().diff(dim=1)
    assert steps.unique().tolist() == [1]
