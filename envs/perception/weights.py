"""Learned perceivers in files: what they are called, their numbers, and their network's tensors."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from envs.perception.catalogue import PERCEPTIONS
from envs.perception.perceiver import Perceiver
from rlsuite.errors import UserError, require
from rlsuite.methods import Method, choose, flat_numbers, from_plain
from rlsuite.weights_file import read_about, read_weights, write_weights

FORMAT = "rlsuite perceiver 1"


def save_perceiver(path: Path, perceiver: Perceiver, method: Method, about: Mapping[str, Any] | None = None) -> None:
    """Write a perceiver's network; `about` is any JSON to be kept with it.

    Raises:
        UserError: if the file cannot be written.
    """
    numbers = {name: value for name, value in asdict(method.config).items() if name != "weights"}
    said = {"method": {"name": method.name, "config": numbers}, "about": dict(about or {})}
    write_weights(path, perceiver.network.state_dict(), said, format=FORMAT)


def choose_perceivers(names: Sequence[str], overrides: Mapping[str, Any] | None = None) -> tuple[Method, ...]:
    """Return perceivers by name: what is not given of the numbers of one with weights, its file says.

    Raises:
        UserError: as `rlsuite.methods.choose`; and for a weights file that cannot be read or is another's.
    """
    given, of_files = dict(overrides or {}), {}
    for method in choose(PERCEPTIONS, names):
        key = f"{method.short_name}.weights"
        if path := str(given.get(key) or method.kind.shipped):
            of_files |= flat_numbers(_said(path, method), f"{method.short_name}.")
    return choose(PERCEPTIONS, names, of_files | given)


def build_perceiver(method: Method) -> Perceiver:
    """Return a perceiver with its weights, in evaluation mode.

    Raises:
        UserError: if its weights are missing, cannot be read, or are another's.
    """
    perceiver: Perceiver = method.build()
    path = _path(method)
    if path:
        perceiver.network.load_state_dict(_read(path, method)[1])
    else:
        learned = next(perceiver.network.parameters(), None) is not None
        key = f"{method.short_name}.weights"
        require(not learned, f"{key}= is missing; name a file that train_perceiver.py wrote")
    return perceiver.eval().requires_grad_(False)


def digest(perceiver: Perceiver) -> Tensor:
    """Return the SHA-256 (32,) uint8 of a perceiver's name, numbers (its path apart) and tensors."""
    config = perceiver.config
    if any(entry.name == "weights" for entry in fields(config)):
        config = replace(config, weights="")
    hashed = hashlib.sha256(f"{type(perceiver).__name__} {asdict(config)}".encode())
    for name, tensor in sorted(perceiver.network.state_dict().items()):
        hashed.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        hashed.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return torch.frombuffer(bytearray(hashed.digest()), dtype=torch.uint8)


def _path(method: Method) -> str:
    return getattr(method.config, "weights", "") or method.kind.shipped


def _said(path: str, method: Method) -> dict[str, Any]:
    """Return the numbers that a file names, once it is known to be of this method."""
    try:
        about = read_about(path)
        _check_named(about, method)
    except OSError as error:
        raise UserError(_refusal(path, method)(error.strerror or "it cannot be read")) from None
    except (SafetensorError, ValueError, RuntimeError, RecursionError, UserError) as error:
        raise UserError(_refusal(path, method)(" ".join(str(error).split())[:160])) from None
    return about["method"].get("config") or {}


def _check_named(about: Mapping[str, Any], method: Method) -> None:
    said = about.get("method")
    if about.get("format") != FORMAT or not isinstance(said, dict):
        raise ValueError("it holds other weights")
    (found,) = from_plain(PERCEPTIONS, [said])
    if found.name != method.name:
        raise ValueError(f"it is of {found.name}")


def _read(path: str, method: Method) -> tuple[dict[str, Any], dict[str, Tensor]]:
    def expected(about: dict[str, Any]) -> Mapping[str, Tensor]:
        _check_named(about, method)
        return method.build().network.state_dict()

    return read_weights(
        path,
        format=FORMAT,
        fields={"method": dict, "about": dict},
        expected=expected,
        refusal=_refusal(path, method),
    )


def _refusal(path: str, method: Method) -> Callable[[str], str]:
    key = f"{method.short_name}.weights"
    return lambda reason: f"{key}={path}: {reason}; name a file that train_perceiver.py wrote for {method.name}"
