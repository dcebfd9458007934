"""A run directory, checkpoint or failure record is data: whatever it says of its agent, no code of its choice runs."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
import yaml
from hydra.core.config_store import ConfigStore
from safetensors.torch import save_file

from rlsuite import agent_registry
from rlsuite.agent import Agent
from rlsuite.cli import run_script
from rlsuite.errors import UserError
from rlsuite.records.checkpoint_format import write_manifest
from scripts import evaluate_agent, export_policy, replay_failure, train_agent

MODULE = '''
"""An agent from elsewhere, and proof that its module was imported."""
from dataclasses import dataclass
from pathlib import Path

import torch

from rlsuite.agent import Agent

Path(__file__).with_name("imported").touch()


@dataclass(frozen=True, kw_only=True)
class StillConfig:
    """Attributes:
        discount: of nothing.
        batch_size: of nothing.
    """

    discount: float = 0.9
    batch_size: int = 4


class Still(Agent):
    """Does nothing, and learns how often it did."""

    Config = StillConfig

    def __init__(self, facts, config, **others):
        super().__init__(facts, config, **others)
        self.register_buffer("updates", torch.zeros(()))

    def act(self, observation, explore):
        return torch.zeros(len(observation), self.facts.action_size)

    def update(self, batch):
        self.updates += 1
        return {"td_error": torch.zeros_like(batch.reward)}
'''

AGENTS = {
    "a target": {"name": "ace", "target": "elsewhere.Still"},
    "a target of the standard library": {"name": "ace", "target": "os.system"},
    "a target with a colon": {"name": "ace", "target": "elsewhere:Still"},
    "a target that is no text": {"name": "ace", "target": ["elsewhere.Still"]},
    "a name that is a path": {"name": "elsewhere:Still"},
    "a name that is an older path": {"name": "elsewhere.Still"},
    "both": {"name": "elsewhere:Still", "target": "elsewhere.Still"},
    "an unknown name with a known target": {"name": "mine", "target": "agents.ace.ACE"},
    "the standard library": {"name": "os:system"},
    "the suite's own, past its name": {"name": "agents.ace:ACE"},
    "a file": {"name": "../../elsewhere.py"},
    "two lines": {"name": "ace\nelsewhere:Still"},
    "no text": {"name": {"elsewhere:Still": 1}},
}


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A module that leaves a mark where it is imported; it could be."""
    folder = tmp_path / "path"
    folder.mkdir()
    (folder / "elsewhere.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(agent_registry, "_trusted", set())
    options = ConfigStore.instance().repo
    monkeypatch.setitem(options, "agent", dict(options.get("agent", {})))
    yield folder
    sys.modules.pop("elsewhere", None)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run whose files are then changed."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    arguments = ["agent=ace", "env=InvertedPendulum", "preset=debug", "evaluate.every=0", "steps=300", "num_threads=1"]
    assert run_script(train_agent.main, [*arguments, f"run_dir={folder}"]) == 0
    return folder


def forged(trained, tmp_path, agent):
    """Return a copy of a run, its config and its checkpoints of this agent."""
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    plain = yaml.safe_load((folder / "config.yaml").read_text())
    plain["agent"] = {key: value for key, value in plain["agent"].items() if key != "name"} | agent
    (folder / "config.yaml").write_text(yaml.safe_dump(plain))
    for path in (folder / "checkpoints").glob("*/manifest.json"):
        write_manifest(path.parent, with_agent(json.loads(path.read_text()), plain["agent"]))  # whoever forges, signs
    return folder


def with_agent(record, agent):
    """Put an agent into every config that a record holds."""
    if isinstance(record, dict):
        is_config = "agent" in record and "env" in record
        changed = {key: with_agent(value, agent) for key, value in record.items()}
        return changed | {"agent": agent} if is_config else changed
    return record


def refused_in_one_line(capsys, main, arguments):
    assert run_script(main, arguments) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize("case", AGENTS)
def test_no_code_that_a_run_directory_names_is_imported(trained, tmp_path, elsewhere, capsys, case):
    folder = forged(trained, tmp_path, AGENTS[case])
    capsys.readouterr()
    before = set(sys.modules)
    for main, argument in (
        (train_agent.main, f"resume={folder}"),
        (evaluate_agent.main, f"run={folder}"),
        (export_policy.main, f"run={folder}"),
    ):
        assert "agent" in refused_in_one_line(capsys, main, [argument])
    assert not (elsewhere / "imported").exists()
    assert "elsewhere" not in set(sys.modules) - before


@pytest.mark.parametrize("case", AGENTS)
def test_no_code_that_a_failure_record_names_is_imported(tmp_path, elsewhere, capsys, case):
    path = tmp_path / "update-1"
    config = {"agent": AGENTS[case], "env": {"id": "rlsuite/Hopper"}}
    record = {"kind": "update", "step": 1, "seed": 0, "nonfinite": [], "config": config}
    path.with_suffix(".json").write_text(json.dumps(record))
    save_file({"batch.reward": torch.zeros(1)}, path.with_suffix(".safetensors"))
    assert "agent" in refused_in_one_line(capsys, replay_failure.main, [str(path)])
    assert not (elsewhere / "imported").exists()


def test_the_command_line_may_name_a_failure_records_agent(tmp_path, elsewhere, capsys):
    path = tmp_path / "update-1"
    config = {"agent": {"name": "elsewhere:Still"}, "env": {"id": "rlsuite/InvertedPendulum"}, "steps": 8}
    record = {"kind": "update", "step": 1, "seed": 0, "nonfinite": [], "config": config}
    path.with_suffix(".json").write_text(json.dumps(record))
    save_file({"batch.reward": torch.zeros(1)}, path.with_suffix(".safetensors"))
    run_script(replay_failure.main, [str(path), "agent=elsewhere:Still"])  # the record is no real one
    assert (elsewhere / "imported").exists()
    assert "Traceback" not in capsys.readouterr().err


def test_what_older_runs_recorded_is_read_over(trained, tmp_path, capsys):
    folder = forged(trained, tmp_path, {"name": "ace", "target": "agents.ace.ACE"})
    arguments = [f"run={folder}", "episodes=2", "num_threads=1"]
    assert run_script(evaluate_agent.main, arguments) == 0
    old = capsys.readouterr().out
    assert run_script(evaluate_agent.main, [f"run={trained}", *arguments[1:]]) == 0
    assert capsys.readouterr().out == old
    assert run_script(train_agent.main, [f"resume={folder}", "steps=400"]) == 0
    assert "target" not in yaml.safe_load((folder / "config.yaml").read_text())["agent"]


def test_an_agent_of_ones_own_is_named_on_every_command_line(tmp_path, elsewhere, capsys):
    folder = tmp_path / "own"
    name = "agent=elsewhere:Still"
    tiny = ["env=InvertedPendulum", "steps=64", "num_envs=2", "learning_starts=8", "evaluate.every=0", "num_threads=1"]
    assert run_script(train_agent.main, [name, *tiny, f"run_dir={folder}"]) == 0
    assert capsys.readouterr().out.rstrip().endswith(f"evaluate_agent.py {folder} {name}")
    assert (elsewhere / "imported").exists()
    assert yaml.safe_load((folder / "config.yaml").read_text())["agent"]["name"] == "elsewhere:Still"
    agent_registry._trusted.clear()  # another process
    capsys.readouterr()
    for main, argument in ((train_agent.main, f"resume={folder}"), (evaluate_agent.main, f"run={folder}")):
        line = refused_in_one_line(capsys, main, [argument])
        assert f"write {name} on the command line" in line
    wrong = refused_in_one_line(capsys, evaluate_agent.main, [f"run={folder}", "agent=ace"])
    assert f"write {name} on the command line" in wrong
    assert run_script(train_agent.main, [f"resume={folder}", name, "steps=96"]) == 0
    assert run_script(evaluate_agent.main, [f"run={folder}", name, "episodes=1", "num_threads=1"]) == 0
    assert "cannot change" in refused_in_one_line(capsys, train_agent.main, [f"resume={folder}", "agent=ace"])


def test_another_agent_than_the_runs_is_refused_in_evaluation(trained, capsys):
    line = refused_in_one_line(capsys, evaluate_agent.main, [f"run={trained}", "agent=ddpg"])
    assert "is of agent=ace; leave it out" in line


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("elsewhere:Nothing", "cannot be imported"),
        ("nowhere.at.all:Agent", "cannot be imported"),
        ("os:system", "is no class derived from rlsuite.agent.Agent"),
        ("elsewhere:StillConfig", "is no class derived from rlsuite.agent.Agent"),
        ("rlsuite.agent:Agent", "is no class derived from rlsuite.agent.Agent"),  # the base has no Config
    ],
)
def test_what_is_no_agent_is_one_line(elsewhere, capsys, name, message):
    assert message in refused_in_one_line(capsys, train_agent.main, [f"agent={name}", "env=Hopper"])


