"""Validated, frozen configuration: plain data comes in, dataclasses go out; OmegaConf never passes this door."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlsuite import methods
from rlsuite.agent_registry import agent_class, refuse_target
from rlsuite.config.build import build
from rlsuite.config.camera import CameraConfig
from rlsuite.errors import UserError, require, require_finite, require_threads
from rlsuite.methods import Method
from rlsuite.replay.config import ReplayConfig

MOST_ENVS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """Checkpoints.

    Attributes:
        every: environment steps between checkpoints; the end of a run always has one.
        keep: newest checkpoints kept whole, with replay and simulators, to resume from.
        keep_agents: older ones of which only the agent is kept, for snapshot ensembles and evaluation.
    """

    every: int = 50_000
    keep: int = 2
    keep_agents: int = 10


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Evaluation while training.

    Attributes:
        every: environment steps between evaluations; 0 never.
        episodes: episodes each, one environment an episode.
        clip_every: evaluations between two whose first episode is shown in TensorBoard as a clip, where the task can be
            drawn; 0 never.
    """

    every: int = 25_000
    episodes: int = 10
    clip_every: int = 10


@dataclass(frozen=True, kw_only=True)
class LogConfig:
    """The log.

    Attributes:
        every: environment steps between records of TensorBoard, metrics.jsonl and the progress table.
        wandb: whether Weights & Biases is told, too; log=wandb says the same.
        project: what the run is listed under there.
    """

    every: int = 2_000
    wandb: bool = False
    project: str = "rlsuite"

    def __post_init__(self) -> None:
        require(bool(self.project.strip()), "log.project= is empty; name a project of Weights & Biases")


