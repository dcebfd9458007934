"""Updates beside steps: seconds of a round of training against those of its two halves."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from agents.assembly import prepare_torch
from agents.training import make_trainer
from rlsuite.config.schema import TrainConfig
from rlsuite.records.monitor import Monitor
from rlsuite.running.training import Trainer
from scripts.benchmarks.rounds import Contestant, alternate, print_table, report, synchronize


def measure_overlap(config: TrainConfig, rounds: int, seconds: float) -> dict[str, Any]:
    """Return rounds of training a second: steps alone, updates alone, one after the other, and beside each other.

    Args:
        config: the run; a round is a step of all its environments and the updates due for it.
        rounds: that count.
        seconds: of one measurement, roughly.
    """
    prepare_torch(config)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        monitor = stack.enter_context(Monitor(folder, total_steps=config.steps, console=False))
        trainers = {
            name: make_trainer(dataclasses.replace(config, overlap=name == "ours"), folder / name, stack)
            for name in ("ours", "after")
        }
        for trainer in trainers.values():
            while trainer.updates < 20:
                train(trainer, monitor, 1)
        count = max(1, round(seconds / timed(lambda: train(trainers["after"], monitor, 5)) * 5))
        contestants: dict[str, Contestant] = {
            "steps": lambda: count / timed(lambda: step(trainers["after"], count)),
            "updates": lambda: count / timed(lambda: update(trainers["after"], count)),
            **{
                name: lambda trainer=trainer: count / timed(lambda: train(trainer, monitor, count))
                for name, trainer in trainers.items()
            },
        }
        rates = alternate(contestants, rounds)
    print_table(
        f"rounds of training {config.agent_name} {config.env.name}, {config.num_envs} environments", "/s", rates
    )
    # Of each round's four: how much longer than its longer half a round beside each other takes.
    halves = zip(rates["steps"], rates["updates"], rates["ours"], strict=True)
    longer = sorted(min(steps, updates) / ours for steps, updates, ours in halves)
    return {
        "what": "overlap",
        "agent": config.agent_name,
        "env": config.env.name,
        "num_envs": config.num_envs,
        "num_threads": torch.get_num_threads(),
        "rounds": rounds,
        "seconds_over_longer_half": longer[len(longer) // 2],
    } | report(rates, {"ratio_after": "after"})


def timed(work: Any) -> float:
    """Return the seconds that work() takes, the GPU's share of it finished."""
    synchronize()
    begin = time.perf_counter()
    work()
    synchronize()
    return time.perf_counter() - begin


def train(trainer: Trainer, monitor: Monitor, count: int) -> None:
    """Train for `count` rounds."""
    for _ in range(count):
        trainer._collect(monitor)
        trainer._update(bool)  # bool() is False: never stopped


def step(trainer: Trainer, count: int) -> None:
    """Choose actions and step, `count` times."""
    for _ in range(count):
        action = trainer.worker.choose()
        trainer.worker.take(action, trainer.worker.simulate(action))


def update(trainer: Trainer, count: int) -> None:
    """Make the updates of `count` rounds."""
    for _ in range(round(count * trainer.config.train_ratio * trainer.config.num_envs)):
        batch = trainer.replay.sample(trainer.agent.sample_size)
        trainer.replay.update_priorities(batch.index, trainer.update(batch).pop("td_error"))
