"""Hostile weights files: refused in one line before their claims are allocated; the shipped ones load as ever."""

import json
import os
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file

import rlsuite.weights_file
from agents.painter.weights import SHIPPED, load_painter
from agents.stroke_recognizer.weights import load_readers
from renderers.neural import NeuralRenderer, load_renderer, save_renderer
from rlsuite.errors import UserError
from rlsuite.weights_file import read_about, read_weights, write_weights

FORMAT = "rlsuite test 1"


def rewritten(change_about=lambda about: None, change_tensors=lambda tensors: None):
    """A shipped painter's file, its description or its tensors edited."""

    def make(path):
        about, tensors = read_about(SHIPPED), load_file(SHIPPED)
        change_about(about)
        change_tensors(tensors)
        save_file(tensors, path, metadata={"about": json.dumps(about)})

    return make


def said(**entries):
    return rewritten(lambda about: about.update(entries))


def first(change):
    def apply(tensors):
        name = next(name for name, tensor in sorted(tensors.items()) if tensor.is_floating_point() and tensor.dim() > 1)
        tensors[name] = change(tensors[name])

    return rewritten(change_tensors=apply)


def header(content, data=b""):
    return lambda path: path.write_bytes(struct.pack("<Q", len(content)) + content + data)


def sparse(path):
    """A file that is a terabyte by its size and nothing on the disk."""
    path.write_bytes(struct.pack("<Q", 2) + b"{}")
    os.truncate(path, 10**12)


CLAIM = json.dumps({"w": {"dtype": "F32", "shape": [2**38], "data_offsets": [0, 2**40]}}).encode()
CASES = {
    "empty": lambda path: path.write_bytes(b""),
    "seven bytes": lambda path: path.write_bytes(b"1234567"),
    "header longer than the file": lambda path: path.write_bytes(struct.pack("<Q", 2**62) + b"{}"),
    "header of gigabytes": lambda path: (path.write_bytes(struct.pack("<Q", 3 << 30)), os.truncate(path, 4 << 30)),
    "sparse": sparse,
    "sizes claimed": header(CLAIM),
    "no JSON": header(b"[[[[" * 999),
    "pickle": lambda path: torch.save({"w": torch.ones(2)}, path),
    "cut off": lambda path: path.write_bytes(SHIPPED.read_bytes()[:-100]),
    "longer": lambda path: path.write_bytes(SHIPPED.read_bytes() + bytes(100)),
    "a folder": lambda path: path.mkdir(),
    "a pipe": lambda path: os.mkfifo(path),
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "no description": lambda path: save_file(load_file(SHIPPED), path),
    "description a list": lambda path: save_file(load_file(SHIPPED), path, metadata={"about": "[1]"}),
    "description deep": lambda path: save_file(load_file(SHIPPED), path, metadata={"about": "[" * 10**5}),
    "description no JSON": lambda path: save_file(load_file(SHIPPED), path, metadata={"about": "{"}),
    "another format": said(format="rlsuite painter 2"),
    "format a list": said(format=["rlsuite painter 1"]),
    "size a word": said(size="32"),
    "size a list": said(size=[32]),
    "size none": said(size=None),
    "size true": said(size=True),
    "size broken": said(size=32.5),
    "size below 0": said(size=-32),
    "size 0": said(size=0),
    "size huge": said(size=2**30),
    "size astronomic": said(size=10**400),
    "width huge": said(width=2**30),
    "width another": said(width=17),
    "strokes huge": said(action_size=13 * 2**26),
    "strokes broken": said(action_size=12),
    "episode endless": said(episode_length=10**18),
    "network unknown": said(network="os.system"),
    "network a list": said(network=["small"]),
    "brush unknown": said(brush="oil"),
    "brush a number": said(brush=1),
    "a tensor fewer": rewritten(change_tensors=lambda tensors: tensors.pop(min(tensors))),
    "a tensor more": rewritten(change_tensors=lambda tensors: tensors.update(extra=torch.ones(1))),
    "a tensor of doubles": first(lambda tensor: tensor.double()),
    "a tensor turned": first(lambda tensor: tensor.flatten()),
    "NaN": first(lambda tensor: torch.full_like(tensor, float("nan"))),
    "infinite": first(lambda tensor: torch.full_like(tensor, float("inf"))),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("load", [load_painter, load_renderer, load_readers], ids=["painter", "renderer", "readers"])
def test_refused_in_one_line(name, load, tmp_path):
    path = tmp_path / "weights.safetensors"
    CASES[name](path)
    with pytest.raises(UserError, match="can be read from it") as refusal:
        load(path)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_nothing_is_allocated_for_what_a_file_only_claims(tmp_path, monkeypatch):
    """Networks are built on the meta device until the file's own sizes bear them out."""
    built = []
    kind = torch.nn.Conv2d.__init__

    def spy(self, *arguments, **options):
        kind(self, *arguments, **options)
        built.append(self.weight.device.type)

    monkeypatch.setattr(torch.nn.Conv2d, "__init__", spy)
    CASES["width huge"](tmp_path / "weights")
    with pytest.raises(UserError):
        load_painter(tmp_path / "weights")
    assert set(built) <= {"meta"}


def test_shipped_painters_load_and_act():
    for path in SHIPPED.parent.glob("*.safetensors"):
        painter = load_painter(path)
        stored = load_file(path)
        assert all(torch.equal(painter.actor.state_dict()[name], tensor) for name, tensor in stored.items())
        observation = torch.zeros(2, 6 * painter.size**2 + 1, dtype=torch.uint8)
        assert painter.act(observation).shape == (2, painter.action_size)


def test_a_renderer_comes_back_as_it_was_written(tmp_path):
    renderer = NeuralRenderer(32, generator=torch.Generator().manual_seed(0))
    save_renderer(renderer, tmp_path / "new" / "renderer.safetensors", {"mse": 0.5})
    loaded = load_renderer(tmp_path / "new" / "renderer.safetensors")
    assert all(torch.equal(one, other) for one, other in zip(renderer.parameters(), loaded.parameters(), strict=True))
    assert read_about(tmp_path / "new" / "renderer.safetensors")["mse"] == 0.5
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["renderer.safetensors"]


def test_writing_replaces_a_link_and_does_not_follow_it(tmp_path):
    (tmp_path / "outside").write_text("mine")
    (tmp_path / "weights").symlink_to(tmp_path / "outside")
    write_weights(tmp_path / "weights", {"w": torch.ones(2)}, {"size": 2}, format=FORMAT)
    assert (tmp_path / "outside").read_text() == "mine"
    about, tensors = read_weights(
        tmp_path / "weights",
        format=FORMAT,
        fields={"size": int},
        expected=lambda about: {"w": torch.ones(about["size"])},
        refusal=str,
    )
    assert about == {"size": 2, "format": FORMAT}
    assert tensors["w"].tolist() == [1.0, 1.0]


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    write_weights(tmp_path / "weights", {"w": torch.ones(2)}, {}, format=FORMAT)
    before = (tmp_path / "weights").read_bytes()

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rlsuite.weights_file.os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device") as refusal:
        write_weights(tmp_path / "weights", {"w": torch.zeros(2)}, {}, format=FORMAT)
    assert "\n" not in str(refusal.value)
    assert (tmp_path / "weights").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["weights"]
