"""LSTR: long short-term relation networks for video action detection (Li et al. 2019, arXiv:2003.14065).

Only the paper's abstract could be read: the parts and their order are the paper's, their equations are as recalled, and
sizes and losses' weights are our choices. Learning has two stages: clips by themselves, with short-term relation; then,
with a bank of what the first stage makes of every clip, the graph as well. The bank carries no gradient.

Shapes: R videos of C clips of T frames, B clips, N actors, n of them remembered a clip, K actions.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from envs.perception.actions.network import LSTRNet
from envs.perception.actions.proposals import best_tubelets, shifts_to
from rlsuite.errors import require
from rlsuite.metrics.boxes import area

KEPT = 5  # actors a clip that a bank keeps, the likeliest


class Bank(NamedTuple):
    """What the clips of videos hold, made by one network at one time.

    Attributes:
        nodes: (R, C, n, d).
        present: (R, C, n) bool.
    """

    nodes: Tensor
    present: Tensor


@torch.no_grad()
def build_bank(network: LSTRNet, videos: Tensor, boxes: Tensor, scores: Tensor | None = None) -> Bank:
    """Return the bank of videos (R, C, T, 3, H, W) with actors' boxes (R, C, N, T, 4), by score (R, C, N) if given.

    Make it anew whenever the network has learned: the graph learns to disregard one that is stale.
    """
    was, nodes = network.training, []
    network.eval()
    for video, tubelets in zip(videos, boxes, strict=True):
        maps = network.maps(video)
        nodes.append(network.related(network.actors(maps, tubelets), maps, tubelets)[1])
    network.train(was)
    found, count = torch.stack(nodes), min(KEPT, boxes.shape[2])
    likely = torch.ones(found.shape[:3], device=found.device) if scores is None else scores
    best, index = likely.topk(count, dim=2)
    return Bank(found.gather(2, index.unsqueeze(3).expand(-1, -1, -1, found.shape[3])), best > 0)


def action_loss(logits: Tensor, labels: Tensor, weight: Tensor, there: Tensor | None = None) -> Tensor:
    """Return the 0-d cross-entropy of logits (B, N, K) with labels (B, N, K) bool, positives weighing `weight` (K,).

    Its mean is over the actors that are there (B, N) bool; None for all. It is 0 where there are none.
    """
    each = functional.binary_cross_entropy_with_logits(
        logits, labels.to(logits.dtype), pos_weight=weight, reduction="none"
    )
    return _mean(each, torch.ones_like(each[..., 0]) if there is None else there)


def _mean(values: Tensor, there: Tensor) -> Tensor:
    """Return the 0-d mean of values (..., n) where they count (...), 0 where none does."""
    counts = there.to(values.dtype)
    return (values.mean(dim=-1) * counts).sum() / counts.sum().clamp_min(1.0)


def positive_weights(labels: Tensor, most: float = 10.0) -> Tensor:
    """Return how much positives weigh, (K,): negatives over positives of labels (..., K), at most `most`."""
    flat = labels.flatten(0, -2).double()
    positive = flat.sum(dim=0)
    return ((len(flat) - positive) / positive.clamp_min(1.0)).clamp_max(most).float()


def losses(network: LSTRNet, batch: dict[str, Tensor], weight: Tensor) -> dict[str, Tensor]:
    """Return the losses of clips: "loss", and its parts "actions", "boxes" and "proposals", which weigh 1 each.

    Args:
        network: it.
        batch: "frames" (B, T, 3, H, W), "boxes" (B, N, T, 4) of true actors in pixels, "labels" (B, N, K) bool; with a
            graph also "clip" (B,), "bank" (B, C, n, d) and "present" (B, C, n); a batch may hold "maps" in the place
            of "frames", for a backbone that does not learn, "detect" 0-d bool: whether boxes are to be found, and
            "there" (B, N) bool: which actors there are, for clips with fewer than others.
        weight: (K,) of positives.
    """
    boxes = batch["boxes"]
    maps = batch["maps"] if "maps" in batch else network.maps(batch["frames"])
    actors = network.actors(maps, boxes)
    plain, nodes = network.related(actors, maps, boxes)
    there = batch.get("there", torch.ones(boxes.shape[:2], dtype=torch.bool, device=boxes.device))
    if network.long is not None and "bank" in batch:
        plain = network.remembered(plain, nodes, batch["clip"], batch["bank"], batch["present"], there)
    parts = {"actions": action_loss(network.actions(plain), batch["labels"], weight, there)}
    if bool(batch.get("detect", torch.tensor(False)).any()):
        known = there.unsqueeze(2) & (area(boxes) > 0)  # (B, N, T): the others have no sides to measure shifts in
        whole = torch.where(known.unsqueeze(3), boxes, torch.tensor([0.0, 0.0, 1.0, 1.0], device=boxes.device))
        away = shifts_to(whole, network.regressed(actors, whole))
        away = functional.smooth_l1_loss(away, torch.zeros_like(away), reduction="none", beta=0.1)
        parts["boxes"] = _mean(away, known)
        parts["proposals"] = network.proposals.loss(maps, boxes, there)
    return {"loss": sum(parts.values(), torch.zeros((), device=boxes.device)), **parts}


@torch.no_grad()
def detect(network: LSTRNet, video: Tensor, boxes: Tensor | None = None, count: int = 1) -> tuple[Tensor, Tensor]:
    """Return the actors of one video and what they do: boxes (C, N, T, 4) in pixels and probabilities (C, N, K).

    Args:
        network: it; it is used as in evaluation.
        video: (F, 3, H, W); frames after the last whole clip are left out.
        boxes: (C, N, T, 4) where they are known; None to find them.
        count: N, how many to find.

    Raises:
        UserError: if the video is shorter than a clip.
    """
    frames, was = network.config.frames, network.training
    clips = len(video) // frames
    require(clips >= 1, f"the video has {len(video)} frames; a clip has {frames}")
    network.eval()
    maps = network.maps(video[: clips * frames].unflatten(0, (clips, frames)))
    if boxes is None:
        logits, tubelets = network.proposals(maps)
        given, scores = best_tubelets(logits, tubelets, count)
    else:
        given, scores = boxes, torch.ones(boxes.shape[:2], device=boxes.device)
    actors = network.actors(maps, given)
    plain, nodes = network.related(actors, maps, given)
    if network.long is not None:
        bank = nodes.unsqueeze(0).expand(clips, -1, -1, -1)
        present = (scores > 0).unsqueeze(0).expand(clips, -1, -1)
        plain = network.remembered(plain, nodes, torch.arange(clips, device=nodes.device), bank, present, scores > 0)
    told = network.actions(plain).sigmoid() * scores.unsqueeze(2)
    network.train(was)
    return given if boxes is not None else network.regressed(actors, given), told
