"""Part versions: what this machine is, and which packages it has."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import torch

from rlsuite.records.checkpoint_format import versions
from scripts.device.rows import Rows

MORE = ("hydra-core", "gymnasium-robotics", "mujoco-warp", "warp-lang", "safetensors")


def measure_machine(arm: str, seed: int, folder: Path, device: str, scale: str, seconds: float) -> None:
    """Write packages, processor and GPU as rows."""
    rows = Rows(folder)
    rows.measure("versions", lambda: versions() | {name: _version(name) for name in MORE})
    rows.measure("processor", lambda: {"machine": platform.machine(), "cores": len(os.sched_getaffinity(0))})
    rows.measure("gpu", gpu if device == "cuda" else lambda: "none asked for")


def gpu() -> dict[str, Any]:
    """Return the CUDA device's name, memory and capability, and the driver's side of torch."""
    about = torch.cuda.get_device_properties(0)
    return {
        "name": about.name,
        "memory_gib": round(about.total_memory / 2**30, 1),
        "capability": [about.major, about.minor],
        "torch_cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
