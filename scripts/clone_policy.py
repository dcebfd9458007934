"""Teach a policy of pixels what a policy of states does: ``python scripts/clone_policy.py run=RUN camera.size=48``.

The student sees the task through cameras (camera.*, perception=) and learns the actions that the run's agent would take
there, first where the teacher goes, then where it goes itself (dataset aggregation, Ross, Gordon and Bagnell 2011,
arXiv:1011.0686). network= is one of the vision catalogue that ends in numbers; its own numbers are conv.<key>.

Written is one file, output=, default RUN/pixels.safetensors, which ``evaluate_agent.py run=FILE`` takes. The last line
printed is JSON: mean returns of student, teacher and random actions over the same starts, what the student kept of the
teacher's over random, seconds.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agents.assembly import make_evaluation_env, prepare_torch
from agents.loading import PolicyConfig, load_policy
from agents.plain import Teacher
from agents.policy_file import SUFFIX, is_policy_file, save_policy
from envs.evaluation.policy_task import PolicyTask
from envs.evaluation.recipe import policy_base
from envs.evaluation.subject import Subject
from envs.evaluation.transform import TeachConfig, teach
from envs.perception.catalogue import PERCEPTIONS
from envs.perception.weights import choose_perceivers
from rlsuite.cli import as_started, command, positional, typed
from rlsuite.config.build import build, nested
from rlsuite.config.camera import CameraConfig
from rlsuite.config.compose import plain_values
from rlsuite.config.help import describe
from rlsuite.config.imports import trusted_arguments
from rlsuite.config.schema import TrainConfig
from rlsuite.errors import require, require_threads
from rlsuite.fit import FitConfig
from rlsuite.methods import Method, choose, split_numbers
from rlsuite.nn.action_range import ActionRange
from rlsuite.nn.picture_policy import PicturePolicy, PicturePolicyConfig, build_picture_policy
from rlsuite.nn.vision import NETWORKS
from rlsuite.records.files import require_writable
from rlsuite.records.json_text import to_json
from rlsuite.running.seeding import JUDGED_ON, derive_seed

# A policy needs to know where things are, which pooling away would lose: few channels, and all places kept.
CONV = {"conv.widths": [16, 32, 32]}
DEFAULTS = {
    "camera.size": 48,
    "fit.steps": 250,
    "fit.batch_size": 64,
    "fit.optimizer.learning_rate": 1e-3,
    "fit.schedule.kind": "cosine",
}


@dataclass(frozen=True, kw_only=True)
class CloneConfig(PolicyConfig):
    """How it is taught.

    Attributes:
        camera: what the student sees.
        states: pictures labelled in each round.
        num_envs: environments that they are taken in.
        rounds: of learning; from the second on the student also learns where it went itself.
        fit: each round of it.
        episodes: by which student and teacher are scored.
        seed: of everything.
        num_threads: threads of simulator and torch; 0 takes all cores.
        output: the file; default <run>/pixels.safetensors.
        overwrite: replace a file that is there.
    """

    camera: CameraConfig = field(default_factory=CameraConfig)
    states: int = 3200
    num_envs: int = 32
    rounds: int = 4
    fit: FitConfig = field(default_factory=FitConfig)
    episodes: int = 50
    seed: int = 0
    num_threads: int = 0
    output: str = ""
    overwrite: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("states", "num_envs", "rounds", "episodes"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require(self.camera.size > 0, "camera.size=0: the student sees pictures; use camera.size=48")
        require_threads(self.num_threads)
        require(
            not self.output or self.output.endswith(SUFFIX), f"output={self.output}: use a name that ends with {SUFFIX}"
        )


def _keys() -> str:
    """Return the keys with the defaults that hold here."""
    shown = build(CloneConfig, nested({**DEFAULTS, "run": ["RUN"]}))
    return "\n".join(describe(CloneConfig, skip=("run",), values=shown))


@command(_keys)
def main(arguments: list[str]) -> int:
    """Teach, score, write and print."""
    began = time.monotonic()
    script, network, perception = read_arguments(plain_values(positional(arguments, "run")))
    named = f"pretrained={script.pretrained}" if script.pretrained else f"run={script.run[0]}"
    policy = not script.pretrained and is_policy_file(script.run[0])
    require(not policy, f"{named}: a file is no agent; name a run directory")
    agent, run_config, checkpoint = load_policy(script)
    require(
        agent.facts.picture_shape is None, f"{named}: its agent sees pictures itself; name a run without camera.size"
    )
    path = Path(script.output) if script.output else checkpoint.parent.parent / f"pixels{SUFFIX}"
    require(script.overwrite or not path.exists(), f"output={path} is there; add overwrite=true, or choose another")
    require_writable(path)
    prepare_torch(dataclasses.replace(run_config, num_threads=script.num_threads))
    config = dataclasses.replace(run_config, camera=script.camera, perception=perception)
    task = pixel_task(config, Teacher(agent), script)
    subject = taught(task, network, script)
    found = scores(subject, run_config, script)
    about = {"clone": {"teacher": checkpoint.name, "network": network.name, **found}}
    save_policy(path, subject.module, subject.base, (), config, about)
    said = typed(path) + trusted_arguments(config)
    print(as_started(f"written to {path}; evaluate it with: python scripts/evaluate_agent.py run={said}"))
    print(to_json({**found, "seconds": round(time.monotonic() - began, 1), "output": str(path)}))
    return 0


def read_arguments(values: Mapping[str, Any]) -> tuple[CloneConfig, Method, tuple[Method, ...]]:
    """Return the script's numbers, the network and the perceivers that key -> value say."""
    named = values.get("perception") or []
    numbers, rest = split_numbers(values, PERCEPTIONS)
    own, rest = split_numbers(rest, NETWORKS)
    names = [str(name) for name in (named if isinstance(named, list | tuple) else [named])]
    name = str(rest.pop("network", "conv"))
    rest = {key: value for key, value in rest.items() if key != "perception"}
    script: CloneConfig = build(CloneConfig, nested({**DEFAULTS, **rest}))
    (network,) = choose(NETWORKS, [name], CONV | own if name == "conv" else own)
    return script, network, choose_perceivers(names, numbers)


