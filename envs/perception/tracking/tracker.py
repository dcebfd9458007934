"""Follow one object of each environment: look, decide, and learn from what was decided.

Cascaded Regression Tracking (arXiv:2006.10336). The paper's abstract fixes the cascade and the closed form; how often
and from what the first stage learns is ATOM's (Danelljan et al. 2019, arXiv:1811.07628); the rest is our choice, and
`cascade.py` and `memories.py` say of each which it is. ATOM refines boxes by a network that predicts overlaps; here
there is none, and a box keeps its sides. A tracker draws nothing: jitters, first weights and dropped channels are the
same in every call.

Shapes: B trackers, boxes (x1, y1, x2, y2) in pixels of the frames (B, 3, H, W).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from envs.perception.tracking.cascade import Cascade, CascadeConfig, Look
from envs.perception.tracking.convolution_regression import gaussian_labels, learn_both, learn_filter, projected
from envs.perception.tracking.crops import VIEWS, Place, around, first_views
from envs.perception.tracking.features import TrackingNet
from envs.perception.tracking.memories import State, accept, reject, remember, solve
from rlsuite.metrics.boxes import box_iou

OK, UNCERTAIN, NOT_FOUND, HARD_NEGATIVE = range(4)
APART = 0.3  # IoU with the winner from which a candidate is no other
DROPPED, DROP = 7, 0.2  # copies of the first view without some channels, and the share of those
FIRST = VIEWS + DROPPED
KERNEL = 4  # side of the first stage's filter
LABEL = 0.25  # the label's deviation in sides of the target
RATE, HARD_RATE = 0.01, 0.02  # of a new sample; of one beside a hard negative
STRIDE_OF_EASY = 8  # every so many of the strewn boxes are remembered as negatives


class Found(NamedTuple):
    """Where targets are.

    Attributes:
        box: (B, 4).
        score: (B,), fused; 0 where nothing was found.
        flag: (B,) int64: OK, UNCERTAIN, NOT_FOUND or HARD_NEGATIVE (another was seen, and rejected).
        evaluations: (B,) int64, boxes that the second stage looked at.
        look: all that was weighed.
    """

    box: Tensor
    score: Tensor
    flag: Tensor
    evaluations: Tensor
    look: Look


class Tracker:
    """B trackers as one, their memory being a state of tensors, row by row.

    Args:
        network: what sees.
        config: its numbers.
        seed: of what is drawn once.
    """

    def __init__(self, network: TrackingNet, config: CascadeConfig, seed: int = 0) -> None:
        self.network, self.config = network, config
        self.cascade = Cascade(network, config, seed)
        generator = torch.Generator().manual_seed(seed)
        channels = network.config.widths[-1]
        size = config.projected * KERNEL**2
        self._filter = torch.randn(config.projected, KERNEL, KERNEL, generator=generator) / size**0.5
        self._projection = torch.randn(config.projected, channels, generator=generator) / channels**0.5
        kept = torch.rand(DROPPED, channels, generator=generator) >= DROP
        self._dropped = kept.float() / (1.0 - DROP)

    def fresh(self, batch: int, device: torch.device | str = "cpu") -> State:
        """Return the state of B trackers that have seen nothing."""
        config, cells, features = self.config, self.network.cells, self.network.config.features
        kept = (batch, 1 + config.frames, config.jitters)
        shapes = {
            "box": (batch, 4),
            "filter": (batch, *self._filter.shape),
            "projection": (batch, *self._projection.shape),
            "samples": (batch, config.memory, config.projected, cells, cells),
            "labels": (batch, config.memory, cells + 1, cells + 1),
            "sample_weights": (batch, config.memory),
            "ridge": (batch, features),
            "positives": (*kept, features),
            "positive_targets": kept,
            "negatives": (batch, config.negatives, features),
        }
        state = {name: torch.zeros(shape, device=device) for name, shape in shapes.items()}
        for name in ("frames", "lost", "accepted", "rejected"):
            state[name] = torch.zeros(batch, dtype=torch.int64, device=device)
        state["positive_there"] = torch.zeros(kept, dtype=torch.bool, device=device)
        state["negative_there"] = torch.zeros(batch, config.negatives, dtype=torch.bool, device=device)
        return state

    # -- the first frame ----------------------------------------------------------------------------------------

    @torch.no_grad()
    def begin(self, frames: Tensor, boxes: Tensor) -> State:
        """Return the state of trackers that have seen their targets' boxes (B, 4) in a first frame."""
        config, network, batch = self.config, self.network, len(frames)
        state, everyone = self.fresh(batch, frames.device), torch.arange(batch, device=frames.device)
        state["box"] = boxes.float()
        place = around(boxes, config.search)
        if config.stages != "second":
            views, centres = first_views(frames, place, network.config.crop, seed=0)
            seen = network(views.flatten(0, 1)).coarse.unflatten(0, (batch, VIEWS))
            dropped = seen[:, :1] * self._dropped.to(seen)[..., None, None]
            seen, centres = torch.cat([seen, dropped], dim=1), torch.cat([centres, centres[:1].expand(DROPPED, -1)])
            labels = self._labels(centres.expand(batch, -1, -1), boxes, place)
            weights = torch.full((batch, FIRST), 1.0 / FIRST, device=frames.device)
            start = (self._filter, self._projection)
            found = learn_both(
                seen,
                labels,
                weights,
                tuple(one.to(seen).expand(batch, *one.shape) for one in start),  # type: ignore[arg-type]
                config.newton_steps,
                config.steps,
            )
            state["filter"], state["projection"] = found
            state["samples"][:, :FIRST] = projected(seen, state["projection"])
            state["labels"][:, :FIRST] = labels
            state["sample_weights"][:, :FIRST] = weights
        if config.stages != "first":
            look = self.cascade.look(frames, place, boxes, state, prior=0.0)
            tried = self.cascade.around(place, boxes)
            features, crop = network.boxes(look.maps, tried), network.config.crop
            accept(state, everyone, features, place.to_frame(tried, crop), boxes)
            others = look.samples.flatten(1, 2)
            apart = box_iou(others, boxes.unsqueeze(1)).squeeze(-1) <= APART
            apart &= look.there.repeat_interleave(look.samples.shape[2], dim=1)
            # A single candidate, such as one beside the target, has not been looked at by the second stage yet.
            reject(state, everyone, network.boxes(look.maps, place.to_crop(others, crop)), apart)
            if config.easy:
                self._reject_easy(state, everyone, look, place, boxes)
            solve(state, everyone, network.regularization)
        return state

    def _labels(self, centres: Tensor, boxes: Tensor, place: Place) -> Tensor:
        """Return labels (B, N, G, G) of targets at centres (B, N, 2) in pixels of the crop."""
        cells, stride, crop = self.network.cells, float(self.network.stride), self.network.config.crop
        sides = (boxes[:, 2:] - boxes[:, :2]) * (crop / place.side).unsqueeze(1) / stride
        return gaussian_labels(centres, cells, stride, LABEL * sides.clamp_min(1.0))

    # -- every other frame --------------------------------------------------------------------------------------

    @torch.no_grad()
    def track(self, frames: Tensor, state: State) -> tuple[Found, State]:
        """Return where targets are in frames (B, 3, H, W), and the state after it; what is given stays as it is."""
        state = {name: value.clone() for name, value in state.items()}
        state["frames"] += 1
        place, last = around(state["box"], self.config.search), state["box"]
        look = self.cascade.look(frames, place, last, state, prior=self.config.prior)
        score, winner = look.scores.max(dim=1)
        level = look.first.gather(1, winner.unsqueeze(1)).squeeze(1)
        found = look.there.any(dim=1) & (level >= self.config.found)
        box = _inside(look.boxes.gather(1, winner.view(-1, 1, 1).expand(-1, 1, 4)).squeeze(1), last, frames)
        others = look.there & (box_iou(look.boxes, box.unsqueeze(1)).squeeze(-1) <= APART)
        rivals = others & (look.first > (0.5 * level).clamp_min(self.config.found).unsqueeze(1))
        runner = torch.where(others, look.scores, -1.0).amax(dim=1)
        uncertain = found & (runner > self.config.uncertain * score)
        flag = torch.full_like(winner, OK)
        flag[rivals.any(dim=1)] = HARD_NEGATIVE
        flag[uncertain] = UNCERTAIN
        flag[~found] = NOT_FOUND
        box, score = torch.where(found.unsqueeze(1), box, last), torch.where(found, score, 0.0)
        evaluations = look.evaluations + self._learn(state, look, place, box, winner, others, runner, flag)
        state["box"], state["lost"] = box, torch.where(found, 0, state["lost"] + 1)
        rows = torch.nonzero(state["lost"] > self.config.lost_after).flatten()
        if len(rows):
            again, value, asked = self._everywhere(frames[rows], {name: one[rows] for name, one in state.items()})
            good = value >= self.config.accepted
            box[rows] = torch.where(good.unsqueeze(1), again, box[rows])
            score[rows] = torch.where(good, value, score[rows])
            flag[rows] = torch.where(good, UNCERTAIN, flag[rows])  # it moves there, and learns from the next frame on
            state["lost"][rows] = torch.where(good, 0, state["lost"][rows])
            evaluations[rows] += asked
        return Found(box, score, flag, evaluations, look), state

    def _everywhere(self, frames: Tensor, state: State) -> tuple[Tensor, Tensor, Tensor]:
        """Search whole frames in areas that overlap by half: the best box (n, 4), its score (n,), boxes looked at."""
        last, (height, width) = state["box"], frames.shape[2:]
        side = around(last, self.config.search).side
        middles = []
        for length in (width, height):
            count = max(1, math.ceil(2.0 * float((length / side).max())) - 1)
            steps = (torch.arange(count, device=frames.device) + 0.5) / count
            reach = (length - side).clamp_min(0.0).unsqueeze(1)
            spread = steps if count == 1 else torch.linspace(0.0, 1.0, count, device=frames.device)
            middles.append(0.5 * length + reach * (spread - 0.5))
        x, y = middles
        across, down = x.shape[1], y.shape[1]
        centres = torch.stack([x.repeat(1, down), y.repeat_interleave(across, dim=1)], dim=-1)  # (n, areas, 2)
        areas = across * down
        place = Place(centres.flatten(0, 1), side.repeat_interleave(areas))
        half = 0.5 * (last[:, 2:] - last[:, :2]).repeat_interleave(areas, dim=0)
        tried = torch.cat([place.centre - half, place.centre + half], dim=1)
        learned = {name: state[name].repeat_interleave(areas, 0) for name in ("filter", "projection", "ridge")}
        look = self.cascade.look(frames.repeat_interleave(areas, 0), place, tried, learned, prior=0.0)
        scores = look.scores.view(len(last), -1)
        score, best = scores.max(dim=1)
        box = look.boxes.view(len(last), -1, 4).gather(1, best.view(-1, 1, 1).expand(-1, 1, 4)).squeeze(1)
        return _inside(box, last, frames), score, look.evaluations.view(-1, areas).sum(dim=1)

    # -- learning -----------------------------------------------------------------------------------------------

    def _learn(
        self,
        state: State,
        look: Look,
        place: Place,
        box: Tensor,
        winner: Tensor,
        others: Tensor,
        runner: Tensor,
        flag: Tensor,
    ) -> Tensor:
        """Update both stages in place; return how many more boxes (B,) the second stage looked at for it."""
        config, sure = self.config, (flag == OK) | (flag == HARD_NEGATIVE)
        hard = flag == HARD_NEGATIVE
        turn = state["frames"] % config.every == 0
        more = torch.zeros_like(flag)
        if config.stages != "second":
            rows = torch.nonzero(sure).flatten()
            centre = place.to_crop(box.unsqueeze(1), self.network.config.crop)
            labels = self._labels(0.5 * (centre[..., :2] + centre[..., 2:]), box, place).squeeze(1)
            rates = torch.where(hard, HARD_RATE, RATE).to(box)
            remember(state, rows, look.projected[rows], labels[rows], rates[rows], FIRST)
            rows = torch.nonzero(sure & (turn | hard)).flatten()
            if len(rows):
                kept = (state["samples"][rows], state["labels"][rows], state["sample_weights"][rows])
                state["filter"][rows] = learn_filter(*kept, state["filter"][rows], config.later_steps)
        if config.stages == "first":
            return more
        rejected = others & (look.scores >= runner.unsqueeze(1)) | (others & sure.unsqueeze(1))
        rejected &= (flag != NOT_FOUND).unsqueeze(1) & look.ran.unsqueeze(1)
        if config.stages == "second":
            rejected[:, torch.arange(rejected.shape[1], device=box.device) % STRIDE_OF_EASY != 0] = False
        apart = box_iou(look.samples.flatten(1, 2), box.unsqueeze(1)).squeeze(-1) <= APART
        apart &= rejected.repeat_interleave(look.samples.shape[2], dim=1)
        everyone = torch.arange(len(box), device=box.device)
        reject(state, everyone, look.features.flatten(1, 2), apart)
        easy = torch.nonzero(sure & look.ran & config.easy).flatten()
        if len(easy):
            more[easy] += self._reject_easy(state, easy, look, place, box)
        # Where the second stage looked, its boxes around the winner are positives; elsewhere, now and then, new ones.
        alone = config.stages == "second"
        rows = torch.nonzero(sure & look.ran & (not alone)).flatten()
        accept(state, rows, look.features[rows, winner[rows]], look.samples[rows, winner[rows]], box[rows])
        rows = torch.nonzero(sure & (look.ran & alone | ~look.ran & turn)).flatten()
        if len(rows):
            tried = self.cascade.around(Place(place.centre[rows], place.side[rows]), box[rows])
            features, crop = self.network.boxes(look.maps[rows], tried), self.network.config.crop
            accept(state, rows, features, Place(place.centre[rows], place.side[rows]).to_frame(tried, crop), box[rows])
            more[rows] += config.jitters
        rows = torch.nonzero(apart.any(dim=1) & (hard | (flag == UNCERTAIN)) | sure & turn).flatten()
        if len(rows):
            solve(state, rows, self.network.regularization)
        return more

    def _reject_easy(self, state: State, rows: Tensor, look: Look, place: Place, box: Tensor) -> int:
        """Remember boxes strewn over the search area as negatives; return how many were looked at, a tracker."""
        area, crop = Place(place.centre[rows], place.side[rows]), self.network.config.crop
        table = self.cascade.strewn[::STRIDE_OF_EASY].to(box)
        half = 0.5 * (box[rows, 2:] - box[rows, :2])
        middles = area.centre.unsqueeze(1) + table[:, :2] * (2.0 * half).unsqueeze(1)
        boxes = torch.cat([middles - half.unsqueeze(1), middles + half.unsqueeze(1)], dim=-1)
        features = self.network.boxes(look.maps[rows], area.to_crop(boxes, crop))
        reject(state, rows, features, box_iou(boxes, box[rows].unsqueeze(1)).squeeze(-1) <= APART)
        return len(table)


def _inside(box: Tensor, last: Tensor, frames: Tensor) -> Tensor:
    """Return boxes (B, 4) whose middles lie in the frame, no side half or twice what it was, none below 2 pixels."""
    limit = box.new_tensor([frames.shape[-1], frames.shape[-2]])
    middle = (0.5 * (box[:, :2] + box[:, 2:])).clamp_min(0.0).minimum(limit)
    before = (last[:, 2:] - last[:, :2]).clamp_min(2.0)
    half = 0.5 * (box[:, 2:] - box[:, :2]).maximum(0.5 * before).minimum(2.0 * before).clamp_min(2.0).minimum(limit)
    return torch.cat([middle - half, middle + half], dim=1)
