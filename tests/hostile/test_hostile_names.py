"""Names that the grammars of shells and of key=value have other uses for, and folders that several want at one time."""

import shlex
import shutil
import threading
from pathlib import Path

import gymnasium
import pytest
from PIL import Image

from rlsuite.cli import positional, run_script, typed
from rlsuite.config.compose import compose_train, merge, plain_values, read_config
from rlsuite.errors import UserError
from rlsuite.records.files import claimed
from scripts import evaluate_agent, paint_image, train_agent

TINY = ["agent=ddpg", "preset=debug", "num_threads=1", "steps=16", "learning_starts=16", "evaluate.every=0"]
EVALUATE = ["episodes=1", "num_threads=1"]
NAMES = ["a:b", "a,b", "a=b", "runs/a=b", "runs/a:b,c=d", "-x", "[x]", "{x}", "(x", "it's", '"x"', "a b", "$x", "${x}"]
NAMES += ["x\\", "x\\'y", "~x", "null", "12", "1e3", "true", "a*b", "#x", "a;b", "!x", "a&b", "checkpoints"]
NAMES += ["checkpoints/1", "checkpoints/checkpoints"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_command(text):
    """Run the command to evaluate that was printed last, as a shell would; return its status."""
    arguments = shlex.split(text.rpartition("python scripts/evaluate_agent.py ")[2])
    return run_script(evaluate_agent.main, [*arguments, *EVALUATE])


@pytest.mark.parametrize("name", NAMES)
def test_a_typed_path_is_read_as_it_is(name, folder):
    Path(name).mkdir(parents=True)
    (word,) = shlex.split(typed(name))
    for key in ("run", "runs", "resume", "output"):
        for argument in (f"{key}={word}", *positional([word], key)):
            read = plain_values([argument])[key]
            assert Path(*read if isinstance(read, list) else [read]) == Path(name)


@pytest.mark.parametrize("name", ["-a:b,c=d", "checkpoints", "checkpoints/1", "[x]'${y}"])
def test_runs_of_any_name_are_trained_and_the_next_command_works(name, folder, capsys):
    (word,) = shlex.split(typed(name))
    line = [*TINY, "env=InvertedPendulum", f"run_dir={word}"]
    assert run_script(train_agent.main, line) == 0
    assert (folder / name / "config.yaml").exists()
    assert run_command(capsys.readouterr().out) == 0
    assert run_script(train_agent.main, ["resume", word, "steps=24"]) == 0
    assert run_script(train_agent.main, line) == 2
    assert f"continue it with resume={typed(name)}, or" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["[x]", "{x:1}", "[a,b]"])
def test_a_run_dir_that_is_no_path_is_one_line(value, folder, capsys):
    assert run_script(train_agent.main, [*TINY, "env=InvertedPendulum", f"run_dir={value}"]) in (0, 2)
    error = capsys.readouterr().err
    assert error.count("\n") <= 1
    if value.startswith("["):
        assert "use one path" in error
        assert not list(folder.iterdir())


HOPPER = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets" / "hopper.xml"


@pytest.mark.parametrize("name", ["./my.xml", "./a:b,c=d.xml", "models/../it's a model.xml", "~/my model.xml"])
def test_a_relative_model_is_found_from_another_folder(name, folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder / "home"))
    (folder / "home").mkdir()
    (folder / "models").mkdir()
    given = name if name.startswith((".", "~")) else f"./{name}"
    shutil.copy(HOPPER, Path(given).expanduser())
    config, _ = compose_train([*TINY, "env=Hopper", f"env.xml_file={given}"])
    monkeypatch.chdir(folder / "models")
    assert Path(config.env.options["xml_file"]).is_file()


def test_a_run_on_a_relative_model_goes_on_in_another_folder(folder, monkeypatch):
    shutil.copy(HOPPER, folder / "a:b,c=d.xml")
    arguments = [*TINY, "env=Hopper", "env.xml_file=./a:b,c=d.xml", "run_dir=run"]
    assert run_script(train_agent.main, arguments) == 0
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    assert run_script(train_agent.main, ["resume=../run", "steps=24"]) == 0
    assert run_script(evaluate_agent.main, ["../run", *EVALUATE]) == 0