def pixel_task(config: TrainConfig, teacher: Teacher, script: CloneConfig) -> PolicyTask:
    """Return the task of acting as the teacher does, from pictures."""
    return PolicyTask(
        functools.partial(make_evaluation_env, config, num_threads=script.num_threads, device="cpu"),
        teacher,
        teacher_sees="state",
        episodes=script.episodes,
        states=script.states,
        num_envs=script.num_envs,
        seed=derive_seed(script.seed, "clone"),
    )


def taught(task: PolicyTask, network: Method, script: CloneConfig) -> Subject:
    """Return a student that has learned."""
    env = task.make_env(1)
    channels, size, _ = env.single_observation_space.shape
    env.close()
    numbers = dataclasses.asdict(network.config)
    config = PicturePolicyConfig(
        network=network.name, channels=channels, size=size, action_size=len(task.low), numbers=numbers
    )
    module: PicturePolicy = build_picture_policy(config, seed=derive_seed(script.seed, "student"))
    module.action_range = ActionRange(task.low, task.high)
    example = task.source("train").tensors["input"][:1].clone()
    subject = Subject(module, example, task, policy_base(config), gained=frozenset({"policy"}))
    teach(subject, TeachConfig(fit=script.fit, rounds=script.rounds), derive_seed(script.seed, "teach"))
    return subject


def scores(subject: Subject, run_config: TrainConfig, script: CloneConfig) -> dict[str, float]:
    """Return the mean returns of student, teacher and random actions, and what was kept."""
    pixels = subject.task
    assert isinstance(pixels, PolicyTask)
    seen = functools.partial(make_evaluation_env, run_config, num_threads=script.num_threads, device="cpu")
    states = PolicyTask(seen, pixels.teacher, episodes=script.episodes, seed=pixels.seed)
    seed = derive_seed(script.seed, JUDGED_ON)
    student, teacher = pixels.score(subject.module, seed).mean(), states.score(states.teacher, seed).mean()
    kept = (student - states.floor) / (teacher - states.floor)
    return {"student": float(student), "teacher": float(teacher), "random": states.floor, "kept": float(kept)}


if __name__ == "__main__":
    sys.exit(main())
