"""interpolate_video.py: frames, rate and sound of the new clip, and input that is refused in one line."""

import json
from fractions import Fraction

import av
import numpy as np
import pytest

from rlsuite.errors import UserError
from rlsuite.records.video import VideoWriter
from scripts.interpolate_video import main


def clip(path, frames=6, size=(32, 48), codec="", rate=10):
    """A clip of a square that moves, with a tone of as many seconds where a codec is named."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=rate)
        video.height, video.width = size
        video.pix_fmt = "yuv444p" if size[0] % 2 or size[1] % 2 else "yuv420p"
        sound = container.add_stream(codec, rate=16000, layout="mono") if codec else None
        for number in range(frames):
            picture = np.full((*size, 3), 60, np.uint8)
            picture[8:20, 4 + 3 * number : 16 + 3 * number] = 200
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode(None))
        if sound is not None:
            tone = (8000 * np.sin(np.arange(16000 * frames // rate) * 0.2)).astype(np.int16)[None]
            for start in range(0, tone.shape[1], 1000):
                frame = av.AudioFrame.from_ndarray(tone[:, start : start + 1000], format="s16", layout="mono")
                frame.sample_rate, frame.pts = 16000, start
                container.mux(sound.encode(frame))
            container.mux(sound.encode(None))
    return path


def seen(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        rate = stream.average_rate
    seconds = 0.0
    with av.open(str(path)) as container:
        if container.streams.audio:
            seconds = sum(frame.samples / frame.sample_rate for frame in container.decode(container.streams.audio[0]))
    return frames, rate, seconds


def made(*arguments):
    assert main([str(argument) for argument in arguments]) == 0


@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "aac"), ("avi", "pcm_s16le")])
def test_frames_rate_and_sound(tmp_path, capsys, suffix, codec):
    source, out = clip(tmp_path / f"in.{suffix}", codec=codec), tmp_path / "out.mp4"
    made(source, f"output={out}", "method=average", "factor=3")
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    frames, rate, seconds = seen(out)
    assert len(frames) == said["frames"] == 18
    assert rate == Fraction(30) == Fraction(said["frames_per_second"])
    assert seconds == pytest.approx(seen(source)[2], abs=0.15)
    assert seconds > 0.4
    before = seen(source)[0]
    for number in range(6):  # the clip's own frames are all there, as H.264 keeps them
        assert np.abs(frames[3 * number].astype(int) - before[number].astype(int)).mean() < 3
    between = (2 * before[1].astype(int) + before[2].astype(int)) // 3
    assert np.abs(frames[4].astype(int) - between).mean() < 3
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_clip_filmed_lying_on_its_side_stands_upright(tmp_path):
    source, out = clip(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    upright = seen(source)[0]
    data = bytearray(source.read_bytes())
    matrix = data.index(b"tkhd") + 44  # of the track's header: where it says how its pictures are turned
    one, zero, minus = (1 << 16).to_bytes(4, "big"), bytes(4), (-1 << 16).to_bytes(4, "big", signed=True)
    data[matrix : matrix + 20] = zero + one + zero + minus + zero  # a quarter clockwise
    source.write_bytes(data)
    made(source, f"output={out}", "method=repeat")
    frames = seen(out)[0]
    assert frames[0].shape == (48, 32, 3)
    assert np.abs(frames[0].astype(int) - np.rot90(upright[0], -1).astype(int)).mean() < 3


def test_slow_motion_keeps_the_rate_and_is_silent(tmp_path):
    source, out = clip(tmp_path / "in.mp4", codec="aac"), tmp_path / "out.mp4"
    made(source, f"output={out}", "method=dis", "slow=true")
    frames, rate, seconds = seen(out)
    assert (len(frames), rate, seconds) == (12, 10, 0.0)


def test_nothing_is_overwritten_unless_it_is_said(tmp_path):
    source, out = clip(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    out.write_text("mine")
    with pytest.raises(UserError, match="overwrite=true"):
        made(source, f"output={out}", "method=repeat")
    with pytest.raises(UserError, match="is the clip itself"):
        made(source, f"output={source}", "method=repeat", "overwrite=true")
    made(source, f"output={out}", "method=repeat", "overwrite=true")
    assert len(seen(out)[0]) == 12


def refused(tmp_path, source, match, *arguments):
    with pytest.raises(UserError, match=match) as found:
        made(source, f"output={tmp_path / 'out.mp4'}", "method=average", *arguments)
    assert "\n" not in str(found.value)
    assert not (tmp_path / "out.mp4").exists()


def test_odd_sides_are_refused_or_cut(tmp_path):
    source = clip(tmp_path / "odd.mp4", size=(33, 47))
    refused(tmp_path, source, "47 x 33.*cut_odd=true")
    made(source, f"output={tmp_path / 'even.mp4'}", "method=average", "cut_odd=true")
    assert seen(tmp_path / "even.mp4")[0][0].shape == (32, 46, 3)


def test_clips_that_are_none(tmp_path):
    refused(tmp_path, tmp_path / "missing.mp4", "no such file")
    refused(tmp_path, tmp_path, "it is a folder")
    (tmp_path / "text.mp4").write_text("no clip")
    refused(tmp_path, tmp_path / "text.mp4", "no clip can be read")
    refused(tmp_path, clip(tmp_path / "one.mp4", frames=1), "one frame")
    whole = clip(tmp_path / "whole.mp4", frames=40).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    refused(tmp_path, tmp_path / "cut.mp4", "cut.mp4")
    with (
        av.open(str(tmp_path / "whole.mp4")) as old,
        av.open(str(tmp_path / "f.mp4"), "w", options={"movflags": "faststart"}) as new,
    ):
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(old.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    early = (tmp_path / "f.mp4").read_bytes()  # its index comes first, so it opens though its end is missing
    (tmp_path / "ends.mp4").write_bytes(early[: len(early) - 400])
    refused(tmp_path, tmp_path / "ends.mp4", r"truncated|damaged")


@pytest.mark.parametrize(
    ("argument", "match"),
    [
        ("factor=1", "use 2 to 16"),
        ("method=magic", "use average, dis, repeat, rife"),
        ("output=new.avi", "name an mp4"),
        ("dis.preset=slowest", "use ultrafast"),
        ("rife.weights=missing.safetensors", r"rife is not chosen|missing"),
        ("speed=2", "speed"),
    ],
)
def test_arguments_that_are_refused(tmp_path, argument, match):
    source = clip(tmp_path / "in.mp4")
    out = [] if argument.startswith("output") else [f"output={tmp_path / 'out.mp4'}"]
    with pytest.raises(UserError, match=match):
        made(source, *out, argument, *([] if "method" in argument else ["method=dis"]))


def test_a_missing_or_foreign_weights_file(tmp_path):
    source = clip(tmp_path / "in.mp4")
    refused_weights = tmp_path / "w.safetensors"
    for content in (None, b"nothing"):
        if content:
            refused_weights.write_bytes(content)
        with pytest.raises(UserError, match=r"rife.weights=.*train_perceiver.py"):
            made(source, f"output={tmp_path / 'o.mp4'}", "method=rife", f"rife.weights={refused_weights}")


def test_a_writer_without_sound_is_as_before(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", frames_per_second=5) as video:
        for level in (0, 100, 200):
            video.add(np.full((16, 16, 3), level, np.uint8))
    assert len(seen(tmp_path / "a.mp4")[0]) == 3
