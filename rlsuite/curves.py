"""Learning curves of many runs: what metrics.jsonl files say, grouped, on common steps, with bands.

Shapes: R runs of a group (seeds), S steps, G groups.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from rlsuite.errors import UserError
from rlsuite.statistics import interquartile_mean, stratified_bootstrap_interval


@dataclass(frozen=True)
class Run:
    """One run's evaluations.

    Attributes:
        path: its directory.
        task: short name of the environment.
        config: its config.yaml.
        steps: (S,) environment steps of the evaluations.
        returns: (S,) mean returns.
        time_s: (S,) wall clock since the run's start.
    """

    path: Path
    task: str
    config: dict[str, Any]
    steps: np.ndarray
    returns: np.ndarray
    time_s: np.ndarray


@dataclass(frozen=True)
class Curve:
    """A group's curve on one task.

    Attributes:
        label: the group.
        task: the environment.
        steps: (S,) at which every run of the group was evaluated.
        returns: (R, S) of each run.
        center: (S,) interquartile mean over runs.
        low: (S,) lower end of the 95 % bootstrap band.
        high: (S,) upper end.
        minutes: mean wall clock of a run to its last evaluation.
    """

    label: str
    task: str
    steps: np.ndarray
    returns: np.ndarray
    center: np.ndarray
    low: np.ndarray
    high: np.ndarray
    minutes: float


def find_runs(paths: Iterable[str]) -> list[Path]:
    """Return the run directories at or below the given directories.

    Raises:
        UserError: if there is none.
    """
    paths = list(paths)
    found = {config.parent for path in paths for config in Path(path).rglob("config.yaml")}
    runs = sorted(path for path in found if (path / "metrics.jsonl").exists())
    if not runs:
        raise UserError(f"no run directory at or below {', '.join(paths)}; name one with a metrics.jsonl")
    return runs


def read_run(path: Path) -> Run:
    """Read a run's evaluations.

    Raises:
        UserError: if it has none, or its files cannot be read.
    """
    try:
        config = yaml.safe_load((path / "config.yaml").read_text())
        lines = (path / "metrics.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines if line.endswith("}")]  # a kill may tear the last line
        rows = [
            (r["step"], r["mean"], r["time_s"]) for r in records if r["kind"] == "evaluate" and r["mean"] is not None
        ]
        task = str(config["env"]["id"]).rpartition("/")[2]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read as a run ({' '.join(str(error).split())})") from None
    if not rows:
        raise UserError(f"{path} has no evaluation yet; train it with evaluate.every above 0")
    steps, returns, time_s = (np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))
    return Run(path, task, config, steps.astype(np.int64), returns, time_s)


def label_of(run: Run, keys: Sequence[str]) -> str:
    """Return the group a run belongs to: the values of some config keys, such as agent.name."""
    values = []
    for key in keys:
        node: Any = run.config
        for part in key.split("."):
            node = node.get(part) if isinstance(node, dict) else None
        values.append(str(node) if key == "agent.name" else f"{key.rpartition('.')[2]}={node}")
    return ", ".join(values)


def make_curves(runs: Sequence[Run], keys: Sequence[str] = ("agent.name",)) -> list[Curve]:
    """Group runs by task and label, and put each group on the steps all of its runs were evaluated at.

    Raises:
        UserError: if the runs of a group share no step.
    """
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.task, label_of(run, keys)), []).append(run)
    return [_curve(label, task, members) for (task, label), members in sorted(groups.items())]


def _curve(label: str, task: str, runs: list[Run]) -> Curve:
    common = set(runs[0].steps.tolist()).intersection(*(run.steps.tolist() for run in runs))
    if not common:
        raise UserError(f"the runs of '{label}' on {task} were evaluated at no common step; use one evaluate.every")
    steps = np.array(sorted(common))
    # The last record of a step counts: a resumed run may have evaluated it twice.
    returns = np.array([[dict(zip(run.steps, run.returns, strict=True))[step] for step in steps] for run in runs])
    center = interquartile_mean(returns.T)
    bands = [stratified_bootstrap_interval(column[:, None]) for column in returns.T]
    low, high = (np.array([getattr(band, end) for band in bands]) for end in ("low", "high"))
    minutes = float(np.mean([run.time_s[-1] for run in runs])) / 60
    return Curve(label, task, steps, returns, center, low, high, minutes)


def to_records(curves: Sequence[Curve]) -> list[dict[str, Any]]:
    """Return the curves as plain data, raw returns included, for docs/results/."""
    return [
        {
            "task": curve.task,
            "label": curve.label,
            "steps": curve.steps.tolist(),
            "returns": curve.returns.tolist(),
            "iqm": curve.center.tolist(),
            "low": curve.low.tolist(),
            "high": curve.high.tolist(),
            "minutes": round(curve.minutes, 2),
        }
        for curve in curves
    ]
