"""The signing hand: sentences in one part alone, rests between equal words, exact key points, environment, score."""

import math

import pytest
import torch
from small_spatial import SMALL

from envs.perception.gestures.hand import KEYPOINTS, LOOK_DRAWS, draw, keypoints_and_capsules, looks
from envs.perception.gestures.score import GestureScore
from envs.perception.gestures.sentences import (
    NEUTRAL,
    VOCABULARY,
    WORDS,
    SigningConfig,
    choose_sentences,
    gesture_videos,
    targets,
)
from envs.perception.gestures.signing import SigningHand, script
from envs.perception.gestures.stmc import STMC, STMCConfig
from rlsuite.errors import UserError

STILL = SigningConfig(amplitude=0.0, tremble=0.0, follow=1.0, edge_frames=(2, 2))
NET = STMCConfig(spatial=SMALL, channels=8, hidden=4, intra_hidden=4, beam=3)


def plain_look(count=1):
    """Upright, its elbow at (0, 0.9), of scale 1.025, on black."""
    draws = torch.full((count, LOOK_DRAWS), 0.5)
    draws[:, 11:] = 0.0
    return looks(draws)


def test_key_points_by_hand():
    joints = torch.tensor([[0.0, 0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0, 1.0]])
    points, _, _ = keypoints_and_capsules(joints, plain_look(3))
    at = dict(zip(KEYPOINTS, points[0], strict=True))
    scale = 1.025
    assert at["elbow"].tolist() == pytest.approx([0.0, 0.9])
    assert at["wrist"].tolist() == pytest.approx([0.0, 0.9 - 0.62 * scale])
    assert at["knuckles"].tolist() == pytest.approx([0.0, 0.9 - 1.0 * scale])
    assert at["middle"].tolist() == pytest.approx([0.0, 0.9 - (1.0 + 2 * 0.26) * scale], abs=1e-5)
    folded = 0.26 * (math.cos(1.6) + math.cos(2.8))
    assert points[1, 5].tolist() == pytest.approx([0.0, 0.9 - (1.0 + folded) * scale], abs=1e-5)
    torch.testing.assert_close(points[2, :2], points[0, :2])  # a turned wrist moves what is beyond it
    turned = [0.38 * scale * math.sin(0.7), at["wrist"][1].item() - 0.38 * scale * math.cos(0.7)]
    assert points[2, 2].tolist() == pytest.approx(turned, abs=1e-5)


def test_pictures_show_the_hand_where_its_key_points_are():
    joints = torch.zeros(1, 5)
    pictures, points = draw(joints, plain_look(), 64)
    assert pictures.shape == (1, 3, 64, 64)
    for x, y in points[0, 1:].tolist():
        column, row = int((x + 1) / 2 * 64), int((y + 1) / 2 * 64)
        assert int(pictures[0, 0, row, column]) > 60
    assert int(pictures[0, :, :4].max()) == int(pictures[0, :, 32, :8].max()) == 0
    assert not torch.equal(draw(torch.ones(1, 5), plain_look(), 64)[0], pictures)


def test_a_neutral_pose_stands_at_both_ends_and_between_equal_words_alone():
    fist, wave = VOCABULARY.index("fist"), VOCABULARY.index("wave")
    wanted, lengths = targets([(fist, fist), (fist, wave)], 3, STILL)
    rest = (wanted[..., :4] == torch.tensor(NEUTRAL)).all(2)
    for row, runs in ((0, 3), (1, 2)):
        here = rest[row, : int(lengths[row])].long()
        begins = int(here[0]) + int((here[1:] > here[:-1]).sum())
        assert begins == runs
        assert here[:2].all()
        assert here[-2:].all()
    moving = (wanted[1, :, 4] != 0) & ~rest[1]
    assert 6 <= int(moving.sum()) + 2 <= 10  # the wave's frames, but for those where its swing is 0
    assert wanted[0, :, 4].abs().max() == 0


def test_no_sentence_is_in_both_parts():
    parts = {part: set(choose_sentences(500, part, seed, STILL)) for seed, part in ((0, "train"), (1, "test"))}
    assert not parts["train"] & parts["test"]
    assert all(2 <= len(one) <= 3 and max(one) < len(WORDS) for one in parts["train"])
    assert choose_sentences(5, "train", 4) == choose_sentences(5, "train", 4) != choose_sentences(5, "train", 5)


@pytest.mark.parametrize("part", ["train", "test"])
def test_every_word_is_shown_by_itself(part):
    single = SigningConfig(least=1, most=1)
    assert set(choose_sentences(500, part, 0, single)) == {(word,) for word in range(len(VOCABULARY))}


