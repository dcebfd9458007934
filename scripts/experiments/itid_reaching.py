"""The part of ITID's experiment that reaches: a policy of pixels, taught in one light and scored in others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from envs.evaluation.regularization.factors import Factor, factors_of
from envs.evaluation.regularization.invariance import distance_of, invariance, sensitivity
from envs.evaluation.regularization.itid import ITIDConfig, enhance
from envs.evaluation.regularization.shifted import shifted_score
from envs.evaluation.subject import Subject
from rlsuite.running.seeding import derive_seed
from scripts.experiments.reaching import ends_of_the_scale, learned_share, reach_learning, reach_student, reach_task

LEARNERS = ("plain", "any", "chosen")
ALIKE = 1e6  # a temperature at which all factors are drawn alike
# Invariance counts in whole action ranges, of which the expert uses a tenth: what there is to tell lies between 0.9 and
# 1, so temperature and the invariance at which ranges are widened are set for that.
TEMPERATURE, ENOUGH = 0.01, 0.99


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
    """Return how policies taught each way do: see `reach_figures`; returns of "still" and "expert"; the last's rounds.

    What is "kept" is counted from standing still, as a share of what plain learning gains under no factor over that.
    """
    torch.set_num_threads(1)
    task = reach_task(size=size, states=states, episodes=episodes, seed=derive_seed(seed, "reaching"))
    subject, chosen = reach_student(task, seed), factors_of(tuple(factors))
    config = ITIDConfig(
        teach=reach_learning(steps),
        width=widest / 2,
        widest=0.75 * widest,
        states=128,
        rounds=4,
        temperature=TEMPERATURE,
        enough=ENOUGH,
    )
    ends = ends_of_the_scale(episodes, 0)
    found: dict[str, Any] = {**ends}
    for name, own in {"plain": {"share": 0.0}, "any": {"temperature": ALIKE}, "chosen": {}}.items():
        made = replace(subject, module=subject.copy())
        found["rounds"] = enhance(made, chosen, replace(config, **own), derive_seed(seed, "taught"))
        found[name] = reach_figures(made, chosen, widest)
    gained = found["plain"]["return"] - ends["still"]
    for name in LEARNERS:
        found[name]["learned"] = learned_share(found[name]["return"], ends)
        found[name]["kept"] = (found[name]["shifted"] - ends["still"]) / gained
    return found


def reach_figures(subject: Subject, factors: tuple[Factor, ...], width: float) -> dict[str, Any]:
    """Return mean returns under no factor, "shifted" under all, and of each its invariance and return: "factors".

    Beside the invariances stands "sensitivity", the same distance between other states; beside each factor's return the
    standard error of what it costs over starts, which are the same under all.
    """
    task, module = subject.task, subject.module
    source = task.source("test")
    chosen = torch.arange(0, len(source), max(1, len(source) // 128))[:128]  # of all steps, not the first alone
    examples = source.examples(chosen)
    states, generator = examples["input"], torch.Generator().manual_seed(0)
    plain = task.score(module, 0)
    found: dict[str, Any] = {
        "return": float(plain.mean()),
        "shifted": float(shifted_score(task, module, factors, [width] * len(factors), 0).mean()),
        "sensitivity": sensitivity(module, states, examples["action"], distance_of(task), generator),
        "factors": {},
    }
    for factor in factors:
        measured = invariance(module, states, factor, width, distance_of(task), generator)
        score = shifted_score(task, module, [factor], [width], 0)
        found["factors"][factor.name] = {
            "invariance": measured.mean,
            "stderr": measured.stderr,
            "return": float(score.mean()),
            "cost_stderr": float((plain - score).std() / len(score) ** 0.5),
        }
    return found
