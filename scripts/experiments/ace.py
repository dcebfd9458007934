"""ACE (arXiv:1712.08987), small: do the critics of separately trained DDPG pairs choose well among actors?

pairs * repeats DDPG runs that differ in the seed alone, in `repeats` disjoint ensembles of `pairs`; or, with
source=snapshots, `repeats` runs, and of each the last `pairs` checkpoints as its ensemble. All are evaluated on the
same episodes: every member alone (A1C0), all actors with the first critic (AxC1), all with all (AxCx), and the
member that was best on other episodes (A1C0-best; the trainings it is chosen from cost what the ensemble costs).

Claims, as means over the repeats: AxCx returns at least `bar` times its members' mean, and ends early (before
`early_step` steps) no more often than its members do. The bar of 1.10 is our own choice, set before the first run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from agents.assembly import make_evaluation_env, prepare_torch
from agents.loading import PolicyConfig, load_policy
from agents.members import member_checkpoints
from envs import VectorEnv
from rlsuite.config.compose import compose_train
from rlsuite.config.schema import TrainConfig
from rlsuite.errors import require, require_finite
from rlsuite.experiment import Claim, Result
from rlsuite.experiment.jobs import Jobs
from rlsuite.running.seeding import derive_seed
from rlsuite.scoring import Evaluation, evaluate
from rlsuite.statistics.digits import significant
from scripts.experiments.training_runs import train_all

SOURCES = ("runs", "snapshots")
EVALUATION_SEED, SELECTION_SEED = derive_seed(0, "ace evaluation"), derive_seed(0, "ace selection")


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The experiment's numbers.

    Attributes:
        task: where the pairs learn and are judged.
        learner: the agent that each pair is trained by, an actor-critic; the paper's is DDPG.
        source: members of an ensemble are separate runs; or snapshots: the last checkpoints of one run, a run a repeat.
        steps: environment steps of each pair.
        pairs: in an ensemble.
        repeats: disjoint ensembles: pairs * repeats runs (of snapshots: repeats runs), seeds 0, 1, ...
        episodes: of each evaluation.
        hidden_sizes: of actor and critic; [] for the agent's own.
        bar: the ensemble's mean return over its members', at least.
        early_step: an episode that ends before this step of where agents are judged has ended early.
        overrides: further arguments for train_agent.py, such as 'overrides=["train_ratio=0.5"]'.
    """

    task: str = "Hopper"
    learner: str = "ddpg"
    source: str = "runs"
    steps: int = 60_000
    pairs: int = 5
    repeats: int = 3
    episodes: int = 50
    hidden_sizes: tuple[int, ...] = (128, 128)
    bar: float = 1.10
    early_step: int = 300
    overrides: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require(self.source in SOURCES, f"source={self.source}: use {' or '.join(SOURCES)}")
        require(self.pairs >= 2, f"pairs={self.pairs}: use 2 or more")
        for name in ("repeats", "episodes", "early_step"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require_finite("bar", self.bar)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seed of every run."""
        return tuple(range(self.repeats if self.source == "snapshots" else self.pairs * self.repeats))

    def arguments(self, seed: int) -> list[str]:
        """Return the arguments of train_agent.py for one run."""
        sizes = str(list(self.hidden_sizes)).replace(" ", "")
        networks = [f"agent.actor.hidden_sizes={sizes}", f"agent.critic.hidden_sizes={sizes}"]
        return [
            f"agent={self.learner}",
            f"env={self.task}",
            f"steps={self.steps}",
            f"seed={seed}",
            "num_threads=1",
            *(networks if self.hidden_sizes else ()),
            f"checkpoint.every={max(1, self.steps // (self.pairs + 1))}",
            f"checkpoint.keep_agents={max(10, self.pairs)}",
            *self.overrides,
        ]


DEBUG = Numbers(
    task="InvertedPendulum",
    steps=120,
    pairs=2,
    repeats=1,
    episodes=3,
    hidden_sizes=(8, 8),
    early_step=5,
    overrides=("learning_starts=40", "agent.batch_size=8", "evaluate.every=0"),
)


def run(numbers: Numbers, jobs: Jobs) -> Result:
    """Train, evaluate, and test the claims."""
    runs = {f"s{seed}": numbers.arguments(seed) for seed in numbers.seeds}
    config = compose_train(numbers.arguments(0))[0]
    evaluation_env(config, numbers, jobs.threads).close()  # it refuses numbers before the trainings
    folders = train_all(runs, jobs)
    repeats = []
    for members, seeds in ensembles(folders, numbers):
        repeats.append(measure(members, seeds, numbers, jobs.threads))
        print("\n".join(table(repeats[-1])), flush=True)
    return Result(
        seeds=numbers.seeds,
        claims=claims(repeats, numbers),
        figures={"repeats": repeats},
        full_scale=(
            "python scripts/reproduce.py paper=ace task=LearningToRun steps=2500000 pairs=10 episodes=100 "
            "early_step=1000 hidden_sizes=[800,400] "
            '\'overrides=["preset=l2r_ace","env.evaluation_obstacles=10"]\''
        ),
    )


def ensembles(folders: Mapping[str, Path], numbers: Numbers) -> list[tuple[list[Path], tuple[int, ...]]]:
    """Return the members of every ensemble, as runs or checkpoints, and the seeds of their runs.

    Raises:
        UserError: if a run has kept fewer checkpoints than an ensemble takes.
    """
    if numbers.source == "snapshots":
        return [
            (member_checkpoints([str(folders[f"s{seed}"])], "snapshots", numbers.pairs), (seed,) * numbers.pairs)
            for seed in numbers.seeds
        ]
    groups = [numbers.seeds[first : first + numbers.pairs] for first in range(0, len(numbers.seeds), numbers.pairs)]
    return [([folders[f"s{seed}"] for seed in seeds], seeds) for seeds in groups]


def claims(repeats: Sequence[Mapping[str, Any]], numbers: Numbers) -> tuple[Claim, ...]:
    """Return the claims, with a figure for each repeat."""
    ensemble, step = name_of(numbers.pairs, numbers.pairs), numbers.early_step
    return (
        Claim(
            statement=f"{ensemble} mean return over the mean of its members' A1C0 (a figure a repeat)",
            margin=numbers.bar,
            figures=tuple(repeat["ratio_to_members"] for repeat in repeats),
        ),
        Claim(
            statement=f"{ensemble} rate of ends before step {step} minus its members' (a figure a repeat)",
            margin=0.0,
            figures=tuple(repeat["early_minus_members"] for repeat in repeats),
            at_least=False,
        ),
    )


# -- evaluation ---------------------------------------------------------------------------------------------


def measure(folders: Sequence[Path], seeds: Sequence[int], numbers: Numbers, threads: int) -> dict[str, Any]:
    """Evaluate one ensemble and its members."""
    pairs = len(folders)
    first_config = load_policy(PolicyConfig(run=(str(folders[0]),)))[1]
    env = evaluation_env(first_config, numbers, threads)
    # Values in units of a run's own returns are compared only after their means and deviations are taken out.
    normalize = True if first_config.agent.reward_scaling == "returns" else None

    def arm(which: Sequence[Path], num_actors: int, num_critics: int, seed: int) -> tuple[dict[str, Any], list[float]]:
        names = tuple(str(folder) for folder in which)
        parts = {"num_actors": num_actors, "num_critics": num_critics, "normalize_scores": normalize}
        policy = PolicyConfig(run=names, source="runs", **parts)
        agent = load_policy(policy)[0]
        result = evaluate(
            lambda observation: agent.act(observation, False), env, seed=seed, count_only=agent.count_only
        )
        chosen = agent.diagnostics().get("chosen_actor")
        counts = torch.zeros(0) if chosen is None else torch.bincount(chosen, minlength=pairs)
        return figures_of(result, numbers.early_step), [significant(float(count / counts.sum())) for count in counts]

    members = [arm([folder], 1, 0, EVALUATION_SEED)[0] for folder in folders]
    selection = [arm([folder], 1, 0, SELECTION_SEED)[0]["mean"] for folder in folders]
    one_critic, shares_of_one = arm(folders, pairs, 1, EVALUATION_SEED)
    ensemble, shares = arm(folders, pairs, pairs, EVALUATION_SEED)
    env.close()
    return compare(seeds, members, selection, one_critic, ensemble) | {
        "chosen_shares": {name_of(pairs, 1): shares_of_one, name_of(pairs, pairs): shares}
    }


def evaluation_env(config: TrainConfig, numbers: Numbers, threads: int) -> VectorEnv:
    """Return environments for the evaluations, one an episode, as the task has them where agents are judged."""
    prepare_torch(dataclasses.replace(config, num_threads=threads))
    env = make_evaluation_env(config, numbers.episodes, num_threads=threads)
    limit = env.max_episode_steps
    require(
        limit is None or numbers.early_step <= limit,
        f"early_step={numbers.early_step}: {numbers.task} has a time limit of {limit} steps; use at most that",
    )
    return env


def figures_of(result: Evaluation, early_step: int) -> dict[str, Any]:
    """Return mean return, its interval, and the share of episodes that terminated before `early_step`."""
    require(bool(result.whole.any()), "the simulation failed in every episode; check the environment")
    summary = result.summary()
    names = ("mean", "std", "interval", "interval_kind", "failed")
    figures = {name: summary[name] for name in names if name in summary}
    return figures | {"early": float((result.lengths[result.whole] < early_step).mean())}


def compare(
    seeds: Sequence[int],
    members: Sequence[Mapping[str, Any]],
    selection: Sequence[float],
    one_critic: Mapping[str, Any],
    ensemble: Mapping[str, Any],
) -> dict[str, Any]:
    """Put one ensemble beside its members.

    Args:
        seeds: of the members.
        members: `figures_of` every member alone.
        selection: mean return of every member on the episodes that A1C0-best is chosen by.
        one_critic: figures of all actors with the first critic.
        ensemble: figures of all actors with all critics.

    Raises:
        UserError: if members' mean return is not positive, so that a ratio means nothing.
    """
    pairs = len(members)
    member_mean = sum(member["mean"] for member in members) / pairs
    member_early = sum(member["early"] for member in members) / pairs
    place = max(range(pairs), key=lambda member: selection[member])
    best = {"seed": seeds[place], **members[place]}
    for what, value in (("the members'", member_mean), ("the best member's", best["mean"])):
        require(value > 0, f"{what} mean return is {value:.4g}, so a ratio to it means nothing; train for more steps=")
    return {
        "seeds": list(seeds),
        "members": [
            {"seed": seed, "selection_mean": chosen, **member}
            for seed, chosen, member in zip(seeds, selection, members, strict=True)
        ],
        "A1C0_mean": {"mean": member_mean, "early": member_early},
        "A1C0_best": best,
        name_of(pairs, 1): dict(one_critic),
        name_of(pairs, pairs): dict(ensemble),
        "ratio_to_members": ensemble["mean"] / member_mean,
        "ratio_of_one_critic_to_members": one_critic["mean"] / member_mean,
        "ratio_to_best": ensemble["mean"] / best["mean"],
        "early_minus_members": ensemble["early"] - member_early,
    }


def name_of(actors: int, critics: int) -> str:
    """Return the paper's name AxCy."""
    return f"A{actors}C{critics}"


def table(repeat: Mapping[str, Any]) -> list[str]:
    """Return one ensemble's figures as lines of text."""
    pairs = len(repeat["members"])
    rows: list[tuple[str, Mapping[str, Any]]] = [
        *((f"A1C0, seed {member['seed']}", member) for member in repeat["members"]),
        ("A1C0, mean", repeat["A1C0_mean"]),
        (f"A1C0-best (seed {repeat['A1C0_best']['seed']})", repeat["A1C0_best"]),
        (name_of(pairs, 1), repeat[name_of(pairs, 1)]),
        (name_of(pairs, pairs), repeat[name_of(pairs, pairs)]),
    ]
    lines = [f"{'':24}{'return':>9}{'95 % interval':>20}{'early':>8}"]
    for name, figures in rows:
        known = None not in figures.get("interval", [None])
        interval = "[{:.1f}, {:.1f}]".format(*figures["interval"]) if known else ""
        lines.append(f"{name:24}{figures['mean']:>9.1f}{interval:>20}{figures['early']:>8.2f}")
    shares = " ".join(f"{share:.2f}" for share in repeat["chosen_shares"][name_of(pairs, pairs)])
    ratios = f"{repeat['ratio_to_members']:.3f} x members, {repeat['ratio_to_best']:.3f} x best"
    return [*lines, f"{name_of(pairs, pairs)}: {ratios}; chosen actor, share: {shares}", ""]