def test_videos_hold_what_they_say():
    found, again = gesture_videos(6, "train", 2), gesture_videos(6, "train", 2)
    assert all(torch.equal(value, again.tensors[name]) for name, value in found.tensors.items())
    batch = found.examples(torch.arange(6))
    frames = int(batch["length"].max())
    assert batch["video"].shape == (6, frames, 3, 24, 24)
    assert batch["keypoints"].shape == (6, frames, 7, 2)
    for row in range(6):
        end = int(batch["length"][row])
        assert not batch["video"][row, end:].any()
        assert batch["video"][row, :end].flatten(1).any(1).all()
        assert (batch["words"][row] > 0).sum() == batch["count"][row]
    # each word takes 6 frames or more, and so CTC has as many steps as it needs
    assert (batch["length"] // 4 >= batch["count"]).all()


# -- in the loop -------------------------------------------------------------------------------------------------


def test_the_environment_signs_what_the_script_says_and_resumes():
    config = SigningConfig(amplitude=0.0, tremble=0.02)
    actions = script([(0, 1), (2, 2)], 5, config)
    env, other = (SigningHand(2, config, max_episode_steps=4) for _ in range(2))
    first, _ = env.reset(seed=1)
    assert first.shape == (2, 3, 24, 24)
    assert first.dtype == torch.uint8
    for step in range(6):
        seen, reward, terminated, truncated, info = env.step(actions[:, step])
        assert truncated.tolist() == [step == 3] * 2
        assert not terminated.any()
        assert not reward.any()
        assert torch.equal(seen, info["final_obs"]) == (step != 3)
    other.reset(seed=7)
    other.load_state(env.state())
    for step in (6, 7):
        one, two = env.step(actions[:, step]), other.step(actions[:, step])
        assert torch.equal(one[0], two[0])
        assert torch.equal(one[4]["final_obs"], two[4]["final_obs"])
    assert torch.equal(SigningHand(2, config).reset(seed=1)[0], first)
    assert torch.equal(SigningHand(3, config).reset(seed=1)[0][:2], first)  # each has streams of its own
    with pytest.raises(ValueError):
        SigningHand(3).load_state(env.state())


class Told(STMC):
    """Reads the answers that a test gives, and keeps what it was shown."""

    def __init__(self):
        super().__init__(VOCABULARY, NET)
        self.answers, self.shown = [], []

    def decode(self, video, lengths, beam=None):
        self.shown.append((video.clone(), lengths.clone()))
        return [self.answers.pop(0) for _ in lengths]


def test_the_score_is_the_word_error_rate_of_what_was_asked():
    net = Told()
    env = GestureScore(SigningHand(2, max_episode_steps=5), net, least=2, most=3, frames=12, weight=2.0)
    first, info = env.reset(seed=3)
    asked = env.commanded(torch.arange(2))
    assert [len(one) for one in asked] == (info["gesture/words"] > 0).sum(1).tolist()
    net.answers = [asked[0], asked[1][:-1]]
    frames = [first]
    for step in range(5):
        seen, reward, _, truncated, info = env.step(torch.zeros(2, 5))
        frames.append(info["final_obs"])
        if step < 4:
            assert info["gesture/word_error_rate"].isnan().all()
            assert not reward.any()
    rates = info["gesture/word_error_rate"]
    missing = 1.0 / len(asked[1])
    assert truncated.all()
    assert rates.tolist() == pytest.approx([0.0, missing])
    assert reward.tolist() == pytest.approx([2.0, 2.0 * (1.0 - missing)])
    assert [VOCABULARY[label - 1] for label in info["gesture/read"][0].tolist() if label] == asked[0]
    video, lengths = net.shown[0]
    assert lengths.tolist() == [6, 6]
    assert torch.equal(video, torch.stack(frames, 1))
    assert not torch.equal(seen, info["final_obs"])
    # the next episode has other words, and its video begins with its own first picture
    assert torch.equal(env._video[:, 0], seen)
    assert env._length.tolist() == [1, 1]
    assert torch.equal(info["gesture/words"], env.words)


def test_a_scored_environment_resumes_and_refuses_what_it_cannot_read():
    def make(frames=8):
        return GestureScore(SigningHand(2, max_episode_steps=6), STMC(VOCABULARY, NET).eval(), frames=frames)

    env, other = make(), make()
    env.reset(seed=3)
    other.reset(seed=4)
    for _ in range(4):
        env.step(torch.zeros(2, 5))
    other.load_state(env.state())
    for _ in range(9):
        one, two = env.step(torch.ones(2, 5)), other.step(torch.ones(2, 5))
        assert torch.equal(one[0], two[0])
        for name, value in one[4].items():
            torch.testing.assert_close(value, two[4][name], equal_nan=True, atol=0, rtol=0)
    with pytest.raises(ValueError, match="not of environments"):
        make(frames=9).load_state(env.state())
    with pytest.raises(UserError, match="frames=3"):
        make(frames=3)
    import envs

    with pytest.raises(UserError, match=r"camera\.size="):
        GestureScore(envs.make_vector("Reacher", 1, num_threads=1), STMC(VOCABULARY, NET))
