"""What rlsuite.fit costs: its steps a second, and those of the bare loop written for the same work.

what=fit measures two: the neural renderer at 32 pixels (its training is fit's first client) and a small convolutional
network on 8x8 pictures, where a step is so short that all that is not arithmetic shows. Seconds are the processor's:
both loops wait for nothing, and on a busy machine the clock measures the others.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from renderers.imitation import ImitationConfig, Strokes, squared_error
from renderers.neural import NeuralRenderer
from rlsuite.data.arrays import Arrays
from rlsuite.fit import FitConfig, Loss, fit
from rlsuite.nn.vision.conv_net import ConvNet, ConvNetConfig
from rlsuite.optim.state import adam
from scripts.benchmarks.rounds import alternate, print_table, report

POOL, BATCH = 1000, 64


def measure_fit(num_threads: int, rounds: int, seconds: float) -> dict[str, Any]:
    """Print two tables; return medians, and ours / the bare loop."""
    if num_threads:
        torch.set_num_threads(num_threads)
    torch.set_flush_denormal(True)
    strokes = Strokes(ImitationConfig(size=32, circles=20), seed=0).examples(torch.arange(POOL))
    digits = {
        "picture": torch.randint(256, (POOL, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)),
        "label": torch.arange(POOL) % 10,
    }
    found: dict[str, Any] = {}
    for name, make, loss, tensors in (
        ("renderer", lambda: NeuralRenderer(32, generator=torch.Generator().manual_seed(0)), squared_error, strokes),
        ("conv", lambda: ConvNet(1, 8, 10, ConvNetConfig(), 0), cross_entropy, digits),
    ):
        steps = steps_in(bare(make(), loss, tensors), seconds)
        contestants = {
            "ours": rate(fitted(make(), loss, tensors), steps),
            "bare": rate(bare(make(), loss, tensors), steps),
        }
        rates = alternate(contestants, rounds)
        print_table(f"fit: {name}, {steps} steps of {BATCH}", "steps/s of processor time", rates)
        found |= {f"{name}_{key}": value for key, value in report(rates, {"ratio_bare": "bare"}).items()}
    return found


def cross_entropy(module: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the cross entropy of a minibatch's labels, as "loss"."""
    return {"loss": functional.cross_entropy(module(batch["picture"]), batch["label"])}


def fitted(module: nn.Module, loss: Loss, tensors: dict[str, Tensor]) -> Callable[[int], object]:
    """Return a function that fits for a number of steps."""
    source = Arrays(tensors)
    return lambda steps: fit(module, loss, source, FitConfig(steps=steps, batch_size=BATCH), seed=0)


def bare(module: nn.Module, loss: Loss, tensors: dict[str, Tensor]) -> Callable[[int], object]:
    """Return the same work as a loop with nothing around it."""
    optimizer = adam(list(module.parameters()), 1e-3)
    generator = torch.Generator().manual_seed(0)

    def loop(steps: int) -> None:
        for _ in range(steps):
            pick = torch.randint(POOL, (BATCH,), generator=generator)
            value = loss(module, {name: tensor[pick] for name, tensor in tensors.items()})["loss"]
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            optimizer.step()

    return loop


def steps_in(work: Callable[[int], object], seconds: float) -> int:
    """Return how many steps take about so long."""
    work(3)
    began = time.process_time()
    work(5)
    return max(5, int(5 * seconds / (time.process_time() - began)))


def rate(work: Callable[[int], object], steps: int) -> Callable[[], float]:
    """Return a contestant that measures steps a second."""

    def measure() -> float:
        began = time.process_time()
        work(steps)
        return steps / (time.process_time() - began)

    return measure
