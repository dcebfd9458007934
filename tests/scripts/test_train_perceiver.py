"""train_perceiver.py: a file that perception= takes, killed and resumed to the same bytes, and what is refused."""

import json

import numpy as np
import pytest
from PIL import Image

from envs.perception.weights import build_perceiver, choose_perceivers
from rlsuite.errors import UserError
from scripts.train_perceiver import main

SMALL = ("perception=interpolation/rife", "rife.network.widths=[8,8,8]", "rife.network.context=2", "batch_size=2")


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(3):
        coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        coarse.resize((256, 200)).save(folder / f"{number}.png")
    return folder


class StoppedError(Exception):
    pass


def test_a_training_goes_on_to_the_same_bytes(tmp_path, pictures, capsys, monkeypatch):
    def train(name, run):
        common = [*SMALL, f"data={pictures}", "steps=4", "device=cpu", "num_threads=1"]
        assert main([*common, f"output={tmp_path / name}", f"run_dir={tmp_path / run}"]) == 0
        return (tmp_path / name).read_bytes()

    monkeypatch.setattr("scripts.train_perceiver.CHECK_EVERY", 1)
    monkeypatch.setattr("scripts.train_perceiver.SAVE_EVERY", 1)
    whole = train("whole.safetensors", "a")
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["steps"] == 4
    assert said["bytes"] == len(whole)
    assert said["loss"] > 0
    from envs.perception.interpolation.rife import RIFE

    losses, calls = RIFE.losses, []

    def stopping(self, batch):
        calls.append(0)
        if len(calls) == 3:
            raise StoppedError
        return losses(self, batch)

    monkeypatch.setattr(RIFE, "losses", stopping)
    with pytest.raises(StoppedError):
        train("again.safetensors", "b")
    monkeypatch.setattr(RIFE, "losses", losses)
    assert train("again.safetensors", "b") == whole
    (method,) = choose_perceivers(["rife"], {"rife.weights": str(tmp_path / "whole.safetensors")})
    assert method.config.network.widths == (8, 8, 8)
    build_perceiver(method)
    with pytest.raises(UserError, match="overwrite=true"):
        train("whole.safetensors", "a")
    with pytest.raises(UserError, match="another fit"):
        main([*SMALL, f"data={pictures}", "steps=5", f"output={tmp_path / 'c'}", f"run_dir={tmp_path / 'a'}"])


def test_an_inpainter_learns_from_moving_pictures(tmp_path, pictures, capsys):
    path = tmp_path / "tsam.safetensors"
    small = ["perception=inpainting/tsam", "tsam.network.width=8", "tsam.network.depth=3", "tsam.window=3"]
    assert main([*small, f"data={pictures}", "steps=2", "batch_size=2", f"output={path}", "num_threads=1"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {"loss", "difference", "hole"} <= set(said)
    (method,) = choose_perceivers(["tsam"], {"tsam.weights": str(path), "tsam.flow": "completed"})
    assert (method.config.window, method.config.flow) == (3, "completed")
    build_perceiver(method)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ([], "perception= is missing"),
        (["perception=interpolation/rife"], "output= is missing"),
        (["perception=interpolation/rive", "output=x"], "did you mean"),
        (["perception=interpolation/dis", "output=x"], "learns nothing"),
        ([*SMALL, "output=x", "data=missing"], "no such folder"),
        ([*SMALL, "output=x", "data=."], "no picture"),
        ([*SMALL, "output=x", "env=Reacher", "data=y"], "leave one of them out"),
        ([*SMALL, "output=x", "size=16"], "use 64 to 4096"),
        ([*SMALL, "output=x", "rife.speed=2"], "speed"),
        ([*SMALL, "output=x", "steps=0"], "use 1 or more"),
    ],
)
def test_what_is_refused(tmp_path, monkeypatch, arguments, match):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=match):
        main(arguments)
    assert list(tmp_path.iterdir()) == []
