"""Stages, videos seen in other ways, and PHOENIX's lists and frames, on small files made here."""

import numpy as np
import pytest
import torch
from PIL import Image
from small_spatial import SMALL

from envs.perception.gestures.augmentation import AugmentationConfig, Augmented, Watched, cut, keep_frames, mirror
from envs.perception.gestures.decoding import align
from envs.perception.gestures.phoenix import Phoenix
from envs.perception.gestures.sentences import VOCABULARY, SigningConfig, gesture_videos
from envs.perception.gestures.stmc import STMC, STMCConfig
from envs.perception.gestures.training import AlignedClips, StagesConfig, StepClassifiers, long_enough, train_in_stages
from rlsuite.data.arrays import Arrays
from rlsuite.errors import UserError
from rlsuite.fit import FitConfig

NET = STMCConfig(spatial=SMALL, channels=8, hidden=4, intra_hidden=4)


def counting(lengths, frames=6, side=4):
    """Videos whose frame t has the number t + 1 everywhere, and so has its key points' x."""
    there = torch.arange(frames) < torch.tensor(lengths).unsqueeze(1)
    number = torch.where(there, torch.arange(frames) + 1, 0)
    video = number.view(len(lengths), frames, 1, 1, 1).expand(-1, -1, 3, side, side).to(torch.uint8).clone()
    points = torch.zeros(len(lengths), frames, 2, 2)
    points[..., 0] = number.unsqueeze(2) / 10
    words = torch.ones(len(lengths), 1, dtype=torch.int64)
    return {"video": video, "length": torch.tensor(lengths), "words": words, "count": words[:, 0], "keypoints": points}


def test_kept_frames_move_together():
    batch = counting([6, 3])
    kept = keep_frames(batch, torch.tensor([[1, 0, 1, 0, 1, 1], [0, 1, 1, 1, 1, 1]]).bool())
    assert kept["length"].tolist() == [4, 2]
    assert kept["video"][:, :, 0, 0, 0].tolist() == [[1, 3, 5, 6], [2, 3, 0, 0]]
    assert (kept["keypoints"][..., 0, 0] * 10).round().tolist() == [[1, 3, 5, 6], [2, 3, 0, 0]]
    watched = Watched(Arrays(counting([6, 5])), every=5).examples(torch.arange(2))
    assert watched["video"][:, :, 0, 0, 0].tolist() == [[1, 2, 3, 4, 6], [1, 2, 3, 4, 0]]


def test_cuts_and_mirrors_take_key_points_along():
    video = torch.arange(16, dtype=torch.uint8).view(1, 1, 1, 4, 4).expand(2, 2, 3, 4, 4)
    middle_of = torch.tensor([0.25, -0.25])  # column 2, row 1 of 4: the number 6
    batch = {"video": video, "keypoints": middle_of.expand(2, 2, 2, 2)}
    found = cut(batch, torch.tensor([[0.5, 0.9], [0.0, 0.0]]), 2)
    assert found["video"][0, 0, 0].tolist() == [[6, 7], [10, 11]]
    assert found["video"][1, 1, 2].tolist() == [[0, 1], [4, 5]]
    torch.testing.assert_close(found["keypoints"][0, 0, 0], torch.tensor([-0.5, -0.5]))  # still on the number 6
    flipped = mirror(batch, torch.tensor([True, False]), (1, 0))
    assert flipped["video"][0, 0, 0, 0].tolist() == [3, 2, 1, 0]
    assert torch.equal(flipped["video"][1], video[1])
    assert flipped["keypoints"][0, 0, 0].tolist() == [-0.25, -0.25]
    left_right = mirror({**batch, "keypoints": torch.tensor([[0.1, 0.0], [0.5, 0.0]]).expand(2, 1, 2, 2)}, *_both())
    torch.testing.assert_close(left_right["keypoints"][0, 0], torch.tensor([[-0.5, 0.0], [-0.1, 0.0]]))


def _both():
    return torch.tensor([True, True]), (1, 0)


def test_variations_are_always_the_same_and_differ():
    source = Arrays(counting([6, 6, 5]))
    seen = Augmented(source, AugmentationConfig(drop=0.34, crop=3, mirror=0.5, variations=8), seed=1)
    assert len(seen) == 24
    one, again = seen.examples(torch.tensor([4, 2])), seen.examples(torch.tensor([4]))
    assert one["length"].tolist() == [4, 3]
    assert torch.equal(one["video"][:1], again["video"])
    kept = {tuple(seen.examples(torch.tensor([3 * v]))["video"][0, :, 0, 0, 0].tolist()) for v in range(8)}
    assert len(kept) > 3
    assert all(sorted(set(frames)) == list(frames) for frames in kept)
    with pytest.raises(UserError, match="crop=9"):
        Augmented(source, AugmentationConfig(crop=9), seed=1).examples(torch.tensor([0]))


