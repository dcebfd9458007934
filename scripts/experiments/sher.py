"""SHER (arXiv:2002.02089), small: soft hindsight replay learns sparse goals, and more evenly.

FetchReach: SHER in `reach_steps` environment steps, and the same without relabelling (soft actor-critic alone).
`push_task`: SHER and DDPG with hindsight for `push_steps` environment steps each, the replay, the networks, the
minibatches and the number of updates the same.

Claims: every seed reaches on FetchReach; without relabelling it does not; on the push task SHER's final success is
above a bar in every seed, is no lower than DDPG's, and lies closer together over the seeds. Success is that at the
last step of 100 test episodes that all runs share, acted deterministically; beside it stands that of policies which
explore, as the released code evaluates them. The bars are our own choices, set before the first run.
"""

from __future__ import annotations

import dataclasses
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
from scripts.experiments.training_runs import for_seeds, train_all

EVALUATION_SEED = derive_seed(0, "sher evaluation")
SOFT_ARMS = ("reach-sher", "reach-unlabelled", "push-sher")
NO_RELABELLING = "replay.hindsight.relabelled_per_original=0"


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The experiment's numbers.

    Attributes:
        seeds: how many: 0, 1, ...
        episodes: of each evaluation, deterministic, success at the last step.
        reach_steps: environment steps on FetchReach.
        reach_bar: SHER's success there, in every seed.
        reach_overrides: further arguments for train_agent.py there.
        unlabelled_bar: success without relabelling, at most, after the same steps.
        push_task: the harder task.
        push_steps: environment steps on it.
        push_overrides: further arguments for train_agent.py there.
        push_bar: SHER's success there, in every seed: where nothing is learned there is nothing to compare.
        mean_margin: SHER's success minus that of DDPG with hindsight, at least.
    """

    seeds: int = 3
    episodes: int = 100
    reach_steps: int = 5000
    reach_bar: float = 0.95
    reach_overrides: tuple[str, ...] = ()
    unlabelled_bar: float = 0.5
    push_task: str = "FetchPush"
    push_steps: int = 250_000
    push_overrides: tuple[str, ...] = ()
    push_bar: float = 0.5
    mean_margin: float = -0.02

    def __post_init__(self) -> None:
        for name in ("seeds", "episodes", "reach_steps", "push_steps"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require(self.seeds >= 2, f"seeds={self.seeds}: one claim is about their spread; use 2 or more")

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


SMALL = ("agent.actor.hidden_sizes=[8,8]", "agent.critic.hidden_sizes=[8,8]", "agent.batch_size=16")
SMALL += ("num_envs=4", "warmup_episodes=4", "updates_per_episode=1", "evaluate.every=200", "evaluate.episodes=2")
DEBUG = Numbers(seeds=2, episodes=3, reach_steps=400, push_steps=400, reach_overrides=SMALL, push_overrides=SMALL)


def run(numbers: Numbers, jobs: Jobs) -> Result:
    """Train, evaluate, and test the claims."""
    seeds = tuple(range(numbers.seeds))
    folders = train_all(for_seeds(numbers.arms(), seeds), jobs)

    def of_seeds(arm: str, *, sampled: bool = False) -> tuple[float, ...]:
        return tuple(measure(folders[f"{arm}-s{seed}"], numbers, jobs.threads, sampled=sampled) for seed in seeds)

    success = {arm: of_seeds(arm) for arm in numbers.arms()}
    sampled = {arm: of_seeds(arm, sampled=True) for arm in SOFT_ARMS}
    for arm, figures in success.items():
        line = f"{arm:18} success by seed: {', '.join(f'{figure:.2f}' for figure in figures)}"
        also = ", ".join(f"{figure:.2f}" for figure in sampled.get(arm, ()))
        print(line + (f"; sampled: {also}" if also else ""), flush=True)
    return Result(
        seeds=seeds,
        claims=claims(success, numbers),
        figures={
            "success": success,
            "success_sampled": sampled,
            "curves": {name: curve(folder) for name, folder in folders.items()},
        },
        full_scale=(
            "python scripts/reproduce.py paper=sher seeds=5 push_steps=2000000 "
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


def measure(folder: Path, numbers: Numbers, threads: int, *, sampled: bool = False) -> float:
    """Return a finished run's success rate on the test episodes, acting deterministically.

    Args:
        folder: the run's.
        numbers: of the experiment.
        threads: of the simulator.
        sampled: act as the released code evaluates instead: draw from the policy, and now and then at random.
    """
    agent, config = load_agent(folder)
    if sampled:
        agent.config = dataclasses.replace(agent.config, explore_in_evaluation=True)
    prepare_torch(config)
    env = make_env(config, numbers.episodes, num_threads=threads)
    result = evaluate(lambda observation: agent.act(observation, False), env, seed=EVALUATION_SEED)
    env.close()
    assert result.success_rate is not None
    return result.success_rate


def curve(folder: Path) -> list[list[float]]:
    """Return a run's evaluations while it learned, as [environment steps, success rate]."""
    found = read_run(folder)
    return [[int(step), float(rate)] for step, rate in zip(found.steps, found.metric("success"), strict=True)]