def test_an_installed_package_offers_agents_by_name(tmp_path, elsewhere):
    """By the metadata that pip writes, in a process of its own: trained by name, and evaluated with no more said."""
    metadata = elsewhere / "elsewhere-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n")
    offers = "[rlsuite.agents]\nstill = elsewhere:Still\nace = elsewhere:Still\n"  # the suite's names stay its own
    (metadata / "entry_points.txt").write_text(offers)
    code = (
        "from rlsuite import agent_registry; import agents, envs, sys\n"
        "from rlsuite.config.compose import compose_train\n"
        "assert 'still' in agent_registry.agent_names() and 'elsewhere' not in sys.modules\n"
        "config, _ = compose_train(['agent=still', 'env=Hopper', 'agent.discount=0.5'])\n"
        "print(type(config.agent).__name__, config.agent.discount, agent_registry.agent_class('ace').__module__)"
    )
    path = os.pathsep.join([str(elsewhere), *sys.path])
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert found.stdout.split() == ["StillConfig", "0.5", "agents.ace"], found.stderr


def test_the_base_has_nothing_to_do_and_says_what_it_cannot():
    agent = Agent(None, None)
    agent.observe(None)
    agent.observe_relabelled(None)
    agent.interrupt()
    agent.anneal(0.5)
    assert (agent.busy, agent.advance(), agent.diagnostics(), dict(agent.optimizers)) == (False, {}, {}, {})
    with pytest.raises(UserError, match="Agent has no deterministic policy"):
        agent.greedy(torch.zeros(1, 1))
