"""docs/contributing.md is true: a toy agent and a toy task, each one file and one line, train, resume, evaluate."""

import os
import shutil
import subprocess
import sys

import pytest
from paths import ROOT

AGENT = '''
"""An agent that guesses, and notes how well it is paid."""

from dataclasses import dataclass

import torch

from rlsuite.agent import Agent


@dataclass(frozen=True, kw_only=True)
class GuessConfig:
    """Guessing.

    Attributes:
        discount: gamma.
        batch_size: B.
    """

    discount: float = 0.9
    batch_size: int = 8


class Guess(Agent):
    """Always does the same; learns the mean reward."""

    Config = GuessConfig

    def __init__(self, facts, config, *, seed=0, device="cpu"):
        super().__init__(facts, config, seed=seed, device=device)
        self.mean = torch.nn.Parameter(torch.zeros((), device=device))
        self.optimizers = {"mean": torch.optim.Adam([self.mean], 0.01)}

    def act(self, observation, explore):
        return torch.zeros(len(observation), self.facts.action_low.numel())

    def update(self, batch):
        error = batch.reward - self.mean
        self.mean.grad = -error.mean().detach()
        self.optimizers["mean"].step()
        return {"mean": self.mean.detach().clone(), "td_error": error.detach().abs()}
'''

TASK = '''
"""A pendulum that is paid for standing straight."""

from dataclasses import dataclass

from envs.locomotion.inverted_pendulum import InvertedPendulum


@dataclass(frozen=True)
class Straight(InvertedPendulum):
    """Options of Straight."""

    name = "Straight"
    max_episode_steps = 40
'''


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    tree = tmp_path_factory.mktemp("adding")
    for name in ("rlsuite", "renderers", "envs", "agents", "scripts"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__", "shipped"))
    (tree / "agents" / "guess.py").write_text(AGENT)
    (tree / "envs" / "locomotion" / "straight.py").write_text(TASK)
    for path, mark, line in (
        ("agents/catalogue.py", "AGENTS = {\n", '    "guess": "agents.guess:Guess",\n'),
        ("envs/catalogue.py", '    "Swimmer": ("loc', '    "Straight": ("locomotion.straight", 40),\n'),
    ):
        text = (tree / path).read_text()
        assert text.count(mark) == 1
        where = text.index(mark) + (len(mark) if mark.endswith("\n") else 0)
        (tree / path).write_text(text[:where] + line + text[where:])
    return tree


def call(tree, script, *arguments):
    command = [sys.executable, str(tree / "scripts" / f"{script}.py"), *arguments]
    done = subprocess.run(
        command, cwd=tree, env={**os.environ, "PYTHONPATH": str(tree)}, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr[-800:]
    return done.stdout


def test_an_agent_and_a_task_are_a_file_and_a_line_each(tree):
    quick = ["num_envs=2", "num_threads=1", "device=cpu", "learning_starts=20", "checkpoint.every=50"]
    quick += ["evaluate.every=50", "evaluate.episodes=2", "log.every=50", "run_dir=run"]
    assert "finished at step 100" in call(tree, "train_agent", "agent=guess", "env=Straight", "steps=100", *quick)
    assert "finished at step 200" in call(tree, "train_agent", "resume=run", "steps=200")
    said = call(tree, "evaluate_agent", "run=run", "episodes=3", "num_threads=1")
    assert "rlsuite/Straight" in said
