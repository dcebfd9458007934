"""Learning curves of many runs: what metrics.jsonl files say, grouped, on common steps, with bands.

Runs come from run directories, or from a data file that `write_data` made of them: one small JSON file holds every
evaluation of every run behind a figure, and the figure can be drawn from it alone.

Shapes: R runs of a group (seeds), S evaluations.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlsuite.errors import UserError
from rlsuite.records.files import read_text, write_atomically
from rlsuite.records.yaml_file import read_yaml as read_yaml_file
from rlsuite.statistics.estimates import Interval, bootstrap_interval, interquartile_mean, stratified_bootstrap_interval

LARGEST_LOG = 1 << 30  # bytes
# Of an evaluation's episodes; kept where a run has them.
SPREAD = ("std", "low", "high", "length", "success_rate")
METRICS = {"return": "mean", "success": "success_rate"}


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run's evaluations.

    Attributes:
        name: its directory.
        label: the group it belongs to.
        task: short name of the environment.
        seed: the run's.
        steps: (S,) environment steps of the evaluations, growing.
        returns: (S,) mean returns.
        seconds: (S,) wall clock of the training so far.
        with_evaluation: whether `seconds` counts the evaluations too, as in runs that kept no train_s.
        spread: name in SPREAD -> (S,), of the episodes of each evaluation.
    """

    name: str
    label: str
    task: str
    seed: int | None
    steps: np.ndarray
    returns: np.ndarray
    seconds: np.ndarray
    with_evaluation: bool
    spread: dict[str, np.ndarray]

    def metric(self, name: str) -> np.ndarray:
        """Return a key of METRICS at every evaluation, (S,).

        Raises:
            UserError: if the run has none, as one on a task without goals has no success.
        """
        if name == "return":
            return self.returns
        if METRICS[name] not in self.spread:
            raise UserError(f"{self.name} has no {name} in its evaluations; use y=return")
        return self.spread[METRICS[name]]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A group's curve on one task.

    Attributes:
        label: the group.
        task: the environment.
        steps: (S,) at which every run of the group was evaluated.
        minutes: (S,) mean wall clock of the runs' training up to there.
        returns: (R, S) of each run: mean returns, or what else of METRICS was asked for.
        center: (S,) interquartile mean over runs.
        low: (S,) lower end of the 95 % bootstrap band.
        high: (S,) upper end.
    """

    label: str
    task: str
    steps: np.ndarray
    minutes: np.ndarray
    returns: np.ndarray
    center: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @property
    def last_mean(self) -> float:
        """The mean over runs of the last evaluation."""
        return float(self.returns[:, -1].mean())

    @property
    def last_interval(self) -> Interval:
        """The 95 % bootstrap interval of `last_mean`."""
        return bootstrap_interval(self.returns[:, -1])


def read_runs(paths: Iterable[str], keys: Sequence[str] = ("agent.name",)) -> list[Run]:
    """Return the runs of data files (.json) and of run directories at or below the given directories.

    Args:
        paths: the files and directories.
        keys: config keys whose values are the label of a run; a data file brings its own labels.

    Raises:
        UserError: if one of them cannot be read, or there is no run.
    """
    paths = list(paths)
    files = [path for path in paths if path.endswith(".json")]
    folders = [path for path in paths if path not in files]
    runs = [run for file in files for run in read_data(Path(file))]
    if folders:
        runs += evaluated(find_runs(folders), keys)
    if not runs:
        raise UserError(f"{', '.join(paths) or 'runs=[]'}: there is no run in it; name run directories or data files")
    # A run that is named twice, or lies in a data file as well, is one seed and not two.
    same = {(run.name, run.label, run.task, run.seed, run.returns.round(4).tobytes()): run for run in runs}
    return list(same.values())


def evaluated(paths: Sequence[Path], keys: Sequence[str]) -> list[Run]:
    """Return the runs that have an evaluation, and print which have none yet.

    Raises:
        UserError: if none has one, one cannot be read, or no run has one of the keys in its config.
    """
    for key in keys:
        if all(value_of(read_yaml(path), key) is None for path in paths):
            raise UserError(f"by={key}: no run has this key in its config.yaml; use one that they have, or agent.name")
    runs, waiting = [], []
    for path in paths:
        try:
            runs.append(read_run(path, keys))
        except NoEvaluationError:
            waiting.append(path)
    if not runs:
        raise UserError(f"{waiting[0]} has no evaluation yet; train it with evaluate.every above 0")
    if waiting:
        print(f"left out, as they have no evaluation yet: {', '.join(map(str, waiting))}")
    return runs


def find_runs(paths: Iterable[str]) -> list[Path]:
    """Return the run directories at or below the given directories.

    Raises:
        UserError: if there is none.
    """
    paths = list(paths)
    found = {config.parent.resolve() for path in paths for config in Path(path).rglob("config.yaml")}
    runs = sorted(path for path in found if (path / "metrics.jsonl").exists())
    if not runs:
        raise UserError(f"no run directory at or below {', '.join(paths)}; name one with a metrics.jsonl")
    return runs


def read_run(path: Path, keys: Sequence[str] = ("agent.name",)) -> Run:
    """Read a run directory's evaluations.

    Raises:
        NoEvaluationError: if it has none.
        UserError: if its files cannot be read.
    """
    try:
        config = read_yaml(path)
        # The last record of a step counts: a resumed run may have evaluated it twice.
        rows = {row["step"]: row for row in read_evaluations(path / "metrics.jsonl")}
        with_evaluation = any("train_s" not in row for row in rows.values())
        columns: dict[str, Any] = {
            "run": "/".join(path.absolute().parts[-2:]),  # a data file is published: no machine's paths
            "label": label_of(config, keys),
            "env": str(config["env"]["id"]).rpartition("/")[2],
            "seed": config["seed"] if isinstance(config.get("seed"), int) else None,
            "with_evaluation": with_evaluation,
            "step": sorted(rows),
            "seconds": [rows[step]["time_s" if with_evaluation else "train_s"] for step in sorted(rows)],
        }
        for name in ("mean", *SPREAD):
            if all(is_number(row.get(name)) for row in rows.values()):
                columns[name] = [rows[step][name] for step in sorted(rows)]
        run = from_columns(columns)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise UserError(f"{path} cannot be read as a run ({' '.join(str(error).split())})") from None
    if not len(run.steps):
        raise NoEvaluationError(f"{path} has no evaluation yet; train it with evaluate.every above 0")
    return run


def read_evaluations(path: Path) -> list[dict[str, Any]]:
    """Return the evaluations in a metrics.jsonl, in its order; a line that a kill or a full disk tore is left out.

    Raises:
        OSError: it cannot be read.
    """
    rows = []
    for line in read_text(path, LARGEST_LOG).splitlines():
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if not isinstance(record, dict) or record.get("kind") != "evaluate" or not is_number(record.get("mean")):
            continue
        times = [record[name] for name in ("train_s", "time_s") if name in record]
        if isinstance(record.get("step"), int) and times and all(map(is_number, times)):
            rows.append(record)
    return rows


def is_number(value: Any) -> bool:
    """Say whether a value of a record is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


