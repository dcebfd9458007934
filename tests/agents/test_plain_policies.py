"""Agents' policies as plain layers: exact where they can be, students where they cannot, judged in their task."""

import pytest
import torch

from agents.assembly import make_agent, make_env
from agents.plain import Teacher, largest_difference, plain_policy
from agents.subject import JudgeConfig, policy_subject
from envs.evaluation.catalogue import EVALUATIONS
from envs.evaluation.recipe import load_network, same_bits, save_network
from envs.evaluation.transform import TeachConfig
from rlsuite.config.compose import compose_train
from rlsuite.errors import UserError
from rlsuite.fit import FitConfig
from rlsuite.methods import choose

EXACT = {
    "td3": ["agent=td3"],
    "sac": ["agent=sac"],
    "ppo": ["agent=ppo"],
    "layer norm": ["agent=td3", "agent.actor.layer_norm=true"],
    "one actor of ace": ["agent=ace", "agent.num_actors=1", "agent.num_scoring_critics=1"],
    "target actors": ["agent=ddpg", "agent.act_with_targets=true"],
}


def made(*arguments):
    config, _ = compose_train([*arguments, "env=Reacher", "preset=debug", "device=cpu", "num_threads=1"])
    env = make_env(config, config.num_envs)
    agent = make_agent(config, env)
    observation, _ = env.reset(seed=0)
    if hasattr(agent, "normalizer"):
        agent.normalizer.update(observation)
    env.close()
    return agent, config, observation


@pytest.mark.parametrize("name", EXACT)
def test_a_single_actor_is_copied_exactly(name):
    agent, _, observation = made(*EXACT[name])
    plain = plain_policy(agent)
    assert plain.exact
    assert plain.origin == "the agent's own layers, copied exactly"
    assert largest_difference(plain.policy, Teacher(agent), observation) < 1e-5


STUDENTS = {
    "the first actor, which the vote of all actors taught": ["agent=ace"],
    "a fresh network of the actor's sizes, which the agent taught": ["agent=td3", "agent.embedding.size=8"],
    "a fresh network of the actor's sizes, which the vote of all actors taught": [
        "agent=ace",
        "agent.embedding.size=8",
    ],
}


@pytest.mark.parametrize("given", [["agent=flash_sac"], ["agent=td3", "agent.actor.output_limit=1"]])
def test_layers_that_are_not_plain_give_a_fresh_student(given):
    agent, _, observation = made(*given)
    plain = plain_policy(agent)
    assert (plain.exact, plain.origin) == (False, "a fresh network of the actor's sizes, which the agent taught")
    assert largest_difference(plain.policy, Teacher(agent), observation) > 1e-2  # it has learned nothing yet


@pytest.mark.parametrize("origin", STUDENTS)
def test_a_vote_or_embeddings_give_a_student(origin):
    agent, _, observation = made(*STUDENTS[origin])
    plain = plain_policy(agent)
    assert not plain.exact
    assert plain.origin == origin
    assert plain.policy(observation).shape == Teacher(agent)(observation).shape


def test_the_vote_teaches_the_first_actor():
    agent, *_ = made("agent=ace")
    first = agent.actors.network.layers[0]
    begun = plain_policy(agent).policy.layers[0]
    assert torch.equal(begun.weight, first.weight[0].T)
    assert torch.equal(begun.bias, first.bias[0, 0])


def test_painters_are_refused():
    config, _ = compose_train(["agent=painter", "env=Painting", "preset=debug", "device=cpu"])
    env = make_env(config, config.num_envs)
    with pytest.raises(UserError, match="no policy of plain layers"):
        plain_policy(make_agent(config, env))
    env.close()


def test_a_student_learns_its_teacher_and_comes_back_from_its_file(tmp_path):
    agent, config, observation = made("agent=ace")
    teaching = TeachConfig(fit=FitConfig(steps=150, batch_size=64), rounds=2)
    judge = JudgeConfig(episodes=3, states=400, num_threads=1)
    subject = policy_subject(agent, config, judge, teaching, seed=0)
    task = subject.task
    batch = task.source("test").examples(torch.arange(200))
    with torch.no_grad():
        learned = float(task.loss(subject.module, batch).mean())
        fresh = float(task.loss(plain_policy(agent).policy, batch).mean())
    assert learned < 0.5 * fresh
    assert task.score(subject.module, 0).shape == (3,)
    assert task.floor < 0.0  # Reacher's rewards are costs
    path = tmp_path / "policy.safetensors"
    save_network(path, subject.module, subject.base, subject.recipe)
    with torch.no_grad():
        assert same_bits(load_network(path)[0](observation), subject.module(observation))


def test_a_student_that_will_be_refused_is_refused_before_it_is_taught(monkeypatch):
    """ACE votes with ELU actors, which whole numbers cannot be: the layer is named, and nothing has been learned."""
    agent, config, _ = made("agent=ace", "agent.actor.activation=elu")
    judge = JudgeConfig(episodes=1, states=64, num_threads=1)
    brelu, sat = (method.build() for method in choose(EVALUATIONS, ["brelu", "sat"]))
    taught = []
    monkeypatch.setattr("agents.subject.teach", lambda *given: taught.append(given))
    with pytest.raises(UserError, match=r"1 \(ELU\): whole numbers cannot do this"):
        policy_subject(agent, config, judge, TeachConfig(), seed=0, examine=brelu.examine)
    assert not taught
    policy_subject(agent, config, judge, TeachConfig(), seed=0, examine=sat.examine)
    assert len(taught) == 1
