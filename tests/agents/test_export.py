"""Exported policies in onnxruntime against the agents they came from."""

import json

import gymnasium
import pytest
import torch

from agents.ace import ACE, ACEConfig
from agents.actor_critic import ActorCritic
from agents.actor_critic_config import ActorCriticConfig
from agents.export import difference_in_onnxruntime, export_onnx
from agents.ppo import PPO, PPOConfig
from rlsuite.agent import Agent
from rlsuite.cli import run_script
from rlsuite.errors import UserError
from rlsuite.nn.actors import ActorConfig
from rlsuite.nn.critics import CriticConfig
from rlsuite.nn.embedding import EmbeddingConfig
from rlsuite.vector_env import EnvironmentFacts

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

FACTS = EnvironmentFacts.of_vectors(4, [-2.0, -1.0], [1.0, 3.0])
SMALL = {"actor": ActorConfig(hidden_sizes=(8, 8)), "critic": CriticConfig(hidden_sizes=(8, 8), block="layer_norm")}
AGENTS = {
    "ddpg": (ActorCritic, ActorCriticConfig(**SMALL)),
    "ace": (ACE, ACEConfig(num_pairs=3, **SMALL)),
    "ace with twins, standardized": (ACE, ACEConfig(num_pairs=3, num_critics=2, normalize_scores=True, **SMALL)),
    "ace with embeddings": (ACE, ACEConfig(num_pairs=2, embedding=EmbeddingConfig(size=6, hidden_sizes=(8,)), **SMALL)),
    "A2C0": (ACE, ACEConfig(num_pairs=2, num_scoring_critics=0, **SMALL)),
    "ppo, whose hidden units are tanh": (PPO, PPOConfig(hidden_sizes=(8, 8))),
    "batch norm": (
        ACE,
        ACEConfig(num_pairs=2, critic=CriticConfig(hidden_sizes=(8,), block="batch_norm"), actor=SMALL["actor"]),
    ),
}


@pytest.mark.parametrize("name", AGENTS)
def test_the_file_acts_as_the_agent_for_any_number_of_rows(tmp_path, name):
    kind, config = AGENTS[name]
    agent = kind(FACTS, config, seed=1)
    agent.normalizer.update(torch.randn(50, 4) * 7 + 3)
    path = export_onnx(agent, 4, tmp_path / "policy.onnx")
    for rows in (1, 2, 33):
        assert difference_in_onnxruntime(agent, path, torch.randn(rows, 4) * 5) < 1e-5


def test_an_agent_goes_on_learning_after_its_export(tmp_path):
    agent = ActorCritic(FACTS, ActorCriticConfig(**SMALL))
    wanted = [weight.requires_grad for weight in agent.parameters()]
    export_onnx(agent, 4, tmp_path / "policy.onnx")
    assert [weight.requires_grad for weight in agent.parameters()] == wanted


def test_an_ensemble_of_runs_keeps_each_members_normalizer(tmp_path):
    members = [ActorCritic(FACTS, ActorCriticConfig(**SMALL), seed=seed) for seed in range(2)]
    for place, member in enumerate(members):
        member.normalizer.update(torch.randn(50, 4) * (1 + place) + 5 * place)
    ensemble = ACE.from_members(members, ACEConfig(num_pairs=2, **SMALL))
    path = export_onnx(ensemble, 4, tmp_path / "policy.onnx")
    assert difference_in_onnxruntime(ensemble, path, torch.randn(16, 4)) < 1e-5


def test_what_cannot_be_exported_is_one_line(tmp_path):
    class Undecided(Agent):
        pass

    agent = Undecided(FACTS, None)
    agent.weights = torch.nn.Linear(1, 1)
    with pytest.raises(UserError, match="Undecided has no deterministic policy"):
        export_onnx(agent, 4, tmp_path / "policy.onnx")
    assert all(weight.requires_grad for weight in agent.parameters())


def test_the_script_exports_a_run_and_the_example_runs_it_in_gymnasium(tmp_path, capsys, monkeypatch):
    import runpy
    import sys
    from pathlib import Path

    from scripts import export_policy, train_agent

    run = tmp_path / "run"
    small = ["agent=ace", "env=InvertedPendulum", "preset=debug", "steps=400", "evaluate.every=0", f"run_dir={run}"]
    assert run_script(train_agent.main, small) == 0
    assert run_script(export_policy.main, [f"run={run}"]) == 0
    found = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert found["path"] == str(run / "policy.onnx")
    assert found["bytes"] > 0
    example = Path(export_policy.__file__).parent / "examples" / "run_exported_policy.py"
    monkeypatch.setattr(sys, "argv", ["example", found["path"], "InvertedPendulum-v5"])
    runpy.run_path(str(example))
    total = float(capsys.readouterr().out.strip().splitlines()[-1])
    assert 1.0 <= total <= gymnasium.spec("InvertedPendulum-v5").max_episode_steps
