"""LSTR (arXiv:2003.14065), small: what is done to which thing, and was it done before?

Rollouts of a scripted gripper that touches, pushes, carries and brings back two blocks, 12 clips of 8 frames of 48 x 48
pixels. The gripper's box is given; the networks say which of seven events happens to which block. Five arms learn
equally long: the plain actor ("none"), short-term relation, the long-term graph, the graph after the short-term
relation ("cascade", the paper's), and the same with the other clips in a random order and no number of their distance
("shuffled"). In the first stage clips are learned by themselves; in the second all rests that nodes of the graph are
made of, convolutions, the two layers behind them and short-term relation, and the graph sees a bank of what the first
stage made of every clip: it stays what the network would make now.

Claims, of means over the seeds, in points of mean average precision: short-term relation is worth 5 on touches, pushes
and grasps of a named block; the cascade 10 more on returns and second tries, which no single clip can tell; overall it
is within 0.5 of the best arm; and with the other clips shuffled half of its gain on returns is gone, at least. The bars
were set before the first run; the paper's own tables could not be read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from envs.perception.actions.labels import EVENTS, LabelConfig, label_rollouts
from envs.perception.actions.lstr import build_bank, losses, positive_weights
from envs.perception.actions.network import LSTRConfig, LSTRNet
from envs.perception.actions.rollouts import rollouts
from rlsuite.data.arrays import Arrays
from rlsuite.errors import require
from rlsuite.experiment import Claim, Result
from rlsuite.experiment.jobs import Jobs
from rlsuite.fit import FitConfig, fit
from rlsuite.metrics.ranking import average_precision
from rlsuite.optim.choice import GroupConfig, OptimizerConfig, ScheduleConfig
from rlsuite.running.seeding import derive_seed

SIZE, FRAMES, DEEDS, OBJECTS = 48, 8, 6, 2
ARMS = ("none", "short", "long", "cascade", "shuffled")
FIRST = {"none": "none", "short": "short", "long": "none", "cascade": "short", "shuffled": "short"}  # first stages
GROUPS = {"named": ("touch", "push", "grasp"), "past": ("return", "retry"), "all": EVENTS}
COUNTS = ("rollouts_learned", "rollouts_tested", "first_steps", "second_steps", "batch_size")
LEARNS = (*COUNTS, "learning_rate", "distance_rate")
PIECES = 64  # clips whose maps are made at once


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The experiment's numbers.

    Attributes:
        seeds: how many: 0, 1, ...
        rollouts_learned: rollouts to learn from.
        rollouts_tested: rollouts to be judged by, of other draws.
        first_steps: minibatches of the first stage.
        second_steps: and of the second.
        batch_size: clips of each.
        learning_rate: the largest.
        distance_rate: the same of what the graph learns for each distance of clips. These numbers begin at 0 and are
            all that tells earlier clips from later ones; at the others' rate they have hardly moved at the end.
        named_bar: points on touches, pushes and grasps, "short" minus "none", at least.
        past_bar: points on returns and retries, "cascade" minus "short", at least.
        whole_bar: points on all events, "cascade" minus the best of the others, at least.
        shuffled_bar: share of the cascade's gain on returns and retries that is left when shuffled, at most.
    """

    seeds: int = 3
    rollouts_learned: int = 150
    rollouts_tested: int = 40
    first_steps: int = 400
    second_steps: int = 600
    batch_size: int = 32
    learning_rate: float = 2e-3
    distance_rate: float = 0.05
    named_bar: float = 5.0
    past_bar: float = 10.0
    whole_bar: float = -0.5
    shuffled_bar: float = 0.5

    def __post_init__(self) -> None:
        for name in ("seeds", *COUNTS):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")


DEBUG = Numbers(seeds=1, rollouts_learned=4, rollouts_tested=3, first_steps=1, second_steps=1, batch_size=4)


