"""LSTR's network: clips to maps, boxes to actors, short-term and long-term relation, and heads.

Shapes: B clips of T frames, N actors, D channels, T' = T / 2 times, h and w sides of a map, d an actor's features, K
actions, C clips of a video, n actors a clip of a bank.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from envs.perception.actions.long_term import LongTerm
from envs.perception.actions.proposals import TubeletProposals, moved
from envs.perception.actions.short_term import ShortTerm
from rlsuite.errors import require, require_choice
from rlsuite.metrics.boxes import area
from rlsuite.nn.vision.doors import FromBytes
from rlsuite.nn.vision.roi_align import roi_align

STRIDE, BINS = 8, 5
VARIANTS = ("none", "short", "long", "cascade", "parallel")


@dataclass(frozen=True, kw_only=True)
class LSTRConfig:
    """Its sizes and which relations it has.

    Attributes:
        actions: K.
        frames: T, even.
        widths: channels of the three convolutions; the last is D.
        features: d.
        width: of attention, and of the graph's keys.
        variant: "none", "short", "long", "cascade" (the paper's: long after short) or "parallel" (both on the plain
            actor, added).
        reach: clips to each side that the graph looks at.
        causal: look back only.
        layers: of the graph.
        dropout: of the graph and of the heads.
        anchors: sides of anchors, in pixels.
    """

    actions: int
    frames: int = 8
    widths: tuple[int, int, int] = (16, 32, 64)
    features: int = 64
    width: int = 64
    variant: str = "cascade"
    reach: int = 15
    causal: bool = False
    layers: int = 2
    dropout: float = 0.2
    anchors: tuple[float, ...] = (8.0, 16.0)

    def __post_init__(self) -> None:
        require(self.frames >= 2 and self.frames % 2 == 0, f"frames={self.frames}: use an even number, 2 or more")
        require_choice("variant", self.variant, VARIANTS)
        for name in ("actions", "features", "width", "reach", "layers"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require(0.0 <= self.dropout < 1.0, f"dropout={self.dropout}: use 0 or more, and less than 1")


class LSTRNet(nn.Module):
    """Actors of clips, and what they do.

    The paper's backbone has convolutions in three dimensions; here, as its small variant, there are three over each
    frame and one over time, which halves it.

    Args:
        config: see LSTRConfig.
        seed: of the first weights.
    """

    def __init__(self, config: LSTRConfig, seed: int) -> None:
        super().__init__()
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            sizes, layers = (3, *config.widths), []
            for inputs, outputs in zip(sizes[:-1], sizes[1:], strict=True):
                layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.GroupNorm(4, outputs), nn.ReLU()]
            self.door, self.frames_body = FromBytes(), nn.Sequential(*layers)
            channels, features = config.widths[-1], config.features
            self.times = nn.Conv3d(channels, channels, (3, 1, 1), stride=(2, 1, 1), padding=(1, 0, 0))
            self.proposals = TubeletProposals(channels, config.frames, STRIDE, config.anchors)
            self.body = nn.Sequential(
                nn.Linear(channels * BINS * BINS, features), nn.ReLU(), nn.Linear(features, features), nn.ReLU()
            )
            variant = config.variant
            self.short = ShortTerm(features, channels, config.width) if variant not in ("none", "long") else None
            self.long = None
            if variant not in ("none", "short"):
                self.long = LongTerm(
                    features,
                    config.width,
                    reach=config.reach,
                    layers=config.layers,
                    dropout=config.dropout,
                    causal=config.causal,
                )
            self.actions = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(features, config.actions))
            self.shifts = nn.Linear(features, 4 * config.frames)
            nn.init.zeros_(self.shifts.weight)

    def maps(self, frames: Tensor) -> Tensor:
        """Return the maps (B, D, T', h, w) of clips (B, T, 3, H, W)."""
        found = self.frames_body(self.door(frames.flatten(0, 1))).unflatten(0, frames.shape[:2])
        return torch.relu(self.times(found.transpose(1, 2)))

    def actors(self, maps: Tensor, boxes: Tensor) -> Tensor:
        """Return actors (B, N, d) of boxes (B, N, T, 4) in pixels: the mean over times at which a box is not empty."""
        batch, channels, times = maps.shape[:3]
        at = boxes[:, :, ::2]  # (B, N, T', 4)
        flat, count = maps.transpose(1, 2).flatten(0, 1), boxes.shape[1]
        rows = torch.arange(batch * times, device=maps.device).view(batch, 1, times).expand(-1, count, -1)
        cut = roi_align(flat, at.reshape(-1, 4), rows.reshape(-1), BINS, STRIDE)
        cut = cut.view(batch, count, times, channels * BINS * BINS)
        there = (area(at) > 0).unsqueeze(3).to(cut.dtype)
        return self.body((cut * there).sum(dim=2) / there.sum(dim=2).clamp_min(1.0))

    def related(self, actors: Tensor, maps: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the heads take without the graph, and what the graph takes: (B, N, d) each."""
        if self.short is None:
            return actors, actors
        short = self.short(actors, maps, boxes[:, :, ::2] / STRIDE)
        return short, actors if self.config.variant == "parallel" else short

    def remembered(
        self, plain: Tensor, nodes: Tensor, clip: Tensor, bank: Tensor, present: Tensor, here: Tensor | None = None
    ) -> Tensor:
        """Return actors (B, N, d) with what the video's other clips tell; without a graph, as they are.

        Args:
            plain: (B, N, d), what the heads would take.
            nodes: (B, N, d), what the graph takes.
            clip: (B,) int64, which clip of its video each is.
            bank: (B, C, n, d), the videos' other actors; no gradient flows to them.
            present: (B, C, n) bool, which of them there are.
            here: (B, N) bool, which of the nodes there are; None for all.
        """
        if self.long is None:
            return plain
        batch, clips, others, _ = bank.shape
        numbers = torch.arange(clips, device=bank.device)
        elsewhere = present & (numbers.unsqueeze(0) != clip.unsqueeze(1)).unsqueeze(2)  # the own clip is here already
        count = nodes.shape[1]
        together = torch.cat([nodes, bank.detach().flatten(1, 2)], dim=1)
        which = torch.cat([clip.unsqueeze(1).expand(-1, count), numbers.repeat_interleave(others).expand(batch, -1)], 1)
        own = torch.ones(batch, count, dtype=torch.bool, device=bank.device) if here is None else here
        there = torch.cat([own, elsewhere.flatten(1)], 1)
        found = self.long(together, which, there)[:, :count]
        return plain + (found - nodes) if self.config.variant == "parallel" else found

    def regressed(self, actors: Tensor, boxes: Tensor) -> Tensor:
        """Return better boxes (B, N, T, 4), from plain actors (B, N, d)."""
        return moved(boxes, self.shifts(actors).unflatten(2, (self.config.frames, 4)))
