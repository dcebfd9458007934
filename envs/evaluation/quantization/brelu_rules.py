"""BReLU's numbers: multipliers with shifts, and the few steps and bounds they change (arXiv:2006.11735).

A whole number is r times what it stands for ("ratio" r). A layer with weight step s turns ratio r_in into r_in / s; a
bounded ReLU brings it back to 7 bits by a multiplier and a shift; a sum needs both sides at one ratio, and channels
side by side, too. Where a ratio cannot be met by whole numbers, a bound or a weight step gives way.

The authors' code is the source of all constants.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import nn

from envs.evaluation.quantization.brelu_layers import BoundedLayer, BoundedReLU
from envs.evaluation.quantization.integer_graph import Node, follow, users_of
from rlsuite.errors import UserError, require

SHIFTS = 27
NEAR = 0.01  # of a shortcut's multiplier
ADDED = {BoundedLayer: "layer", BoundedReLU: "bounded"}


class Pair(NamedTuple):
    """(u multiplier + 2^(shift - 1)) >> shift, of u clipped to [0, most]."""

    multiplier: int
    shift: int
    most: int

    @property
    def half(self) -> int:
        """What is added so that the shift rounds."""
        return 2 ** (self.shift - 1) if self.shift else 0


class Settled(NamedTuple):
    """Each node's ratio and pair, where it has one, by its place."""

    ratios: dict[int, float]
    pairs: dict[int, Pair]


def bound_pair(bound: float, ratio: float, levels: int) -> tuple[Pair, float]:
    """Return the pair that takes sums up to a bound to 0 ... levels, and the bound that it takes to `levels` exactly.

    Args:
        bound: B.
        ratio: of the sums.
        levels: 127 of 7 bits.

    Raises:
        UserError: if there is none: nothing, or next to nothing, passes the ReLU.
    """
    largest = bound * ratio
    for shift in range(1, SHIFTS + 1):
        reach = (levels + 0.5) * 2**shift
        if not 0.0 < largest < reach:
            continue
        multiplier = round(reach / largest)
        if abs(largest * multiplier / 2**shift - levels) < 0.5:
            exact = levels * 2**shift / multiplier  # the sum that becomes `levels`
            return Pair(multiplier, shift, round(exact)), exact / ratio
    raise UserError(f"a ReLU's bound of {bound:.3g} is {largest:.3g} in whole numbers, which no multiplier fits")


