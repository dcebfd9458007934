"""POMBU (arXiv:1911.12574), small: its bound holds, and conservatism with optimism pays where steps are expensive.

1. In tables the bound lies above the variance of Q everywhere, and far below the older uncertainty Bellman equation's.
2. On Point3D errors of imagined returns are as large as sqrt(U) says.
3. Point3D for `point_steps` real steps, small networks: POMBU with the paper's alpha against MBPPO, the same agent with
   alpha = beta = 0.
4. FixedHorizonHalfCheetah for `steps` real steps: the same comparison under the same bars.
5. The same with noise on every observation.

The first two are computed for each seed within seconds, the others are training runs. A run's final return is that of
its last policy on test episodes that all runs of a task share, acted deterministically; its drop is its best evaluation
while it learned minus its last. The bars are our own choices, set before the first run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agents.assembly import load_agent, make_env, prepare_torch
from rlsuite.errors import require
from rlsuite.experiment import Claim, Result
from rlsuite.experiment.jobs import Jobs
from rlsuite.running.seeding import derive_seed
from rlsuite.scoring import evaluate
from rlsuite.statistics.runs import read_run
from scripts.experiments.pombu_bound import point_check, tabular_check
from scripts.experiments.training_runs import for_seeds, train_all

EVALUATION_SEED = derive_seed(0, "pombu evaluation")
TASKS = {"point": "Point3D", "cheetah": "FixedHorizonHalfCheetah", "noisy": "FixedHorizonHalfCheetahNoisyObservation"}
BASELINE = ("agent.alpha=0", "agent.beta=0")  # MBPPO


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The experiment's numbers.

    Attributes:
        seeds: how many, of every check and every training arm: 0, 1, ...
        models: drawn from the posterior of each table.
        smallest_ratio: U over Var Q, anywhere in the tables, at least.
        mean_ratio: its mean, at most.
        ratio_of_older: the older bound over U, at least.
        roll_outs: of the drifting point.
        std_low: of z, in every seed, at least.
        std_high: and at most.
        share_within_2: of |z|, at least.
        rank_correlation: of |error| with sqrt(U), at least.
        point_steps: real steps of each training run on the point: 17 iterations.
        point_overrides: further arguments for train_agent.py there: small networks, an evaluation after each iteration.
        steps: real steps of each training run on the half cheetah.
        overrides: further arguments for train_agent.py there: models half as wide as the paper's.
        dynamics: of every arm: the paper's kind of models.
        pombu: of POMBU's arms: alpha is the paper's, and stays.
        episodes: of each final evaluation, deterministic.
        return_margin: on each task: POMBU's final return minus MBPPO's, at least, on the mean.
        drop_factor: POMBU's worst drop over MBPPO's, at most.
    """

    seeds: int = 3
    models: int = 4000
    smallest_ratio: float = 0.97
    mean_ratio: float = 5.0
    ratio_of_older: float = 50.0
    roll_outs: int = 2000
    std_low: float = 1.0
    std_high: float = 1.25
    share_within_2: float = 0.9
    rank_correlation: float = 0.15
    point_steps: int = 5100
    point_overrides: tuple[str, ...] = ("agent.dynamics.hidden_sizes=[64,64]", "evaluate.every=300")
    steps: int = 20_000
    overrides: tuple[str, ...] = ("agent.dynamics.hidden_sizes=[256,256]",)
    dynamics: tuple[str, ...] = (
        "agent.dynamics.activation=relu",
        "agent.dynamics.normalization=weight",
        "agent.dynamics.weight_decay=0",
        "agent.dynamics.see_angles=false",
    )
    pombu: tuple[str, ...] = ("agent.alpha=0.5", "agent.alpha_factor=1")
    episodes: int = 50
    return_margin: float = 0.0
    drop_factor: float = 0.5

    def __post_init__(self) -> None:
        for name in ("seeds", "models", "roll_outs", "point_steps", "steps", "episodes"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")

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


SMALL = ("num_envs=2", "agent.trajectories=4", "agent.policy_updates=1", "agent.passes=1", "agent.hidden_sizes=[8]")
SMALL += ("agent.dynamics.hidden_sizes=[8]", "agent.dynamics.max_passes=5", "evaluate.episodes=2")
DEBUG = Numbers(
    seeds=1,
    models=200,
    roll_outs=200,
    point_steps=120,
    point_overrides=(*SMALL, "evaluate.every=60"),
    steps=800,
    overrides=(*SMALL, "evaluate.every=400"),
    episodes=3,
)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run came to: return of its last policy, and how far that lies below its best evaluation."""

    final: float
    drop: float


def run(numbers: Numbers, jobs: Jobs) -> Result:
    """Check, train, evaluate, and test the claims."""
    seeds = tuple(range(numbers.seeds))
    tables = [tabular_check(seed, numbers.models) for seed in seeds]
    points = [point_check(seed, numbers.roll_outs) for seed in seeds]
    folders = train_all(for_seeds(numbers.arms(), seeds), jobs)
    curves = {name: curve(folder) for name, folder in folders.items()}
    outcomes = {
        arm: tuple(
            measure(folders[f"{arm}-s{seed}"], curves[f"{arm}-s{seed}"], numbers, jobs.threads) for seed in seeds
        )
        for arm in numbers.arms()
    }
    for arm, found in outcomes.items():
        print(f"{arm:16} final return by seed: {', '.join(f'{outcome.final:.0f}' for outcome in found)}", flush=True)
    return Result(
        seeds=seeds,
        claims=(*bound_claims(tables, points, numbers), *training_claims(outcomes, numbers)),
        figures={
            "tables": tables,
            "points": points,
            "final_return": {arm: [outcome.final for outcome in found] for arm, found in outcomes.items()},
            "drop": {arm: [outcome.drop for outcome in found] for arm, found in outcomes.items()},
            "curves": curves,
        },
        full_scale=(
            "python scripts/reproduce.py paper=pombu seeds=4 steps=200000 'overrides=[\"preset=paper\"]' "
            "(the paper's other tasks: train_agent.py agent=pombu env=FixedHorizon<Body>)"
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


def measure(folder: Path, evaluations: list[list[float]], numbers: Numbers, threads: int) -> Outcome:
    """Return a finished run's return on the test episodes, and its drop."""
    agent, config = load_agent(folder)
    prepare_torch(config)
    env = make_env(config, numbers.episodes, num_threads=threads)
    result = evaluate(lambda observation: agent.act(observation, False), env, seed=EVALUATION_SEED)
    env.close()
    returns = [mean for _, mean in evaluations]
    return Outcome(final=result.mean, drop=max(returns) - returns[-1])


def curve(folder: Path) -> list[list[float]]:
    """Return a run's evaluations while it learned, as [environment steps, mean return]."""
    found = read_run(folder)
    return [[int(step), float(mean)] for step, mean in zip(found.steps, found.returns, strict=True)]
