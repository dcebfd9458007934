"""Policies from run directories: one agent, or an ACE ensemble of members from runs, snapshots, or both."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agents.ace import ACE, ACEConfig
from agents.actor_critic import ActorCritic
from agents.assembly import load_agent
from rlsuite.config.schema import TrainConfig
from rlsuite.errors import UserError, require
from rlsuite.records.checkpoint import list_checkpoints, resolve_checkpoint

SOURCES = ("latest", "runs", "snapshots", "mixed")


def member_checkpoints(runs: Sequence[str], source: str, num_members: int) -> list[Path]:
    """Return the checkpoints members come from (arXiv:1712.08987).

    Args:
        runs: run directories.
        source: "runs" (the latest of each run), "snapshots" (the last ones of one run) or "mixed" (the last
            ones of every run, as many of each).
        num_members: how many in all; 0 means every one there is.

    Raises:
        UserError: if there are fewer than asked for.
    """
    if source == "runs":
        found = [resolve_checkpoint(run) for run in runs]
    elif source == "snapshots":
        require(len(runs) == 1, f"source=snapshots takes one run=, not {len(runs)}; use source=mixed for several")
        found = _history(runs[0])
    else:
        histories = [_history(run) for run in runs]
        depth = min(len(history) for history in histories)
        found = [history[age] for age in range(depth) for history in histories]
    if not found or num_members > len(found):
        raise UserError(
            f"source={source} finds {len(found)} checkpoints and num_members={num_members} are asked for; "
            "name more runs, or train with a larger checkpoint.keep_agents"
        )
    return found[: num_members or len(found)]


def _history(run: str) -> list[Path]:
    """Return a run's checkpoints, newest first; the run may be named by one of them, or by their folder."""
    return list_checkpoints(resolve_checkpoint(run).parent.parent)[::-1]


def load_ensemble(
    checkpoints: Sequence[Path],
    *,
    num_actors: int | None = None,
    num_critics: int | None = None,
    normalize_scores: bool | None = None,
    as_trained: bool = False,
    device: str = "auto",
    imports: Sequence[str] = (),
) -> tuple[ACE, TrainConfig]:
    """Return ACE over the pairs of several checkpoints, without further training.

    Args:
        checkpoints: of actor-critics (ACE or one of its relatives) of one task and one size.
        num_actors: x of AxCy; 0 means all.
        num_critics: y of AxCy; -1 means all.
        normalize_scores: see ACEConfig.
        as_trained: what of these three is None is taken from the first checkpoint's run, where that is of agent=ace;
            otherwise all actors and critics take part, their scores as they are.
        device: where it goes.
        imports: modules that the runs' env.id may have imported.

    Returns:
        The ensemble, and the config of the first checkpoint's run.

    Raises:
        UserError: if a checkpoint cannot be read or members do not fit together.
    """
    loaded = [load_agent(path, device=device, imports=imports) for path in checkpoints]
    config: TrainConfig = loaded[0][1]
    agents: list[Any] = [agent for agent, _ in loaded]
    for (agent, own), path in zip(loaded, checkpoints, strict=True):
        if type(agent) not in (ActorCritic, ACE):  # SHER's critics have not learned from each other
            raise UserError(
                f"{path} holds agent={own.agent_name}; an ensemble is made of ace, ddpg, flash_sac, her, sac and td3 "
                "agents"
            )
        if own.env != config.env:
            raise UserError(f"{path} was trained on {own.env.full_id}, the first member on {config.env.full_id}")
    shared = {entry.name: getattr(config.agent, entry.name) for entry in dataclasses.fields(config.agent)}
    chosen = {"num_actors": num_actors, "num_scoring_critics": num_critics, "normalize_scores": normalize_scores}
    for name, otherwise in {"num_actors": 0, "num_scoring_critics": -1, "normalize_scores": False}.items():
        if chosen[name] is None:
            chosen[name] = shared.get(name, otherwise) if as_trained else otherwise
    shared |= {"num_pairs": sum(agent.config.num_pairs for agent in agents), **chosen}
    return ACE.from_members(agents, ACEConfig(**shared)), config
