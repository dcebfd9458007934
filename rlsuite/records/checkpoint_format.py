"""What one checkpoint directory holds: safetensors files and the manifest that vouches for their every byte.

A manifest lists format_version, kind ("full" or "agent"), step, metadata, versions, the size and sha256 of
each file, and the sha256 of itself. `rlsuite.records.checkpoint` decides when directories are made, named, pruned.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
from collections.abc import Mapping
from importlib import metadata as distributions
from pathlib import Path
from typing import Any, BinaryIO

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from rlsuite.records.files import is_inside, read_text, require_file, write_atomically

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
SUFFIX = ".safetensors"

_CHUNK = 4 << 20
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_DTYPES = {torch.bool, torch.float16, torch.bfloat16, torch.float32, torch.float64} | {
    getattr(torch, f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)
}

Parts = Mapping[str, Mapping[str, Tensor]]


class UnusableError(Exception):
    """Why a checkpoint cannot be read.

    Attributes:
        fix: what to do, where that is not "take another checkpoint"; else "".
    """

    def __init__(self, reason: str, fix: str = "") -> None:
        super().__init__(reason)
        self.fix = fix


def check_parts(parts: Parts) -> int:
    """Return the bytes that the files of `parts` will need.

    Raises:
        ValueError: a part or tensor that safetensors cannot hold, by name.
    """
    needed = 1 << 16
    for part, tensors in parts.items():
        if not _PART.fullmatch(part):
            raise ValueError(f"part name {part!r} is no file name; use letters, digits, '_', '-', '.'")
        for name, tensor in tensors.items():
            place = f"part '{part}', entry {name!r}"
            if not isinstance(name, str) or name == "__metadata__":
                raise ValueError(f"{place}: use a str other than '__metadata__' as its name")
            if not isinstance(tensor, Tensor):
                raise ValueError(f"{place}: {type(tensor).__name__} is no tensor; wrap it in torch.tensor(...)")
            if tensor.layout != torch.strided or tensor.dtype not in _DTYPES or tensor.is_meta:
                kind = f"{tensor.dtype}, {tensor.layout} on {tensor.device}"
                raise ValueError(f"{place}: {kind} cannot be stored; convert it to a dense real tensor")
            needed += tensor.numel() * tensor.element_size() + len(name.encode()) + 128
    return needed


def write_part(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Write one safetensors file, fsync it, and return its manifest entry {"sha256", "bytes"}.

    Only tensors on another device, with gaps between their elements, or sharing memory are copied.
    """
    stored: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        if tensor.untyped_storage().data_ptr() in storages:  # safetensors refuses tensors that share memory
            tensor = tensor.clone()
        storages.add(tensor.untyped_storage().data_ptr())
        stored[name] = tensor
    safetensors.torch.save_file(stored, path)
    os.chmod(path, path.parent.stat().st_mode & 0o666)  # safetensors makes it private; the umask decides
    with open(path, "rb") as file:
        digest = _digest(file)
        os.fsync(file.fileno())
        return {"sha256": digest, "bytes": os.fstat(file.fileno()).st_size}


