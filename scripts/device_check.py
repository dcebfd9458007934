"""Check the suite on one GPU in at most eight minutes: ``python scripts/device_check.py``.

Parts, the most valuable first, each in a process of its own and with its own limit: versions; graph, the update as
CUDA graphs against the eager one; humanoid, flash_sac trained by the clock; engines, MuJoCo Warp; overlap, updates
beside steps; cameras. What they find goes into one JSON file that is rewritten with every row, so that a cut leaves
what was done. A package that is missing is said in the part that wants it, and the others go on. ``device=cpu
scale=tiny`` runs every part in two minutes and measures nothing. It needs a checkout and packages on PYTHONPATH alone
(docs/device.md).
"""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlsuite.cli import command
from rlsuite.errors import UserError, near_matches, require
from rlsuite.experiment.jobs import search_path
from rlsuite.experiment.kinds import FunctionJob, last_line, log_of
from rlsuite.experiment.processes import start
from rlsuite.experiment.results import commit, write_whole
from rlsuite.records.files import require_writable
from scripts.device.engines import measure_engines
from scripts.device.graphs import measure_graphs
from scripts.device.humanoid import measure_humanoid
from scripts.device.machine import measure_machine
from scripts.device.overlap import measure_overlaps
from scripts.device.pictures import measure_pictures
from scripts.device.rows import read_rows

RESULT = Path("docs/results/device.json")
FOLDER = Path("runs/device_check")
# Part -> what measures it, and its seconds on a GPU; eight minutes in all.
PARTS: dict[str, tuple[Callable[..., None], float]] = {
    "versions": (measure_machine, 30.0),
    "graph": (measure_graphs, 100.0),
    "humanoid": (measure_humanoid, 190.0),
    "engines": (measure_engines, 100.0),
    "overlap": (measure_overlaps, 30.0),
    "cameras": (measure_pictures, 30.0),
}
TINY_SECONDS = 60.0  # of a part: a slow machine's start alone takes ten
ATTEMPTS = 6  # a part whose process dies goes on in another one as long as that brings rows


@dataclass(frozen=True, kw_only=True)
class DeviceConfig:
    """What is checked, where, and how long.

    Attributes:
        parts: of versions, graph, humanoid, engines, overlap and cameras, in the order they run.
        device: auto, cpu or cuda.
        scale: full, or tiny: every line in seconds, no figure of worth.
        minutes: of all parts together; what has not begun by then is said to be left out.
        output: the JSON file; the committed docs/results/device.json is written by the full check on a GPU alone.
        folder: where logs, the training run and its weights go; parts that run anew empty theirs.
    """

    parts: tuple[str, ...] = tuple(PARTS)
    device: str = "auto"
    scale: str = "full"
    minutes: float = 8.0
    output: str = ""
    folder: str = str(FOLDER)

    def __post_init__(self) -> None:
        require(bool(self.parts), f"parts=[]: use some of {', '.join(PARTS)}")
        for part in self.parts:
            require(part in PARTS, f"parts={part}: there is no such part{near_matches(part, PARTS)}")
        require(len(set(self.parts)) == len(self.parts), f"parts={','.join(self.parts)}: name each part once")
        require(self.device in ("auto", "cpu", "cuda"), f"device={self.device}: use auto, cpu or cuda")
        require(self.scale in ("full", "tiny"), f"scale={self.scale}: use full or tiny")
        require(math.isfinite(self.minutes) and self.minutes > 0, f"minutes={self.minutes}: use a number above 0")
        require(not self.output or self.output.endswith(".json"), f"output={self.output}: let it end with .json")


