"""What layers cost, by rule and without building them; `envs/evaluation/probes.py` counts the same on built networks.

One multiplication with an addition is a MAC. Only convolutions and matrix products have any.

Shapes: P places, K choices.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

FLOAT_BITS = 32


@dataclass(frozen=True)
class Cost:
    """What something costs for one example.

    Attributes:
        macs: of all layers, whatever they compute with.
        parameters: numbers that are learned.
        binary_macs: those of the MACs whose weights and inputs have one bit.
        bits: of all parameters, as they are kept.
    """

    macs: int = 0
    parameters: int = 0
    binary_macs: int = 0
    bits: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.macs + other.macs,
            self.parameters + other.parameters,
            self.binary_macs + other.binary_macs,
            self.bits + other.bits,
        )

    def plain(self) -> dict[str, float]:
        """Return "macs", "parameters", "binary_macs" and "kilobytes"."""
        return {
            "macs": float(self.macs),
            "parameters": float(self.parameters),
            "binary_macs": float(self.binary_macs),
            "kilobytes": self.bits / 8e3,
        }


def total(costs: Iterable[Cost]) -> Cost:
    """Return the sum of some costs."""
    return sum(costs, Cost())


def weights_cost(weights: int, uses: int, *, weight_bits: int = FLOAT_BITS, input_bits: int = FLOAT_BITS) -> Cost:
    """Return the cost of weights, each of which is multiplied `uses` times, such as once a pixel."""
    macs = weights * uses
    return Cost(macs, weights, macs if weight_bits == input_bits == 1 else 0, weights * weight_bits)


def numbers_cost(count: int) -> Cost:
    """Return the cost of learned numbers that no matrix product uses: biases, normalizations."""
    return Cost(0, count, 0, count * FLOAT_BITS)


def linear_cost(inputs: int, outputs: int) -> Cost:
    """Return the cost of a linear layer with biases."""
    return weights_cost(inputs * outputs, 1) + numbers_cost(outputs)


def expected(probabilities: Tensor, costs: Tensor) -> Tensor:
    """Return the mean cost of a drawn architecture, differentiable: the sum over places of each place's mean.

    Args:
        probabilities: (P, K) of each choice.
        costs: (P, K) of each choice, such as `Space.choice_costs` gives them.
    """
    return (probabilities * costs.to(probabilities)).sum()


def table(costs: list[list[int]]) -> Tensor:
    """Return ragged costs as (P, K) float64, zeros where a place has fewer choices."""
    found = torch.zeros(len(costs), max(map(len, costs)), dtype=torch.float64)
    for place, row in enumerate(costs):
        found[place, : len(row)] = torch.tensor(row, dtype=torch.float64)
    return found
