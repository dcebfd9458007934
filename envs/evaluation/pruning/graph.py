"""Which channels of a network hang together: those a residual sum adds, those a layer, a norm or a join takes over.

torch.fx follows what a network computes; no numbers run through it, so a network on torch's device "meta" will do. The
channels that one layer makes are a group. A sum unites the groups it adds, a join sets them side by side, a flattening
repeats each for every pixel. A group that reaches the network's input or output, or meets an operation that mixes
channels in a known way (such as PixelShuffle), stays whole. An operation that is not known at all is refused by name.

Shapes: B batch, C channels, H x W pixels; a value is (B, C, H, W) or (B, C).
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import fx, nn
from torch.fx.node import map_arg
from torch.fx.proxy import TraceError
from torch.nn import functional

from rlsuite.errors import UserError, first_line
from rlsuite.nn.normalizer import RunningNormalizer
from rlsuite.nn.plain import ACTIVATIONS, SQUASHES
from rlsuite.nn.vision.blocks import TReLU
from rlsuite.nn.vision.doors import FromBytes, Site

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm)
KEEPS_MODULES: tuple[type[nn.Module], ...] = (
    *ACTIVATIONS.values(),
    *SQUASHES.values(),
    *(nn.LeakyReLU, nn.ReLU6, nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Softplus, nn.Dropout, nn.Dropout2d),
    *(nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Upsample),
    *(TReLU, FromBytes, Site),
)
KEEPS_FUNCTIONS: frozenset[Any] = frozenset(
    {
        *(torch.relu, torch.tanh, torch.sigmoid, torch.clamp, torch.abs, operator.neg),
        *(functional.relu, functional.leaky_relu, functional.elu, functional.selu, functional.silu, functional.gelu),
        *(functional.hardtanh, functional.softplus, functional.dropout, functional.interpolate, functional.pad),
        *(functional.max_pool2d, functional.avg_pool2d, functional.adaptive_avg_pool2d),
    }
)
KEEPS_METHODS = frozenset(
    {
        *("relu", "tanh", "sigmoid", "clamp", "clamp_min", "clamp_max", "abs", "neg"),
        *("float", "contiguous", "to", "detach"),
    }
)
ARITHMETIC = frozenset(
    {
        *(operator.add, operator.sub, operator.mul, operator.truediv, operator.iadd, operator.isub, operator.imul),
        *(torch.add, torch.sub, torch.mul, torch.div, torch.addcmul, torch.maximum, torch.minimum),
        *("add", "add_", "sub", "sub_", "mul", "mul_", "div", "div_"),
    }
)
OF_SIZES = frozenset({getattr, operator.mod, operator.floordiv, "size", "dim"})  # of shapes, which no channel is in
FIX = "prune a network without it, or add it to envs/evaluation/pruning/graph.py"


class Segment(NamedTuple):
    """Some of a value's channels.

    Attributes:
        group: where they come from; `Coupling.root` gives what it has been united with.
        size: how many; None for an input's, which no layer says.
    """

    group: int
    size: int | None


@dataclass(frozen=True)
class Value:
    """What is known of a tensor: its channels in order, whether they have pixels (None: unknown), were flattened."""

    segments: tuple[Segment, ...]
    spatial: bool | None = None
    flattened: bool = False


@dataclass
class Group:
    """Channels that are kept or cut together.

    Attributes:
        size: C.
        makers: paths of the layers that make them, in order of use.
        sums: paths of modules that see their sum, where several layers' are added.
        whole: whether they may not be cut.
    """

    size: int
    makers: list[str] = field(default_factory=list)
    sums: list[str] = field(default_factory=list)
    whole: bool = False

    @property
    def name(self) -> str:
        """The first maker's path."""
        return self.makers[0]


class Use(NamedTuple):
    """How a layer or norm uses channels: `repeat` places of its input for each; `made` is None for norms."""

    segments: tuple[Segment, ...]
    repeat: int
    made: int | None


