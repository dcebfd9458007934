"""Kill training runs at random moments, resume them, and compare what they end with: ``check_resume.py kills=20``.

Of each agent one run is left alone and another is killed again and again with SIGKILL, which no process can answer:
while it learns, evaluates or writes a checkpoint. Its last checkpoint must hold the same bytes. The last line printed
is JSON: kills, and how many of them left no trace (identical). The exit status is 1 where one did.

With ``ranks=2`` torchrun trains in as many processes, one of which, drawn at random, is killed each time; torchrun
begins all of them again, and ``resume=auto`` lets them go on.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from torch import Tensor

from rlsuite.cli import command
from rlsuite.config.compose import script_config
from rlsuite.errors import UserError, require, require_choice
from rlsuite.records.checkpoint import Checkpoint, latest_checkpoint, list_checkpoints, read_checkpoint
from rlsuite.records.json_text import to_json
from scripts.train_run import BEGUN

TASKS = {
    "ace": "Hopper",
    "ddpg": "Hopper",
    "flash_sac": "Hopper",
    "her": "FetchReach",
    "painter": "Painting",
    "pombu": "FixedHorizonHalfCheetah",
    "ppo": "Hopper",
    "trpo": "Hopper",
    "sac": "Hopper",
    "scribe": "Characters",
    "sher": "FetchReach",
    "td3": "Hopper",
}
TRAIN = Path(__file__).with_name("train_agent.py")
CLOCK = "seconds"  # an entry of the worker's parts that no two runs share


@dataclass(frozen=True, kw_only=True)
class CheckConfig:
    """What is killed.

    Attributes:
        kills: in all, shared out among the agents.
        agents: whose runs; each on a task of its own, with preset=debug.
        seed: of the moments, and of the runs.
        folder: where the runs are kept; without it they are deleted.
        ranks: processes that train a run together.
    """

    kills: int = 20
    agents: tuple[str, ...] = ("ace", "ddpg", "pombu", "ppo", "sher")
    seed: int = 0
    folder: str = ""
    ranks: int = 1

    def __post_init__(self) -> None:
        require(self.kills >= 1, f"kills={self.kills}: use 1 or more")
        require(bool(self.agents), "agents=[] leaves nothing to kill; use such as agents=ace,ppo")
        for agent in self.agents:
            require_choice("agents", agent, TASKS)
        require(self.seed >= 0, f"seed={self.seed}: use 0 or more")
        require(1 <= self.ranks <= 64, f"ranks={self.ranks}: use 1 to 64")


@command(CheckConfig)
def main(arguments: list[str]) -> int:
    """Kill, resume, compare, print."""
    config: CheckConfig = script_config(CheckConfig, arguments)
    folder = Path(config.folder or tempfile.mkdtemp(prefix="check-resume-"))
    identical = 0
    try:
        for place, agent in enumerate(config.agents):
            kills = (config.kills + len(config.agents) - 1 - place) // len(config.agents)
            moments = random.Random(f"{config.seed} {agent}")
            if kills and config.ranks > 1:
                identical += check_ranks(agent, kills, folder / agent, moments, config)
            elif kills:
                identical += check(agent, kills, folder / agent, moments, config.seed)
    finally:
        if not config.folder:
            shutil.rmtree(folder, ignore_errors=True)
    print(to_json({"kills": config.kills, "identical": identical}))
    return 0 if identical == config.kills else 1


def check(agent: str, kills: int, folder: Path, moments: random.Random, seed: int) -> int:
    """Kill one agent's run so many times; return how many of the kills left no trace."""
    new = [f"agent={agent}", f"env={TASKS[agent]}", "preset=debug", "num_threads=1", f"seed={seed}"]
    whole, killed = folder / "whole", folder / "killed"
    process = start([*new, f"run_dir={whole}"])
    began = time.perf_counter()
    process.wait()
    duration = time.perf_counter() - began
    require(process.returncode == 0, f"agent={agent}: its run ended with status {process.returncode}")
    wanted = read_checkpoint(latest_checkpoint(whole))
    identical = done = since = 0  # kills that left no trace, all kills, those of the present run
    while True:
        resumed = bool(list_checkpoints(killed))
        if not resumed:  # killed before its first checkpoint
            shutil.rmtree(killed, ignore_errors=True)
        process = start([f"resume={killed}"] if resumed else [*new, f"run_dir={killed}"])
        if done < kills:
            try:
                process.wait(moments.uniform(0.0, duration))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                done, since = done + 1, since + 1
                continue
        require(process.wait() == 0, f"agent={agent}: a killed run could not be resumed; look at {killed}")
        found = differences(wanted, read_checkpoint(latest_checkpoint(killed)))
        identical += 0 if found else since
        print(
            f"{agent}: {since} kills, " + (f"different: {', '.join(found[:5])}" if found else "identical"), flush=True
        )
        if done == kills:
            return identical
        since = 0  # it came to its end before its time: the next one is killed
        shutil.rmtree(killed)