def run(numbers: Numbers, jobs: Jobs) -> Result:
    """Learn, judge, and test the claims."""
    seeds = tuple(range(numbers.seeds))
    found = jobs.grid(learn, arms=("all",), seeds=seeds, **{name: getattr(numbers, name) for name in LEARNS})["all"]
    figures = {group: {arm: tuple(one[arm][group] for one in found) for arm in ARMS} for group in GROUPS}
    for arm in ARMS:
        shown = ", ".join(f"{group} {np.mean(figures[group][arm]):.1f}" for group in GROUPS)
        print(f"{arm:9} mean average precision, points: {shown}", flush=True)
    return Result(
        seeds=seeds,
        claims=claims(figures, numbers),
        figures={**figures, "events": {arm: [one[arm]["events"] for one in found] for arm in ARMS}},
        full_scale="python scripts/reproduce.py paper=lstr seeds=10 rollouts_learned=5000 first_steps=20000",
    )


def claims(figures: Mapping[str, Mapping[str, tuple[float, ...]]], numbers: Numbers) -> tuple[Claim, ...]:
    """Return the claims for points by group, arm and seed."""

    def gains(group: str, one: str, other: str) -> tuple[float, ...]:
        return tuple(a - b for a, b in zip(figures[group][one], figures[group][other], strict=True))

    means = {arm: float(np.mean(figures["all"][arm])) for arm in ("none", "short", "long")}
    best = max(means, key=lambda arm: means[arm])
    gain, left = np.mean(gains("past", "cascade", "short")), np.mean(gains("past", "shuffled", "short"))
    return (
        Claim(
            statement="points on touches, pushes and grasps, with short-term relation minus without",
            margin=numbers.named_bar,
            figures=gains("named", "short", "none"),
        ),
        Claim(
            statement="points on returns and second tries, the cascade minus short-term relation",
            margin=numbers.past_bar,
            figures=gains("past", "cascade", "short"),
        ),
        Claim(
            statement="points on all events, the cascade minus the best of the other arms",
            margin=numbers.whole_bar,
            figures=gains("all", "cascade", best),
        ),
        Claim(
            statement="share of the cascade's gain on returns and second tries that is left with clips shuffled",
            margin=numbers.shuffled_bar,
            figures=(float(left / gain) if gain > 0 else 1.0,),
            at_least=False,
        ),
    )


def learn(arm: str, seed: int, folder: Path, **numbers: float) -> dict[str, dict[str, object]]:
    """Return arm -> points of mean average precision by group, and of each of the "events"."""
    torch.set_num_threads(1)
    taught = Videos(int(numbers["rollouts_learned"]), derive_seed(seed, "learned"))
    tested = Videos(int(numbers["rollouts_tested"]), derive_seed(seed, "tested"))
    weight = positive_weights(taught.labels)
    network = {name: LSTRNet(config(name), derive_seed(seed, "weights")) for name in ("none", "short")}
    for name, one in network.items():
        clips = Arrays({"frames": taught.flat(taught.frames), **taught.clips()})
        _teach(one, clips, weight, int(numbers["first_steps"]), numbers, derive_seed(seed, name))
    made = {}
    for name in ARMS:
        one = LSTRNet(config("cascade" if name == "shuffled" else name), derive_seed(seed, "weights"))
        one.load_state_dict({**one.state_dict(), **network[FIRST[name]].state_dict()})
        for part in (one.frames_body, one.times, one.body, one.short, one.proposals, one.shifts):
            if part is not None:
                part.requires_grad_(False)
        shuffled = derive_seed(seed, "order") if name == "shuffled" else None
        if shuffled is not None and one.long is not None:
            one.long.near.requires_grad_(False)
        steps = int(numbers["second_steps"])
        _teach(one, taught.remembered(one, shuffled), weight, steps, numbers, derive_seed(seed, "second"))
        made[name] = points(one.eval(), tested.remembered(one, shuffled))
    return made


def config(variant: str) -> LSTRConfig:
    """Return an arm's network."""
    return LSTRConfig(actions=OBJECTS * len(EVENTS), frames=FRAMES, variant=variant)


