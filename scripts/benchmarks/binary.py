"""Products of signs by XNOR and counting bits, against torch's float32 matmul of the same signs.

what=binary measures rows x 256 times 256 x 256 for 1, 16 and 256 rows: the product of packed words alone ("ours"), the
same with packing what comes in, as a layer must, and the float product. All on one thread unless num_threads says more,
which only torch's product uses; rates are of processor time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from envs.evaluation.quantization.binary import pack_words, signs, xnor_matmul
from scripts.benchmarks.rounds import Contestant, alternate, print_table, report

SIDE, ROWS = 256, (1, 16, 256)


def measure_binary(num_threads: int, rounds: int, seconds: float) -> dict[str, Any]:
    """Print a table for each number of rows; return medians, and ours / float32's by rows."""
    torch.set_num_threads(num_threads or 1)
    generator = torch.Generator().manual_seed(0)
    weight = signs(torch.randn(SIDE, SIDE, generator=generator))
    weight_words = pack_words(weight.numpy() >= 0)
    found: dict[str, Any] = {}
    for rows in ROWS:
        inputs = signs(torch.randn(rows, SIDE, generator=generator))
        words = pack_words(inputs.numpy() >= 0)
        if not torch.equal(torch.from_numpy(xnor_matmul(words, weight_words, SIDE)).float(), inputs @ weight.T):
            raise RuntimeError(f"{rows} rows: the two products differ")

        def alone(words: Any = words) -> object:
            return xnor_matmul(words, weight_words, SIDE)

        def packing(inputs: Any = inputs) -> object:
            return torch.from_numpy(xnor_matmul(pack_words(inputs.numpy() >= 0), weight_words, SIDE)).float()

        def floats(inputs: Any = inputs) -> object:
            return inputs @ weight.T

        calls = {"ours": alone, "ours with packing": packing, "float32 matmul": floats}
        rates = alternate({name: rate(call, seconds / 4) for name, call in calls.items()}, rounds)
        print_table(f"binary: {rows} x {SIDE} x {SIDE}", "products/s of processor time", rates)
        named = report(rates, {"ratio_float32": "float32 matmul", "ratio_packing": "ours with packing"})
        found |= {f"rows_{rows}_{key.replace(' ', '_')}": value for key, value in named.items()}
    return found


def rate(call: Callable[[], object], seconds: float) -> Contestant:
    """Return a contestant that measures calls a second of processor time."""

    def measure() -> float:
        count, began = 0, time.process_time()
        while time.process_time() - began < seconds:
            for _ in range(20):
                call()
            count += 20
        return count / (time.process_time() - began)

    return measure
