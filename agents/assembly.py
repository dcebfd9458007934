"""From a config to environments and an agent, and from a run directory back to its trained agent."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import envs
from rlsuite.agent import Agent
from rlsuite.agent_registry import agent_class
from rlsuite.config.imports import require_imports
from rlsuite.config.schema import TrainConfig, train_config
from rlsuite.distributed import ranks, threads_here
from rlsuite.errors import UserError
from rlsuite.records.checkpoint import read_checkpoint, resolve_checkpoint, unusable
from rlsuite.running.seeding import derive_seed
from rlsuite.running.shares import share_of
from rlsuite.running.stored import misfit, other_shapes, saved_ranks, stored_config, unfit
from rlsuite.vector_env import EnvironmentFacts


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
    torch.set_num_threads(config.num_threads or threads_here())
    # Adam's second moments of idle units sink into denormals, which x86 computes a hundred times slower.
    torch.set_flush_denormal(True)


def make_env(config: TrainConfig, num_envs: int, **overrides: Any) -> envs.VectorEnv:
    """Return `num_envs` environments of the configured task."""
    agent_class(config.agent_name).check_task(config)
    arguments = {
        "device": choose_device(config.device),
        "num_threads": config.num_threads or (0 if ranks().alone else threads_here()),
        "flat": True,
        "camera": config.camera,
        "perception": config.perception,
        **overrides,
    }
    return envs.make_vector(config.env.full_id, num_envs, **arguments, **config.env.options)


def make_evaluation_env(
    config: TrainConfig, num_envs: int, *, options: dict[str, Any] | None = None, **overrides: Any
) -> envs.VectorEnv:
    """Return `num_envs` environments to judge the run's agent in.

    Args:
        config: the run.
        num_envs: one an episode.
        options: of the task, over the run's; those that it has for evaluation follow from both, and yield to these.
        overrides: as `make_env` takes them.
    """
    asked = options or {}
    chosen = {**envs.evaluation_options(config.env.full_id, {**config.env.options, **asked}), **asked}
    env = dataclasses.replace(config.env, options=chosen)
    return make_env(dataclasses.replace(config, env=env), num_envs, **overrides)


def make_agent(config: TrainConfig, env: envs.VectorEnv, *, saved_by: int = 0) -> Agent:
    """Return a fresh agent for the environment: on one of several ranks, one for its share of the environments.

    Args:
        config: the run.
        env: environments of its task, any number.
        saved_by: of how many ranks it is to be one, where it is not of those that run now.

    Raises:
        UserError: if the environment is not such as the agent needs, or the agent cannot be shared by ranks.
    """
    check_fit(config, env)
    share = share_of(config, saved_by or ranks().size)
    return agent_class(config.agent_name).build(
        dataclasses.replace(EnvironmentFacts.of(env), num_envs=share.num_envs),
        share.agent,
        seed=derive_seed(config.seed, "agent"),
        device=choose_device(config.device),
    )


def check_fit(config: TrainConfig, env: envs.VectorEnv) -> None:
    """Raise UserError, naming the fix, where agent, environment and the rest of the config do not go together."""
    agent_class(config.agent_name).check(config, EnvironmentFacts.of(env))


def environment_facts(config: TrainConfig) -> EnvironmentFacts:
    """Return the facts of the run's environments, made once to look at."""
    env = _reference_env(config, device="cpu", num_threads=1)
    env.close()
    return dataclasses.replace(EnvironmentFacts.of(env), num_envs=config.num_envs)


def _reference_env(config: TrainConfig, **overrides: Any) -> envs.VectorEnv:
    """Return one of the run's environments, only to look at: on the engine that is always there."""
    options = envs.reference_options(config.env.options)
    env = dataclasses.replace(config.env, options=options)
    return make_env(dataclasses.replace(config, env=env), 1, **overrides)


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
    env = _reference_env(config)
    agent = make_agent(config, env, saved_by=saved_ranks(checkpoint))
    env.close()
    fresh = agent.state_dict()
    why = misfit("agent", fresh, checkpoint.parts["agent"])
    if why and config.env.adapter:  # its spaces are known to no config
        raise other_shapes(checkpoint.path, config.env, why)
    if why := why or unfit("agent", fresh, checkpoint.parts["agent"]):
        raise unusable(checkpoint.path, why, parts=["agent"])
    try:
        agent.load_state_dict(checkpoint.parts["agent"])
    except (RuntimeError, ValueError) as error:
        text = " ".join(str(error).split())
        raise UserError(f"{checkpoint.path} does not fit its configuration: {text[:200]}") from None
    return agent, config