@dataclass
class Coupling:
    """The groups of a network and its layers' part in them; see `couple`.

    Attributes:
        groups: by number, united ones still in place; see `root`.
        uses: what each layer and norm does with channels, by its path.
        behind: a layer's path -> that of the norm right behind it.
    """

    groups: list[Group] = field(default_factory=list)
    uses: dict[str, Use] = field(default_factory=dict)
    behind: dict[str, str] = field(default_factory=dict)
    _parents: list[int] = field(default_factory=list)

    def root(self, group: int) -> int:
        """Return the number of the group that one has been united with."""
        while self._parents[group] != group:
            group = self._parents[group]
        return group

    def named(self) -> dict[str, Group]:
        """Return the groups that may be cut, by their first maker's path, in order of use."""
        roots = [group for number, group in enumerate(self.groups) if self.root(number) == number]
        return {group.name: group for group in roots if not group.whole and group.makers}

    def add(self, size: int | None, maker: str = "") -> Segment:
        """Return the channels of a new group; without a maker they stay whole."""
        self._parents.append(len(self.groups))
        self.groups.append(Group(size or 0, [maker] if maker else [], whole=not maker))
        return Segment(len(self.groups) - 1, size)

    def unite(self, one: int, other: int) -> None:
        """Let two groups be kept or cut together."""
        first, second = sorted((self.root(one), self.root(other)))
        if first != second:
            kept, gone = self.groups[first], self.groups[second]
            kept.makers += gone.makers
            kept.sums += gone.sums
            kept.whole |= gone.whole
            self._parents[second] = first

    def protect(self, value: Value) -> None:
        """Let a value's channels stay whole."""
        for segment in value.segments:
            self.groups[self.root(segment.group)].whole = True


def couple(module: nn.Module) -> Coupling:
    """Return which channels of a network hang together.

    Raises:
        UserError: if it does something that is not known here, or its course depends on its numbers.
    """
    return _Walk(module).coupling


