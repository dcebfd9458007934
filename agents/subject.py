"""From a trained agent to a subject of the evaluation frame: its policy, its task, an observation as an example."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from agents.assembly import make_evaluation_env
from agents.plain import Teacher, plain_policy
from envs.evaluation.policy_task import PolicyTask
from envs.evaluation.recipe import policy_base
from envs.evaluation.subject import Subject
from envs.evaluation.transform import TeachConfig, teach
from rlsuite.agent import Agent
from rlsuite.config.schema import TrainConfig


@dataclass(frozen=True, kw_only=True)
class JudgeConfig:
    """How a policy is judged.

    Attributes:
        episodes: scored for each network, all with the same starts.
        states: visited and labelled for each round of learning.
        num_threads: threads of the simulator; 0 takes all cores.
    """

    episodes: int = 20
    states: int = 20_000
    num_threads: int = 0


def policy_subject(
    agent: Agent,
    config: TrainConfig,
    judge: JudgeConfig,
    teaching: TeachConfig,
    seed: int,
    *,
    examine: Callable[[Subject], None] = lambda subject: None,
) -> Subject:
    """Return a trained agent's policy as a subject, taught first where it is no exact copy of the agent's.

    Args:
        agent: trained.
        config: of its run.
        judge: how it is judged.
        teaching: how a student learns from the agent, where the agent's policy is no plain one.
        seed: of that, and of visited states.
        examine: raises UserError for a network that will be refused: before it is taught, which takes long.
    """
    teacher = Teacher(agent)
    task = PolicyTask(
        functools.partial(make_evaluation_env, config, num_threads=judge.num_threads, device="cpu"),
        teacher,
        episodes=judge.episodes,
        states=judge.states,
        seed=seed,
    )
    plain = plain_policy(agent)
    example = task.source("test").tensors["input"][:1].clone()
    subject = Subject(plain.policy, example, task, policy_base(plain.config), gained=frozenset({"policy"}))
    examine(subject)
    if not plain.exact:
        teach(subject, teaching, seed)
    return subject