def test_clips_have_the_labels_of_the_alignment():
    source = gesture_videos(5, "train", 0, SigningConfig(size=16))
    net = STMC(VOCABULARY, NET, seed=2).eval()
    clips = AlignedClips(source, net, 8)
    batch = source.examples(torch.arange(5))
    log_probs, steps = net(batch["video"], batch["length"])
    for row in range(5):
        words = batch["words"][row, : int(batch["count"][row])].tolist()
        assert clips.labels[row] == align(log_probs[row, : int(steps[row])], words)
    found = clips.examples(torch.arange(len(clips)))
    assert found["video"].shape[1] == 8
    assert found["labels"].shape == (len(clips), 2)
    for number, (video, first) in enumerate(clips.clips.tolist()):
        assert torch.equal(found["video"][number], batch["video"][video, first : first + 8])
        assert found["labels"][number].tolist() == clips.labels[video][first // 4 : first // 4 + 2]
    with pytest.raises(UserError, match="multiple of 4"):
        AlignedClips(source, net, 6)


def test_all_stages_run_and_move_what_they_should():
    source = gesture_videos(6, "train", 0, SigningConfig(size=16))
    net = STMC(VOCABULARY, NET, seed=2)
    usable = long_enough(source, net)
    assert len(usable) == 6
    short = {**source.tensors, "length": torch.tensor([4, *source.tensors["length"][1:].tolist()])}
    assert len(long_enough(Arrays(short), net)) == 5
    two = FitConfig(steps=2, batch_size=3)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    config = StagesConfig(pose=two, sentences=two, clips=two, again=two, clip_frames=8)
    histories = train_in_stages(net, usable, config, seed=0)
    assert list(histories) == ["pose", "sentences", "clips 0", "again 0"]
    assert set(histories["clips 0"].records[-1]) >= {"inter", "intra", "pose", "loss"}
    assert all(not torch.equal(value, before[name]) for name, value in net.state_dict().items())
    steps = StepClassifiers(STMC(VOCABULARY, NET, seed=2), 0)
    losses = steps.losses(AlignedClips(usable, net, 8).examples(torch.arange(3)))
    losses["loss"].backward()
    assert steps.model.head.classify.weight.grad is None  # clips teach no LSTM
    torch.testing.assert_close(losses["loss"], losses["inter"] + 0.6 * losses["intra"] + 30 * losses["pose"])


# -- PHOENIX -----------------------------------------------------------------------------------------------------


def write_2014(root, part, lines):
    manual = root / "annotations" / "manual"
    manual.mkdir(parents=True, exist_ok=True)
    rows = [f"{name}|{name}/1/*.png|Signer01|{words}" for name, words in lines]
    (manual / f"{part}.corpus.csv").write_text("\n".join(["id|folder|signer|annotation", *rows]) + "\n")


def write_frames(folder, count, number=0):
    folder.mkdir(parents=True, exist_ok=True)
    for frame in range(count):
        Image.fromarray(np.full((6, 5, 3), 10 * number + frame, np.uint8)).save(folder / f"images{frame:04d}.png")


@pytest.fixture
def phoenix(tmp_path):
    root = tmp_path / "phoenix-2014-multisigner"
    frames = root / "features" / "fullFrame-210x260px"
    write_2014(root, "train", [("one", "REGEN MORGEN"), ("two", "SONNE")])
    write_2014(root, "dev", [("three", "MORGEN SCHNEE")])
    for number, (place, count) in enumerate((("train/one/1", 3), ("train/two/1", 2), ("dev/three/1", 4)), 1):
        write_frames(frames / place, count, number)
    return root


def test_phoenix_2014_is_read(phoenix, monkeypatch):
    train = Phoenix("train", phoenix, size=4)
    assert train.vocabulary == ("MORGEN", "REGEN", "SONNE")
    assert len(train) == 2
    batch = train.examples(torch.tensor([1, 0]))
    assert batch["length"].tolist() == [2, 3]
    assert batch["count"].tolist() == [1, 2]
    assert batch["words"].tolist() == [[3, 0], [2, 1]]
    assert batch["video"].shape == (2, 3, 3, 4, 4)
    assert batch["video"][:, :, 0, 0, 0].tolist() == [[20, 21, 0], [10, 11, 12]]
    assert len(Phoenix("train", phoenix, size=4, most_frames=2)) == 1
    monkeypatch.setenv("RLSUITE_DATA", str(phoenix.parent))
    dev = Phoenix("dev", size=4)
    assert dev.examples(torch.tensor([0]))["words"].tolist() == [[1, 4]]  # a word that no training sentence has


def test_phoenix_2014_t_is_read(tmp_path):
    root = tmp_path / "PHOENIX-2014-T"
    manual = root / "annotations" / "manual"
    manual.mkdir(parents=True)
    header = "name|video|start|end|speaker|orth|translation"
    (manual / "PHOENIX-2014-T.train.corpus.csv").write_text(f"{header}\na-1|a-1/1/*.png|-1|-1|S|A B A|sagt | nein\n")
    with pytest.raises(UserError, match="line 2 has 8 columns, not 7"):
        Phoenix("train", root)
    (manual / "PHOENIX-2014-T.train.corpus.csv").write_text(f'{header}\na-1|a-1/1/*.png|-1|-1|S|A B A|er sagt "nein\n')
    write_frames(root / "features" / "fullFrame-210x260px" / "train" / "a-1", 2)
    assert Phoenix("train", root, size=3).examples(torch.tensor([0]))["words"].tolist() == [[1, 2, 1]]


def test_damaged_phoenix_is_refused_in_one_line(phoenix, monkeypatch):
    def refused(match, part="train"):
        with pytest.raises(UserError, match=match) as error:
            Phoenix(part, phoenix, size=4).examples(torch.tensor([0]))
        assert "\n" not in str(error.value)

    refused("cannot be read", "test")
    write_2014(phoenix, "train", [("../../../../../etc", "A")])
    refused("outside")
    write_2014(phoenix, "train", [("gone", "A")])
    refused("no pictures")
    write_2014(phoenix, "train", [("one", "")])
    refused("no words")
    write_2014(phoenix, "train", [])
    refused("no sentence")
    (phoenix / "annotations" / "manual" / "train.corpus.csv").write_text("a|b\n")
    refused("its first line")
    monkeypatch.delenv("RLSUITE_DATA", raising=False)
    with pytest.raises(UserError, match="RLSUITE_DATA"):
        Phoenix("train")
