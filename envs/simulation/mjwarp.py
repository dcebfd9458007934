"""MuJoCo Warp as this suite uses it: its import, the options that it takes, and the device that it works on."""

# MuJoCo's compiled modules have no type stubs.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Iterator
from typing import Any

import mujoco
import torch

from rlsuite.extras import import_extra, require_extras


def import_warp(wanted_by: str) -> tuple[Any, Any]:
    """Return the modules warp and mujoco_warp, told not to speak of what a user need not know.

    Args:
        wanted_by: What cannot do without them, as the beginning of a sentence: "camera.size".

    Raises:
        UserError: If they are not installed.
    """
    require_extras(wanted_by, "mujoco_warp")
    warp = import_extra("warp", wanted_by)
    warp.config.log_level = warp.LOG_WARNING
    with contextlib.nullcontext() if torch.cuda.is_available() else _silent_errors():
        warp.init()  # where there is no CUDA driver it warns of that, from below Python
    return warp, import_extra("mujoco_warp", wanted_by)


def for_warp(model: Any) -> Any:
    """Return a copy of a mujoco.MjModel with the options that MuJoCo Warp takes.

    These are Newton's solver, and no reset of the engine's own of bad states, which it does not know.
    """
    model = copy.copy(model)
    model.opt.solver = int(mujoco.mjtSolver.mjSOL_NEWTON)
    model.opt.disableflags &= ~int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)
    return model


@contextlib.contextmanager
def on_device(warp: Any, device: torch.device) -> Iterator[None]:
    """Let Warp work on a device and, of a GPU, in torch's stream."""
    if device.type == "cpu":
        with warp.ScopedDevice("cpu"):
            yield
    else:
        stream = warp.stream_from_torch(torch.cuda.current_stream(device))
        # A stream that is being captured may not wait for one that is not.
        waits = not torch.cuda.is_current_stream_capturing()
        with warp.ScopedDevice(warp.device_from_torch(device)), warp.ScopedStream(stream, sync_enter=waits):
            yield


@contextlib.contextmanager
def _silent_errors() -> Iterator[None]:
    """Send what the process writes to its error stream nowhere for a while."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
