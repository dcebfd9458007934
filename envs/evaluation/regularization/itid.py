"""Invariance by changing the data: a network learns what does not belong to its task by seeing it vary.

Zheng et al. 2019 (arXiv:1911.12603) enhance the invariance of a hypothesis by changing the distribution it learns from,
not the network or its loss. Only the abstract was at hand, so the operators are our own formulation of that:

    intervene    a share of each minibatch is shown under a fresh value of one factor, with its label or action
    focus        that factor is drawn from softmax((1 - inv_k) / temperature), inv_k measured as the learning goes on;
                 where a factor's invariance reaches `enough` its range is widened by a tenth, but for the first
                 measurement, before anything was learned. The score at the edge of the range is not asked for
    decorrelate  where a nuisance is only recorded, examples are weighted so that it tells nothing of the label; where
                 a factor of its name draws it anew, the value that is shown counts, not the recorded one
    mix          where not even that is known, pictures of one label are blended: a rough stand-in

Of a policy the pictures are those of stored states, and the right action is the teacher's for the state as it is; so
nothing is rendered again. What is kept is the network as it was, with other weights; its recipe holds what was measured
in each round.

Shapes: B batch, K factors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from envs.evaluation.regularization.decorrelate import SMALLEST_SHARE, decorrelating, effective_share
from envs.evaluation.regularization.factors import FACTORS, Factor, as_shares, factors_of
from envs.evaluation.regularization.invariance import distance_of, invariance
from envs.evaluation.regularization.shifted import shifted_score
from envs.evaluation.subject import Subject
from envs.evaluation.tasks import Batch
from envs.evaluation.transform import TeachConfig, Transform, teach, teach_by_cosine
from rlsuite.errors import UserError, require, require_finite
from rlsuite.running.seeding import derive_seed

REDRAWN = 16  # times that each example is shown to learn how a factor and the label go together
WIDER = 1.1  # a range that is mastered becomes so many times as wide


@dataclass(frozen=True, kw_only=True)
class ITIDConfig:
    """The numbers of learning under interventions; all are our own choices.

    Attributes:
        factors: what does not belong to the task: light, tint, texture, camera; [] blends pictures of one label.
        share: of each minibatch that is shown otherwise; 0 for none.
        width: of each factor's range at first, in shares of the pictures' range (camera: of their side).
        widest: of each range at last, and where networks are judged.
        enough: invariance at which a range is widened.
        temperature: of the focus on the factor that is minded most; 1e6 draws all of them alike.
        rounds: how often invariance is measured while the network learns.
        states: that it is measured on.
        recorded: what examples record of a nuisance, by its name there, whole numbers from 0: examples are weighted so
            that it tells nothing of "label". A factor of that name draws such numbers (B, 1). "" for none.
        least_share: of the examples that must count under such weights, as an effective sample size.
        teach: how the network learns.
    """

    factors: tuple[str, ...] = ("light", "tint", "texture", "camera")
    share: float = 0.5
    width: float = 0.1
    widest: float = 0.3
    enough: float = 0.95
    temperature: float = 0.1
    rounds: int = 5
    states: int = 256
    recorded: str = ""
    least_share: float = SMALLEST_SHARE
    teach: TeachConfig = field(default_factory=lambda: teach_by_cosine(1000, 64))

    def __post_init__(self) -> None:
        factors_of(self.factors)
        for name in ("share", "enough", "least_share"):
            value = getattr(self, name)
            require(0.0 <= value <= 1.0, f"{name}={value}: use 0 to 1")
        for name in ("width", "temperature"):
            require_finite(name, getattr(self, name), above=0.0)
        require_finite("widest", self.widest, low=self.width)
        for name in ("rounds", "states"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")


class ITID(Transform):
    """Learning under interventions on what does not belong to the task."""

    Config = ITIDConfig
    needs: ClassVar = {"convolutional": "its factors are of pictures; teach a policy of pixels with clone_policy.py"}
    refuses: ClassVar = {
        "quantized": "regularize first, as in evaluation=[regularization/itid,quantization/pams]",
    }

    config: ITIDConfig
    found: Sequence[dict[str, Any]] = ()  # of the rounds of the last learning

    def examine(self, subject: Subject) -> None:
        """Refuse what invariance is not measured of, and blending where examples have no labels."""
        distance_of(subject.task)
        blends = not self.config.factors and self.config.share > 0.0
        require(
            not (blends and subject.task.interactive), f"factors=[]: actions have no labels; use {', '.join(FACTORS)}"
        )

    def plan(self, subject: Subject) -> None:
        """Return None: nothing is decided before learning."""
        self.examine(subject)

    def rebuild(self, module: nn.Module, plan: Any) -> nn.Module:
        """Return the network as it is: only what it learns from differs."""
        return module

    def train(self, subject: Subject, before: Subject, seed: int) -> None:
        """Let the network learn, and keep what was measured."""
        self.found = enhance(subject, factors_of(self.config.factors), self.config, seed)

    def decided(self, module: nn.Module, plan: Any) -> dict[str, Any]:
        """Return "rounds": for each the invariances, chances and widths of the factors."""
        return {"rounds": list(self.found)}

    def figures(self, subject: Subject) -> dict[str, float]:
        """Return each factor's invariance in its widest range, and the score with all of them there."""
        config, factors, task = self.config, factors_of(self.config.factors), subject.task
        states, generator = states_of(subject, config.states), torch.Generator().manual_seed(0)
        found = {
            f"invariance_{factor.name}": invariance(
                subject.module, states, factor, config.widest, distance_of(task), generator
            ).mean
            for factor in factors
        }
        shifted = shifted_score(task, subject.module, factors, [config.widest] * len(factors), 0)
        return {**found, "shifted_score": float(shifted.mean())}


