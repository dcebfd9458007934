"""Integer networks as ONNX: int8 in, whole numbers out, and not one float between them.

MatMulInteger and ConvInteger give int32 sums. ONNX shifts unsigned numbers alone. Where A u + B may be negative, or
needs more than 32 bits, it is computed in int64 with M 2^L added, which makes it positive, and M taken off again behind
the shift; BReLU's never is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from envs.evaluation.quantization.integer import (
    Add,
    Affine,
    Flatten,
    IntegerNetwork,
    Join,
    Lookup,
    Product,
    Total,
    Windows,
)
from rlsuite.errors import UserError, require
from rlsuite.extras import import_extra
from rlsuite.records.files import write_atomically

OPSET, IR_VERSION = 21, 10
INPUT, OUTPUT = "observation", "action"
LARGEST = {"int8": (-128, 127), "int16": (-(2**15), 2**15 - 1), "int32": (-(2**31), 2**31 - 1)}


class _Graph:
    """Nodes and constants as they are written, each value with the name of its dtype and its number of dimensions."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.onnx: Any = import_extra("onnx", "writing ONNX")
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.shape = shape

    def constant(self, array: Any, dtype: str) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(self.onnx.numpy_helper.from_array(np.asarray(array).astype(dtype), name))
        return name

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"value_{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def cast(self, value: str, dtype: str) -> str:
        return self.add("Cast", value, to=getattr(self.onnx.TensorProto, dtype.upper()))

    def cast_from(self, value: _Value, dtype: str) -> str:
        return value.name if value.dtype == dtype else self.cast(value.name, dtype)


class _Value:
    def __init__(self, name: str, dtype: str, dims: int) -> None:
        self.name, self.dtype, self.dims = name, dtype, dims


def onnx_model(network: IntegerNetwork, about: Mapping[str, Any] | None = None) -> Any:
    """Return an integer network as an ONNX model of any number of rows.

    Args:
        network: its weights of 8 bits at most.
        about: JSON that is kept with it, such as how observations become whole numbers.

    Raises:
        UserError: if onnx is not installed, or weights have more than 8 bits.
    """
    graph = _Graph(network.shape)
    values = [_Value(INPUT, "int8", 1 + len(network.shape))]
    for step in network.steps:
        values.append(EMIT[type(step)](graph, step, *(values[number] for number in step.sources)))  # type: ignore[union-attr]
    last, onnx = values[-1], graph.onnx
    graph.nodes.append(onnx.helper.make_node("Identity", [last.name], [OUTPUT]))
    kinds = onnx.TensorProto
    rows = onnx.helper.make_tensor_value_info(INPUT, kinds.INT8, ["rows", *network.shape])
    outputs = onnx.helper.make_tensor_value_info(
        OUTPUT, getattr(kinds, last.dtype.upper()), ["rows", *[f"size_{place}" for place in range(last.dims - 1)]]
    )
    made = onnx.helper.make_graph(graph.nodes, "integer_network", [rows], [outputs], graph.constants)
    model = onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.helper.set_model_props(model, {"about": json.dumps(dict(about or {}))})
    onnx.checker.check_model(model)
    return model


def write_onnx(network: IntegerNetwork, path: Path, about: Mapping[str, Any] | None = None) -> None:
    """Write an integer network as an ONNX file.

    Raises:
        UserError: as `onnx_model`, or if the file cannot be written.
    """
    content = onnx_model(network, about).SerializeToString()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}); choose another output=") from None


def onnx_session(model: Any, *, threads: int = 1) -> Any:
    """Return an onnxruntime session of a model or of a file's content, on the CPU."""
    runtime: Any = import_extra("onnxruntime", "running ONNX")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    content = model if isinstance(model, bytes) else model.SerializeToString()
    return runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def run_onnx(session: Any, inputs: np.ndarray) -> np.ndarray:
    """Return what a session makes of whole numbers (B, *shape) int8."""
    return session.run(None, {session.get_inputs()[0].name: inputs})[0]


# -- one function a step -------------------------------------------------------------------------------------------


def _padded(graph: _Graph, value: _Value, padding: tuple[int, int], pad: int) -> str:
    down, right = padding
    if not (down or right):
        return value.name
    places = graph.constant([0, 0, down, right, 0, 0, down, right], "int64")
    return graph.add("Pad", value.name, places, graph.constant(pad, value.dtype))


