"""Part graph: the update as CUDA graphs against the eager one: the same numbers, and how much faster.

Two agents begin with the same weights and streams. One learns eagerly, the other through `GraphedUpdate`, from the same
random minibatches of Humanoid's sizes; no simulator is needed. Without CUDA the stand-in replays by running again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rlsuite.replay.buffer import Batch
from scripts.device.rows import Rows

OBSERVATION, ACTION, LIMIT = 348, 17, 0.4  # Humanoid's
NUM_BATCHES = 8
COMPARED = 50
ROUNDS = 3  # eager and graphed in turn; the median counts
# The most valuable first: a cut leaves those.
ROWS = {
    "flash_sac, batch 2048": ("agent=flash_sac", "preset=paper", "agent.batch_size=2048"),
    "ace, 5 + 5 networks, batch 256": ("agent=ace", "agent.num_pairs=5", "agent.batch_size=256"),
    "flash_sac, batch 512": ("agent=flash_sac", "preset=paper", "agent.batch_size=512"),
    "td3, batch 256": ("agent=td3", "agent.batch_size=256"),
    "sac, batch 256": ("agent=sac", "agent.batch_size=256"),
}
TINY = ("agent.batch_size=8", "agent.actor.hidden_sizes=[16,16,16]", "agent.critic.hidden_sizes=[16,16,16]")


def measure_graphs(arm: str, seed: int, folder: Path, device: str, scale: str, seconds: float) -> None:
    """Write a row for each agent."""
    rows, tiny = Rows(folder), scale == "tiny"
    for name, arguments in ROWS.items():
        chosen = (*arguments, *TINY) if tiny else arguments
        rows.measure(name, lambda chosen=chosen: compare((*chosen, f"device={device}"), 0.05 if tiny else 1.0))


def compare(arguments: tuple[str, ...], seconds: float) -> dict[str, Any]:
    """Return the largest differences after COMPARED updates, and both rates.

    Args:
        arguments: of train_agent.py.
        seconds: of each of the ROUNDS timings of either kind, roughly.
    """
    from agents.assembly import choose_device
    from rlsuite.agent_registry import agent_class
    from rlsuite.config.compose import compose_train
    from rlsuite.optim.state import optimizer_tensors
    from rlsuite.running.cuda_graph import GraphedUpdate, live_tensors, record_cuda, stand_in
    from rlsuite.vector_env import EnvironmentFacts

    config, _ = compose_train(list(arguments))
    device = choose_device(config.device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()  # each row's own, of both agents together
    facts = EnvironmentFacts.of_vectors(OBSERVATION, [-LIMIT] * ACTION, [LIMIT] * ACTION, num_envs=config.num_envs)
    kind = agent_class(config.agent_name)
    eager, graphed = (kind.build(facts, config.agent, seed=0, device=device) for _ in range(2))
    update = GraphedUpdate(graphed, record=record_cuda if device.type == "cuda" else stand_in)
    batches = random_batches(eager.sample_size, device)
    began = time.perf_counter()
    for number in range(COMPARED):
        batch = batches[number % NUM_BATCHES]
        eager.update(batch)
        update(batch)
    synchronize(device)
    compared_s = time.perf_counter() - began
    found: dict[str, Any] = {
        "batch_size": config.agent.batch_size,
        "weights": differences(live_tensors(eager), live_tensors(graphed)),
        "moments": differences(optimizer_tensors(eager.optimizers), optimizer_tensors(graphed.optimizers)),
        "graphs": len(update.recorded),
        "seconds_to_compare": round(compared_s, 2),
    }
    rates: dict[str, list[float]] = {"graph": [], "eager": []}
    for _ in range(ROUNDS):
        rates["graph"].append(rate(update, batches, device, seconds))
        rates["eager"].append(rate(eager.update, batches, device, seconds))
    medians = {f"{name}_updates_per_s": sorted(values)[ROUNDS // 2] for name, values in rates.items()}
    found |= {name: round(value, 1) for name, value in medians.items()}
    found["graph_over_eager"] = round(medians["graph_updates_per_s"] / medians["eager_updates_per_s"], 2)
    if device.type == "cuda":
        found["peak_memory_mib"] = round(torch.cuda.max_memory_allocated() / 2**20)
    return found


def random_batches(size: int, device: torch.device) -> list[Batch]:
    """Return minibatches of Humanoid's sizes, drawn on the host so that every device has the same."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(size, *shape, generator=generator)

    return [
        Batch(
            observation=draw(OBSERVATION).to(device),
            action=(LIMIT * draw(ACTION).tanh()).to(device),
            reward=draw().to(device),
            discount=torch.full((size,), 0.99, device=device),
            next_observation=draw(OBSERVATION).to(device),
            weight=torch.ones(size, device=device),
            index=torch.arange(size, device=device),
        )
        for _ in range(NUM_BATCHES)
    ]


def differences(wanted: dict[str, Tensor], got: dict[str, Tensor]) -> dict[str, Any]:
    """Return the largest absolute difference, in which tensor, and whether all are equal to the bit."""
    if wanted.keys() != got.keys():
        return {"differ_in": sorted(wanted.keys() ^ got.keys())}
    found = {name: furthest(wanted[name], value) for name, value in got.items() if value.numel()}
    worst = max(found, key=lambda name: found[name])
    return {"largest_difference": found[worst], "in": worst, "equal": found[worst] == 0.0}


def furthest(wanted: Tensor, got: Tensor) -> float:
    """Return the largest absolute difference; NaN in either counts as infinitely far, which a maximum passes over."""
    return float((wanted.double() - got.double()).abs().nan_to_num(nan=torch.inf).max())


def rate(update: Callable[[Batch], Any], batches: list[Batch], device: torch.device, seconds: float) -> float:
    """Return updates a second, the device's work finished."""
    for number in range(4):
        update(batches[number])
    synchronize(device)
    began, done = time.perf_counter(), 0
    while not done or time.perf_counter() < began + seconds:
        for number in range(16):
            update(batches[number % NUM_BATCHES])
        synchronize(device)  # else the host would run ahead of the clock
        done += 16
    return done / (time.perf_counter() - began)


def synchronize(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize()
