"""ITID (arXiv:1911.12603), small: invariance tells who fails elsewhere, and other data mend it.

Digits of 8x8 lie anywhere in pictures of 16x16; the level of a patch in a corner goes with the label while a network
learns, and with nothing in the test. Networks learn plainly; with examples weighted so that the level tells nothing;
with the patch drawn anew in half of them; with both; and with as much noise on all pixels. Then networks of several
sizes, taught plainly on levels that go with the label more or less, are ordered by what they lose in the test.

Reaching: a policy of Reacher imitates a scripted expert from pictures taken in one light by one camera, and is scored
in uneven light, tints, stripes and with the camera moved, as wide as training never was. It learns plainly; with one
factor, any of the four, drawn anew in half of the pictures; and with that factor chosen by what the policy minds most.
Standing still and the expert are rows, what is kept counts from standing still, and the claims about reaching stand
under another: that plain learning comes half of the way from standing still to the expert.

Claims. Digits: drawing anew raises test accuracy and invariance and costs no training accuracy; weighting raises
invariance. Sizes: invariance orders the gaps, far better than the number of weights does, and no error exceeds the
bound of `invariance.py`. Reaching: chosen factors do as well as any at equal pictures, and better than none; and the
factor that a plain policy is least invariant to is among the two that cost it the most return. The paper's own numbers
are not known to us, only its abstract; the bars are our own choices, set before any run.

A first trial of one seed's digits changed no bar, but what they are about. Its network could not tell digits that lie
anywhere, whatever the patch (plain 16 %, drawn anew 44 %): another was chosen by what it tells (89 %) where patches say
nothing, and each digit now lies in four pictures. And what drawing anew costs was measured on other pictures of the
training's kind (86 and 69 %), where a telling patch is worth something; it is measured on those learned from now.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from envs.evaluation.probes import count_parameters
from envs.evaluation.recipe import network_base
from envs.evaluation.regularization.factors import Factor, factors_of
from envs.evaluation.regularization.invariance import (
    bound,
    invariance,
    label_flips,
    sensitivity,
    total_variation,
)
from envs.evaluation.regularization.itid import ITIDConfig, enhance
from envs.evaluation.subject import Subject
from envs.evaluation.tasks import ClassifierTask, over_examples
from envs.evaluation.transform import TeachConfig, teach
from rlsuite.data.arrays import Arrays
from rlsuite.data.digits import digits
from rlsuite.data.source import Source
from rlsuite.errors import require
from rlsuite.experiment import Claim, Result
from rlsuite.experiment.jobs import Jobs
from rlsuite.fit import FitConfig
from rlsuite.metrics.ranking import spearman
from rlsuite.nn.vision.conv_net import ConvNet, ConvNetConfig
from rlsuite.optim.choice import OptimizerConfig, ScheduleConfig
from rlsuite.running.seeding import derive_seed
from scripts.experiments.itid_reaching import LEARNERS, reach
from scripts.experiments.reaching import learned_claim

SIZE, CORNER, CLASSES, COPIES = 16, 3, 10, 4
WIDTHS, HIDDEN = (8, 16, 32), (0, 64)
CORRELATIONS = (0.5, 0.7, 0.85, 0.95, 1.0)
ARMS = ("plain", "weighted", "drawn", "both", "noise")


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The experiment's numbers.

    Attributes:
        seeds: how many: 0, 1, ...
        epochs: of networks of digits.
        correlation: how often the patch's level is the label's while the five arms learn.
        size: pixels a side of what policies see.
        states: pictures of each of two rounds.
        steps: minibatches of each round.
        episodes: by which policies are scored.
        factors: that policies should not mind.
        networks: of other sizes and correlations, 15 at most.
        widest: of every factor where policies are scored; they learn within less.
        learned_bar: how much of the way from standing still to the expert plain learning comes, at least.
        drawn_bar: test accuracy in %, the patch drawn anew minus plain, on the mean, at least.
        drawn_invariance_bar: invariance to the patch, the same, at least.
        training_bar: accuracy in % on the pictures learned from lost by drawing anew, at most.
        weighted_invariance_bar: invariance to the patch, weighted minus plain, at least.
        order_bar: Spearman's correlation of invariance with the gap, over sizes and correlations, at most.
        size_bar: how much larger in size it is than that of the number of weights, at least.
        bound_bar: test error over its bound, the largest of all networks, at most.
        chosen_bar: share of the return kept under all factors, chosen minus any, on the mean, at least.
        plain_bar: the same, chosen minus plain, at least.
        rank_bar: share of seeds in which the factor least invariant to is among the two that cost most, at least.
    """

    seeds: int = 3
    epochs: int = 12
    correlation: float = 0.95
    size: int = 24
    states: int = 3200
    steps: int = 400
    episodes: int = 40
    factors: tuple[str, ...] = ("light", "tint", "texture", "camera")
    networks: int = 15
    widest: float = 0.2
    learned_bar: float = 0.5
    drawn_bar: float = 15.0
    drawn_invariance_bar: float = 0.25
    training_bar: float = 3.0
    weighted_invariance_bar: float = 0.05
    order_bar: float = -0.7
    size_bar: float = 0.3
    bound_bar: float = 1.0
    chosen_bar: float = -0.02
    plain_bar: float = 0.15
    rank_bar: float = 0.66

    def __post_init__(self) -> None:
        for name in ("seeds", "epochs", "states", "steps", "episodes"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        factors_of(self.factors)
        require(len(self.factors) >= 2, f"factors={list(self.factors)}: two or more are compared; name them")
        require(2 <= self.networks <= 15, f"networks={self.networks}: use 2 to 15")
        require(0.0 <= self.correlation <= 1.0, f"correlation={self.correlation}: use 0 to 1")
        require(self.widest >= 0.1, f"widest={self.widest}: use 0.1 or more")


DEBUG = Numbers(seeds=1, epochs=1, states=32, steps=2, episodes=2, factors=("light", "camera"), networks=2)


def run(numbers: Numbers, jobs: Jobs) -> Result:
    """Teach, judge, and test the claims."""
    seeds = tuple(range(numbers.seeds))
    inputs = {"epochs": numbers.epochs, "correlation": numbers.correlation}
    arms = jobs.grid(tell_digits, arms=("digits",), seeds=seeds, **inputs)["digits"]
    (nets,) = jobs.grid(sizes, arms=("sizes",), seeds=(0,), epochs=numbers.epochs, networks=numbers.networks)["sizes"]
    names = ("size", "states", "steps", "episodes", "factors", "widest")
    reached = jobs.grid(reach, arms=("reach",), seeds=seeds, **{name: getattr(numbers, name) for name in names})[
        "reach"
    ]
    for name in ARMS:
        shown = ", ".join(f"{one[name]['test']:.1f} % / {one[name]['invariance']:.2f}" for one in arms)
        print(f"digits, {name:9} test / invariance: {shown}", flush=True)
    for name in LEARNERS:
        shown = ", ".join(f"{one[name]['kept']:.2f} ({one[name]['return']:.1f})" for one in reached)
        print(f"reaching, {name:7} kept under all factors (return under none): {shown}", flush=True)
    for name in ("still", "expert"):
        print(f"reaching, {name:7} return {', '.join(f'{one[name]:.1f}' for one in reached)}", flush=True)
    return Result(
        seeds=seeds,
        claims=claims(arms, nets, reached, numbers),
        figures={"digits": list(arms), "sizes": nets, "reaching": list(reached)},
        full_scale="python scripts/reproduce.py paper=itid seeds=10 episodes=200",
    )


def claims(
    arms: tuple[dict[str, Any], ...],
    nets: list[dict[str, float]],
    reached: tuple[dict[str, Any], ...],
    numbers: Numbers,
) -> tuple[Claim, ...]:
    """Return the claims for arms of digits by seed, networks of all sizes, and policies by seed."""

    def more(key: str, arm: str) -> tuple[float, ...]:
        return tuple(one[arm][key] - one["plain"][key] for one in arms)

    def kept(other: str) -> tuple[float, ...]:
        return tuple(one["chosen"]["kept"] - one[other]["kept"] for one in reached)

    order, by_size = (correlation(nets, key) for key in ("invariance", "parameters"))
    return (
        Claim(
            statement="digits: test accuracy in %, the patch drawn anew minus plain",
            margin=numbers.drawn_bar,
            figures=more("test", "drawn"),
        ),
        Claim(
            statement="digits: invariance to the patch, drawn anew minus plain",
            margin=numbers.drawn_invariance_bar,
            figures=more("invariance", "drawn"),
        ),
        Claim(
            statement="digits: accuracy in % on the pictures learned from, lost by drawing anew",
            margin=numbers.training_bar,
            figures=tuple(-value for value in more("trained", "drawn")),
            at_least=False,
        ),
        Claim(
            statement="digits: invariance to the patch, weighted minus plain",
            margin=numbers.weighted_invariance_bar,
            figures=more("invariance", "weighted"),
        ),
        Claim(
            statement="sizes: Spearman's correlation of invariance with the gap",
            margin=numbers.order_bar,
            figures=(order,),
            at_least=False,
        ),
        Claim(
            statement="sizes: how much larger in size it is than that of the number of weights",
            margin=numbers.size_bar,
            figures=(abs(order) - abs(by_size),),
        ),
        Claim(
            statement="sizes: test error over its bound, the largest",
            margin=numbers.bound_bar,
            figures=(max(one["error"] / one["bound"] for one in nets),),
            at_least=False,
        ),
        learned_claim(tuple(one["plain"]["learned"] for one in reached), numbers.learned_bar),
        Claim(
            statement="reaching: share kept under all factors, chosen minus any",
            margin=numbers.chosen_bar,
            figures=kept("any"),
        ),
        Claim(
            statement="reaching: share kept under all factors, chosen minus plain",
            margin=numbers.plain_bar,
            figures=kept("plain"),
        ),
        Claim(
            statement="reaching: the factor least invariant to is among the two that cost most",
            margin=numbers.rank_bar,
            figures=tuple(float(least_is_costly(one["plain"]["factors"])) for one in reached),
        ),
    )


def correlation(nets: list[dict[str, float]], key: str) -> float:
    """Return Spearman's correlation of a figure with the gap."""
    columns = (torch.tensor([[one[name] for one in nets]], dtype=torch.float64) for name in (key, "gap"))
    return float(spearman(*columns))


def least_is_costly(factors: Mapping[str, Mapping[str, float]]) -> bool:
    """Return whether the factor of the lowest invariance is among the two under which the return is lowest."""
    least = min(factors, key=lambda name: factors[name]["invariance"])
    return least in sorted(factors, key=lambda name: factors[name]["return"])[:2]


# -- digits with a patch ---------------------------------------------------------------------------------------


class Patch:
    """The level of the corner's patch, one of ten, as a factor; by its name examples record it."""

    name = "level"

    def draw(self, pictures: Tensor, width: float, generator: torch.Generator | None = None) -> Tensor:
        """Return levels (B, 1), whatever the width."""
        return torch.randint(CLASSES, (len(pictures), 1), generator=generator)

    def apply(self, pictures: Tensor, z: Tensor) -> Tensor:
        """Fill the corner."""
        level = ((z + 1) / CLASSES).to(pictures)[:, :, None, None]
        found = pictures.clone()
        found[:, :, :CORNER, :CORNER] = level
        return found


class Noise:
    """Uniform noise on every pixel: what is not aimed at the patch."""

    name = "noise"

    def draw(self, pictures: Tensor, width: float, generator: torch.Generator | None = None) -> Tensor:
        """Return noise (B, C H W) within the width."""
        return width * (2.0 * torch.rand((len(pictures), pictures[0].numel()), generator=generator) - 1.0)

    def apply(self, pictures: Tensor, z: Tensor) -> Tensor:
        """Add it."""
        return (pictures + z.to(pictures).view_as(pictures)).clamp(0.0, 1.0)


def patched(part: str, correlation: float, seed: int) -> Arrays:
    """Return digits anywhere in larger pictures, the "level" of their patch the label's with a probability.

    Each digit that is learned from lies in COPIES pictures, at places and with levels of their own.
    """
    generator = torch.Generator().manual_seed(derive_seed(seed, f"patches {part}"))
    found = {
        name: value.repeat_interleave(COPIES if part == "train" else 1, 0)
        for name, value in digits(part).tensors.items()
    }
    label, count = found["label"], len(found["label"])
    room = SIZE - found["picture"].shape[-1] + 1
    places = torch.randint(room, (count, 2), generator=generator)
    whole = torch.zeros(count, 1, SIZE, SIZE)
    for place in itertools.product(range(room), repeat=2):
        here = (places == torch.tensor(place)).all(1)
        right, below = SIZE - 8 - place[1], SIZE - 8 - place[0]
        whole[here] = functional.pad(found["picture"][here].float() / 255.0, (place[1], right, place[0], below))
    any_level = torch.randint(CLASSES, (count,), generator=generator)
    level = torch.where(torch.rand(count, generator=generator) < correlation, label, any_level)
    return Arrays({"input": Patch().apply(whole, level[:, None]), "label": label, "level": level})


def digit_subject(seed: int, correlation: float, config: ConvNetConfig) -> Subject:
    """Return an untrained network, that learns from correlated patches and is tested on independent ones."""
    task = ClassifierTask(patched("train", correlation, seed), patched("test", 0.0, seed), num_classes=CLASSES)
    module = ConvNet(1, SIZE, CLASSES, config, derive_seed(seed, "weights")).eval()
    base = network_base("conv", channels=1, size=SIZE, outputs=CLASSES, config=config)
    return Subject(module, task.splits["test"].examples(torch.arange(1))["input"], task, base)


def learning(epochs: int) -> TeachConfig:
    """Return how all networks of digits learn."""
    optimizer = OptimizerConfig(name="sgd", learning_rate=0.05)
    steps = epochs * COPIES * len(digits("train")) // 128
    return TeachConfig(
        fit=FitConfig(steps=steps, batch_size=128, optimizer=optimizer, schedule=ScheduleConfig(kind="cosine")),
        rounds=1,
    )


def tell_digits(arm: str, seed: int, folder: Path, *, epochs: int, correlation: float) -> dict[str, Any]:
    """Return arm -> accuracies, invariance and controls of a network taught its way."""
    torch.set_num_threads(1)
    subject = digit_subject(seed, correlation, ConvNetConfig(widths=(16, 32), hidden=64, batch_norm=True))
    same = patched("test", correlation, derive_seed(seed, "same"))
    ways: dict[str, tuple[list[Factor], dict[str, Any]]] = {
        "plain": ([], {"share": 0.0}),
        "weighted": ([], {"share": 0.0, "recorded": "level", "least_share": 0.0}),  # refused otherwise
        "drawn": ([Patch()], {}),
        "both": ([Patch()], {"recorded": "level"}),
        "noise": ([Noise()], {"width": 0.2, "widest": 0.2}),
    }
    found = {}
    for name, (factors, own) in ways.items():
        made = replace(subject, module=subject.copy())
        config = ITIDConfig(teach=learning(epochs), **own)
        enhance(made, factors, config, derive_seed(seed, "taught"))
        found[name] = patch_figures(made, same, seed)
    return found


def patch_figures(subject: Subject, same: Arrays, seed: int) -> dict[str, float]:
    """Return accuracies in % on "test", other pictures of the training's kind ("same") and "trained" ones, ...."""
    module, test = subject.module, subject.task.source("test").examples(torch.arange(len(digits("test"))))
    generator = torch.Generator().manual_seed(derive_seed(seed, "measured"))
    measured = invariance(module, test["input"], Patch(), 1.0, total_variation, generator)
    flips = invariance(module, test["input"], Patch(), 1.0, label_flips, generator)
    with torch.no_grad():
        chances, right = module(same.tensors["input"]).softmax(1), same.tensors["label"]
        soft = module(test["input"]).softmax(1)
    error, elsewhere = (
        1.0 - float(of.gather(1, label[:, None]).mean()) for of, label in ((chances, right), (soft, test["label"]))
    )
    return {
        "test": float(subject.task.score(module, 0).mean()),
        "trained": told_right(module, subject.task.source("train")),
        "same": 100.0 * float((chances.argmax(1) == right).float().mean()),
        "invariance": measured.mean,
        "stderr": measured.stderr,
        "unflipped": flips.mean,
        "sensitivity": sensitivity(module, test["input"], test["label"], total_variation, generator),
        "error": elsewhere,
        "bound": bound(error, measured.worst, len(right)),
    }


def told_right(module: nn.Module, source: Source) -> float:
    """Return the accuracy in % on all examples of a source."""
    return 100.0 * float(
        over_examples(module, source, lambda out, batch: out.argmax(1) == batch["label"]).double().mean()
    )


def sizes(arm: str, seed: int, folder: Path, *, epochs: int, networks: int) -> list[dict[str, float]]:
    """Return figures of plain networks of all sizes and correlations, with their "gap" and "parameters"."""
    torch.set_num_threads(1)
    found = []
    for number, (correlation, hidden, width) in enumerate(itertools.product(CORRELATIONS, HIDDEN, WIDTHS)):
        if number % 2 or len(found) == networks:
            continue  # half of the grid, every width, depth and correlation among its 15 networks
        config = ConvNetConfig(widths=(width, 2 * width), hidden=hidden, batch_norm=True)
        subject = digit_subject(seed, correlation, config)
        teach(subject, learning(epochs), derive_seed(seed, f"network {number}"))
        figures = patch_figures(subject, patched("test", correlation, derive_seed(seed, "same")), seed)
        own = {"width": width, "hidden": hidden, "correlation": correlation}
        gap = figures["same"] - figures["test"]
        found.append({**own, **figures, "gap": gap, "parameters": count_parameters(subject.module)})
    return found
