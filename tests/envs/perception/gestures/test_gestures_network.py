"""STMC's parts: shapes of the paper, key points and crops by hand, padding that changes nothing, losses by hand."""

import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_spatial import SMALL
from torch.nn import functional

from envs.perception.gestures.decoding import align, greedy, prefix_beam_search
from envs.perception.gestures.heads import ctc, feasible
from envs.perception.gestures.spatial import SpatialMultiCue, cell_places, crops, soft_argmax
from envs.perception.gestures.stmc import STMC, STMCConfig, pose_error, pose_loss
from envs.perception.gestures.temporal import TemporalMultiCue
from rlsuite.errors import UserError

NET = STMCConfig(spatial=SMALL, channels=16, hidden=6, intra_hidden=4)


def videos(count=3, frames=12, size=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "video": torch.randint(256, (count, frames, 3, size, size), generator=generator, dtype=torch.uint8),
        "length": torch.tensor([12, 9, 8][:count]),
        "words": torch.tensor([[1, 2, 0], [3, 0, 0], [2, 2, 0]][:count]),
        "count": torch.tensor([2, 1, 2][:count]),
        "keypoints": 2.0 * torch.rand(count, frames, 7, 2, generator=generator) - 1.0,
    }


def test_the_papers_sizes():
    config = STMCConfig()
    assert config.spatial.sizes == {"full": 512, "hands": 512, "face": 256, "pose": 256}  # 1536 together
    with torch.device("meta"):
        spatial = SpatialMultiCue(config.spatial)
        maps = spatial.stem(torch.zeros(2, 3, 224, 224))
        assert maps.shape == (2, 256, 56, 56)
        middle = spatial.middle(maps)
        assert middle.shape == (2, 512, 14, 14)
        heat = spatial.pose.second(functional.relu(spatial.pose.first(middle)))
        assert heat.shape == (2, 7, 56, 56)
    temporal = TemporalMultiCue(list(config.spatial.sizes.values()), 1024, 5, 2)
    cues = [torch.rand(1, 12, size) for size in config.spatial.sizes.values()]
    intra, inter, lengths = temporal(cues, torch.tensor([12]))
    assert inter.shape == (1, 3, 1024)
    assert [one.shape for one in intra] == [(1, 3, 256)] * 4
    assert lengths.tolist() == [3]


def test_soft_argmax_of_a_peak_is_its_place_and_of_nothing_the_middle():
    logits = torch.zeros(1, 2, 4, 8)
    logits[0, 1, 3, 1] = 100.0
    found = soft_argmax(logits)
    torch.testing.assert_close(found, torch.tensor([[[0.0, 0.0], [-0.625, 0.75]]]))
    assert cell_places(4).tolist() == [-0.75, -0.25, 0.25, 0.75]
    # logits below 0 count: a ReLU before the softmax would draw this one to the middle
    torch.testing.assert_close(soft_argmax(logits - 100.0), found)


def test_crops_are_slices_that_stay_inside():
    maps = torch.rand(4, 2, 8, 10, generator=torch.Generator().manual_seed(0), requires_grad=True)
    centres = torch.tensor([[0.0, 0.0], [-1.0, -1.0], [1.0, 1.0], [0.6, -0.5]])
    found = crops(maps, centres, 4)
    for row, (top, left) in enumerate(((2, 3), (0, 0), (4, 6), (0, 6))):
        assert torch.equal(found[row], maps[row, :, top : top + 4, left : left + 4])
    found[0].sum().backward()
    assert float(maps.grad.sum()) == 2 * 16


def test_what_is_beside_a_video_does_not_change_it():
    net, batch = STMC(("a", "b", "c"), NET, seed=1).eval(), videos()
    together, lengths = net(batch["video"], batch["length"])
    assert lengths.tolist() == [3, 2, 2]
    for row in range(3):
        frames = int(batch["length"][row])
        alone, steps = net(batch["video"][row : row + 1, :frames], batch["length"][row : row + 1])
        torch.testing.assert_close(together[row : row + 1, : int(steps)], alone[:, : int(steps)], atol=1e-5, rtol=1e-4)
    noisy = batch["video"].clone()
    noisy[1, 9:] = 255
    assert torch.equal(net(noisy, batch["length"])[0][1, :2], together[1, :2])


def test_nothing_is_read_where_all_videos_are_shorter_than_a_step():
    net, batch = STMC(("a", "b", "c"), NET, seed=1).eval(), videos(2)
    lengths = torch.tensor([3, 2])
    assert net.decode(batch["video"][:, :3], lengths) == [[], []]
    assert net.streams(batch["video"][:, :3], lengths).keypoints.shape == (2, 3, 7, 2)


