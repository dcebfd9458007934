"""Part graph: the update as CUDA graphs against the eager one: the same numbers, and how much faster.

Agents begin with the same weights and streams. One learns eagerly, another through `GraphedUpdate`, from the same
random minibatches of Humanoid's sizes; no simulator is needed. Without CUDA the stand-in replays by running again.
First, in a row of its own that no failed recording can spoil, two eager ones are compared: sums whose order the GPU
chooses part them, and Adam makes whole steps of last bits, so that only what exceeds their difference is the graph's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rlsuite.replay.buffer import Batch
from scripts.device.rows import Rows

if TYPE_CHECKING:
    from rlsuite.agent import Agent
    from rlsuite.config.schema import TrainConfig

OBSERVATION, ACTION, LIMIT = 348, 17, 0.4  # Humanoid's
NUM_BATCHES = 8
COMPARED = 50
EAGER = ", eager"  # the end of the name of a row of `repeat`
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
    """Write two rows for each agent, the eager ones of all first."""
    rows, tiny = Rows(folder), scale == "tiny"
    for how in (repeat, compare):
        for name, arguments in ROWS.items():
            chosen = (*arguments, *(TINY if tiny else ()), f"device={device}")
            turn = (chosen, 0.05 if tiny else 1.0)
            rows.measure(f"{name}{EAGER * (how is repeat)}", lambda how=how, turn=turn: how(*turn))


def repeat(arguments: tuple[str, ...], seconds: float) -> dict[str, Any]:
    """Return how far two eager agents part, after one update and after COMPARED, and their rate; see `compare`."""
    from rlsuite.running.cuda_graph import live_tensors

    config, device, (one, other) = two_agents(arguments)
    batches = random_batches(one.sample_size, device)
    found: dict[str, Any] = {"batch_size": config.agent.batch_size}
    for number in range(COMPARED):
        for agent in (one, other):
            agent.update(batches[number % NUM_BATCHES])
        if number == 0:
            found["weights_after_1"] = differences(live_tensors(one), live_tensors(other))
    found["weights"] = differences(live_tensors(one), live_tensors(other))
    return found | {"updates_per_s": round(rate(one.update, batches, device, seconds), 1)}


def compare(arguments: tuple[str, ...], seconds: float) -> dict[str, Any]:
    """Return the largest differences after one update and after COMPARED, and both rates.

    Args:
        arguments: of train_agent.py.
        seconds: of each of the ROUNDS timings of either kind, roughly.
    """
    from rlsuite.optim.state import optimizer_tensors
    from rlsuite.running.cuda_graph import GraphedUpdate, live_tensors, record_cuda, stand_in

    config, device, (eager, graphed) = two_agents(arguments)
    update = GraphedUpdate(graphed, record=record_cuda if device.type == "cuda" else stand_in)
    batches = random_batches(eager.sample_size, device)
    found: dict[str, Any] = {"batch_size": config.agent.batch_size}
    began = time.perf_counter()
    for number in range(COMPARED):
        batch = batches[number % NUM_BATCHES]
        eager.update(batch)
        update(batch)
        if number == 0:
            found["weights_after_1"] = differences(live_tensors(eager), live_tensors(graphed))
    synchronize(device)
    compared_s = time.perf_counter() - began
    found |= {
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


def two_agents(arguments: tuple[str, ...]) -> tuple[TrainConfig, torch.device, list[Agent]]:
    """Return the config, its device, and two agents of it with the same weights and streams."""
    from agents.assembly import choose_device
    from rlsuite.agent_registry import agent_class
    from rlsuite.config.compose import compose_train
    from rlsuite.vector_env import EnvironmentFacts

    config, _ = compose_train(list(arguments))
    device = choose_device(config.device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()  # each row's own, of both agents together
    facts = EnvironmentFacts.of_vectors(OBSERVATION, [-LIMIT] * ACTION, [LIMIT] * ACTION, num_envs=config.num_envs)
    kind = agent_class(config.agent_name)
    return config, device, [kind.build(facts, config.agent, seed=0, device=device) for _ in range(2)]


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
