"""Updates: sampling and learning from one batch, ours against Stable-Baselines3 and against bare matrix products.

agent=ddpg and agent=td3 measure one actor and two critics of SB3's sizes (400-300, batch 256, delayed actor)
against SB3's TD3. agent=ace measures the agent as configured against the time of the same matrix products alone,
and pair by pair against SB3's DDPG of equal hidden sizes, which has no embeddings (agent.embedding.size=0 compares
equals). agent=sac and agent=flash_sac are measured against the products alone. agent.precision counts: auto is bfloat16
where the processor has it (for the bare products too), SB3 computes in float32.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import itertools
import time
from collections.abc import Callable
from typing import Any

import gymnasium
import torch
from torch import nn

from agents.actor_critic import ActorCritic
from agents.assembly import choose_device, make_agent, make_env, prepare_torch
from envs import has_goals
from rlsuite.config.schema import TrainConfig
from rlsuite.errors import require
from rlsuite.replay.buffer import Batch
from rlsuite.replay.sampler import Replay
from rlsuite.running.cuda_graph import GraphedUpdate
from rlsuite.running.rollout import RolloutWorker
from scripts.benchmarks.rounds import Contestant, alternate, print_table, report, synchronize

SB3_SIZES = (400, 300)
SB3_FORM = ("ddpg", "td3")  # measured in the sizes of SB3's
AS_CONFIGURED = ("ace", "sac", "flash_sac")


def measure_updates(config: TrainConfig, rounds: int, seconds: float) -> dict[str, Any]:
    """Measure and print; return the JSON line's content.

    Args:
        config: agent, task and threads.
        rounds: counted rounds.
        seconds: aimed at for each measurement.
    """
    require(not config.env.adapter, "what=updates is measured on the suite's own tasks, such as env=Hopper")
    known = (*SB3_FORM, *AS_CONFIGURED)
    require(config.agent_name in known, f"agent={config.agent_name}: updates are measured for {', '.join(known)}")
    goals = has_goals(config.env.full_id)
    require(not goals, f"env={config.env.name}: updates are measured on tasks without goals, such as env=Hopper")
    prepare_torch(config)
    if config.agent_name in SB3_FORM:
        config = dataclasses.replace(config, agent=sb3_form(config.agent))
    agent, replay = filled(config)
    rate = _ours(agent, replay, 10, agent.update)()
    updates = max(10, int(seconds * rate))
    on_cuda = choose_device(config.device).type == "cuda"
    update = GraphedUpdate(agent) if on_cuda else agent.update
    contestants: dict[str, Contestant] = {
        "ours": _ours(agent, replay, updates, update),
        "matmul": _matmul(agent, updates),
    }
    if on_cuda:
        contestants["eager"] = _ours(agent, replay, updates, agent.update)
    pairs = config.agent.num_pairs
    if not agent.stochastic and importlib.util.find_spec("stable_baselines3"):
        contestants["sb3"] = _sb3(config, updates * pairs, pairs)
    rates = alternate(contestants, rounds)
    print_table(
        f"updates {config.agent_name} {config.env.name}, {torch.get_num_threads()} threads",
        "updates/s",
        rates,
    )
    peers = {"ratio_sb3": "sb3", "ratio_matmul": "matmul", "ratio_eager": "eager"}
    shape = {
        "num_pairs": pairs,
        "batch_size": config.agent.batch_size,
        "device": str(choose_device(config.device)),
    }
    return {
        "what": "updates",
        "agent": config.agent_name,
        "env": config.env.name,
        **shape,
        "rounds": rounds,
    } | report(rates, peers)


def sb3_form(config: Any) -> Any:
    """Return a DDPG config with the sizes and the schedule of SB3's TD3."""
    return dataclasses.replace(
        config,
        num_critics=2,
        policy_delay=2,
        target_noise=0.2,
        batch_size=256,
        embedding=dataclasses.replace(config.embedding, size=0),
        actor=dataclasses.replace(config.actor, hidden_sizes=SB3_SIZES, layer_norm=False),
        critic=dataclasses.replace(config.critic, hidden_sizes=SB3_SIZES, block="plain", loss="squared_error"),
    )


def filled(config: TrainConfig, transitions: int = 10_000) -> tuple[Any, Replay]:
    """Return an agent, and a replay with random-policy transitions of its task."""
    env = make_env(config, config.num_envs)
    agent = make_agent(config, env)
    worker = RolloutWorker(env, agent, seed=0)
    low = torch.as_tensor(env.single_action_space.low).expand(env.num_envs, -1)
    replay_config = dataclasses.replace(config.replay, capacity=2 * transitions)
    replay = Replay(
        replay_config,
        worker.observation,
        low,
        discount=0.99,
        seed=0,
        agent_device=choose_device(config.device),
    )
    while len(replay) < transitions:
        replay.add(worker.step(random=True))
    env.close()
    return agent, replay


def _ours(agent: Any, replay: Replay, updates: int, update: Callable[[Batch], Any]) -> Contestant:
    def measure() -> float:
        begin = time.perf_counter()
        for _ in range(updates):
            update(replay.sample(agent.sample_size))
        synchronize()
        return updates / (time.perf_counter() - begin)

    return measure