@command(DeviceConfig)
def main(arguments: list[str]) -> int:
    """Run the parts; exit status 1 where one of them failed."""
    began = time.monotonic()
    try:
        from agents.assembly import choose_device
        from rlsuite.config.compose import script_config
    except ImportError as error:  # a bare machine without the packages that everything needs
        raise UserError(f"{error}; put it on PYTHONPATH as docs/device.md says") from None
    config = script_config(DeviceConfig, arguments)
    device = choose_device(config.device).type
    folder = Path(config.folder)
    whole = device == "cuda" and config.scale == "full" and set(config.parts) == set(PARTS)
    output = Path(config.output) if config.output else RESULT if whole else folder / RESULT.name
    require_writable(output)
    found = {
        "device": device,
        "scale": config.scale,
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d"),
        "minutes_allowed": config.minutes,
        "parts": {name: {"state": "not run"} for name in config.parts},
    }
    check = Check(found, output, folder, began + 60 * config.minutes)
    for name in config.parts:
        check.run(name)
    print(f"{output}: {time.monotonic() - began:.0f} s; " + "; ".join(check.summary()))
    return 0 if all(part["state"] == "complete" for part in found["parts"].values()) else 1


class Check:
    """Runs parts and writes what they find.

    Args:
        found: the file's content; its parts are filled in.
        output: the file.
        folder: a folder for each part is made in it.
        deadline: of all parts, by time.monotonic.
    """

    def __init__(self, found: dict[str, Any], output: Path, folder: Path, deadline: float) -> None:
        self.found, self.output, self.folder, self.deadline = found, output, folder, deadline
        self.write()

    def run(self, name: str) -> None:
        """Run a part within its limit, in a fresh process again where one has died and left a row."""
        function, limit = PARTS[name]
        device, scale = self.found["device"], self.found["scale"]
        began = time.monotonic()
        ends = min(began + (limit if scale == "full" else TINY_SECONDS), self.deadline)
        part = self.found["parts"][name]
        if ends - began < 1:
            part["state"] = "left out: the time was up"
            self.write()
            return
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        log_of(folder).unlink(missing_ok=True)
        for _ in range(ATTEMPTS):
            rows = len(read_rows(folder))
            inputs = {"device": device, "scale": scale, "seconds": ends - time.monotonic()}
            job = FunctionJob(function=function, arm=name, seed=0, inputs=inputs)
            folder.mkdir(parents=True, exist_ok=True)
            part["state"] = self._watch(job, folder, part, began, ends)
            if part["state"] == "complete" or time.monotonic() >= ends or len(read_rows(folder)) == rows:
                break
        failed = [row for row, value in part["rows"].items() if _failed(value)]
        if part["state"] == "complete" and failed:
            part["state"] = f"incomplete: {'; '.join(failed)}"
        self.write()
        print(f"{name}: {part['state']} ({part['seconds']} s)", flush=True)

    def _watch(self, job: FunctionJob, folder: Path, part: dict[str, Any], began: float, ends: float) -> str:
        """Run one process; return how it ended. The file is rewritten whenever there is a new row."""
        process = start(job.command(folder) or (), log_of(folder), {"PYTHONPATH": search_path()})
        try:
            while True:
                over, ended = time.monotonic() >= ends, process.poll() is not None
                rows = read_rows(folder)
                if rows != part.get("rows", {}) or over or ended:
                    part |= {"seconds": round(time.monotonic() - began, 1), "rows": rows}
                    self.write()
                if ended:
                    status = process.returncode
                    return "complete" if status == 0 else f"ended with status {status}: {last_line(folder)[:300]}"
                if over:
                    return f"cut after {ends - began:.0f} s"
                time.sleep(0.1)
        finally:
            _stop(process)

    def write(self) -> None:
        """Rewrite the file, whole or not at all."""
        write_whole(self.output, json.dumps(self.found, indent=1, allow_nan=False) + "\n")

    def summary(self) -> list[str]:
        """Return a few words for each part."""
        return [f"{name} {part['state']}" for name, part in self.found["parts"].items()]


def _failed(row: Any) -> bool:
    return isinstance(row, dict) and any(key in row for key in ("error", "missing", "refused"))


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a process without grace: its rows are in its file, and the next part waits for the GPU."""
    if process.poll() is None:
        process.kill()
    process.wait()


if __name__ == "__main__":
    sys.exit(main())
