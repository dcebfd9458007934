"""A search as a transform: it looks for an architecture, puts its network in, and lets that learn.

Its plan is the space and the architecture, so a file that was saved builds the network without searching again:

    {"space": "actor", "config": {...}, "ends": {"inputs": 17, "outputs": 6}, "architecture": [...]}

Of a plain policy the layers are replaced, normalizer and range stay, of a policy over pictures the network, and its
bounds stay; of any other network all.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn

from envs.evaluation.search.space import Architecture, Space
from envs.evaluation.subject import Subject
from envs.evaluation.tasks import Batch, Task
from envs.evaluation.transform import Transform, teach
from rlsuite.config.schema import build as build_config
from rlsuite.data.source import Source
from rlsuite.errors import UserError, near_matches, require
from rlsuite.methods import find_class
from rlsuite.nn.action_range import ActionRange
from rlsuite.nn.picture_policy import PicturePolicy
from rlsuite.nn.plain import PlainPolicy
from rlsuite.records.files import read_text, require_writable, write_atomically
from rlsuite.running.seeding import derive_seed

SPACES: dict[str, str] = {
    "actor": "envs.evaluation.search.spaces.code:ActorSpace",
    "atom": "envs.evaluation.search.spaces.chain:AtomSpace",
    "cell": "envs.evaluation.search.spaces.cell:CellSpace",
    "chain": "envs.evaluation.search.spaces.chain:ChainSpace",
    "light_chain": "envs.evaluation.search.spaces.light_chain:LightChainSpace",
    "counting": "envs.evaluation.search.spaces.counting:CountingSpace",
    "encoder": "envs.evaluation.search.spaces.code:EncoderSpace",
    "listed_chain": "envs.evaluation.search.spaces.graph_cell:ListedChainSpace",
    "multi_resolution": "envs.evaluation.search.spaces.multi_resolution:MultiResolutionSpace",
}

LARGEST_END = 2**20
MARK = "search.json"  # whose a folder is


class Search(Transform):
    """A search for the network that does a subject's task; a concrete one writes `find`.

    Its Config has `teach`, `seed` and whatever `space_of` needs.
    """

    refuses: ClassVar = {
        "quantized": "search first, then quantize what was found",
        "pruned": "search first, then prune what was found",
        "searched": "search once",
    }
    gives = frozenset({"searched"})
    space: Space  # once there is a plan

    def space_of(self, subject: Subject) -> tuple[str, Any]:
        """Return a name of SPACES and its config."""
        raise NotImplementedError

    def claim(self, ends: dict[str, Any]) -> None:
        """Mark the folder as this search's, or go on with what is there.

        Raises:
            UserError: if it is another search's: of other numbers, such as a budget or a space, or between other ends.
        """
        if self.folder is None:
            return
        numbers = {name: value for name, value in dataclasses.asdict(self.config).items() if name != "teach"}
        mine = json.loads(json.dumps({"search": type(self).__name__, "ends": ends, **numbers}))
        path = self.folder / MARK
        if not path.exists():
            require_writable(path, "history")
            write_atomically(path, json.dumps(mine))
            return
        try:
            stored = json.loads(read_text(path))
        except ValueError:
            raise UserError(f"{path} is damaged; choose another folder") from None
        if stored != mine:
            differing = sorted(key for key in {*stored, *mine} if stored.get(key) != mine.get(key))
            raise UserError(f"{path} is of another search ({', '.join(differing)} differ); choose another folder")

    def find(self, subject: Subject, space: Space) -> Architecture:
        """Search. What `train` shall begin from may be kept on self: both are called on one object."""
        raise NotImplementedError

    def plan(self, subject: Subject) -> dict[str, Any]:
        """Return the space and the architecture that was found."""
        name, config = self.space_of(subject)
        ends = ends_of(subject)
        self.claim(ends)
        self.space = make_space(name, config, ends)
        architecture = list(self.find(subject, self.space))
        return {"space": name, "config": dataclasses.asdict(config), "ends": ends, "architecture": architecture}

    def rebuild(self, module: nn.Module, plan: Any) -> nn.Module:
        """Put the architecture's network in, its first weights always the same ones."""
        space, architecture = space_of_plan(plan)
        return replaced(module, space.build(architecture))

    def train(self, subject: Subject, before: Subject, seed: int) -> None:
        """Draw the first weights by the seed, and let the network learn from the start."""
        self.space.draw(network_of(subject.module), derive_seed(seed, "first weights"))
        teach(subject, self.config.teach, seed)


def make_space(name: str, config: Any, ends: dict[str, Any]) -> Space:
    """Return a space of SPACES between some ends."""
    return find_class(SPACES[name])(config, **ends)