class NoEvaluationError(UserError):
    """A run that has not been evaluated yet."""


def read_yaml(path: Path) -> dict[str, Any]:
    """Return what a run's config.yaml holds.

    Raises:
        UserError: if it cannot be read.
    """
    try:
        found = read_yaml_file(path / "config.yaml")
    except (FileNotFoundError, UserError) as error:
        raise UserError(f"{path} cannot be read as a run ({error})") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} cannot be read as a run (its config.yaml holds no keys)")
    return found


def label_of(config: dict[str, Any], keys: Sequence[str]) -> str:
    """Return the group a run belongs to: the values of some config keys, such as agent.name."""
    values = [(key, value_of(config, key)) for key in keys]
    return ", ".join(
        str(value) if key == "agent.name" else f"{key.rpartition('.')[2]}={value}" for key, value in values
    )


def value_of(config: Any, key: str) -> Any:
    """Return what a config holds under a dotted key; None where it has no such key."""
    for part in key.split("."):
        config = config.get(part) if isinstance(config, dict) else None
    return config


def make_curves(runs: Sequence[Run], metric: str = "return") -> list[Curve]:
    """Group runs by task and label, and put each group on the steps all of its runs were evaluated at.

    Args:
        runs: the runs.
        metric: a key of METRICS.

    Returns:
        A curve for each group whose runs share a step; `left_out` tells what they lack.

    Raises:
        UserError: if no group's runs share a step, or a run has no such metric.
    """
    found = grouped(runs)
    curves = [
        _curve(label, task, members, common_steps(members), metric)
        for (task, label), members in sorted(found.items())
        if common_steps(members)
    ]
    if not curves:
        raise UserError("; ".join(left_out(runs)))
    return curves