def check_ranks(agent: str, kills: int, folder: Path, moments: random.Random, config: CheckConfig) -> int:
    """Kill random ranks of one agent's runs so many times; return how many of the kills left no trace."""
    new = [f"agent={agent}", f"env={TASKS[agent]}", "preset=debug", "num_threads=1", f"seed={config.seed}"]
    whole, killed = folder / "whole", folder / "killed"
    began = time.perf_counter()
    status = start_ranks(config.ranks, 0, [*new, f"run_dir={whole}"]).wait()
    duration = time.perf_counter() - began
    require(status == 0, f"agent={agent}: its run on {config.ranks} ranks ended with status {status}")
    wanted = read_checkpoint(latest_checkpoint(whole))
    identical = done = 0
    while done < kills:  # a run that comes to its end before it is killed often enough is followed by another
        shutil.rmtree(killed, ignore_errors=True)
        process, since = start_ranks(config.ranks, kills, [*new, "resume=auto", f"run_dir={killed}"]), 0
        while done + since < kills and process.poll() is None:
            time.sleep(moments.uniform(0.0, 0.7 * duration))
            if ranks := ranks_of(process):
                moments.choice(ranks).kill()
                since += 1
                print(f"{agent}: kill {done + since}, at step {last_step(killed)} of the log", flush=True)
        status = process.wait()
        require(status == 0, f"agent={agent}: torchrun ended with status {status}; look at {killed}")
        found = differences(wanted, read_checkpoint(latest_checkpoint(killed)))
        identical, done = identical + (0 if found else since), done + since
        print(
            f"{agent}: {since} kills, " + (f"different: {', '.join(found[:5])}" if found else "identical"), flush=True
        )
    return identical


def ranks_of(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Return the processes that torchrun has started and that run."""
    if process.poll() is not None:
        return []
    return [child for child in psutil.Process(process.pid).children() if child.status() != psutil.STATUS_ZOMBIE]


def last_step(folder: Path) -> int:
    """Return the newest step that a run's log tells of; 0 before it tells of any."""
    path = folder / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return max((json.loads(line)["step"] for line in lines if line.endswith("}")), default=0)


def start_ranks(ranks: int, restarts: int, arguments: list[str]) -> subprocess.Popen[bytes]:
    """Begin a training run in several processes, which torchrun begins again where one of them ends badly."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    command = [*launcher, f"--max-restarts={restarts}", str(TRAIN), *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def start(arguments: list[str]) -> subprocess.Popen[bytes]:
    """Begin a training run, and return as soon as it has begun to learn or has ended."""
    command = [sys.executable, str(TRAIN), *arguments]
    log = tempfile.TemporaryFile()  # noqa: SIM115 (a pipe that nobody reads would fill)
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
    while True:
        ended = process.poll() is not None
        said = os.pread(log.fileno(), 1 << 20, 0)  # the child writes where the file's position is: it stays
        if BEGUN.encode() in said:
            return process
        if ended:
            last = said.decode(errors="replace").strip().splitlines()[-1:]
            raise UserError(f"{' '.join(command)} failed: {' '.join(last) or 'it said nothing'}")
        time.sleep(0.02)


def differences(wanted: Checkpoint, found: Checkpoint) -> list[str]:
    """Return the parts' entries in which two checkpoints differ by a bit, the wall clock apart."""
    names = [(part, name) for part, tensors in wanted.parts.items() for name in tensors]
    names += [(part, name) for part, tensors in found.parts.items() for name in tensors if (part, name) not in names]
    different = [] if wanted.step == found.step else ["step"]
    for part, name in names:
        one, other = (checkpoint.parts.get(part, {}).get(name) for checkpoint in (wanted, found))
        if part.startswith("worker") and name == CLOCK:
            continue
        if one is None or other is None or not same_bytes(one, other):
            different.append(f"{part}.{name}")
    return different


def same_bytes(one: Tensor, other: Tensor) -> bool:
    """Say whether two tensors are alike to the bit: a NaN is itself, and 0 is not -0."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return torch.equal(one.reshape(-1).view(torch.uint8), other.reshape(-1).view(torch.uint8))


if __name__ == "__main__":
    sys.exit(main())
