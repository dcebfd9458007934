"""Policy blending: a fresh policy, usually a larger one, learns to act as trained ones do, and then goes on by itself.

What deepsense.ai did in "Learning to Run" (arXiv:1804.00361): small networks, which learn fast, are cloned into a
larger one, whose training goes on. How they did it is not known; this is our reading, which is dataset aggregation
(Ross, Gordon and Bagnell 2011, arXiv:1011.0686): in each of several rounds every environment is led either by a teacher
or by the student, whose share grows from 0 in the first round to 1 in the last; the student learns, by regression on
all that was seen so far (and on its mirror images, where agent.mirrored=true), what the environment's teacher would do
there. Its value function learns nothing of it: the first rollouts of its own teach it.

Shapes: N environments, T steps of a round, M states of a minibatch, R states seen so far, D observation, A action.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from agents.on_policy import OnPolicyAgent
from rlsuite.agent import Agent
from rlsuite.errors import UserError, require, require_finite
from rlsuite.optim.state import adam
from rlsuite.optim.step import take_step
from rlsuite.vector_env import VectorEnv


@dataclass(frozen=True, kw_only=True)
class BlendConfig:
    """How it is taught.

    Attributes:
        rounds: in which the student's share goes from 0 to 1.
        round_length: T, steps of every environment in each round.
        num_envs: N; environment n is taught by teacher n mod their number.
        passes: over all that was seen, in each round.
        minibatch_size: M.
        learning_rate: of Adam.
        seed: of environments, shares and minibatches.
    """

    rounds: int = 10
    round_length: int = 250
    num_envs: int = 16
    passes: int = 4
    minibatch_size: int = 256
    learning_rate: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.rounds >= 2, f"rounds={self.rounds}: the student's share goes from 0 to 1; use 2 or more")
        for name in ("round_length", "num_envs", "passes", "minibatch_size"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require_finite("learning_rate", self.learning_rate, above=0.0)
        require(self.seed >= 0, f"seed={self.seed}: use 0 or more")

    def share(self, number: int) -> float:
        """Return the student's share of the environments in a round, counted from 0."""
        return number / (self.rounds - 1)


def check_teachers(teachers: Sequence[Agent], student: Agent) -> None:
    """Raise UserError unless all see and do what the student does, and the student is one that can be taught."""
    require(bool(teachers), "run= is missing; name the teachers' run directories")
    if not isinstance(student, OnPolicyAgent):
        raise UserError(f"{type(student).__name__} is not taught here; use teachers whose agent is ppo or trpo")
    require(student.picture_shape is None, "the student sees pictures; clone_policy.py teaches policies of pictures")
    for teacher in teachers:
        for name in ("observation_space", "action_space"):
            own, wanted = getattr(teacher.facts, name), getattr(student.facts, name)
            if own != wanted:
                raise UserError(f"a teacher's {name} is {own} and the student's {wanted}; use runs of one task")


def blend(student: OnPolicyAgent, teachers: Sequence[Agent], env: VectorEnv, config: BlendConfig) -> list[float]:
    """Teach a student; return for each round how it differed from its teachers in states not yet learned from.

    Args:
        student: its actor and normalizer change.
        teachers: trained agents; they act greedily.
        env: config.num_envs environments.
        config: how.

    Returns:
        Root mean square differences of actions in half action ranges; of choices, the share that differed.

    Raises:
        UserError: if student and teachers do not go together.
    """
    check_teachers(teachers, student)
    generator = torch.Generator().manual_seed(config.seed)
    observation, _ = env.reset(seed=config.seed)
    optimizer = adam(student.actor.parameters(), config.learning_rate)
    seen: list[Tensor] = []
    labels: list[Tensor] = []
    differences = []
    for number in range(config.rounds):
        leads = (torch.rand(config.num_envs, generator=generator) < config.share(number)).to(observation.device)
        states, actions = [], []
        for _ in range(config.round_length):
            own, taught = student.act(observation, False), taught_actions(teachers, observation)
            states.append(observation.clone())
            actions.append(taught)
            row = leads.view(-1, *[1] * (taught.dim() - 1))
            observation = env.step(torch.where(row, own, taught))[0]
        newest, wanted = torch.cat(states), torch.cat(actions)
        differences.append(float(_difference(student, newest, wanted)))
        if student.images is not None:  # what is left and right must be standardized, and taught, alike
            newest, wanted = student.images.of_rows(newest, wanted)
        seen.append(newest)
        labels.append(wanted)
        if student.normalizes:
            student.normalizer.update(newest[..., : student.observation_size])
        _learn(student, optimizer, torch.cat(seen), torch.cat(labels), config, generator)
    return differences


@torch.no_grad()
def taught_actions(teachers: Sequence[Agent], observation: Tensor) -> Tensor:
    """Return each environment's teacher's action (N, A): teacher n mod their number's."""
    actions = torch.stack([teacher.act(observation, False) for teacher in teachers])
    row = torch.arange(len(observation), device=observation.device)
    return actions[row % len(teachers), row]


def _learn(
    student: OnPolicyAgent,
    optimizer: torch.optim.Optimizer,
    observation: Tensor,
    label: Tensor,
    config: BlendConfig,
    generator: torch.Generator,
) -> None:
    """Do some passes of regression over states (R, D) and their labels (R, A)."""
    observation = student.normalize(observation)
    parameters = list(student.actor.parameters())
    for _ in range(config.passes):
        order = torch.randperm(len(observation), generator=generator).to(observation.device)
        for part in order.split(config.minibatch_size):
            loss = blending_loss(student, observation[part], label[part])
            take_step(optimizer, parameters, torch.autograd.grad(loss, parameters))


def blending_loss(student: OnPolicyAgent, observation: Tensor, label: Tensor) -> Tensor:
    """Return the mean squared error of actions in half ranges, or of choices the mean negative log probability.

    Args:
        student: who learns.
        observation: (M, D) standardized.
        label: (M, A) the teachers' actions, in the environment's units.
    """
    mean = student.mean(observation)
    if student.choices:
        return -student.law(mean).log_prob(student.action_range.to_policy(label)).mean()
    return (mean - student.action_range.to_policy(label)).square().mean()


@torch.no_grad()
def _difference(student: OnPolicyAgent, observation: Tensor, label: Tensor) -> Tensor:
    own = student.act(observation, False)
    if student.choices:
        return (own != label).float().mean()
    to_policy = student.action_range.to_policy
    return (to_policy(own) - to_policy(label)).square().mean().sqrt()
