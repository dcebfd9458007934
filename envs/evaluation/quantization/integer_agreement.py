"""Do the backends of an integer network agree? The same inputs, extremes among them, on all, byte for byte."""

from __future__ import annotations

import numpy as np
import torch

from envs.evaluation.quantization.integer import IntegerNetwork, NoFloats
from envs.evaluation.quantization.integer_numpy import run_numpy
from envs.evaluation.quantization.integer_onnx import onnx_model, onnx_session, run_onnx

AT_ONCE = 1000


def integer_inputs(network: IntegerNetwork, count: int, seed: int) -> np.ndarray:
    """Return whole numbers (count, *shape) int8: all smallest, all largest, both by turns, 0, and then drawn ones."""
    random = np.random.default_rng(seed)
    found = random.integers(-128, 128, (count, *network.shape), dtype=np.int8)
    turns = np.where(np.indices(network.shape).sum(0) % 2, 127, -128).astype(np.int8)
    for place, extreme in enumerate([-128, 127, turns, -1 - turns, 0][:count]):
        found[place] = extreme
    return found


def on_backends(network: IntegerNetwork, inputs: np.ndarray) -> dict[str, np.ndarray]:
    """Return what each backend gives, by its name; torch under a mode that fails on floats."""
    session = onnx_session(onnx_model(network))
    found: dict[str, list[np.ndarray]] = {"numpy": [], "torch, 1 thread": [], "torch, 2 threads": [], "onnxruntime": []}
    before = torch.get_num_threads()
    try:
        for start in range(0, len(inputs), AT_ONCE):
            part = inputs[start : start + AT_ONCE]
            found["numpy"].append(run_numpy(network, part))
            for threads, name in ((1, "torch, 1 thread"), (2, "torch, 2 threads")):
                torch.set_num_threads(threads)
                with NoFloats(), torch.no_grad():
                    found[name].append(network(torch.from_numpy(part)).numpy())
            found["onnxruntime"].append(run_onnx(session, part))
    finally:
        torch.set_num_threads(before)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def disagreements(network: IntegerNetwork, *, count: int, seed: int = 0) -> int:
    """Return the number of inputs, of so many, for which some backend's bytes are not those of numpy."""
    found = on_backends(network, integer_inputs(network, count, seed))
    wanted = found["numpy"]
    if any(one.dtype != wanted.dtype or one.shape != wanted.shape for one in found.values()):
        return count
    differ = [(one != wanted).reshape(count, -1).any(1) for one in found.values()]
    return int(np.any(differ, axis=0).sum())
