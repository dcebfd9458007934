"""AtomNAS: channels are priced by what they cost, and leave while a network learns (Mei et al. 2020).

arXiv:1912.09640. The search space is every hidden channel of every kernel of every block, kept or not; of a plain
policy, every hidden unit. One training of an oversized network decides and ends with weights that have learned
(`shrinking.py`, `atoms.py`).
There is no second training of a network of pictures; a policy that acts goes on learning from the states that it comes
to itself (`teach`).

Every block is searched, the first one, too; the paper leaves its first, of expansion 1, as it is. `atomnas.macs` is
met by bisection of rho, one training each: what a price means depends on the optimizer. The paper's ImageNet recipe
(RMSprop with epsilon inside the root, 350 epochs, label smoothing, batch normalization with momentum 0.01 and epsilon
1e-3) and its "+" networks (squeeze-excitation, Swish) are not here; blocks have ReLU, since the scale of a dead
channel must leave a constant.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import nn

from envs.evaluation.search.door import Search, coded_space, network_of, replaced
from envs.evaluation.search.shrinking import ShrinkConfig, Shrinking
from envs.evaluation.search.space import Architecture, Space
from envs.evaluation.search.spaces.chain import AtomSpace, ChainConfig, ChainNetwork, InvertedResidual
from envs.evaluation.search.spaces.code import ActorConfig, ActorSpace
from envs.evaluation.subject import Subject
from envs.evaluation.transform import TeachConfig, teach
from rlsuite.errors import UserError, require, require_finite
from rlsuite.nn.gate import gated, ungated
from rlsuite.running.seeding import derive_seed


@dataclass(frozen=True, kw_only=True)
class AtomNASConfig:
    """A search by shrinking.

    Attributes:
        macs: of the network at most; 0 takes what rho leads to.
        trials: trainings at most, each with another rho, for a budget.
        shrink: see ShrinkConfig; with a budget its rho is the first, and more than 0.
        space: the oversized network of pictures: all expansions but the largest are not used.
        actor: the oversized policy: `depth` layers of `largest` units; its `smallest` is the step between widths.
        seed: of first weights and learning.
        teach: how a policy that acts learns on after the search; no other network does.
    """

    macs: float = 0.0
    trials: int = 6
    shrink: ShrinkConfig = field(default_factory=ShrinkConfig)
    space: ChainConfig = field(default_factory=lambda: ChainConfig(kernels=(3, 5, 7), expansions=(6,)))
    actor: ActorConfig = field(default_factory=lambda: ActorConfig(depth=2, smallest=1))
    seed: int = 0
    teach: TeachConfig = field(default_factory=TeachConfig)

    def __post_init__(self) -> None:
        require_finite("macs", self.macs, low=0.0)
        require(self.trials >= 1, f"trials={self.trials}: use 1 or more")
        budget = f"shrink.rho={self.shrink.rho:g}: a budget is met by raising and lowering it; begin above 0"
        require(not self.macs or self.shrink.rho > 0.0, budget)
        require(self.seed >= 0, f"seed={self.seed}: use 0 or more")
        step = self.actor.smallest
        require(step == 1, f"actor.smallest={step}: use 1; units leave one by one")


class AtomNAS(Search):
    """The search as a transform."""

    Config = AtomNASConfig
    refuses: ClassVar = {**Search.refuses, "stacked": "search the policy of one actor"}
    config: AtomNASConfig

    def space_of(self, subject: Subject) -> tuple[str, Any]:
        """Return layers for plain policies, blocks for pictures."""
        name, config = coded_space("search/atomnas", subject, self.config.actor, self.config.space)
        return ("atom" if name == "encoder" else name), config

    def find(self, subject: Subject, space: Space) -> Architecture:
        """Train until the network fits the budget; the largest that does is taken."""
        config = self.config
        if config.macs:
            space.require_budget("atomnas.macs", config.macs)
        low, high, rho = 0.0, float("inf"), config.shrink.rho
        best = None
        for trial in range(config.trials if config.macs else 1):
            folder = None if self.folder is None else self.folder / f"trial-{trial}"
            learning = shrinking(subject, space, replace(config.shrink, rho=rho), config.seed)
            learning.run(folder)
            network = network_of(learning.module)
            found = found_architecture(space, network)
            macs = space.cost(found)["macs"]
            if not config.macs or macs <= config.macs:
                high = rho
                if best is None or macs > best[0]:
                    best = macs, found, network
            else:
                low = rho
            rho = 4.0 * low if high == float("inf") else high / 4.0 if low == 0.0 else (low * high) ** 0.5
        if best is None:
            raise UserError(f"atomnas.macs={config.macs:.10g}: still {macs:.10g} MACs at rho={low:g}; raise shrink.rho")
        _, found, network = best
        self.learned = ungated(network) if isinstance(network, nn.Sequential) else network
        return found

    def train(self, subject: Subject, before: Subject, seed: int) -> None:
        """Take the weights that the search has learned; a policy that acts learns on."""
        network_of(subject.module).load_state_dict(self.learned.state_dict())
        if subject.task.interactive:
            teach(subject, self.config.teach, seed)


def shrinking(subject: Subject, space: Space, config: ShrinkConfig, seed: int) -> Shrinking:
    """Return the training of a subject with the largest network of a space in its place."""
    if isinstance(space, AtomSpace):
        network = space.build(space.largest)
        space.draw(network, derive_seed(seed, "first weights"))
    else:
        assert isinstance(space, ActorSpace)
        layers = space.build(largest_actor(space))
        space.draw(layers, derive_seed(seed, "first weights"))
        network = gated(layers)
    module = replaced(subject.copy(), network)
    return Shrinking(module, subject.task, config, seed=derive_seed(seed, "shrinking"))


def largest_actor(space: ActorSpace) -> Architecture:
    """Return the policy of all layers and units, without normalization."""
    field, config = {one.name: one.high for one in space.fields}, space.config
    return space.of_values({**field, "depth": config.depth, "layer_norm": 0})


def found_architecture(space: Space, network: nn.Module) -> Architecture:
    """Return the architecture of a network that has shrunk."""
    if isinstance(space, AtomSpace):
        assert isinstance(network, ChainNetwork)
        blocks = [block for block in network.blocks if isinstance(block, InvertedResidual)]
        found = tuple(block.hidden.get(kernel, 0) for block in blocks for kernel in space.config.kernels)
        return space.check(found)
    assert isinstance(space, ActorSpace)
    hidden = [layer.out_features for layer in network.modules() if isinstance(layer, nn.Linear)][:-1]
    values = {f"width{place + 1}": width for place, width in enumerate(hidden)}
    return space.of_values({"depth": len(hidden), "layer_norm": 0, **values})


@torch.no_grad()
def report(space: AtomSpace, architecture: Architecture) -> str:
    """Return a line for each block (hidden channels of each kernel), and one of MACs and parameters."""
    rows = [
        f"block {place}: " + ", ".join(f"{kernel}x{kernel} {count}" for kernel, count in hidden.items())
        for place, hidden in enumerate(space.hidden(architecture))
    ]
    cost = space.cost(architecture)
    return "\n".join([*rows, f"{cost['macs']:,.0f} MACs, {cost['parameters']:,.0f} parameters"])
