"""What a checkpoint says of a run, looked at before anything of the run changes.

Digests vouch for bytes, and whoever edits a file can sign it anew: counters, shapes, kinds of numbers and their
finiteness are checked here, against those of the run as it was just built.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rlsuite.config.schema import ABSENT, EnvConfig, differences
from rlsuite.errors import UserError
from rlsuite.records.checkpoint import Checkpoint, unusable


@dataclass(frozen=True, kw_only=True)
class Counters:
    """How far a run had come.

    Attributes:
        updates: gradient updates done.
        updates_at_start: of them, those before learning began or its rate was changed.
        episodes_at_start: episodes ended then.
        steps_at_start: environment steps then; None if learning has not begun.
        elapsed_s: wall-clock seconds so far.
        evaluation_s: the part of them that went into evaluations.
        busy: whether updates were still due.
        commits: of the source that trained it, in turn.
        ranks: how many processes trained it together.
    """

    updates: int
    updates_at_start: int
    episodes_at_start: int
    steps_at_start: int | None
    elapsed_s: float
    evaluation_s: float
    busy: bool
    commits: list[str]
    ranks: int


def read_counters(checkpoint: Checkpoint) -> Counters:
    """Return the counters in a training checkpoint's metadata.

    Raises:
        UserError: if one is missing or is none that a run writes, or the config beside them is no config.
    """
    # Checkpoints had neither of these once.
    found = {"evaluation_s": 0.0, "busy": False, "commits": ["unknown"], **checkpoint.metadata}

    def refuse(name: str) -> None:
        raise unusable(checkpoint.path, f"its metadata has no usable '{name}'", parts=checkpoint.parts)

    def count(name: str) -> int:
        value = found.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**62:
            refuse(name)
        return int(value)  # type: ignore[arg-type]

    def seconds(name: str) -> float:
        value = found.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < math.inf:
            refuse(name)
        return float(value)  # type: ignore[arg-type]

    if not isinstance(found["busy"], bool):
        refuse("busy")
    commits = found["commits"]
    if not isinstance(commits, list) or not commits or not all(isinstance(commit, str) for commit in commits):
        refuse("commits")
    stored_config(checkpoint)
    return Counters(
        updates=count("updates"),
        updates_at_start=count("updates_at_start"),
        episodes_at_start=count("episodes_at_start"),
        steps_at_start=None if found.get("steps_at_start", 0) is None else count("steps_at_start"),
        elapsed_s=seconds("elapsed_s"),
        evaluation_s=seconds("evaluation_s"),
        busy=found["busy"],
        commits=commits,
        ranks=saved_ranks(checkpoint),
    )


def saved_ranks(checkpoint: Checkpoint) -> int:
    """Return how many ranks wrote a checkpoint; older ones do not say it, and are of one.

    Raises:
        UserError: if it is no number of ranks.
    """
    number = checkpoint.metadata.get("ranks", 1)
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= 4096:
        raise unusable(checkpoint.path, "its metadata has no usable 'ranks'", parts=checkpoint.parts)
    return number


def stored_config(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the config in a checkpoint's metadata, as plain data.

    Raises:
        UserError: if it is not that of a run.
    """
    config = checkpoint.metadata.get("config")
    groups = config if isinstance(config, dict) else {}
    steps, rate = groups.get("steps"), groups.get("train_ratio")
    if (
        not all(isinstance(groups.get(name), dict) for name in ("agent", "env"))
        or not isinstance(steps, int)
        or not isinstance(rate, int | float)
    ):
        raise unusable(checkpoint.path, "its metadata has no usable 'config'", parts=checkpoint.parts)
    return groups


def misfit(part: str, fresh: Mapping[str, Tensor], stored: Mapping[str, Tensor]) -> str:
    """Return in what a part's tensors cannot be those of the run, or "".

    Args:
        part: agent, optimizers, replay, environment or worker.
        fresh: the part of the run as it was just built.
        stored: the checkpoint's.
    """
    for name, wanted in fresh.items():
        if name not in stored:
            return f"{part} holds no '{name}'"
        found = stored[name]
        # What has been collected grows, one slot after the other; the rest has one size.
        first = 1 if part == "replay" and wanted.dim() > 1 else 0
        if found.dim() != wanted.dim() or found.shape[first:] != wanted.shape[first:]:
            return f"'{name}' of {part} has shape {tuple(found.shape)} where {tuple(wanted.shape)} is wanted"
    return ""


def other_shapes(path: Path, env: EnvConfig, why: str) -> UserError:
    """Return the error of a run's checkpoint where an environment of another library has other shapes by now."""
    return UserError(
        f"{path} does not fit {env.full_id}, whose shapes differ from the run's ({why}); give the environment that the "
        "run was trained on, or start a new run"
    )


def unfit(part: str, fresh: Mapping[str, Tensor], stored: Mapping[str, Tensor]) -> str:
    """Return which tensor of a part no run writes, or "": of another kind of numbers, or not finite."""
    for name, tensor in stored.items():
        if name in fresh and tensor.dtype != fresh[name].dtype:
            return f"'{name}' of {part} is {tensor.dtype} and not {fresh[name].dtype}"
        if tensor.is_floating_point() and tensor.numel():
            low, high = torch.aminmax(tensor)  # no copy of a large replay
            if not (bool(torch.isfinite(low)) and bool(torch.isfinite(high))):
                return f"'{name}' of {part} is not finite"
    return ""


def unfit_optimizer(optimizers: Mapping[str, torch.optim.Optimizer], stored: Mapping[str, Tensor]) -> str:
    """Return which tensor of the optimizers' states belongs to no parameter, or has another shape than it, or ""."""
    sizes = {
        f"{name}.{index}": parameter.shape
        for name, optimizer in optimizers.items()
        for index, parameter in enumerate(one for group in optimizer.param_groups for one in group["params"])
    }
    for path, tensor in stored.items():
        owner = path.rpartition(".")[0]
        if owner not in sizes:
            return f"'{path}' of optimizers belongs to no parameter"
        if tensor.dim() and tensor.shape != sizes[owner]:
            wanted = tuple(sizes[owner])
            return f"'{path}' of optimizers has shape {tuple(tensor.shape)} where {wanted} is wanted"
    return ""


# Whole numbers that are no sizes of anything kept.
_NO_SIZES = ("batch_size", "minibatches", "epochs", "policy_delay", "target_every", "n_step", "seed", "steps")


def shape_keys(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return, in words, the keys that differ between two plain configs and can change the shape of what is kept."""
    found = differences(old, new)
    return [
        f"{key}={after} (it was {before})"
        for key, (before, after) in found.items()
        if before is not ABSENT
        and key.partition(".")[0] in ("agent", "env", "replay", "num_envs")
        and key.rpartition(".")[2] not in _NO_SIZES
        and not isinstance(before, float)
        and not isinstance(after, float)
    ]
