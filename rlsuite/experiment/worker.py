"""A job's function, in a process of its own or in the caller's: ``python -m rlsuite.experiment.worker JOB FOLDER``.

JOB is what `jobs.FunctionJob.about` says, as JSON: function, arm, seed, inputs. `jobs.Jobs` alone writes it.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import sys
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from rlsuite.cli import refuse
from rlsuite.config.build import build
from rlsuite.errors import UserError
from rlsuite.records.files import write_atomically

RESULT = ".result.json"  # in the job's folder, until it is kept


def main(arguments: list[str]) -> int:
    """Call the function; bad input is one line and status 2."""
    about, folder = json.loads(arguments[0]), Path(arguments[1])
    module, _, name = about["function"].partition(":")
    try:
        call(getattr(importlib.import_module(module), name), about, folder)
    except UserError as error:
        return refuse(str(error))
    return 0


def call(function: Callable[..., Any], about: Mapping[str, Any], folder: Path) -> None:
    """Call a job's function with one torch thread; leave its result in the job's folder, whole or not at all.

    Raises:
        UserError: if the result holds a figure that is not finite.
        TypeError: if JSON cannot hold it.
    """
    hints = typing.get_type_hints(function)
    inputs = {
        name: build(hints[name], value) if dataclasses.is_dataclass(hints.get(name)) else value
        for name, value in about["inputs"].items()
    }
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        result = function(about["arm"], about["seed"], folder, **inputs)
    finally:
        torch.set_num_threads(threads)
    try:
        text = json.dumps(result, allow_nan=False)
    except ValueError:
        raise UserError(
            f"{about['function']}: a figure is not finite, arm {about['arm']}, seed {about['seed']}"
        ) from None
    write_atomically(folder / RESULT, text)


def function_path(function: Callable[..., Any]) -> str:
    """Return module:name of a module's own function.

    Raises:
        TypeError: for a lambda, a closure, a method, or a function of the script that runs.
    """
    module, name = function.__module__, function.__qualname__
    if module == "__main__" or getattr(sys.modules.get(module), name, None) is not function:
        raise TypeError(f"{module}:{name} cannot be imported by a subprocess; make it a module's own function")
    return f"{module}:{name}"


def plain_inputs(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return inputs as JSON gives them back: dataclasses as mappings, tuples as lists.

    Raises:
        TypeError: if JSON cannot hold one.
    """
    plain = {
        name: dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value
        for name, value in inputs.items()
    }
    return json.loads(json.dumps(plain))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
