"""HRank (arXiv:2002.10179), small: a filter's rank hardly depends on the pictures, and low ranks can go.

Three convolutions (16, 32, 32 filters; maps of 16x16, 16x16 and 8x8) tell scikit-learn's digits apart, enlarged to
16x16. Ranks are measured on disjoint batches; then each of four arms takes the same share of every layer's filters out
(those of low rank, those of high rank, those of small weights, any by lot), and all learn again as the control does,
from which nothing was taken.

Claims: ranks measured on two batches are correlated over filters, in every layer, and low-rank filters cost little at
the first ratio. That low-rank filters are better ones to take than others is not claimed: all four arms stand in the
table, for every ratio. The bars are our own choices, set before the first run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from envs.evaluation.catalogue import EVALUATIONS
from envs.evaluation.probes import count_macs, count_parameters
from envs.evaluation.pruning.hrank import RankMeter
from envs.evaluation.recipe import network_base
from envs.evaluation.subject import Subject
from envs.evaluation.tasks import ClassifierTask
from envs.evaluation.transform import TeachConfig, apply, teach
from rlsuite.data.arrays import Arrays
from rlsuite.data.digits import digits
from rlsuite.errors import require
from rlsuite.experiment import Claim, Result
from rlsuite.experiment.jobs import Jobs
from rlsuite.fit import FitConfig
from rlsuite.methods import choose
from rlsuite.nn.vision.conv_net import ConvNet, ConvNetConfig
from rlsuite.optim.choice import OptimizerConfig, ScheduleConfig
from rlsuite.running.seeding import derive_seed

SIZE, CLASSES, BATCH_SIZE = 16, 10, 64
NETWORK = ConvNetConfig(widths=(16, 32, 32), strides=(1, 1, 2), hidden=0)
PAPERS = OptimizerConfig(name="sgd", learning_rate=0.02, momentum=0.9, weight_decay=5e-4)  # its rate is our own
LAYERS = ("body.1", "body.3", "body.5")
ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    "low rank": ("hrank", {}),
    "high rank": ("hrank", {"remove": "highest"}),
    "small weights": ("l1", {}),
    "random": ("random", {}),
}


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The experiment's numbers.

    Attributes:
        seeds: how many: 0, 1, ...
        epochs: of the networks' first learning.
        taught_epochs: of every arm's learning again, and of the control's.
        ratios: shares of filters taken out; the claim is about the first.
        batches: disjoint ones that ranks are compared over.
        batch: pictures of each.
        first_correlation_bar: of ranks over filters between two batches, in layers 1 and 2, the lowest of all seeds.
        last_correlation_bar: the same in layer 3, whose maps have few levels.
        score_margin: percent of right answers with low ranks taken out, minus the control's, at least.
    """

    seeds: int = 3
    epochs: int = 40
    taught_epochs: int = 12
    ratios: tuple[float, ...] = (0.3, 0.5)
    batches: int = 4
    batch: int = 100
    first_correlation_bar: float = 0.95
    last_correlation_bar: float = 0.75
    score_margin: float = -1.0

    def __post_init__(self) -> None:
        for name in ("seeds", "epochs", "taught_epochs", "batch"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require(self.batches >= 2, f"batches={self.batches}: two are compared; use 2 or more")
        good = bool(self.ratios) and all(0.0 < ratio < 1.0 for ratio in self.ratios)
        require(good, f"ratios={list(self.ratios)}: use shares above 0 and below 1, such as [0.3,0.5]")


DEBUG = Numbers(seeds=2, epochs=1, taught_epochs=1, ratios=(0.3,), batches=2, batch=20)


def run(numbers: Numbers, jobs: Jobs) -> Result:
    """Train, measure, prune, and test the claims."""
    seeds = tuple(range(numbers.seeds))
    inputs = {name: getattr(numbers, name) for name in ("epochs", "taught_epochs", "ratios", "batches", "batch")}
    (found,) = jobs.grid(prune_digits, arms=("digits",), seeds=seeds, **inputs).values()
    table = {
        row: {key: tuple(one["rows"][row][key] for one in found) for key in ("score", "macs", "parameters")}
        for row in found[0]["rows"]
    }
    for row, figures in table.items():
        scores = ", ".join(f"{score:.2f}" for score in figures["score"])
        print(f"{row:20} right answers in %, by seed: {scores}; MACs {figures['macs'][0]:,.0f}", flush=True)
    ranks = {name: tuple(one["ranks"][name] for one in found) for name in found[0]["ranks"]}
    return Result(
        seeds=seeds,
        claims=claims(ranks["correlations"], table, numbers),
        figures={"table": table, **ranks},
        full_scale="python scripts/reproduce.py paper=hrank seeds=10 epochs=100 taught_epochs=150",
    )


def claims(
    correlations: tuple[list[float], ...], table: dict[str, dict[str, tuple[float, ...]]], numbers: Numbers
) -> tuple[Claim, ...]:
    """Return the claims for correlations by seed and layer, and scores by row and seed."""
    pairs = zip(table[row_name("low rank", numbers.ratios[0])]["score"], table["control"]["score"], strict=True)
    return (
        Claim(
            statement="ranks on two batches of pictures: the lowest correlation in layers 1 and 2",
            margin=numbers.first_correlation_bar,
            figures=(min(min(layers[:2]) for layers in correlations),),
        ),
        Claim(
            statement="ranks on two batches of pictures: the lowest correlation in layer 3",
            margin=numbers.last_correlation_bar,
            figures=(min(layers[2] for layers in correlations),),
        ),
        Claim(
            statement=f"right answers in % with {numbers.ratios[0]:.0%} of the filters gone, minus the control's",
            margin=numbers.score_margin,
            figures=tuple(score - control for score, control in pairs),
        ),
    )


def row_name(arm: str, ratio: float) -> str:
    """Return the name of an arm's row at a ratio."""
    return f"{arm} {ratio:g}"


def prune_digits(
    arm: str,
    seed: int,
    folder: Path,
    *,
    epochs: int,
    taught_epochs: int,
    ratios: tuple[float, ...],
    batches: int,
    batch: int,
) -> dict[str, Any]:
    """Train one network, measure its ranks, and prune it in every way: "ranks" and "rows"."""
    subject = digit_subject(seed)
    epoch = len(subject.task.source("train")) // BATCH_SIZE
    teach(subject, teaching(epochs * epoch, OptimizerConfig(learning_rate=1e-3)), derive_seed(seed, "first"))
    again = teaching(taught_epochs * epoch, PAPERS)
    control = replace(subject, module=subject.copy())
    teach(control, again, derive_seed(seed, "control"))
    rows = {"before": figures(subject), "control": figures(control)}
    for ratio in ratios:
        for name, (method, options) in ARMS.items():
            own = {"ratio": ratio, "teach": again, **options}
            if method == "random":
                own["seed"] = seed
            (chosen,) = choose(EVALUATIONS, [method], {f"{method}.{key}": value for key, value in own.items()})
            rows[row_name(name, ratio)] = figures(apply(chosen, subject, derive_seed(seed, "control")))
    return {"ranks": rank_figures(subject, batches, batch), "rows": rows}


def digit_subject(seed: int) -> Subject:
    """Return an untrained network for digits of 16x16."""
    sources = {}
    for part in ("train", "test"):
        found = digits(part).tensors
        enlarged = functional.interpolate(found["picture"].float() / 255.0, size=SIZE, mode="bilinear")
        sources[part] = Arrays({"input": enlarged, "label": found["label"]})
    task = ClassifierTask(sources["train"], sources["test"], num_classes=CLASSES)
    module = ConvNet(1, SIZE, CLASSES, NETWORK, derive_seed(seed, "weights")).eval()
    base = network_base("conv", channels=1, size=SIZE, outputs=CLASSES, config=NETWORK)
    return Subject(module, sources["test"].tensors["input"][:1].clone(), task, base)


def teaching(steps: int, optimizer: OptimizerConfig) -> TeachConfig:
    """Return how networks learn here, the rate falling along half a cosine."""
    schedule = ScheduleConfig(kind="cosine", final=0.01)
    return TeachConfig(
        fit=FitConfig(steps=steps, batch_size=BATCH_SIZE, optimizer=optimizer, schedule=schedule), rounds=1
    )


def figures(subject: Subject) -> dict[str, float]:
    """Return what a network scores and costs."""
    return {
        "score": float(subject.task.score(subject.module, 0).mean()),
        "macs": float(count_macs(subject.module, subject.example)),
        "parameters": float(count_parameters(subject.module)),
    }


@torch.no_grad()
def rank_figures(subject: Subject, batches: int, batch: int) -> dict[str, list[float]]:
    """Return how ranks over filters agree between batches, and how they differ from filter to filter, layer by layer.

    "correlations" are the lowest of any two batches; "spread_ratios" the standard deviation over filters as a multiple
    of that over batches; "silent" the filters that draw nothing whatever the picture, which are in neither: that they
    agree says nothing.
    """
    source = subject.task.source("train")
    measured: dict[str, list[torch.Tensor]] = {layer: [] for layer in LAYERS}
    for index in torch.arange(batches * batch).split(batch):
        with RankMeter(subject.module, LAYERS) as meter:
            subject.module(source.examples(index)["input"])
        for layer in LAYERS:
            measured[layer].append(meter.ranks(layer))
    found: dict[str, list[float]] = {"correlations": [], "spread_ratios": [], "silent": []}
    for several in measured.values():
        ranks = torch.stack(several)  # (batches, filters)
        found["silent"].append(float((ranks.sum(0) == 0).sum()))
        ranks = ranks[:, ranks.sum(0) > 0]
        pairs = [float(torch.corrcoef(ranks[list(pair)])[0, 1]) for pair in combinations(range(batches), 2)]
        found["correlations"].append(min(pairs))
        over_batches, over_filters = ranks.std(0).mean(), ranks.mean(0).std()
        found["spread_ratios"].append(float(over_filters / over_batches.clamp_min(1e-9)))
    return found