def _teach(
    network: LSTRNet, clips: Arrays, weight: Tensor, steps: int, numbers: Mapping[str, float], seed: int
) -> None:
    far = network.long is not None and network.long.near.requires_grad
    groups = (GroupConfig(names=("long.near",), learning_rate=numbers["distance_rate"]),) if far else ()
    learning = FitConfig(
        steps=steps,
        batch_size=int(numbers["batch_size"]),
        optimizer=OptimizerConfig(learning_rate=numbers["learning_rate"], groups=groups),
        schedule=ScheduleConfig(kind="cosine"),
        clip_norm=5.0,
    )
    fit(network, lambda _, batch: losses(network, batch, weight), clips, learning, seed=seed)


class Videos:
    """Rollouts as clips: the gripper's boxes, and which event happens to which block.

    Args:
        count: R.
        seed: of the draws.

    Attributes:
        frames: (R, C, T, 3, S, S) uint8.
        boxes: (R, C, 1, T, 4), in pixels.
        labels: (R, C, 1, O K) bool.
    """

    def __init__(self, count: int, seed: int) -> None:
        found = rollouts(torch.arange(count), seed, DEEDS)
        clips = DEEDS * 16 // FRAMES
        self.frames = found.frames(SIZE).unflatten(1, (clips, FRAMES))
        self.boxes = (SIZE * found.boxes()[:, :, :1]).unflatten(1, (clips, FRAMES)).transpose(2, 3)
        state = (found.gripper, found.blocks, found.height, found.contact, found.grasped)
        self.labels = label_rollouts(*state, LabelConfig(frames=FRAMES)).flatten(2).unsqueeze(2)

    def flat(self, values: Tensor) -> Tensor:
        """Return values (R, C, ...) of clips one after another."""
        return values.flatten(0, 1)

    def clips(self) -> dict[str, Tensor]:
        """Return what all stages take of the clips (R C, ...)."""
        return {"boxes": self.flat(self.boxes), "labels": self.flat(self.labels)}

    @torch.no_grad()
    def remembered(self, network: LSTRNet, order: int | None) -> Arrays:
        """Return clips for the second stage: "maps" for "frames", and the bank; with `order`, clips in a random one."""
        network.eval()
        maps = torch.cat([network.maps(part) for part in self.flat(self.frames).split(PIECES)])
        bank = build_bank(network, self.frames, self.boxes)
        count, clips = self.labels.shape[:2]
        clip = torch.arange(clips).repeat(count)
        nodes, present = (values.repeat_interleave(clips, dim=0) for values in bank)
        if order is not None:
            generator = torch.Generator().manual_seed(order)
            places = torch.rand(count * clips, clips, generator=generator).argsort(dim=1)
            # The own clip stays where it is: all others change places.
            rows = torch.arange(count * clips)
            held = (places == clip.unsqueeze(1)).long().argmax(dim=1)
            places[rows, held], places[rows, clip] = places[rows, clip], clip
            nodes = nodes.gather(1, places.view(*places.shape, 1, 1).expand_as(nodes))
        return Arrays({"maps": maps, "clip": clip, "bank": nodes, "present": present, **self.clips()})


@torch.no_grad()
def points(network: LSTRNet, clips: Arrays) -> dict[str, object]:
    """Return points of mean average precision by group of events, and of each event."""
    told, batch = [], clips.tensors
    for part in torch.arange(len(clips)).split(PIECES):
        one = clips.examples(part)
        actors = network.actors(one["maps"], one["boxes"])
        plain, nodes = network.related(actors, one["maps"], one["boxes"])
        found = network.remembered(plain, nodes, one["clip"], one["bank"], one["present"])
        told.append(network.actions(found))
    scores = torch.cat(told)[:, 0].unflatten(1, (OBJECTS, len(EVENTS)))
    labels = batch["labels"][:, 0].unflatten(1, (OBJECTS, len(EVENTS)))
    by_event = {}
    for number, event in enumerate(EVENTS):
        each = [average_precision(scores[:, thing, number], labels[:, thing, number]) for thing in range(OBJECTS)]
        if labels[:, :, number].any():  # a tiny test may have none
            by_event[event] = 100.0 * float(torch.stack(each).nanmean())
    groups = {}
    for group, names in GROUPS.items():
        values = [by_event[event] for event in names if event in by_event]
        groups[group] = float(np.mean(values)) if values else 0.0
    return {**groups, "events": by_event}
