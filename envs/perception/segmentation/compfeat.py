"""CompFeat: comprehensive feature aggregation for video instance segmentation (Fu et al. 2021, arXiv:2012.03400).

Features of a frame, and then of each object in it, attend to frames before and to the frame itself; who is who is told
by a score of embeddings and by a map of where a remembered object's features recur. The authors' code was never
released and their tables of parts are not known here; attention's exact form, the map's loss and its weight in the
matching are therefore our choices, named where they are made. The base detector (Mask R-CNN with a pyramid) is a small
one of one level that finds objects' middles; see network.py.

Only frames that went by are attended to, so an agent can use it. Frames that are attended to give features, and never
identities: those come from memory, and in learning from another frame of the clip.

Shapes: B environments, D detections, M slots of memory, T frames attended to, K classes, H and W sides of a picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from envs.perception.perceiver import Perceiver, Seen, State
from envs.perception.segmentation import losses
from envs.perception.segmentation.correlation import inside, map_likeness, map_loss
from envs.perception.segmentation.digit_clips import DigitClips
from envs.perception.segmentation.matching import MatchConfig, match
from envs.perception.segmentation.network import BINS, STRIDE, CompFeatNet, CompFeatNetConfig, Frame, shifted
from envs.perception.segmentation.pictures import pasted
from rlsuite.data.source import Source
from rlsuite.errors import require
from rlsuite.metrics.boxes import box_iou
from rlsuite.nn.vision.suppression import suppress

MOST = 255
SHRINK = 0.7  # of the box that a correlation map is to be 1 in: our choice


@dataclass(frozen=True, kw_only=True)
class CompFeatConfig:
    """CompFeat's numbers.

    Attributes:
        weights: a file that train_perceiver.py wrote.
        network: its sizes.
        support: T, frames attended to; the paper's number is not known.
        objects: M and D, objects found in a frame and remembered at most.
        threshold: score below which there is no object.
        overlap: overlap above which the weaker of two boxes is no object (non-maximum suppression).
        matching: weights of the terms that identities go by.
        detection: weight of the losses of middles and boxes; 0 where boxes are given.
        masks: weight of the masks' loss.
    """

    weights: str = ""
    network: CompFeatNetConfig = field(default_factory=CompFeatNetConfig)
    support: int = 2
    objects: int = 10
    threshold: float = 0.2
    overlap: float = 0.5
    matching: MatchConfig = field(default_factory=MatchConfig)
    detection: float = 1.0
    masks: float = 1.0

    def __post_init__(self) -> None:
        for name in ("support", "objects"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require(self.objects <= MOST, f"objects={self.objects}: use {MOST} or fewer, for a byte tells who is who")
        for name in ("threshold", "overlap"):
            require(0.0 <= getattr(self, name) <= 1.0, f"{name}={getattr(self, name)}: use 0 to 1")
        for name in ("detection", "masks"):
            require(getattr(self, name) >= 0.0, f"{name}={getattr(self, name)}: use 0 or more")


class CompFeat(Perceiver):
    """Which object shows at each pixel, by its slot of memory, which it keeps while it is remembered: "tracks".

    The number of an object that was forgotten goes to a new one: there are never more than `objects`.

    Args:
        config: see CompFeatConfig.
        seed: of the first weights.
    """

    Config = CompFeatConfig
    outputs = ("tracks",)

    def __init__(self, *, config: CompFeatConfig, seed: int = 0) -> None:
        super().__init__(config=config)
        self.network: CompFeatNet = CompFeatNet(config.network, seed)

    # -- at work ------------------------------------------------------------------------------------------------

    def init_state(self, batch: int, size: tuple[int, int]) -> State:
        """Return the state of B environments that have seen nothing; see `Perceiver.init_state`."""
        config, channels = self.config, self.config.network.channels
        device = next(self.network.parameters()).device
        slots, cells = (batch, config.objects), (-(-size[0] // STRIDE), -(-size[1] // STRIDE))

        def whole(*shape: int, fill: int = 0) -> Tensor:
            return torch.full(shape, fill, dtype=torch.int64, device=device)

        return {
            "support": torch.zeros(batch, config.support, channels, *cells, device=device),
            "frames": whole(batch),
            "features": torch.zeros(*slots, channels, BINS, BINS, device=device),
            "boxes": torch.zeros(*slots, 4, device=device),
            "scores": torch.zeros(*slots, device=device),
            "labels": whole(*slots),
            "identities": whole(*slots, fill=-1),
            "seen": whole(*slots, fill=-1),
            "next": whole(batch),
            "tracks": whole(batch, 1, *size, fill=-1),
        }

    @torch.no_grad()
    def forward(self, seen: Seen, state: State) -> tuple[Seen, State]:
        """Return "tracks" (B, 1, H, W); between two camera frames those of the last one."""
        frame, support, valid = self.look(seen["rgb"], state)
        boxes, scores = self.network.propose(frame, self.config.objects)
        present = self.config.threshold <= scores
        objects = self.network.objects(frame, boxes, support, valid)
        logits, shifts = self.network.told(objects)
        boxes = shifted(boxes, shifts)
        chance, labels = logits.softmax(dim=2).max(dim=2)
        present = present & suppress(boxes, scores * present, torch.zeros_like(labels), self.config.overlap)
        after, slots = self.identify(frame, objects, boxes, labels, scores * chance, present, state)
        after["tracks"] = self._painted(frame, boxes, labels, slots, seen["rgb"].shape[2:])
        fresh = seen["phase"] == 0
        kept = {name: torch.where(_rows(fresh, value), value, state[name]) for name, value in after.items()}
        return {"tracks": kept["tracks"]}, kept

    def look(self, pictures: Tensor, state: State) -> tuple[Frame, Tensor, Tensor]:
        """Return what is known of pictures (B, 3, H, W), the support (B, T, C, h, w), and which of it counts (B, T)."""
        support = state["support"]
        valid = torch.arange(self.config.support, device=support.device) < state["frames"].unsqueeze(1)
        return self.network.frame(pictures, support, valid), support, valid

    def identify(
        self,
        frame: Frame,
        objects: Tensor,
        boxes: Tensor,
        labels: Tensor,
        scores: Tensor,
        present: Tensor,
        state: State,
    ) -> tuple[State, Tensor]:
        """Match objects to those remembered, and remember them; see `matching.match`.

        Args:
            frame: of `look`.
            objects: (B, D, C, P, P) features.
            boxes: (B, D, 4).
            labels: (B, D).
            scores: (B, D).
            present: (B, D), which of them there are.
            state: before.

        Returns:
            The state after this frame, and each detection's slot (B, D), -1 for one without.
        """
        known = state["identities"] >= 0
        logits = self.network.score(objects, state["features"], known)
        overlap = box_iou(boxes, state["boxes"])
        alike = labels.unsqueeze(2) == state["labels"].unsqueeze(1)
        likeness = torch.zeros_like(overlap)
        if self.network.map is not None:
            likeness = map_likeness(self.network.map(frame.refined, state["features"]), boxes, STRIDE)
        slots = match(logits, scores, overlap, alike, likeness, present, known, self.config.matching)
        return self._remember(frame, objects, boxes, labels, scores, slots, state)

    def _remember(
        self, frame: Frame, objects: Tensor, boxes: Tensor, labels: Tensor, scores: Tensor, slots: Tensor, state: State
    ) -> tuple[State, Tensor]:
        """Give new objects the slots that are free, then those unseen for longest, and write what was found."""
        count = self.config.objects
        matched = (slots >= 0) & (slots < count)
        wanted = slots == count
        one_hot = torch.nn.functional.one_hot(torch.where(matched, slots, count), count + 1)[..., :count].bool()
        # Slots in the order in which they may be taken; those matched in this frame last, and never.
        age = torch.where(one_hot.any(dim=1), torch.iinfo(torch.int64).max, state["seen"])
        order = age.sort(dim=1, stable=True).indices
        number = wanted.long().cumsum(dim=1) - 1  # of each new object
        free = count - matched.sum(dim=1, keepdim=True)
        placed = wanted & (number < free)
        slots = torch.where(placed, order.gather(1, number.clamp(0, count - 1)), torch.where(matched, slots, -1))
        index = torch.where(slots >= 0, slots, count)
        identities = torch.cat([state["identities"], torch.full_like(index[:, :1], -1)], dim=1).gather(1, index)
        identities = torch.where(placed, state["next"].unsqueeze(1) + number, identities)
        new = {"features": objects, "boxes": boxes, "scores": scores, "labels": labels, "identities": identities}
        new["seen"] = state["frames"].unsqueeze(1).expand_as(slots)
        after = {name: _written(state[name], index, value) for name, value in new.items()}
        encoded = torch.cat([frame.encoded.unsqueeze(1), state["support"][:, :-1]], dim=1)
        after |= {"support": encoded, "frames": state["frames"] + 1, "next": state["next"] + placed.sum(dim=1)}
        return after, slots

    def _painted(self, frame: Frame, boxes: Tensor, labels: Tensor, slots: Tensor, size: Sequence[int]) -> Tensor:
        """Return whose slot each pixel is, (B, 1, H, W): the mask that is surest of it, of those above a half."""
        logits = self.network.mask_logits(frame, boxes)
        own = logits.gather(2, labels.view(*labels.shape, 1, 1, 1).expand(-1, -1, 1, *logits.shape[3:])).squeeze(2)
        found = pasted(own.sigmoid(), boxes, (size[0], size[1])) * (slots >= 0)[..., None, None]
        surest, which = found.max(dim=1)
        shown = slots.gather(1, which.flatten(1)).view_as(which)
        return torch.where(surest > 0.5, shown, -1).unsqueeze(1)

    def table(self, state: State) -> Tensor:
        """Return remembered objects (B, M, 4 + K + 2): box in pixels, class, score, and 1 for one seen just now.

        A slot is one object's for as long as it is remembered; free ones are zeros.
        """
        now = state["seen"] == state["frames"].unsqueeze(1) - 1
        classes = torch.nn.functional.one_hot(state["labels"], self.config.network.classes).to(state["boxes"].dtype)
        rows = torch.cat([state["boxes"], classes, state["scores"].unsqueeze(2), now.unsqueeze(2).float()], dim=2)
        return rows * (state["identities"] >= 0).unsqueeze(2)

    # -- learning -----------------------------------------------------------------------------------------------

    def source(self, data: str, size: int, seed: int, clips: Sequence[Tensor] = (), kept: int = 0) -> Source:
        """Return clips of digits ("" or "digits"): the one source here that knows who is who."""
        require(data in ("", "digits") and not clips, f"data={data}: compfeat learns from data=digits")
        return DigitClips("train", size, count=kept or 1 << 40, seed=seed)

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the losses of clips such as DigitClips gives: "loss" and its parts, before their weights."""
        network, boxes, current = self.network, batch["boxes"], batch["current"]
        rows = torch.arange(len(boxes), device=boxes.device)
        truth, labels = boxes[rows, current], batch["labels"]
        present = torch.ones_like(labels, dtype=torch.bool)
        frame, given, objects = self._taught(batch, current)
        logits, shifts = network.told(objects)
        _, _, remembered = self._taught(batch, batch["reference"])
        before = losses.class_loss(network.told(remembered)[0], labels, present)
        parts = {"classes": 0.5 * (losses.class_loss(logits, labels, present) + before)}
        known = ~batch["hidden"]
        partner = torch.where(known, torch.arange(1, labels.shape[1] + 1, device=boxes.device), 0)
        parts["score"] = losses.score_loss(network.score(objects, remembered, known), partner, present)
        if network.map is not None:
            maps = network.map(frame.refined, remembered)
            targets = inside(truth, (maps.shape[2], maps.shape[3]), STRIDE, SHRINK).to(maps.dtype)
            parts["map"] = map_loss(maps, targets, known)
        loss = sum(parts.values(), torch.zeros((), device=boxes.device))
        if self.config.detection:
            middles = losses.middle_loss(network.middles(frame.refined), truth, present)
            parts["detection"] = middles + losses.box_loss(shifts, given, truth, present)
            loss = loss + self.config.detection * parts["detection"]
        if self.config.masks:
            own = losses.own_masks(batch["owner"][rows, current], given)
            parts["masks"] = losses.mask_loss(network.mask_logits(frame, given), labels, own, present)
            loss = loss + self.config.masks * parts["masks"]
        return {"loss": loss, **parts}

    def _taught(self, batch: dict[str, Tensor], time: Tensor) -> tuple[Frame, Tensor, Tensor]:
        """Return what is known of the frames at time (B,), the boxes given there, and the objects in them."""
        rows, network = torch.arange(len(time), device=time.device), self.network
        past = time.unsqueeze(1) - 1 - torch.arange(self.config.support, device=time.device)
        valid = past >= 0
        earlier = batch["frames"][rows.unsqueeze(1), past.clamp_min(0)]
        support = network.encoded(earlier.flatten(0, 1)).unflatten(0, past.shape)
        frame, boxes = network.frame(batch["frames"][rows, time], support, valid), batch["given"][rows, time]
        return frame, boxes, network.objects(frame, boxes, support, valid)


def _written(remembered: Tensor, slots: Tensor, values: Tensor) -> Tensor:
    """Return what is remembered (B, M, ...) with values (B, D, ...) in slots (B, D), M for nowhere."""
    padded = torch.cat([remembered, remembered[:, :1]], dim=1)
    rows = torch.arange(len(slots), device=slots.device).unsqueeze(1)
    return padded.index_put((rows, slots), values.to(remembered.dtype))[:, :-1]


def _rows(fresh: Tensor, like: Tensor) -> Tensor:
    return fresh.view(-1, *[1] * (like.dim() - 1))
