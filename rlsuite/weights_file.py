"""Networks that are handed on: tensors and what is said about them, in one safetensors file.

The file's metadata hold one entry, ``about``: JSON with the key ``format``, such as "rlsuite painter 1", the numbers
that the network is built from, and whatever else its maker wants to say. Shipped painters and neural renderers are
such files. One may come from anybody, so it is read as hostile: what it says is checked against a schema, and its
tensors' names, shapes and kinds against the network it describes, before a byte of them is read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from rlsuite.errors import UserError
from rlsuite.records.files import require_file, write_atomically

LARGEST = 1 << 30  # bytes of a file
_LARGEST_HEADER = 4 << 20
_KINDS = {
    "BF16": torch.bfloat16,
    "BOOL": torch.bool,
    "F16": torch.float16,
    "F32": torch.float32,
    "F64": torch.float64,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "U8": torch.uint8,
}


def write_weights(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any], *, format: str) -> None:
    """Write a network's tensors and what is said about it, whole or not at all.

    Args:
        path: the file; its folder is made if missing.
        tensors: the network's state, on any device.
        about: any JSON; what building the network needs is part of it.
        format: what kind of network, and the version of its description.

    Raises:
        UserError: it cannot be written.
    """
    stored = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, save(stored, metadata={"about": json.dumps({**about, "format": format})}))
    except OSError as error:
        raise UserError(f"{path}: the weights cannot be written ({error.strerror}); choose another output=") from None


def read_weights(
    path: Path | str,
    *,
    format: str,
    fields: Mapping[str, type],
    expected: Callable[[dict[str, Any]], Mapping[str, Tensor]],
    refusal: Callable[[str], str],
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read what write_weights wrote.

    Args:
        path: the file.
        format: as it was written.
        fields: keys that `about` must have, and their types; whole numbers lie between 1 and 2**31.
        expected: about -> the network's state, names and shapes of which count; called with torch's default device
            "meta", so that nothing is allocated for sizes that the file only claims. UserError and ValueError refuse.
        refusal: reason -> the one line that says what cannot be read and how to mend it.

    Returns:
        `about`, and the tensors, on the CPU.

    Raises:
        UserError: `refusal` of what is wrong with it.
    """
    try:
        require_file(Path(path), LARGEST)
        _check_header(Path(path))
        with safe_open(str(path), "pt") as file:
            about = _about(file.metadata(), format, fields)
            with torch.device("meta"):
                wanted = expected(about)
            names = set(file.keys())
            for name in wanted.keys() - names:
                raise ValueError(f"it holds no '{name}'")
            for name in names - wanted.keys():
                raise ValueError(f"it holds '{name[:60]}', which is none of the network's")
            for name, tensor in wanted.items():
                entry = file.get_slice(name)
                shape, kind = tuple(entry.get_shape()), _KINDS.get(entry.get_dtype())
                if shape != tuple(tensor.shape) or kind != tensor.dtype:
                    raise ValueError(
                        f"'{name}' is {entry.get_dtype()} of shape {shape}, not {tensor.dtype} of {tuple(tensor.shape)}"
                    )
            tensors = {name: file.get_tensor(name) for name in wanted}
        for name, tensor in tensors.items():
            if not bool(torch.isfinite(tensor).all()):
                raise ValueError(f"'{name}' is not finite")
    except OSError as error:
        raise UserError(refusal(error.strerror or " ".join(str(error).split())[:160])) from None
    except (SafetensorError, ValueError, RuntimeError, OverflowError, RecursionError, UserError) as error:
        raise UserError(refusal(" ".join(str(error).split())[:160])) from None
    return about, tensors


def read_about(path: Path | str) -> dict[str, Any]:
    """Return what a weights file says about itself, unchecked.

    Raises:
        OSError, SafetensorError, ValueError: it is no such file.
    """
    require_file(Path(path), LARGEST)
    _check_header(Path(path))
    with safe_open(str(path), "pt") as file:
        found = json.loads((file.metadata() or {}).get("about", "{}"))
    return found if isinstance(found, dict) else {}


def _check_header(path: Path) -> None:
    """Raise ValueError unless the header is as short as ours are, and no longer than the file."""
    with open(path, "rb") as file:
        length, size = int.from_bytes(file.read(8), "little"), os.fstat(file.fileno()).st_size
    if size < 8 or length > min(size - 8, _LARGEST_HEADER):
        raise ValueError("it is no safetensors file, or cut off")


def _about(metadata: Mapping[str, str] | None, format: str, fields: Mapping[str, type]) -> dict[str, Any]:
    about = json.loads((metadata or {}).get("about", "{}"))
    if not isinstance(about, dict) or about.get("format") != format:
        raise ValueError("it holds other weights")
    for name, kind in fields.items():
        value = about.get(name)
        if not isinstance(value, kind) or isinstance(value, bool) != (kind is bool):
            raise ValueError(f"its {name} is no {kind.__name__}")
        if isinstance(value, int) and not 1 <= value < 2**31:
            raise ValueError(f"its {name} is {value}")
    return about
