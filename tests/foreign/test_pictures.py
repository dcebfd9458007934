"""Whatever render() returns becomes a picture of bytes, or one line."""

import av
import numpy as np
import pytest
from odd_environments import ID

import envs
from envs.adapters.pictures import as_picture, frame_rate
from rlsuite.errors import UserError
from rlsuite.records.video import VideoWriter

BYTES = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
GREY = BYTES[:, :, 0]
AS_GREY = np.stack([GREY] * 3, axis=2)
HALF = np.full((2, 2, 3), 128, np.uint8)
DRAWN = {
    "bytes": (BYTES, BYTES),
    "grey": (GREY, AS_GREY),
    "grey with a channel": (GREY[:, :, None], AS_GREY),
    "opacity": (np.concatenate([BYTES, BYTES[:, :, :1]], axis=2), BYTES),
    "floats to 1": (HALF / 255.0, HALF),
    "floats to 255": (HALF.astype(np.float32), HALF),
    "beyond": (np.full((2, 2, 3), 300), np.full((2, 2, 3), 255)),
    "below": (np.full((2, 2, 3), -3.0), np.zeros((2, 2, 3))),
    "nan": (np.full((2, 2, 3), np.nan), np.zeros((2, 2, 3))),
    "mask": (np.array([[True, False]]), np.array([[[255] * 3, [0] * 3]])),
    "frames": ([GREY, BYTES], BYTES),
}


@pytest.mark.parametrize("name", DRAWN)
def test_frames_of_all_kinds_become_bytes(name):
    frame, expected = DRAWN[name]
    env = envs.make_vector(f"gymnasium:{ID}", 1, render_mode="rgb_array", frame=lambda: frame)
    env.reset(seed=0)
    picture = env.render(0)
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, expected)


REFUSED = {
    "nothing": (None, "returned no picture"),
    "no frames": ([], "returned no picture"),
    "words": ("a b", r"returned shape \(\)"),
    "two channels": (np.zeros((4, 4, 2)), r"returned shape \(4, 4, 2\)"),
    "channels first": (np.zeros((3, 64, 64)), r"returned shape \(3, 64, 64\)"),
    "empty": (np.zeros((0, 4, 3)), r"returned shape \(0, 4, 3\)"),
    "complex": (np.zeros((4, 4, 3), complex), r"returned shape \(4, 4, 3\) of complex128"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_picture_is_one_line(name):
    frame, message = REFUSED[name]
    env = envs.make_vector(f"gymnasium:{ID}", 1, render_mode="rgb_array", frame=lambda: frame)
    env.reset(seed=0)
    with pytest.raises(UserError, match=f"gymnasium:{ID} cannot be drawn: render\\(\\) {message}") as caught:
        env.render(0)
    assert "\n" not in str(caught.value)


def test_drawing_that_raises_is_one_line():
    def frame():
        raise ImportError("No module named 'pygame'")

    env = envs.make_vector(f"gymnasium:{ID}", 1, render_mode="rgb_array", frame=frame)
    env.reset(seed=0)
    with pytest.raises(UserError, match=r"cannot be drawn: ImportError: No module named 'pygame'$"):
        env.render(0)


def test_a_picture_is_not_written_into():
    frame = np.full((2, 2, 3), 0.5)
    as_picture(frame)
    assert (frame == 0.5).all()


@pytest.mark.parametrize(
    ("rate", "expected"),
    [(5, 5.0), (12.5, 12.5), (np.int64(20), 20.0), (None, 30.0), ("fast", 30.0), (0, 30.0), (float("nan"), 30.0)],
)
def test_frame_rates(rate, expected):
    assert envs.make_vector(f"gymnasium:{ID}", 1, rate=rate).metadata["render_fps"] == expected
    assert frame_rate({"render_fps": rate}) == frame_rate({"render_fps": expected}) == expected


@pytest.mark.parametrize("rate", [5, 29.97, 0.5])
def test_a_video_has_the_rate_it_is_given(rate, tmp_path):
    with VideoWriter(tmp_path / "film.mp4", frames_per_second=rate) as video:
        for _ in range(6):
            video.add(np.zeros((16, 18, 3), np.uint8))
    with av.open(str(tmp_path / "film.mp4")) as film:
        stream = film.streams.video[0]
        assert float(stream.average_rate) == pytest.approx(rate, rel=1e-3)
        assert stream.frames == 6


@pytest.mark.parametrize("shape", [(16, 20, 3), (1, 1, 3)])
def test_pictures_of_another_size_are_one_line(shape, tmp_path):
    with VideoWriter(tmp_path / "film.mp4", frames_per_second=5) as video:
        video.add(np.zeros((16, 18, 3), np.uint8))
        with pytest.raises(UserError, match="keep one size"):
            video.add(np.zeros(shape, np.uint8))
