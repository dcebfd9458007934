"""Part humanoid: flash_sac on Humanoid with 64 environments on all cores, the updates in CUDA graphs, by the clock.

The training loop is `train_agent.py`'s own; it is told to stop when its time is up. Rows are the curve, written with
each evaluation, the speed, and the policy's final return over 64 episodes from starts of their own. Its weights are
kept beside the run, in the form that `evaluate_agent.py` reads.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from scripts.device.rows import Rows

if TYPE_CHECKING:
    from rlsuite.agent import Agent
    from rlsuite.config.schema import TrainConfig

# As the paper has it (arXiv:2604.04539), but for 64 environments beside each other and half an update a step, so that
# neither the simulator nor the GPU waits long for the other.
FULL = ("preset=paper", "steps=1000000", "num_envs=64", "train_ratio=0.5", "evaluate.every=50000", "log.every=10000")
TINY = (
    "preset=debug",
    "steps=600",
    "num_envs=4",
    "num_threads=1",
    "learning_starts=200",
    "train_ratio=0.25",
    "evaluate.every=300",
    "evaluate.episodes=2",
    "replay.capacity=2000",
    "agent.batch_size=8",
    "agent.actor.hidden_sizes=[16,16,16]",
    "agent.critic.hidden_sizes=[16,16,16]",
)
FINAL_EPISODES = {"full": 64, "tiny": 4}
RESERVED_S = {"full": 75.0, "tiny": 5.0}  # of the part's time, for the end: checkpoint, final return, weights
EAGERLY = "training, eager updates"
ALWAYS = ("agent=flash_sac", "env=Humanoid", "evaluate.clip_every=0", "checkpoint.every=100000000", "seed=0")


def measure_humanoid(arm: str, seed: int, folder: Path, device: str, scale: str, seconds: float) -> None:
    """Train by the clock and write the rows; where that has failed in an earlier process, with eager updates."""
    began, rows = time.perf_counter(), Rows(folder)
    failed = "error" in rows.found.get("training", {})
    deadline = began + seconds - RESERVED_S[scale]
    rows.measure(EAGERLY if failed else "training", lambda: train(rows, folder, device, scale, deadline, eager=failed))


def train(rows: Rows, folder: Path, device: str, scale: str, deadline: float, *, eager: bool = False) -> dict[str, Any]:
    """Train until the deadline of time.perf_counter; write the rows on the way, and return how the end went."""
    import mujoco  # noqa: F401  (missing: said before anything is made)

    from agents.assembly import prepare_torch
    from agents.pretrained import store
    from agents.training import make_trainer, write_config
    from rlsuite.config.compose import compose_train
    from rlsuite.records.monitor import Monitor
    from rlsuite.running.cuda_graph import GraphedUpdate

    class Watched(Monitor):
        """Keeps the curve as rows, too."""

        def record(self, step: int, kind: str, scalars: Mapping[str, Any], histograms: Any = None) -> dict[str, float]:
            values = super().record(step, kind, scalars, histograms)
            if kind == "evaluate":
                point = {"step": step, "seconds": round(self.elapsed_s, 1), "return": values["mean"]}
                rows.add("curve", [*rows.found.get("curve", []), point | {"length": values["length"]}])
            return values

    config, _ = compose_train([*ALWAYS, *(FULL if scale == "full" else TINY), f"device={device}"])
    prepare_torch(config)
    run_dir = folder / ("run-eager" if eager else "run")
    with contextlib.ExitStack() as stack:
        trainer = make_trainer(config, run_dir, stack)
        if eager:
            trainer.update = trainer.agent.update
            rows.add("curve", [])
        run_dir.mkdir(parents=True, exist_ok=True)
        write_config(config, run_dir)
        monitor = stack.enter_context(Watched(run_dir, total_steps=config.steps))
        began = time.perf_counter()
        finished = trainer.run(monitor, lambda: time.perf_counter() > deadline)
        spent = time.perf_counter() - began
        # Neither evaluations nor the end's checkpoint are training; the latter is not told apart.
        speed = {
            "ended_by": "steps" if finished else "clock",
            "steps": trainer.worker.steps,
            "updates": trainer.updates,
            "seconds": round(spent, 1),
            "evaluation_seconds": round(trainer.evaluation_s, 1),
            "updates_in_cuda_graphs": isinstance(trainer.update, GraphedUpdate),
            "steps_per_s_stepping": round(trainer.worker.steps / max(trainer.worker.step_seconds, 1e-9)),
            "steps_per_s_all": round(trainer.worker.steps / max(spent - trainer.evaluation_s, 1e-9)),
        }
        rows.add("speed", speed)
        rows.add("final_return", final_return(trainer.agent, config, FINAL_EPISODES[scale]))
        if trainer.updates:
            weights = folder / "flash_sac-Humanoid.safetensors"
            about = {"command": "python scripts/device_check.py parts=humanoid", "commits": trainer.commits}
            store.save(weights, trainer.agent, config, steps=trainer.worker.steps, about=about)
            rows.add("weights", {"file": weights.name, "bytes": weights.stat().st_size})
    ending = {"seconds_after_training": round(time.perf_counter() - began - spent, 1)}
    if torch.cuda.is_available():
        ending["peak_memory_mib"] = round(torch.cuda.max_memory_allocated() / 2**20)
    return ending


def final_return(agent: Agent, config: TrainConfig, episodes: int) -> dict[str, Any]:
    """Return what the policy scores, an episode in each of so many environments."""
    from agents.assembly import make_evaluation_env
    from rlsuite.running.seeding import JUDGED_ON, derive_seed
    from rlsuite.scoring import evaluate

    env = make_evaluation_env(config, episodes)
    try:
        found = evaluate(lambda seen: agent.act(seen, False), env, seed=derive_seed(config.seed, JUDGED_ON))
    finally:
        env.close()
    interval = found.interval()
    return {
        "episodes": len(found.returns),
        "mean": found.mean,
        "interval": interval.ends,
        "interval_kind": interval.kind,
        "mean_length": found.mean_length,
        "failed": found.failed,
    }