@dataclass(frozen=True, kw_only=True)
class EnvConfig:
    """Which environment, with which options.

    Attributes:
        id: environment id, such as rlsuite/Humanoid or, behind an adapter, Pendulum-v1.
        adapter: "" for the suite's own, "gymnasium" or "envpool"; "python" for an object given in Python.
        options: the environment's own options; on the command line env.<option>=<value>.
    """

    id: str
    adapter: str = ""
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("num_envs", "num_threads", "device"):
            value = self.options.get(name)
            require(
                name not in self.options, f"env.{name}={value}: this is no option of the task; write {name}={value}"
            )

    @property
    def is_object(self) -> bool:
        """Whether it was given in Python and has no name that a command could say."""
        return self.adapter == "python"

    @property
    def typed(self) -> str:
        """How a command line names it."""
        return f"env={self.adapter} env.id={self.id}" if self.adapter else f"env={self.id.removeprefix('rlsuite/')}"

    @property
    def full_id(self) -> str:
        """The id that envs.make_vector takes."""
        return f"{self.adapter}:{self.id}" if self.adapter else self.id

    @property
    def name(self) -> str:
        """A short name for run directories."""
        return self.id.rpartition("/")[2]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A training run.

    Attributes:
        agent: the agent's own config, one of its frozen dataclasses.
        agent_name: what agent= said, a name or package.module:Class.
        env: which environment.
        steps: environment steps, counted over all environments.
        seed: of everything.
        num_envs: environments stepped together.
        num_threads: threads of the simulator and of torch; 0 takes all cores.
        device: auto, cpu or cuda: where agent and replay live.
        train_ratio: gradient updates for each environment step.
        updates_per_episode: gradient updates for each episode ended, on top of train_ratio.
        learning_starts: environment steps before the first update.
        warmup_episodes: episodes ended before the first update.
        warmup_random: act uniformly at random until the first update instead of asking the agent.
        overlap: update beside the environments' next step, whose actions are then one round of updates older.
        camera: pictures in place of the task's own observations.
        perception: what is made of them before the agent sees them, by name, such as [interpolation/rife]; each one's
            numbers are rife.<key>.
        replay: the replay.
        checkpoint: checkpoints.
        evaluate: evaluation while training.
        log: the log.
    """

    agent: Any
    agent_name: str
    env: EnvConfig
    steps: int = 1_000_000
    seed: int = 0
    num_envs: int = 8
    num_threads: int = 0
    device: str = "auto"
    train_ratio: float = 1.0
    updates_per_episode: int = 0
    learning_starts: int = 5_000
    warmup_episodes: int = 0
    warmup_random: bool = True
    overlap: bool = False
    camera: CameraConfig = field(default_factory=CameraConfig)
    perception: tuple[Method, ...] = ()
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    log: LogConfig = field(default_factory=LogConfig)

    def __post_init__(self) -> None:
        require(self.steps >= 1, f"steps={self.steps}: use 1 or more")
        for name in (
            "seed",
            "updates_per_episode",
            "learning_starts",
            "warmup_episodes",
        ):
            require(getattr(self, name) >= 0, f"{name}={getattr(self, name)}: use 0 or more")
        require_threads(self.num_threads)
        require_finite("train_ratio", self.train_ratio, low=0.0)
        for name in ("train_ratio", "updates_per_episode"):  # beyond this a run would not come to its second step
            require(getattr(self, name) <= 1e6, f"{name}={getattr(self, name)}: use at most 1000000")
        require(
            not (self.overlap and self.updates_per_episode),
            f"overlap=true: updates_per_episode={self.updates_per_episode} come in long rounds that no step would hide;"
            " use overlap=false",
        )
        keep_agents = self.checkpoint.keep_agents
        require(keep_agents >= 0, f"checkpoint.keep_agents={keep_agents}: use 0 or more")
        require(self.device in ("auto", "cpu", "cuda"), f"device={self.device}: use auto, cpu or cuda")
        require(
            self.replay.device in ("auto", "cpu", "cuda"),
            f"replay.device={self.replay.device}: use auto, cpu or cuda",
        )
        require(self.replay.n_step >= 1, f"replay.n_step={self.replay.n_step}: use 1 or more")
        require(
            self.replay.capacity >= 2 * self.num_envs,
            f"replay.capacity={self.replay.capacity}: use at least {2 * self.num_envs}, twice num_envs",
        )
        require(self.checkpoint.every >= 1, f"checkpoint.every={self.checkpoint.every}: use 1 or more")
        require(self.checkpoint.keep >= 1, f"checkpoint.keep={self.checkpoint.keep}: use 1 or more")
        require(self.evaluate.every >= 0, f"evaluate.every={self.evaluate.every}: use 0 (never) or more")
        for name, count in (("num_envs", self.num_envs), ("evaluate.episodes", self.evaluate.episodes)):
            require(1 <= count <= MOST_ENVS, f"{name}={count}: use 1 to {MOST_ENVS}")
        clip_every = self.evaluate.clip_every
        require(clip_every >= 0, f"evaluate.clip_every={clip_every}: use 0 (never) or more")
        require(self.log.every >= 1, f"log.every={self.log.every}: use 1 or more")
        names = [method.name for method in self.perception]
        require(
            self.camera.size > 0 or not names,
            f"perception={names}: there are no pictures to perceive; add camera.size=64",
        )
        require(
            self.camera.size > 0 or self.camera == CameraConfig(),
            "camera: its keys are read with camera.size= alone; add camera.size=64, or leave them out",
        )
        require(bool(self.env.id), "env.id is missing; say which, for example env=gymnasium env.id=Pendulum-v1")


def train_config(plain: Mapping[str, Any]) -> TrainConfig:
    """Build a TrainConfig from nested plain data as YAML gives it.

    The agent's name decides whose numbers they are; what older runs recorded beside it, an import path, is read over.

    Raises:
        UserError: for an unknown agent or key, a value of the wrong type, or one out of range.
    """
    plain = dict(plain)
    for group, keys in {"agent": ("name",), "env": ()}.items():
        value = plain.get(group)
        if not isinstance(value, Mapping) or any(key not in value for key in keys):
            raise UserError(f"{group}={value}: the configuration names no {group}; use {group}=<name>")
    if "agent_name" in plain:
        raise UserError("unknown key 'agent_name'; use agent=<name>")
    agent, env = dict(plain.pop("agent")), dict(plain.pop("env"))
    name = str(agent.pop("name"))
    refuse_target(agent.pop("target", None))
    # Options written flat, env.reset_noise_scale=0.1, are gathered; the environment itself checks them.
    options = env.pop("options", None) or {}
    if not isinstance(options, Mapping):
        raise UserError(f"env.options={options}: this is a group of keys; use env.<option>=<value>")
    options = dict(options)
    options |= {key: env.pop(key) for key in list(env) if key not in ("id", "adapter")}
    env.setdefault("id", "")
    plain["perception"] = _perception(plain.get("perception") or ())
    return build(
        TrainConfig,
        plain
        | {
            "agent": build(agent_class(name).Config, agent, "agent."),
            "agent_name": name,
            "env": {**env, "options": options},
        },
    )


def _perception(entries: Any) -> tuple[Method, ...]:
    """Return configured perceivers, as they are or from the plain data of a file."""
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        raise UserError(f"perception={entries}: use a list of names, such as [interpolation/rife]")
    if all(isinstance(entry, Method) for entry in entries):
        return tuple(entries)
    return methods.from_plain(methods.room("perception").catalogue, entries)


def to_plain(config: TrainConfig) -> dict[str, Any]:
    """Return nested plain data that train_config turns back into `config`; this is what config.yaml holds."""
    plain = _plain(dataclasses.asdict(config))
    plain["perception"] = methods.to_plain(config.perception)
    plain["agent"] = {"name": plain.pop("agent_name"), **plain["agent"]}
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(entry) for entry in value]
    return value


ABSENT = object()


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Return key -> (old value or ABSENT, new value) where two plain configs differ, keys dotted."""
    found: dict[str, tuple[Any, Any]] = {}
    for name, value in new.items():
        before = old.get(name, ABSENT)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            found |= differences(before, value, f"{prefix}{name}.")
        elif value != before:
            found[prefix + name] = before, value
    return found


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return what differs between two plain configs in words, such as "num_envs=3 (it was 4)".

    Keys that the old one lacks, written by an older version, are left out.
    """
    found = differences(old, new)
    return [f"{key}={value} (it was {before})" for key, (before, value) in found.items() if before is not ABSENT]
