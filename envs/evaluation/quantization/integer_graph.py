"""What a network computes, as a list of operations that whole numbers can do; anything else is refused by its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.fx.proxy import TraceError

from envs.evaluation.quantization.integer import Product
from envs.evaluation.quantization.layer import PackedLayer, QuantizedLayer
from rlsuite.errors import UserError, first_line
from rlsuite.nn.vision.doors import FromBytes, Site

ADVICE = "integer networks have Linear, Conv2d, BatchNorm, ReLU, pooling, sums, concatenation; train such a network"
SQUASHED = {nn.Tanh: "tanh", nn.Sigmoid: "sigmoid"}
CATS = (torch.cat, torch.concat)


@dataclass(frozen=True)
class Node:
    """One operation.

    Attributes:
        kind: "input", "layer", "norm", "relu", "same", "add", "join", "max_pool", "mean_pool", "mean", "flatten",
            "squash", or the name of a kind that a method has added.
        path: of the module; of an operation that is none, its name.
        sources: places of what it takes in, in the list.
        part: the module.
        place: its own.
    """

    kind: str
    path: str
    sources: tuple[int, ...]
    part: Any
    place: int


class _Tracer(fx.Tracer):
    def __init__(self, leaves: tuple[type, ...]) -> None:
        super().__init__()
        self.leaves = (Site, QuantizedLayer, PackedLayer, *leaves)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, self.leaves) or not list(m.children())


def follow(module: nn.Module, added: dict[type, str] | None = None) -> list[Node]:
    """Return the operations of a network in their order; the last is what it gives.

    Args:
        module: which takes one tensor.
        added: types of modules -> kinds of nodes, beside those that are known here.

    Raises:
        UserError: naming the layer or operation that whole numbers cannot do.
    """
    try:
        graph = _Tracer(tuple(added or ())).trace(module)
    except (TraceError, TypeError) as error:
        raise UserError(f"the network cannot be followed ({first_line(error)}); {ADVICE}") from None
    nodes: list[Node] = []
    places: dict[fx.Node, int] = {}
    for one in graph.nodes:
        if one.op == "output":
            if one.args[0] is not one.prev and places.get(one.args[0]) != len(nodes) - 1:
                raise UserError(f"the network gives more than one tensor; {ADVICE}")
            continue
        kind, part = _kind(one, module, added or {})
        path = str(one.target) if one.op == "call_module" else one.name
        sources = tuple(places[source] for source in one.all_input_nodes)
        places[one] = len(nodes)
        nodes.append(Node(kind, path, sources, part, len(nodes)))
    _require_single_use(nodes)
    return nodes


def users_of(nodes: Sequence[Node], node: Node) -> list[Node]:
    """Return the operations that take in what one gives."""
    return [other for other in nodes if node.place in other.sources]


def _require_single_use(nodes: list[Node]) -> None:
    seen = set()
    for node in nodes:
        if isinstance(node.part, nn.Module) and node.kind not in ("same", "flatten", "max_pool"):
            if node.path in seen:
                raise UserError(f"{node.path}: it is called twice; give each call a module of its own")
            seen.add(node.path)


def _kind(node: fx.Node, module: nn.Module, added: dict[type, str]) -> tuple[str, Any]:
    if node.op == "placeholder":
        return "input", None
    if node.op == "call_module":
        return _module_kind(str(node.target), module.get_submodule(str(node.target)), added)
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    if name in ("add", "iadd") and len(node.all_input_nodes) == 2:
        return "add", None
    if node.target in CATS and _argument(node, 1, "dim", 0) == 1:
        return "join", None
    if name == "flatten" and _argument(node, 1, "start_dim", 0) == 1 and _argument(node, 2, "end_dim", -1) == -1:
        return "flatten", None
    if name == "mean":
        dims = _argument(node, 1, "dim", None)
        if isinstance(dims, list | tuple) and {dim % 4 for dim in dims} == {2, 3} and not node.kwargs.get("keepdim"):
            return "mean", None
    if name in ("contiguous", "float"):
        return "same", None
    raise UserError(f"{node.name}: whole numbers cannot do this here; {ADVICE}")


def _argument(node: fx.Node, place: int, name: str, default: Any) -> Any:
    return node.kwargs.get(name, node.args[place] if len(node.args) > place else default)


def _module_kind(path: str, part: nn.Module, added: dict[type, str]) -> tuple[str, Any]:
    kind = type(part)
    if kind in added:
        return added[kind], part
    if isinstance(part, QuantizedLayer | PackedLayer):
        _module_kind(path, part.layer, {})
        return "layer", part
    if kind in (nn.Linear, nn.Conv2d):
        require_plain(path, part)
        return "layer", part
    if kind in (nn.BatchNorm1d, nn.BatchNorm2d):
        return "norm", part
    if kind in (nn.Identity, FromBytes, nn.Dropout) or (isinstance(part, Site) and not len(part.hung)):
        return "same", part
    if kind is nn.ReLU:
        return "relu", part
    if kind is nn.Flatten and (part.start_dim, part.end_dim) == (1, -1):  # type: ignore[attr-defined]
        return "flatten", part
    if kind in SQUASHED:
        return "squash", part
    if (
        isinstance(part, nn.MaxPool2d | nn.AvgPool2d)
        and not part.ceil_mode
        and getattr(part, "dilation", 1) in (1, (1, 1))
    ):
        largest = isinstance(part, nn.MaxPool2d)
        if largest or pair(part.padding) == (0, 0):
            return "max_pool" if largest else "mean_pool", part
    raise UserError(f"{path} ({kind.__name__}): whole numbers cannot do this; {ADVICE}")


def require_plain(path: str, layer: nn.Module) -> None:
    """Raise UserError, naming it, for a convolution that is not padded with zeros, or dilated."""
    if isinstance(layer, nn.Conv2d) and (
        layer.padding_mode != "zeros" or isinstance(layer.padding, str) or pair(layer.dilation) != (1, 1)
    ):
        raise UserError(f"{path}: its padding or dilation is none of integer networks; pad with zeros, dilation 1")


def pair(number: Any) -> tuple[int, int]:
    """Return a number as two, or both."""
    return (int(number), int(number)) if isinstance(number, int) else (int(number[0]), int(number[1]))


def product_of(source: int, layer: Any, *, pad: int, weight_bits: int, input_bits: int) -> Product:
    """Return the step of a linear layer or convolution, its numbers not yet filled in."""
    convolution = isinstance(layer, nn.Conv2d)
    inputs = layer.in_channels // layer.groups if convolution else layer.in_features
    shape = (layer.out_channels, inputs, *layer.kernel_size) if convolution else (layer.out_features, inputs)
    keywords: dict[str, Any] = {"weight_bits": weight_bits, "input_bits": input_bits}
    if convolution:
        keywords |= {"stride": pair(layer.stride), "padding": pair(layer.padding), "groups": layer.groups}
    return Product(source, shape, pad=pad if convolution else 0, **keywords)
