"""Perceivers small enough to be computed by hand; tests put them into the catalogue."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from envs.perception.perceiver import Perceiver


@dataclass(frozen=True, kw_only=True)
class PlainConfig:
    """Nothing to choose."""


@dataclass(frozen=True, kw_only=True)
class GainConfig:
    weights: str = ""
    channels: int = 3
    power: float = 1.0


class Gain(Perceiver):
    """A learned gain of each channel, by 1 at first."""

    Config = GainConfig

    def __init__(self, *, config):
        super().__init__(config=config)
        self.network = nn.ParameterDict({"gain": nn.Parameter(torch.ones(config.channels))})

    def forward(self, seen, state):
        return {"rgb": seen["rgb"] * self.network["gain"].view(1, -1, 1, 1)}, state


class Late(Perceiver):
    """The camera frame of one camera frame ago, half-way steps rounded down."""

    Config = PlainConfig
    lookahead = 1

    def init_state(self, batch, size):
        frame = torch.zeros(batch, 3, *size)
        return {"before": frame, "last": frame.clone(), "count": torch.zeros(batch, dtype=torch.int64)}

    def forward(self, seen, state):
        fresh = (seen["phase"] == 0).view(-1, 1, 1, 1)
        first = (state["count"] == 0).view(-1, 1, 1, 1)
        last = torch.where(fresh, seen["rgb"], state["last"])
        before = torch.where(fresh, torch.where(first, seen["rgb"], state["last"]), state["before"])
        count = state["count"] + fresh.flatten()
        return {"rgb": before}, {"before": before, "last": last, "count": count}


class Brightness(Perceiver):
    """Depth, of all things, from brightness: another field than it reads."""

    Config = PlainConfig
    outputs = ("depth",)

    def forward(self, seen, state):
        return {"depth": 10.0 * seen["rgb"].mean(1, keepdim=True)}, state


TOYS = {
    "toy/gain": "toy_perceivers:Gain",
    "toy/late": "toy_perceivers:Late",
    "toy/brightness": "toy_perceivers:Brightness",
}
