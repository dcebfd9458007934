"""The first line of a training, said before torch is imported: which agent, which task, where it will lie.

All of it is read from the arguments as they were typed. Nothing here may import torch or Hydra, which take seconds.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

PRESETS = Path(__file__).parent / "conf" / "preset"
AGENT, TASK = "ace", "Humanoid"  # of conf/train.yaml
EXAMPLE = f"agent={AGENT} env={TASK} steps=100000"  # of arguments, for messages


def value_of(arguments: Sequence[str], key: str, default: str = "") -> str:
    """Return what the last ``key=value`` says, without quotes."""
    given = [argument[len(key) + 1 :] for argument in arguments if argument.startswith(f"{key}=")]
    return given[-1].strip("'\"") if given else default


def default_run_dir(arguments: Sequence[str]) -> Path:
    """Return a run directory that says task, agent, seed and time: the task first, to filter TensorBoard's runs.

    Two commands of one second have the same: `rlsuite.records.files.claimed` makes one that is nobody else's.
    """
    task, agent, seed = names(arguments)
    name = re.sub(r"[^\w.:,+-]+", "_", f"{task}-{agent}-s{seed}") + time.strftime("-%Y%m%d-%H%M%S")
    return Path("runs") / name


def names(arguments: Sequence[str]) -> tuple[str, str, str]:
    """Return task, agent and seed as the arguments name them, or a preset that chooses task and agent."""
    preset = value_of(arguments, "preset")
    task = re.sub(r"-v5$", "", value_of(arguments, "env", _chosen(preset, "env") or TASK))
    task = value_of(arguments, "env.id", task).rpartition("/")[2]
    agent = value_of(arguments, "agent", _chosen(preset, "agent") or AGENT)
    return task, agent, value_of(arguments, "seed", "0")


def _chosen(preset: str, group: str) -> str:
    """Return what a preset's file chooses of a group, "" where nothing; a YAML reader would take its time."""
    path = PRESETS / f"{preset}.yaml"
    if not re.fullmatch(r"\w+", preset) or not path.exists():
        return ""
    found = re.search(rf"override /{group}: (\w+)", path.read_text())
    return found[1] if found else ""


def title(arguments: Sequence[str], folder: object) -> str:
    """Return the title of a new run that will lie in `folder`: a line, or two where it is wider than the terminal."""
    task, agent, seed = names(arguments)
    return fitted(f"{agent} on {task}, seed {seed}, device {device(value_of(arguments, 'device', 'auto'))}", folder)


def title_of_sweep(arguments: Sequence[str], folder: object) -> str:
    """Return the title of a sweep: what is varied."""
    varied = [argument for argument in arguments if re.search(r"=.*(,|range\(|choice\()", argument)]
    return fitted(f"a sweep over {' '.join(varied)}", folder)


def fitted(what: str, folder: object) -> str:
    """Return ``what, folder``, on two lines where one of the terminal does not hold it."""
    width = shutil.get_terminal_size().columns
    where = str(folder)
    if len(what) + 2 + len(where) <= width:
        return f"{what}, {where}"
    return f"{what[: width - 1]}\n{where}"


def device(asked: str) -> str:
    """Return the device as far as it can be told without torch: auto is the CPU where there is no other."""
    return "cpu" if asked == "auto" and not os.path.exists("/dev/nvidiactl") else asked
