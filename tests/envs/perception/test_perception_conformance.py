"""What every perceiver keeps to, the suite's and the tests' toys: fields, states, bits, files."""

import pytest
import torch
from toy_perceivers import TOYS

from envs.evaluation.catalogue import EVALUATIONS
from envs.perception.catalogue import PERCEPTIONS
from envs.perception.fields import FIELDS
from envs.perception.weights import build_perceiver, choose_perceivers, digest, save_perceiver
from rlsuite.config.schema import TrainConfig
from rlsuite.methods import from_plain, short_names, to_plain

NAMES = [*PERCEPTIONS, *TOYS]
SIZES = [(16, 16), (17, 31)]


@pytest.fixture(autouse=True)
def _catalogue(monkeypatch):
    for name, target in TOYS.items():
        monkeypatch.setitem(PERCEPTIONS, name, target)


def fresh(name):
    """Return a method and its perceiver, its weights as they are drawn where it has none."""
    (method,) = choose_perceivers([name])
    torch.manual_seed(0)
    return method, method.build().eval()


def frames(perceiver, batch, size, steps=4, every=2):
    generator = torch.Generator().manual_seed(1)
    last = {}
    for step in range(steps):
        if step % every == 0:
            last = {}
            for name in perceiver.inputs:
                field = FIELDS[name]
                share = torch.rand(batch, field.channels, *size, generator=generator)
                last[name] = (field.low + (field.high - field.low) * share).to(field.dtype)
        yield {**last, "phase": torch.full((batch,), (step % every) / every)}


@torch.no_grad()
def run(perceiver, batch, size, rows=slice(None)):
    state, found = perceiver.init_state(batch, size), []
    state = {name: value[rows] for name, value in state.items()}
    for seen in frames(perceiver, batch, size):
        made, state = perceiver({name: value[rows] for name, value in seen.items()}, state)
        found.append((made, state))
    return found


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_fields_and_states_keep_their_shapes(name, size):
    _, perceiver = fresh(name)
    for batch in (1, 3):
        begun = perceiver.init_state(batch, size)
        for made, state in run(perceiver, batch, size):
            assert set(made) == set(perceiver.outputs)
            for field, value in made.items():
                FIELDS[field].check(value, batch, size)
                assert value.isfinite().all()
            assert {key: (value.shape, value.dtype) for key, value in state.items()} == {
                key: (value.shape, value.dtype) for key, value in begun.items()
            }


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_perceived_apart_without_random_numbers_and_arguments_stay(name):
    _, perceiver = fresh(name)
    together = run(perceiver, 3, (16, 16))
    torch.manual_seed(7)
    again = run(perceiver, 3, (16, 16))
    alone = run(perceiver, 3, (16, 16), rows=slice(2, 3))
    for (made, _), (same, _), (one, _) in zip(together, again, alone, strict=True):
        for field, value in made.items():
            assert torch.equal(value, same[field])
            assert torch.allclose(value[2:3].double(), one[field].double(), atol=1e-4)
    state = perceiver.init_state(2, (16, 16))
    before = {key: value.clone() for key, value in state.items()}
    with torch.no_grad():
        perceiver(next(frames(perceiver, 2, (16, 16))), state)
    assert all(torch.equal(state[key], value) for key, value in before.items())


@pytest.mark.parametrize("name", NAMES)
def test_names_numbers_and_files_come_back(name, tmp_path):
    method, perceiver = fresh(name)
    assert from_plain(PERCEPTIONS, to_plain([method])) == (method,)
    if next(perceiver.network.parameters(), None) is None:
        return
    path = tmp_path / "weights.safetensors"
    save_perceiver(path, perceiver, method)
    (read,) = choose_perceivers([name], {f"{method.short_name}.weights": str(path)})
    assert torch.equal(digest(build_perceiver(read)), digest(perceiver))
    assert path.stat().st_size < 64 << 20


def test_short_names_are_unique_over_both_catalogues_and_no_group_of_a_run():
    shorts = short_names(PERCEPTIONS, EVALUATIONS)
    assert not set(shorts) & set(TrainConfig.__dataclass_fields__)