def shortcut_pair(quotient: float) -> Pair:
    """Return the pair that divides by a quotient of ratios, to 1 %.

    Args:
        quotient: the shortcut's ratio over that of the sums it is added to.

    Raises:
        UserError: if there is none.
    """
    for shift in range(SHIFTS + 1):
        multiplier = round(2**shift / quotient)
        if 2**shift > quotient and multiplier >= 1 and abs(2**shift / multiplier - quotient) < NEAR * quotient:
            return Pair(multiplier, shift, (2**31 - 1 - 2**shift) // multiplier)
    raise UserError(f"a shortcut's ratio is {quotient:.3g} times that of what it is added to: no multiplier fits")


def bound_network(core: nn.Module, bits: int) -> nn.Module:
    """Return a network, changed in place, with bounded layers and bounded ReLUs where they belong.

    A ReLU in front of a mean stays as it is, its bound lifted; what the mean gives is bounded instead. Behind a ReLU
    that only a pooling by maximum sees, the pooling is what is bounded.

    Args:
        core: of the operations that `integer_graph.follow` knows.
        bits: of weights.
    """
    nodes = follow(core)
    check(nodes)
    for node in nodes:
        if node.kind == "layer":
            behind = [user for user in users_of(nodes, node) if user.kind == "norm"]
            made: nn.Module = BoundedLayer(node.part, behind[0].part if behind else None, bits)
            if through(nodes, nodes[node.sources[0]], ("flatten", "same")).kind in ("mean", "mean_pool"):
                made = nn.Sequential(BoundedReLU().to(node.part.weight.device), made)
            core = _put(core, node.path, made)
            if behind:
                core = _put(core, behind[0].path, nn.Identity())
        if node.kind == "relu":
            users = users_of(nodes, node)
            if all(user.kind in ("mean", "mean_pool") for user in users):
                continue
            bounded = BoundedReLU().to(_device(core))
            if len(users) == 1 and users[0].kind == "max_pool":
                core = _put(core, node.path, nn.Identity())
                core = _put(core, users[0].path, nn.Sequential(users[0].part, bounded))
            else:
                core = _put(core, node.path, bounded)
    return core


def check(nodes: list[Node]) -> None:
    """Raise UserError, naming it, where operations are in an order that has no rule."""
    for node in nodes:
        before = [through(nodes, nodes[source], ("flatten", "same", "max_pool")) for source in node.sources]
        if node.kind == "norm":
            source = nodes[node.sources[0]]
            alone = source.kind == "layer" and len(users_of(nodes, source)) == 1
            require(alone, f"{node.path}: there is no layer right before this BatchNorm that it could be folded into")
        if node.kind == "layer":
            found = before[0].kind in ("input", "relu", "bounded", "mean", "mean_pool", "join")
            require(
                found, f"{node.path}: what it takes in comes from {before[0].path} and has no bound; put a ReLU there"
            )
        if node.kind in ("mean", "mean_pool"):
            require(
                before[0].kind in ("relu", "bounded"),
                f"{node.path}: it takes the mean of what is no ReLU's; put a ReLU there",
            )
        if node.kind == "join":
            found = all(one.kind in ("relu", "bounded") for one in before)
            require(found, f"{node.path}: channels side by side must come from ReLUs")
        if node.kind == "add":
            has_layer = any(sums_of(nodes, nodes[source]) is not None for source in node.sources)
            require(has_layer, f"{node.path}: neither side is a layer's, whose step could meet the other's")
        if node.kind == "squash":
            name = f"{node.path} ({type(node.part).__name__})"
            last = not users_of(nodes, node)
            require(last, f"{name}: it stands between layers, where integer networks have ReLU; train with ReLU")
    last = through(nodes, nodes[-1], ("same", "squash"))
    require(last.kind in ("layer", "norm"), f"{last.path}: the last operation is no layer")


@torch.no_grad()
def settle(nodes: list[Node], counts: dict[int, int], ratio: float, levels: int) -> Settled:
    """Give steps and bounds their last values, so that whole numbers meet them.

    Args:
        nodes: of the bounded network, its bounds measured.
        counts: pixels that a mean is over, by place.
        ratio: of the input.
        levels: of activations.

    Returns:
        The ratios and pairs that go with them.
    """
    ratios: dict[int, float] = {}
    pairs: dict[int, Pair] = {}
    for node in nodes:
        given = [ratios[source] for source in node.sources]
        if node.kind == "input":
            ratios[node.place] = ratio
        elif node.kind == "layer":
            node.part.follow_weights()
            node.part.settle(float(node.part.step))
            ratios[node.place] = given[0] / float(node.part.step)
        elif node.kind in ("mean", "mean_pool"):
            ratios[node.place] = given[0] * counts[node.place]
        elif node.kind == "bounded":
            pair, bound = bound_pair(float(node.part.bound), given[0], levels)
            node.part.bound.fill_(bound)
            pairs[node.place] = pair
            ratios[node.place] = given[0] * pair.multiplier / 2**pair.shift
        elif node.kind == "add":
            last, other = sides_of(nodes, node)
            layer = sums_of(nodes, nodes[last])
            assert layer is not None
            short = before_shift(nodes, other, ratios)
            pairs[node.place] = pair = shortcut_pair(short / ratios[last])
            ratios[node.place] = met = short * pair.multiplier / 2**pair.shift
            layer.part.settle(ratios[layer.sources[0]] / met)
            ratios[layer.place] = met
        elif node.kind == "join":
            _join(nodes, node, ratios, pairs)
        else:
            ratios[node.place] = given[0]
    return Settled(ratios, pairs)


def _join(nodes: list[Node], node: Node, ratios: dict[int, float], pairs: dict[int, Pair]) -> None:
    """Enlarge the weight steps of all branches but that of the smallest ratio, until they leave with the same."""
    met = ratios[node.place] = min(ratios[source] for source in node.sources)
    for source in node.sources:
        relu = through(nodes, nodes[source], ("same", "max_pool"))
        layer = sums_of(nodes, nodes[relu.sources[0]])
        if ratios[source] == met:
            continue
        alone = layer is not None and len(users_of(nodes, relu)) == 1
        require(alone, f"{node.path}: {relu.path} feeds more than this, so its ratio cannot give way")
        assert layer is not None
        layer.part.settle(float(layer.part.step) * ratios[source] / met)
        sums = ratios[layer.place] = ratios[layer.sources[0]] / float(layer.part.step)
        most = round(float(relu.part.bound) * sums)
        pairs[relu.place] = pairs[relu.place]._replace(most=most)
        relu.part.bound.fill_(most / sums)
        ratios[source] = ratios[relu.place] = met


def sides_of(nodes: list[Node], node: Node) -> tuple[int, int]:
    """Return the places of a sum's two sides: the layer's sums whose step gives way, and the shortcut."""
    one, other = node.sources
    return (one, other) if sums_of(nodes, nodes[one]) is not None else (other, one)


def sums_of(nodes: list[Node], node: Node) -> Node | None:
    """Return the layer whose sums a node gives to one user alone, or None."""
    while node.kind in ("same", "norm") and len(users_of(nodes, node)) == 1:
        node = nodes[node.sources[0]]
    return node if node.kind == "layer" and len(users_of(nodes, node)) == 1 else None


def before_shift(nodes: list[Node], place: int, ratios: dict[int, float]) -> float:
    """Return the ratio of a shortcut: of a bounded ReLU's sums, before they lose bits, or of what else it is."""
    origin = through(nodes, nodes[place], ("same", "max_pool"))
    return ratios[origin.sources[0]] if origin.kind == "bounded" else ratios[place]


def through(nodes: list[Node], node: Node, kinds: tuple[str, ...]) -> Node:
    """Return the node before those of some kinds."""
    while node.kind in kinds:
        node = nodes[node.sources[0]]
    return node


def _put(core: nn.Module, path: str, part: nn.Module) -> nn.Module:
    if not path:
        return part
    core.set_submodule(path, part)
    return core


def _device(core: nn.Module) -> Any:
    return next(core.parameters()).device
