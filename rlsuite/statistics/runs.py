"""Runs and their evaluations: read from run directories, or from a data file that `write_data` made of them.

One small JSON file holds every evaluation of every run behind a figure, and the figure can be drawn from it alone.
Runs are told apart by what they are: copies of one run are refused, runs of differing configs get differing labels.

Shapes: S evaluations.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlsuite.errors import UserError, printable
from rlsuite.records.files import read_text, write_atomically
from rlsuite.records.yaml_file import read_yaml as read_yaml_file
from rlsuite.statistics.digits import significant
from rlsuite.statistics.same_config import differing, digest_of, value_of

LARGEST_LOG = 1 << 30  # bytes
# Of an evaluation's episodes; kept where a run has them.
SPREAD = ("std", "low", "high", "length", "success_rate", "failed")
METRICS = {"return": "mean", "success": "success_rate"}
BOUNDS = {"success": (0.0, 1.0)}  # of a metric, which intervals do not leave


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run's evaluations.

    Attributes:
        name: its directory.
        label: the group it belongs to.
        task: short name of the environment.
        seed: the run's.
        steps: (S,) environment steps of the evaluations, growing.
        returns: (S,) mean returns of the episodes whose simulation went through.
        seconds: (S,) wall clock of the training so far.
        with_evaluation: whether `seconds` counts the evaluations too, as in runs that kept no train_s.
        spread: name in SPREAD -> (S,), of the episodes of each evaluation.
        config: digest of what decides how it learned, the seed apart; "" where that is not known.
        unmeasured: evaluations without a single whole episode, which are not among the S.
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
    config: str = ""
    unmeasured: int = 0

    def has(self, name: str) -> bool:
        """Say whether the evaluations hold a key of METRICS."""
        return name == "return" or METRICS[name] in self.spread

    def metric(self, name: str) -> np.ndarray:
        """Return a key of METRICS at every evaluation, (S,).

        Raises:
            UserError: if the run has none, as one on a task without goals has no success.
        """
        if name == "return":
            return self.returns
        if not self.has(name):
            raise UserError(f"{self.name} has no {name} in its evaluations; use y=return")
        return self.spread[METRICS[name]]

    def same_evaluations(self, other: Run) -> bool:
        """Whether both have one log: equal returns at equal steps and seconds, as far as old data files round them."""
        return np.array_equal(self.steps, other.steps) and all(
            np.allclose(getattr(self, name), getattr(other, name), rtol=1e-6, atol=1e-4)
            for name in ("returns", "seconds")
        )


def read_runs(paths: Iterable[str], keys: Sequence[str] = ("agent.name",)) -> list[Run]:
    """Return the runs of data files (.json) and of run directories at or below the given directories.

    Args:
        paths: the files and directories.
        keys: config keys whose values are the label of a run; a data file brings its own labels.

    Raises:
        UserError: if one of them cannot be read, there is no run, or two of them are copies of one run.
    """
    paths = list(paths)
    files = [path for path in paths if path.endswith(".json")]
    folders = [path for path in paths if path not in files]
    runs = [run for file in files for run in read_data(Path(file))]
    if folders:
        runs += evaluated(find_runs(folders), keys)
    if not runs:
        raise UserError(f"{', '.join(paths) or 'runs=[]'}: there is no run in it; name run directories or data files")
    return told_apart(without_copies(runs))


def without_copies(runs: Sequence[Run]) -> list[Run]:
    """Return each run once, however often it is named.

    Raises:
        UserError: if two runs of a group have different names and the very same log.
    """
    kept: list[Run] = []
    for run in runs:
        alike = [
            other
            for other in kept
            if (other.label, other.task, other.seed) == (run.label, run.task, run.seed) and other.same_evaluations(run)
        ]
        if not alike:
            kept.append(run)
        elif alike[0].name != run.name:
            raise UserError(
                f"{alike[0].name} and {run.name} are copies of one run (equal seed, returns and seconds); name one"
            )
    return kept


def told_apart(runs: Sequence[Run]) -> list[Run]:
    """Return the runs, where configs of one group are known to differ with their digests in the labels."""
    configs: dict[tuple[str, str], set[str]] = {}
    for run in runs:
        configs.setdefault((run.task, run.label), set()).add(run.config)
    mixed = {group for group, found in configs.items() if len(found - {""}) > 1}
    for task, label in sorted(group for group, found in configs.items() if "" in found and len(found) > 1):
        print(
            f"{printable(label)} on {printable(task)}: some data files do not say their runs' configs; that they are "
            "alike is not checked"
        )
    return [
        dataclasses.replace(run, label=f"{run.label} [config {run.config[:6] or 'unknown'}]")
        if (run.task, run.label) in mixed
        else run
        for run in runs
    ]


def evaluated(paths: Sequence[Path], keys: Sequence[str]) -> list[Run]:
    """Return the runs that have an evaluation, and print which have none yet.

    Runs whose configs differ in more than the keys (and the seed, and what changes no learning) get labels that say
    in what.

    Raises:
        UserError: if none has one, one cannot be read, or no run has one of the keys in its config.
    """
    configs = {path: read_yaml(path) for path in paths}
    for key in keys:
        if all(value_of(config, key) is None for config in configs.values()):
            raise UserError(f"by={key}: no run has this key in its config.yaml; use one that they have, or agent.name")
    runs, waiting = {}, []
    for path in paths:
        try:
            runs[path] = read_run(path, keys)
        except NoEvaluationError:
            waiting.append(path)
    if not runs:
        raise UserError(f"{waiting[0]} has no evaluation yet; train it with evaluate.every above 0")
    if waiting:
        print(f"left out, as they have no evaluation yet: {printable(', '.join(map(str, waiting)))}")
    groups: dict[tuple[str, str], list[Path]] = {}
    for path, run in runs.items():
        groups.setdefault((run.task, run.label), []).append(path)
    for (task, label), members in groups.items():
        more = differing([configs[path] for path in members])
        if more:
            print(printable(f"{label} on {task}: configs differ in {', '.join(more)}, so that it is split by that"))
        for path in members if more else ():
            runs[path] = dataclasses.replace(runs[path], label=label_of(configs[path], [*keys, *more]))
    return list(runs.values())


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
        found = {record["step"]: record for record in read_evaluations(path / "metrics.jsonl")}
        rows = {step: row for step, row in found.items() if row["mean"] is not None}
        with_evaluation = any("train_s" not in row for row in rows.values())
        columns: dict[str, Any] = {
            "run": "/".join(path.absolute().parts[-2:]),  # a data file is published: no machine's paths
            "label": label_of(config, keys),
            "env": str(config["env"]["id"]).rpartition("/")[2],
            "seed": config["seed"] if isinstance(config.get("seed"), int) else None,
            "config": digest_of(config),
            "unmeasured": len(found) - len(rows),
            "with_evaluation": with_evaluation,
            "step": sorted(rows),
            "seconds": [rows[step]["time_s" if with_evaluation else "train_s"] for step in sorted(rows)],
        }
        if any("failed" in row for row in rows.values()):  # only an evaluation with failures has a number of them
            rows = {step: {"failed": 0, **row} for step, row in rows.items()}
        for name in ("mean", *SPREAD):
            if all(is_number(row.get(name)) for row in rows.values()):
                columns[name] = [rows[step][name] for step in sorted(rows)]
        run = from_columns(columns)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise UserError(f"{path} cannot be read as a run ({' '.join(str(error).split())})") from None
    if not len(run.steps):
        raise NoEvaluationError(f"{path} has no evaluation yet; train it with evaluate.every above 0")
    return run


def read_evaluations(path: Path) -> list[dict[str, Any]]:
    """Return the evaluations in a metrics.jsonl, in its order; a line that a kill or a full disk tore is left out.

    The mean of one without a single whole episode is None.

    Raises:
        OSError: it cannot be read.
    """
    rows = []
    for line in read_text(path, LARGEST_LOG).splitlines():
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if not isinstance(record, dict) or record.get("kind") != "evaluate" or not isinstance(record.get("step"), int):
            continue
        measured = "mean" in record and (record["mean"] is None or is_number(record["mean"]))
        times = [record[name] for name in ("train_s", "time_s") if name in record]
        if measured and times and all(map(is_number, times)):
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


# -- data files ---------------------------------------------------------------------------------------------


def to_columns(run: Run) -> dict[str, Any]:
    """Return a run as plain data: what a data file holds of it."""
    numbers = {"step": run.steps, "seconds": run.seconds, "mean": run.returns, **run.spread}
    plain = {name: [significant(value) for value in values] for name, values in numbers.items()}
    unmeasured = {"unmeasured": run.unmeasured} if run.unmeasured else {}
    return {
        "run": run.name,
        "label": run.label,
        "env": run.task,
        "seed": run.seed,
        "config": run.config,
        "with_evaluation": run.with_evaluation,
        **unmeasured,
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
    config, unmeasured = columns.get("config", ""), columns.get("unmeasured", 0)  # data files had no config once
    for name, text in {**{name: columns[name] for name in ("run", "label", "env")}, "config": config}.items():
        if not isinstance(text, str):
            raise TypeError(f"its {name} is no text")
    if not isinstance(columns["seed"], int | None):
        raise TypeError("its seed is no number")
    if not isinstance(unmeasured, int) or unmeasured < 0:
        raise TypeError("its unmeasured is no number of evaluations")
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
        config=config,
        unmeasured=unmeasured,
    )


def write_data(runs: Sequence[Run], path: Path, facts: Sequence[Mapping[str, Any]] = ()) -> None:
    """Write every evaluation of the runs as JSON, a line for each run.

    Args:
        runs: whose evaluations.
        path: the file.
        facts: of each run, in their order, what else its line is to say; reading the runs passes over it.

    Raises:
        UserError: if it cannot be written.
    """
    lines = [{**to_columns(run), **fact} for run, fact in zip(runs, facts or [{}] * len(runs), strict=True)]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, "[\n" + ",\n".join(map(json.dumps, lines)) + "\n]\n")
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
