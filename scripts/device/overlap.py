"""Part overlap: CPU physics beside GPU updates, against one after the other, in rounds of training a second."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from scripts.device.rows import Rows

COMMON = ("env=Humanoid", "replay.capacity=100000")
# What matters most first: a cut leaves that.
FULL = {
    "flash_sac, 64 environments, 16 updates a step": (
        "agent=flash_sac",
        "preset=paper",
        "num_envs=64",
        "train_ratio=0.25",
    ),
    "td3, 64 environments, 16 updates a step": ("agent=td3", "num_envs=64", "train_ratio=0.25"),
}
TINY = {
    "td3, 4 environments, 1 update a step": (
        "agent=td3",
        "num_envs=4",
        "num_threads=1",
        "train_ratio=0.25",
        "agent.batch_size=8",
        "agent.actor.hidden_sizes=[16,16]",
        "agent.critic.hidden_sizes=[16,16]",
    )
}


def measure_overlaps(arm: str, seed: int, folder: Path, device: str, scale: str, seconds: float) -> None:
    """Write a row for each training: rounds a second of steps, of updates, of both in turn and beside each other."""
    rows, tiny = Rows(folder), scale == "tiny"

    def measure(arguments: tuple[str, ...]) -> dict[str, object]:
        import mujoco  # noqa: F401  (missing: said before anything is made)

        from rlsuite.config.compose import compose_train
        from rlsuite.config.schema import EvaluateConfig
        from scripts.benchmarks.overlapping import measure_overlap

        config, _ = compose_train([*COMMON, *arguments, f"device={device}"])
        config = dataclasses.replace(
            config, evaluate=EvaluateConfig(every=0), learning_starts=20 * config.num_envs, warmup_episodes=0
        )
        return measure_overlap(config, 1 if tiny else 2, 0.05 if tiny else 0.5)

    for name, arguments in (TINY if tiny else FULL).items():
        rows.measure(name, lambda arguments=arguments: measure(arguments))
