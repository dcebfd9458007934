"""Train a Stable-Baselines3 agent under our evaluation: ``python scripts/train_peer.py peer=td3 env=HalfCheetah``.

The peer trains as its users run it: on Gymnasium's own environment, one at a time, with the library's default
hyperparameters; TD3 and DDPG explore with the normal noise of standard deviation 0.1 of its documentation (without
noise, the bare default, they hardly explore); TRPO is sb3-contrib's. DQN takes Discrete actions, PPO and TRPO take
those, too (env=gymnasium env.id=LunarLander-v3). Peers are evaluated as our agents are:
deterministic policy, one episode in each of evaluate.episodes environments of ours, on the seeds train_agent.py uses.
The run directory holds config.yaml and metrics.jsonl as ours do, so that plot_curves.py draws both. Evaluations do not
count in its train_s.

Keys: peer=ddpg|dqn|ppo|sac|td3|trpo, env=, env.<option>=, steps=, seed=, num_threads=, device=, run_dir=,
evaluate.every=, evaluate.episodes= as in train_agent.py; train_on=gymnasium, or rlsuite for our simulation of the task;
learning_starts=<steps> (default: the library's, 100; rl-baselines3-zoo uses 10000 on MuJoCo tasks; PPO and TRPO have
none).
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
import yaml

import envs
from agents.assembly import choose_device, make_evaluation_env, prepare_torch
from rlsuite.cli import as_started, command, typed
from rlsuite.config.compose import compose_train, plain_values
from rlsuite.config.schema import TrainConfig, to_plain
from rlsuite.errors import UserError, near_matches, require, require_choice
from rlsuite.extras import import_extra
from rlsuite.records.files import claimed, write_atomically
from rlsuite.records.monitor import Monitor
from rlsuite.records.run_lock import RunLock
from rlsuite.running.seeding import WATCHED_ON, derive_seed
from rlsuite.running.signals import GracefulStop
from rlsuite.scoring import evaluate

PEERS = ("ddpg", "dqn", "ppo", "sac", "td3", "trpo")
ON_POLICY = ("ppo", "trpo")
NOISY = ("ddpg", "td3")  # the others' policies explore by themselves
SIMULATIONS = ("gymnasium", "rlsuite")
NOISE_STD = 0.1
OWN_KEYS = ("peer", "train_on", "learning_starts")
SHARED_KEYS = ("env", "steps", "seed", "num_threads", "device", "run_dir", "evaluate.every", "evaluate.episodes")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PeerConfig:
    """A peer's run.

    Attributes:
        peer: one of PEERS.
        train_on: one of SIMULATIONS.
        learning_starts: random steps before learning; None takes the library's default.
        run: what a run of ours and of a peer have in common; its agent means nothing here.
        run_dir: "" for a name of its own.
    """

    peer: str
    train_on: str
    learning_starts: int | None
    run: TrainConfig
    run_dir: str = ""

    def __post_init__(self) -> None:
        require(bool(self.peer), f"peer= is missing; use {', '.join(PEERS)}")
        require_choice("peer", self.peer, PEERS)
        require_choice("train_on", self.train_on, SIMULATIONS)
        start = self.learning_starts
        require(
            start is None or (isinstance(start, int) and not isinstance(start, bool) and start >= 0),
            f"learning_starts={start}: use a whole number of 0 or more",
        )
        require(
            start is None or self.peer not in ON_POLICY,
            f"learning_starts={start}: peer={self.peer} learns from every rollout; leave it out",
        )
        require(self.run.evaluate.every >= 1, "evaluate.every=0: a peer is trained for its curve; use 1 or more")
        require(self.run.env.adapter != "envpool", "env=envpool: peers train on Gymnasium; use env=<task> of ours")
        goals = envs.has_goals(self.run.env.full_id)
        require(not goals, f"env={self.run.env.name}: peers train on tasks without goals, such as env=Hopper")

    @property
    def training_id(self) -> str:
        """The id for gymnasium.make."""
        env = self.run.env
        if env.adapter:
            return env.id
        return env.full_id if self.train_on == "rlsuite" else f"{env.name}-v5"


@command()
def main(arguments: list[str]) -> int:
    """Train, evaluate, write."""
    with GracefulStop() as stop:
        return train(read_arguments(arguments), stop)


def read_arguments(arguments: list[str]) -> PeerConfig:
    """Return the config that the command line describes.

    Raises:
        UserError: for an unknown key or a bad value.
    """
    values = plain_values(arguments)
    for key in values:
        if key not in (*OWN_KEYS, *SHARED_KEYS) and not key.startswith("env."):
            raise UserError(f"unknown key '{key}'{near_matches(key, (*OWN_KEYS, *SHARED_KEYS))}")
    shared = [argument for argument in arguments if argument.partition("=")[0] not in OWN_KEYS]
    run, keys = compose_train(["agent=ddpg", *shared])
    return PeerConfig(
        peer=str(values.get("peer", "")),
        train_on=str(values.get("train_on", "gymnasium")),
        learning_starts=values.get("learning_starts"),
        run=with_exact_contacts(run),
        run_dir=keys["run_dir"] or "",
    )


def with_exact_contacts(run: TrainConfig) -> TrainConfig:
    """Let the evaluation observe Gymnasium's contact forces, since the peer has learned from those."""
    env = run.env
    if env.adapter or "contact_forces" not in envs.task_options(env.id):
        return run
    return dataclasses.replace(run, env=dataclasses.replace(env, options={"contact_forces": "exact", **env.options}))


def train(config: PeerConfig, stop: GracefulStop) -> int:
    """Run SB3's own `learn` with our evaluation in it."""
    run = config.run
    default = f"runs/{run.env.name}-sb3-{config.peer}-s{run.seed}-{time.strftime('%Y%m%d-%H%M%S')}"
    with contextlib.nullcontext(Path(config.run_dir)) if config.run_dir else claimed(Path(default)) as folder:
        return train_in(folder, config, stop)


