"""train_agent.py from the command line: what it refuses, what it leaves behind, sweeps."""

import json
import os
import shutil
import sys

import pytest
import torch
import yaml

from rlsuite.cli import run_script
from rlsuite.records.run_lock import RunLock
from scripts import train_agent, train_sweep

TINY = ["agent=ddpg", "env=InvertedPendulum", "preset=debug", "num_threads=1", "steps=48", "learning_starts=16"]
TINY += ["checkpoint.every=16", "evaluate.every=24", "evaluate.episodes=2", "log.every=16"]


def cli(*arguments):
    return run_script(train_agent.main, [str(argument) for argument in arguments])


def refused(capsys, *arguments):
    """Run, check status 2 and a single error line, and return that line."""
    capsys.readouterr()
    assert cli(*arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert error.startswith("error: ")
    return error


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A finished tiny run, not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    assert cli(*TINY, f"run_dir={folder}") == 0
    return folder


@pytest.fixture
def copied(run_dir, tmp_path):
    """A copy of the finished run that a test may change."""
    return shutil.copytree(run_dir, tmp_path / "copied", symlinks=True)


# -- help, and what a run leaves behind ---------------------------------------------------------------------


HEADS = "keys of agent=ace:", "agent=td3 has the keys of agent=ddpg; defaults that differ from its:"


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_lists_agents_tasks_and_keys(capsys, flag):
    assert cli(flag, "all") == 0
    text = capsys.readouterr().out
    for word in (
        "ace, ddpg, dqn, flash_sac, her, painter, painter_ddpg, pombu, ppo, sac, scribe, scribe_ddpg, sher, td3, trpo",
        "Humanoid",
        "Walker2d",
        "debug, long, none, paper",
        "resume=",
        "run_dir=",
        "-m",
    ):
        assert word in text
    for key in ("steps=1000000", "replay.capacity=", "agent.critic.block=layer_norm", "agent.num_actors=0", "env.id="):
        assert key in text
    # What an agent's YAML says, and not the textbook's defaults of its dataclass.
    ace, td3 = (text.partition(f"\n{head}\n")[2].partition("\n\n")[0] for head in HEADS)
    assert "  agent.num_pairs=2  " in ace
    assert {line.strip() for line in td3.splitlines()} == {
        "agent.num_critics=2",
        "agent.policy_delay=2",
        "agent.target_noise=0.2",
        "agent.target_rate=0.02",
    }


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_the_short_help_fits_on_a_screen_and_nothing_is_trained(capsys, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    assert cli(*arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 23  # the prompt has the last one
    assert max(map(len, lines)) < 80
    text = "\n".join(lines)
    for word in (
        "ace, ddpg,",
        "presets:",
        "Ant, ",
        "more",
        "steps=1000000",
        "--help agent=td3",
        "--help all",
        "resume runs/",
    ):
        assert word in text
    assert not list(tmp_path.iterdir())


def test_the_help_of_an_agent_has_its_keys_alone(capsys):
    assert cli("--help", "agent=td3", "env=Hopper") == 0
    text = capsys.readouterr().out
    assert "  agent.policy_delay=2  critic updates" in text
    assert "agent.gae_lambda" not in text
    assert "for Hopper:" in text
    assert "--help takes agent=<name>" in refused(capsys, "--help", "steps=3")


def test_version_5_of_gymnasiums_tasks_is_the_suites(capsys, tmp_path):
    folder = tmp_path / "run"
    assert cli(*[word.replace("InvertedPendulum", "InvertedPendulum-v5") for word in TINY], f"run_dir={folder}") == 0
    assert yaml.safe_load((folder / "config.yaml").read_text())["env"]["id"] == "rlsuite/InvertedPendulum"
    error = refused(capsys, "env=Hopper-v4")
    assert "env=gymnasium env.id=Hopper-v4" in error
    assert "env=Hopper" in error


def test_a_run_is_resumed_by_its_place(capsys, copied):
    assert cli("resume", copied, "steps=64") == 0
    said = capsys.readouterr().out
    assert str(copied) in said
    assert said.endswith(f"finished at step 64; next:\n  python scripts/evaluate_agent.py {copied}\n")


def test_a_run_directory_holds_what_was_promised(run_dir):
    config = yaml.safe_load((run_dir / "config.yaml").read_text())
    assert config["steps"] == 48
    assert config["agent"]["name"] == "ddpg"
    kinds = [json.loads(line)["kind"] for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert kinds == ["train", "evaluate", "train", "train", "evaluate"]
    assert list(run_dir.glob("events.out.tfevents.*"))
    assert (run_dir / "checkpoints" / "latest").read_text().strip() == "48"
    newest = run_dir / "checkpoints" / "48"
    manifest = json.loads((newest / "manifest.json").read_text())
    assert manifest["step"] == 48
    for part in ("agent", "optimizers", "replay", "environment", "worker"):
        assert (newest / f"{part}.safetensors").is_file()
        assert f"{part}.safetensors" in manifest["files"]
    assert (run_dir / "checkpoints" / "16" / "agent.safetensors").is_file()
    assert not (run_dir / "checkpoints" / "16" / "replay.safetensors").exists()  # only the newest is whole


def test_the_last_line_names_the_next_command(tmp_path, capsys):
    assert cli(*TINY, f"run_dir={tmp_path / 'run'}") == 0
    said = capsys.readouterr().out
    assert said.endswith(f"finished at step 48; next:\n  python scripts/evaluate_agent.py {tmp_path / 'run'}\n")


def test_the_default_run_directory_says_what_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli(*TINY, "seed=7") == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("InvertedPendulum-ddpg-s7-")


# -- refusals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["agent=aec"], ["unknown agent 'aec'", "'ace'"]),
        (["env=Humanoit"], ["unknown task 'Humanoit'", "'Humanoid'"]),
        (["preset=debgu"], ["unknown preset 'debgu'", "'debug'"]),
        (["agent.discont=0.9"], ["unknown key 'agent.discont'", "'agent.discount'"]),
        (["replay.capasity=10"], ["unknown key 'replay.capasity'", "'replay.capacity'"]),
        (["env.reset_noise_scal=1"], ["no option 'reset_noise_scal'", "'reset_noise_scale'"]),
        (["steps=0"], ["steps=0", "use 1 or more"]),
        (["steps=inf"], ["steps=inf", "use a whole number"]),
        (["agent.discount=1.5"], ["agent.discount=1.5", "[0, 1]"]),
        (["steps=many"], ["steps=many", "a whole number"]),
        (["replay.prioritized=3"], ["replay.prioritized=3", "true or false"]),
        (["steps"], ["'steps' is not key=value"]),
        (["--steps=4"], ["'--steps=4'", "write steps=4"]),
        (["env=Pendulum-v1"], ["unknown task 'Pendulum-v1'", "env=gymnasium env.id=Pendulum-v1"]),
        (["env=gymnasium:Pendulum-v1"], ["env=gymnasium env.id=Pendulum-v1"]),
        (["env.render_mode=human"], ["env.render_mode=human: use rgb_array"]),
        (["agent.target_entropy=-3"], ["deterministic actors have no temperature"]),
        (["-m", "agent=ddpg,sher"], ["env=FetchPush"]),
        (["agent=td3", "preset=paper"], ["preset=paper is not made for agent=td3", "ace, ddpg"]),
        (["replay.capacity=1e12"], ["replay.capacity=1000000000000 needs", "bytes", "use replay.capacity="]),
        (["device=gpu"], ["device=gpu", "auto, cpu or cuda"]),
        (["resume=/nowhere/at/all"], ["no run or checkpoint directory '/nowhere/at/all'"]),
        (["run_dir=/dev/null/x"], ["/dev/null/x", "Not a directory", "choose another run_dir="]),
        (["seed=0,1"], ["add -m"]),
        (["-m", "seed=0,1", "steps=0,5"], ["steps=0", "use 1 or more"]),
        (["-m", "seed=0,1", "resume=x"], ["resume= continues one run"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_mistakes_end_in_status_2_and_one_line(capsys, arguments, parts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    error = refused(capsys, *TINY, *arguments)
    for part in parts:
        assert part in error
    assert not (tmp_path / "runs").exists()  # nothing was begun


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resume"], "resume: name the run, such as resume runs/NAME"),
        (["resume", "agent=td3"], "resume: name the run"),
        (["runs/there"], "'runs/there' is not key=value; to go on with that run: resume runs/there"),
        (["--version"], "'--version' is not key=value; for example: "),
    ],
)
def test_words_alone_begin_nothing(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/there").mkdir(parents=True)
    (tmp_path / "runs/there/config.yaml").write_text("")
    assert run_script(train_agent.main, arguments) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert message in captured.err
    assert len(list((tmp_path / "runs").iterdir())) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
@pytest.mark.parametrize("key", ["device", "replay.device"])
def test_cuda_where_there_is_none_is_one_line(capsys, key, tmp_path):
    error = refused(capsys, *TINY, f"{key}=cuda", f"run_dir={tmp_path / 'run'}")
    assert f"{key}=cuda" in error


def test_a_run_directory_under_a_file_is_refused(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    error = refused(capsys, *TINY, f"run_dir={tmp_path}/file/run")
    assert "choose another run_dir=" in error


def test_a_used_run_directory_is_refused_and_left_alone(capsys, run_dir):
    before = (run_dir / "metrics.jsonl").read_bytes()
    error = refused(capsys, *TINY, f"run_dir={run_dir}")
    assert f"resume={run_dir}" in error
    assert (run_dir / "metrics.jsonl").read_bytes() == before


def test_a_run_directory_in_use_is_refused(capsys, copied):
    with RunLock(copied):
        # The lock belongs to an open file, not to a process: a second one in this process is refused, too.
        error = refused(capsys, f"resume={copied}", "steps=64")
        assert f"process {os.getpid()}" in error
        fresh = copied.parent / "fresh"
        with RunLock(fresh):
            assert "is in use by" in refused(capsys, *TINY, f"run_dir={fresh}")


def test_a_run_too_short_to_learn_says_so(tmp_path, capsys):
    assert cli(*TINY, "steps=8", "learning_starts=100", f"run_dir={tmp_path / 'short'}") == 0
    assert "steps=8 end before learning starts; lower learning_starts=100" in " ".join(capsys.readouterr().out.split())
    assert cli(*TINY, "steps=8", "num_envs=40", f"run_dir={tmp_path / 'wide'}") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "num_envs=40: one step of all of them is more than steps=8" in said
    assert "use more than steps=40" in said
    debug = ["preset=debug", "steps=200", "learning_starts=0"]
    assert cli("agent=sher", "env=FetchReach", *debug, f"run_dir={tmp_path / 'goals'}") == 0
    said = "no update was made: the agent is as it was drawn; use more than steps=200, or less than warmup_episodes=4"
    assert said in " ".join(capsys.readouterr().out.split())


# -- resume ---------------------------------------------------------------------------------------------------


def test_resume_goes_on_to_more_steps(copied, capsys):
    assert cli(f"resume={copied}", "steps=64") == 0
    assert "finished at step 64" in capsys.readouterr().out
    assert yaml.safe_load((copied / "config.yaml").read_text())["steps"] == 64
    steps = [json.loads(line)["step"] for line in (copied / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(steps)
    assert steps[-1] == 64


def test_resuming_a_finished_run_changes_nothing(copied, capsys):
    before = (copied / "checkpoints" / "48" / "agent.safetensors").read_bytes()
    assert cli(f"resume={copied}") == 0
    assert "finished at step 48" in capsys.readouterr().out
    assert (copied / "checkpoints" / "48" / "agent.safetensors").read_bytes() == before


@pytest.mark.parametrize("file", ["agent.safetensors", "replay.safetensors", "manifest.json"])
def test_a_damaged_checkpoint_is_refused_and_nothing_is_changed(capsys, copied, file):
    path = copied / "checkpoints" / "48" / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    before = {found: found.read_bytes() for found in copied.rglob("*") if found.is_file() and found.name != ".lock"}
    error = refused(capsys, f"resume={copied}", "steps=64")
    assert str(path.parent) in error
    assert before == {
        found: found.read_bytes() for found in copied.rglob("*") if found.is_file() and found.name != ".lock"
    }


def test_a_run_without_a_checkpoint_is_refused(capsys, tmp_path):
    assert "no checkpoint in" in refused(capsys, f"resume={tmp_path}")


def test_a_checkpoint_without_its_config_is_refused(capsys, copied):
    (copied / "config.yaml").unlink()
    assert "config.yaml does not exist" in refused(capsys, f"resume={copied}")


@pytest.mark.parametrize(
    "argument",
    [
        "agent=ace",
        "stepz=3",
        "agent.actor.hidden_sizes=[3,3]",
        "num_envs=2",
        "steps.foo=3",
        "replay.capacity=8",
        "steps=1",
        "agent.actor_learning_rate=1e-5",  # it is finished: nothing would be learned with that
    ],
)
def test_resume_refuses_what_does_not_fit(capsys, copied, argument):
    before = (copied / "config.yaml").read_bytes()
    refused(capsys, f"resume={copied}", argument)
    assert (copied / "config.yaml").read_bytes() == before


def test_what_does_not_fit_is_named_with_what_the_run_has(capsys, copied):
    error = refused(capsys, f"resume={copied}", "steps=96", "num_envs=2", "agent.actor.hidden_sizes=[3,3]")
    had = yaml.safe_load((copied / "config.yaml").read_text())
    sizes = had["agent"]["actor"]["hidden_sizes"]
    assert f"num_envs=2 (it was {had['num_envs']})" in error
    assert f"agent.actor.hidden_sizes=[3, 3] (it was {sizes})" in error
    assert "leave that out, or start a new run" in error


def test_a_run_killed_before_its_first_checkpoint_is_never_overwritten(capsys, tmp_path):
    """What a kill at the very start leaves: a config and a log, nothing to resume from."""
    folder = tmp_path / "run"
    assert cli(*TINY, f"run_dir={folder}") == 0
    shutil.rmtree(folder / "checkpoints")
    # Neither way may overwrite anything; both must say what to do.
    assert "no checkpoint in" in refused(capsys, f"resume={folder}")
    assert "without any checkpoint; delete it" in refused(capsys, *TINY, f"run_dir={folder}")


# -- sweeps ---------------------------------------------------------------------------------------------------


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    """A working directory of its own: Hydra writes its log there and changes sys.argv."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train_agent.py"])
    return tmp_path


def test_a_sweep_makes_a_run_for_each_value(in_folder):
    assert cli("-m", *TINY, "steps=8", "seed=0,1", "run_dir=sweep") == 0
    configs = [yaml.safe_load(path.read_text()) for path in (in_folder / "sweep").glob("*/config.yaml")]
    assert sorted(config["seed"] for config in configs) == [0, 1]
    assert {config["steps"] for config in configs} == {8}
    assert len(list((in_folder / "sweep").glob("*/checkpoints/8/agent.safetensors"))) == 2


def test_members_of_a_sweep_run_side_by_side_and_a_bad_one_costs_no_other(in_folder, capsys):
    (in_folder / "sweep" / "000-InvertedPendulum-ddpg-s0").mkdir(parents=True)
    (in_folder / "sweep" / "000-InvertedPendulum-ddpg-s0" / "config.yaml").write_text("")
    assert cli("-m", *TINY, "seed=0,1,2", "run_dir=sweep", "jobs=3") == 2
    found = capsys.readouterr()
    assert "s0: run_dir=sweep/000-InvertedPendulum-ddpg-s0 holds a run without any checkpoint" in found.err
    said = found.out.splitlines()
    assert said[0] == "a sweep over seed=0,1,2, sweep"
    assert [line.partition(",")[0] for line in said[1:4]] == ["1 of 3", "2 of 3", "3 of 3"]
    assert "0m00s left: 00" in said[3]
    assert said[4].split() == ["task", "agent", "seeds", "return", "95", "%", "interval"]
    assert said[5].split()[:3] == ["InvertedPendulum", "ddpg", "2"]
    assert "finished at step 48" in (in_folder / "sweep" / "001-InvertedPendulum-ddpg-s1.log").read_text()


def test_how_many_at_a_time_is_a_whole_number(capsys):
    for jobs in ("0", "1.5", "many"):
        assert f"jobs={jobs}: use a whole number" in refused(capsys, "-m", *TINY, "seed=0,1", f"jobs={jobs}")


def test_a_key_that_one_agent_lacks_makes_no_run_of_that_agent():
    combinations = [
        [f"agent={agent}", f"agent.policy_delay={delay}", "steps=8"] for agent in ("ddpg", "ppo") for delay in (1, 2)
    ]
    assert train_sweep.scoped(combinations) == [
        ["agent=ddpg", "agent.policy_delay=1", "steps=8"],
        ["agent=ddpg", "agent.policy_delay=2", "steps=8"],
        ["agent=ppo", "steps=8"],
    ]
    wrong = [["agent=ppo", "agent.nonsense=1"]]  # a key that nobody has is refused later, and not left out
    assert train_sweep.scoped(wrong) == wrong


def test_a_sweep_under_a_file_is_refused_in_one_line(in_folder, capsys):
    (in_folder / "file").write_text("")
    error = refused(capsys, "-m", *TINY, "steps=8", "seed=0,1", "run_dir=file")
    assert "run_dir" in error
