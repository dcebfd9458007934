"""From a bounded network to an integer one: which steps there are, and later, the numbers in them (arXiv:2006.11735).

Structure alone is decided first, without data, so that a saved network can be built again; `fill` comes once learning
is over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from envs.evaluation.quantization.brelu_layers import BoundedLayer
from envs.evaluation.quantization.brelu_rules import ADDED, Settled, check, sides_of, through
from envs.evaluation.quantization.integer import (
    WORD,
    Add,
    Affine,
    Flatten,
    IntegerNetwork,
    Join,
    Lookup,
    Step,
    Total,
    Windows,
)
from envs.evaluation.quantization.integer_graph import SQUASHED, Node, follow, pair, product_of
from envs.evaluation.quantization.integer_model import (
    TABLE_BITS,
    TABLE_REACH,
    OutputDoor,
    fill_table,
)
from envs.evaluation.quantization.integer_ranges import ranges
from rlsuite.errors import require

Fill = Callable[[Settled], None]
TABLE_SHIFT = 18


class Assembly:
    """The integer network of a bounded one.

    Args:
        core: the bounded network.
        shape: of one example.
        shift: how many less the input's whole numbers are than what they stand for: 128 of bytes, else 0.
        squash: what follows the core, "tanh" or "sigmoid"; "" for nothing, or for what the core ends with itself.
        activation_bits: for probes.

    Attributes:
        network: its numbers not yet filled in.
        nodes: of the core.

    Raises:
        UserError: naming the operation that has no rule where it stands.
    """

    def __init__(self, core: nn.Module, shape: tuple[int, ...], shift: int, squash: str, activation_bits: int) -> None:
        self.nodes = follow(core, ADDED)
        check(self.nodes)
        for node in self.nodes:
            behind = node.kind in ("relu", "bounded") and self._origin(node.sources[0]) == "input"
            require(
                not (shift and behind), f"{node.path}: pictures have nothing below 0; leave out the ReLU before layers"
            )
        self.shift, self.activation_bits = shift, activation_bits
        self._steps: list[Step] = []
        self._fills: list[Fill] = []
        self._values: dict[int, int] = {}  # a node's place -> the number of its value
        self._before: dict[int, Callable[[], int]] = {}  # ... -> of that before the shift to 7 bits
        for node in self.nodes:
            self._values[node.place] = getattr(self, f"_on_{node.kind}")(node)
        last = self.nodes[-1]
        self.squash = squash
        if last.kind == "squash":
            self.squash = SQUASHED[type(last.part)]
        self._last = last.place
        if self.squash:
            index = self._add(Affine(self._values[last.place], narrow=False))
            self._add(Lookup(index, 2**TABLE_BITS))
        self.network = IntegerNetwork(self._steps, shape)

    def fill(self, settled: Settled, door: OutputDoor) -> None:
        """Put the numbers in, once bounds and steps are settled and weights have learned.

        Raises:
            UserError: if some do not fit the places they have.
        """
        for fill in self._fills:
            fill(settled)
        ratio = settled.ratios[self._last]
        if not self.squash:
            door.scale.fill_(1.0 / ratio)
        else:
            index, table = self._steps[-2:]
            assert isinstance(index, Affine)
            assert isinstance(table, Lookup)
            half = len(table.table) // 2
            multiplier = max(1, round(half / (TABLE_REACH[self.squash] * ratio) * 2**TABLE_SHIFT))
            most = (half << TABLE_SHIFT) // multiplier + 1
            offset = (half << TABLE_SHIFT) + 2 ** (TABLE_SHIFT - 1)
            index.fill(multiplier, offset, TABLE_SHIFT, low=0, high=2 * half - 1, least=-most, most=most)
            fill_table(table, door, self.squash, 2**TABLE_SHIFT / (multiplier * ratio))
        ranges(self.network)

    def _add(self, step: Step, fill: Fill | None = None) -> int:
        self._steps.append(step)
        if fill is not None:
            self._fills.append(fill)
        return len(self._steps)

    def _value(self, node: Node) -> int:
        return self._values[node.sources[0]]

    def _origin(self, place: int) -> str:
        """Return the kind of what a value is, however it is arranged: the input's whole numbers have their own zero."""
        return through(self.nodes, self.nodes[place], ("flatten", "same", "max_pool")).kind

    # -- one method a kind of node ---------------------------------------------------------------------------

    def _on_input(self, node: Node) -> int:
        return 0

    def _on_same(self, node: Node) -> int:
        source = node.sources[0]
        if source in self._before:
            self._before[node.place] = self._before[source]
        return self._values[source]

    _on_squash = _on_same  # the table comes last

    def _on_layer(self, node: Node) -> int:
        first = self._origin(node.sources[0]) == "input"
        part: BoundedLayer = node.part
        step = product_of(
            self._value(node),
            part.layer,
            pad=-self.shift if first else 0,
            weight_bits=part.weight_bits,
            input_bits=8 if first else self.activation_bits,
        )

        def fill(settled: Settled) -> None:
            weight = part.codes()
            bias = (part.layer.bias.detach().double() * settled.ratios[node.place]).round()
            if first and self.shift:  # what the shifted input lacks, exactly
                bias = bias + self.shift * weight.double().flatten(1).sum(1)
            require(float(bias.abs().max()) <= WORD, f"{node.path}: a bias does not fit 32 bits")
            step.weight.copy_(weight)
            step.bias.copy_(bias)

        return self._add(step, fill)

    def _on_bounded(self, node: Node) -> int:
        step = Affine(self._value(node))

        def fill(settled: Settled) -> None:
            own = settled.pairs[node.place]
            high = (own.most * own.multiplier + own.half) >> own.shift
            step.fill(own.multiplier, own.half, own.shift, low=0, high=high, least=0, most=own.most)

        source = self._value(node)
        self._before[node.place] = lambda: self._clipped(source, lambda settled: settled.pairs[node.place].most)
        return self._add(step, fill)

    def _on_relu(self, node: Node) -> int:
        return self._clipped(self._value(node), lambda settled: WORD)

    def _clipped(self, source: int, most: Callable[[Settled], int]) -> int:
        step = Affine(source, narrow=False)

        def fill(settled: Settled) -> None:
            step.fill(1, 0, 0, low=0, high=most(settled), least=0, most=most(settled))

        return self._add(step, fill)

    def _on_add(self, node: Node) -> int:
        last, other = sides_of(self.nodes, node)
        source = self._before[other]() if other in self._before else self._values[other]
        step = Affine(source, narrow=False)
        missing = self.shift if self._origin(other) == "input" else 0  # what the shifted input lacks

        def fill(settled: Settled) -> None:
            own = settled.pairs[node.place]  # `most` keeps 32 bits; no shortcut reaches it
            offset, most = own.half + missing * own.multiplier, own.most - missing
            step.fill(own.multiplier, offset, own.shift, low=-WORD, high=WORD, least=-own.most, most=most)

        return self._add(Add(self._values[last], self._add(step, fill)))

    def _on_join(self, node: Node) -> int:
        return self._add(Join(*(self._values[source] for source in node.sources)))

    def _on_max_pool(self, node: Node) -> int:
        def pooled(source: int, pad: int) -> int:
            size, stride, padding = (pair(getattr(node.part, name)) for name in ("kernel_size", "stride", "padding"))
            return self._add(Windows(source, "max", size, stride, padding, pad))

        before = self._before.get(node.sources[0])
        if before is not None:
            self._before[node.place] = lambda: pooled(before(), -WORD - 1)
        narrow = self._origin(node.sources[0]) in ("input", "bounded", "join")
        return pooled(self._value(node), -128 if narrow else -WORD - 1)

    def _on_mean_pool(self, node: Node) -> int:
        size, stride = pair(node.part.kernel_size), pair(node.part.stride)
        return self._add(Windows(self._value(node), "sum", size, stride))

    def _on_mean(self, node: Node) -> int:
        return self._add(Total(self._value(node)))

    def _on_flatten(self, node: Node) -> int:
        return self._add(Flatten(self._value(node)))


def pixel_counts(core: nn.Module, nodes: list[Node], example: torch.Tensor) -> dict[int, int]:
    """Return over how many pixels means are, by the nodes' places, for an example's size."""
    sizes: dict[str, tuple[int, ...]] = {}
    for node in nodes:
        if node.kind == "mean_pool":
            size = pair(node.part.kernel_size)
            sizes[node.path] = size
    counts = {node.place: sizes[node.path][0] * sizes[node.path][1] for node in nodes if node.path in sizes}
    means = [node for node in nodes if node.kind == "mean"]
    if not means:
        return counts
    relus = {nodes[node.sources[0]].path: node.place for node in means}
    handles = []
    for path, place in relus.items():

        def note(_: nn.Module, __: Any, output: torch.Tensor, place: int = place) -> None:
            counts[place] = output.shape[2] * output.shape[3]

        handles.append(core.get_submodule(path).register_forward_hook(note))
    try:
        with torch.no_grad():
            core(example)
    finally:
        for handle in handles:
            handle.remove()
    return counts
