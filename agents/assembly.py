"""From a config to environments and an agent, and from a run directory back to its trained agent."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import envs
from agents.painter.agent import check_renderer
from agents.painter.config import ModelFreePainterConfig, PainterConfig
from envs.painting.environment import PaintingVectorEnv
from rlsuite.config.imports import require_imports
from rlsuite.config.schema import TrainConfig, load_agent_class, train_config
from rlsuite.errors import UserError, require
from rlsuite.records.checkpoint import read_checkpoint, resolve_checkpoint, unusable
from rlsuite.replay.config import ReplayConfig
from rlsuite.running.seeding import derive_seed
from rlsuite.running.stored import misfit, stored_config, unfit

# Keys of TrainConfig that agents without a replay have no use for, and what they then have to be.
_DEFAULTS = {entry.name: entry.default for entry in dataclasses.fields(TrainConfig)}
UNUSED_ON_POLICY = {
    **{name: _DEFAULTS[name] for name in ("train_ratio", "updates_per_episode", "warmup_episodes")},
    "learning_starts": 0,
    "warmup_random": False,
    "replay": ReplayConfig(),
}


def choose_device(name: str) -> torch.device:
    """Return the device that auto, cpu or cuda means here.

    Raises:
        UserError: if cuda is asked for and there is none.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device=cuda: torch sees no CUDA device; use device=cpu, or install a CUDA build of torch")
    return torch.device(name)


def prepare_torch(config: TrainConfig) -> None:
    """Set the threads, and what makes torch on CPU fast and steady."""
    torch.set_num_threads(config.num_threads or os.cpu_count() or 1)
    # Adam's second moments of idle units sink into denormals, which x86 computes a hundred times slower.
    torch.set_flush_denormal(True)


def make_env(config: TrainConfig, num_envs: int, **overrides: Any) -> envs.VectorEnv:
    """Return `num_envs` environments of the configured task."""
    require(
        not isinstance(config.agent, PainterConfig) or config.env.name == "Painting",
        f"agent={config.agent_name} paints; use env=Painting",
    )
    arguments = {"device": choose_device(config.device), "num_threads": config.num_threads, "flat": True, **overrides}
    return envs.make_vector(config.env.full_id, num_envs, **arguments, **config.env.options)


def make_evaluation_env(
    config: TrainConfig, num_envs: int, *, options: dict[str, Any] | None = None, **overrides: Any
) -> envs.VectorEnv:
    """Return `num_envs` environments to judge the run's agent in.

    Args:
        config: the run.
        num_envs: one an episode.
        options: of the task, over the run's and over those that the task has for evaluation.
        overrides: as `make_env` takes them.
    """
    chosen = {**envs.evaluation_options(config.env.full_id, config.env.options), **(options or {})}
    env = dataclasses.replace(config.env, options=chosen)
    return make_env(dataclasses.replace(config, env=env), num_envs, **overrides)


def make_agent(config: TrainConfig, env: envs.VectorEnv) -> Any:
    """Return a fresh agent for the environment's sizes and bounds.

    Raises:
        UserError: if the environment is not such as the agent needs.
    """
    check_fit(config, env)
    arguments: dict[str, Any] = {} if env.goals is None else {"goals": env.goals}
    arguments |= task_knowledge(config, env)
    if isinstance(env, PaintingVectorEnv):
        arguments |= {"renderer": env.renderer, "episode_length": env.max_episode_steps}
    space, action_space = env.single_observation_space, env.single_action_space
    return load_agent_class(config.agent_target)(
        space.shape[0],
        torch.as_tensor(action_space.low),
        torch.as_tensor(action_space.high),
        config.agent,
        num_envs=config.num_envs,
        seed=derive_seed(config.seed, "agent"),
        device=choose_device(config.device),
        **arguments,
    )


def task_knowledge(config: TrainConfig, env: envs.VectorEnv | None = None) -> dict[str, Any]:
    """Return the task's known reward and angles for an agent that imagines, and {} for all others.

    Args:
        config: agent and task.
        env: environments of the task; None makes one to look at.
    """
    if not hasattr(config.agent, "dynamics"):
        return {}
    if env is None:
        env = make_env(config, 1, device="cpu", num_threads=1)
        env.close()
    return {"reward": env.known_reward, "angles": env.angles}


