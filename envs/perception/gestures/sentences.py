"""What a scripted hand signs: words as poses and motions of its joints, sentences of them, and videos with key points.

A sentence begins and ends with a neutral pose, which also stands between two equal words: held on, they would be one to
anybody who looks, and to CTC. Joints follow their targets with a lag, so poses run into each other.

Shapes: M sentences, T frames of the longest, L words of the longest, J joints, S side of a picture.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from envs.perception.gestures.hand import JOINTS, LOOK_DRAWS, draw, looks
from rlsuite.data.arrays import Arrays
from rlsuite.errors import require
from rlsuite.running.seeding import derive_seed

# curls of thumb, index, middle and ring, and how far the wrist swings to and fro
WORDS: dict[str, tuple[tuple[float, float, float, float], float]] = {
    "fist": ((1.0, 1.0, 1.0, 1.0), 0.0),
    "open": ((0.0, 0.0, 0.0, 0.0), 0.0),
    "point": ((1.0, 0.0, 1.0, 1.0), 0.0),
    "two": ((1.0, 0.0, 0.0, 1.0), 0.0),
    "three": ((1.0, 0.0, 0.0, 0.0), 0.0),
    "thumb": ((0.0, 1.0, 1.0, 1.0), 0.0),
    "corner": ((0.0, 0.0, 1.0, 1.0), 0.0),
    "wave": ((0.0, 0.0, 0.0, 0.0), 0.8),
}
VOCABULARY = tuple(WORDS)
NEUTRAL = (0.5, 0.5, 0.5, 0.5)
_WAVE_PERIOD = 4.0  # frames
_REST = -1  # the neutral pose among a sentence's segments


@dataclass(frozen=True, kw_only=True)
class SigningConfig:
    """How sentences are made and signed.

    Attributes:
        least: words of a sentence.
        most: words of a sentence.
        word_frames: frames of a word, between these.
        rest_frames: of a neutral pose between equal words.
        edge_frames: of those at both ends, so that a hand that rests for longer is no surprise.
        follow: share of the way to its target that a joint goes in a frame.
        amplitude: a sentence's poses are wider or narrower by up to this share.
        tremble: standard deviation of joints, each frame.
        size: S.
    """

    least: int = 2
    most: int = 3
    word_frames: tuple[int, int] = (6, 8)
    rest_frames: tuple[int, int] = (3, 4)
    edge_frames: tuple[int, int] = (1, 5)
    follow: float = 0.6
    amplitude: float = 0.15
    tremble: float = 0.02
    size: int = 24

    def __post_init__(self) -> None:
        require(1 <= self.least <= self.most, f"least={self.least}, most={self.most}: use 1 or more, most the larger")
        for name in ("word_frames", "rest_frames", "edge_frames"):
            low, high = getattr(self, name)
            require(1 <= low <= high, f"{name}={[low, high]}: use 1 or more, the second the larger")
        require(0.0 < self.follow <= 1.0, f"follow={self.follow}: use a share above 0, at most 1")
        require(self.size >= 8, f"size={self.size}: use 8 or more")


def choose_sentences(count: int, split: str, seed: int, config: SigningConfig | None = None) -> list[tuple[int, ...]]:
    """Return sentences of word numbers; "train" and "test" share none of two words or more, whatever the seed.

    Single words are in both: who is to read sentences has to know every word.
    Lengths are drawn first, so that short sentences, of which there are few, come as often as long ones.
    """
    config = config or SigningConfig()
    generator = torch.Generator().manual_seed(derive_seed(seed, f"sentences {split}"))
    of_length = {}
    for length in range(config.least, config.most + 1):
        every = list(itertools.product(range(len(VOCABULARY)), repeat=length))
        order = torch.randperm(len(every), generator=torch.Generator().manual_seed(length)).tolist()
        quarter = len(every) // 4
        part = order[:quarter] if split == "test" else order[quarter:]
        of_length[length] = [every[place] for place in (part if length > 1 else order)]
    lengths = torch.randint(config.least, config.most + 1, (count,), generator=generator).tolist()
    shares = torch.rand(count, generator=generator).tolist()
    return [of_length[n][int(share * len(of_length[n]))] for n, share in zip(lengths, shares, strict=True)]


def targets(
    sentences: Sequence[Sequence[int]], seed: int, config: SigningConfig | None = None
) -> tuple[Tensor, Tensor]:
    """Return where joints shall go in each frame (M, T, J) of sentences, at rest after their end, and lengths (M,)."""
    config = config or SigningConfig()
    generator = torch.Generator().manual_seed(derive_seed(seed, "signing"))
    segments = [_with_rests(sentence) for sentence in sentences]
    widest = max(map(len, segments))
    names = torch.tensor([row + [_REST] * (widest - len(row)) for row in segments])
    frames = _durations(names, torch.tensor([len(row) for row in segments]), config, generator)
    ends = frames.cumsum(1)
    lengths, steps = ends[:, -1], torch.arange(int(ends[:, -1].max()))
    at = torch.searchsorted(ends, steps.expand(len(names), -1).contiguous(), right=True).clamp_max(widest - 1)
    word = names.gather(1, at)
    curls = torch.tensor([*(curl for curl, _ in WORDS.values()), NEUTRAL])[word]  # number -1 is the last, the neutral
    swing = torch.tensor([*(swing for _, swing in WORDS.values()), 0.0])[word]
    since = steps - (ends - frames).gather(1, at)
    phase = torch.rand(len(names), 1, generator=generator)
    wrist = swing * torch.sin(2.0 * torch.pi * (since / _WAVE_PERIOD + phase))
    wider = 1.0 + config.amplitude * (2.0 * torch.rand(len(names), 1, 1, generator=generator) - 1.0)
    return torch.cat([0.5 + (curls - 0.5) * wider, wrist.unsqueeze(2) * wider], 2), lengths


def signed(sentences: Sequence[Sequence[int]], seed: int, config: SigningConfig | None = None) -> tuple[Tensor, Tensor]:
    """Return joints (M, T, J) that follow the targets of sentences, and tremble; and lengths (M,)."""
    config = config or SigningConfig()
    wanted, lengths = targets(sentences, seed, config)
    joints, now = [], wanted[:, 0]
    for step in range(wanted.shape[1]):
        now = now + config.follow * (wanted[:, step] - now)
        joints.append(now)
    found = torch.stack(joints, 1)
    generator = torch.Generator().manual_seed(derive_seed(seed, "tremble"))
    return found + config.tremble * torch.randn(found.shape, generator=generator), lengths


def gesture_videos(count: int, split: str, seed: int, config: SigningConfig | None = None) -> Arrays:
    """Return drawn sentences, all in memory.

    Args:
        count: M.
        split: "train" or "test".
        seed: of sentences, signing and looks.
        config: how.

    Returns:
        "video" (M, T, 3, S, S) uint8, "length" (M,) frames, "words" (M, L) classes from 1 on and zeros after the last,
        "count" (M,) words, and "keypoints" (M, T, K, 2); videos and key points are zeros after the last frame.
    """
    config = config or SigningConfig()
    sentences = choose_sentences(count, split, seed, config)
    joints, lengths = signed(sentences, derive_seed(seed, split), config)
    generator = torch.Generator().manual_seed(derive_seed(seed, f"looks {split}"))
    seen = looks(torch.rand(count, LOOK_DRAWS, generator=generator))
    there = torch.arange(joints.shape[1]) < lengths.unsqueeze(1)
    which = there.nonzero()[:, 0]
    pictures, points = draw(joints[there], seen.rows(which), config.size)
    video = torch.zeros(*there.shape, *pictures.shape[1:], dtype=torch.uint8)
    video[there] = pictures
    keypoints = torch.zeros(*there.shape, *points.shape[1:])
    keypoints[there] = points
    return Arrays({"video": video, "length": lengths, **as_classes(sentences), "keypoints": keypoints})


def as_classes(sentences: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """Return "words" (M, L) classes, zeros after the last, and "count" (M,) of sentences of word numbers."""
    longest = max(map(len, sentences))
    words = torch.tensor([[word + 1 for word in one] + [0] * (longest - len(one)) for one in sentences])
    return {"words": words, "count": torch.tensor([len(one) for one in sentences])}


def _with_rests(sentence: Sequence[int]) -> list[int]:
    """Return a sentence's segments: rests at both ends, and between equal words."""
    row = [_REST]
    for place, word in enumerate(sentence):
        row += [_REST, word] if place and sentence[place - 1] == word else [word]
    return [*row, _REST]


def _durations(names: Tensor, counts: Tensor, config: SigningConfig, generator: torch.Generator) -> Tensor:
    """Return frames of each segment (M, segments), 0 for those after a sentence's last."""
    place = torch.arange(names.shape[1])
    at_edge = (place == 0) | (place == counts.unsqueeze(1) - 1)
    kind = torch.where(at_edge, 2, (names == _REST).long())
    low, high = torch.tensor([config.word_frames, config.rest_frames, config.edge_frames])[kind].unbind(2)
    frames = low + (torch.rand(names.shape, generator=generator) * (high - low + 1)).long()
    return torch.where(place < counts.unsqueeze(1), frames, 0)


assert len(NEUTRAL) + 1 == JOINTS
