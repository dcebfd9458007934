"""Interpolatron (arXiv:1805.06753): after a step, weights become a mixture of what the last steps led to.

With G(x) = x - rate * gradient(x), the image of x under a step, and the last images G_0 (newest), G_1, ..., kept as
they were computed, each with its own minibatch:

    x <- sum_i w_i G_i,  sum_i w_i = 1

    w_i fixed and >= 0       Interpolatron: between the images, where momentum goes beyond the newest
    w_i by least squares     Anderson's acceleration, which the paper compares: w makes |sum_i w_i (G_i - x_i)| least

Two taps (1 - a, a) on a curvature c are stable where |1 - rate c| < 1 / a (and (1 - 2a) |1 - rate c| < 1): at a = 1/3
up to a rate of 4 / c, twice gradient descent's. Under a constant gradient a step is rate / (1 + sum_i i w_i), 3/4 of
it at a = 1/3. So a rate tuned for plain steps is to be raised 1.5 to 2 times. (Both derived here.)

The published text available to us gives the idea and not the numbers: the form above follows its abstract and the
literature on Anderson's mixing, and the default taps are ours. Left out: a safeguard that takes a mixture back where
the loss rose, because it costs another forward pass each time; and constraints on Anderson's weights.

Every optimizer of torch can be mixed, since what is mixed is where its steps lead; its own averages are left alone, and
so are BatchNorm's. The paper's is name="sgd" with momentum=0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rlsuite.errors import require, require_choice, require_finite
from rlsuite.optim.anderson import anderson_weights

KINDS = ("none", "interpolatron", "anderson")
# A rate that jumps so far between two mixtures makes residuals of before incomparable.
_JUMP = 2.0


@dataclass(frozen=True, kw_only=True)
class MixingConfig:
    """How the last steps are mixed.

    Attributes:
        kind: "none", "interpolatron" (fixed weights) or "anderson" (weights by least squares).
        taps: of interpolatron, weights of the newest image, the one before, ..., in proportion: [2,1] is 2/3 and 1/3.
        history: of anderson, images mixed at most.
        ridge: of anderson, against the residuals' sum of squares: 1e-4 for whole batches, 1e-2 to 1e-1 for minibatches.
        relaxation: of anderson, the share of images in the mixture; the rest is of the points that they are images of.
        every: steps from one mixture to the next; between them the optimizer walks alone.
        averaged: the image is the mean over these steps and not the last of them, which evens out minibatches.
    """

    kind: str = "none"
    taps: tuple[float, ...] = (2.0, 1.0)
    history: int = 6
    ridge: float = 1e-4
    relaxation: float = 1.0
    every: int = 1
    averaged: bool = False

    def __post_init__(self) -> None:
        require_choice("mixing.kind", self.kind, KINDS)
        for tap in self.taps:
            require_finite("mixing.taps", tap, low=0.0)
        require(
            bool(self.taps) and self.taps[0] > 0.0,
            f"mixing.taps={list(self.taps)}: name weights of 0 or more, the first above 0, such as [2,1]",
        )
        require(self.history >= 1, f"mixing.history={self.history}: use 1 or more")
        require_finite("mixing.ridge", self.ridge, above=0.0)
        require(0.0 < self.relaxation <= 1.0, f"mixing.relaxation={self.relaxation}: use more than 0, and at most 1")
        require(self.every >= 1, f"mixing.every={self.every}: use 1 or more")


def mix_steps(optimizer: torch.optim.Optimizer, config: MixingConfig) -> torch.optim.Optimizer:
    """Let an optimizer's steps be followed by mixtures, and return it.

    All that is remembered lies in the optimizer's state, weight by weight: `history` images (and residuals), and where
    the steps since the last mixture began. So it is saved and put back with the optimizer.
    """
    if config.kind != "none":
        _Mixing(optimizer, config)
    return optimizer


class _Mixing:
    """Hooks before and after an optimizer's steps. Slots of the history are written in turn."""

    def __init__(self, optimizer: torch.optim.Optimizer, config: MixingConfig) -> None:
        self.config = config
        self.slots = len(config.taps) if config.kind == "interpolatron" else config.history
        self.kept = ("image", "residual") if config.kind == "anderson" else ("image",)
        self.steps = self.mixtures = 0  # since the last mixture, and since the history began
        self.rate = 0.0  # of the first group, at the last mixture
        self.fresh: dict[nn.Parameter, Tensor] = {}
        optimizer.register_step_pre_hook(self.before)
        optimizer.register_step_post_hook(self.after)
        optimizer.register_load_state_dict_post_hook(self.loaded)

    def before(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """Note where weights are that are about to move for the first time."""
        known = set(self.tracked(optimizer))
        self.fresh = {
            weight: weight.detach().clone()
            for weight in _weights(optimizer)
            if weight.grad is not None and weight not in known
        }

    @torch.no_grad()
    def after(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """Take up the step; where a mixture is due, mix."""
        self.welcome(optimizer)
        weights: list[Tensor] = list(self.tracked(optimizer))
        if not weights:
            return
        states = [optimizer.state[weight] for weight in weights]
        self.steps += 1
        if self.config.averaged:
            torch._foreach_add_([state["mixing_sum"] for state in states], weights)
        if self.steps == self.config.every:
            self.mix(weights, states, float(optimizer.param_groups[0]["lr"]))
            self.steps = 0
        counters = {
            "mixing_steps": torch.tensor(float(self.steps)),
            "mixing_mixtures": torch.tensor(float(self.mixtures)),
            "mixing_rate": torch.tensor(self.rate),
        }
        for state in states:
            state.update(counters)

    def mix(self, weights: list[Tensor], states: list[dict[str, Tensor]], rate: float) -> None:
        """Keep the newest image, and let the weights be a mixture of those kept."""
        if not self.rate / _JUMP < rate < self.rate * _JUMP:
            self.mixtures = 0
        self.rate = float(torch.tensor(rate))  # as a checkpoint has it
        newest = self.mixtures % self.slots
        starts = [state["mixing_start"] for state in states]
        images = weights
        if self.config.averaged:
            images = list(torch._foreach_div([state["mixing_sum"] for state in states], float(self.config.every)))
        torch._foreach_copy_([state[f"mixing_image_{newest}"] for state in states], images)
        if self.config.kind == "anderson":
            residuals = [state[f"mixing_residual_{newest}"] for state in states]
            torch._foreach_copy_(residuals, torch._foreach_sub(images, starts))
        self.mixtures += 1
        if self.mixtures >= 2 * self.slots:  # counts no further than slots and what they hold can tell
            self.mixtures -= self.slots
        slots = [(newest - age) % self.slots for age in range(min(self.mixtures, self.slots))]
        if self.config.kind == "anderson":
            mixed = self.by_least_squares(states, slots)
        else:
            taps = self.config.taps[: len(slots)]
            mixed = _mixture(states, "mixing_image", slots, [tap / sum(taps) for tap in taps])
        torch._foreach_copy_(weights, mixed)
        torch._foreach_copy_(starts, mixed)
        if self.config.averaged:
            torch._foreach_zero_([state["mixing_sum"] for state in states])

    def by_least_squares(self, states: list[dict[str, Tensor]], slots: list[int]) -> list[Tensor]:
        """Return the mixture of the slots with Anderson's weights, which never leave the device."""
        residuals = torch.stack(
            [torch.cat([state[f"mixing_residual_{slot}"].flatten() for state in states]) for slot in slots]
        ).double()
        found = anderson_weights(residuals @ residuals.T, self.config.ridge).to(states[0]["mixing_start"].dtype)
        mixed = _mixture(states, "mixing_image", slots, found)
        if self.config.relaxation < 1.0:
            # A point is its image less its residual.
            behind = _mixture(states, "mixing_residual", slots, found * (1.0 - self.config.relaxation))
            torch._foreach_sub_(mixed, behind)
        return mixed

    def welcome(self, optimizer: torch.optim.Optimizer) -> None:
        """Give weights that moved for the first time a history: so far they stood still, at their own image."""
        for weight, start in self.fresh.items():
            state = optimizer.state[weight]
            state["mixing_start"] = start
            for slot in range(self.slots):
                state[f"mixing_image_{slot}"] = start.clone()
                if "residual" in self.kept:
                    state[f"mixing_residual_{slot}"] = torch.zeros_like(start)
            if self.config.averaged:
                state["mixing_sum"] = start * float(self.steps)
        self.fresh = {}

    def loaded(self, optimizer: torch.optim.Optimizer) -> None:
        """Take up the counters of a state that was put back."""
        found = next((optimizer.state[weight] for weight in self.tracked(optimizer)), {})
        self.steps = int(found.get("mixing_steps", 0))
        self.mixtures = int(found.get("mixing_mixtures", 0))
        self.rate = float(found.get("mixing_rate", 0.0))

    @staticmethod
    def tracked(optimizer: torch.optim.Optimizer) -> Iterator[nn.Parameter]:
        """Yield the weights that have a history."""
        return (weight for weight in _weights(optimizer) if "mixing_start" in optimizer.state.get(weight, {}))


def _weights(optimizer: torch.optim.Optimizer) -> Iterator[nn.Parameter]:
    return (weight for group in optimizer.param_groups for weight in group["params"])


def _mixture(states: list[dict[str, Tensor]], name: str, slots: list[int], weights: Any) -> list[Tensor]:
    """Return sum_i weights[i] * (what the i-th slot holds), weight by weight."""
    total = None
    for place, slot in enumerate(slots):
        part = torch._foreach_mul([state[f"{name}_{slot}"] for state in states], weights[place])
        total = part if total is None else torch._foreach_add(total, part)
    return list(total or ())