def grouped(runs: Sequence[Run]) -> dict[tuple[str, str], list[Run]]:
    """Return the runs by task and label."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.task, run.label), []).append(run)
    return groups


def common_steps(runs: Sequence[Run]) -> list[int]:
    """Return the steps that all of the runs were evaluated at."""
    return sorted(set(runs[0].steps.tolist()).intersection(*(run.steps.tolist() for run in runs)))


def left_out(runs: Sequence[Run]) -> list[str]:
    """Return a line for each group with evaluations that its curve cannot hold, naming the runs that are to blame."""
    lines = []
    for (task, label), members in sorted(grouped(runs).items()):
        common, ends = common_steps(members), [int(run.steps[-1]) for run in members]
        if not common:
            steps = ", ".join(f"{run.name} (to {end:,})" for run, end in zip(members, ends, strict=True))
            lines.append(f"{label} on {task} is left out: no step is common to the evaluations of {steps}")
        elif common[-1] < max(ends):
            short = [run.name for run in members if common[-1] == run.steps[-1]] or [run.name for run in members]
            lines.append(f"{label} on {task} is drawn to step {common[-1]:,} of {max(ends):,}, for {', '.join(short)}")
    return lines


def _curve(label: str, task: str, runs: list[Run], common: list[int], metric: str) -> Curve:
    steps = np.array(common)
    places = [np.searchsorted(run.steps, steps) for run in runs]
    returns = np.array([run.metric(metric)[place] for run, place in zip(runs, places, strict=True)])
    seconds = np.array([run.seconds[place] for run, place in zip(runs, places, strict=True)])
    bands = [stratified_bootstrap_interval(column[:, None]) for column in returns.T]
    return Curve(
        label=label,
        task=task,
        steps=steps,
        minutes=seconds.mean(axis=0) / 60,
        returns=returns,
        center=interquartile_mean(returns.T),
        low=np.array([band.low for band in bands]),
        high=np.array([band.high for band in bands]),
    )


# -- data files ---------------------------------------------------------------------------------------------


def to_columns(run: Run) -> dict[str, Any]:
    """Return a run as plain data: what a data file holds of it."""
    numbers = {"step": run.steps, "seconds": run.seconds, "mean": run.returns, **run.spread}
    plain = {name: [round(float(value), 4) for value in values] for name, values in numbers.items()}
    return {
        "run": run.name,
        "label": run.label,
        "env": run.task,
        "seed": run.seed,
        "with_evaluation": run.with_evaluation,
        **plain,
        "step": run.steps.tolist(),
    }


def from_columns(columns: dict[str, Any]) -> Run:
    """Return the run that plain data describes.

    Raises:
        KeyError, TypeError, ValueError: if it describes none.
    """
    names = [name for name in ("seconds", "mean", *SPREAD) if name in columns]
    arrays = {name: np.array(columns[name], dtype=np.float64) for name in names}
    steps = np.array(columns["step"], dtype=np.int64)
    if steps.ndim != 1 or any(values.shape != steps.shape for values in arrays.values()):
        raise ValueError("its columns differ in length")
    if not all(np.isfinite(values).all() for values in arrays.values()):
        raise ValueError("it holds numbers that are not finite")
    for name in ("run", "label", "env"):
        if not isinstance(columns[name], str):
            raise TypeError(f"its {name} is no text")
    if not isinstance(columns["seed"], int | None):
        raise TypeError("its seed is no number")
    return Run(
        name=columns["run"],
        label=columns["label"],
        task=columns["env"],
        seed=columns["seed"],
        steps=steps,
        returns=arrays.pop("mean"),
        seconds=arrays.pop("seconds"),
        with_evaluation=columns["with_evaluation"],
        spread=arrays,
    )


def write_data(runs: Sequence[Run], path: Path) -> None:
    """Write every evaluation of the runs as JSON, a line for each run.

    Raises:
        UserError: if it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, "[\n" + ",\n".join(json.dumps(to_columns(run)) for run in runs) + "\n]\n")
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}); choose another data=") from None


def read_data(path: Path) -> list[Run]:
    """Return the runs of a data file.

    Raises:
        UserError: if it is none.
    """
    try:
        return [from_columns(columns) for columns in json.loads(read_text(path, LARGEST_LOG))]
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; name a data file, or the directories of runs") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise UserError(f"{path} is no data file of plot_curves.py ({' '.join(str(error).split())})") from None