def test_the_joint_loss_by_hand():
    net, batch = STMC(("a", "b", "c"), NET, seed=1), videos()
    found, losses = net.streams(batch["video"], batch["length"]), net.losses(batch)
    by_hand = torch.zeros(())
    for row, count in enumerate((2, 1, 2)):
        steps = int(found.lengths[row])
        if count + (row == 2) > steps:
            continue  # two equal words need three steps: no path, and no loss
        log_probs = net.head(found.inter, found.lengths)[row, :steps]
        total = torch.zeros(())
        for path in itertools.product(range(4), repeat=steps):
            merged = [now for before, now in zip((0, *path), path, strict=False) if now not in (before, 0)]
            if merged == batch["words"][row, :count].tolist():
                total = total + log_probs[range(steps), path].sum().exp()
        by_hand = by_hand - total.log()
    torch.testing.assert_close(losses["inter"], by_hand / 3)
    there = [(row, frame) for row in range(3) for frame in range(int(batch["length"][row]))]
    off = torch.stack([found.keypoints[at] - batch["keypoints"][at] for at in there]).abs()
    smooth = torch.where(off < 1, 0.5 * off**2, off - 0.5).sum() / (2 * len(there) * 7)
    torch.testing.assert_close(losses["pose"], smooth)
    torch.testing.assert_close(losses["loss"], losses["inter"] + 0.6 * losses["intra"] + 30.0 * losses["pose"])
    assert pose_loss(found.keypoints, found.keypoints, batch["length"]) == 0
    shifted = batch["keypoints"] + torch.tensor([0.06, 0.08])
    torch.testing.assert_close(pose_error(shifted, batch["keypoints"], batch["length"]), torch.full((3,), 0.05))


def test_arms_leave_out_what_they_say():
    full = STMC(("a", "b"), replace(NET, spatial=replace(SMALL, cues=("full",))))
    assert full.streams(videos()["video"], videos()["length"]).keypoints is None
    assert set(full.losses(videos())) == {"loss", "inter", "intra"}
    assert set(STMC(("a", "b", "c"), replace(NET, alpha=0.0, beta=0.0)).losses(videos())) == {"loss", "inter"}
    fixed = replace(SMALL, cues=("full", "hands"), anchors=((0.0, 0.0), (0.1, 0.1), (0.0, 0.5)))
    assert STMC(("a",), replace(NET, spatial=fixed)).spatial.pose is None
    for wrong in ({"cues": ("pose", "full")}, {"hands": (7,)}, {"anchors": ((0.0, 0.0),)}, {"stem": ()}):
        with pytest.raises(UserError):
            replace(SMALL, **wrong)


def test_normalized_cues_by_hand():
    frames = videos()["video"].flatten(0, 1)
    plain, normalized = SpatialMultiCue(SMALL), SpatialMultiCue(replace(SMALL, normalize=True))
    normalized.load_state_dict(plain.state_dict(), strict=False)
    with torch.no_grad():
        cues, _ = plain(frames)
        found, _ = normalized(frames)
        for cue, one in zip(cues, found, strict=True):
            torch.testing.assert_close(one, (cue - cue.mean(0)) / (cue.var(0, correction=0) + 1e-5).sqrt())
        normalized.eval()
        whole, alone = normalized(frames)[0], normalized(frames[:1])[0]
    for one, other in zip(whole, alone, strict=True):  # what is read of a frame does not depend on those beside it
        torch.testing.assert_close(one[:1], other)


def test_learning_moves_every_weight_and_lowers_the_loss():
    net, batch = STMC(("a", "b", "c"), NET, seed=0), videos()
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    first = float(net.losses(batch)["loss"].detach())
    for _ in range(15):
        optimizer.zero_grad()
        net.losses(batch)["loss"].backward()
        assert all(weight.grad is not None for weight in net.parameters())
        optimizer.step()
    assert float(net.losses(batch)["loss"].detach()) < 0.8 * first


# -- decoding --------------------------------------------------------------------------------------------------------


def merged(path):
    return tuple(now for before, now in zip((0, *path), path, strict=False) if now not in (before, 0))


def paths(log_probs):
    steps = range(len(log_probs))
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        yield path, log_probs[steps, path].sum()


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 4), st.integers(2, 3), st.integers(0, 999))
def test_beam_search_and_alignment_are_brute_force(steps, classes, seed):
    log_probs = (
        (2.0 * torch.randn(steps, classes, generator=torch.Generator().manual_seed(seed))).double().log_softmax(1)
    )
    total, best = {}, {}
    for path, score in paths(log_probs):
        words = merged(path)
        total[words] = total.get(words, 0.0) + float(score.exp())
        if float(score) > best.get(words, (-torch.inf,))[0]:
            best[words] = (float(score), path)
    assert tuple(prefix_beam_search(log_probs, width=500)) == max(total, key=total.get)
    likeliest = log_probs.argmax(1).tolist()
    assert tuple(greedy(log_probs)) == merged(likeliest)
    for words, (_, path) in best.items():
        assert tuple(align(log_probs, words)) == path
        loss = ctc(log_probs[None], torch.tensor([steps]), torch.tensor([[*words, 0]]), torch.tensor([len(words)]))
        assert float(loss.exp()) == pytest.approx(1.0 / total[words])


def test_a_beam_counts_all_paths_where_the_likeliest_one_is_wrong():
    log_probs = torch.tensor([[0.6, 0.4], [0.6, 0.4]]).log()  # path blank, blank has 0.36; "a" has 0.64 in three
    assert greedy(log_probs) == []
    assert prefix_beam_search(log_probs, 5) == [1]
    held = torch.tensor([[0.1, 0.9], [0.9, 0.1], [0.1, 0.9]]).log()
    assert prefix_beam_search(held) == greedy(held) == [1, 1]


def test_how_many_steps_words_need():
    words, counts = torch.tensor([[1, 1, 2], [1, 2, 2], [3, 3, 3]]), torch.tensor([3, 2, 0])
    assert feasible(torch.tensor([4, 2, 0]), words, counts).tolist() == [True, True, True]
    assert feasible(torch.tensor([3, 1, 0]), words, counts).tolist() == [False, False, True]
    with pytest.raises(UserError, match="cannot spell"):
        align(torch.zeros(2, 3), [1, 1])
