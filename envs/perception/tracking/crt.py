"""Cascaded Regression Tracking as a perceiver: a mask of the one object that is followed (arXiv:2006.10336).

In the first frame in which it is seen the object is known by its geometry's id; from then on by the tracker alone. What
lies beneath: `tracker.py` decides and learns, `cascade.py` looks, `episodes.py` teaches the features.

Shapes: B batch, H and W sides of a picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from envs.perception.perceiver import Perceiver, Seen, State
from envs.perception.tracking.cascade import CascadeConfig
from envs.perception.tracking.episodes import Episodes, episode_losses
from envs.perception.tracking.features import TrackingNet
from envs.perception.tracking.moving_objects import LookAlikes, LookAlikesConfig
from envs.perception.tracking.tracker import NOT_FOUND, Tracker
from rlsuite.data.arrays import kept as keep
from rlsuite.data.source import Source
from rlsuite.errors import require
from rlsuite.metrics.masks import mask_iou
from rlsuite.nn.vision.blocks import draw_weights
from rlsuite.running.seeding import derive_seed


@dataclass(frozen=True, kw_only=True)
class CRTConfig(CascadeConfig):
    """The tracker's numbers: those of the cascade, and of the perceiver.

    Attributes:
        weights: a file that train_perceiver.py wrote.
        target: id of the geometry that is followed, as "ids" shows it.
    """

    weights: str = ""
    target: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.target >= 0, f"target={self.target}: use the id of a geometry, 0 or more")


class CRT(Perceiver):
    """Returns "target": 1 inside the box of what is followed, 0 elsewhere and where it is not found.

    Args:
        config: see CRTConfig.
        seed: of the first weights.

    Attributes:
        network: what sees.
        detector: the head that only learning needs.
        tracker: what follows; it has no weights of its own.
    """

    Config = CRTConfig
    inputs = ("rgb", "ids")
    outputs = ("target",)

    def __init__(self, *, config: CRTConfig, seed: int = 0) -> None:
        super().__init__(config=config)
        self.network: TrackingNet = TrackingNet(config.network, derive_seed(seed, "network"))
        self.detector = nn.Conv2d(config.network.widths[-1], 1, 1)
        draw_weights(self.detector, derive_seed(seed, "detector"))
        self.tracker = Tracker(self.network, config)

    def init_state(self, batch: int, size: tuple[int, int]) -> State:
        """Return the state of B trackers that wait for their objects; see `Tracker.fresh`."""
        device = self.detector.weight.device
        own = {
            "began": torch.zeros(batch, dtype=torch.bool, device=device),
            "flag": torch.full((batch,), NOT_FOUND, dtype=torch.int64, device=device),
        }
        return self.tracker.fresh(batch, device) | own

    def forward(self, seen: Seen, state: State) -> tuple[Seen, State]:
        """Return {"target": (B, 1, H, W)} and the state; frames that were seen before change nothing."""
        frames, new = seen["rgb"], seen["phase"] == 0.0
        state = {name: value.clone() for name, value in state.items()}
        mask = (seen["ids"] == self.config.target).squeeze(1)
        rows = torch.nonzero(new & state["began"]).flatten()
        begins = torch.nonzero(new & ~state["began"] & mask.flatten(1).any(dim=1)).flatten()
        if len(rows):
            found, after = self.tracker.track(frames[rows], {name: state[name][rows] for name in self._own(state)})
            for name, value in after.items():
                state[name][rows] = value
            state["flag"][rows] = found.flag
        if len(begins):
            for name, value in self.tracker.begin(frames[begins], box_of_mask(mask[begins])).items():
                state[name][begins] = value
            state["began"][begins], state["flag"][begins] = True, 0
        inside = mask_of_box(state["box"], frames.shape[-2:]) & (state["flag"] != NOT_FOUND)[:, None, None]
        return {"target": inside.unsqueeze(1).float()}, state

    @staticmethod
    def _own(state: State) -> list[str]:
        return [name for name in state if name not in ("began", "flag")]

    def source(self, data: str, size: int, seed: int, clips: Sequence[Tensor] = (), kept: int = 0) -> Source:
        """Return episodes from clips of look-alikes, `moving_objects.py`; other data have no boxes to learn from."""
        require(not data and not clips, "tracking/crt learns from clips of its own; leave data= and env= out")
        episodes = Episodes(LookAlikes(LookAlikesConfig(size=size), seed=seed), derive_seed(seed, "boxes"))
        return keep(episodes, kept) if kept else episodes

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the losses of episodes; see `episode_losses`."""
        return episode_losses(self.network, self.detector, batch)

    def metrics(self, predicted: Seen, truth: Seen) -> dict[str, Tensor]:
        """Return {"iou": (B,)} of the masks."""
        return {"iou": mask_iou(predicted["target"] > 0.5, truth["target"] > 0.5)}


def box_of_mask(mask: Tensor) -> Tensor:
    """Return the boxes (B, 4) of masks (B, H, W) bool, x1, y1, x2, y2 in pixels; zeros where nothing is."""
    sides = []
    for axis in (1, 2):  # across columns first: is anything there, over all lines
        there = mask.any(dim=axis)
        places = torch.arange(there.shape[1], device=mask.device)
        first = torch.where(there, places, there.shape[1]).amin(dim=1)
        last = torch.where(there, places + 1, 0).amax(dim=1)
        sides.append((first.minimum(last), last))
    (left, right), (top, bottom) = sides
    return torch.stack([left, top, right, bottom], dim=1).float()


def mask_of_box(boxes: Tensor, size: Sequence[int]) -> Tensor:
    """Return (B, H, W) bool: pixels whose middles lie inside boxes (B, 4)."""
    x = torch.arange(size[1], device=boxes.device) + 0.5
    y = torch.arange(size[0], device=boxes.device) + 0.5
    across = (x >= boxes[:, :1]) & (x < boxes[:, 2:3])
    down = (y >= boxes[:, 1:2]) & (y < boxes[:, 3:])
    return down.unsqueeze(2) & across.unsqueeze(1)
