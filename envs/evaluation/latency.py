"""How long a network takes for one input, on a backend that is named: torch, or onnxruntime where it is installed.

A network of symmetric levels stands there twice: its floats, and its products as int8 kernels compute them.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from envs.evaluation.quantization.int8_onnx import int8_form, translations
from envs.evaluation.quantization.integer_model import IntegerModel
from envs.evaluation.quantization.integer_onnx import onnx_model
from envs.evaluation.quantization.integer_onnx import onnx_session as integer_session
from rlsuite.extras import quiet_onnx_exporter

WARM_UPS, RUNS = 10, 50


def measure_latency(module: nn.Module, example: Tensor, *, threads: int = 1) -> dict[str, float]:
    """Return the median milliseconds of one forward pass on each backend at hand.

    Args:
        module: in evaluation mode.
        example: (1, ...).
        threads: of each backend.

    Returns:
        "milliseconds/torch", and "milliseconds/onnxruntime" where it is installed and the network can be exported; of
        an integer model the latter is of what lies between its doors. "milliseconds/onnxruntime int8" of a network that
        has layers of symmetric levels.
    """
    with torch_threads(threads), torch.no_grad():
        found = {"milliseconds/torch": median_milliseconds(lambda: module(example))}
    if not (find_spec("onnxruntime") and find_spec("onnxscript")):
        return found
    if isinstance(module, IntegerModel):
        example = module.enter(example)
        sessions = {"onnxruntime": integer_session(onnx_model(module.network), threads=threads)}
    else:
        int8 = int8_form(module)
        sessions = {
            "onnxruntime": onnx_session(module, example, threads),
            "onnxruntime int8": None if int8 is None else onnx_session(int8, example, threads),
        }
    for name, session in sessions.items():
        if session is not None:
            feed = {session.get_inputs()[0].name: example.numpy()}
            found[f"milliseconds/{name}"] = median_milliseconds(functools.partial(session.run, None, feed))
    return found


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch compute in so many threads, and in as many as before after that."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def median_milliseconds(run: Callable[[], Any], *, warm_ups: int = WARM_UPS, runs: int = RUNS) -> float:
    """Return the median wall time of a call in milliseconds, after some that do not count."""
    for _ in range(warm_ups):
        run()
    seconds = []
    for _ in range(runs):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return 1e3 * float(np.median(seconds))


def onnx_session(module: nn.Module, example: Tensor, threads: int) -> Any:
    """Return an onnxruntime session of the network, or None where it cannot be exported."""
    import onnxruntime

    try:
        with quiet_onnx_exporter():
            program = torch.onnx.export(
                module, (example,), dynamo=True, verbose=False, custom_translation_table=translations()
            )
    except Exception:  # whatever an exporter raises at an operation it does not know: there is no such row then
        return None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if program is None:
        return None
    content = program.model_proto.SerializeToString()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
