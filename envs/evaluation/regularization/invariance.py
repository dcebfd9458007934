"""How little a network's output changes with what does not belong to its task, and what that promises.

Zheng et al. 2019 (arXiv:1911.12603) put in the place of identically distributed examples such as are so *with respect
to the task* (ITID): the task's variables s have one law everywhere, the others z may have any. What then decides about
unseen z is the invariance of the hypothesis. Only the paper's abstract was at hand: the measure, the bound and its
short proof here are our own formulation of it, no reproduction of its theorems.

    inv(h) = 1 - E_s E_{z, z'} d(h(s, z), h(s, z')),    worst(h) = E_s max_{z, z'} d(h(s, z), h(s, z'))
    error under any law of z  <=  error on n held-out examples + worst(h) + sqrt(ln(1 / delta) / (2 n))

with probability 1 - delta, for the error 1 - h_y of a prediction drawn from h and d the total variation: that error
changes by at most d, s has one law, and Hoeffding's inequality asks for independence alone. worst(h) is of the values
drawn, so the bound is one over a finite set of z.

A constant is perfectly invariant: beside an invariance always stands the score, and `sensitivity`.

Shapes: B states, m values of a factor, O outputs.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from envs.evaluation.policy_task import PolicyTask
from envs.evaluation.regularization.factors import Factor, as_shares
from envs.evaluation.tasks import ClassifierTask, Task
from rlsuite.errors import UserError

Distance = Callable[[Tensor, Tensor], Tensor]  # outputs (..., O) twice -> (...) in [0, 1]
DRAWS = 8  # m: the worst of more draws is worse, so it is fixed
RESAMPLES = 200


class Invariance(NamedTuple):
    """inv(h), its standard error over states (bootstrap), and worst(h)."""

    mean: float
    stderr: float
    worst: float


def total_variation(first: Tensor, second: Tensor) -> Tensor:
    """Return the total variation between the class probabilities of two logits (..., O)."""
    return 0.5 * (first.softmax(-1) - second.softmax(-1)).abs().sum(-1)


def label_flips(first: Tensor, second: Tensor) -> Tensor:
    """Return 1 where two logits (..., O) name different classes: what no temperature changes."""
    return (first.argmax(-1) != second.argmax(-1)).to(first.dtype)


def action_distance(half_range: Tensor) -> Distance:
    """Return the distance of actions (..., O) as a share of the longest there is, their range's diagonal."""

    def distance(first: Tensor, second: Tensor) -> Tensor:
        apart = (first - second) / half_range.to(first)
        return apart.norm(dim=-1) / (2.0 * math.sqrt(apart.shape[-1]))

    return distance


def distance_of(task: Task) -> Distance:
    """Return the distance that goes with a task's outputs.

    Raises:
        UserError: for a task that is neither classes nor actions.
    """
    if isinstance(task, PolicyTask):
        return action_distance(task.half_range)
    if isinstance(task, ClassifierTask):
        return total_variation
    raise UserError("invariance is measured of classes and of actions, not of what this network gives")


@torch.no_grad()
def invariance(
    module: nn.Module,
    states: Tensor,
    factor: Factor,
    width: float,
    distance: Distance,
    generator: torch.Generator,
    draws: int = DRAWS,
) -> Invariance:
    """Return how invariant a network is to one factor, others as they are in the states.

    Args:
        module: the network.
        states: (B, C, H, W) as it takes them.
        factor: what is changed.
        width: how much.
        distance: between outputs.
        generator: of the factor's values and of the bootstrap.
        draws: m values of each state, of which all pairs are compared.
    """
    pictures = as_shares(states)
    with evaluating(module):
        outputs = torch.stack(
            [module(factor.apply(pictures, factor.draw(pictures, width, generator))) for _ in range(draws)]
        )
    return of_outputs(outputs, distance, generator)


def of_outputs(outputs: Tensor, distance: Distance, generator: torch.Generator) -> Invariance:
    """Return the invariance that outputs (m, B, O) under m values show."""
    first, second = torch.triu_indices(len(outputs), len(outputs), 1)
    pairs = distance(outputs[first], outputs[second]).double()  # (m (m - 1) / 2, B)
    each = pairs.mean(0).cpu()
    chosen = torch.randint(len(each), (RESAMPLES, len(each)), generator=generator)
    return Invariance(1.0 - float(each.mean()), float(each[chosen].mean(1).std()), float(pairs.amax(0).mean()))


@torch.no_grad()
def sensitivity(
    module: nn.Module, states: Tensor, labels: Tensor, distance: Distance, generator: torch.Generator
) -> float:
    """Return the mean distance between outputs for states of different labels (B, ...): the control beside inv."""
    other = torch.randperm(len(states), generator=generator)
    differs = (labels != labels[other]).flatten(1).any(1) if labels.dim() > 1 else labels != labels[other]
    with evaluating(module):
        outputs = module(states)
    return float(distance(outputs, outputs[other])[differs].mean())


def bound(error: float, worst: float, count: int, delta: float = 0.05) -> float:
    """Return what the error is at most under any law of the factors, with probability 1 - delta.

    Args:
        error: mean of 1 - h_y over held-out examples.
        worst: worst(h).
        count: n of them.
        delta: see above.
    """
    return error + worst + math.sqrt(math.log(1.0 / delta) / (2.0 * count))


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module in evaluation mode for a while, then every part of it in the mode it had."""
    before = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in before.items():
            part.training = mode