def _sb3(config: TrainConfig, updates: int, pairs: int) -> Contestant:
    """SB3's gradient steps a second; an update of K pairs counts as K of them."""
    sb3 = importlib.import_module("stable_baselines3")
    agent = config.agent
    sizes = {"pi": list(agent.actor.hidden_sizes), "qf": list(agent.critic.hidden_sizes)}
    kind = sb3.TD3 if agent.num_critics == 2 else sb3.DDPG
    model = kind(
        "MlpPolicy",
        gymnasium.make(f"{config.env.name}-v5"),
        batch_size=agent.batch_size,
        learning_starts=1000,
        buffer_size=20_000,
        policy_kwargs={"net_arch": sizes},
        device=str(choose_device(config.device)),
    )
    model.learn(1001)

    def measure() -> float:
        begin = time.perf_counter()
        model.train(updates, agent.batch_size)
        return updates / pairs / (time.perf_counter() - begin)

    return measure


def matmul_shapes(agent: ActorCritic) -> list[tuple[int, int, int, int, float]]:
    """Return (K, rows, inner, columns, times an update) of every matrix product an update needs.

    The targets' forward passes; forward, weight and input gradients of the critics; and, when the actors'
    turn comes, forward and gradients of the actors, through one critic each or, where they are stochastic, through
    all. Batch-normalized networks see present and next rows in one batch. The first layer's input gradient
    is needed nowhere but for the action's columns, and those of its embedding. Embeddings are one network for all
    pairs: forward and gradients where they learn; the slow ones forward, and back to the action in the actors' turn.
    """
    config = agent.config
    pairs, critics, embedded = config.num_pairs, config.num_pairs * config.num_critics, config.embedding.size
    size, action_size = agent.normalizer.mean.shape[-1], agent.action_range.size
    actor, critic = weights_of(agent.actors), weights_of(agent.critics)
    turn, batch = 1.0 / config.policy_delay, config.batch_size
    joint_actor = 2 * batch if agent.actors.joint_batches else batch
    shapes: list[tuple[int, int, int, int, float]] = []

    def layers(
        count: int, sizes: list[tuple[int, int]], times: float, rows: int, *, weights: bool = False, inputs: int = 0
    ) -> None:
        for place, (wide, out) in enumerate(sizes):
            shapes.append((count, rows, wide, out, times))
            if weights:
                shapes.append((count, wide, rows, out, times))
            if inputs:
                shapes.append((count, rows, out, wide if place else inputs, times))
            elif weights and place:
                shapes.append((count, rows, out, wide, times))

    layers(pairs, actor, 1.0, batch)
    if agent.critics.joint_batches:
        if agent.critics.slow_copies:
            layers(critics, critic, 1.0, 2 * batch)
        layers(critics, critic, 1.0, 2 * batch, weights=True)
    else:
        judged_twice = getattr(config, "bootstrap_from", "pair") == "neighbours" and pairs > 1
        for _ in range(2 if judged_twice else 1):
            layers(critics, critic, 1.0, batch)
        layers(critics, critic, 1.0, batch, weights=True)
    layers(pairs, actor, turn, joint_actor, weights=True)
    layers(critics if agent.stochastic else pairs, critic, turn, batch, inputs=action_size + embedded)
    if embedded:
        of_state = pairs_of([size, *config.embedding.hidden_sizes, embedded])
        of_action = pairs_of([embedded + action_size, *config.embedding.hidden_sizes, embedded])
        rows = pairs * batch
        for network in (of_state, of_state, of_state, of_action, of_action):
            layers(1, network, 1.0, rows)
        layers(1, of_state, 1.0, rows, weights=True)
        layers(1, of_action, 1.0, rows, weights=True, inputs=embedded)
        layers(1, of_action, turn, rows, inputs=action_size)
    return shapes


def weights_of(stacked: nn.Module) -> list[tuple[int, int]]:
    """Return inputs and outputs of each of a stacked network's matrices, in their order; biases and scales are none."""
    return [(p.shape[1], p.shape[2]) for p in stacked.parameters() if p.dim() == 3 and p.shape[1] > 1]


def pairs_of(sizes: list[int]) -> list[tuple[int, int]]:
    """Return inputs and outputs of a network's layers."""
    return list(itertools.pairwise(sizes))


def _matmul(agent: ActorCritic, updates: int) -> Contestant:
    """The same arithmetic, in the updates' dtype, as one chain of batched matrix products into ready-made memory."""
    options: dict[str, Any] = {"device": agent.action_range.center.device, "dtype": agent.update_dtype}
    products = []
    for count, rows, inner, columns, times in matmul_shapes(agent):
        left = torch.randn(count, rows, inner, **options)
        right = torch.randn(count, inner, columns, **options)
        products.append((left, right, torch.empty(count, rows, columns, **options), round(1 / times)))

    def measure() -> float:
        begin = time.perf_counter()
        for update in range(updates):
            for left, right, out, every in products:
                if update % every == 0:
                    torch.bmm(left, right, out=out)
        synchronize()
        return updates / (time.perf_counter() - begin)

    return measure