def space_of_plan(plan: Any) -> tuple[Space, Architecture]:
    """Return what a plan names.

    Raises:
        UserError: if it is damaged, or names what is not there.
    """
    if not isinstance(plan, dict) or set(plan) != {"space", "config", "ends", "architecture"}:
        raise UserError("its plan is damaged: space and architecture are not said")
    name, ends, architecture = plan["space"], plan["ends"], plan["architecture"]
    if not isinstance(name, str) or name not in SPACES:
        raise UserError(f"its plan names an unknown space '{str(name)[:60]}'{near_matches(str(name), SPACES)}")
    sizes = [side for end in (ends.values() if isinstance(ends, dict) else [[None]]) for side in _listed(end)]
    if not all(type(side) is int and 1 <= side <= LARGEST_END for side in sizes):
        raise UserError("its plan is damaged: its ends are no sizes")
    if not isinstance(architecture, list) or not all(type(choice) is int for choice in architecture):
        raise UserError("its plan is damaged: its architecture is no list of whole numbers")
    config = build_config(find_class(SPACES[name]).Config, plan["config"], f"{name}.")
    try:
        space = make_space(
            name, config, {key: tuple(end) if isinstance(end, list) else end for key, end in ends.items()}
        )
    except (TypeError, ValueError):
        raise UserError(f"its plan is damaged: its ends are none of {name}") from None
    return space, space.check(tuple(architecture))


def coded_space(name: str, subject: Subject, actor: Any, encoder: Any) -> tuple[str, Any]:
    """Return the space, and its config, of codes for a subject: layers of a plain policy, or stages for pictures.

    Raises:
        UserError: if it is neither; `name` is the search's.
    """
    if isinstance(subject.module, PlainPolicy):
        return "actor", actor
    require(subject.example.dim() == 4, f"{name}: inputs are no pictures, and the network is no plain policy")
    return "encoder", encoder


def ends_of(subject: Subject) -> dict[str, Any]:
    """Return what comes into a network and goes out of it, as the spaces of such networks take it.

    Raises:
        UserError: if inputs are neither vectors nor pictures.
    """
    module = subject.module
    if isinstance(module, PlainPolicy):
        layers = [layer for layer in module.layers if isinstance(layer, nn.Linear)]
        return {"inputs": layers[0].in_features, "outputs": layers[-1].out_features}
    shape, outputs = tuple(subject.example.shape[1:]), int(subject.output().shape[-1])
    if len(shape) == 3:
        return {"channels": shape[0], "size": list(shape[1:]), "outputs": outputs}
    if len(shape) == 1:
        return {"inputs": shape[0], "outputs": outputs}
    raise UserError(f"inputs are of shape {list(shape)}; a network is searched for vectors or pictures")


def replaced(module: nn.Module, network: nn.Module) -> nn.Module:
    """Return a module with a network put in the place of what was searched for."""
    device = next((tensor.device for tensor in module.state_dict().values()), None)
    network = network if device is None else network.to(device)
    if isinstance(module, PlainPolicy):
        assert isinstance(network, nn.Sequential)
        module.layers = network
        return module
    if isinstance(module, PicturePolicy):
        module.network = network
        return module
    return network


def network_of(module: nn.Module) -> nn.Module:
    """Return what `replaced` put in."""
    if isinstance(module, PicturePolicy):
        return module.network
    return module.layers if isinstance(module, PlainPolicy) else module


class NetworkTask:
    """A policy's task as that of the network inside it, which a supernet stands for: its bounds are part of the loss.

    Args:
        task: of the policy.
        bounds: of actions.
    """

    interactive = False

    def __init__(self, task: Task, bounds: ActionRange) -> None:
        self.task, self.bounds, self.unit, self.box = task, bounds, task.unit, task.box

    @property
    def floor(self) -> float:
        """The policy's."""
        return self.task.floor

    def source(self, split: str) -> Source:
        """Return the policy's examples."""
        return self.task.source(split)

    def visited(self, module: nn.Module, seed: int) -> Source:
        """Return the policy's."""
        return self.task.visited(PicturePolicy(module, self.bounds), seed)

    def loss(self, module: nn.Module, batch: Batch) -> Tensor:
        """Return the error (B,) of the actions that the network leads to."""
        return self.task.loss(PicturePolicy(module, self.bounds), batch)

    def score(self, module: nn.Module, seed: int) -> np.ndarray:
        """Return the policy's scores (E,)."""
        return self.task.score(PicturePolicy(module, self.bounds), seed)


def network_task(subject: Subject) -> Task:
    """Return a subject's task as that of the network which `network_of` gives."""
    module = subject.module
    return NetworkTask(subject.task, module.action_range) if isinstance(module, PicturePolicy) else subject.task


def _listed(end: Any) -> list[Any]:
    return end if isinstance(end, list) else [end]
