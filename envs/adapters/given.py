"""Environments that are Python objects, not names: ``python:<name>`` of `envs.make_vector` is what was given under it.

What may be given: a Gymnasium environment or a class or function that makes one; vector environments of the contract
`rlsuite.vector_env.VectorEnv`, or a function of num_envs that makes them. Objects are copied, so that training and
evaluation do not share one, and whoever gave it finds it as it was.
"""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Callable
from typing import Any

import gymnasium

from envs.adapters.gymnasium_adapter import GymnasiumVectorEnv
from envs.vector import VectorEnv
from rlsuite.errors import UserError, first_line, require

PREFIX = "python"
_given: dict[str, Callable[..., Any]] = {}


def name_of(env: Any) -> str:
    """Return the name that an environment goes by: its class's or function's, in letters, digits, ``_`` and ``-``."""
    unwrapped = getattr(env, "unwrapped", env)
    name = getattr(env, "__name__", "") or type(unwrapped).__name__
    return re.sub(r"[^A-Za-z0-9_-]+", "", name) or "environment"


def give(env: Any, name: str = "") -> str:
    """Make an environment known under a name, its own unless said; return the name.

    Raises:
        UserError: if it is nothing that environments can be made of.
    """
    name = name or name_of(env)
    if isinstance(env, gymnasium.vector.VectorEnv) and not isinstance(env, VectorEnv):
        raise UserError(
            f"env={name} is a vector environment of Gymnasium, whose state cannot be kept; give the class or function "
            f"that makes one of its environments"
        )
    if isinstance(env, VectorEnv) or (hasattr(env, "load_state") and hasattr(env, "num_envs")):
        _given[name] = _copies_of(env, name)
    elif callable(env) and not isinstance(env, gymnasium.Env) and "num_envs" in _parameters(env):
        _given[name] = env
    elif callable(env) or isinstance(env, gymnasium.Env):
        _given[name] = _adapted(env, name)
    else:
        raise UserError(f"env={name}: give a name, a Gymnasium environment, or a class or function that makes one")
    return name


def make(name: str, num_envs: int, **arguments: Any) -> Any:
    """Return N environments of what was given under a name.

    Args:
        name: what `give` returned.
        num_envs: N.
        **arguments: device, dtype, render_mode and options, as the adapters take them; vector environments that were
            given take none of them.

    Raises:
        UserError: if nothing was given under it, or it makes another number of environments.
    """
    if name not in _given:
        raise UserError(
            f"{PREFIX}:{name} was given as a Python object; give it again: agents.load(run_dir, env=...) or "
            f"agents.resume(run_dir, env=...)"
        )
    maker = _given[name]
    made = maker(num_envs, **arguments) if getattr(maker, "takes_all", False) else maker(num_envs=num_envs)
    require(
        made.num_envs == num_envs,
        f"env={name} has {made.num_envs} environments where {num_envs} are wanted; give a function of num_envs",
    )
    return made


def fixed_number(env: Any) -> int | None:
    """Return the number of environments that an object stands for and cannot change; None: any."""
    return getattr(env, "num_envs", None) if hasattr(env, "load_state") and not inspect.isclass(env) else None


def _adapted(env: Any, name: str) -> Callable[..., Any]:
    """Return a maker of N Gymnasium environments behind the suite's contract."""
    registered = f"{PREFIX}-given/{name}-v0"

    def one(**options: Any) -> gymnasium.Env:
        if not isinstance(env, gymnasium.Env):
            return env(**options)
        require(not options, f"env={name} is made already and takes no {', '.join(options)}; give its class instead")
        return _copy(env, name)

    def many(num_envs: int, **arguments: Any) -> Any:
        gymnasium.registry.pop(registered, None)  # of an earlier one with this name
        gymnasium.register(id=registered, entry_point=one)
        return GymnasiumVectorEnv(registered, num_envs, **arguments)

    many.takes_all = True  # pyright: ignore[reportFunctionMemberAccess]
    return many


def _copies_of(env: Any, name: str) -> Callable[..., Any]:
    def copied(num_envs: int) -> Any:
        return _copy(env, name)

    return copied


def _copy(env: Any, name: str) -> Any:
    try:
        return copy.deepcopy(env)
    except Exception as error:  # whatever a stranger's object raises
        said = first_line(error)
    raise UserError(f"env={name} cannot be copied ({said}); give the class or function that makes it")


def _parameters(maker: Callable[..., Any]) -> tuple[str, ...]:
    try:
        return tuple(inspect.signature(maker).parameters)
    except (TypeError, ValueError):  # of some built-in callables nothing is known
        return ()
