"""Perceivers in files: numbers and tensors come back, and whatever is wrong with a file is one line."""

import pytest
import torch
from toy_perceivers import TOYS

from envs.perception import weights
from envs.perception.catalogue import PERCEPTIONS
from envs.perception.weights import build_perceiver, choose_perceivers, digest, save_perceiver
from rlsuite.errors import UserError


@pytest.fixture(autouse=True)
def _catalogue(monkeypatch):
    for name, target in TOYS.items():
        monkeypatch.setitem(PERCEPTIONS, name, target)


@pytest.fixture
def saved(tmp_path):
    (method,) = choose_perceivers(["gain"], {"gain.channels": 1, "gain.power": 2.0})
    perceiver = method.build()
    perceiver.network["gain"].data.fill_(0.5)
    path = tmp_path / "gain.safetensors"
    save_perceiver(path, perceiver, method)
    return path


def test_numbers_that_are_not_typed_are_the_files(saved):
    (method,) = choose_perceivers(["toy/gain"], {"gain.weights": str(saved), "gain.power": 3.0})
    assert (method.config.channels, method.config.power, method.config.weights) == (1, 3.0, str(saved))
    built = build_perceiver(method)
    assert built.network["gain"].tolist() == [0.5]
    assert not built.training
    assert not built.network["gain"].requires_grad


def test_a_digest_knows_tensors_and_numbers_but_no_path(saved, tmp_path):
    def of(path, **numbers):
        given = {"gain.weights": str(path)} | {f"gain.{name}": value for name, value in numbers.items()}
        return digest(build_perceiver(choose_perceivers(["gain"], given)[0]))

    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(saved.read_bytes())
    assert torch.equal(of(saved), of(copy))
    assert not torch.equal(of(saved), of(saved, power=3.0))
    (method,) = choose_perceivers(["gain"], {"gain.weights": str(saved)})
    other = build_perceiver(method)
    before = digest(other)
    other.network["gain"].data += 1e-7
    assert not torch.equal(digest(other), before)


def refusal(numbers, name="gain"):
    with pytest.raises(UserError) as caught:
        build_perceiver(choose_perceivers([name], numbers)[0])
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_bad_files_are_refused_in_one_line(saved, tmp_path, monkeypatch):
    assert "gain.weights= is missing" in refusal({})
    assert "No such file" in refusal({"gain.weights": str(tmp_path / "none")})
    cut = tmp_path / "cut"
    cut.write_bytes(saved.read_bytes()[:-2])
    assert f"gain.weights={cut}" in refusal({"gain.weights": str(cut)})
    text = tmp_path / "text"
    text.write_text("these are no weights, but a text")
    assert "no safetensors file" in refusal({"gain.weights": str(text)})
    assert "'gain' is F32 of shape (1,), not torch.float32 of (3,)" in refusal(
        {"gain.weights": str(saved), "gain.channels": 3}
    )
    monkeypatch.setitem(PERCEPTIONS, "toy/other", PERCEPTIONS["toy/gain"])
    assert "it is of toy/gain" in refusal({"other.weights": str(saved)}, "other")
    monkeypatch.delitem(PERCEPTIONS, "toy/gain")
    assert "unknown method 'toy/gain'" in refusal({"other.weights": str(saved)}, "other")
    monkeypatch.setattr(weights, "FORMAT", "another 1")
    assert "other weights" in refusal({"other.weights": str(saved)}, "other")


def test_unknown_numbers_are_refused(saved):
    with pytest.raises(UserError, match=r"unknown key 'gain\.powers'"):
        choose_perceivers(["gain"], {"gain.weights": str(saved), "gain.powers": 1})
