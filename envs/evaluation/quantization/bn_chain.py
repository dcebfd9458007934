"""A chain of quantized layers as an integer network: between two of them, (A x + B) >> L (arXiv:2008.13128).

Shapes: B batch, O channels out.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from envs.evaluation.quantization.fixed_point import Integers, Stairs, search_nearly, search_together
from envs.evaluation.quantization.folding import gain_of
from envs.evaluation.quantization.integer import Affine, Flatten, IntegerNetwork, Lookup, Product, Step, Windows
from envs.evaluation.quantization.integer_graph import SQUASHED, Node, follow, pair, product_of
from envs.evaluation.quantization.integer_model import TABLE_BITS, TABLE_REACH, Door, OutputDoor, fill_table
from envs.evaluation.quantization.integer_ranges import Range, product_range, ranges
from envs.evaluation.quantization.levels import (
    Codes,
    input_codes,
    input_integers,
    input_step,
    require_levels,
    rule_codes,
    rule_step,
    weight_integers,
)
from rlsuite.errors import UserError, require
from rlsuite.nn.normalizer import RunningNormalizer


class Channels(NamedTuple):
    """What was found between two layers: the stairs of each channel, and their whole numbers."""

    path: str
    stairs: list[Stairs]
    made: list[Integers]


class RuleDoor(Door):
    """What comes in as the whole numbers that the first layer's rule rounds it to."""

    def __init__(self, normalizer: nn.Module, rule: nn.Module, shift: int) -> None:
        super().__init__()
        self.normalizer, self.rule, self.shift = copy.deepcopy(normalizer), copy.deepcopy(rule), shift

    def forward(self, observation: Tensor) -> Tensor:
        """Map observations (B, ...) to int8."""
        if observation.dtype == torch.uint8:
            observation = observation.float() / 255.0
        return (input_integers(self.rule, self.normalizer(observation)) - self.shift).to(torch.int8)

    def about(self) -> dict[str, Any]:
        """Return what it does, for a file."""
        said: dict[str, Any] = {"step": rule_step(self.rule), **rule_codes(self.rule)._asdict(), "shift": self.shift}
        normalizer, value = self.normalizer, "o"
        if isinstance(normalizer, RunningNormalizer):
            value, said["clip"] = "clip((o - center) * scale, -clip, clip)", normalizer.config.clip
            said |= {name: getattr(normalizer, name).flatten().tolist() for name in ("center", "scale")}
        return {"observation": f"clip(round({value} / step), low, high) - shift; of bytes, o is byte / 255", **said}