def check_file(path: Path, manifest: Mapping[str, Any], part: str, verify: bool) -> None:
    """Compare the file of a part with its manifest entry: its size, and with `verify` its sha256.

    Raises:
        UnusableError: it is missing, unreadable or different.
    """
    name = part + SUFFIX
    entry = manifest["files"][name]
    try:
        if not is_inside(path / name, path):
            raise UnusableError(f"{name} is a link out of the checkpoint")
        require_file(path / name)
        with open(path / name, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size != entry["bytes"]:
                raise UnusableError(f"{name} has {size} bytes where the manifest says {entry['bytes']}")
            if verify and _digest(file) != entry["sha256"]:
                raise UnusableError(f"{name} is damaged (its sha256 differs)")
    except FileNotFoundError:
        raise UnusableError(f"{name} is missing") from None
    except OSError as error:
        raise UnusableError(f"{name} cannot be read ({error.strerror})") from None


def load_part(path: Path, part: str) -> dict[str, Tensor]:
    """Return the tensors of a part: CPU, private (writing to them does not change the file).

    Raises:
        UnusableError: the file is missing or no safetensors file.
    """
    try:
        return safetensors.torch.load_file(path / (part + SUFFIX))
    except (OSError, SafetensorError) as error:
        raise UnusableError(f"{part}{SUFFIX} cannot be read ({' '.join(str(error).split())})") from None


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write ``manifest.json`` with its own digest, atomically."""
    signed = dict(manifest) | {"sha256": _self_digest(manifest)}
    write_atomically(folder / MANIFEST, json.dumps(signed, indent=2) + "\n")


def read_manifest(path: Path) -> dict[str, Any]:
    """Return the manifest of the checkpoint directory `path`.

    Raises:
        UnusableError: it is missing, unreadable, not JSON, of another format, or altered.
    """
    try:
        if not is_inside(path / MANIFEST, path):
            raise UnusableError(f"{MANIFEST} is a link out of the checkpoint")
        manifest = json.loads(read_text(path / MANIFEST))
    except (FileNotFoundError, NotADirectoryError):
        raise UnusableError(f"{MANIFEST} is missing") from None
    except OSError as error:
        raise UnusableError(f"{MANIFEST} cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise UnusableError(f"{MANIFEST} is not valid JSON") from None
    version = manifest.get("format_version") if isinstance(manifest, dict) else None
    if version is None:
        raise UnusableError(f"{MANIFEST} is not one of rlsuite's")
    if version != FORMAT_VERSION:
        versions = manifest.get("versions")
        writer = versions.get("rlsuite") if isinstance(versions, dict) else None
        fix = f"use the rlsuite that wrote it ({writer or 'version unknown'})"
        raise UnusableError(f"it has format {version!r} and this rlsuite reads format {FORMAT_VERSION}", fix)
    if manifest.get("sha256") != _self_digest(manifest):
        raise UnusableError(f"{MANIFEST} was altered (its sha256 differs)")
    if wrong := _wrong_entry(manifest):
        raise UnusableError(f"{MANIFEST} is not one of rlsuite's ({wrong})")
    return manifest


def _wrong_entry(manifest: Mapping[str, Any]) -> str:
    """Return which entry is none that a save writes, or "": whoever edits one can sign it anew."""
    step, kind, files = (manifest.get(name) for name in ("step", "kind", "files"))
    if not isinstance(step, int) or isinstance(step, bool) or not 0 <= step < 2**63:
        return f"step {str(step)[:40]!r} is no number of steps"
    if kind not in ("full", "agent"):
        return f"kind {str(kind)[:40]!r} is neither full nor agent"
    if not isinstance(manifest.get("metadata"), dict):
        return "metadata is no group of entries"
    if not isinstance(files, dict):
        return "files is no group of entries"
    for name, entry in files.items():
        part = name.removesuffix(SUFFIX)
        if part == name or not _PART.fullmatch(part):
            return f"{name[:40]!r} names no part"
        size, digest = (entry.get("bytes"), entry.get("sha256")) if isinstance(entry, dict) else (None, None)
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            return f"{name} has no size"
        if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
            return f"{name} has no sha256"
    if kind == "agent" and set(files) != {f"agent{SUFFIX}"}:
        return "it holds more than the agent that its kind says"
    return ""


def versions() -> dict[str, str]:
    """Return the versions of Python, rlsuite and what its results depend on."""
    found = {"python": platform.python_version()}
    for name in ("rlsuite", "torch", "numpy", "mujoco", "gymnasium"):
        try:
            found[name] = distributions.version(name)
        except distributions.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _digest(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def _self_digest(manifest: Mapping[str, Any]) -> str:
    """The digest of the manifest without that entry: a flipped bit in a counter is damage too."""
    content = {key: value for key, value in manifest.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
