"""Tables of values by sweeps whose last results are mixed (Geist and Scherrer 2018, "Anderson acceleration for RL").

A Bellman sweep v -> max_a (r + discount P v) takes the place of a gradient step: a table's image is what a sweep makes
of it. `scripts/experiments/interpolatron.py` counts iterations, which are one sweep or two.

Shapes: S states, A actions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rlsuite.errors import UserError
from rlsuite.optim.anderson import anderson_weights

NEAR, KEPT, RIDGE, MOST = 1e-6, 5, 1e-12, 20_000
ROUNDING = 1e-9  # of values of some hundreds; a sweep of the optimum itself lowers it by 1e-13 here and there


@dataclass(frozen=True)
class Table:
    """A Markov decision process that is known, float64.

    Attributes:
        transitions: (A, S, S), the chance of each next state.
        rewards: (A, S).
        discount: of future rewards.
    """

    transitions: Tensor
    rewards: Tensor
    discount: float = 0.99

    def choices(self, values: Tensor) -> Tensor:
        """Return what each action is worth (A, S), where next states are worth `values` (S,)."""
        return self.rewards + self.discount * self.transitions @ values

    def sweep(self, values: Tensor) -> Tensor:
        """Return the image of values (S,): what the best action is worth."""
        return self.choices(values).amax(dim=0)

    def optimum(self) -> Tensor:
        """Return the optimal values (S,), by policy iteration."""
        states = torch.arange(self.rewards.shape[1])
        policy = torch.zeros_like(states)
        while True:
            kept = torch.eye(len(states), dtype=self.rewards.dtype) - self.discount * self.transitions[policy, states]
            values = torch.linalg.solve(kept, self.rewards[policy, states])
            choices = self.choices(values)
            better = choices.amax(dim=0) > choices[policy, states] + 1e-10
            if not bool(better.any()):
                return values
            policy = torch.where(better, choices.argmax(dim=0), policy)


def random_table(states: int, actions: int, seed: int) -> Table:
    """Return a table with uniform rows, scaled to sum to one, and normal rewards."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.rand(actions, states, states, generator=generator, dtype=torch.float64)
    rewards = torch.randn(actions, states, generator=generator, dtype=torch.float64)
    return Table(rows / rows.sum(dim=-1, keepdim=True), rewards)


def chain(states: int) -> Table:
    """Return a chain of two actions, left and right, that succeed in 9 of 10 steps and else go the other way.

    At the left end a step earns 0.1, at the right end 1.
    """
    place = torch.arange(states)
    left, right = (place - 1).clamp_min(0), (place + 1).clamp_max(states - 1)
    transitions = torch.zeros(2, states, states, dtype=torch.float64)
    for action, (meant, other) in enumerate(((left, right), (right, left))):
        transitions[action, place, meant] += 0.9
        transitions[action, place, other] += 0.1
    rewards = torch.zeros(2, states, dtype=torch.float64)
    rewards[:, 0], rewards[:, -1] = 0.1, 1.0
    return Table(transitions, rewards)


def counts_needed(table: Table, scheme: str) -> tuple[int, int]:
    """Return how many iterations, and how many sweeps, it takes until values are within 1e-6 of the optimum.

    Start values are so low that a sweep lowers none: rejection needs that.

    Args:
        table: what is swept.
        scheme: "plain" value iteration; "mixed", where the next values are the mixture of the last five images by
            Anderson's weights, which takes one sweep each; or "rejecting", where the last five values are mixed and
            swept, unless the sweep lowers them somewhere: then the plain image is next. That takes two sweeps each.
            An iteration is what leads from values to the next ones, the first image counted.

    Raises:
        UserError: if it takes more than 20,000.
    """
    optimum = table.optimum()
    values = torch.full_like(optimum, -float(table.rewards.abs().max()) / (1.0 - table.discount))
    image, sweeps, iterations = table.sweep(values), 1, 1
    points, images = [], []
    while float((image - optimum).abs().max()) >= NEAR:
        if sweeps >= MOST:
            raise UserError(f"{scheme} sweeps do not converge within {MOST}; use a lower discount")
        points, images = [*points, values][-KEPT:], [*images, image][-KEPT:]
        values = image
        if scheme != "plain":
            residuals = torch.stack(images) - torch.stack(points)
            weights = anderson_weights(residuals @ residuals.T, RIDGE)
            if scheme == "mixed":
                values = weights @ torch.stack(images)
            else:
                mixture = weights @ torch.stack(points)
                swept, sweeps = table.sweep(mixture), sweeps + 1
                values = swept if bool((swept >= mixture - ROUNDING).all()) else image
        image, sweeps, iterations = table.sweep(values), sweeps + 1, iterations + 1
    return iterations, sweeps
