"""A policy in one file: its network, what was done to it, and the task it is for.

Shapes: N environments, D observation, A action.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from envs.evaluation.recipe import load_network, save_network
from envs.evaluation.subject import Base, Step
from rlsuite.config.imports import require_imports
from rlsuite.config.schema import TrainConfig, to_plain, train_config
from rlsuite.errors import UserError

SUFFIX = ".safetensors"


@dataclass(frozen=True, kw_only=True)
class PolicyFile:
    """What a policy file holds.

    Attributes:
        module: observations (N, D) to actions (N, A) within the environment's bounds.
        base: what builds it untouched.
        recipe: what was done to it.
        config: of the run whose agent it comes from: which task, with which options.
        about: plain data its maker kept with it.
    """

    module: nn.Module
    base: Base
    recipe: tuple[Step, ...]
    config: TrainConfig
    about: dict[str, Any]

    def act(self, observation: Tensor) -> Tensor:
        """Return actions (N, A) for observations (N, D)."""
        return self.module(observation)


def is_policy_file(path: Path | str) -> bool:
    """Say whether a name is a policy file's, and no run directory's."""
    return str(path).endswith(SUFFIX)


def save_policy(
    path: Path, module: nn.Module, base: Base, recipe: Sequence[Step], config: TrainConfig, about: Mapping[str, Any]
) -> None:
    """Write a policy file, whole or not at all.

    Raises:
        UserError: if it cannot be written.
    """
    save_network(path, module, base, recipe, {**about, "config": to_plain(config)})


def load_policy_file(path: Path | str, *, device: str = "auto", imports: Sequence[str] = ()) -> PolicyFile:
    """Read a policy file.

    Args:
        path: the file.
        device: what the task's config says of devices from now on.
        imports: modules that its env.id may have imported, as the command line names them.

    Raises:
        UserError: if it cannot be read, or is no policy's.
    """
    module, base, recipe, about = load_network(path)
    about = dict(about)
    plain = about.pop("config", None)
    if not isinstance(plain, dict):
        raise UserError(f"{path} holds a network, and no task to act in; name a file that evaluate_agent.py wrote")
    try:
        config = train_config({**plain, "device": device})
    except UserError as error:
        raise UserError(f"{path}: its task cannot be read: {error}") from None
    require_imports(config.env, imports, path)
    return PolicyFile(module=module, base=base, recipe=recipe, config=config, about=about)
