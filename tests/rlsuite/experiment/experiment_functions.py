"""Functions that the tests of jobs run, here and in subprocesses."""

import os
import time
from dataclasses import dataclass

import torch

from rlsuite.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Sizes:
    widths: tuple[int, ...] = (1, 2)


def where(arm, seed, folder, *, factor=1, sizes: Sizes = Sizes()):
    """Say everything a call can see, and count the calls in the folder."""
    print(f"working on {arm}")
    calls = folder / "calls"
    calls.write_text(calls.read_text() + "x" if calls.exists() else "x")
    return {
        "arm": arm,
        "seed": seed * factor,
        "widths": sizes.widths,
        "kind": type(sizes).__name__,
        "threads": torch.get_num_threads(),
        "pid": os.getpid(),
        "calls": len(calls.read_text()),
    }


def fail(arm, seed, folder):
    if arm == "bad":
        raise UserError("it is bad")
    if arm == "worse":
        raise RuntimeError("it broke")
    return 1


def infinite(arm, seed, folder):
    return {"psnr": float("inf")}


def step_by_step(arm, seed, folder, *, steps):
    """Go on from the steps that are there, as a training with checkpoints does."""
    path = folder / "steps"
    while (done := len(path.read_text()) if path.exists() else 0) < steps:
        path.write_text("x" * (done + 1))
        (folder / "pids").open("a").write(f"{os.getpid()}\n")
        time.sleep(0.05)
    return done
