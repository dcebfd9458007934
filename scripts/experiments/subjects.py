"""Policies that several experiments judge: TD3's ReLU actors of Hopper and HalfCheetah, each trained once and kept.

They are trained by train_agent.py as jobs and lie in runs/subjects/, whichever experiment asked first; the minutes that
took are the training's, not the experiment's, and `training_minutes` says them. One seed of one agent is trained: an
experiment's seeds are those of what it does to the policy.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from agents.loading import PolicyConfig, load_policy
from agents.policy_file import SUFFIX
from agents.subject import JudgeConfig, policy_subject
from envs.evaluation.subject import Subject
from envs.evaluation.transform import TeachConfig
from rlsuite.errors import UserError, near_matches
from rlsuite.experiment.jobs import Jobs
from rlsuite.experiment.kinds import CommandJob
from scripts.experiments.training_runs import train_all

FOLDER = Path("runs/subjects")
STEPS = 100_000
TASKS = {"hopper_td3": "Hopper", "half_cheetah_td3": "HalfCheetah"}
CLONE = Path(__file__).resolve().parents[1] / "clone_policy.py"
CLONES = {"reacher_pixels": ["agent=td3", "env=Reacher", "steps=12000", "learning_starts=2000"]}  # who teaches each


def trained_subjects(names: Iterable[str], jobs: Jobs, *, steps: int = STEPS) -> dict[str, Path]:
    """Return the run directory of each policy, trained now where it has not been yet.

    Args:
        names: keys of TASKS.
        jobs: of the experiment: says how many trainings run beside each other.
        steps: of each training; others than STEPS, for debugging, are kept with the experiment's own jobs.

    Raises:
        UserError: for an unknown name, or if a training fails.
    """
    names = tuple(names)
    for name in names:
        if name not in TASKS:
            raise UserError(f"unknown subject '{name}'{near_matches(name, TASKS)}")
    kept = Jobs(FOLDER, jobs.parallel) if steps == STEPS else jobs
    return train_all({name: arguments(TASKS[name], steps) for name in names}, kept)


def pixel_clones(names: Iterable[str], jobs: Jobs) -> dict[str, Path]:
    """Return the file of each policy over pictures, its teacher trained and its student taught now if need be.

    Args:
        names: keys of CLONES.
        jobs: of the experiment: says how many run beside each other.

    Raises:
        UserError: for an unknown name, or if a training or a clone fails.
    """
    names = tuple(names)
    for name in names:
        if name not in CLONES:
            raise UserError(f"unknown subject '{name}'{near_matches(name, CLONES)}")
    kept = Jobs(FOLDER, jobs.parallel)
    usual = ["num_threads=1", "device=cpu", "seed=0"]
    runs = train_all({f"{name}_teacher": [*CLONES[name], *usual] for name in names}, kept)
    found = {name: runs[f"{name}_teacher"] / f"pixels{SUFFIX}" for name in names}
    made = [
        CommandJob(
            name=name, words=(sys.executable, str(CLONE), f"run={path.parent}", "num_threads=1", f"output={path}")
        )
        for name, path in found.items()
        if not path.exists()
    ]
    kept.run(made)
    return found


def arguments(task: str, steps: int) -> list[str]:
    """Return what train_agent.py is called with."""
    found = ["agent=td3", f"env={task}", f"steps={steps}", "num_threads=1", "device=cpu", "seed=0"]
    return found if steps == STEPS else [*found, "preset=debug"]


def subject_of(run: Path | str, judge: JudgeConfig, seed: int) -> Subject:
    """Return a trained policy as a subject.

    Args:
        run: its run directory.
        judge: how many episodes and states.
        seed: of visited states.
    """
    agent, config, _ = load_policy(PolicyConfig(run=(str(run),), device="cpu"))
    return policy_subject(agent, config, judge, TeachConfig(), seed)
