"""SHER (arXiv:2002.02089, card "Small B" and "Small C"): soft hindsight replay learns sparse goals, and more evenly.

FetchReach: SHER in `reach_steps` environment steps, and the same without relabelling (soft actor-critic alone).
`push_task`: SHER and DDPG with hindsight for `push_steps` environment steps each, the replay, the networks, the
minibatches and the number of updates the same.

Claims: every seed reaches on FetchReach; without relabelling it does not; on the push task SHER's final success is
above a bar in every seed, is no lower than DDPG's, and lies closer together over the seeds. Success is that at the
last step of 100 test episodes that all runs share, acted deterministically; beside it stands that of policies which
explore, as the released code evaluates them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.assembly import load_agent, make_env, prepare_torch
from rlsuite.config.schema import build
from rlsuite.errors import require
from rlsuite.experiment import Claim, Result
from rlsuite.running.seeding import derive_seed
from rlsuite.scoring import evaluate
from rlsuite.statistics.runs import read_run
from scripts.experiments.training_runs import train_all, training_minutes

EVALUATION_SEED = derive_seed(0, "sher evaluation")
SOFT_ARMS = ("reach-sher", "reach-unlabelled", "push-sher")
NO_RELABELLING = "replay.hindsight.relabelled_per_original=0"


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """What rlsuite/conf/paper/sher.yaml holds, and explains."""

    seeds: int
    episodes: int
    reach_steps: int
    reach_bar: float
    reach_overrides: tuple[str, ...]
    unlabelled_bar: float
    push_task: str
    push_steps: int
    push_overrides: tuple[str, ...]
    push_bar: float
    mean_margin: float
    parallel: int
    runs: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in ("seeds", "episodes", "reach_steps", "push_steps", "parallel"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require(self.seeds >= 2, f"seeds={self.seeds}: one claim is about their spread; use 2 or more")
        require(len(self.runs) == 1, "runs=: name one folder")

    def arms(self) -> dict[str, list[str]]:
        """Return the arguments of train_agent.py for each arm, seed and folder apart."""
        reach = ["env=FetchReach", f"steps={self.reach_steps}", *self.reach_overrides]
        push = [f"env={self.push_task}", f"steps={self.push_steps}", *self.push_overrides]
        return {
            "reach-sher": ["agent=sher", *reach],
            "reach-unlabelled": ["agent=sher", NO_RELABELLING, *reach],
            "push-sher": ["agent=sher", *push],
            "push-her": ["agent=her", *push],
        }


def run(config: dict[str, Any]) -> Result:
    """Train, evaluate, and test the claims."""
    numbers: Numbers = build(Numbers, config)
    seeds = tuple(range(numbers.seeds))
    runs = {
        f"{arm}-s{seed}": [*arguments, f"seed={seed}", "num_threads=1"]
        for arm, arguments in numbers.arms().items()
        for seed in seeds
    }
    folders = train_all(runs, Path(numbers.runs[0]), numbers.parallel)
    success = {arm: tuple(measure(folders[f"{arm}-s{seed}"], numbers) for seed in seeds) for arm in numbers.arms()}
    sampled = {
        arm: tuple(measure(folders[f"{arm}-s{seed}"], numbers, sampled=True) for seed in seeds) for arm in SOFT_ARMS
    }
    for arm, figures in success.items():
        line = f"{arm:18} success by seed: {', '.join(f'{figure:.2f}' for figure in figures)}"
        also = ", ".join(f"{figure:.2f}" for figure in sampled.get(arm, ()))
        print(line + (f"; sampled: {also}" if also else ""), flush=True)
    return Result(
        paper="sher",
        seeds=seeds,
        claims=claims(success, numbers),
        figures={
            "numbers": config,
            "success": success,
            "success_sampled": sampled,
            "curves": {name: curve(folder) for name, folder in folders.items()},
        },
        training_minutes={name: training_minutes(folder) for name, folder in folders.items()},
        full_scale=(
            "python scripts/reproduce.py paper=sher seeds=5 push_steps=2000000 runs=runs/paper-sher-full "
            "(and push_task=FetchSlide or FetchPickAndPlace)"
        ),
    )


def claims(success: Mapping[str, tuple[float, ...]], numbers: Numbers) -> tuple[Claim, ...]:
    """Return the claims for the final success rates, by arm and seed."""
    soft, hard = success["push-sher"], success["push-her"]
    differences = tuple(one - other for one, other in zip(soft, hard, strict=True))
    return (
        Claim(
            statement="FetchReach: SHER's lowest success over the seeds",
            margin=numbers.reach_bar,
            figures=(min(success["reach-sher"]),),
        ),
        Claim(
            statement="FetchReach: success without relabelling",
            margin=numbers.unlabelled_bar,
            figures=success["reach-unlabelled"],
            at_least=False,
        ),
        Claim(
            statement=f"{numbers.push_task}: SHER's lowest success over the seeds",
            margin=numbers.push_bar,
            figures=(min(soft),),
        ),
        Claim(
            statement=f"{numbers.push_task}: SHER's success minus that of DDPG with hindsight",
            margin=numbers.mean_margin,
            figures=differences,
        ),
        Claim(
            statement=f"{numbers.push_task}: SHER's spread over the seeds (largest minus smallest) minus DDPG's",
            margin=0.0,
            figures=((max(soft) - min(soft)) - (max(hard) - min(hard)),),
            at_least=False,
        ),
    )


def measure(folder: Path, numbers: Numbers, *, sampled: bool = False) -> float:
    """Return a finished run's success rate on the test episodes, acting deterministically.

    Args:
        folder: the run's.
        numbers: of the experiment.
        sampled: act as the released code evaluates instead: draw from the policy, and now and then at random.
    """
    agent, config = load_agent(folder)
    if sampled:
        agent.config = dataclasses.replace(agent.config, explore_in_evaluation=True)
    prepare_torch(config)
    env = make_env(config, numbers.episodes, num_threads=numbers.parallel)
    result = evaluate(lambda observation: agent.act(observation, False), env, seed=EVALUATION_SEED)
    env.close()
    assert result.success_rate is not None
    return result.success_rate


def curve(folder: Path) -> list[list[float]]:
    """Return a run's evaluations while it learned, as [environment steps, success rate]."""
    found = read_run(folder)
    return [[int(step), float(rate)] for step, rate in zip(found.steps, found.metric("success"), strict=True)]
