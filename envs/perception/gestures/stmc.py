"""STMC (Zhou et al. 2020, arXiv:2002.03187): words read out of a video of a signing hand, learned from sentences alone.

    frames -> cues (spatial.py) -> intra and inter paths over time (temporal.py) -> a sequence head each (heads.py)
    loss = CTC(inter) + alpha sum_n CTC(intra_n) + beta L_R,    L_R = 1 / (2 T K) sum smooth_L1(keypoints - true ones)

Only the inter path is decoded, by prefix beam search. No code was published. alpha, beta, crops' sides, the beam's
width and the intra heads' LSTM are not in the abstract and were recalled or chosen; each is a number of the config.

Shapes: B videos, T frames, H x W pixels, K key points, N cues, S = T // 4 steps, V words, L words of a sentence.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from envs.perception.gestures.decoding import greedy, prefix_beam_search
from envs.perception.gestures.heads import SequenceHead, ctc
from envs.perception.gestures.spatial import SpatialConfig, SpatialMultiCue
from envs.perception.gestures.temporal import TemporalMultiCue
from rlsuite.errors import require, require_finite


@dataclass(frozen=True, kw_only=True)
class STMCConfig:
    """STMC; the defaults are the paper's.

    Attributes:
        spatial: the spatial module.
        channels: C of the temporal blocks.
        kernel: of their convolutions.
        blocks: of them; each halves the steps.
        hidden: of the inter path's LSTM, in each direction.
        intra_hidden: of each cue's LSTM.
        alpha: weight of the intra paths' losses; 0 leaves their heads out.
        beta: weight of the pose's loss; 0 leaves it out.
        beam: width of the search.
    """

    spatial: SpatialConfig = field(default_factory=SpatialConfig)
    channels: int = 1024
    kernel: int = 5
    blocks: int = 2
    hidden: int = 512
    intra_hidden: int = 128
    alpha: float = 0.6
    beta: float = 30.0
    beam: int = 20

    def __post_init__(self) -> None:
        for name in ("channels", "kernel", "blocks", "hidden", "intra_hidden", "beam"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        for name in ("alpha", "beta"):
            require_finite(name, getattr(self, name), low=0.0)


class Streams(NamedTuple):
    """What is computed of videos before the heads.

    Attributes:
        inter: (B, S, C).
        intra: (B, S, C / N) each.
        lengths: (B,) int64 steps of each video.
        keypoints: (B, T, K, 2), zeros after a video's end; None where nothing looks for them.
    """

    inter: Tensor
    intra: list[Tensor]
    lengths: Tensor
    keypoints: Tensor | None


class STMC(nn.Module):
    """The recognizer.

    Args:
        vocabulary: its words, V of them; class v + 1 is word v.
        config: its numbers.
        seed: of its first weights.

    Attributes:
        vocabulary: as given.
        config: as given.
    """

    def __init__(self, vocabulary: tuple[str, ...], config: STMCConfig | None = None, seed: int = 0) -> None:
        super().__init__()
        require(len(set(vocabulary)) == len(vocabulary) > 0, "vocabulary: give one or more words, each once")
        self.vocabulary, self.config = tuple(vocabulary), config or STMCConfig()
        sizes = list(self.config.spatial.sizes.values())
        words, channels = len(vocabulary), self.config.channels
        with torch.random.fork_rng([]):
            torch.default_generator.manual_seed(seed)
            self.spatial = SpatialMultiCue(self.config.spatial)
            self.temporal = TemporalMultiCue(sizes, channels, self.config.kernel, self.config.blocks)
            self.head = SequenceHead(channels, self.config.hidden, words)
            self.intra_heads = nn.ModuleList(
                SequenceHead(channels // len(sizes), self.config.intra_hidden, words)
                for _ in (sizes if self.config.alpha else ())
            )

    def streams(self, video: Tensor, lengths: Tensor) -> Streams:
        """Return what comes before the heads, of videos (B, T, 3, H, W), bytes or in [0, 1], and lengths (B,).

        Frames after a video's end are not looked at. Where all videos are shorter than one step, S is 1.
        """
        frames = torch.arange(max(video.shape[1], 2**self.config.blocks), device=video.device)
        there = frames < lengths.unsqueeze(1)
        cues, keypoints = self.spatial(video[there[:, : video.shape[1]]])
        spread = [_spread(cue, there) for cue in cues]
        intra, inter, steps = self.temporal(spread, lengths)
        places = there[:, : video.shape[1]]
        return Streams(inter, intra, steps, None if keypoints is None else _spread(keypoints, places))

    def forward(self, video: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return the inter path's log-probabilities (B, S, V + 1) and lengths (B,): all that inference needs."""
        found = self.streams(video, lengths)
        return self.head(found.inter, found.lengths), found.lengths

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return 0-d losses: "loss", "inter", and where they are on, "intra" (their sum) and "pose".

        Args:
            batch: "video" (B, T, 3, H, W), "length" (B,), "words" (B, L) classes from 1 on, "count" (B,) words, and
                where the pose is taught "keypoints" (B, T, K, 2).
        """
        config, words, counts = self.config, batch["words"], batch["count"]
        found = self.streams(batch["video"], batch["length"])
        losses = {"inter": ctc(self.head(found.inter, found.lengths), found.lengths, words, counts).mean()}
        loss = losses["inter"]
        if config.alpha:
            each = [
                ctc(head(stream, found.lengths), found.lengths, words, counts).mean()
                for head, stream in zip(self.intra_heads, found.intra, strict=True)
            ]
            losses["intra"] = torch.stack(each).sum()
            loss = loss + config.alpha * losses["intra"]
        if config.beta and found.keypoints is not None and "keypoints" in batch:
            losses["pose"] = pose_loss(found.keypoints, batch["keypoints"], batch["length"])
            loss = loss + config.beta * losses["pose"]
        return {"loss": loss, **losses}

    @torch.no_grad()
    def decode(self, video: Tensor, lengths: Tensor, beam: int | None = None) -> list[list[str]]:
        """Return the words read from each video.

        Args:
            video: (B, T, 3, H, W).
            lengths: (B,) frames.
            beam: width of the search; None for the config's, 0 for the likeliest path instead.
        """
        log_probs, steps = self(video, lengths)
        width = self.config.beam if beam is None else beam
        rows = [row[:length] for row, length in zip(log_probs.cpu(), steps.tolist(), strict=True)]
        read = [prefix_beam_search(row, width) if width else greedy(row) for row in rows]
        return [[self.vocabulary[label - 1] for label in labels] for labels in read]


def pose_loss(found: Tensor, true: Tensor, lengths: Tensor) -> Tensor:
    """Return L_R, the mean over videos' frames, key points and both coordinates.

    Args:
        found: (B, T, K, 2).
        true: likewise, from motion capture, another network, or a simulation.
        lengths: (B,) frames that count.
    """
    there = torch.arange(found.shape[1], device=found.device) < lengths.unsqueeze(1)
    return functional.smooth_l1_loss(found[there], true[there])


def pose_error(found: Tensor, true: Tensor, lengths: Tensor) -> Tensor:
    """Return the mean distance of key points from true ones, each video's (B,), as a share of the picture's width."""
    there = (torch.arange(found.shape[1], device=found.device) < lengths.unsqueeze(1)).float()
    distance = (found - true).square().sum(3).sqrt().mean(2) / 2.0  # coordinates span 2
    return (distance * there).sum(1) / there.sum(1)


def _spread(values: Tensor, there: Tensor) -> Tensor:
    """Return values (F, ...) of frames at their places (B, T), zeros elsewhere."""
    spread = values.new_zeros(*there.shape, *values.shape[1:])
    spread[there] = values
    return spread
