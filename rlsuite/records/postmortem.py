"""What a run leaves behind when numbers go bad: the batch and the agent that gave a non-finite loss.

A simulator that goes bad leaves the environment's own record (``failures/``), which the environments write.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from rlsuite.agent import Agent
from rlsuite.agent_registry import agent_class
from rlsuite.config.imports import require_imports
from rlsuite.config.schema import TrainConfig, train_config
from rlsuite.errors import UserError
from rlsuite.records.files import read_text, require_file, require_inside, write_atomically
from rlsuite.replay.buffer import Batch
from rlsuite.vector_env import EnvironmentFacts


def save_postmortem(
    folder: Path,
    *,
    step: int,
    seed: int,
    names: list[str],
    agent: Agent,
    batch: Batch,
    config: Mapping[str, Any],
) -> Path:
    """Write the agent, the batch of its last update and the names of what was non-finite.

    Args:
        folder: made if missing.
        step: environment steps so far.
        seed: of the run.
        names: metrics that were not finite.
        agent: after the update.
        batch: what it learned from.
        config: the run's config as plain data.

    Returns:
        The path, without suffix, to give to replay_postmortem.
    """
    require_inside(folder, folder.parent)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"update-{step}"
    tensors = {f"agent.{name}": tensor.detach().cpu().contiguous() for name, tensor in agent.state_dict().items()}
    tensors |= {f"batch.{name}": tensor.cpu().contiguous() for name, tensor in batch._asdict().items()}
    write_atomically(path.with_suffix(".safetensors"), save(tensors))
    record = {"kind": "update", "step": step, "seed": seed, "nonfinite": names, "config": dict(config)}
    write_atomically(path.with_suffix(".json"), json.dumps(record, indent=2) + "\n")
    return path


def replay_postmortem(
    path: Path, facts_of: Callable[[TrainConfig], EnvironmentFacts], imports: Sequence[str] = ()
) -> dict[str, Any]:
    """Load a record of save_postmortem and say where the non-finite numbers are.

    An agent that works in pieces does those that are due, from an update on, until one gives a non-finite number.

    Args:
        path: what save_postmortem returned.
        facts_of: returns the facts of a run's environments.
        imports: modules that the recorded env.id may have imported, as the command line names them.

    Returns:
        "batch": names of non-finite batch tensors; "agent": names of non-finite agent tensors; "metrics": those
        an update of that agent on that batch gives now.

    Raises:
        UserError: if it is not such a record.
    """
    try:
        record = json.loads(read_text(path.with_suffix(".json")))
        require_file(path.with_suffix(".safetensors"))
        tensors = load_file(path.with_suffix(".safetensors"))
        config = train_config(record["config"])
        require_imports(config.env, imports, path)
        kind = agent_class(config.agent_name)
        batch = kind.Batch(**{name: tensors[f"batch.{name}"] for name in kind.Batch._fields})
    except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
        raise UserError(f"{path}: not a record of a failed update ({' '.join(str(error).split())})") from None
    state = {name.removeprefix("agent."): value for name, value in tensors.items() if name.startswith("agent.")}
    agent = kind.build(facts_of(config), config.agent, seed=config.seed)
    try:
        agent.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(
            f"{path}: tensors do not fit the recorded config ({' '.join(str(error).split())[:200]})"
        ) from None
    metrics = {} if agent.busy else agent.update(batch)
    while agent.busy and not nonfinite(metrics):
        metrics = agent.advance()
    return {
        "batch": nonfinite(batch._asdict()),
        "agent": nonfinite(state),
        "metrics": nonfinite(metrics),
    }


def nonfinite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the names of floating tensors that hold a NaN or an infinity."""
    return [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
