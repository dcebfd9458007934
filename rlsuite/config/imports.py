"""Which packages a run directory may have imported: those that the command line names, and no others.

``env.id=package:Task-v0`` makes Gymnasium import `package`. On the command line that is what the user asked for. In
the config of a run directory or checkpoint, which may come from anybody, it is refused until ``imports=package``
says the same on the command line.
"""

from __future__ import annotations

from collections.abc import Sequence

from rlsuite.config.schema import EnvConfig, TrainConfig
from rlsuite.errors import UserError


def module_of(env: EnvConfig) -> str:
    """Return the module that making the environment would import by its id, or ""."""
    _, _, name = env.full_id.partition(":")
    return name.rpartition(":")[0]


def require_imports(env: EnvConfig, imports: Sequence[str], where: object) -> None:
    """Refuse a stored environment whose id names a module that the command line does not name.

    Args:
        env: from a file.
        imports: the modules that the command line names.
        where: the file or folder, for the message.

    Raises:
        UserError: with the argument to add.
    """
    module = module_of(env)
    if module and module not in imports:
        raise UserError(
            f"{where}: its env.id={env.id} would import the package '{module}', and nothing is imported because a file "
            f"names it; if you trust it, add imports={module}"
        )


def trusted_arguments(config: TrainConfig) -> str:
    """Return what a printed command that reads the run needs at its end: "", or " agent=... imports=package"."""
    module, agent = module_of(config.env), config.agent_name
    return (f" agent={agent}" if ":" in agent else "") + (f" imports={module}" if module else "")
