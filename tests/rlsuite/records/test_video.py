"""Videos: names of any letters, and what cannot be written."""

import os

import av
import numpy as np
import pytest

from rlsuite.errors import UserError
from rlsuite.records.video import VideoWriter


@pytest.mark.parametrize("name", [b"film.mp4", b"a:b.mp4", b"http:film.mp4", b"caf\xe9.mp4", b"-i.mp4", b"50%d.mp4"])
def test_a_video_is_written_under_its_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with VideoWriter(tmp_path.__class__(os.fsdecode(name)), frames_per_second=10) as video:
        for shade in (0, 100, 200):
            video.add(np.full((32, 48, 3), shade, np.uint8))
    assert os.listdir(os.fsencode(tmp_path)) == [name]
    with open(name, "rb") as file, av.open(file) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert [frame.shape for frame in frames] == [(32, 48, 3)] * 3
    assert abs(float(frames[2].mean()) - 200) < 5


def test_a_video_has_its_name_once_it_is_whole_or_was_ended(tmp_path):
    path = tmp_path / "film.mp4"

    def stopped():
        with VideoWriter(path, frames_per_second=10) as video:
            video.add(np.zeros((32, 32, 3), np.uint8))
            assert not path.exists()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert os.listdir(tmp_path) == ["film.mp4"]
    with av.open(path) as container:
        assert len(list(container.decode(video=0))) == 1


def test_a_folder_in_its_place_is_one_line(tmp_path):
    (tmp_path / "film.mp4").mkdir()
    with (
        pytest.raises(UserError, match="cannot write video") as refusal,
        VideoWriter(tmp_path / "film.mp4", frames_per_second=10) as video,
    ):
        video.add(np.zeros((32, 32, 3), np.uint8))
    assert "\n" not in str(refusal.value)