@pytest.mark.parametrize(
    ("arguments", "read"),
    [
        (["env=Hopper", "env.xml_file=hopper.xml"], "hopper.xml"),  # the suite's own, wherever one is
        (["env=Painting", "agent=painter", "env.data=scenes"], "scenes"),
        (["env=Painting", "agent=painter", "env.data=./a,b=c"], "{here}/a,b=c"),
        (["env=Painting", "agent=painter", "data=photos/cats"], "{here}/photos/cats"),
        (["env=Painting", "agent=painter", "env.renderer=neural", "env.renderer_weights=r.st"], "{here}/r.st"),
    ],
)
def test_relative_files_of_tasks_are_kept_whole_and_names_are_kept(arguments, read, folder):
    config, _ = compose_train(arguments)
    assert read.format(here=folder) in config.env.options.values()


def test_several_models_are_a_sweep(folder):
    (folder / "a.xml").touch()
    with pytest.raises(UserError, match="are a sweep; add -m"):
        compose_train(["env=Hopper", "env.xml_file=./a.xml,./b.xml"])


def test_moved_weights_of_a_perceiver_are_kept_whole(folder):
    perceiver = {"name": "interpolation/rife", "config": {"weights": "/old"}}
    found = merge({"perception": [perceiver], "agent": {}}, ["rife.weights=a=b,c.safetensors"])
    assert found["perception"][0]["config"]["weights"] == f"{folder}/a=b,c.safetensors"


def test_a_picture_of_any_name_is_painted(folder):
    name = "-a:b,c=d"
    Image.new("RGB", (32, 24), (9, 99, 199)).save(folder / f"{name}.jpg")
    options = ["strokes=5", "refine=false", "long_side=32", "num_threads=1", "video=none"]
    for argument in (f"./{name}.jpg", f"image={name}.jpg"):
        assert run_script(paint_image.main, [argument, *options]) == 0
    assert {path.name for path in (folder / "painted").iterdir()} == {name, f"{name}-2"}


# -- several at one time ------------------------------------------------------------------------------------


def test_equal_commands_at_one_time_have_folders_of_their_own(folder):
    got, gate = [], threading.Barrier(8)

    def start():
        gate.wait()
        with claimed(Path("runs") / "same") as mine:
            got.append(mine)
            (mine / "config.yaml").touch()
            gate.wait()

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(set(got)) == 8
    assert {path.name for path in got} == {"same", *(f"same-{number}" for number in range(2, 9))}
    assert all((path / "config.yaml").exists() for path in got)


def test_trainings_and_sweeps_of_one_second_start(folder, monkeypatch, capsys):
    monkeypatch.setattr("time.strftime", lambda form: "".join(c for c in form if c.isalpha() or c in "/-"))
    for _ in range(2):
        assert run_script(train_agent.main, [*TINY, "env=InvertedPendulum"]) == 0
        assert run_script(train_agent.main, [*TINY, "-m", "env=InvertedPendulum", "seed=0"]) == 0
    assert [path.name[-2:] for path in sorted((folder / "runs").iterdir())] == ["MS", "-2"]
    assert len(list((folder / "multirun").iterdir())) == 2
    assert read_config(sorted((folder / "runs").iterdir())[1])["steps"] == 16


def test_a_refused_command_leaves_no_folder(folder, capsys):
    assert run_script(train_agent.main, [*TINY, "env=InvertedPendulum", "agent.batch_size=0"]) == 2
    assert run_script(train_agent.main, [*TINY, "env=InvertedPendulum", "-m", "agent.batch_size=0,8"]) == 2
    assert not list(folder.iterdir())
    (folder / "runs").write_text("a file")
    assert run_script(train_agent.main, [*TINY, "env=InvertedPendulum"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: cannot write to run_dir runs/")
    assert "choose another run_dir=" in error
