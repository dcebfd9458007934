"""The suite from Python: train, resume, load, evaluate. What is typed at train_agent.py is said with the same keys.

    from agents import load, train

    run = train("td3", "Hopper", steps=100_000, run_dir="runs/hopper")
    print(run.evaluate(episodes=20).mean)
    action = load("runs/hopper").act(observation)

The environment is a task's name, ``"gymnasium:<id>"``, or an object: a Gymnasium environment, a class or function that
makes one, vector environments, or a function of num_envs that makes those (envs/adapters/given.py).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import envs
from agents.assembly import choose_device, load_agent, make_evaluation_env, prepare_torch
from agents.loading import PRETRAINED
from agents.pretrained import store
from agents.training import make_trainer, read_run, refuse_used, write_config
from envs.adapters import given
from rlsuite.agent import Agent
from rlsuite.config.compose import compose_train, foreign_hint, merge, own_task, quoted
from rlsuite.config.schema import TrainConfig, to_plain
from rlsuite.errors import UserError, require
from rlsuite.records.checkpoint import read_checkpoint, resolve_checkpoint
from rlsuite.records.files import claimed
from rlsuite.records.monitor import Monitor
from rlsuite.records.run_lock import RunLock
from rlsuite.running.seeding import JUDGED_ON, derive_seed
from rlsuite.running.signals import GracefulStop
from rlsuite.running.stored import stored_config
from rlsuite.running.training import Trainer
from rlsuite.scoring import Evaluation, evaluate
from rlsuite.title import default_run_dir

Callback = Callable[[int, str, Mapping[str, float]], object]


@dataclass(frozen=True)
class Trained:
    """A trained agent and what it was trained in.

    Attributes:
        agent: a torch module; agents/<name>.py says what it is made of.
        config: the run's.
        run_dir: where its checkpoints and log are.
        steps: environment steps it has learned from.
    """

    agent: Agent
    config: TrainConfig
    run_dir: Path
    steps: int

    def act(self, observation: np.ndarray | Tensor, *, explore: bool = False) -> Any:
        """Return the action for an observation, or the actions for a batch of them.

        Args:
            observation: (D,) or (N, D), as the environment gives it; pictures (C, H, W) or (N, C, H, W).
            explore: as in training; otherwise the policy's best.

        Returns:
            An array where an array came, a tensor where a tensor came, with a batch dimension if that had one.
        """
        space = self.agent.facts.observation_space
        dims = len(space.shape or ())
        rows = torch.as_tensor(observation, device=choose_device(self.config.device))
        require(
            rows.dim() in (dims, dims + 1) and tuple(rows.shape[rows.dim() - dims :]) == space.shape,
            f"an observation of shape {tuple(rows.shape)} came where {space.shape} is seen, or a batch of that",
        )
        rows = rows if rows.dtype == torch.uint8 else rows.float()
        actions = self.agent.act(rows if rows.dim() > dims else rows[None], explore)
        actions = actions if rows.dim() > dims else actions[0]
        return actions if isinstance(observation, Tensor) else actions.cpu().numpy()

    def evaluate(self, episodes: int = 20, seed: int = 0) -> Evaluation:
        """Score the policy as evaluate_agent.py does: one episode in each of as many environments, none seen before.

        Args:
            episodes: how many; vector environments that were given as an object have their own number.
            seed: of the episodes' starts.
        """
        env = self.make_env(episodes)
        try:
            return evaluate(
                lambda observation: self.agent.act(observation, False),
                env,
                seed=derive_seed(seed, JUDGED_ON),
                count_only=self.agent.count_only,
            )
        finally:
            env.close()

    def make_env(self, num_envs: int = 1, **overrides: Any) -> envs.VectorEnv:
        """Return environments as the agent is judged in, such as ``make_env(1, render_mode="rgb_array")``."""
        return make_evaluation_env(self.config, num_envs, **overrides)


def train(
    agent: str = "ace",
    env: Any = "Humanoid",
    *,
    run_dir: str | Path | None = None,
    callbacks: Sequence[Callback] = (),
    console: bool = True,
    settings: Mapping[str, Any] | None = None,
    **keys: Any,
) -> Trained:
    """Train a new agent, as ``train_agent.py agent=... env=...`` does, and return it.

    Ctrl-C saves and returns what there is; `resume` goes on from there.

    Args:
        agent: its name.
        env: a task's name, "gymnasium:<id>", "envpool:<id>", or an object, see above.
        run_dir: where checkpoints and the log go; None: under runs/, as on the command line.
        callbacks: each is called with (step, kind, numbers) whenever something is logged: kind "train" or "evaluate",
            numbers by the names of metrics.jsonl. One that returns False ends the training; it is saved first.
        console: show progress on standard output.
        settings: any keys of the command line, such as {"agent.discount": 0.98}.
        **keys: those without a dot, such as steps=100_000, seed=1, num_envs=16, preset="paper".

    Raises:
        UserError: what the command line would say, in one line.
    """
    require(isinstance(agent, str), f'agent={agent}: give its name, such as "td3", or "package.module:Class"')
    arguments, adapter = _environment(env)
    _require_mapping(settings)
    arguments = [f"agent={agent}", *arguments]
    chosen = {**keys, **(settings or {})}
    if (number := given.fixed_number(env)) is not None:
        chosen = {"num_envs": number, "evaluate.episodes": number, **chosen}
    arguments += [_argument(key, value) for key, value in chosen.items()]
    config, _ = compose_train(arguments)
    if adapter:
        config = dataclasses.replace(config, env=dataclasses.replace(config.env, adapter=adapter))
    with contextlib.ExitStack() as stack:
        folder = Path(run_dir) if run_dir else stack.enter_context(claimed(default_run_dir(arguments)))
        refuse_used(folder)
        prepare_torch(config)
        trainer = make_trainer(config, folder, stack)
        stack.enter_context(RunLock(folder))
        refuse_used(folder)
        write_config(config, folder)
        return _run(trainer, stack, callbacks, console, f"train({', '.join(arguments)})")


def resume(
    run_dir: str | Path,
    *,
    env: Any = None,
    callbacks: Sequence[Callback] = (),
    console: bool = True,
    imports: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    **keys: Any,
) -> Trained:
    """Go on with a run where its latest checkpoint left it, bit for bit, and return its agent.

    Args:
        run_dir: the run, or one of its checkpoints.
        env: where the run was trained on an object, that object again.
        callbacks: as `train` takes them.
        console: show progress on standard output.
        imports: packages that the run's env.id, such as package:Task-v0, may have imported.
        settings: keys to change, as on the command line.
        **keys: those without a dot, such as steps=200_000.

    Raises:
        UserError: what the command line would say, in one line.
    """
    _require_mapping(settings)
    _give_again(run_dir, env)
    arguments = [_argument(key, value) for key, value in {**keys, **(settings or {})}.items()]
    with contextlib.ExitStack() as stack:
        config, folder, checkpoint = read_run(Path(run_dir), lambda plain: merge(plain, arguments), stack, imports)
        prepare_torch(config)
        trainer = make_trainer(config, folder, stack, checkpoint)
        del checkpoint  # its tensors are its files: pruned ones would keep their place on the disk
        write_config(config, folder)
        return _run(trainer, stack, callbacks, console, f"resume({', '.join([str(run_dir), *arguments])})")


def load(
    run_dir: str | Path = "",
    *,
    pretrained: str = "",
    env: Any = None,
    device: str = "auto",
    imports: Sequence[str] = (),
) -> Trained:
    """Return the trained agent of a run, or of one of its checkpoints, or one that comes along with the suite.

    Args:
        run_dir: the run (its latest checkpoint) or a checkpoint's directory.
        pretrained: instead of it, the name of one that comes along, such as "Humanoid", or a file of
            export_agent.py; what only learning needs is untrained in it, and its run_dir is where a run of that name
            would be kept.
        env: where the run was trained on an object, that object again.
        device: auto, cpu or cuda.
        imports: packages that the run's env.id, such as package:Task-v0, may have imported.

    Raises:
        UserError: if there is no intact checkpoint, or it does not fit the config it names.
    """
    require(bool(run_dir) != bool(pretrained), "load() takes a run's directory, or pretrained= and a name")
    if pretrained:
        path = store.path_of(pretrained)
        found = store.load(path, device=device)
        return Trained(found.agent, found.config, PRETRAINED / path.stem, found.about["steps"])
    _give_again(run_dir, env)
    checkpoint = resolve_checkpoint(run_dir)
    agent, config = load_agent(checkpoint, device=device, imports=imports)
    return Trained(agent, config, checkpoint.parent.parent, int(checkpoint.name))


class _Watched(Monitor):
    """A log that tells others what it is told."""

    callbacks: Sequence[Callback] = ()
    stopped = False

    def record(
        self,
        step: int,
        kind: str,
        scalars: Mapping[str, float | Tensor],
        histograms: Mapping[str, Tensor] | None = None,
    ) -> dict[str, float]:
        values = super().record(step, kind, scalars, histograms)
        answers = [callback(step, kind, values) for callback in self.callbacks]
        self.stopped |= any(answer is False for answer in answers)
        return values


def _run(
    trainer: Trainer, stack: contextlib.ExitStack, callbacks: Sequence[Callback], console: bool, command: str
) -> Trained:
    config = trainer.config
    monitor = _Watched(
        trainer.run_dir,
        total_steps=config.steps,
        console=console,
        resume_step=trainer.resume_step,
        elapsed_s=trainer.elapsed_s,
        wandb=config.log.project if config.log.wandb else "",
    )
    stack.enter_context(monitor)
    monitor.callbacks = callbacks
    monitor.about_run(to_plain(config), command, trainer.commits, trainer.worker.steps)
    stop = stack.enter_context(GracefulStop())
    if trainer.run(monitor, lambda: stop.requested or monitor.stopped):
        monitor.run_ended(trainer.worker.steps)
    return Trained(trainer.agent, config, trainer.run_dir, trainer.worker.steps)


def _environment(env: Any) -> tuple[list[str], str]:
    """Return the arguments that name an environment, and the adapter of objects."""
    if not isinstance(env, str):
        return ["env=gymnasium", quoted("env.id", given.give(env))], given.PREFIX  # a class may be called Nan
    library, colon, name = env.partition(":")
    if not colon and own_task(f"env={env}") == f"env={env}" and (hint := foreign_hint(env, python=True)):
        raise UserError(f"unknown task '{env}'{hint}")
    return ([f"env={library}", f"env.id={name}"] if colon else [f"env={env}"]), ""


def _require_mapping(settings: object) -> None:
    require(
        settings is None or isinstance(settings, Mapping),
        f'settings={settings}: use a dict of keys, such as {{"agent.discount": 0.98}}',
    )


def _give_again(run_dir: str | Path, env: Any) -> None:
    if env is None:
        return
    config = stored_config(read_checkpoint(resolve_checkpoint(run_dir), parts=[]))
    stored = config["env"]
    require(
        stored["adapter"] == given.PREFIX,
        f"env=: {run_dir} was trained on {stored['id']}, which has a name; leave env out",
    )
    given.give(env, stored["id"])


def _argument(key: str, value: Any) -> str:
    """Return key=value in the command line's grammar."""
    if isinstance(value, Path):
        value = str(value)
    if isinstance(value, tuple):
        value = list(value)
    return f"{key}={value if isinstance(value, str) else json.dumps(value)}"
