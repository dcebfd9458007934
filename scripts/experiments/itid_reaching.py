"""The part of ITID's experiment that reaches: a policy of pixels, taught in one light and scored in others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from envs.evaluation.regularization.factors import Factor, factors_of
from envs.evaluation.regularization.invariance import distance_of, invariance
from envs.evaluation.regularization.itid import ITIDConfig, enhance
from envs.evaluation.regularization.shifted import shifted_score
from envs.evaluation.subject import Subject
from envs.evaluation.transform import TeachConfig
from rlsuite.fit import FitConfig
from rlsuite.optim.choice import OptimizerConfig, ScheduleConfig
from rlsuite.running.seeding import derive_seed
from scripts.experiments.reaching import reach_student, reach_task

LEARNERS = ("plain", "any", "chosen")
ALIKE = 1e6  # a temperature at which all factors are drawn alike


def reach(
    arm: str,
    seed: int,
    folder: Path,
    *,
    size: int,
    states: int,
    steps: int,
    episodes: int,
    factors: tuple[str, ...],
    widest: float,
) -> dict[str, Any]:
    """Return how policies taught each way do: see `reach_figures`, and the rounds of the last."""
    torch.set_num_threads(1)
    task = reach_task(size=size, states=states, episodes=episodes, seed=derive_seed(seed, "reaching"))
    subject, chosen = reach_student(task, seed), factors_of(tuple(factors))
    optimizer, schedule = OptimizerConfig(learning_rate=3e-3), ScheduleConfig(kind="cosine")
    fit = FitConfig(steps=steps, batch_size=64, optimizer=optimizer, schedule=schedule, clip_norm=5.0)
    config = ITIDConfig(
        teach=TeachConfig(fit=fit, rounds=2), width=widest / 2, widest=0.75 * widest, states=128, rounds=4
    )
    found: dict[str, Any] = {}
    for name, own in {"plain": {"share": 0.0}, "any": {"temperature": ALIKE}, "chosen": {}}.items():
        made = replace(subject, module=subject.copy())
        found["rounds"] = enhance(made, chosen, replace(config, **own), derive_seed(seed, "taught"))
        found[name] = reach_figures(made, chosen, widest)
    whole = found["plain"]["return"] - task.floor
    for name in LEARNERS:
        found[name]["kept"] = (found[name]["shifted"] - task.floor) / whole
    return found


def reach_figures(subject: Subject, factors: tuple[Factor, ...], width: float) -> dict[str, Any]:
    """Return mean returns under no factor, "shifted" under all, and of each its invariance and return: "factors"."""
    task, module = subject.task, subject.module
    source = task.source("test")
    states = source.examples(torch.arange(min(128, len(source))))["input"]
    generator = torch.Generator().manual_seed(0)
    found: dict[str, Any] = {
        "return": float(task.score(module, 0).mean()),
        "shifted": float(shifted_score(task, module, factors, [width] * len(factors), 0).mean()),
        "factors": {},
    }
    for factor in factors:
        measured = invariance(module, states, factor, width, distance_of(task), generator)
        score = shifted_score(task, module, [factor], [width], 0).mean()
        found["factors"][factor.name] = {
            "invariance": measured.mean,
            "stderr": measured.stderr,
            "return": float(score),
        }
    return found
