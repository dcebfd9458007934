"""Other libraries' int8 of the same policy, to stand beside ours: onnxruntime's static one and torchao's of weights.

Both round a network that has learned as floats and learn nothing again. They are peers of measurement alone: neither is
needed to use the suite.
"""

from __future__ import annotations

import importlib
import io
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from envs.evaluation.latency import median_milliseconds
from envs.evaluation.subject import Subject
from rlsuite.extras import quiet_onnx_exporter, require_extras

CALIBRATION = 1000  # states that onnxruntime measures ranges on
BATCH = 100


class Peer(NamedTuple):
    """A policy of another library, the bytes it is kept in, and its milliseconds by backend."""

    policy: Callable[[Tensor], Tensor]
    costs: dict[str, float]


def peers_at_hand() -> dict[str, Callable[[Subject], Peer]]:
    """Return the peers that are installed, by name."""
    found: dict[str, Callable[[Subject], Peer]] = {}
    if all(find_spec(name) for name in ("onnx", "onnxruntime", "onnxscript")):
        found["onnxruntime, static int8"] = onnxruntime_int8
    if find_spec("torchao"):
        found["torchao, int8 weights"] = torchao_int8
    return found


class _States:
    """Calibration data as onnxruntime reads it: batches by the input's name, None at the end."""

    def __init__(self, name: str, states: Tensor) -> None:
        self.batches = iter([{name: part.numpy()} for part in states.split(BATCH)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.batches, None)


def onnxruntime_int8(subject: Subject) -> Peer:
    """Return the policy as onnxruntime quantizes it: int8 weights and activations, ranges of states it learned from.

    Raises:
        UserError: if what it needs is not installed.
    """
    require_extras("onnxruntime's int8", "onnx", "onnxruntime", "onnxscript")
    import onnxruntime
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(_States, CalibrationDataReader):
        pass

    states = subject.task.source("train").examples(torch.arange(CALIBRATION) * 7 % len(_train(subject)))["input"]
    batch = torch.export.Dim("batch")
    with tempfile.TemporaryDirectory() as folder:
        whole, small = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        with quiet_onnx_exporter():
            program: Any = torch.onnx.export(
                subject.copy(), (states[:2],), dynamo=True, dynamic_shapes=({0: batch},), verbose=False
            )
        program.save(str(whole))
        name = program.model_proto.graph.input[0].name
        quantize_static(whole, small, Reader(name, states), weight_type=QuantType.QInt8)
        content = small.read_bytes()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def policy(observation: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {name: observation.numpy()})[0])

    one = {name: subject.example.numpy()}
    milliseconds = median_milliseconds(lambda: session.run(None, one))
    return Peer(policy, {"bytes": float(len(content)), "milliseconds/onnxruntime": milliseconds})


def torchao_int8(subject: Subject) -> Peer:
    """Return the policy with torchao's int8 weights, one scale an output; inputs stay floats."""
    torchao: Any = importlib.import_module("torchao.quantization")
    module: nn.Module = subject.copy()
    torchao.quantize_(module, torchao.Int8WeightOnlyConfig())
    file = io.BytesIO()
    torch.save(module.state_dict(), file)

    @torch.no_grad()
    def policy(observation: Tensor) -> Tensor:
        return module(observation)

    milliseconds = median_milliseconds(lambda: policy(subject.example))
    return Peer(policy, {"bytes": float(file.tell()), "milliseconds/torch": milliseconds})


def _train(subject: Subject) -> Any:
    return subject.task.source("train")
