"""What was detected as a log of events: who, what, to which object, from when to when.

Shapes: C clips, N actors, O objects, K kinds of events; P tubelets a clip, T frames.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from envs.perception.actions.labels import EVENTS
from rlsuite.metrics.boxes import box_iou


@dataclass(frozen=True)
class Event:
    """One event.

    Attributes:
        begin: seconds.
        end: seconds.
        label: one of EVENTS.
        object: to which.
        score: the largest probability while it lasted.
        actor: whose deed.
    """

    begin: float
    end: float
    label: str
    object: int
    score: float
    actor: int = 0


def events_of(chances: Tensor, seconds: float, threshold: float = 0.5) -> list[Event]:
    """Return the events of probabilities (C, N, O, K), clips `seconds` long each; clips that follow are one event."""
    found: list[Event] = []
    over = chances >= threshold
    begins = over & ~torch.cat([torch.zeros_like(over[:1]), over[:-1]])
    for clip, actor, thing, kind in torch.nonzero(begins).tolist():
        after = torch.nonzero(~over[clip:, actor, thing, kind]).flatten()
        end = clip + int(after[0]) if len(after) else len(over)
        score = float(chances[clip:end, actor, thing, kind].max())
        found.append(Event(clip * seconds, end * seconds, EVENTS[kind], thing, score, actor))
    return found


def write_events(path: Path | str, events: Iterable[Event]) -> None:
    """Write events as lines of JSON, one an event, beside the video that they are of."""
    Path(path).write_text("".join(json.dumps(asdict(event)) + "\n" for event in events))


def counts(events: Sequence[Event]) -> dict[str, int]:
    """Return how many there are of each kind, for TensorBoard or a table."""
    return {label: sum(event.label == label for event in events) for label in EVENTS}


def event_f1(found: Sequence[Event], truth: Sequence[Event], labels: Sequence[str] = EVENTS) -> float:
    """Return F1 of events of some kinds: one is right if a true one of its kind and object, not yet taken, overlaps it.

    1 where there is nothing to find and nothing was found.
    """
    mine, theirs = ([event for event in events if event.label in labels] for events in (found, truth))
    free, right = list(theirs), 0
    for event in sorted(mine, key=lambda event: -event.score):
        match = next((one for one in free if _same(event, one)), None)
        if match is not None:
            free.remove(match)
            right += 1
    return 2.0 * right / (len(mine) + len(theirs)) if mine or theirs else 1.0


def _same(one: Event, other: Event) -> bool:
    alike = (one.label, one.object, one.actor) == (other.label, other.object, other.actor)
    return alike and min(one.end, other.end) > max(one.begin, other.begin)


def link(boxes: Tensor, scores: Tensor, count: int) -> Tensor:
    """Return `count` chains of tubelets through a video, (count, C) int64: which of a clip's P each takes.

    The best chain has the largest sum, over neighbours, of both scores and of the overlap of one's last box with the
    next one's first (Viterbi); then the best of what is left, and so on. A single clip's chains go by their scores.

    Args:
        boxes: (C, P, T, 4).
        scores: (C, P).
        count: chains, P at most.
    """
    clips, number = scores.shape
    scores, chains = scores.double().clone(), []
    overlap = box_iou(boxes[:-1, :, -1], boxes[1:, :, 0]).double()  # (C - 1, P, P)
    for _ in range(min(count, number)):
        best, back = scores[0] if clips == 1 else torch.zeros_like(scores[0]), []
        for clip in range(1, clips):
            value = best.unsqueeze(1) + scores[clip - 1].unsqueeze(1) + scores[clip] + overlap[clip - 1]
            best, before = value.max(dim=0)
            back.append(before)
        chain = [int(best.argmax())]
        for before in reversed(back):
            chain.append(int(before[chain[-1]]))
        chain.reverse()
        chains.append(torch.tensor(chain))
        scores[torch.arange(clips), chains[-1]] = -torch.inf
    return torch.stack(chains)