class Focus:
    """Which factors are drawn how often, and how wide.

    Args:
        factors: K of them.
        width: of all at first.
    """

    def __init__(self, factors: Sequence[Factor], width: float) -> None:
        self.factors, self.widths = tuple(factors), [width] * len(factors)
        self.chances = torch.full((len(factors),), 1.0 / max(1, len(factors)))

    def turn_to(self, invariances: Sequence[float], config: ITIDConfig, *, widen: bool = True) -> None:
        """Draw the factor that is minded most more often; widen the ranges that are mastered, if asked to."""
        minded = 1.0 - torch.tensor(invariances, dtype=torch.float64)
        self.chances = (minded / config.temperature).softmax(0).float()
        self.widths = [
            min(WIDER * width, config.widest) if widen and found >= config.enough else width
            for width, found in zip(self.widths, invariances, strict=True)
        ]

    def intervene(self, pictures: Tensor, share: float, generator: torch.Generator | None = None) -> Tensor:
        """Return pictures (B, C, H, W) in [0, 1], each with a chance of `share` under a fresh value of one factor."""
        return self.show(pictures, share, generator)[0]

    def show(
        self, pictures: Tensor, share: float, generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, tuple[Tensor, Tensor]]]:
        """Return the same, and by factor's name which pictures show it (B,) and the values drawn for all (B, P)."""
        count, shown = len(pictures), {}
        chosen = torch.multinomial(self.chances, count, replacement=True, generator=generator)
        changed = torch.rand(count, generator=generator) < share
        found = pictures
        for place, (factor, width) in enumerate(zip(self.factors, self.widths, strict=True)):
            z, rows = factor.draw(pictures, width, generator), changed & (chosen == place)
            found = torch.where(rows.to(pictures.device)[:, None, None, None], factor.apply(pictures, z), found)
            shown[factor.name] = rows, z
        return found, shown