class _Tracer(fx.Tracer):
    """Stops at modules without parts, which are known by name or refused by name, and at sites."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, Site) or not list(m.children())


class _Walk:
    """One pass over what a network computes."""

    def __init__(self, module: nn.Module) -> None:
        self.module, self.coupling = module, Coupling()
        try:
            graph = _Tracer().trace(module)
        except (TraceError, TypeError) as error:
            raise UserError(f"the network cannot be followed for pruning ({first_line(error)}); {FIX}") from None
        self.values: dict[fx.Node, Value | None] = {}
        for node in graph.nodes:
            self.values[node] = getattr(self, f"_{node.op}")(node)

    def _tensors(self, arguments: Any) -> list[Value]:
        """Return the values of tensors among arguments, however nested."""
        found: list[fx.Node] = []
        map_arg(arguments, found.append)
        return [value for node in found if (value := self.values[node]) is not None]

    # -- what fx calls its nodes ---------------------------------------------------------------------------

    def _placeholder(self, node: fx.Node) -> Value:
        return Value((self.coupling.add(None),))

    def _get_attr(self, node: fx.Node) -> Value:
        """A tensor that belongs to no layer: what meets it stays whole, since nothing would cut it too."""
        return Value((self.coupling.add(None),))

    def _output(self, node: fx.Node) -> None:
        for value in self._tensors(node.args):
            self.coupling.protect(value)

    def _call_module(self, node: fx.Node) -> Value:
        path = str(node.target)
        part, value = self.module.get_submodule(path), self._tensors(node.args)[0]
        kind = type(part)
        if isinstance(part, Site) and len(part.hung):
            self._refuse(node, f"what hangs at the site ({', '.join(part.hung)})")
        if kind in (nn.Linear, nn.Conv2d):
            return self._layer(node, path, part, value)
        if kind in NORMS:
            return self._norm(node, path, part, value)
        if kind in KEEPS_MODULES:
            return value
        if kind is RunningNormalizer:  # of what comes in
            self.coupling.protect(value)
            return value
        if kind is nn.Flatten:
            return self._flatten(node, value, part.start_dim, part.end_dim)
        if kind is nn.PixelShuffle:
            self.coupling.protect(value)
            return Value((self.coupling.add(None),), spatial=True)
        return self._refuse(node, kind.__name__)

    def _call_function(self, node: fx.Node) -> Value | None:
        tensors, arguments = self._tensors((node.args, node.kwargs)), node.args
        if not tensors:  # sizes and the like
            return None
        if node.target in ARITHMETIC:
            return self._combine(node, tensors)
        if node.target is functional.pad:
            sides = arguments[1]
            if tensors[0].spatial is False or not isinstance(sides, tuple | list) or len(sides) > 4:
                self._refuse(node, "pad, along channels,")
        if node.target in KEEPS_FUNCTIONS:
            return tensors[0]
        if node.target in OF_SIZES:
            return None
        if node.target is torch.flatten:
            return self._flatten(node, tensors[0], *_dims(node, (0, -1)))
        if node.target is torch.mean:
            return self._mean(node, tensors[0])
        if node.target in (torch.cat, torch.concat):
            return self._join(node, tensors)
        if node.target is operator.getitem and _keeps_channels(arguments[1]):
            return tensors[0]
        return self._refuse(node, getattr(node.target, "__name__", str(node.target)))

    def _call_method(self, node: fx.Node) -> Value | None:
        tensors, name = self._tensors((node.args, node.kwargs)), str(node.target)
        if not tensors or name in OF_SIZES:
            return None
        if name in ARITHMETIC:
            return self._combine(node, tensors)
        if name in KEEPS_METHODS:
            return tensors[0]
        if name == "flatten":
            return self._flatten(node, tensors[0], *_dims(node, (0, -1)))
        if name == "mean":
            return self._mean(node, tensors[0])
        return self._refuse(node, name)

    # -- what they do with channels ------------------------------------------------------------------------

    def _layer(self, node: fx.Node, path: str, part: nn.Module, value: Value) -> Value:
        linear = isinstance(part, nn.Linear)
        if linear:
            inputs, outputs = part.in_features, part.out_features
        else:
            assert isinstance(part, nn.Conv2d)
            inputs, outputs = part.in_channels, part.out_channels
        if linear and value.spatial:
            self._refuse(node, "Linear over the last axis of pictures")
        if not linear and part.groups > 1:
            if part.groups == inputs == outputs:  # one filter a channel: these go where their channels go
                return self._norm(node, path, part, value)
            self.coupling.protect(value)
            return Value((self.coupling.add(outputs),), spatial=True)
        segments, repeat = self._sized(node, value, inputs)
        if path in self.coupling.uses:  # a layer that is used twice
            before = self.coupling.uses[path]
            self._unite(Value(before.segments), Value(segments))
            if repeat != before.repeat:
                self._refuse(node, "a layer used twice over pictures of two sizes")
            assert before.made is not None
            return Value((Segment(before.made, outputs),), spatial=not linear)
        made = self.coupling.add(outputs, path)
        self.coupling.uses[path] = Use(segments, repeat, made.group)
        return Value((made,), spatial=not linear)

    def _norm(self, node: fx.Node, path: str, part: Any, value: Value) -> Value:
        if isinstance(part, nn.LayerNorm):
            if len(part.normalized_shape) != 1 or value.spatial:
                self._refuse(node, "LayerNorm over pictures")
            size = part.normalized_shape[0]
        else:
            size = part.in_channels if isinstance(part, nn.Conv2d) else part.num_features
        segments, repeat = self._sized(node, value, size)
        if path in self.coupling.uses:
            self._unite(Value(self.coupling.uses[path].segments), Value(segments))
        self.coupling.uses[path] = Use(segments, repeat, None)
        source = node.args[0]
        if isinstance(source, fx.Node) and source.op == "call_module" and not isinstance(part, nn.Conv2d):
            self.coupling.behind[str(source.target)] = path
        return value

    def _sized(self, node: fx.Node, value: Value, size: int) -> tuple[tuple[Segment, ...], int]:
        """Return segments whose sizes are all known, and how many places of `size` each channel has."""
        unknown = [segment for segment in value.segments if segment.size is None]
        known = sum(segment.size or 0 for segment in value.segments)
        if unknown:
            if len(unknown) > 1 or (value.flattened and len(value.segments) > 1) or size <= known:
                self.coupling.protect(value)
                return (self.coupling.add(size),), 1
            return tuple(Segment(s.group, size - known if s.size is None else s.size) for s in value.segments), 1
        if known == 0 or size % known or (size != known and not value.flattened):
            self._refuse(node, f"{size} inputs that are not the {known} channels before it")
        return value.segments, size // known

    def _combine(self, node: fx.Node, tensors: Sequence[Value]) -> Value:
        """Return the value of a sum, a product or the like: channels in one place hang together."""
        first, *others = tensors
        for other in others:
            self._unite(first, other)
        if others:
            for user in node.users:
                if user.op == "call_module" and type(self.module.get_submodule(str(user.target))) in KEEPS_MODULES:
                    for segment in first.segments[:1] if len(first.segments) == 1 else ():
                        self.coupling.groups[self.coupling.root(segment.group)].sums.append(str(user.target))
        spatial = True if any(value.spatial for value in tensors) else first.spatial
        return Value(first.segments, spatial, first.flattened)

    def _unite(self, one: Value, other: Value) -> None:
        sizes = [[segment.size for segment in value.segments] for value in (one, other)]
        if sizes[0] != sizes[1] or None in sizes[0] or one.flattened != other.flattened:
            self.coupling.protect(one)
            self.coupling.protect(other)
            return
        for mine, yours in zip(one.segments, other.segments, strict=True):
            self.coupling.unite(mine.group, yours.group)

    def _join(self, node: fx.Node, tensors: Sequence[Value]) -> Value:
        first = tensors[0]
        dim = _dims(node, (0,))[0]
        if dim == 1 or (dim == -1 and first.spatial is False):
            if any(value.flattened for value in tensors):  # of several sizes, maybe
                for value in tensors:
                    self.coupling.protect(value)
                return Value((self.coupling.add(None),), spatial=False)
            return Value(tuple(segment for value in tensors for segment in value.segments), first.spatial)
        return self._combine(node, tensors)

    def _flatten(self, node: fx.Node, value: Value, start: Any, end: Any) -> Value:
        if start != 1 or end != -1:
            self._refuse(node, f"flatten({start}, {end})")
        return Value(value.segments, spatial=False, flattened=value.flattened or value.spatial is not False)

    def _mean(self, node: fx.Node, value: Value) -> Value:
        dims = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
        pixels = isinstance(dims, tuple | list) and {dim % 4 for dim in dims if isinstance(dim, int)} == {2, 3}
        if not pixels or value.spatial is False:
            self._refuse(node, f"mean over dim={dims}")
        return Value(value.segments, spatial=bool(node.kwargs.get("keepdim", False)), flattened=value.flattened)

    def _refuse(self, node: fx.Node, what: str) -> Any:
        place = f" at {node.target}" if node.op == "call_module" else ""
        raise UserError(f"pruning does not know what {what}{place} does with channels; {FIX}")


def _dims(node: fx.Node, default: tuple[int, ...]) -> tuple[Any, ...]:
    """Return the axes that flatten or cat is given, by place or by name."""
    names = ("start_dim", "end_dim") if len(default) == 2 else ("dim",)
    given: Mapping[str, Any] = {**dict(zip(names, node.args[1:], strict=False)), **node.kwargs}
    return tuple(given.get(name, usual) for name, usual in zip(names, default, strict=True))


def _keeps_channels(index: Any) -> bool:
    """Return whether value[index] has the channels it had: those of (B, C, ...), cut along other axes alone."""
    everything = slice(None)
    return isinstance(index, tuple) and len(index) >= 2 and index[0] == everything and index[1] == everything
