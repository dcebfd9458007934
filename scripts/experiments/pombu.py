"""POMBU (arXiv:1911.12574, card "Evidence"): its bound holds, and conservatism with optimism pays where steps are dear.

1. In tables the bound lies above the variance of Q everywhere, and far below the older uncertainty Bellman equation's.
2. On Point3D errors of imagined returns are as large as sqrt(U) says.
3. Point3D for `point_steps` real steps, small networks: POMBU with the card's alpha against MBPPO, the same agent with
   alpha = beta = 0 (the card's "Small C"; the bars are its own).
4. FixedHorizonHalfCheetah for `steps` real steps: the same comparison under the same bars.
5. The same with noise on every observation.

The first two are computed for each seed within seconds, the others are training runs. A run's final return is that of
its last policy on test episodes that all runs of a task share, acted deterministically; its drop is its best evaluation
while it learned minus its last.
"""

from __future__ import annotations

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
from scripts.experiments.pombu_bound import point_check, tabular_check
from scripts.experiments.training_runs import train_all, training_minutes

EVALUATION_SEED = derive_seed(0, "pombu evaluation")
TASKS = {"point": "Point3D", "cheetah": "FixedHorizonHalfCheetah", "noisy": "FixedHorizonHalfCheetahNoisyObservation"}
BASELINE = ("agent.alpha=0", "agent.beta=0")  # MBPPO


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """What rlsuite/conf/paper/pombu.yaml holds, and explains."""

    seeds: int
    models: int
    smallest_ratio: float
    mean_ratio: float
    ratio_of_older: float
    roll_outs: int
    std_low: float
    std_high: float
    share_within_2: float
    rank_correlation: float
    point_steps: int
    point_overrides: tuple[str, ...]
    steps: int
    overrides: tuple[str, ...]
    dynamics: tuple[str, ...]
    pombu: tuple[str, ...]
    episodes: int
    return_margin: float
    drop_factor: float
    parallel: int
    runs: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in ("seeds", "models", "roll_outs", "point_steps", "steps", "episodes", "parallel"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require(len(self.runs) == 1, "runs=: name one folder")

    def arms(self) -> dict[str, list[str]]:
        """Return the arguments of train_agent.py for each arm, seed and folder apart."""
        arms = {}
        for name, task in TASKS.items():
            point = name == "point"
            overrides = self.point_overrides if point else self.overrides
            steps = self.point_steps if point else self.steps
            common = ["agent=pombu", f"env={task}", f"steps={steps}", *self.dynamics, *overrides]
            arms[f"{name}-pombu"] = [*common, *self.pombu]
            arms[f"{name}-mbppo"] = [*common, *BASELINE]
        return arms


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run came to: return of its last policy, and how far that lies below its best evaluation."""

    final: float
    drop: float


def run(config: dict[str, Any]) -> Result:
    """Check, train, evaluate, and test the claims."""
    numbers: Numbers = build(Numbers, config)
    seeds = tuple(range(numbers.seeds))
    tables = [tabular_check(seed, numbers.models) for seed in seeds]
    points = [point_check(seed, numbers.roll_outs) for seed in seeds]
    runs = {
        f"{arm}-s{seed}": [*arguments, f"seed={seed}", "num_threads=1"]
        for arm, arguments in numbers.arms().items()
        for seed in seeds
    }
    folders = train_all(runs, Path(numbers.runs[0]), numbers.parallel)
    curves = {name: curve(folder) for name, folder in folders.items()}
    outcomes = {
        arm: tuple(measure(folders[f"{arm}-s{seed}"], curves[f"{arm}-s{seed}"], numbers) for seed in seeds)
        for arm in numbers.arms()
    }
    for arm, found in outcomes.items():
        print(f"{arm:16} final return by seed: {', '.join(f'{outcome.final:.0f}' for outcome in found)}", flush=True)
    return Result(
        paper="pombu",
        seeds=seeds,
        claims=(*bound_claims(tables, points, numbers), *training_claims(outcomes, numbers)),
        figures={
            "numbers": config,
            "tables": tables,
            "points": points,
            "final_return": {arm: [outcome.final for outcome in found] for arm, found in outcomes.items()},
            "drop": {arm: [outcome.drop for outcome in found] for arm, found in outcomes.items()},
            "curves": curves,
        },
        training_minutes={name: training_minutes(folder) for name, folder in folders.items()},
        full_scale=(
            "python scripts/reproduce.py paper=pombu seeds=4 steps=200000 'overrides=[\"preset=paper\"]' "
            "runs=runs/paper-pombu-full (the paper's other tasks: train_agent.py agent=pombu env=FixedHorizon<Body>)"
        ),
    )


def bound_claims(tables: list[dict[str, float]], points: list[dict[str, float]], numbers: Numbers) -> tuple[Claim, ...]:
    """Return the claims on the bound; where every seed must pass, the worst one is the figure."""
    return (
        Claim(
            statement="tables: smallest U / Var Q of any state, action and step, of the worst seed",
            margin=numbers.smallest_ratio,
            figures=(min(found["smallest_ratio"] for found in tables),),
        ),
        Claim(
            statement="tables: mean U / Var Q",
            margin=numbers.mean_ratio,
            figures=tuple(found["mean_ratio"] for found in tables),
            at_least=False,
        ),
        Claim(
            statement="tables: the older uncertainty Bellman equation's bound over U",
            margin=numbers.ratio_of_older,
            figures=tuple(found["ratio_of_older"] for found in tables),
        ),
        Claim(
            statement="Point3D: smallest std of z = error / sqrt(U) over the seeds",
            margin=numbers.std_low,
            figures=(min(found["std"] for found in points),),
        ),
        Claim(
            statement="Point3D: largest std of z over the seeds",
            margin=numbers.std_high,
            figures=(max(found["std"] for found in points),),
            at_least=False,
        ),
        Claim(
            statement="Point3D: smallest share of |z| < 2 over the seeds",
            margin=numbers.share_within_2,
            figures=(min(found["share_within_2"] for found in points),),
        ),
        Claim(
            statement="Point3D: smallest rank correlation of |error| with sqrt(U) over the seeds",
            margin=numbers.rank_correlation,
            figures=(min(found["rank_correlation"] for found in points),),
        ),
    )


def training_claims(outcomes: Mapping[str, tuple[Outcome, ...]], numbers: Numbers) -> tuple[Claim, ...]:
    """Return the claims on the training runs, by task: final returns, and the worst seed's drop."""
    claims: list[Claim] = []
    for name, task in TASKS.items():
        ours, baseline = outcomes[f"{name}-pombu"], outcomes[f"{name}-mbppo"]
        worst, allowed = (max(outcome.drop for outcome in found) for found in (ours, baseline))
        claims += [
            Claim(
                statement=f"{task}: POMBU's final return minus MBPPO's",
                margin=numbers.return_margin,
                figures=tuple(one.final - other.final for one, other in zip(ours, baseline, strict=True)),
            ),
            Claim(
                statement=f"{task}: POMBU's worst drop minus {numbers.drop_factor:g} of MBPPO's",
                margin=0.0,
                figures=(worst - numbers.drop_factor * allowed,),
                at_least=False,
            ),
        ]
    return tuple(claims)


def measure(folder: Path, evaluations: list[list[float]], numbers: Numbers) -> Outcome:
    """Return a finished run's return on the test episodes, and its drop."""
    agent, config = load_agent(folder)
    prepare_torch(config)
    env = make_env(config, numbers.episodes, num_threads=numbers.parallel)
    result = evaluate(lambda observation: agent.act(observation, False), env, seed=EVALUATION_SEED)
    env.close()
    returns = [mean for _, mean in evaluations]
    return Outcome(final=result.mean, drop=max(returns) - returns[-1])


def curve(folder: Path) -> list[list[float]]:
    """Return a run's evaluations while it learned, as [environment steps, mean return]."""
    found = read_run(folder)
    return [[int(step), float(mean)] for step, mean in zip(found.steps, found.returns, strict=True)]