def enhance(subject: Subject, factors: Sequence[Factor], config: ITIDConfig, seed: int) -> list[dict[str, Any]]:
    """Let a subject's network learn under interventions, in place.

    Args:
        subject: whose module learns.
        factors: in place of those that the config names, which may be of the caller's own.
        config: how.
        seed: of learning and measuring.

    Returns:
        For each round "invariance", "chance" and "width" of every factor, by its name, as the round began.

    Raises:
        UserError: if weights for a recorded nuisance leave too few examples that count.
    """
    task, module = subject.task, subject.module
    distance, states = distance_of(task), states_of(subject, config.states)
    focus, found = Focus(factors, config.width), []
    share, weights = config.share if factors else 0.0, None

    def weigh() -> Tensor | None:
        if not config.recorded:
            return None
        redrawn = next((place for place, one in enumerate(factors) if one.name == config.recorded), None)
        if redrawn is None or not share:
            return recorded_weights(subject, config.recorded, config.least_share)
        redraws = factors[redrawn], focus.widths[redrawn], share * float(focus.chances[redrawn])
        return recorded_weights(subject, config.recorded, config.least_share, redraws, derive_seed(seed, "levels"))

    def measure(step: int, done: float) -> None:
        nonlocal weights
        if len(found) == config.rounds or done < len(found) / config.rounds:
            return
        generator = torch.Generator().manual_seed(derive_seed(seed, f"invariance {len(found)}"))
        seen = [
            invariance(module, states, factor, width, distance, generator).mean
            for factor, width in zip(focus.factors, focus.widths, strict=True)
        ]
        focus.turn_to(seen, config, widen=bool(found))
        weights = weigh()
        row = {"invariance": seen, "chance": focus.chances.tolist(), "width": focus.widths}
        found.append(
            {key: dict(zip((one.name for one in factors), values, strict=True)) for key, values in row.items()}
        )

    def losses(network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        pictures, shown = as_shares(batch["input"]), {}
        if share:
            pictures, shown = focus.show(pictures, share)
        elif config.share:
            pictures = mixed(pictures, batch["label"], config.share)
        each = task.loss(network, {**batch, "input": pictures})
        if weights is None:
            return {"loss": each.mean()}
        own = weights.to(each)[levels_shown(batch[config.recorded], shown.get(config.recorded)), batch["label"]]
        return {"loss": (own * each).sum() / own.sum()}

    teach(subject, config.teach, seed, losses=losses, hooks=[measure])
    return found


def levels_shown(recorded: Tensor, drawn: tuple[Tensor, Tensor] | None) -> Tensor:
    """Return levels (B,) of a nuisance as recorded, but drawn ones (B, 1) where rows (B,) show those."""
    if drawn is None:
        return recorded
    rows, z = drawn
    return torch.where(rows.to(recorded.device), z[:, 0].to(recorded), recorded)


def states_of(subject: Subject, count: int) -> Tensor:
    """Return the first inputs that the network learns from, on its device."""
    source = subject.task.source("train")
    device = subject.device
    return source.examples(torch.arange(min(count, len(source))))["input"].to(device)


def recorded_weights(
    subject: Subject, name: str, least_share: float, redraws: tuple[Factor, float, float] | None = None, seed: int = 0
) -> Tensor:
    """Return weights (Z, Y) that make a recorded nuisance, as it is shown, independent of the label.

    Args:
        subject: whose examples are weighted.
        name: of the nuisance in its examples.
        least_share: of the examples that must count.
        redraws: a factor that draws it anew, whole numbers (B, 1) from 0, how wide, and the share of pictures so shown.
        seed: of the values by which it is found how often the factor draws each.

    Raises:
        UserError: if examples do not record it, the factor draws something else, or a smaller share than the least of
            them counts then.
    """
    source = subject.task.source("train")
    examples = source.examples(torch.arange(len(source)))
    for needed in (name, "label"):
        if needed not in examples:
            raise UserError(f"recorded={name}: examples have no '{needed}', only {', '.join(examples)}")
    level, label = examples[name], examples["label"]
    if redraws is not None:
        factor, width, share = redraws
        generator = torch.Generator().manual_seed(seed)
        z = torch.cat([factor.draw(examples["input"], width, generator) for _ in range(REDRAWN)])
        whole = z.shape[1] == 1 and not z.is_floating_point()
        require(whole, f"recorded={name}: the factor '{name}' draws no whole numbers (B, 1); leave recorded= out")
        level, label = level.repeat(REDRAWN), label.repeat(REDRAWN)
        level = levels_shown(level, (torch.rand(len(level), generator=generator) < share, z))
    weights = decorrelating(level, label)
    counting = effective_share(weights[level, label])
    require(
        counting >= least_share,
        f"recorded={name}: it and the label go together so closely that {counting:.1%} of the examples count; "
        "name factors= that can be drawn anew",
    )
    return weights


def mixed(pictures: Tensor, labels: Tensor, share: float, generator: torch.Generator | None = None) -> Tensor:
    """Return pictures, each with a chance of `share` blended with another of its label, with a weight in [0, 1)."""
    count = len(pictures)
    draws = torch.rand((count, count), generator=generator).to(pictures.device)
    partner = (draws * (labels[:, None] == labels[None, :])).argmax(1)
    weight = torch.rand(count, generator=generator) * (torch.rand(count, generator=generator) < share)
    weight = weight.to(pictures)[:, None, None, None]
    return (1.0 - weight) * pictures + weight * pictures[partner]