def train_in(folder: Path, config: PeerConfig, stop: GracefulStop) -> int:
    """Run it in a folder."""
    run = config.run
    if (folder / "config.yaml").exists():
        raise UserError(f"run_dir={folder} already holds a run, and a peer cannot be resumed; choose another run_dir=")
    prepare_torch(run)
    model = make_peer(config)
    evaluation_env = make_evaluation_env(run, run.evaluate.episodes)
    with RunLock(folder), Monitor(folder, total_steps=run.steps) as monitor:
        write_atomically(folder / "config.yaml", yaml.safe_dump(to_record(config, model), sort_keys=False))
        callback = make_callback(run, evaluation_env, monitor, stop)
        model.learn(run.steps, callback=callback, log_interval=None)
    model.get_env().close()
    evaluation_env.close()
    finished = "finished" if model.num_timesteps >= run.steps else "stopped (a peer cannot be resumed)"
    plot = f"python scripts/plot_curves.py runs={typed(folder)}"
    print(as_started(f"{finished} at step {model.num_timesteps}; next: {plot}"))
    return 0


def make_peer(config: PeerConfig) -> Any:
    """Return SB3's agent on its training environment.

    Raises:
        UserError: if the library is not installed, or there is no such environment.
    """
    library = "sb3_contrib" if config.peer == "trpo" else "stable_baselines3"
    peers = import_extra(library, f"peer={config.peer}")
    noise = import_extra("stable_baselines3.common.noise", f"peer={config.peer}").NormalActionNoise
    run = config.run
    options = dict(run.env.options)
    if config.train_on == "gymnasium" and not run.env.adapter:
        options.pop("contact_forces", None)  # ours only: Gymnasium's are always exact
    try:
        env = gymnasium.make(config.training_id, **options)
    except (gymnasium.error.Error, TypeError, ModuleNotFoundError) as error:
        raise UserError(f"{config.training_id}: {str(error).strip().splitlines()[0]}") from None
    check_actions(config, env.action_space)
    arguments: dict[str, Any] = {"seed": run.seed, "device": choose_device(run.device)}
    if config.learning_starts is not None:
        arguments["learning_starts"] = config.learning_starts
    if config.peer in NOISY:
        size = env.action_space.shape[-1]  # type: ignore[index]
        arguments["action_noise"] = noise(np.zeros(size), NOISE_STD * np.ones(size))
    return getattr(peers, config.peer.upper())("MlpPolicy", env, **arguments)


def check_actions(config: PeerConfig, space: gymnasium.Space) -> None:
    """Refuse a peer that cannot act in this space.

    Raises:
        UserError: where it cannot.
    """
    vectors, one_choice = isinstance(space, gymnasium.spaces.Box), isinstance(space, gymnasium.spaces.Discrete)
    able = one_choice if config.peer == "dqn" else vectors or config.peer in ON_POLICY
    other = f"peer={'sac' if vectors else 'dqn' if one_choice else 'ppo'}"
    require(able, f"peer={config.peer}: the actions of {config.training_id} are {space}; use {other}")


def to_record(config: PeerConfig, model: Any) -> dict[str, Any]:
    """Return what config.yaml holds."""
    import stable_baselines3

    plain = to_plain(config.run)
    return {
        "agent": {
            "name": f"sb3-{config.peer}",
            "library": f"stable_baselines3 {stable_baselines3.__version__}",
            "trained_on": config.training_id,
            "policy": "MlpPolicy",
            "action_noise_std": None if getattr(model, "action_noise", None) is None else NOISE_STD,
            "learning_rate": model.learning_rate,
            "learning_starts": getattr(model, "learning_starts", 0),
            "batch_size": model.batch_size,
            "networks": str(model.policy.net_arch),
        },
        "num_envs": 1,
        **{key: plain[key] for key in ("env", "steps", "seed", "num_threads", "device", "evaluate")},
    }


def make_callback(run: TrainConfig, env: envs.VectorEnv, monitor: Monitor, stop: GracefulStop) -> Any:
    """Return the callback that evaluates every run.evaluate.every steps and at the end, and ends on a signal."""
    from stable_baselines3.common.callbacks import BaseCallback

    class Evaluator(BaseCallback):
        """Evaluate between an update and the next environment step, where our own trainer does."""

        def _on_training_start(self) -> None:
            self.began, self.evaluation_s, self.evaluated_at = time.perf_counter(), 0.0, 0

        def _on_rollout_start(self) -> None:
            every = run.evaluate.every
            if self.num_timesteps // every != self.evaluated_at // every:
                self.measure()

        def _on_training_end(self) -> None:
            if self.evaluated_at < self.num_timesteps >= run.steps:  # not if a signal ended it
                self.measure()

        def _on_step(self) -> bool:
            return not stop.requested

        def policy(self, observation: torch.Tensor) -> torch.Tensor:
            action, _ = self.model.predict(observation.cpu().numpy(), deterministic=True)
            # Of Discrete actions the library gives (N,), one whole number for each environment.
            return torch.as_tensor(action, device=observation.device).reshape(len(observation), -1)

        def measure(self) -> None:
            paused = time.perf_counter()
            train_s = paused - self.began - self.evaluation_s
            result = evaluate(self.policy, env, seed=derive_seed(run.seed, WATCHED_ON))
            values = result.scalars() | {"train_s": train_s}
            monitor.record(self.num_timesteps, "evaluate", values)
            self.evaluated_at = self.num_timesteps
            self.evaluation_s += time.perf_counter() - paused

    return Evaluator()


if __name__ == "__main__":
    sys.exit(main())
