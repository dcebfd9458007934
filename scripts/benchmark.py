"""Measure ours against peers, alternately in one run: ``python scripts/benchmark.py what=stepping env=Humanoid``.

what=stepping env=<Task> num_envs=256: environment steps a second, against mujoco.batch alone, EnvPool and
Gymnasium's SyncVectorEnv. what=updates agent=ace|ddpg|td3|sac|flash_sac env=<Task>: gradient updates a second,
against the bare matrix products and, the first three, Stable-Baselines3. what=imagination: imagined steps a second of
agent=pombu, against plain loops over the models and the bare matrix products. what=painting agent=painter env=Painting:
exact strokes a second against plain loops, and training pictures a second against the paper's loop written plainly.
what=characters: exact glyph strokes, pictures taught and characters read a second, against the
paper's loops and one at a time. what=fit: steps a second of rlsuite.fit, against the bare loop it replaces.
what=cameras env=<Task> size=64 num_envs=64: pictures a second with depth and ids, against MuJoCo's renderer.
what=binary: products of signs by XNOR and popcount, against torch's float32 matmul. what=overlap agent= env=: rounds
of training a second with updates beside steps, against one after the other and each alone. Peers that are not installed
are left out (extra: bench). The last line printed is JSON with medians and ratios.
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass

from rlsuite.cli import command
from rlsuite.config.build import build
from rlsuite.config.compose import compose_train, plain_values
from rlsuite.config.schema import EvaluateConfig
from rlsuite.errors import require, require_threads
from rlsuite.records.json_text import to_json
from rlsuite.running.threads import available_threads
from scripts.benchmarks.binary import measure_binary
from scripts.benchmarks.characters import measure_characters
from scripts.benchmarks.drawing import measure_cameras
from scripts.benchmarks.fitting import measure_fit
from scripts.benchmarks.imagination import measure_imagination
from scripts.benchmarks.overlapping import measure_overlap
from scripts.benchmarks.painting import measure_painting
from scripts.benchmarks.stepping import measure_stepping
from scripts.benchmarks.updates import measure_updates

# What what=imagination measures unless told otherwise: 40,000 imagined steps in models of the paper's size.
IMAGINATION = {
    "agent": "pombu",
    "env": "FixedHorizonHalfCheetah",
    "agent.trajectories": 200,
    "agent.dynamics.hidden_sizes": [512, 512],
}
ALONE = {"binary": measure_binary, "characters": measure_characters, "fit": measure_fit}  # these need no task
WHAT = ("stepping", "updates", "imagination", "painting", "characters", "fit", "cameras", "binary", "overlap")


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """What to measure; all other keys, such as agent= and env=, are those of train_agent.py.

    Attributes:
        what: stepping, updates, imagination, painting, characters, fit, cameras, binary or overlap.
        rounds: rounds that count; each contestant runs once a round.
        seconds: length of one measurement, roughly.
        num_envs: environments, for what=stepping, cameras and overlap.
        size: pixels a side, for what=cameras.
        num_threads: threads; 0 takes all cores.
    """

    what: str = ""
    rounds: int = 5
    seconds: float = 2.0
    num_envs: int = 256
    size: int = 64
    num_threads: int = 0

    def __post_init__(self) -> None:
        require(self.what in WHAT, f"what={self.what}: use {', '.join(WHAT[:-1])} or {WHAT[-1]}")
        require_threads(self.num_threads)
        require(self.rounds >= 1, f"rounds={self.rounds}: use 1 or more")
        require(self.seconds > 0, f"seconds={self.seconds}: use a number above 0")
        require(self.num_envs >= 1, f"num_envs={self.num_envs}: use 1 or more")


@command(BenchmarkConfig)
def main(arguments: list[str]) -> int:
    """Measure and print."""
    own = plain_values(arguments)
    names = ("what", "rounds", "seconds", "num_envs", "size")
    chosen = {name: own[name] for name in (*names, "num_threads") if name in own}
    script = build(BenchmarkConfig, chosen)
    rest = [argument for argument in arguments if argument.partition("=")[0] not in names]
    if script.what == "imagination" and own.get("agent", "pombu") == "pombu":
        rest = [f"{name}={value}" for name, value in IMAGINATION.items() if name not in own] + rest
    if script.what in ALONE:
        unknown = [argument for argument in rest if not argument.startswith("num_threads=")]
        require(not unknown, f"{', '.join(unknown)}: what={script.what} takes rounds, seconds and num_threads alone")
        measure = ALONE[script.what]
        print(to_json(measure(script.num_threads, script.rounds, script.seconds)))
        return 0
    config, _ = compose_train(rest)
    if script.what == "stepping":
        require(not config.env.options, f"{next(iter(config.env.options), '')}: stepping compares the tasks' defaults")
        threads = script.num_threads or available_threads()
        result = measure_stepping(config.env.name, script.num_envs, threads, script.rounds, script.seconds)
    elif script.what == "painting":
        require(config.agent_name == "painter", f"agent={config.agent_name}: what=painting measures agent=painter")
        result = measure_painting(config, script.rounds, script.seconds)
    elif script.what == "cameras":
        config = dataclasses.replace(
            config, num_envs=script.num_envs, device="cpu" if config.device == "auto" else config.device
        )
        result = measure_cameras(config, script.size, script.rounds, script.seconds)
    elif script.what == "overlap":
        chosen = {
            "num_envs": script.num_envs,
            "learning_starts": 20 * script.num_envs,
            "evaluate": EvaluateConfig(every=0),
        }
        result = measure_overlap(dataclasses.replace(config, **chosen), script.rounds, script.seconds)
    elif script.what == "imagination":
        result = measure_imagination(config, script.rounds, script.seconds)
    else:
        result = measure_updates(config, script.rounds, script.seconds)
    print(to_json(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
