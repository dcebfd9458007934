"""Alternating rounds: every contestant runs once a round, so that a machine's mood hits all alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import median

import torch
from rich.console import Console
from rich.table import Table

Contestant = Callable[[], float]


def alternate(contestants: Mapping[str, Contestant], rounds: int) -> dict[str, list[float]]:
    """Run every contestant once a round, after one round that does not count.

    Args:
        contestants: name -> a function that measures once and returns a rate (units a second).
        rounds: rounds that count.

    Returns:
        name -> the rates of the counted rounds.
    """
    for measure in contestants.values():
        measure()
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, measure in contestants.items():
            rates[name].append(measure())
    return rates


def synchronize() -> None:
    """Wait for the GPU, where there is one: what is in its queue would else be the next contestant's."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def ratio(rates: Mapping[str, list[float]], peer: str) -> float:
    """Return the median over rounds of ours / peer, each ratio within one round."""
    return median(ours / theirs for ours, theirs in zip(rates["ours"], rates[peer], strict=True))


def print_table(title: str, unit: str, rates: Mapping[str, list[float]]) -> None:
    """Print each contestant's median, minimum and maximum, and ours against it."""
    table = Table(title=title)
    for column in ("who", f"median {unit}", "min", "max", "ours / it"):
        table.add_column(column, justify="left" if column == "who" else "right")
    for name, values in rates.items():
        against = "" if name == "ours" else f"{ratio(rates, name):.2f}"
        table.add_row(name, *(f"{value:,.0f}" for value in (median(values), min(values), max(values))), against)
    Console().print(table)


def report(rates: Mapping[str, list[float]], peers: Mapping[str, str]) -> dict[str, float | None]:
    """Return medians and ratios for the JSON line; a peer that is not installed has null."""
    values: dict[str, float | None] = {f"median_{name}": median(list_) for name, list_ in rates.items()}
    values |= {key: ratio(rates, name) if name in rates else None for key, name in peers.items()}
    return values
