"""The training loop: collect, update, log, evaluate, checkpoint; and continue from any checkpoint, bit for bit."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from rlsuite.action_space import ActionLimits
from rlsuite.agent import Agent
from rlsuite.cli import typed
from rlsuite.config.imports import trusted_arguments
from rlsuite.config.schema import TrainConfig, to_plain
from rlsuite.distributed import rank_seed, ranks
from rlsuite.errors import BrokenEnvironmentError, FailedTransitionsError, NonFiniteActionError, UserError
from rlsuite.experiment import commit
from rlsuite.records.checkpoint import Checkpoint
from rlsuite.records.monitor import Monitor, check_finite
from rlsuite.records.postmortem import save_postmortem
from rlsuite.records.video import why_no_clip
from rlsuite.replay.buffer import Batch, Transition
from rlsuite.replay.sampler import Replay
from rlsuite.running.cuda_graph import update_on
from rlsuite.running.rollout import RolloutWorker
from rlsuite.running.saving import load, save
from rlsuite.running.seeding import WATCHED_ON, derive_seed
from rlsuite.running.shares import share_of
from rlsuite.scoring import cut_note, evaluate
from rlsuite.vector_env import VectorEnv

SaveFailure = Callable[[Any, Path], str]
CLIP_STEPS = range(0, 300, 6)  # of an evaluation's first episode: fifty pictures at most


class Trainer:
    """One training run, from its first step or from a checkpoint.

    Args:
        config: the run.
        run_dir: where checkpoints, log and failure records go.
        env: the training environments.
        agent: who learns.
        make_evaluation_env: returns environments for evaluation, one an episode; made when first needed.
        save_failure: writes an environment's failure record under a path and returns how to replay it.
        checkpoint: continue from this one.

    Raises:
        UserError: if the replay does not fit in memory.
    """

    def __init__(
        self,
        config: TrainConfig,
        run_dir: Path,
        env: VectorEnv,
        agent: Agent,
        *,
        make_evaluation_env: Callable[[], VectorEnv],
        save_failure: SaveFailure,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self.config, self.run_dir, self.env, self.agent, self.ranks = config, run_dir, env, agent, ranks()
        self.make_evaluation_env, self.save_failure = make_evaluation_env, save_failure
        self.evaluation_env: VectorEnv | None = None
        self._last_failure = ""  # what was said of the last simulation that failed
        self._no_clips = False  # this machine cannot draw
        self.worker = RolloutWorker(env, agent, seed=derive_seed(config.seed, "environment"))
        self.replay = self._make_experience()
        self.updates = 0
        self.updates_at_start = 0  # updates done when learning began, or when its rate was changed on resume
        self.elapsed_s = 0.0
        self.evaluation_s = 0.0  # the part of it that went into evaluations
        self.episodes_at_start = 0  # episodes ended when learning began
        self.steps_at_start: int | None = None  # environment steps when learning began
        self.commits = [commit()]  # of the source that has trained this, in turn: a resumed run may have several
        self.metrics: dict[str, Tensor] = {}
        self.batch: Batch | None = None
        self.saved_state: tuple[int, int] | None = None  # steps and updates that the newest checkpoint is of
        if checkpoint is not None:
            load(self, checkpoint)
        # Of several ranks the gradients are exchanged on the way, which is not recorded.
        self.update = update_on(self.worker.observation.device, agent) if self.ranks.alone else agent.update
        self.resume_step = None if checkpoint is None else checkpoint.step
        self.continued_from = self.resume_step  # until the first checkpoint since

    def _make_experience(self) -> Replay:
        """Return where transitions go and come from."""
        config, env = share_of(self.config, self.ranks.size), self.env
        replay = Replay(
            config.replay,
            self.worker.observation,
            ActionLimits(env.single_action_space).example(env.num_envs),
            discount=config.agent.discount,
            seed=rank_seed(derive_seed(config.seed, "replay")),
            agent_device=self.worker.observation.device,
            goals=env.goals,
            constant_columns=env.constant_columns,
            mirror=env.mirror if config.replay.mirrored else None,
            num_members=self.agent.sample_size // config.agent.batch_size,
        )
        replay.check_size(self.agent.sample_size)
        return replay

    # -- the loop -----------------------------------------------------------------------------------------

    def run(self, monitor: Monitor, should_stop: Callable[[], bool] = lambda: False) -> bool:
        """Train until the configured steps are done or `should_stop()` says so; the end is always saved.

        Returns:
            True if the run is finished, False if it was stopped.

        Raises:
            UserError: if a loss goes non-finite (a record is left), or the checkpoint cannot be written.
        """
        try:
            self._run(monitor, should_stop if self.ranks.alone else lambda: self.ranks.any(should_stop()))
        except NonFiniteActionError as error:  # met by an environment before a log met the loss
            self._leave_record(["action"])
            raise UserError(f"{error} (step {self.worker.steps})") from None
        except FailedTransitionsError as error:
            why = f"; the last failure: {self._last_failure}" if self._last_failure else ""
            raise UserError(f"{error}{why}") from None
        except BrokenEnvironmentError as error:
            raise UserError(f"{error}{self._save_before_end(monitor)}") from None
        return self.worker.steps >= self.config.steps and not self.busy

    def _save_before_end(self, monitor: Monitor) -> str:
        """Keep what has been learned when an environment broke; return how to go on, as the end of a sentence.

        A single rank of several cannot save: the others are at work.
        """
        self._note_failures(monitor, self.env, "environment")
        if self.evaluation_env is not None:
            self._note_failures(monitor, self.evaluation_env, "evaluation")
        steps = self.worker.steps
        if not self.ranks.alone:
            return ""
        if steps != (self.resume_step or 0):
            self._log(monitor)
            save(self, monitor)
        go_on = f"python scripts/train_agent.py resume={typed(self.run_dir)}{trusted_arguments(self.config)}"
        if self.config.env.is_object:
            go_on = f"agents.resume({str(self.run_dir)!r}, env=...)"
        return f" (saved at step {steps}; to continue: {go_on})" if steps else ""

    @property
    def busy(self) -> bool:
        """Whether work on what has been collected is left that would change the agent: updates that are due."""
        return self.steps_at_start is not None and self.updates < self._updates_due()

    def _run(self, monitor: Monitor, should_stop: Callable[[], bool]) -> None:
        config, worker = self.config, self.worker
        if config.evaluate.every and self.ranks.leads:
            began = time.perf_counter()
            self.evaluation_env = self.make_evaluation_env()  # now, so that what is wrong with it costs no training
            self.evaluation_env.reset(seed=derive_seed(self.config.seed, WATCHED_ON))
            self.evaluation_s += time.perf_counter() - began
        self._begin_interval()
        was_busy = self.busy
        if self.steps_at_start is not None:
            self._update(should_stop)  # what was still due when the run was stopped
        saved = self.saved_state
        if was_busy and not self.busy and self._evaluation_due(worker.steps - config.num_envs):
            self._evaluate(monitor)  # the stop left it out
        while worker.steps < config.steps and not should_stop():
            before = worker.steps
            self._collect(monitor)
            self._update(should_stop)
            finished = worker.steps >= config.steps and not should_stop()
            if finished or _crossed(before, worker.steps, config.log.every):
                self._log(monitor)
            if self._evaluation_due(before) and not self.busy:
                self._evaluate(monitor)
            if finished or _crossed(before, worker.steps, config.checkpoint.every):
                saved = save(self, monitor)
        if saved != (worker.steps, self.updates):  # stopped between two checkpoints, or only now at its end
            self._log(monitor)
            save(self, monitor)

    def _evaluation_due(self, before: int) -> bool:
        """Say whether the steps since `before` end the run, or cross a multiple of evaluate.every."""
        every, steps = self.config.evaluate.every, self.worker.steps
        return every > 0 and (steps >= self.config.steps or _crossed(before, steps, every))

    def _collect(self, monitor: Monitor) -> None:
        self._keep(self.worker.step(random=self.steps_at_start is None and self.config.warmup_random), monitor)

    def _keep(self, transition: Transition, monitor: Monitor) -> None:
        self.replay.add(transition)
        observation = self._fresh_observations()
        if observation is not None:
            self.agent.observe_relabelled(observation)
        self._note_failures(monitor, self.env, "environment")

    def _fresh_observations(self) -> Tensor | None:
        """Return relabelled observations of whole episodes: none, but not None, where only other ranks have some."""
        found = self.replay.fresh_observations()
        if self.ranks.alone or self.config.replay.hindsight.strategy == "none" or not self.ranks.any(found is not None):
            return found
        return self.worker.observation[:0] if found is None else found

    def _note_failures(self, monitor: Monitor, env: VectorEnv, name: str) -> None:
        for failure in env.failures:
            number = failure.env_index + self.ranks.first(self.config.num_envs) * (env is self.env)
            path = self.run_dir / "failures" / f"{name}{number}-step{self.worker.steps}"
            self._last_failure = failure.message
            monitor.note(f"{failure.message}; {self.save_failure(failure, path)}")
        env.failures.clear()

    def _update(self, should_stop: Callable[[], bool]) -> None:
        config, worker = self.config, self.worker
        if self.steps_at_start is None:
            if worker.steps < config.learning_starts or worker.episodes < config.warmup_episodes:
                return
            if not self.ranks.all(len(self.replay) > 0):
                return
            self.count_updates_from_here()
        due = self._updates_due()
        if self.updates < due:
            self.agent.anneal(worker.steps / config.steps)
        while self.updates < due and not should_stop():
            self.batch = self.replay.sample(self.agent.sample_size)
            metrics = self.update(self.batch)
            self.replay.update_priorities(self.batch.index, metrics.pop("td_error"))
            self.metrics |= metrics
            self.updates += 1

    def _updates_due(self) -> int:
        """Return how many updates the steps and episodes so far call for; learning has begun."""
        config, worker = self.config, self.worker
        assert self.steps_at_start is not None
        due = self.updates_at_start + int(config.train_ratio * (worker.steps - self.steps_at_start))
        if config.updates_per_episode:  # `episodes` is a transfer from the device
            due += config.updates_per_episode * (worker.episodes - self.episodes_at_start)
        return due

    def count_updates_from_here(self) -> None:
        """Let the updates that are due be counted from this step on."""
        worker = self.worker
        self.steps_at_start, self.episodes_at_start, self.updates_at_start = worker.steps, worker.episodes, self.updates

    # -- log and evaluate -----------------------------------------------------------------------------------

    def _begin_interval(self) -> None:
        at = self.worker
        self._interval = (time.perf_counter(), at.steps, at.step_seconds, at.act_seconds)

    def leave_out(self, began: float) -> None:
        """Take the time since `began` out of the interval that steps per second are of."""
        start, *counts = self._interval
        self._interval = (start + time.perf_counter() - began, *counts)

    def _log(self, monitor: Monitor) -> None:
        worker = self.worker
        self.env.report()
        self._note_failures(monitor, self.env, "environment")
        began, steps, step_seconds, act_seconds = self._interval
        taken = worker.steps - steps
        stepping, acting = worker.step_seconds - step_seconds, worker.act_seconds - act_seconds
        values: dict[str, float | Tensor] = {"episodes": worker.episodes, "updates": self.updates, **worker.drain()}
        values["steps_per_second"] = taken / max(stepping, 1e-9)
        values["steps_per_second_act"] = taken / max(stepping + acting, 1e-9)
        values["steps_per_second_update"] = taken / max(time.perf_counter() - began, 1e-9)
        scalars, histograms = self._diagnostics()
        values |= self.ranks.means(self.metrics | scalars)
        recorded = monitor.record(worker.steps, "train", values, histograms)
        self.refuse_nonfinite(check_finite(recorded))
        self._begin_interval()

    def _diagnostics(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return what the agent has gathered since it was last asked: scalars and histograms."""
        found = self.agent.diagnostics()
        scalars = {name: value for name, value in found.items() if value.dim() == 0}
        return scalars, {name: value for name, value in found.items() if value.dim() > 0}

    def refuse_nonfinite(self, names: list[str]) -> None:
        """Raise UserError where these names of what is not finite are any, on any rank; leave a record of it."""
        if not self.ranks.any(bool(names)):
            return
        self._leave_record(names)
        if not self.ranks.alone:
            raise UserError("losses became non-finite on another rank; see what it said")

    def _leave_record(self, names: list[str]) -> None:
        if not names or self.batch is None:
            return
        path = save_postmortem(
            self.run_dir / "failures" / (f"rank{self.ranks.rank}" if self.ranks.rank else ""),
            step=self.worker.steps,
            seed=self.config.seed,
            names=names,
            agent=self.agent,
            batch=self.batch,
            config=to_plain(self.config),
        )
        replay = f"python scripts/replay_failure.py {typed(path)}{trusted_arguments(self.config)}"
        raise UserError(
            f"{', '.join(names)} became non-finite by step {self.worker.steps}; state, batch and seed are in {path}.*;"
            f" look at them with: {replay}"
        )

    def _evaluate(self, monitor: Monitor) -> None:
        if not self.ranks.leads:
            return
        began, train_s = time.perf_counter(), monitor.elapsed_s - self.evaluation_s
        if self.evaluation_env is None:
            self.evaluation_env = self.make_evaluation_env()
        self.agent.diagnostics()  # what training gathered is not the evaluation's
        frames: list[np.ndarray] = []
        result = evaluate(
            lambda observation: self.agent.act(observation, False),
            self.evaluation_env,
            seed=derive_seed(self.config.seed, WATCHED_ON),
            on_frame=frames.append if self._clip_due(monitor) else None,
            frame_steps=CLIP_STEPS,
            count_only=self.agent.count_only,
        )
        scalars, histograms = self._diagnostics()
        monitor.record(self.worker.steps, "evaluate", result.scalars() | {"train_s": train_s} | scalars, histograms)
        if frames:
            rate = getattr(self.evaluation_env, "metadata", {}).get("render_fps", 30) / CLIP_STEPS.step
            monitor.clip(self.worker.steps, "evaluation/clip", frames, rate)
        gallery = self.evaluation_env.gallery()
        if gallery is not None:
            monitor.image(self.worker.steps, "evaluation/gallery", gallery)
        self._note_failures(monitor, self.evaluation_env, "evaluation")
        if result.cut:
            monitor.note(cut_note(result))
        self.evaluation_s += time.perf_counter() - began
        self.leave_out(began)

    def _clip_due(self, monitor: Monitor) -> bool:
        """Say whether this evaluation is one of those that are filmed, and can be."""
        every, env = self.config.evaluate.clip_every, self.evaluation_env
        number = self.worker.steps // self.config.evaluate.every
        if not every or number % every or not number or self._no_clips or getattr(env, "render_mode", None) is None:
            return False
        if why := why_no_clip(env):
            self._no_clips = True
            monitor.note(f"no clips: {why}")
        return not why


def _crossed(before: int, after: int, every: int) -> bool:
    """Say whether a multiple of `every` lies in (before, after]."""
    return before // every != after // every
