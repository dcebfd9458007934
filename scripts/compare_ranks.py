"""Train on one rank and on several, with the same totals, and compare their returns: ``compare_ranks.py``.

A run's score is the mean of its last three evaluations. The ranks' mean over seeds is to lie in the 95 % band of one
rank's (Student's t, docs/statistics.md). Runs are kept in a folder: the same command continues what was stopped.

The last line printed is JSON; the exit status is 1 where the mean lies outside.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rlsuite.cli import command
from rlsuite.config.compose import compose_train, script_config
from rlsuite.errors import require
from rlsuite.records.json_text import to_json
from rlsuite.statistics.means import mean_interval
from rlsuite.statistics.runs import read_run
from scripts.check_resume import TRAIN, start_ranks

_LAST = 3  # evaluations that are a run's score
_EVALUATIONS = 6  # of a run, evenly


@dataclass(frozen=True, kw_only=True)
class RanksConfig:
    """What to compare.

    Attributes:
        agent: that learns, and a task for it:
        env: the task.
        steps: of every run.
        seeds: of either side, from 0.
        ranks: processes of the other side; one thread each, as the one rank has.
        train: what else train_agent.py is given, on both sides, each in quotes: "train=['agent.batch_size=128']".
        folder: where the runs are kept.
    """

    agent: str = "td3"
    env: str = "Hopper"
    steps: int = 60_000
    seeds: int = 3
    ranks: int = 2
    train: tuple[str, ...] = ()
    folder: str = "runs/ranks"

    def __post_init__(self) -> None:
        require(self.steps >= _EVALUATIONS, f"steps={self.steps}: use {_EVALUATIONS} or more")
        require(self.seeds >= 2, f"seeds={self.seeds}: a band takes 2 or more")
        require(2 <= self.ranks <= 64, f"ranks={self.ranks}: use 2 to 64")


@command(RanksConfig)
def main(arguments: list[str]) -> int:
    """Train, read, compare, print."""
    config: RanksConfig = script_config(RanksConfig, arguments)
    compose_train(arguments_of(config, 0))  # what is wrong is refused before the first run begins
    alone, together = ([trained(config, ranks, seed) for seed in range(config.seeds)] for ranks in (1, config.ranks))
    found = compared(alone, together)
    print(to_json({"agent": config.agent, "env": config.env, "steps": config.steps, **found}))
    return 0 if found["inside"] else 1


def arguments_of(config: RanksConfig, seed: int) -> list[str]:
    """Return train_agent.py's arguments of a run, without its directory: the same on any number of ranks."""
    every = config.steps // _EVALUATIONS
    own = [f"agent={config.agent}", f"env={config.env}", f"steps={config.steps}", f"seed={seed}", "num_threads=1"]
    return [*own, f"evaluate.every={every}", f"checkpoint.every={every}", *config.train]


def trained(config: RanksConfig, ranks: int, seed: int) -> float:
    """Return a run's score, trained first where that was not done."""
    folder = Path(config.folder) / f"{config.agent}-{config.env}-{ranks}-s{seed}"
    arguments = [*arguments_of(config, seed), "resume=auto", f"run_dir={folder}"]
    if ranks == 1:
        status = subprocess.call([sys.executable, str(TRAIN), *arguments], stdout=subprocess.DEVNULL)
    else:
        status = start_ranks(ranks, 0, arguments).wait()
    require(status == 0, f"a run ended with status {status}; look at {folder}, and type this command again to go on")
    score = float(np.mean(read_run(folder).returns[-_LAST:]))
    print(f"{ranks} {'rank' if ranks == 1 else 'ranks'}, seed {seed}: {score:.1f}", flush=True)
    return score


def compared(alone: list[float], together: list[float]) -> dict[str, object]:
    """Return means, sample deviations, one rank's band, and whether the ranks' mean lies inside."""
    band, mean = mean_interval(alone), float(np.mean(together))
    return {
        "one_rank": _summary(alone),
        "ranks": _summary(together),
        "band": [round(band.low, 1), round(band.high, 1)],
        "inside": bool(band.low <= mean <= band.high),
    }


def _summary(scores: list[float]) -> dict[str, object]:
    mean, deviation = float(np.mean(scores)), float(np.std(scores, ddof=1))
    return {"mean": round(mean, 1), "deviation": round(deviation, 1), "scores": np.round(scores, 1).tolist()}


if __name__ == "__main__":
    sys.exit(main())