class Chain:
    """The integer network of a chain of quantized layers.

    Args:
        core: the network, its layers packed.
        shape: of one example.
        squash: what follows the core, or "".

    Attributes:
        network: its numbers not yet filled in.
        first: the first layer.
        last: the last.
    """

    def __init__(self, core: nn.Module, shape: tuple[int, ...], squash: str) -> None:
        self.nodes = follow(core)
        layers = [node for node in self.nodes if node.kind == "layer"]
        require(bool(layers), "the network has no layers to bring to fixed point")
        for node in layers:
            require_levels(node.path, node.part)
        self.steps: list[Step] = []
        self.products: dict[int, tuple[int, Product]] = {}
        self.taken: dict[int, Codes] = {}  # whole numbers that a layer can take in: none below 0 behind a ReLU
        self.between: list[tuple[Node, Node, list[Node], Affine]] = []
        for node in layers:
            self._layer(node)
        end = self.nodes[-1]
        if end.kind == "squash":
            squash = SQUASHED[type(end.part)]
        source, passed = self._back(self.nodes[end.sources[0]] if end.kind == "squash" else end)
        require(source.kind == "layer" and not passed, f"{end.path}: the last operation is no layer")
        self.first, self.last, self.squash = layers[0].part, source, squash
        if squash:
            self.index = Affine(self.products[source.place][0], len(self.products[source.place][1].bias), narrow=False)
            self.steps += [self.index, Lookup(len(self.steps) + 1, 2**TABLE_BITS)]
        self.network = IntegerNetwork(self.steps, shape)

    def _back(self, node: Node) -> tuple[Node, list[Node]]:
        """Return the layer or input before a node, and what lies between, in order; sums and means are refused."""
        passed = []
        while node.kind not in ("layer", "input"):
            if node.kind not in ("norm", "relu", "max_pool", "flatten", "same"):
                raise UserError(
                    f"{node.path}: fixed point takes chains of layers; use quantization/brelu, which has sums"
                )
            if node.kind != "same":
                passed.insert(0, node)
            node = self.nodes[node.sources[0]]
        kinds = [one.kind for one in passed]
        late = "norm" in kinds[1:]
        require(
            not late and kinds.count("relu") <= 1, f"{node.path}: BatchNorm and ReLU are in another order than usual"
        )
        return node, passed

    def _layer(self, node: Node) -> None:
        source, passed = self._back(self.nodes[node.sources[0]])
        codes, value = input_codes(node.part), 0
        self.taken[node.place] = codes
        if any(one.kind == "relu" for one in passed):
            self.taken[node.place] = Codes(max(codes.low, 0), codes.high)
        if source.kind == "input":
            early = next((one.path for one in passed if one.kind in ("norm", "relu")), "")
            require(
                not early, f"{early}: whole numbers begin with the first layer; nothing but pooling may stand before"
            )
        if source.kind == "layer":
            number, product = self.products[source.place]
            step = Affine(number, len(product.bias))
            self.between.append((source, node, passed, step))
            value = self._append(step)
        for one in passed:
            if one.kind == "max_pool":
                size, stride, padding = (pair(getattr(one.part, name)) for name in ("kernel_size", "stride", "padding"))
                value = self._append(Windows(value, "max", size, stride, padding))
            if one.kind == "flatten":
                value = self._append(Flatten(value))
        layer = node.part
        made = product_of(
            value, layer.layer, pad=-codes.shift, weight_bits=layer.weight_bits, input_bits=layer.input_bits
        )
        self.products[node.place] = (self._append(made), made)

    def _append(self, step: Step) -> int:
        self.steps.append(step)
        return len(self.steps)

    @torch.no_grad()
    def fill(self, door: OutputDoor, examples: Tensor | None, share: float) -> list[Channels]:
        """Put the numbers in, and return what was found between layers.

        Args:
            door: behind the network.
            examples: whole numbers (B, *shape) int8 to count sums on, where a share of them may be one level off.
            share: this share.
        """
        for node in self.nodes:
            if node.kind == "layer":
                _, product = self.products[node.place]
                weight, _ = weight_integers(node.part)
                product.weight.copy_(weight)
                product.bias.copy_(input_codes(node.part).shift * weight.flatten(1).sum(1))
        found = []
        for source, node, passed, step in self.between:
            codes, after = self.taken[node.place], input_step(node.part)
            norm = passed[0].part if passed and passed[0].kind == "norm" else None
            slope, offset = affine_of(source.part, norm)
            stairs = self._stairs(source, slope / after, offset / after + 0.5, codes)
            found.append(self._solve(source.path, stairs, step, codes.shift, examples, share))
        slope, offset = affine_of(self.last.part, None)
        if not self.squash:
            door.scale.copy_(slope)
            door.offset.copy_(offset)
        else:
            table, half = self.steps[-1], 2 ** (TABLE_BITS - 1)
            assert isinstance(table, Lookup)
            unit = TABLE_REACH[self.squash] / half
            stairs = self._stairs(self.last, slope / unit, offset / unit + 0.5 + half, Codes(0, 2 * half - 1))
            found.append(self._solve(self.last.path, stairs, self.index, 0, examples, share))
            fill_table(table, door, self.squash, unit)
        ranges(self.network)
        return found

    def _stairs(self, node: Node, a: Tensor, b: Tensor, codes: Codes) -> list[Stairs]:
        _, product = self.products[node.place]
        given = self.taken[node.place]
        channels = product.weight.shape[1] * product.groups
        low, high = (torch.full((channels,), end - given.shift) for end in given)
        domain = product_range(product, Range(low, high))
        rows = zip(a.tolist(), b.tolist(), domain.low.tolist(), domain.high.tolist(), strict=True)
        return [Stairs.of(*row, codes.low, codes.high) for row in rows]

    def _solve(
        self, path: str, stairs: list[Stairs], step: Affine, shift: int, examples: Tensor | None, share: float
    ) -> Channels:
        made = search_together(stairs)
        if examples is not None:
            values = self.network.values(examples)[step.sources[0]].transpose(0, 1).flatten(1).numpy()
            seen = [np.unique(row, return_counts=True) for row in values]
            near = [search_nearly(one, *own, share) for one, own in zip(stairs, seen, strict=True)]
            most = max(one.shift for one in near)
            made = [Integers(a << (most - bits), b << (most - bits), most) for a, b, bits in near]
        # Clipped to where the outcome changes, sums are smaller; numbers that are nearly right may change elsewhere.
        ends = [one.changing() if examples is None else (one.first, one.last) for one in stairs]
        low, high, bits = stairs[0].low - shift, stairs[0].high - shift, made[0].shift
        step.fill(
            [one.multiplier for one in made],
            [one.offset - (shift << bits) for one in made],
            bits,
            low=low,
            high=high,
            least=[least for least, _ in ends],
            most=[most for _, most in ends],
        )
        return Channels(path, stairs, made)


def affine_of(layer: Any, norm: Any) -> tuple[Tensor, Tensor]:
    """Return slope and offset (O,) float64 from a packed layer's sums to what it and its BatchNorm give."""
    weight, step = weight_integers(layer)
    slope = torch.full((len(weight),), step * input_step(layer), dtype=torch.float64)
    bias = layer.layer.bias
    offset = torch.zeros_like(slope) if bias is None else bias.detach().double()
    if norm is None:
        return slope, offset
    gain, shift = gain_of(norm)
    return slope * gain.detach(), offset * gain.detach() + shift.detach()
