"""What evaluate_agent.py and export_policy.py share: from run=, source= and AxCy to a policy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.assembly import load_agent
from agents.members import SOURCES, load_ensemble, member_checkpoints
from agents.pretrained import store as pretrained
from rlsuite.config.schema import TrainConfig
from rlsuite.errors import require
from rlsuite.records.checkpoint import resolve_checkpoint

PRETRAINED = Path("runs/pretrained")


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """Which trained policy.

    Attributes:
        run: run directory or checkpoint directory; several, with commas, for an ensemble.
        pretrained: instead of run=, an agent that comes along (evaluate_agent.py pretrained=list names them), or a file
            that export_agent.py wrote.
        source: latest (the run's newest checkpoint), or the ensemble's members: runs, snapshots, mixed.
        num_members: checkpoints taken into an ensemble (not with source=latest); 0 means all found.
        num_actors: actors of the ensemble that propose (x of AxCy); 0 means all, and so does leaving it out, but for
            source=latest, which then stays as it was trained. So do the next two.
        num_critics: critics of the ensemble that score (y of AxCy); -1 means all.
        normalize_scores: standardize each critic's scores before their mean; otherwise false.
        device: auto, cpu or cuda.
        agent: package.module:Class of the run's agent, where it is neither the suite's nor an installed package's.
        imports: packages that the run's env.id, such as package:Task-v0, may have imported; none is without it.
    """

    run: tuple[str, ...] = ()
    pretrained: str = ""
    source: str = "latest"
    num_members: int = 0
    num_actors: int | None = None
    num_critics: int | None = None
    normalize_scores: bool | None = None
    device: str = "auto"
    agent: str = ""
    imports: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require(
            bool(self.run) or bool(self.pretrained),
            "run= is missing; name a run directory, such as run=runs/..., or one that comes along: pretrained=list",
        )
        alone = not self.run and self.source == "latest" and self._as_it_is
        require(
            not self.pretrained or alone,
            f"pretrained={self.pretrained}: it is one agent as it was trained; leave out run=, source= and num_...=",
        )
        require(self.source in SOURCES, f"source={self.source}: use {', '.join(SOURCES)}")
        require(self.num_members >= 0, f"num_members={self.num_members}: use 0 (all found) or more")
        require(
            self.num_members == 0 or self.source != "latest",
            f"num_members={self.num_members}: source=latest is one checkpoint; add source=snapshots",
        )
        require(
            self.source == "latest" or all(run for run in self.run), "run= holds an empty name; leave out the comma"
        )
        require(
            self.source != "latest" or len(self.run) <= 1,
            "several runs make an ensemble; add source=runs or source=mixed",
        )

    @property
    def _as_it_is(self) -> bool:
        """Whether nothing is asked of an ensemble's parts."""
        return (self.num_actors, self.num_critics, self.normalize_scores) == (None, None, None)


def load_policy(config: PolicyConfig) -> tuple[Any, TrainConfig, Path]:
    """Return the agent, its run's config, and the (first) checkpoint it came from.

    Raises:
        UserError: if there is no intact checkpoint, or members do not fit together.
    """
    agent, run_config, checkpoint = _load(config)
    require(
        config.agent in ("", run_config.agent_name),
        f"agent={config.agent}: {checkpoint} is of agent={run_config.agent_name}; leave it out",
    )
    return agent, run_config, checkpoint


def _load(config: PolicyConfig) -> tuple[Any, TrainConfig, Path]:
    if config.pretrained:
        path = pretrained.path_of(config.pretrained)
        found = pretrained.load(path, device=config.device)
        # It has no run directory: what is written goes where one of its name would be.
        return found.agent, found.config, PRETRAINED / path.stem / "checkpoints" / str(found.about["steps"])
    if config.source == "latest":
        checkpoint = resolve_checkpoint(config.run[0])
        if config._as_it_is:
            return *load_agent(checkpoint, device=config.device, imports=config.imports), checkpoint
        checkpoints = [checkpoint]  # another AxCy of the run's own pairs
    else:
        checkpoints = member_checkpoints(config.run, config.source, config.num_members)
    ensemble, run_config = load_ensemble(
        checkpoints,
        num_actors=config.num_actors,
        num_critics=config.num_critics,
        normalize_scores=config.normalize_scores,
        as_trained=config.source == "latest",
        device=config.device,
        imports=config.imports,
    )
    return ensemble, run_config, checkpoints[0]
