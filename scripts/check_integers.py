"""Check that an ONNX policy computes with whole numbers alone: ``python scripts/check_integers.py int8.onnx``.

Prints each operation with the dtypes of what it takes in and gives, as they are in the file and as onnxruntime has
optimized it, found by running both. Exit status 1 if a float lies between whole numbers (floats before the first or
behind the last whole number are doors, and said), or if nothing is multiplied as whole numbers at all.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rlsuite.cli import command, positional
from rlsuite.config.compose import script_config
from rlsuite.errors import UserError, first_line, require
from rlsuite.extras import import_extra, require_extras

PRODUCTS = ("MatMulInteger", "ConvInteger", "QLinearMatMul", "QLinearConv", "QGemm")
FLOATS = ("float16", "float32", "float64", "bfloat16")
ROWS = 2


@dataclass(frozen=True, kw_only=True)
class CheckConfig:
    """What is checked.

    Attributes:
        file: an ONNX file.
    """

    file: str

    def __post_init__(self) -> None:
        require(self.file.endswith(".onnx"), f"file={self.file}: name an ONNX file, such as int8.onnx")


class Operation(NamedTuple):
    """One operation: its kind, its tensors by name, and which of them are floats between whole numbers."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    floats: tuple[str, ...]


@command(CheckConfig)
def main(arguments: list[str]) -> int:
    """Check and print."""
    config = script_config(CheckConfig, positional(arguments, "file"))
    require_extras("check_integers.py", "onnx", "onnxruntime")
    found = 0
    for name, model in read_models(Path(config.file)).items():
        dtypes = run_dtypes(model)
        operations = followed(model, dtypes)
        print(f"{name}:")
        for one in operations:
            taken, given = (", ".join(f"{each} {dtypes[each]}" for each in side) for side in (one.inputs, one.outputs))
            print(f"  {one.kind}: {taken} -> {given}{'  FLOAT' if one.floats else ''}")
        floats = {each for one in operations for each in one.floats}
        products = sum(one.kind in PRODUCTS for one in operations)
        doors = {each for each, dtype in dtypes.items() if dtype in FLOATS} - floats
        print(f"  {len(operations)} operations, {products} products of whole numbers, {len(floats)} floats between, "
              f"{len(doors)} at doors")  # fmt: skip
        found += len(floats) + (not products)
    print("floats lie between whole numbers, or there are none" if found else "whole numbers alone")
    return 1 if found else 0


def read_models(path: Path) -> dict[str, Any]:
    """Return the model in the file, and as onnxruntime optimized it.

    Raises:
        UserError: if it cannot be read, or onnxruntime cannot run it.
    """
    onnx: Any = import_extra("onnx", "check_integers.py")
    runtime: Any = import_extra("onnxruntime", "check_integers.py")
    require(path.is_file(), f"file={path}: there is no such file; evaluate_agent.py writes one with output=")
    with tempfile.TemporaryDirectory() as folder:
        optimized, options = Path(folder) / "optimized.onnx", runtime.SessionOptions()
        options.optimized_model_filepath, options.log_severity_level = str(optimized), 3
        try:
            model = onnx.load(str(path))
            runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # whatever protobuf or onnxruntime raise at a file that is none, or is damaged
            raise UserError(f"{path}: onnxruntime cannot run it ({first_line(error)[:200]})") from None
        return {"in the file": model, "as onnxruntime optimized it": onnx.load(str(optimized))}


def run_dtypes(model: Any) -> dict[str, str]:
    """Return the dtype of every tensor of a model by its name, constants included, from a run on zeros."""
    onnx: Any = import_extra("onnx", "check_integers.py")
    runtime: Any = import_extra("onnxruntime", "check_integers.py")
    dtypes = {one.name: str(onnx.numpy_helper.to_array(one).dtype) for one in model.graph.initializer}
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    made = {name for node in shown.graph.node for name in node.output if name}
    shown.graph.output.extend(
        onnx.helper.make_empty_tensor_value_info(name)
        for name in sorted(made - {output.name for output in shown.graph.output})
    )
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = runtime.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feed = {}
    for given in model.graph.input:
        if given.name in dtypes:
            continue
        kind = onnx.helper.tensor_dtype_to_np_dtype(given.type.tensor_type.elem_type)
        shape = [size.dim_value or ROWS for size in given.type.tensor_type.shape.dim]
        feed[given.name] = np.zeros(shape, kind)
        dtypes[given.name] = str(np.dtype(kind))
    names = [output.name for output in session.get_outputs()]
    for name, value in zip(names, session.run(names, feed), strict=True):
        dtypes[name] = str(value.dtype)
    return dtypes


def followed(model: Any, dtypes: dict[str, str]) -> list[Operation]:
    """Return a model's operations in their order, with the floats that lie between whole numbers."""
    nodes = list(model.graph.node)
    constants = {one.name for one in model.graph.initializer}
    constants |= {name for node in nodes if node.op_type == "Constant" for name in node.output}
    after = {name for name, dtype in dtypes.items() if dtype not in FLOATS and name not in constants}
    before = set(after)
    for node in nodes:  # what some whole number leads to
        if any(name in after for name in node.input):
            after |= set(node.output)
    for node in reversed(nodes):  # what leads to some whole number
        if any(name in before for name in node.output):
            before |= {name for name in node.input if name not in constants}
    operations = []
    for node in nodes:
        inputs, outputs = (tuple(name for name in names if name) for names in (node.input, node.output))
        floats = [name for name in (*inputs, *outputs) if dtypes[name] in FLOATS and name in after & before]
        within = any(name in after for name in inputs) and any(name in before for name in outputs)
        floats += [name for name in inputs if within and name in constants and dtypes[name] in FLOATS]
        operations.append(Operation(node.op_type, inputs, outputs, tuple(floats)))
    return operations


if __name__ == "__main__":
    sys.exit(main())
