"""Critics that NCP's predictor chose: codes are scored on stored transitions, three are trained online.

A stored replay is the teacher's own behaviour with noise. A code is worth minus the error, on transitions that were
held out, of a critic that has learned the bootstrapped targets r + discount * Q(s', pi(s')) of the teacher's critics.
Which code tells those best need not be the best one online, so three critics are trained online: the one that was
chosen, the agent's own, and the smallest.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.assembly import make_evaluation_env, prepare_torch
from agents.loading import PolicyConfig, load_policy
from agents.plain import Teacher
from envs.evaluation.latency import median_milliseconds
from envs.evaluation.search.evaluators import FunctionEvaluator
from envs.evaluation.search.metric_table import scored_table
from envs.evaluation.search.ncp import CodePredictor, EditConfig, PredictorConfig, propagate, select
from envs.evaluation.search.random import RandomSearch
from envs.evaluation.search.space import Architecture
from envs.evaluation.search.spaces.code import CriticSpace
from envs.evaluation.search.strategy import search
from rlsuite.data.minibatches import minibatch
from rlsuite.running.seeding import JUDGED_ON, derive_seed
from rlsuite.scoring import evaluate

WIDTHS, DEPTH, NOISE, ENVIRONMENTS, BATCH_SIZE, HELD_OUT = (32, 256, 32), 3, 0.3, 64, 128, 0.25
OWN = {"width": 256, "depth": 2, "block": 0}  # the agent's own critic


def search_critics(arm: str, seed: int, folder: Path, *, run: str, labels: int, steps: int) -> dict[str, Any]:
    """Return "tau" of held-out labels, and for the critics "chosen", "own" and "smallest": "arguments", error, costs.

    Args:
        arm: not used.
        seed: of everything.
        folder: where the history is kept.
        run: the teacher's.
        labels: codes whose critics learn.
        steps: minibatches of each.
    """
    torch.set_num_threads(1)
    began = time.process_time()
    replay = stored(run, seed)
    space = CriticSpace(WIDTHS, DEPTH, inputs=(replay["observation"].shape[1], replay["action"].shape[1]))

    def score(code: Architecture) -> float:
        return -held_out_error(space, code, replay, steps, seed)

    outcome = search(
        space,
        RandomSearch(space, seed=seed),
        FunctionEvaluator(score),
        budget=labels,
        folder=folder,
        description={"method": "ncp", "run": run, "seed": seed, "steps": steps},
    )
    known = dict(outcome.judged)
    predictor = CodePredictor(space, PredictorConfig(members=3), seed=seed)
    tried = list(known)
    tau = predictor.fit_table(scored_table(space, tried, np.asarray([known[code] for code in tried]))).tau
    edits = propagate([predictor], space.middle(), EditConfig(cost_weight=0.5))
    chosen = select([predictor], edits)
    assert chosen is not None
    codes = {"chosen": chosen.architecture, "own": space.of_values(OWN), "smallest": space.smallest()}
    critics = {name: critic_figures(space, code, replay, steps, seed) for name, code in codes.items()}
    return {
        "tau": tau if np.isfinite(tau) else 0.0,
        "critics": critics,
        "seconds": round(time.process_time() - began, 1),
    }


def judge_run(run: str, episodes: int, seed: int) -> list[float]:
    """Return what a trained agent earns in each of some episodes."""
    agent, config, _ = load_policy(PolicyConfig(run=(run,), device="cpu"))
    prepare_torch(dataclasses.replace(config, num_threads=1))
    env = make_evaluation_env(config, episodes, num_threads=1, device="cpu")
    found = evaluate(lambda seen: agent.act(seen, False), env, seed=derive_seed(seed, JUDGED_ON)).returns
    env.close()
    return [float(value) for value in found]


@torch.no_grad()
def stored(run: str, seed: int) -> dict[str, Tensor]:
    """Return transitions of the teacher with noise: "observation" and "action" (M, ...), and "target" (M,)."""
    agent, config, _ = load_policy(PolicyConfig(run=(run,), device="cpu"))
    prepare_torch(dataclasses.replace(config, num_threads=1))
    teacher, discount = Teacher(agent), float(config.agent.discount)
    env = make_evaluation_env(config, ENVIRONMENTS, num_threads=1, device="cpu")
    generator = torch.Generator().manual_seed(derive_seed(seed, "noise"))
    observation, _ = env.reset(seed=derive_seed(seed, "replay"))
    low, high = (torch.as_tensor(bound) for bound in (env.single_action_space.low, env.single_action_space.high))
    rows: dict[str, list[Tensor]] = {"observation": [], "action": [], "target": []}
    for _ in range(50):
        action = teacher(observation)
        noise = NOISE * torch.randn(action.shape, generator=generator)
        action = (action + noise).clamp(low, high)
        behind, reward, terminated, truncated, info = env.step(action)
        last = (terminated | truncated)[:, None]
        behind_or_final = torch.where(last, info["final_obs"], behind) if bool(last.any()) else behind
        value = teacher.value(behind_or_final, teacher(behind_or_final))
        rows["observation"].append(observation.clone())
        rows["action"].append(action)
        rows["target"].append(reward.float() + discount * torch.where(terminated, 0.0, value.float()))
        observation = behind
    env.close()
    return {name: torch.cat(parts).float() for name, parts in rows.items()}


def held_out_error(space: CriticSpace, code: Architecture, replay: dict[str, Tensor], steps: int, seed: int) -> float:
    """Return the mean square error, in the targets' variance, on what a critic of this code has not learned from."""
    inputs = torch.cat([replay["observation"], replay["action"]], dim=1)
    target = (replay["target"] - replay["target"].mean()) / replay["target"].std()
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(derive_seed(seed, "held out")))
    first = round(HELD_OUT * len(inputs))
    held, learned = order[:first], order[first:]
    critic = space.build(code)
    optimizer = torch.optim.Adam(critic.parameters(), lr=1e-3)
    for step in range(steps):
        index = learned[minibatch(derive_seed(seed, "minibatches"), step, len(learned), BATCH_SIZE)]
        loss = (critic(inputs[index][None])[0, :, 0] - target[index]).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return float((critic(inputs[held][None])[0, :, 0] - target[held]).square().mean())


def critic_figures(
    space: CriticSpace, code: Architecture, replay: dict[str, Tensor], steps: int, seed: int
) -> dict[str, Any]:
    """Return a critic's arguments for train_agent.py, its error, costs and milliseconds for one example in torch."""
    config, cost, critic = space.critic(code), space.cost(code), space.build(code)
    example = torch.zeros(1, 1, sum(space.inputs))
    with torch.no_grad():
        milliseconds = median_milliseconds(lambda: critic(example))
    sizes = ",".join(map(str, config.hidden_sizes))
    return {
        "arguments": [f"agent.critic.hidden_sizes=[{sizes}]", f"agent.critic.block={config.block}"],
        "error": held_out_error(space, code, replay, steps, seed),
        "macs": cost["macs"],
        "bytes": 4 * cost["parameters"],
        "milliseconds/torch": milliseconds,
    }