def _product(graph: _Graph, step: Product, value: _Value) -> _Value:
    weight = step.weight.numpy()
    require(weight.dtype == np.int8, "ONNX multiplies numbers of 8 bits; quantize weights to 8 bits or fewer")
    require(value.dtype == "int8", "ONNX multiplies numbers of 8 bits; a layer here takes in int32")
    if weight.ndim == 2:
        sums = graph.add("MatMulInteger", value.name, graph.constant(weight.T, "int8"))
        return _Value(graph.add("Add", sums, graph.constant(step.bias.numpy(), "int32")), "int32", 2)
    name = _padded(graph, value, step.padding, step.pad)
    own = graph.constant(weight, "int8")
    sums = graph.add("ConvInteger", name, own, strides=list(step.stride), group=step.groups)
    bias = graph.constant(step.bias.numpy().reshape(-1, 1, 1), "int32")
    return _Value(graph.add("Add", sums, bias), "int32", 4)


def _affine(graph: _Graph, step: Affine, value: _Value) -> _Value:
    least, most = (end.numpy().astype(np.int64) for end in (step.least, step.most))
    multiplier, offset, shift = step.multiplier.numpy().astype(np.int64), step.offset.numpy(), int(step.shift)
    ends = np.concatenate([multiplier * least + offset, multiplier * most + offset])
    lifted = -(min(int(ends.min()), 0) >> shift)  # M: M 2^L is no less than what the smallest sum lacks
    word = "int32" if not bool(step.wide) and not lifted else "int64"

    def numbers(array: np.ndarray) -> str:
        return graph.constant(array.reshape(-1, *[1] * (value.dims - 2)) if len(array) > 1 else array[0], word)

    name, (low, high) = graph.cast_from(value, word), LARGEST["int32"]
    if len(least) == 1:
        name = graph.add("Clip", name, numbers(least), numbers(most))
    elif (least > low).any() or (most < high).any():
        name = graph.add("Min", graph.add("Max", name, numbers(least)), numbers(most))
    if (multiplier != 1).any():
        name = graph.add("Mul", name, numbers(multiplier))
    if (offset + (lifted << shift)).any():
        name = graph.add("Add", name, numbers(offset + (lifted << shift)))
    if shift:
        name = graph.add("BitShift", graph.cast(name, f"u{word}"), graph.constant(shift, f"u{word}"), direction="RIGHT")
        name = graph.cast(name, word)
    if lifted:
        name = graph.add("Sub", name, graph.constant(lifted, word))
    if (ends >> shift).min() < int(step.low) or (ends >> shift).max() > int(step.high):
        name = graph.add("Clip", name, graph.constant(int(step.low), word), graph.constant(int(step.high), word))
    dtype = "int8" if step.narrow else "int32"
    return _Value(graph.cast_from(_Value(name, word, value.dims), dtype), dtype, value.dims)


def _word(graph: _Graph, value: _Value) -> str:
    return graph.cast_from(value, "int32")


def _windows(graph: _Graph, step: Windows, value: _Value) -> _Value:
    """Windows as slices of the map, one for each place in a window: pooling of whole numbers is not in ONNX."""
    summed = step.kind == "sum"
    name = _padded(graph, _Value(_word(graph, value), "int32", 4) if summed else value, step.padding, step.pad)
    axes, strides = graph.constant([2, 3], "int64"), graph.constant(list(step.stride), "int64")
    parts = []
    for down in range(step.size[0]):
        for right in range(step.size[1]):
            ends = [
                step_end or np.iinfo(np.int64).max for step_end in (down - step.size[0] + 1, right - step.size[1] + 1)
            ]
            start = graph.constant([down, right], "int64")
            parts.append(graph.add("Slice", name, start, graph.constant(ends, "int64"), axes, strides))
    whole = parts[0]
    for part in parts[1:]:
        whole = graph.add("Add" if summed else "Max", whole, part)
    return _Value(whole, "int32" if summed else value.dtype, 4)


def _total(graph: _Graph, step: Total, value: _Value) -> _Value:
    axes = graph.constant([2, 3], "int64")
    return _Value(graph.add("ReduceSum", _word(graph, value), axes, keepdims=0), "int32", 2)


EMIT: dict[type, Callable[..., _Value]] = {
    Product: _product,
    Affine: _affine,
    Add: lambda graph, step, one, other: _Value(
        graph.add("Add", _word(graph, one), _word(graph, other)), "int32", one.dims
    ),
    Join: lambda graph, step, *values: _Value(
        graph.add("Concat", *(value.name for value in values), axis=1), values[0].dtype, values[0].dims
    ),
    Windows: _windows,
    Total: _total,
    Flatten: lambda graph, step, value: _Value(graph.add("Flatten", value.name), value.dtype, 2),
    Lookup: lambda graph, step, value: _Value(
        graph.add("Gather", graph.constant(step.table.numpy(), "int16"), value.name), "int16", value.dims
    ),
}