def check_fit(config: TrainConfig, env: envs.VectorEnv) -> None:
    """Raise UserError, naming the fix, where agent, environment and the rest of the config do not go together."""
    agent, name, limit = config.agent, config.agent_name, env.max_episode_steps
    _check_painting(config, env)
    named = "dense" if config.env.full_id.endswith("Dense") else "sparse"
    dense = config.env.options.get("reward_type", named) == "dense"
    hindsight = config.replay.hindsight.strategy != "none"
    require(
        not hindsight or env.goals is not None,
        f"replay.hindsight.strategy={config.replay.hindsight.strategy} is for tasks with goals; use one, such as "
        "env=FetchPush, or agent=ace",
    )
    require(
        not getattr(agent, "clip_targets", False) or (env.goals is not None and not dense),
        "agent.clip_targets=true is for the sparse rewards of tasks with goals, between -1 and 0; use "
        "agent.clip_targets=false",
    )
    require(
        not hindsight or limit is not None,
        "env.max_episode_steps=null: hindsight learns from whole episodes and none would end; use a limit",
    )
    if hindsight:
        needed = 2 * int(limit or 0) * config.num_envs  # a whole episode while the next one is written
        require(
            config.replay.capacity >= needed,
            f"replay.capacity={config.replay.capacity}: hindsight learns from whole episodes, of {limit} steps in "
            f"{config.num_envs} environments; use {needed} or more",
        )
    if hasattr(agent, "rollout_length"):
        for unused, default in UNUSED_ON_POLICY.items():
            require(
                getattr(config, unused) == default,
                f"{unused}: agent={name} learns from each rollout once and does not use it; leave it out",
            )
    if hasattr(agent, "dynamics"):
        require(
            env.known_reward is not None,
            f"agent={name} needs a task whose reward is a known function, such as env=FixedHorizonHalfCheetah, or one "
            "of your own with known_reward (docs/pombu.md)",
        )
        require(
            limit == agent.horizon,
            f"agent.horizon={agent.horizon}: the environment's episodes have {limit} steps; make them equal",
        )
        rollout = agent.horizon * config.num_envs
        require(
            agent.dynamics.capacity >= rollout,
            f"agent.dynamics.capacity={agent.dynamics.capacity}: one rollout has {rollout} steps; use that or more",
        )
        require(
            max(1, round(agent.dynamics.held_out * agent.horizon)) < agent.horizon,
            f"agent.dynamics.held_out={agent.dynamics.held_out}: of {agent.horizon} steps nothing is left to learn "
            "from; use less, or a longer agent.horizon",
        )
        require(
            config.steps <= rollout * agent.decay_iterations,
            f"agent.decay_iterations={agent.decay_iterations}: the learning rate would be 0 after "
            f"{rollout * agent.decay_iterations} steps; use {-(-config.steps // rollout)} or more",
        )
    if hasattr(agent, "rollout_length"):
        steps = agent.rollout_length * config.num_envs
        require(config.steps >= steps, f"steps={config.steps}: agent={name} learns every {steps}; use that or more")


def _check_painting(config: TrainConfig, env: envs.VectorEnv) -> None:
    painting, painter = isinstance(env, PaintingVectorEnv), isinstance(config.agent, PainterConfig)
    name = config.agent_name
    require(painter or not painting, f"agent={name} cannot read env=Painting; use agent=painter or painter_ddpg")
    if painter and not isinstance(config.agent, ModelFreePainterConfig):
        check_renderer(str(config.env.options.get("renderer", "soft")))
    if isinstance(env, PaintingVectorEnv) and getattr(config.agent, "patches", False):
        size = env.options.size
        require(size % 16 == 0, f"env.size={size}: agent.patches=true has patches of 16 pixels; use a multiple of 16")


def load_agent(path: str | Path, *, device: str = "auto", imports: Sequence[str] = ()) -> tuple[Any, TrainConfig]:
    """Return the trained agent of a run, or of one of its checkpoints, and the run's config.

    Args:
        path: a run directory (its latest checkpoint) or a checkpoint directory.
        device: where the agent goes.
        imports: modules that the run's env.id may have imported, as the command line names them.

    Raises:
        UserError: if there is no intact checkpoint, or it does not fit the config it names.
    """
    checkpoint = read_checkpoint(resolve_checkpoint(path), parts=["agent"])
    config = train_config({**stored_config(checkpoint), "device": device})
    require_imports(config.env, imports, checkpoint.path)
    env = make_env(config, 1)
    agent = make_agent(config, env)
    env.close()
    fresh = agent.state_dict()
    if why := misfit("agent", fresh, checkpoint.parts["agent"]) or unfit("agent", fresh, checkpoint.parts["agent"]):
        raise unusable(checkpoint.path, why, parts=["agent"])
    try:
        agent.load_state_dict(checkpoint.parts["agent"])
    except (RuntimeError, ValueError) as error:
        text = " ".join(str(error).split())
        raise UserError(f"{checkpoint.path} does not fit its configuration: {text[:200]}") from None
    return agent, config
