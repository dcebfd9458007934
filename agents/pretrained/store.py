"""Trained agents that come along, a file each: what the deterministic policy needs of a run's agent, and no more.

Which tensors that is, a trace of the policy says, so critics that choose among actors are kept and other critics are
not. Large matrices are halved to float16: the score in the file is that of the file's own weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from agents.assembly import environment_facts, make_agent, make_env, make_evaluation_env
from agents.export import Policy
from rlsuite.agent import Agent
from rlsuite.agent_registry import agent_class
from rlsuite.config.imports import module_of
from rlsuite.config.schema import TrainConfig, to_plain, train_config
from rlsuite.errors import UserError, near_matches, require
from rlsuite.running.seeding import JUDGED_ON, derive_seed
from rlsuite.scoring import Evaluation, evaluate
from rlsuite.weights_file import read_about, read_weights, write_weights

FOLDER = Path(__file__).parent
FORMAT = "rlsuite agent 1"
FIELDS = {"config": dict, "tensors": list, "halved": list, "steps": int, "returns": list, "seed": int}
LARGEST_WHOLE = 4096  # numbers of a tensor that is kept in its own format
SEED = 0  # of the episodes that the score in a file is of
EPISODES = 20


@dataclass(frozen=True)
class Pretrained:
    """A trained agent from a file.

    Attributes:
        agent: it acts without exploring; what only learning needs is untrained.
        config: of the run that trained it.
        about: steps, seed, returns of the episodes it was scored in, command, commits.
    """

    agent: Agent
    config: TrainConfig
    about: dict[str, Any]

    @property
    def mean(self) -> float:
        """The score in the file: the mean return of its episodes."""
        return sum(self.about["returns"]) / len(self.about["returns"])


def names() -> list[str]:
    """Return the names of the agents that come along."""
    return sorted(path.stem for path in FOLDER.glob("*.safetensors"))


def path_of(name: str) -> Path:
    """Return the file of an agent that comes along, by its name or by its task's, where that has one agent.

    A path that ends with .safetensors is one of the user's own (export_agent.py).

    Raises:
        UserError: if there is none of this name.
    """
    if name.endswith(".safetensors"):
        require(Path(name).is_file(), f"pretrained={name}: there is no such file; export_agent.py writes them")
        return Path(name)
    known = names()
    of_task = [known_name for known_name in known if known_name.rpartition("-")[0] == name]
    if name not in known and len(of_task) != 1:
        close = near_matches(name, known, only_close=True)
        raise UserError(f"pretrained={name}: there is none{close}; there are {', '.join(known)}")
    return FOLDER / f"{name if name in known else of_task[0]}.safetensors"


def summaries() -> list[str]:
    """Return a line for each agent that comes along: name, agent, steps, score."""
    lines = []
    for name in names():
        about = read_about(path_of(name))
        returns = about["returns"]
        lines.append(
            f"{name:24} {about['config']['agent']['name']}, {about['steps']:,} steps: "
            f"{sum(returns) / len(returns):,.1f} over {len(returns)} episodes"
        )
    return lines


def save(path: Path, agent: Agent, config: TrainConfig, *, steps: int, about: dict[str, Any]) -> Pretrained:
    """Write what an agent's policy needs, score that, and return it.

    Args:
        path: the file.
        agent: trained.
        config: of its run.
        steps: it has learned from.
        about: what else is said about it.

    Raises:
        UserError: if the agent has no deterministic policy, or the file cannot be written.
    """
    suited = not module_of(config.env) and not config.env.adapter
    require(suited, f"env.id={config.env.id}: an agent in a file of its own needs a task of the suite's")
    state, used = agent.state_dict(), _used(agent, config)
    halved = [name for name in used if _can_be_halved(state[name])]
    tensors = {name: state[name].half() if name in halved else state[name] for name in used}
    said = {
        **about,
        "config": to_plain(config),
        "tensors": used,
        "halved": halved,
        "steps": steps,
        "seed": config.seed + 1,  # whole numbers in a weights file begin at 1
        "returns": [0.0],
    }
    write_weights(path, tensors, said, format=FORMAT)
    kept = load(path)
    scored = score(kept)
    require(scored.failed == 0, f"the simulation failed in {scored.failed} episodes; nothing can be said of {path}")
    write_weights(path, tensors, {**said, "returns": [float(value) for value in scored.returns]}, format=FORMAT)
    return load(path)


def load(path: Path | str, *, device: str = "cpu") -> Pretrained:
    """Read a file that `save` wrote.

    Raises:
        UserError: if it cannot be read, or holds another kind of thing.
    """
    about, tensors = read_weights(
        path,
        format=FORMAT,
        fields=FIELDS,
        expected=_expected,
        refusal=lambda reason: f"{path}: no trained agent can be read from it ({reason}); pretrained=list has others",
    )
    config = train_config({**about["config"], "device": device})
    agent = _build(config)
    fresh = agent.state_dict()
    for name, tensor in tensors.items():
        fresh[name] = tensor.to(fresh[name].dtype)
    agent.load_state_dict(fresh)
    agent.policy_only = True
    return Pretrained(agent, config, {**about, "seed": about["seed"] - 1})


def score(pretrained: Pretrained, episodes: int = EPISODES, seed: int = SEED) -> Evaluation:
    """Return what evaluate_agent.py scores: one episode in each of as many environments."""
    env = make_evaluation_env(pretrained.config, episodes, num_threads=1)
    try:
        return evaluate(
            lambda observation: pretrained.agent.act(observation, False),
            env,
            seed=derive_seed(seed, JUDGED_ON),
            count_only=pretrained.agent.count_only,
        )
    finally:
        env.close()


def _build(config: TrainConfig) -> Agent:
    env = make_env(config, 1, num_threads=1)
    env.close()
    return make_agent(config, env)


def _expected(about: dict[str, Any]) -> dict[str, Tensor]:
    """Return the tensors that a file's description asks for; `read_weights` calls it under the device "meta"."""
    config = train_config({**about["config"], "device": "cpu"})
    require(not module_of(config.env) and not config.env.adapter, "its task is none of the suite's")
    require(":" not in config.agent_name, "its agent is none of the suite's")
    require(all(math.isfinite(value) for value in about["returns"]) and about["returns"], "its score is not finite")
    with torch.device("cpu"):
        state = agent_class(config.agent_name).build(environment_facts(config), config.agent).state_dict()
    unknown = [name for name in about["tensors"] if name not in state]
    require(not unknown, f"it names '{str(unknown[:1])[:60]}', which its agent has not")
    return {
        name: torch.empty(state[name].shape, dtype=torch.float16 if name in about["halved"] else state[name].dtype)
        for name in about["tensors"]
    }


def _used(agent: Agent, config: TrainConfig) -> list[str]:
    """Return the names of the agent's tensors that its deterministic policy reads."""
    env = make_env(config, 1, num_threads=1)
    observation, _ = env.reset(seed=0)
    env.close()
    example = observation[:, : env.goals.visible_size] if env.goals is not None else observation
    program = torch.export.export(Policy(agent).eval(), (example.expand(2, *example.shape[1:]),), strict=False)
    lifted = {**program.graph_signature.inputs_to_parameters, **program.graph_signature.inputs_to_buffers}
    read = {node.name for node in program.graph.nodes if node.op == "placeholder" and node.users}
    state = agent.state_dict()
    found = [name.removeprefix("agent.") for node, name in lifted.items() if node in read]
    missing = [name for name in found if name not in state]
    require(not missing, f"the policy reads {', '.join(missing)}, which is not in the agent's state")
    return sorted(found)


def _can_be_halved(tensor: Tensor) -> bool:
    return tensor.dtype == torch.float32 and tensor.numel() > LARGEST_WHOLE and bool(tensor.abs().max() < 1e4)
